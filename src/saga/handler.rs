//! The worker: joins the ports. It records what comes in, works on each turn as a task of its own, applies outcomes,
//! and carries a person's word.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::group::Groups;
use super::notices::not_owner;
use super::publications::Publications;
use super::state::Phase;
use super::told;
use super::{
    Applied, Decided, Decision, Generator, Kept, LeaseRequest, LeaseToken, Ledger, LedgerError, Limits, Memory,
    OpenSaga, PendingCommand, Receipt, Rejected, Settings, Taken, Terms,
};
use crate::clock::Clock;
use crate::contract::{
    Command, ConversationId, DraftVersion, MessagesDetected, Notice, OutcomeRecorded, ReplyOutcome, TurnId,
    TurnRecorded,
};
use crate::failpoint;

/// A command was not published; it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a command was not published: {0}")]
pub struct CommandsError(pub String);

/// Where commands to desktops go.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// Returns once the command is safe on its way. `traceparent` says where its turn stands in its trace.
    async fn publish(&self, command: &Command, traceparent: Option<&str>) -> Result<(), CommandsError>;

    /// As [`Commands::publish`], for what is no command.
    async fn notify(&self, notice: &Notice) -> Result<(), CommandsError>;
}

/// What the worker works with.
#[derive(Clone)]
pub struct Ports {
    /// The authority.
    pub ledger: Arc<dyn Ledger>,
    /// Writes replies.
    pub generator: Arc<dyn Generator>,
    /// Rates.
    pub limits: Arc<dyn Limits>,
    /// Earlier exchanges.
    pub memory: Arc<dyn Memory>,
    /// Where commands go.
    pub commands: Arc<dyn Commands>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A record of a batch that the ledger will never take: it belongs to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    /// Why.
    pub why: Rejected,
}

struct Running {
    lease: LeaseToken,
    cancel: CancellationToken,
}

