//! A rate a conversation by GCRA (generic cell rate algorithm, ITU-T I.371), in this process.

use std::num::NonZeroU32;

use async_trait::async_trait;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::Settings;
use crate::contract::ConversationId;
use crate::saga::{Admission, Limits, LimitsError};

/// Above so many conversations those whose rate has recovered are dropped; that forgets nothing that matters.
const SWEEP_ABOVE: usize = 10_000;

type Keyed<C> =
    RateLimiter<ConversationId, DashMapStateStore<ConversationId>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// [`Limits`] that only this process knows.
pub struct InProcessLimits<C: Clock = DefaultClock> {
    limiter: Keyed<C>,
    clock: C,
    sweep_above: std::sync::atomic::AtomicUsize,
}

impl InProcessLimits {
    /// Limits on the machine's own clock.
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings.replies_per_minute, settings.burst, DefaultClock::default())
    }
}

impl<C: Clock + Clone> InProcessLimits<C> {
    /// Limits on `clock`: `per_minute` on average, `burst` at once.
    pub fn with_clock(per_minute: NonZeroU32, burst: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone());
        Self { limiter, clock, sweep_above: SWEEP_ABOVE.into() }
    }
}

impl<C: Clock> InProcessLimits<C> {
    /// Drops what has recovered, at the latest when the number of conversations has doubled since the last time.
    fn sweep(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        if self.limiter.len() > self.sweep_above.load(Relaxed) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.sweep_above.store(SWEEP_ABOVE.max(self.limiter.len() * 2), Relaxed);
        }
    }
}

#[async_trait]
impl<C> Limits for InProcessLimits<C>
where
    C: Clock + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    async fn admit(&self, conversation: ConversationId) -> Result<Admission, LimitsError> {
        self.sweep();
        Ok(match self.limiter.check_key(&conversation) {
            Ok(()) => Admission::Admitted,
            Err(not_yet) => Admission::After(not_yet.wait_time_from(self.clock.now())),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::limits::conformance;

    #[tokio::test]
    async fn it_conforms() {
        let clock = FakeRelativeClock::default();
        let (per_minute, burst) = (NonZeroU32::new(6).unwrap(), NonZeroU32::new(3).unwrap());
        let limits = InProcessLimits::with_clock(per_minute, burst, clock.clone());
        conformance::limits(&limits, 6, 3, |by: Duration| clock.advance(by)).await;
    }

    #[tokio::test]
    async fn conversations_that_have_recovered_are_dropped() {
        let clock = FakeRelativeClock::default();
        let one = NonZeroU32::new(1).unwrap();
        let limits = InProcessLimits::with_clock(one, one, clock.clone());
        for number in 0..=SWEEP_ABOVE {
            limits.admit(ConversationId::derive("n", "a", &number.to_string())).await.unwrap();
        }
        clock.advance(Duration::from_secs(120));
        limits.admit(ConversationId::derive("n", "a", "late")).await.unwrap();
        assert_eq!(limits.limiter.len(), 1);
    }
}
