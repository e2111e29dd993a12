//! Time as a dependency: the pure rooms are given a time, the others ask a [`Clock`], tests turn a [`ManualClock`].

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// Where a room that needs the time gets it from.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time of this machine.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = from_millis(to_millis(*now).saturating_add(millis(by)));
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: Timestamp) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch, the form in which every database here keeps a time.
pub fn to_millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The time of `ms` since the Unix epoch; what lies outside the calendar is pulled to its edge.
pub fn from_millis(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// A duration in whole milliseconds, saturating.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How long after `earlier` `later` is; zero when the clock went backwards.
pub fn elapsed(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to_millis(later).saturating_sub(to_millis(earlier))).unwrap_or(0))
}
