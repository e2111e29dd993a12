//! What keeps every reply moving: leases renewed, abandoned turns taken over, overdue ones compensated, unpublished
//! commands published, old rows removed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Stop;
use super::handler::Worker;
use super::state::Phase;
use super::told;
use super::{Change, Kept, LedgerError, OpenSaga, PendingCommand, Retention};
use crate::contract::{Command, Effect, ReplyWithdraw, TurnId};

/// What a look around did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Turns taken over.
    pub taken_over: usize,
    /// Overdue turns that were compensated.
    pub overdue: usize,
    /// Commands published.
    pub published: usize,
}

impl Worker {
    /// Looks around until `stop`; a ledger that is away is logged and asked again at the next look. A look begins with the
    /// renewal of leases, and they are kept while it lasts: that can be long while Kafka is away.
    pub async fn recover(&self, retention: Retention, stop: CancellationToken) {
        let settings = &self.inner.settings;
        let mut looks = tokio::time::interval(Duration::from_millis(settings.recovery_poll_ms));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prune_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            if let Err(error) = self.with_leases(self.look(&stop)).await {
                tracing::warn!(%error, "recovery waits for the ledger");
                continue;
            }
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + Duration::from_millis(settings.prune_every_ms);
                let pruned = stop.run_until_cancelled(self.with_leases(self.prune(retention))).await;
                if let Some(Err(error)) = pruned {
                    tracing::warn!(%error, "old rows were not removed");
                }
            }
        }
    }

    /// One look around.
    ///
    /// # Errors
    /// When the ledger could not be asked; the next look does what this one did not.
    pub async fn recover_once(&self) -> Result<Recovered, LedgerError> {
        self.look(&CancellationToken::new()).await
    }

    /// A stop breaks the publishing off: what was not published stays in the outbox, and another look finds it there.
    async fn look(&self, stop: &CancellationToken) -> Result<Recovered, LedgerError> {
        let (inner, batch) = (&self.inner, self.inner.settings.recovery_batch);
        let ledger = &inner.ports.ledger;
        self.renew_leases().await?;
        let mut done = Recovered::default();
        for saga in ledger.take_over(&inner.lease(), batch).await? {
            done.taken_over += 1;
            told::taken_over(&saga);
            self.start(saga, Kept::NotAsked);
        }
        let overdue = ledger.take_overdue(&inner.lease(), batch).await?;
        done.overdue = overdue.len();
        let (withdrawals, compensated) = self.compensate_all(&overdue).await;
        stop.run_until_cancelled(self.publish_all(withdrawals)).await;
        compensated?;
        if stop.is_cancelled() {
            return Ok(done);
        }
        let unpublished = ledger.take_commands(Duration::from_millis(inner.settings.lease_ms), batch).await?;
        done.published = unpublished.len();
        stop.run_until_cancelled(self.publish_all(unpublished)).await;
        Ok(done)
    }

    /// Those of one turn one after the other, because their order counts; turns do not wait for each other, so that a
    /// partition without a leader costs a look one time-out and not one for each command.
    async fn publish_all(&self, commands: Vec<PendingCommand>) {
        let mut turns: BTreeMap<TurnId, Vec<PendingCommand>> = BTreeMap::new();
        for pending in commands {
            turns.entry(pending.command.turn()).or_default().push(pending);
        }
        join_all(turns.into_values().map(|mut commands| async move {
            commands.sort_by_key(|pending| pending.entry);
            for pending in commands {
                self.inner.publish(&pending).await;
            }
        }))
        .await;
    }

    /// Does `work`, and keeps what is under way from being taken over while it lasts.
    pub(super) async fn with_leases<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep_leases() => match never {},
        }
    }

    async fn keep_leases(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis(self.inner.settings.recovery_poll_ms)).await;
            if let Err(error) = self.renew_leases().await {
                tracing::warn!(%error, "recovery waits for the ledger");
            }
        }
    }

    async fn renew_leases(&self) -> Result<(), LedgerError> {
        let leases = self.inner.leases();
        if leases.is_empty() {
            return Ok(());
        }
        let hold = Duration::from_millis(self.inner.settings.lease_ms);
        for ((turn, lease), held) in leases.iter().zip(self.inner.ports.ledger.renew(&leases, hold).await?) {
            if !held {
                tracing::debug!(%turn, lease = lease.0, "this lease is over");
            }
        }
        Ok(())
    }

    async fn prune(&self, retention: Retention) -> Result<(), LedgerError> {
        loop {
            let pruned = self.inner.ports.ledger.prune(retention).await?;
            if pruned.rows == 0 && pruned.texts == 0 {
                return Ok(());
            }
            tracing::info!(rows = pruned.rows, texts = pruned.texts, "removed what was over age");
        }
    }

    /// Compensates until the ledger is away; the withdrawals of those that came before are to be published all the same.
    async fn compensate_all(&self, overdue: &[OpenSaga]) -> (Vec<PendingCommand>, Result<(), LedgerError>) {
        let mut withdrawals = Vec::new();
        for saga in overdue {
            match self.compensate(saga).await {
                Ok(withdrawal) => withdrawals.extend(withdrawal),
                Err(error) => return (withdrawals, Err(error)),
            }
        }
        (withdrawals, Ok(()))
    }

    /// Goes the next step of undoing a saga whose deadline has passed; the command that is to be published for it.
    async fn compensate(&self, saga: &OpenSaga) -> Result<Option<PendingCommand>, LedgerError> {
        let inner = &self.inner;
        let turn = saga.detected.turn;
        inner.cancel(turn);
        let end = match saga.phase {
            Phase::Issued => self.withdraw(saga).await,
            Phase::Withdrawing => {
                let reason = "no outcome came, and no answer to the withdrawal".to_owned();
                let change = Change::HandOver { reason: reason.clone() };
                let done = inner.change(saga, vec![change]).await;
                done.map(|_| {
                    told::handed_over(&saga.detected, &reason);
                    inner.tell_ended(&saga.detected, Effect::NeedsAttention, &reason);
                    None
                })
            }
            Phase::AwaitingApproval => inner
                .abandon(saga, Effect::Expired, "nobody approved the draft in time".to_owned())
                .await
                .map(|()| None),
            Phase::Recorded | Phase::QuotaReserved | Phase::Drafted | Phase::Ended => {
                inner.abandon(saga, Effect::Expired, "it was not answered in time".to_owned()).await.map(|()| None)
            }
        };
        match end {
            Ok(command) => Ok(command),
            Err(Stop::Lost) => Ok(None),
            Err(Stop::Ledger(error)) => Err(error),
            Err(Stop::Rejected(why)) => {
                tracing::error!(%turn, %why, "an overdue turn could not be compensated");
                Ok(None)
            }
            Err(Stop::End(effect, _)) => {
                tracing::error!(%turn, %effect, "an overdue turn could not be compensated");
                Ok(None)
            }
        }
    }

    async fn withdraw(&self, saga: &OpenSaga) -> Result<Option<PendingCommand>, Stop> {
        let withdraw = ReplyWithdraw {
            turn: saga.detected.turn,
            revision: saga.detected.revision,
            desktop: saga.detected.desktop.clone(),
            conversation: saga.detected.conversation.id,
            reason: "no outcome came in time".to_owned(),
        };
        let answer_within = Duration::from_millis(self.inner.settings.outcome_grace_ms);
        let change = Change::Withdraw { withdraw: withdraw.clone(), answer_within };
        let entry = self.inner.written(saga, vec![change]).await?;
        told::asked_back(&saga.detected);
        let (command, traceparent) = (Command::Withdraw(withdraw), saga.detected.traceparent.clone());
        Ok(entry.map(|entry| PendingCommand { entry, command, traceparent }))
    }
}
