//! The rules of turns, case by case and for any history.

use proptest::prelude::*;

use super::*;
use crate::clock::from_millis;

const RULES: TurnRules = TurnRules {
    quiet: Duration::from_millis(1500),
    quiet_max: Duration::from_millis(8000),
    frozen_max: Duration::from_secs(600),
    overtakes_max: 2,
};

fn inbound(last_seq: u64, ms: i64) -> Event {
    Event::Inbound { last_seq, at: from_millis(ms), mode: Mode::Auto }
}

/// A journal in small: feeds events and keeps the state.
#[derive(Default)]
struct Desk {
    state: TurnState,
    ended: Vec<Ending>,
}

impl Desk {
    fn tell(&mut self, event: Event) -> Verdict {
        let decision = decide(&self.state, &RULES, event);
        self.state = decision.state;
        self.ended.extend(decision.ended);
        decision.verdict
    }

    fn publish(&mut self, ms: i64) -> Option<(u64, Revision)> {
        let Due::Publish { number, revision } = due(&self.state, &RULES, from_millis(ms)) else { return None };
        assert_eq!(self.tell(Event::Published { number, revision, at: from_millis(ms) }), Verdict::Done);
        Some((number, revision))
    }
}

#[test]
fn a_burst_is_one_turn_published_when_quiet_or_after_the_longest_wait() {
    let mut desk = Desk::default();
    assert_eq!(desk.tell(inbound(1, 0)), Verdict::Opened(1));
    assert_eq!(desk.tell(inbound(2, 1000)), Verdict::Joined(1, Revision(2)));
    assert_eq!(desk.tell(inbound(3, 2000)), Verdict::Joined(1, Revision(3)));
    assert_eq!(due(&desk.state, &RULES, from_millis(3499)), Due::Nothing);
    assert_eq!(desk.publish(3500), Some((1, Revision(3))));
    assert_eq!(desk.publish(99_000), None);
    assert_eq!(covers(&desk.state, 1), Some((0, 3)));

    let mut restless = Desk::default();
    for tick in 0..8 {
        restless.tell(inbound(tick + 1, 1000 * i64::try_from(tick).unwrap()));
        assert_eq!(due(&restless.state, &RULES, from_millis(1000 * i64::try_from(tick).unwrap())), Due::Nothing);
    }
    assert!(restless.publish(8000).is_some());
}

#[test]
fn a_message_after_the_intent_opens_the_next_turn_and_supersedes_the_reply_before_enter() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 0));
    let (number, revision) = desk.publish(2000).unwrap();
    desk.tell(Event::ReplyArrived { number, revision });
    assert_eq!(desk.tell(Event::Intent { number, revision }), Verdict::Done);
    assert_eq!(desk.tell(inbound(2, 3000)), Verdict::Opened(2));
    assert_eq!(desk.publish(9000), None, "nothing is published while a turn is out");
    assert_eq!(desk.tell(Event::Submitting { number, revision }), Verdict::Stale);
    assert_eq!(desk.ended, [Ending { number: 1, revision, effect: Effect::Superseded }]);
    assert_eq!(desk.publish(9000), Some((2, Revision::FIRST)));
    assert_eq!(covers(&desk.state, 2), Some((0, 2)), "what was superseded is answered by what comes after");
}

#[test]
fn a_message_after_enter_is_answered_by_the_next_turn_alone() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 0));
    let (number, revision) = desk.publish(2000).unwrap();
    desk.tell(Event::Intent { number, revision });
    assert_eq!(desk.tell(Event::Submitting { number, revision }), Verdict::Done);
    desk.tell(inbound(2, 3000));
    desk.tell(Event::HumanReplied { seq: 0 });
    assert!(desk.state.out.is_some(), "only the executor ends what may have been sent");
    assert_eq!(desk.tell(Event::Ended { number, effect: Effect::Confirmed }), Verdict::Done);
    assert_eq!(covers(&desk.state, 2), Some((1, 2)));
}

#[test]
fn a_human_reply_ends_what_is_open_and_what_has_not_been_entered() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 0));
    desk.tell(Event::HumanReplied { seq: 2 });
    assert_eq!(desk.ended, [Ending { number: 1, revision: Revision::FIRST, effect: Effect::HumanReplied }]);
    assert_eq!(desk.tell(inbound(3, 10)), Verdict::Opened(2));
    assert_eq!(covers(&desk.state, 2), Some((2, 3)));
}

