//! A ledger that tells the metrics how it is written: how large the groups are, and how long they take.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use crate::contract::{ConversationId, DesktopGreeted, DesktopHello, MessagesDetected, ReplyOutcome, TurnId};
use crate::saga::{
    Applied, Counts, Decided, Decision, Desk, Desks, Detail, Each, EntryId, Filter, LeaseRequest, LeaseToken, Ledger,
    LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Retention, Standing, StoryLine, Summary, Terms,
    Transition, Transitioned, WorkerSeen, WorkerWord, Workers,
};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Connection, LedgerWrite};

/// A ledger whose groups are counted and timed.
pub struct Counted {
    inner: Arc<dyn Ledger>,
    metrics: Arc<Metrics>,
}

impl Counted {
    /// Watches the groups of `inner`.
    pub fn new(inner: Arc<dyn Ledger>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    async fn group<T>(&self, operation: LedgerWrite, size: usize, write: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let written = write.await;
        self.metrics.ledger_write.of(operation).observe(began.elapsed().as_secs_f64());
        self.metrics.ledger_group.of(operation).observe(size as f64);
        written
    }
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
        self.group(LedgerWrite::Record, turns.len(), self.inner.record_turns(turns, terms)).await
    }
    async fn transition(&self, transitions: &[Transition]) -> Each<Transitioned> {
        self.group(LedgerWrite::Transition, transitions.len(), self.inner.transition(transitions)).await
    }
    async fn apply_outcomes(&self, outcomes: &[ReplyOutcome]) -> Each<Applied> {
        self.group(LedgerWrite::Outcome, outcomes.len(), self.inner.apply_outcomes(outcomes)).await
    }
    async fn mark_published(&self, entries: &[EntryId]) -> Result<(), LedgerError> {
        self.group(LedgerWrite::Publish, entries.len(), self.inner.mark_published(entries)).await
    }
    async fn decide(&self, decision: &Decision) -> Result<Decided, LedgerError> {
        self.inner.decide(decision).await
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
