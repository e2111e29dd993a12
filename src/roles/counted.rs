//! A ledger that tells the metrics how it is written: how large the groups are, and how long they take.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::traced::{self, About, Written};
use crate::contract::{ConversationId, DesktopGreeted, DesktopHello, MessagesDetected, ReplyOutcome, TurnId};
use crate::saga::{
    Applied, Counts, Decided, Decision, Desk, Desks, Detail, Each, EntryId, Filter, LeaseRequest, LeaseToken, Ledger,
    LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Retention, StoryLine, Summary, Terms, Transition,
    Transitioned,
};
use crate::telemetry::metrics::{Connection, LedgerWrite};
use crate::telemetry::{Metrics, Traces};

/// A ledger whose groups are counted and timed.
pub struct Counted {
    inner: Arc<dyn Ledger>,
    metrics: Arc<Metrics>,
    traces: Traces,
    system: &'static str,
}

impl Counted {
    /// Watches the groups of `inner`.
    pub fn new(inner: Arc<dyn Ledger>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics, traces: Traces::default(), system: "" }
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
impl Ledger for Counted {
    async fn record_turns(&self, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt> {
        let began = Instant::now();
        let receipts = self.group(LedgerWrite::Record, turns.len(), self.inner.record_turns(turns, terms)).await;
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
        let changed = transitions.iter().map(|wanted| Written {
            about: About { turn: wanted.turn, revision: wanted.revision, conversation: None },
            traceparent: wanted.traceparent.as_deref(),
            events: wanted.changes.iter().map(|change| change.event().as_str()).collect(),
        });
        traced::written(&self.traces, self.system, "ledger transition", began.elapsed(), changed);
        done
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