#[test]
fn two_overtaken_replies_freeze_the_turn_and_a_frozen_turn_is_typed_although_newer_text_came() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 0));
    for round in 1..=2_u32 {
        let at = i64::from(round) * 10_000;
        let (number, revision) = desk.publish(at).unwrap();
        desk.tell(Event::ReplyArrived { number, revision });
        assert_eq!(desk.tell(inbound(u64::from(round) + 1, at + 5000)), Verdict::Joined(1, Revision(round + 1)));
        assert!(!may_type(&desk.state, number, revision));
    }
    let (number, revision) = desk.publish(30_000).unwrap();
    assert_eq!(desk.tell(inbound(4, 31_000)), Verdict::Opened(2));
    assert!(may_type(&desk.state, number, revision));
    assert_eq!(desk.publish(60_000), None);
    desk.tell(Event::Intent { number, revision });
    assert_eq!(desk.tell(Event::Submitting { number, revision }), Verdict::Done);
    desk.tell(Event::Ended { number, effect: Effect::Confirmed });
    assert_eq!(desk.state.overtakes, 0);
    assert_eq!(desk.publish(61_000), Some((2, Revision::FIRST)));
    assert_eq!(covers(&desk.state, 2), Some((3, 4)));
}

#[test]
fn a_frozen_turn_that_nobody_answers_gives_way() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 0));
    for round in 1..=2 {
        desk.publish(round * 10_000).unwrap();
        desk.tell(inbound(u64::try_from(round).unwrap() + 1, round * 10_000 + 1));
    }
    let (number, revision) = desk.publish(30_000).unwrap();
    assert_eq!(due(&desk.state, &RULES, from_millis(630_000)), Due::Nothing, "nothing waits behind it");
    desk.tell(inbound(9, 40_000));
    assert_eq!(due(&desk.state, &RULES, from_millis(629_999)), Due::Nothing);
    let end = Ending { number, revision, effect: Effect::Superseded };
    assert_eq!(due(&desk.state, &RULES, from_millis(630_000)), Due::End(end));
    desk.tell(Event::Ended { number, effect: Effect::Superseded });
    assert_eq!(covers(&desk.state, 2), Some((0, 9)));
}

#[test]
fn admission_follows_the_rules() {
    let (fresh, limit) = (Duration::ZERO, Duration::from_secs(600));
    assert_eq!(admit(ConversationKind::Direct, false, false, fresh, limit), Admission::Joins);
    assert_eq!(admit(ConversationKind::Group, false, false, fresh, limit), Admission::NotMentioned);
    assert_eq!(admit(ConversationKind::Group, true, false, fresh, limit), Admission::Joins);
    assert_eq!(admit(ConversationKind::Direct, true, true, fresh, limit), Admission::History);
    assert_eq!(admit(ConversationKind::Direct, true, false, limit * 2, limit), Admission::TooOld);
}

#[test]
fn a_clock_that_went_back_holds_nothing() {
    let mut desk = Desk::default();
    desk.tell(inbound(1, 100_000));
    assert!(desk.publish(50_000).is_some());
}

