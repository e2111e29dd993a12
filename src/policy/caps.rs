//! Caps on automatic replies, so that two automatic sides cannot keep each other talking.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{millis, to_millis};

/// The limits of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Automatic replies in a row without a human.
    pub consecutive: u32,
    /// Automatic replies within any hour.
    pub hourly: u32,
}

/// Which cap was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Too many in a row.
    Consecutive,
    /// Too many within an hour.
    Hourly,
}

impl Reached {
    /// Why, as a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Consecutive => "the cap on automatic replies in a row is reached; a reply by a person resets it",
            Self::Hourly => "the cap on automatic replies within an hour is reached",
        }
    }
}

/// How far back a reply counts for the hourly cap.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// Whether another automatic reply would exceed a cap, given how many were sent in a row and when the earlier ones
/// were sent. A reply dated in the future, because the clock was turned back, counts.
pub fn reached(caps: Caps, in_a_row: u32, sent: &[Timestamp], now: Timestamp) -> Option<Reached> {
    if in_a_row >= caps.consecutive {
        return Some(Reached::Consecutive);
    }
    let since = to_millis(now).saturating_sub(millis(WINDOW));
    let within = sent.iter().filter(|at| to_millis(**at) > since).count();
    (within >= caps.hourly as usize).then_some(Reached::Hourly)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_millis;
    use proptest::prelude::*;

    proptest! {
        /// Whoever asks before each reply never gets more than the caps allow, in any window of an hour.
        #[test]
        fn no_hour_holds_more_than_the_cap(
            steps in proptest::collection::vec((0_i64..1_200_000, proptest::bool::weighted(0.2)), 0..120),
            consecutive in 0_u32..6,
            hourly in 0_u32..8,
        ) {
            let caps = Caps { consecutive, hourly };
            let (mut now, mut row, mut sent) = (0_i64, 0_u32, Vec::new());
            for (step, human) in steps {
                now += step;
                if human { row = 0; }
                if reached(caps, row, &sent, from_millis(now)).is_none() {
                    sent.push(from_millis(now));
                    row += 1;
                }
                prop_assert!(row <= consecutive);
                let hour = sent.iter().filter(|at| to_millis(**at) > now - 3_600_000).count();
                prop_assert!(hour <= hourly as usize);
            }
        }
    }

    #[test]
    fn each_cap_is_named_and_ends() {
        let caps = Caps { consecutive: 3, hourly: 2 };
        let at = |s: i64| from_millis(s * 1000);
        assert_eq!(reached(caps, 3, &[], at(0)), Some(Reached::Consecutive));
        assert_eq!(reached(caps, 2, &[at(0), at(10)], at(20)), Some(Reached::Hourly));
        assert_eq!(reached(caps, 2, &[at(0), at(10)], at(3600)), None);
        // The clock was turned back: what is dated later still counts.
        assert_eq!(reached(caps, 0, &[at(9000), at(9001)], at(20)), Some(Reached::Hourly));
    }
}
