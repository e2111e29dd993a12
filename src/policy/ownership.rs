//! May this desktop type a reply that was issued under this ownership of the account? Pure; the desktop's own clock
//! decides, so that a desktop that is cut off stops by itself before another one may begin.

use std::time::Duration;

use jiff::Timestamp;

/// What a worker said last about one account, as the desktop keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// This desktop's process was named the owner.
    pub owned: bool,
    /// The owner's name.
    pub owner: String,
    /// The ownership's number.
    pub token: u64,
    /// The number with which this journal came into it.
    pub since: u64,
    /// When the hello was said that this answers.
    pub from: Timestamp,
    /// How long it holds, counted from then.
    pub hold: Duration,
    /// From then on replies issued under an older number, not below `since`, may be typed.
    pub inherits_at: Timestamp,
}

/// A clock may be set right by this much while an ownership holds, so that much of it is not used.
pub const CLOCK_STEP: Duration = Duration::from_secs(5);

impl Standing {
    /// Whether it still holds at `now`; one from the future cannot be measured and does not.
    pub fn holds(&self, now: Timestamp) -> bool {
        let turned_back = crate::clock::elapsed(now, self.from) > CLOCK_STEP;
        !turned_back && crate::clock::elapsed(self.from, now) + CLOCK_STEP < self.hold
    }
}

/// What the fence says of the ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Nothing is against it.
    Mine,
    /// It cannot be told yet, or not any more.
    Wait(&'static str),
    /// Somebody else answers for the account.
    NotMine(&'static str),
}

/// Decides about a reply that was issued under `token`; without one it is an older worker's, or this desktop was not
/// known by a hello, and only the certain word that somebody else is the owner is against it.
pub fn decide(standing: Option<&Standing>, token: Option<u64>, now: Timestamp) -> Ownership {
    use Ownership::{Mine, NotMine, Wait};
    let fresh = standing.filter(|standing| standing.holds(now));
    let (Some(standing), Some(token)) = (fresh, token) else {
        return match (fresh, token) {
            (Some(standing), None) if !standing.owned => NotMine("another desktop answers for this account"),
            (_, None) => Mine,
            (_, Some(_)) => Wait("no worker has confirmed lately that this desktop answers for the account"),
        };
    };
    if token > standing.token {
        return Wait("the word that this desktop answers for the account is on its way");
    }
    if !standing.owned {
        return NotMine("another desktop answers for this account");
    }
    if token < standing.since {
        return NotMine("another desktop answered for this account since the reply was issued");
    }
    if token < standing.token && now < standing.inherits_at {
        return Wait("the process that the reply was issued to may still be alive");
    }
    Mine
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::from_millis;

    fn standing() -> Standing {
        Standing {
            owned: true,
            owner: "desk".to_owned(),
            token: 5,
            since: 3,
            from: from_millis(100_000),
            hold: Duration::from_secs(45),
            inherits_at: from_millis(110_000),
        }
    }

    #[test]
    fn each_rule_alone_decides() {
        let at = |ms: i64| from_millis(100_000 + ms);
        let (mine, theirs) = (standing(), Standing { owned: false, ..standing() });
        let cases = [
            (Some(&mine), Some(5), at(1_000), "mine"),
            (Some(&mine), Some(5), at(39_999), "mine"),
            (Some(&mine), Some(5), at(40_000), "wait"),
            (Some(&mine), Some(5), at(-4_000), "mine"),
            (Some(&mine), Some(5), at(-6_000), "wait"),
            (Some(&mine), Some(6), at(1_000), "wait"),
            (Some(&mine), Some(4), at(1_000), "wait"),
            (Some(&mine), Some(4), at(10_000), "mine"),
            (Some(&mine), Some(2), at(10_000), "not"),
            (Some(&mine), None, at(1_000), "mine"),
            (Some(&theirs), Some(5), at(1_000), "not"),
            (Some(&theirs), Some(6), at(1_000), "wait"),
            (Some(&theirs), None, at(1_000), "not"),
            (Some(&theirs), None, at(60_000), "mine"),
            (None, Some(1), at(1_000), "wait"),
            (None, None, at(1_000), "mine"),
        ];
        for (standing, token, now, expected) in cases {
            let said = match decide(standing, token, now) {
                Ownership::Mine => "mine",
                Ownership::Wait(_) => "wait",
                Ownership::NotMine(_) => "not",
            };
            assert_eq!(said, expected, "{token:?} at {now}");
        }
    }

    proptest! {
        #[test]
        fn a_reply_with_a_token_passes_only_under_an_ownership_that_holds(
            owned: bool, token in 0_u64..6, held in 1_u64..6, since in 0_u64..6, now in 0_i64..200_000,
        ) {
            let standing = Standing { owned, token: held, since: since.min(held), ..standing() };
            let now = from_millis(now);
            if decide(Some(&standing), Some(token), now) == Ownership::Mine {
                prop_assert!(owned && standing.holds(now) && token <= held && token >= standing.since);
                prop_assert!(token == held || now >= standing.inherits_at);
            }
        }
    }
}