pub(super) struct Inner {
    pub(super) ports: Ports,
    pub(super) settings: Settings,
    pub(super) name: String,
    pub(super) groups: Groups,
    publications: Publications,
    running: Mutex<HashMap<TurnId, Running>>,
    permits: Semaphore,
    /// One list of turns that desks ask after is answered at a time.
    pub(super) asked: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The worker. Cheap to clone; the clones are one worker.
#[derive(Clone)]
pub struct Worker {
    pub(super) inner: Arc<Inner>,
}

impl Worker {
    /// A worker by this name (unique among the workers of a ledger, for the story).
    pub fn new(name: impl Into<String>, ports: Ports, settings: Settings) -> Self {
        let permits = Semaphore::new(usize::try_from(settings.permits).unwrap_or(Semaphore::MAX_PERMITS));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let inner = Inner {
            groups: Groups::new(ports.ledger.clone(), tasks.clone()),
            publications: Publications::new(ports.ledger.clone(), tasks.clone(), stop.clone()),
            ports,
            settings,
            name: name.into(),
            running: Mutex::default(),
            permits,
            asked: Semaphore::new(1),
            tasks,
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Records a batch; once this returns, the caller commits its offsets. Work and acknowledgements go on by
    /// themselves. Waits while every permit is taken, so that polling slows down with the work.
    ///
    /// # Errors
    /// When the ledger did not record it: nothing is committed, and the same batch comes again.
    pub async fn on_messages(&self, batch: Vec<MessagesDetected>) -> Result<Vec<Refused>, LedgerError> {
        let inner = &self.inner;
        // Closed permits mean that this worker is stopping; what is recorded then is left to another.
        drop(inner.permits.acquire().await);
        let finish_within = Duration::from_millis(inner.settings.finish_within_ms);
        let account_hold = inner.settings.account_hold();
        let terms = Terms { lease: inner.lease(), finish_within, account_hold, reserve_quota: true };
        let receipts = inner.ports.ledger.record_turns(&batch, &terms).await?;
        failpoint::reach("worker.recorded");
        let (mut refused, mut acknowledgements, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        let (mut notices, mut closed) = (Vec::new(), Vec::new());
        for (index, (detected, receipt)) in batch.into_iter().zip(receipts).enumerate() {
            let receipt = match receipt {
                Ok(receipt) => receipt,
                Err(why) => {
                    tracing::error!(turn = %detected.turn, %why, "a turn was refused by the ledger");
                    refused.push(Refused { index, why });
                    continue;
                }
            };
            acknowledgements.push(Command::TurnRecorded(TurnRecorded {
                turn: detected.turn,
                revision: detected.revision,
                desktop: detected.desktop.clone(),
            }));
            match receipt {
                Receipt::New(mine) | Receipt::Newer(mine) => {
                    told::recorded(&detected);
                    taken.push((detected, mine));
                }
                Receipt::NotOwner(owner) => {
                    told::not_owner(&detected, &owner);
                    inner.cancel(detected.turn);
                    notices.push(not_owner(&detected, &owner));
                }
                Receipt::Known => told::known(&detected),
                Receipt::Closed => {
                    told::known(&detected);
                    closed.push(detected);
                }
            }
        }
        self.acknowledge(acknowledgements);
        self.notify(notices);
        self.tell_closed(closed);
        for (detected, Taken { lease, quota, owner_token }) in taken {
            let phase = if quota == Kept::Reserved { Phase::QuotaReserved } else { Phase::Recorded };
            let saga = OpenSaga { detected, phase, lease, draft: None, takeovers: 0, owner_token };
            self.start(saga, quota);
        }
        Ok(refused)
    }

    /// Applies outcomes; once this returns, the caller commits its offsets.
    ///
    /// # Errors
    /// When the ledger did not apply them: nothing is committed, and the same batch comes again.
    pub async fn on_outcomes(&self, batch: Vec<ReplyOutcome>) -> Result<Vec<Refused>, LedgerError> {
        let applied = self.inner.ports.ledger.apply_outcomes(&batch).await?;
        let (mut refused, mut acknowledgements, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (outcome, applied)) in batch.into_iter().zip(applied).enumerate() {
            if let Ok(applied) = &applied {
                told::applied(&outcome, applied);
            }
            match applied {
                Ok(Applied::Ended { exchange, .. }) => {
                    self.inner.cancel(outcome.turn);
                    exchanges.extend(exchange.map(|exchange| (outcome.turn, outcome.conversation, exchange)));
                }
                Ok(Applied::Kept | Applied::Repeated | Applied::Orphan) => {}
                Err(why) => {
                    tracing::error!(turn = %outcome.turn, %why, "an outcome was refused by the ledger");
                    refused.push(Refused { index, why });
                    continue;
                }
            }
            acknowledgements.push(Command::OutcomeRecorded(OutcomeRecorded {
                turn: outcome.turn,
                revision: outcome.revision,
                desktop: outcome.desktop,
            }));
        }
        self.acknowledge(acknowledgements);
        // Together: one after the other, a way to Redis and back for each would be what limits a worker.
        join_all(exchanges.into_iter().map(|(turn, conversation, exchange)| async move {
            if let Err(error) = self.inner.ports.memory.remember(conversation, exchange).await {
                tracing::warn!(%turn, %error, "a confirmed reply was not remembered");
            }
        }))
        .await;
        Ok(refused)
    }

    /// A person approves this version of the draft; its command is published at once.
    ///
    /// # Errors
    /// When the ledger could not be asked: nothing has changed, or asking again says what did.
    pub async fn approve(&self, turn: TurnId, version: DraftVersion, by: &str) -> Result<Decided, LedgerError> {
        let decided = self.decide(turn, version, by, true).await?;
        if let Decided::Issued(pending) = &decided {
            self.inner.publish(pending).await;
        }
        Ok(decided)
    }

    /// A person rejects this version of the draft.
    ///
    /// # Errors
    /// When the ledger could not be asked.
    pub async fn reject(&self, turn: TurnId, version: DraftVersion, by: &str) -> Result<Decided, LedgerError> {
        let decided = self.decide(turn, version, by, false).await?;
        if decided == Decided::Rejected {
            self.tell_rejected(turn, by).await;
        }
        Ok(decided)
    }

    async fn decide(
        &self,
        turn: TurnId,
        version: DraftVersion,
        by: &str,
        approve: bool,
    ) -> Result<Decided, LedgerError> {
        let answer_within = self.inner.settings.answer_within();
        let decision = Decision { turn, version, by: by.to_owned(), approve, answer_within };
        let decided = self.inner.ports.ledger.decide(&decision).await?;
        told::decided(&decision, &decided);
        Ok(decided)
    }

    /// Forgets a peer, in the ledger and in the memory.
    ///
    /// # Errors
    /// When the ledger could not be asked.
    pub async fn forget(&self, peer: &str) -> Result<Vec<ConversationId>, LedgerError> {
        let conversations = self.inner.ports.ledger.forget(peer).await?;
        for conversation in &conversations {
            if let Err(error) = self.inner.ports.memory.forget(*conversation).await {
                tracing::warn!(%conversation, %error, "the session memory was not forgotten; it ends by itself");
            }
        }
        Ok(conversations)
    }

    /// Turns in the hands of this worker now.
    pub fn in_flight(&self) -> usize {
        self.inner.running().len()
    }

    /// Takes no more work, gives what is under way `grace` to finish, and gives the leases of the rest back, so that
    /// another worker need not wait for them.
    pub async fn drain(&self, grace: Duration) {
        self.inner.tasks.close();
        let finished = tokio::time::timeout(grace, self.inner.tasks.wait());
        if self.with_leases(finished).await.is_ok() {
            return;
        }
        let left = self.inner.leases();
        self.inner.stop.cancel();
        self.inner.permits.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.inner.ports.ledger.renew(&left, Duration::ZERO).await {
            tracing::warn!(%error, "the leases were not given back; they end by themselves");
        }
    }

    /// Works on a saga as a task; a task of an older lease of the same turn is cancelled. A quota that was not asked
    /// for yet is reserved first.
    pub(super) fn start(&self, saga: OpenSaga, quota: Kept) {
        let (turn, revision, lease) = (saga.detected.turn, saga.detected.revision, saga.lease);
        let cancel = self.inner.stop.child_token();
        let before = self.inner.running().insert(turn, Running { lease, cancel: cancel.clone() });
        if let Some(before) = before {
            before.cancel.cancel();
        }
        let inner = Arc::clone(&self.inner);
        let work = async move {
            let answer = AssertUnwindSafe(inner.answer_with_permit(saga, quota)).catch_unwind();
            let panicked = tokio::select! {
                biased;
                () = cancel.cancelled() => false,
                end = answer => end.is_err(),
            };
            if panicked {
                tracing::error!(%turn, %revision, "working on a turn panicked; another try follows when its lease ends");
            }
            inner.finished(turn, lease);
        };
        self.inner.tasks.spawn(work);
    }

    fn acknowledge(&self, commands: Vec<Command>) {
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(async move {
            let told = join_all(commands.iter().map(|command| inner.ports.commands.publish(command, None))).await;
            for (command, result) in commands.iter().zip(told) {
                if let Err(error) = result {
                    let turn = command.turn();
                    tracing::warn!(%turn, %error, "an acknowledgement was not published; the desktop asks again");
                }
            }
        });
    }
}

impl Inner {
    /// Works on something until the worker stops for good.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(work));
    }

    pub(super) fn lease(&self) -> LeaseRequest {
        LeaseRequest { worker: self.name.clone(), hold: Duration::from_millis(self.settings.lease_ms) }
    }

    /// The leases of everything that this worker has in hand.
    pub(super) fn leases(&self) -> Vec<(TurnId, LeaseToken)> {
        self.running().iter().map(|(turn, running)| (*turn, running.lease)).collect()
    }

    /// Stops working on a turn.
    pub(super) fn cancel(&self, turn: TurnId) {
        if let Some(running) = self.running().get(&turn) {
            running.cancel.cancel();
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<TurnId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self, turn: TurnId, lease: LeaseToken) {
        let mut running = self.running();
        if running.get(&turn).is_some_and(|current| current.lease == lease) {
            running.remove(&turn);
        }
    }

    async fn answer_with_permit(self: &Arc<Self>, saga: OpenSaga, quota: Kept) {
        let Ok(_permit) = self.permits.acquire().await else { return };
        self.answer(saga, quota).await;
    }

    /// Publishes a command of the outbox; the ledger hears of it soon. What fails is published by recovery.
    pub(super) async fn publish(&self, pending: &PendingCommand) {
        if let Err(error) = self.ports.commands.publish(&pending.command, pending.traceparent.as_deref()).await {
            let (turn, revision) = (pending.command.turn(), pending.command.revision());
            tracing::warn!(%turn, %revision, %error, "a command stays in the outbox; recovery publishes it");
            return;
        }
        self.publications.note(pending.entry);
    }
}
