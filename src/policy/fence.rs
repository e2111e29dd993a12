//! May this reply be typed, now? Decided from facts alone, twice: before the first key and again before Enter.

use std::time::Duration;

use super::caps::Reached;
use super::mode::Halt;
use super::ownership::Ownership;
use crate::contract::{Authority, Effect, Mode, Revision};

/// A lifetime that is running: how much of it has passed. `passed` is `None` when the clock was turned back, and then
/// nothing can be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// How long ago it began.
    pub passed: Option<Duration>,
    /// How long it is.
    pub limit: Duration,
}

impl Lifetime {
    /// Whether it is over; one that cannot be measured is.
    pub fn is_over(self) -> bool {
        self.passed.is_none_or(|passed| passed > self.limit)
    }
}

/// What the fence has to know about a reply and its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The command names this journal, and the journal holds the turn.
    pub held: bool,
    /// The revision that the reply answers.
    pub revision: Revision,
    /// The turn's revision now.
    pub current: Revision,
    /// The turn has ended already, in this way.
    pub ended: Option<Effect>,
    /// The reply was asked back while keys were being pressed for it.
    pub withdrawn: bool,
    /// Whether this desktop answers for the account.
    pub ownership: Ownership,
    /// A pause or a stop reaches the conversation.
    pub halt: Halt,
    /// How far the turn may go, everything considered.
    pub mode: Mode,
    /// Who allowed the reply.
    pub authority: Authority,
    /// Since the command arrived.
    pub since_received: Lifetime,
    /// Since the last message that it answers was seen.
    pub since_detected: Lifetime,
    /// A person answered below the turn.
    pub human_replied: bool,
    /// The conversation has inbound text below what the revision answers.
    pub newer_inbound: bool,
    /// A cap that another automatic reply would exceed.
    pub cap: Option<Reached>,
    /// The view was aligned with the journal since this process opened it.
    pub aligned: bool,
    /// Why it must wait, as far as the caller knows: another reply under way, a pane that changed.
    pub wait: Option<&'static str>,
}