/// What may happen next, by a die.
fn step(desk: &mut Desk, die: u8, seq: &mut u64, now: i64) -> Verdict {
    let candidates: Vec<Turn> = [&desk.state.out, &desk.state.open].into_iter().flatten().cloned().collect();
    let pick = candidates.get(usize::from(die / 16) % candidates.len().max(1));
    let (number, revision) = pick.map_or((1, Revision::FIRST), |turn| (turn.number, turn.revision));
    let at = from_millis(now);
    match die % 16 {
        0..=4 => {
            *seq += 1;
            desk.tell(inbound(*seq, now))
        }
        5 => {
            *seq += 1;
            desk.tell(Event::HumanReplied { seq: *seq })
        }
        6 | 7 => match due(&desk.state, &RULES, at) {
            Due::Publish { number, revision } => desk.tell(Event::Published { number, revision, at }),
            Due::End(end) => {
                desk.ended.push(end);
                desk.tell(Event::Ended { number: end.number, effect: end.effect })
            }
            Due::Nothing => Verdict::Done,
        },
        8 | 9 => desk.tell(Event::ReplyArrived { number, revision }),
        10 | 11 => desk.tell(Event::Intent { number, revision }),
        12 => desk.tell(Event::Submitting { number, revision }),
        13 => desk.tell(Event::Abandoned { number, revision }),
        14 => desk.tell(Event::Intent { number, revision: Revision(revision.0.saturating_sub(1)) }),
        _ if pick.is_some() => {
            let effect = Effect::ALL[usize::from(die / 16) % Effect::ALL.len()];
            desk.ended.push(Ending { number, revision, effect });
            desk.tell(Event::Ended { number, effect })
        }
        _ => Verdict::Done,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_turn_is_lost_ended_twice_or_typed_beside_another(
        dice in proptest::collection::vec((any::<u8>(), 0_i64..5000), 1..80),
    ) {
        let (mut desk, mut seq, mut now) = (Desk::default(), 0, 0);
        for (die, pause) in dice {
            now += pause;
            let before = desk.state.clone();
            step(&mut desk, die, &mut seq, now);
            let state = &desk.state;
            prop_assert!(state.last_number >= before.last_number);
            prop_assert!(state.answered_through >= before.answered_through);
            // Every turn ever opened is alive or has ended once.
            let mut seen: Vec<u64> = desk.ended.iter().map(|end| end.number).collect();
            seen.extend([&state.out, &state.open].into_iter().flatten().map(|turn| turn.number));
            seen.sort_unstable();
            prop_assert_eq!(seen, (1..=state.last_number).collect::<Vec<_>>());
            // At most one reply may be typed, and none beside newer text unless frozen.
            let typed: Vec<&Turn> = [&state.out, &state.open].into_iter().flatten()
                .filter(|turn| may_type(state, turn.number, turn.revision)).collect();
            prop_assert!(typed.len() <= 1);
            for turn in typed {
                prop_assert!(turn.frozen_at.is_some() || turn.last_seq == newest(state));
            }
            // What is out does not grow.
            if let (Some(then), Some(is)) = (&before.out, &state.out) && then.number == is.number {
                prop_assert_eq!((then.revision, then.last_seq), (is.revision, is.last_seq));
            }
            if let (Some(out), Some(open)) = (&state.out, &state.open) {
                prop_assert!(out.number < open.number);
                prop_assert_eq!(open.published, None);
            }
        }
    }

    #[test]
    fn the_state_survives_json(dice in proptest::collection::vec((any::<u8>(), 0_i64..5000), 1..20)) {
        let (mut desk, mut seq, mut now) = (Desk::default(), 0, 0);
        for (die, pause) in dice {
            now += pause;
            step(&mut desk, die, &mut seq, now);
        }
        let json = serde_json::to_string(&desk.state).unwrap();
        prop_assert_eq!(serde_json::from_str::<TurnState>(&json).unwrap(), desk.state);
    }

    #[test]
    fn a_peer_who_never_pauses_is_answered(pauses in proptest::collection::vec(1_i64..20_000, 60)) {
        // A reply needs 5 s from the publication; messages come whenever they like.
        let (mut desk, mut seq, mut now, mut ready, mut sent) = (Desk::default(), 0, 0_i64, None, 0);
        for pause in pauses {
            seq += 1;
            desk.tell(inbound(seq, now));
            for _ in 0..pause / 100 {
                now += 100;
                if let Some((number, revision)) = desk.publish(now) {
                    ready = Some((now + 5000, number, revision));
                }
                if let Some((at, number, revision)) = ready && now >= at {
                    ready = None;
                    if desk.tell(Event::Intent { number, revision }) == Verdict::Done {
                        desk.tell(Event::Submitting { number, revision });
                        desk.tell(Event::Ended { number, effect: Effect::Confirmed });
                        sent += 1;
                    }
                }
            }
        }
        // At most three publications of at most 8 s each, and 5 s for the reply, for one answer.
        prop_assert!(sent >= now / 45_000);
    }
}

fn newest(state: &TurnState) -> u64 {
    [&state.out, &state.open].into_iter().flatten().map(|turn| turn.last_seq).max().unwrap_or(0)
}
