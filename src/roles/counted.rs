//! A ledger that tells the metrics how it is written, how large the groups are and how long they take, and what came of
//! the replies in them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::observed::outcome;
use super::traced::{self, About, Written};
use crate::clock::{Clock, elapsed};
use crate::contract::{
    ConversationId, DesktopGreeted, DesktopHello, Effect, MessagesDetected, ReplyOutcome, Timings, TurnId,
};
use crate::policy::turn::ASK_AGAIN;
use crate::saga::state::End;
use crate::saga::{
    Applied, Change, Counts, Decided, Decision, Desk, Desks, Detail, Each, EntryId, Filter, Kept, LeaseRequest,
    LeaseToken, Ledger, LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Retention, Standing,
    StoryLine, Summary, Terms, Transition, Transitioned, WorkerSeen, WorkerWord, Workers,
};
use crate::telemetry::metrics::{CompensationStep, Connection, Guard, LedgerWrite, Place};
use crate::telemetry::{Metrics, Traces};

/// A ledger whose groups are counted and timed.
pub struct Counted {
    inner: Arc<dyn Ledger>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    traces: Traces,
    system: &'static str,
}

impl Counted {
    /// Watches the groups of `inner`; `clock` says how old a turn is when its outcome is written down.
    pub fn new(inner: Arc<dyn Ledger>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, metrics, clock, traces: Traces::default(), system: "" }
    }

    /// The same, with a span for each turn of a group; `system` is what the ledger stands on.
    #[must_use]
    pub fn traced(self, traces: Traces, system: &'static str) -> Self {
        Self { traces, system, ..self }
    }

    async fn group<T>(&self, operation: LedgerWrite, size: usize, write: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let written = write.await;
        self.metrics.ledger_write.of(operation).observe(began.elapsed().as_secs_f64());
        self.metrics.ledger_group.of(operation).observe(size as f64);
        written
    }

    /// A turn has ended, and the ledger said so to this worker alone: the state is changed under a lock, and whoever
    /// comes later hears that it had ended already. So the workers' counts can be added up, and a turn is due once, by
    /// the worker whose write ended it in time, or by the one that ended it as overdue. Not counted are the few ends that
    /// nobody is told of: by `forget`, by an outcome that came before its turn, and by a commit whose answer was lost.
    /// They are missing in both figures, and so do not change the share that was kept.
    fn ended(&self, effect: Effect, end: End) {
        self.metrics.replies.of(outcome(effect)).inc();
        if end != End::Corrected {
            self.metrics.turns_due.inc();
        }
        if end == End::InTime {
            self.metrics.turns_kept.inc();
        }
    }

    fn recorded(&self, turn: &MessagesDetected, receipt: &Receipt) {
        match receipt {
            Receipt::New(taken) | Receipt::Newer(taken) if taken.quota == Kept::Exhausted => {
                self.metrics.guards.of(Guard::Quota).inc();
            }
            Receipt::New(_) | Receipt::Newer(_) => {}
            Receipt::NotOwner(_) => {
                self.metrics.guards.of(Guard::Owner).inc();
                self.ended(Effect::NotOwner, End::InTime);
            }
            // A desk that asks after an old turn says nothing new by intention.
            Receipt::Known | Receipt::Closed if elapsed(turn.detected_at, self.clock.now()) >= ASK_AGAIN => {}
            Receipt::Known | Receipt::Closed => self.metrics.duplicates.of(Place::Worker).inc(),
        }
    }

    fn changed(&self, wanted: &Transition, done: &Transitioned) {
        let (state, end) = match done {
            Transitioned::Done { state, end, .. } => (state, end),
            Transitioned::QuotaExhausted => return self.metrics.guards.of(Guard::Quota).inc(),
            Transitioned::Lost => return,
        };
        for change in &wanted.changes {
            if let Some(step) = compensation(change) {
                self.metrics.compensations.of(step).inc();
            }
            if matches!(change, Change::Abandon { effect: Effect::Off, .. }) {
                self.metrics.guards.of(Guard::Mode).inc();
            }
        }
        if let (Some(effect), Some(end)) = (state.effect(), end) {
            self.ended(effect, *end);
        }
    }

    fn applied(&self, told: &ReplyOutcome, applied: &Applied) {
        match applied {
            Applied::Ended { end, .. } => {
                self.ended(told.effect, *end);
                if let Some(took) = told.timings.detected_at.map(|at| seconds(at, self.clock.now())) {
                    self.metrics.reply.of(outcome(told.effect)).observe(took);
                }
                if let Some(took) = after_quiet(&told.timings).filter(|_| told.effect == Effect::Confirmed) {
                    self.metrics.reply_after_quiet.observe(took);
                }
            }
            Applied::Repeated => self.metrics.duplicates.of(Place::Worker).inc(),
            Applied::Kept | Applied::Orphan => {}
        }
    }
}

/// Calls `tell` with each item and what it came to, where the group was written and the item taken.
fn each<I, T>(items: &[I], written: &Each<T>, tell: impl Fn(&I, &T)) {
    let Ok(written) = written else { return };
    for (item, answer) in items.iter().zip(written) {
        if let Ok(answer) = answer {
            tell(item, answer);
        }
    }
}