/// What the fence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Pass,
    /// Not now.
    Wait(&'static str),
    /// Never: the turn's reply ends with this effect, for this reason.
    Refuse(Effect, &'static str),
}

/// Decides. What refuses for good comes before what only waits: a reply that nobody may type any more does not stay
/// in the queue because of a pause.
pub fn decide(facts: &Facts) -> Decision {
    if let Some((effect, reason)) = refusal(facts) {
        return Decision::Refuse(effect, reason);
    }
    if facts.halt == Halt::Pause {
        return Decision::Wait("a pause is on");
    }
    if !facts.aligned {
        return Decision::Wait("the conversation has not been aligned since this process started");
    }
    if let Ownership::Wait(why) = facts.ownership {
        return Decision::Wait(why);
    }
    facts.wait.map_or(Decision::Pass, Decision::Wait)
}

/// The first reason in the order of the rules why the reply may never be typed.
fn refusal(facts: &Facts) -> Option<(Effect, &'static str)> {
    if !facts.held {
        return Some((Effect::Refused, "this journal does not hold the turn"));
    }
    if let Some(effect) = facts.ended {
        return Some((effect, "the turn has ended already"));
    }
    if facts.revision != facts.current {
        return Some((Effect::Superseded, "the reply answers another revision of the turn than the current one"));
    }
    if facts.withdrawn {
        return Some((Effect::Superseded, "it was asked back before Enter"));
    }
    if facts.halt == Halt::Stop {
        return Some((Effect::Off, "a stop is on"));
    }
    if let Ownership::NotMine(why) = facts.ownership {
        return Some((Effect::NotOwner, why));
    }
    if let Some(reason) = forbidden(facts.mode, &facts.authority) {
        return Some((Effect::Off, reason));
    }
    if facts.since_received.is_over() {
        return Some((Effect::Expired, "the reply's time to live has ended"));
    }
    if facts.since_detected.is_over() {
        return Some((Effect::Expired, "what the reply answers was seen too long ago"));
    }
    if facts.human_replied {
        return Some((Effect::HumanReplied, "the person at the keyboard answered first"));
    }
    if facts.newer_inbound {
        return Some((Effect::Superseded, "newer inbound text came after what the reply answers"));
    }
    match (&facts.authority, facts.cap) {
        (Authority::Auto, Some(cap)) => Some((Effect::Capped, cap.reason())),
        _ => None,
    }
}

/// Why this mode does not let this authority type, if it does not.
fn forbidden(mode: Mode, authority: &Authority) -> Option<&'static str> {
    match (mode, authority) {
        (Mode::Off, _) => Some("the mode is off"),
        (Mode::Draft, Authority::Auto) => Some("the mode is draft, and nobody approved the reply"),
        (Mode::Draft, Authority::ApprovedBy { .. }) | (Mode::Auto, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good() -> Facts {
        let fresh = Lifetime { passed: Some(Duration::ZERO), limit: Duration::from_secs(1) };
        Facts {
            held: true,
            revision: Revision(2),
            current: Revision(2),
            ended: None,
            withdrawn: false,
            ownership: Ownership::Mine,
            halt: Halt::None,
            mode: Mode::Auto,
            authority: Authority::Auto,
            since_received: fresh,
            since_detected: fresh,
            human_replied: false,
            newer_inbound: false,
            cap: None,
            aligned: true,
            wait: None,
        }
    }

    #[test]
    fn each_fact_alone_is_enough() {
        let over = Lifetime { passed: Some(Duration::from_secs(2)), limit: Duration::from_secs(1) };
        let unknown = Lifetime { passed: None, limit: Duration::from_secs(1) };
        let approved = Authority::ApprovedBy { by: "ann".into() };
        let refusals: Vec<(Facts, Effect)> = vec![
            (Facts { held: false, ..good() }, Effect::Refused),
            (Facts { ended: Some(Effect::TooOld), ..good() }, Effect::TooOld),
            (Facts { current: Revision(3), ..good() }, Effect::Superseded),
            (Facts { current: Revision(1), ..good() }, Effect::Superseded),
            (Facts { halt: Halt::Stop, ..good() }, Effect::Off),
            (Facts { withdrawn: true, ..good() }, Effect::Superseded),
            (Facts { ownership: Ownership::NotMine("x"), ..good() }, Effect::NotOwner),
            (Facts { mode: Mode::Off, ..good() }, Effect::Off),
            (Facts { mode: Mode::Off, authority: approved.clone(), ..good() }, Effect::Off),
            (Facts { mode: Mode::Draft, ..good() }, Effect::Off),
            (Facts { since_received: over, ..good() }, Effect::Expired),
            (Facts { since_received: unknown, ..good() }, Effect::Expired),
            (Facts { since_detected: over, ..good() }, Effect::Expired),
            (Facts { human_replied: true, ..good() }, Effect::HumanReplied),
            (Facts { newer_inbound: true, ..good() }, Effect::Superseded),
            (Facts { cap: Some(Reached::Hourly), ..good() }, Effect::Capped),
        ];
        for (facts, expected) in refusals {
            assert!(matches!(decide(&facts), Decision::Refuse(effect, _) if effect == expected), "{facts:?}");
        }
        for facts in [
            Facts { halt: Halt::Pause, ..good() },
            Facts { aligned: false, ..good() },
            Facts { ownership: Ownership::Wait("x"), ..good() },
            Facts { wait: Some("x"), ..good() },
        ] {
            assert!(matches!(decide(&facts), Decision::Wait(_)), "{facts:?}");
        }
        assert_eq!(decide(&good()), Decision::Pass);
        let draft = Facts { mode: Mode::Draft, authority: approved, cap: Some(Reached::Consecutive), ..good() };
        assert_eq!(decide(&draft), Decision::Pass);
    }

    prop_compose! {
        fn facts()(
            held: bool, revision in 1_u32..4, current in 1_u32..4, ended: bool, withdrawn: bool, owner in 0_usize..3, halt in 0_usize..3, mode in 0_usize..3,
            auto: bool, times in proptest::array::uniform2(proptest::option::of(0_u64..4)),
            human_replied: bool, newer_inbound: bool, cap: bool, aligned: bool, wait: bool,
        ) -> Facts {
            let life = |passed: Option<u64>| Lifetime {
                passed: passed.map(Duration::from_secs), limit: Duration::from_secs(2),
            };
            Facts {
                held, revision: Revision(revision), current: Revision(current),
                ended: ended.then_some(Effect::Confirmed),
                withdrawn,
                ownership: [Ownership::Mine, Ownership::Wait("wait"), Ownership::NotMine("not")][owner].clone(),
                halt: [Halt::None, Halt::Pause, Halt::Stop][halt],
                mode: [Mode::Off, Mode::Draft, Mode::Auto][mode],
                authority: if auto { Authority::Auto } else { Authority::ApprovedBy { by: "ann".into() } },
                since_received: life(times[0]), since_detected: life(times[1]),
                human_replied, newer_inbound, cap: cap.then_some(Reached::Consecutive), aligned,
                wait: wait.then_some("wait"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_pass_has_nothing_against_it(facts in facts()) {
            if decide(&facts) == Decision::Pass {
                prop_assert!(facts.held && facts.ended.is_none() && facts.revision == facts.current);
                prop_assert_eq!(facts.halt, Halt::None);
                prop_assert!(!facts.withdrawn && facts.ownership == Ownership::Mine);
                prop_assert!(!facts.human_replied && !facts.newer_inbound && facts.aligned && facts.wait.is_none());
                prop_assert!(!facts.since_received.is_over() && !facts.since_detected.is_over());
                match facts.authority {
                    Authority::Auto => prop_assert!(facts.mode == Mode::Auto && facts.cap.is_none()),
                    Authority::ApprovedBy { .. } => prop_assert!(facts.mode >= Mode::Draft),
                }
            }
        }

        #[test]
        fn what_can_never_be_typed_does_not_wait(facts in facts()) {
            let ownership = match &facts.ownership {
                Ownership::Wait(_) => Ownership::Mine,
                other => other.clone(),
            };
            let unhindered = Facts { ownership, halt: if facts.halt == Halt::Pause { Halt::None } else { facts.halt },
                aligned: true, wait: None, ..facts.clone() };
            match decide(&unhindered) {
                Decision::Refuse(..) => prop_assert_eq!(decide(&facts), decide(&unhindered)),
                Decision::Pass => prop_assert!(!matches!(decide(&facts), Decision::Refuse(..))),
                Decision::Wait(_) => prop_assert!(false, "nothing is left to wait for"),
            }
        }
    }
}
