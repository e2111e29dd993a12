//! What the executor tells the metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::Effect;
use crate::execution::ports::{Observer, Stage};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{ExecutorStep, PutBack};

/// How the executor does, in the metrics.
pub struct Executed(Arc<Metrics>);

impl Executed {
    /// Told to `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl Observer for Executed {
    fn on_stage(&self, stage: Stage, took: Duration) {
        self.0.executor_step.of(step(stage)).observe(took.as_secs_f64());
    }

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

fn step(stage: Stage) -> ExecutorStep {
    match stage {
        Stage::Fence => ExecutorStep::Fence,
        Stage::Window => ExecutorStep::Window,
        Stage::Keys => ExecutorStep::Keys,
        Stage::Idle => ExecutorStep::Idle,
        Stage::Focus => ExecutorStep::Focus,
        Stage::Type => ExecutorStep::Type,
        Stage::ReadBack => ExecutorStep::ReadBack,
        Stage::Submit => ExecutorStep::Submit,
        Stage::Verify => ExecutorStep::Verify,
        Stage::GiveBack => ExecutorStep::GiveBack,
        Stage::Align => ExecutorStep::Align,
        Stage::Reconcile => ExecutorStep::Reconcile,
        Stage::Undo => ExecutorStep::Undo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_executor_did_is_counted() {
        let metrics = Arc::new(Metrics::new());
        let executed = Executed::new(metrics.clone());
        executed.on_submit_gap(Duration::from_millis(4));
        executed.on_end(Effect::Confirmed, true);
        executed.on_end(Effect::Refused, false);
        executed.on_abandon(true);
        executed.on_stage(Stage::ReadBack, Duration::from_millis(300));
        let text = metrics.render().unwrap();
        for line in [
            "autoreply_submit_gap_seconds_bucket{le=\"0.005\"} 1\n",
            "autoreply_submit_gap_seconds_bucket{le=\"0.0025\"} 0\n",
            "autoreply_executor_refusals_total{effect=\"refused\"} 1\n",
            "autoreply_executor_refusals_total{effect=\"confirmed\"} 0\n",
            "autoreply_executor_put_back_total{cause=\"fault\"} 1\n",
            "autoreply_executor_put_back_total{cause=\"busy\"} 0\n",
            "autoreply_executor_step_seconds_sum{step=\"read_back\"} 0.3\n",
            "autoreply_executor_step_seconds_count{step=\"type\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
