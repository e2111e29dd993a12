//! What the provider chain tells the metrics.

use std::sync::Arc;

use crate::generation::observer::{Ended, ErrorKind, Event, Fallback, Observer};
use crate::generation::validation::Rejection;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{FallbackReason, Guard, ProviderErrorKind, RejectionReason, TokenDirection};

/// Counts what happens with the providers.
pub struct Providers(Arc<Metrics>);

impl Providers {
    /// An observer that counts; the metrics of the providers `names` are there from now on.
    pub fn new<'a>(metrics: Arc<Metrics>, names: impl IntoIterator<Item = &'a str>) -> Self {
        metrics.introduce_providers(names);
        Self(metrics)
    }
}

impl Observer for Providers {
    fn observe(&self, provider: &str, event: Event) {
        let metrics = &self.0;
        match event {
            Event::Began => metrics.provider_calls.of(provider).inc(),
            Event::Ended { took, how } => {
                metrics.provider_calls.of(provider).dec();
                metrics.provider_seconds.of(provider).observe(took.as_secs_f64());
                if let Ended::Failed(kind) = how {
                    metrics.provider_errors.of(provider, error_kind(kind)).inc();
                }
            }
            Event::Used { usage, cost } => {
                metrics.provider_tokens.of(provider, TokenDirection::Input).inc_by(usage.input_tokens as f64);
                metrics.provider_tokens.of(provider, TokenDirection::Output).inc_by(usage.output_tokens as f64);
                metrics.provider_cost.of(provider).inc_by(cost);
            }
            Event::Breaker(open) => metrics.provider_breaker.of(provider).set(f64::from(u8::from(open))),
            Event::FellBack(why) => metrics.provider_fallbacks.of(provider, fallback_reason(why)).inc(),
            Event::Rejected(why) => {
                metrics.provider_rejections.of(provider, rejection_reason(why)).inc();
                metrics.guards.of(Guard::Validation).inc();
            }
        }
    }
}

fn error_kind(kind: ErrorKind) -> ProviderErrorKind {
    match kind {
        ErrorKind::Declined => ProviderErrorKind::Declined,
        ErrorKind::Permanent => ProviderErrorKind::Permanent,
        ErrorKind::Transient => ProviderErrorKind::Transient,
        ErrorKind::RateLimited => ProviderErrorKind::RateLimited,
        ErrorKind::Timeout => ProviderErrorKind::Timeout,
        ErrorKind::Malformed => ProviderErrorKind::Malformed,
        ErrorKind::Unknown => ProviderErrorKind::Unknown,
    }
}

fn fallback_reason(why: Fallback) -> FallbackReason {
    match why {
        Fallback::Resting => FallbackReason::Resting,
        Fallback::Full => FallbackReason::Full,
        Fallback::NoTime => FallbackReason::NoTime,
        Fallback::Declined => FallbackReason::Declined,
        Fallback::Failed => FallbackReason::Failed,
        Fallback::Rejected => FallbackReason::Rejected,
    }
}

fn rejection_reason(why: Rejection) -> RejectionReason {
    match why {
        Rejection::Empty => RejectionReason::Empty,
        Rejection::TooLong => RejectionReason::TooLong,
        Rejection::Control => RejectionReason::Control,
        Rejection::Command => RejectionReason::Command,
        Rejection::Secret => RejectionReason::Secret,
        Rejection::ForeignLink => RejectionReason::ForeignLink,
        Rejection::LeakedInstructions => RejectionReason::LeakedInstructions,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::generation::provider::model::Usage;

    #[test]
    fn what_happens_with_a_provider_is_counted_under_its_name() {
        let metrics = Arc::new(Metrics::new());
        let providers = Providers::new(metrics.clone(), ["one", "two"]);
        let usage = Usage { input_tokens: 70, output_tokens: 3 };
        for event in [
            Event::Began,
            Event::Began,
            Event::Ended { took: Duration::from_millis(300), how: Ended::Failed(ErrorKind::Timeout) },
            Event::Used { usage, cost: 0.25 },
            Event::Breaker(true),
            Event::FellBack(Fallback::Resting),
            Event::Rejected(Rejection::ForeignLink),
        ] {
            providers.observe("one", event);
        }
        let text = metrics.render().unwrap();
        for line in [
            "autoreply_provider_calls_open{provider=\"one\"} 1",
            "autoreply_provider_seconds_count{provider=\"one\"} 1",
            "autoreply_provider_errors_total{kind=\"timeout\",provider=\"one\"} 1",
            "autoreply_provider_tokens_total{direction=\"input\",provider=\"one\"} 70",
            "autoreply_provider_tokens_total{direction=\"output\",provider=\"one\"} 3",
            "autoreply_provider_cost_total{provider=\"one\"} 0.25",
            "autoreply_provider_breaker_open{provider=\"one\"} 1",
            "autoreply_guards_total{guard=\"validation\"} 1",
            "autoreply_provider_fallbacks_total{provider=\"one\",reason=\"resting\"} 1",
            "autoreply_provider_rejections_total{provider=\"one\",reason=\"foreign_link\"} 1",
            "autoreply_provider_breaker_open{provider=\"two\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        providers.observe("one", Event::Breaker(false));
        assert!(metrics.render().unwrap().contains("autoreply_provider_breaker_open{provider=\"one\"} 0"));
    }
}
