//! A circuit breaker: a provider that keeps failing is left alone for a while. Pure; the caller passes the time.
//!
//! The pattern is Michael Nygard's ("Release It!", 2007), with two refinements. A result belongs to the epoch in
//! which its call was let through, so a call that hung through an outage cannot change what was learnt since. And
//! while it is half-open there is one probe at a time and one a cool-down, counted from the probe's beginning; a
//! probe that is dropped is handed back and blocks nothing.

use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// How long it stays open before one probe is let through.
    pub cool_down: Duration,
}

/// Leave to make one call; hand it back with the result, or as abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    epoch: u64,
    probe: bool,
}

impl Permit {
    /// Whether the call shall find out if the provider is well again.
    pub fn is_probe(self) -> bool {
        self.probe
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { probe_at: Instant, probing: bool },
}

/// The breaker of one provider.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    state: State,
    epoch: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    /// Leave to call now.
    ///
    /// # Errors
    /// How long to leave the provider alone.
    pub fn ask(&mut self, now: Instant) -> Result<Permit, Duration> {
        if let Some(left) = self.rest(now) {
            return Err(left);
        }
        if self.is_tripped() {
            // The probe's own result must count, that of an earlier call must not.
            self.epoch += 1;
            self.state = State::Open { probe_at: now + self.limits.cool_down, probing: true };
            return Ok(Permit { epoch: self.epoch, probe: true });
        }
        Ok(Permit { epoch: self.epoch, probe: false })
    }

    /// The call ended without a result: whoever asked has left.
    pub fn abandoned(&mut self, permit: Permit) {
        if let State::Open { probing, .. } = &mut self.state
            && permit.epoch == self.epoch
        {
            *probing = false;
        }
    }

    /// The call succeeded: the provider is well.
    pub fn succeeded(&mut self, permit: Permit) {
        if permit.epoch != self.epoch {
            return;
        }
        if matches!(self.state, State::Open { .. }) {
            self.epoch += 1;
        }
        self.state = State::Closed { failures: 0 };
    }

    /// The call failed in a way that says something about the provider.
    pub fn failed(&mut self, permit: Permit, now: Instant) {
        if permit.epoch != self.epoch {
            return;
        }
        match self.state {
            State::Closed { failures } if failures.saturating_add(1) < self.limits.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } | State::Open { .. } => self.open_until(now + self.limits.cool_down),
        }
    }

    /// The provider itself asked to be left alone this long; it is, whatever the count of failures.
    pub fn told_to_wait(&mut self, permit: Permit, now: Instant, wait: Duration) {
        if permit.epoch == self.epoch {
            // A year is as good as for ever, and cannot overflow the clock.
            self.open_until(now + wait.min(Duration::from_secs(365 * 86_400)));
        }
    }

    /// How long calls are kept away, if they are at `now`; nothing is left while a probe takes longer than its cool-down.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { probe_at, probing } if probing || now < probe_at => {
                Some(probe_at.saturating_duration_since(now))
            }
            _ => None,
        }
    }

    /// Whether calls are kept away at `now`.
    pub fn is_open(&self, now: Instant) -> bool {
        self.rest(now).is_some()
    }

    /// Whether it has opened and no call has succeeded since.
    pub fn is_tripped(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn open_until(&mut self, probe_at: Instant) {
        self.epoch += 1;
        self.state = State::Open { probe_at, probing: false };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOL: Duration = Duration::from_secs(30);
    const LIMITS: Limits = Limits { failures: 3, cool_down: COOL };

    fn opened(at: Instant) -> Breaker {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..3 {
            let permit = breaker.ask(at).unwrap();
            breaker.failed(permit, at);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        for fails in [true, true, false, true, true] {
            let permit = breaker.ask(now).unwrap();
            if fails { breaker.failed(permit, now) } else { breaker.succeeded(permit) }
        }
        assert!(!breaker.is_open(now));
        let permit = breaker.ask(now).unwrap();
        breaker.failed(permit, now);
        assert!(breaker.is_open(now));
        assert_eq!(breaker.ask(now + Duration::from_secs(10)), Err(Duration::from_secs(20)));
    }

    #[test]
    fn one_probe_a_cool_down_even_if_the_probe_is_dropped() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + COOL;
        let probe = breaker.ask(later).unwrap();
        assert!(probe.is_probe() && breaker.is_tripped());
        breaker.abandoned(probe);
        assert!(breaker.ask(later).is_err());
        assert!(breaker.ask(later + COOL).is_ok());
    }

    #[test]
    fn one_probe_at_a_time_however_long_it_takes() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let slow = breaker.ask(now + COOL).unwrap();
        assert!(breaker.ask(now + COOL * 5).is_err() && breaker.is_open(now + COOL * 5));
        breaker.failed(slow, now + COOL * 6);
        assert!(breaker.ask(now + COOL * 6).is_err());
        assert!(breaker.ask(now + COOL * 7).is_ok());
    }

    #[test]
    fn a_call_that_was_abandoned_says_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..9 {
            let permit = breaker.ask(now).unwrap();
            assert!(!permit.is_probe());
            breaker.abandoned(permit);
        }
        assert!(!breaker.is_tripped());
    }

    #[test]
    fn a_probe_decides() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let probe = breaker.ask(now + COOL).unwrap();
        breaker.failed(probe, now + COOL);
        assert!(breaker.is_open(now + COOL));
        let probe = breaker.ask(now + COOL * 2).unwrap();
        breaker.succeeded(probe);
        assert!(breaker.ask(now + COOL * 2).is_ok() && !breaker.is_open(now));
    }

    #[test]
    fn a_call_from_before_the_outage_changes_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        let old = breaker.ask(now).unwrap();
        for _ in 0..3 {
            let permit = breaker.ask(now).unwrap();
            breaker.failed(permit, now);
        }
        breaker.succeeded(old);
        assert!(breaker.is_open(now));
        breaker.failed(old, now + COOL / 2);
        assert!(!breaker.is_open(now + COOL), "a late failure must not lengthen the cool-down");
    }

    #[test]
    fn a_wait_the_provider_asks_for_is_kept_at_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        let permit = breaker.ask(now).unwrap();
        breaker.told_to_wait(permit, now, Duration::MAX);
        assert!(breaker.is_open(now + COOL));
    }

    proptest! {
        #[test]
        fn while_it_is_open_at_most_one_call_a_cool_down_passes(steps in prop::collection::vec((0_u64..40, any::<bool>()), 1..200)) {
            let start = Instant::now();
            let (mut breaker, mut now) = (opened(start), start);
            let mut last_probe: Option<Instant> = None;
            for (seconds, drop_it) in steps {
                now += Duration::from_secs(seconds);
                if let Ok(permit) = breaker.ask(now) {
                    prop_assert!(last_probe.is_none_or(|last| now - last >= COOL));
                    last_probe = Some(now);
                    if drop_it { breaker.abandoned(permit) } else { breaker.failed(permit, now) }
                }
            }
        }
    }
}
