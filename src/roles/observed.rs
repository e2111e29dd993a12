//! What the rooms tell the metrics.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::limits;
use crate::saga::state::{Phase, State};
use crate::saga::{Counts, Draft, DraftRequest, GenerationError, Generator};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::SagaState;

/// A generator whose time is taken.
pub struct Timed<G> {
    inner: G,
    metrics: Arc<Metrics>,
}

impl<G> Timed<G> {
    /// Takes the time of `inner`.
    pub fn new(inner: G, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl<G: Generator> Generator for Timed<G> {
    async fn draft(&self, request: &DraftRequest, deadline: Instant) -> Result<Draft, GenerationError> {
        let began = Instant::now();
        let drafted = self.inner.draft(request, deadline).await;
        self.metrics.generation.observe(began.elapsed().as_secs_f64());
        drafted
    }
}

/// How Redis does, in the metrics.
pub struct SharedStore(Arc<Metrics>);

impl SharedStore {
    /// Told to `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl limits::Observer for SharedStore {
    fn shared(&self, is_there: bool) {
        self.0.limits_local.set(if is_there { 0.0 } else { 1.0 });
    }

    fn fell_back(&self) {
        self.0.limits_fallbacks.inc();
    }
}

/// Puts what the ledger holds into the gauges.
pub fn ledger_counts(metrics: &Metrics, counts: &Counts) {
    let open = [
        (Phase::Recorded, SagaState::Recorded),
        (Phase::QuotaReserved, SagaState::QuotaReserved),
        (Phase::Drafted, SagaState::Drafted),
        (Phase::AwaitingApproval, SagaState::AwaitingApproval),
        (Phase::Issued, SagaState::Issued),
        (Phase::Withdrawing, SagaState::Withdrawing),
    ];
    for (phase, label) in open {
        let held =
            counts.by_state.iter().find(|(state, _)| *state == State::Open(phase)).map_or(0, |(_, count)| *count);
        metrics.sagas_open.of(label).set(held as f64);
    }
}
