//! What the rooms tell the metrics.

use crate::contract::Effect;
use crate::telemetry::metrics::Outcome;

#[cfg(feature = "worker")]
mod providers;

#[cfg(feature = "desktop")]
pub use desk::Executed;
#[cfg(feature = "worker")]
pub use providers::Providers;
#[cfg(feature = "worker")]
pub use work::{SharedStore, Timed, lag, ledger_counts};

/// The label of an effect: telemetry knows no word of the contract, so that no id of it can become a label.
pub fn outcome(effect: Effect) -> Outcome {
    match effect {
        Effect::Confirmed => Outcome::Confirmed,
        Effect::Unverifiable => Outcome::Unverifiable,
        Effect::Refused => Outcome::Refused,
        Effect::Failed => Outcome::Failed,
        Effect::Expired => Outcome::Expired,
        Effect::Superseded => Outcome::Superseded,
        Effect::HumanReplied => Outcome::HumanReplied,
        Effect::Off => Outcome::Off,
        Effect::Capped => Outcome::Capped,
        Effect::TooOld => Outcome::TooOld,
        Effect::Rejected => Outcome::Rejected,
        Effect::NotOwner => Outcome::NotOwner,
        Effect::NeedsAttention => Outcome::NeedsAttention,
    }
}

#[cfg(feature = "desktop")]
mod desk {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::contract::Effect;
    use crate::execution::ports::Observer;
    use crate::telemetry::Metrics;
    use crate::telemetry::metrics::PutBack;

    /// How the executor does, in the metrics.
    pub struct Executed(Arc<Metrics>);

    impl Executed {
        /// Told to `metrics`.
        pub fn new(metrics: Arc<Metrics>) -> Self {
            Self(metrics)
        }
    }

    impl Observer for Executed {
        fn on_submit_gap(&self, gap: Duration) {
            self.0.submit_gap.observe(gap.as_secs_f64());
        }

        fn on_end(&self, effect: Effect, entered: bool) {
            if !entered {
                self.0.executor_refusals.of(super::outcome(effect)).inc();
            }
        }

        fn on_abandon(&self, fault: bool) {
            self.0.executor_put_back.of(if fault { PutBack::Fault } else { PutBack::Busy }).inc();
        }
    }
}

#[cfg(feature = "worker")]
mod work {
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use crate::contract::wire::topic;
    use crate::limits;
    use crate::saga::state::{Phase, State};
    use crate::saga::{Counts, Draft, DraftRequest, GenerationError, Generator};
    use crate::stream::Lag;
    use crate::telemetry::Metrics;
    use crate::telemetry::metrics::{ConsumedTopic, SagaState};

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

    /// Puts what a survey of the consumer found into the gauges: records together, seconds of the partition that waits
    /// longest.
    pub fn lag(metrics: &Metrics, lag: &Lag, now: jiff::Timestamp) {
        for (name, label) in [(topic::MESSAGES, ConsumedTopic::Messages), (topic::OUTCOMES, ConsumedTopic::Outcomes)] {
            let partitions = || lag.partitions.iter().filter(|partition| partition.topic == name);
            metrics.lag_records.of(label).set(partitions().map(|partition| partition.records as f64).sum());
            metrics.lag_seconds.of(label).set(partitions().map(|partition| partition.seconds(now)).fold(0.0, f64::max));
        }
        let more = lag.rebalances as f64 - metrics.rebalances.get();
        metrics.rebalances.inc_by(more.max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Label as _;

    #[test]
    fn an_effect_has_the_same_name_everywhere() {
        assert_eq!(Outcome::ALL.len(), Effect::ALL.len());
        for effect in Effect::ALL {
            assert_eq!(outcome(effect).value(), effect.as_str());
        }
    }

    #[cfg(feature = "desktop")]
    #[test]
    fn what_the_executor_did_is_counted() {
        use std::sync::Arc;
        use std::time::Duration;

        use crate::execution::ports::Observer as _;

        let metrics = Arc::new(crate::telemetry::Metrics::new());
        let executed = Executed::new(metrics.clone());
        executed.on_submit_gap(Duration::from_millis(4));
        executed.on_end(Effect::Confirmed, true);
        executed.on_end(Effect::Refused, false);
        executed.on_abandon(true);
        let text = metrics.render().unwrap();
        for line in [
            "autoreply_submit_gap_seconds_bucket{le=\"0.005\"} 1\n",
            "autoreply_submit_gap_seconds_bucket{le=\"0.0025\"} 0\n",
            "autoreply_executor_refusals_total{effect=\"refused\"} 1\n",
            "autoreply_executor_refusals_total{effect=\"confirmed\"} 0\n",
            "autoreply_executor_put_back_total{cause=\"fault\"} 1\n",
            "autoreply_executor_put_back_total{cause=\"busy\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
