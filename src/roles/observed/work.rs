//! What the worker's rooms tell the metrics: drafts, limits, the ledger's figures, the consumer's lag.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::contract::ConversationId;
use crate::contract::wire::topic;
use crate::limits;
use crate::roles::{counted, desks};
use crate::saga::state::{Phase, State};
use crate::saga::{
    Admission, Counts, Draft, DraftRequest, GenerationError, Generator, Ledger, LedgerError, Limits, LimitsError,
};
use crate::stream::Lag;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{ConsumedTopic, GenerationFailure, Guard, SagaState};

/// A generator whose time is taken, and whose failures are counted.
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
        if let Err(error) = &drafted {
            let kind = match error {
                GenerationError::Exhausted { .. } => GenerationFailure::Exhausted,
                GenerationError::Deadline { .. } => GenerationFailure::Deadline,
            };
            self.metrics.generation_errors.of(kind).inc();
        }
        drafted
    }
}

/// Limits that count when they hold a reply back.
pub struct Guarded {
    inner: Arc<dyn Limits>,
    metrics: Arc<Metrics>,
}

impl Guarded {
    /// Counts what `inner` holds back.
    pub fn new(inner: Arc<dyn Limits>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl Limits for Guarded {
    async fn admit(&self, conversation: ConversationId) -> Result<Admission, LimitsError> {
        let admission = self.inner.admit(conversation).await;
        match &admission {
            Ok(Admission::Admitted) => {}
            Ok(Admission::After(_)) => self.metrics.guards.of(Guard::Rate).inc(),
            Err(_) => self.metrics.guards.of(Guard::LimitsAway).inc(),
        }
        admission
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

/// The phases in which a reply is open, with their labels.
const OPEN: [(Phase, SagaState); 6] = [
    (Phase::Recorded, SagaState::Recorded),
    (Phase::QuotaReserved, SagaState::QuotaReserved),
    (Phase::Drafted, SagaState::Drafted),
    (Phase::AwaitingApproval, SagaState::AwaitingApproval),
    (Phase::Issued, SagaState::Issued),
    (Phase::Withdrawing, SagaState::Withdrawing),
];

/// Puts what the ledger holds into the gauges, time and again.
pub struct LedgerFigures {
    ledger: Arc<dyn Ledger>,
    /// How long a desk answers for an account after a hello.
    hold: Duration,
    daily_quota: u64,
    metrics: Arc<Metrics>,
    answered: Instant,
}

impl LedgerFigures {
    /// Figures of this ledger, which allows so many replies a day.
    pub fn new(ledger: Arc<dyn Ledger>, hold: Duration, daily_quota: u64, metrics: Arc<Metrics>) -> Self {
        Self { ledger, hold, daily_quota, metrics, answered: Instant::now() }
    }

    /// Asks the ledger once. What it does not tell stays as it was, and its silence gets a figure of its own.
    pub async fn tell(&mut self) {
        counted::ledger_pool(&self.metrics, self.ledger.pool());
        match self.ask().await {
            Ok(()) => {
                self.answered = Instant::now();
                self.metrics.ledger_unavailable.set(0.0);
            }
            Err(error) => {
                tracing::debug!(%error, "the ledger's figures are not known now");
                self.metrics.ledger_unavailable.set(self.answered.elapsed().as_secs_f64());
            }
        }
    }

    async fn ask(&self) -> Result<(), LedgerError> {
        ledger_counts(&self.metrics, &self.ledger.counts().await?, self.daily_quota);
        desks::count(&self.metrics, &self.ledger.desks(self.hold).await?);
        Ok(())
    }
}

fn ledger_counts(metrics: &Metrics, counts: &Counts, daily_quota: u64) {
    for (phase, label) in OPEN {
        let held = counts.by_state.iter().find(|(state, _)| *state == State::Open(phase)).map_or(0, |(_, many)| *many);
        let oldest = counts.oldest_in.iter().find(|(oldest, _)| *oldest == phase).map(|(_, age)| age.as_secs_f64());
        metrics.sagas_open.of(label).set(held as f64);
        metrics.sagas_oldest.of(label).set(oldest.unwrap_or(0.0));
    }
    metrics.sagas_overdue.set(counts.overdue as f64);
    metrics.commands_unpublished.set(counts.unpublished as f64);
    // A quota of 0 lets nothing pass, and so does one that is used up.
    let used = if daily_quota == 0 { 1.0 } else { counts.quota_taken as f64 / daily_quota as f64 };
    metrics.quota_used.set(used.min(1.0));
}

/// Puts what a survey of the consumer found into the gauges: records together, seconds of the partition that waits
/// longest.
pub fn lag(metrics: &Metrics, lag: &Lag, now: jiff::Timestamp) {
    let consumed = [
        (topic::MESSAGES, ConsumedTopic::Messages),
        (topic::OUTCOMES, ConsumedTopic::Outcomes),
        (topic::DESKTOPS, ConsumedTopic::Desktops),
    ];
    for (name, label) in consumed {
        let partitions = || lag.partitions.iter().filter(|partition| partition.topic == name);
        metrics.lag_records.of(label).set(partitions().map(|partition| partition.records as f64).sum());
        metrics.lag_seconds.of(label).set(partitions().map(|partition| partition.seconds(now)).fold(0.0, f64::max));
    }
    let more = lag.rebalances as f64 - metrics.rebalances.get();
    metrics.rebalances.inc_by(more.max(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Mode;
    use crate::saga::samples::turn;

    #[test]
    fn the_ledgers_figures_are_told_by_state_and_go_back_to_nothing() {
        let metrics = Metrics::new();
        let counts = Counts {
            by_state: vec![(State::Open(Phase::Issued), 3)],
            oldest_in: vec![(Phase::Issued, Duration::from_millis(2_500))],
            overdue: 2,
            unpublished: 7,
            quota_taken: 25,
            ..Counts::default()
        };
        ledger_counts(&metrics, &counts, 100);
        let issued =
            || (metrics.sagas_open.of(SagaState::Issued).get(), metrics.sagas_oldest.of(SagaState::Issued).get());
        assert_eq!(issued(), (3.0, 2.5));
        assert_eq!((metrics.sagas_overdue.get(), metrics.commands_unpublished.get()), (2.0, 7.0));
        assert_eq!((metrics.quota_used.get(), metrics.sagas_open.of(SagaState::Drafted).get()), (0.25, 0.0));
        ledger_counts(&metrics, &Counts { quota_taken: 300, ..Counts::default() }, 100);
        assert_eq!((issued(), metrics.quota_used.get()), ((0.0, 0.0), 1.0));
        ledger_counts(&metrics, &Counts::default(), 0);
        assert_eq!(metrics.quota_used.get(), 1.0, "no reply is left of none");
    }

    struct Always(Result<Admission, LimitsError>);

    #[async_trait]
    impl Limits for Always {
        async fn admit(&self, _: ConversationId) -> Result<Admission, LimitsError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn limits_are_passed_on_and_counted_when_they_hold_back() {
        let metrics = Arc::new(Metrics::new());
        let answers =
            [Ok(Admission::Admitted), Ok(Admission::After(Duration::ZERO)), Err(LimitsError("away".to_owned()))];
        for answer in answers {
            let guarded = Guarded::new(Arc::new(Always(answer.clone())), metrics.clone());
            assert_eq!(guarded.admit(turn("alice", 1, 1).conversation.id).await, answer);
        }
        let counted = |guard| metrics.guards.of(guard).get();
        assert_eq!((counted(Guard::Rate), counted(Guard::LimitsAway), counted(Guard::Quota)), (1.0, 1.0, 0.0));
    }

    struct Fails(bool);

    #[async_trait]
    impl Generator for Fails {
        async fn draft(&self, _: &DraftRequest, _: Instant) -> Result<Draft, GenerationError> {
            let attempts = Vec::new();
            match self.0 {
                true => Err(GenerationError::Deadline { attempts }),
                false => Ok(Draft { text: "x".to_owned(), provider: "p".to_owned(), ceiling: Mode::Auto }),
            }
        }
    }

    #[tokio::test]
    async fn drafts_that_nobody_gave_are_counted_by_why() {
        let metrics = Arc::new(Metrics::new());
        let detected = turn("alice", 1, 1);
        let request = DraftRequest {
            turn: detected.turn,
            conversation: detected.conversation,
            messages: detected.messages,
            context: Vec::new(),
            memory: Vec::new(),
            traceparent: None,
        };
        for fails in [true, false] {
            let timed = Timed::new(Fails(fails), metrics.clone());
            assert_eq!(timed.draft(&request, Instant::now()).await.is_err(), fails);
        }
        assert_eq!(metrics.generation_errors.of(GenerationFailure::Deadline).get(), 1.0);
        assert_eq!(metrics.generation_errors.of(GenerationFailure::Exhausted).get(), 0.0);
        assert_eq!(metrics.generation.get_sample_count(), 2);
    }
}