/// The step of undoing that this change is. What ends as off was to be recorded and nothing more.
fn compensation(change: &Change) -> Option<CompensationStep> {
    match change {
        Change::Abandon { effect: Effect::Off, .. } => None,
        Change::Abandon { .. } => Some(CompensationStep::Abandon),
        Change::Withdraw { .. } => Some(CompensationStep::Withdraw),
        Change::HandOver { .. } => Some(CompensationStep::HandOver),
        Change::ReserveQuota | Change::StoreDraft(_) | Change::RequestApproval { .. } | Change::Issue { .. } => None,
    }
}

/// Seconds from one time to the other; 0 where clocks that differ have it the other way round.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Seconds from the end of the quiet time to the own line. Desks of release 0.1.0 do not tell the quiet time's end; for
/// theirs it begins with the last message.
fn after_quiet(timings: &Timings) -> Option<f64> {
    Some(seconds(timings.quiet_at.or(timings.detected_at)?, timings.shown_at?))
}

#[async_trait]
impl Desks for Counted {
    async fn greet(&self, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted> {
        self.inner.greet(hellos, hold).await
    }
    async fn desks(&self, hold: Duration) -> Result<Vec<Desk>, LedgerError> {
        self.inner.desks(hold).await
    }
}

#[async_trait]
impl Workers for Counted {
    async fn say(&self, word: &WorkerWord) -> Result<(), LedgerError> {
        self.inner.say(word).await
    }
    async fn leave(&self, instance: Uuid) -> Result<(), LedgerError> {
        self.inner.leave(instance).await
    }
    async fn workers(&self) -> Result<Vec<WorkerSeen>, LedgerError> {
        self.inner.workers().await
    }
    async fn standing(&self) -> Result<Standing, LedgerError> {
        self.inner.standing().await
    }
}

#[async_trait]
impl Ledger for Counted {
    async fn record_turns(&self, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt> {
        let began = Instant::now();
        let receipts = self.group(LedgerWrite::Record, turns.len(), self.inner.record_turns(turns, terms)).await;
        each(turns, &receipts, |turn, receipt| self.recorded(turn, receipt));
        let recorded = turns.iter().map(|turn| Written {
            about: turn.into(),
            traceparent: turn.traceparent.as_deref(),
            events: vec!["recorded"],
        });
        traced::written(&self.traces, self.system, "ledger record", began.elapsed(), recorded);
        receipts
    }
    async fn transition(&self, transitions: &[Transition]) -> Each<Transitioned> {
        let began = Instant::now();
        let done = self.group(LedgerWrite::Transition, transitions.len(), self.inner.transition(transitions)).await;
        each(transitions, &done, |wanted, done| self.changed(wanted, done));
        let changed = transitions.iter().map(|wanted| Written {
            about: About { turn: wanted.turn, revision: wanted.revision, conversation: None },
            traceparent: wanted.traceparent.as_deref(),
            events: wanted.changes.iter().map(|change| change.event().as_str()).collect(),
        });
        traced::written(&self.traces, self.system, "ledger transition", began.elapsed(), changed);
        done
    }
    async fn apply_outcomes(&self, outcomes: &[ReplyOutcome]) -> Each<Applied> {
        let applied = self.group(LedgerWrite::Outcome, outcomes.len(), self.inner.apply_outcomes(outcomes)).await;
        each(outcomes, &applied, |told, applied| self.applied(told, applied));
        applied
    }
    async fn mark_published(&self, entries: &[EntryId]) -> Result<(), LedgerError> {
        self.group(LedgerWrite::Publish, entries.len(), self.inner.mark_published(entries)).await
    }
    async fn decide(&self, decision: &Decision) -> Result<Decided, LedgerError> {
        let decided = self.inner.decide(decision).await;
        if matches!(decided, Ok(Decided::Rejected)) {
            self.ended(Effect::Rejected, End::InTime);
        }
        decided
    }
    async fn renew(&self, leases: &[(TurnId, LeaseToken)], hold: Duration) -> Result<Vec<bool>, LedgerError> {
        self.inner.renew(leases, hold).await
    }
    async fn take_over(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError> {
        self.inner.take_over(lease, limit).await
    }
    async fn take_overdue(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError> {
        self.inner.take_overdue(lease, limit).await
    }
    async fn take_commands(&self, hold: Duration, limit: u32) -> Result<Vec<PendingCommand>, LedgerError> {
        self.inner.take_commands(hold, limit).await
    }
    async fn show(&self, turn: TurnId) -> Result<Option<Detail>, LedgerError> {
        self.inner.show(turn).await
    }
    async fn story(&self, turn: TurnId) -> Result<Vec<StoryLine>, LedgerError> {
        self.inner.story(turn).await
    }
    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LedgerError> {
        self.inner.list(filter).await
    }
    async fn prune(&self, retention: Retention) -> Result<Pruned, LedgerError> {
        self.inner.prune(retention).await
    }
    async fn forget(&self, peer: &str) -> Result<Vec<ConversationId>, LedgerError> {
        self.inner.forget(peer).await
    }
    async fn counts(&self) -> Result<Counts, LedgerError> {
        self.inner.counts().await
    }
    fn pool(&self) -> PoolUse {
        self.inner.pool()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Puts the ledger's connections into the gauges.
pub fn ledger_pool(metrics: &Metrics, pool: PoolUse) {
    metrics.ledger_connections.of(Connection::InUse).set(f64::from(pool.in_use));
    metrics.ledger_connections.of(Connection::Idle).set(f64::from(pool.idle));
}

#[cfg(test)]
#[path = "counted_tests.rs"]
mod tests;
