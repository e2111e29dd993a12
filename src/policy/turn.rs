//! Which messages make a turn, when a turn is published, and which reply may still be sent. Pure: the journal keeps a
//! [`TurnState`] a conversation, and in the transaction that records what happened it replaces it by what [`decide`]
//! gives.
//!
//! At most two turns of a conversation live at a time: the *open* one, which inbound messages join, and the one that
//! is *out*: frozen, or with its intent journalled. What is out does not grow any more, and the open turn is not
//! published before what is out has ended, because only then is known what it has to answer.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::elapsed;
use crate::contract::{ConversationKind, Effect, Mode, Revision};

/// The rules' figures; the journal's settings hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnRules {
    /// A turn is published when the conversation has been quiet this long,
    pub quiet: Duration,
    /// or when the oldest message that is not published yet has waited this long.
    pub quiet_max: Duration,
    /// A frozen turn that got no further gives way to the next one after this long (the time to live from detection).
    pub frozen_max: Duration,
    /// After this many revisions that overtook a reply the turn is frozen with its next publication.
    pub overtakes_max: u32,
}

impl Default for TurnRules {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(1500),
            quiet_max: Duration::from_secs(8),
            frozen_max: Duration::from_secs(600),
            overtakes_max: 2,
        }
    }
}

/// What is to become of one inbound message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It joins a turn and is answered.
    Joins,
    /// It was there at the first look, or below a gap: context.
    History,
    /// It is over the age limit: recorded, not answered.
    TooOld,
    /// Nobody mentioned us in this group: context.
    NotMentioned,
}

/// Decides about one inbound message. `age` is how old it was when it was first seen, zero where nothing tells.
pub fn admit(kind: ConversationKind, mentioned: bool, history: bool, age: Duration, age_limit: Duration) -> Admission {
    if history {
        Admission::History
    } else if age > age_limit {
        Admission::TooOld
    } else if kind == ConversationKind::Group && !mentioned {
        Admission::NotMentioned
    } else {
        Admission::Joins
    }
}

/// How far the reply to a turn has come on this desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No key has been pressed for it.
    Waiting,
    /// The intent is journalled: keys may have been pressed, Enter was not.
    Intent,
    /// Enter may have been pressed: only the executor ends it.
    Submitting,
}

/// One turn that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its number in the conversation, from 1.
    pub number: u64,
    /// How often it has grown.
    pub revision: Revision,
    /// The last inbound message that it covers; it covers all admitted ones above [`TurnState::answered_through`].
    pub last_seq: u64,
    /// When that message was seen.
    pub last_at: Timestamp,
    /// When the oldest message that is not published yet was seen; of no meaning when all are.
    pub waiting_since: Timestamp,
    /// The revision that was published last.
    pub published: Option<Revision>,
    /// The revision for which a reply has arrived last.
    pub replied: Option<Revision>,
    /// How far its reply has come.
    pub stage: Stage,
    /// Since when newer messages do not overtake it any more.
    pub frozen_at: Option<Timestamp>,
}

impl Turn {
    fn is(&self, number: u64, revision: Revision) -> bool {
        self.number == number && self.revision == revision
    }

    /// A newer message makes somebody's work on this revision void.
    fn is_overtaken(&self, mode: Mode) -> bool {
        self.replied == Some(self.revision) || (mode == Mode::Auto && self.published == Some(self.revision))
    }
}

/// The turns of one conversation; the default is a conversation without any. Kept as JSON by the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TurnState {
    /// The number of the turn that was opened last; 0 before the first.
    pub last_number: u64,
    /// The turn that messages join.
    pub open: Option<Turn>,
    /// The turn that does not grow any more and has not ended.
    pub out: Option<Turn>,
    /// Inbound messages up to this sequence number have been answered, by us or by the person.
    pub answered_through: u64,
    /// How many revisions overtook a reply since the last answer.
    pub overtakes: u32,
}

/// What happened, in one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A look found admitted inbound messages; one event for each unbroken run of them, in the order of the lines,
    /// so that a person's line between two messages is told between them.
    Inbound {
        /// The sequence number of the last of them.
        last_seq: u64,
        /// When they were seen.
        at: Timestamp,
        /// How far the turn may go: work that a person must approve first is not counted as overtaken.
        mode: Mode,
    },
    /// A line of the person at the keyboard was seen.
    HumanReplied {
        /// Its sequence number: everything before it is answered.
        seq: u64,
    },
    /// The revision went to Kafka (again).
    Published {
        /// The turn.
        number: u64,
        /// The revision.
        revision: Revision,
        /// When.
        at: Timestamp,
    },
    /// A reply for the revision arrived.
    ReplyArrived {
        /// The turn.
        number: u64,
        /// The revision it answers.
        revision: Revision,
    },
    /// The intent is being journalled.
    Intent {
        /// The turn.
        number: u64,
        /// The revision that is going to be typed.
        revision: Revision,
    },
    /// `submitting` is being journalled.
    Submitting {
        /// The turn.
        number: u64,
        /// The revision that has been typed.
        revision: Revision,
    },
    /// Nothing was sent and our text is out of the input again.
    Abandoned {
        /// The turn.
        number: u64,
        /// The revision that had been typed.
        revision: Revision,
    },
    /// The turn has ended for another reason than those decided here.
    Ended {
        /// The turn.
        number: u64,
        /// With what.
        effect: Effect,
    },
}

/// What a turn ends with by the rules here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The turn.
    pub number: u64,
    /// At this revision.
    pub revision: Revision,
    /// With this effect.
    pub effect: Effect,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the state.
    Done,
    /// The messages opened this turn.
    Opened(u64),
    /// The messages joined this turn, which has this revision now.
    Joined(u64, Revision),
    /// The turn or the revision is not the current one: nothing may be typed for it. The state is unchanged but for
    /// the endings.
    Stale,
}

/// The state after an event, and what the journal has to do besides keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Replaces the state before.
    pub state: TurnState,
    /// What became of the event.
    pub verdict: Verdict,
    /// Turns that ended by it; the state has them no more.
    pub ended: Vec<Ending>,
}

/// What time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Publish the open turn, then tell [`Event::Published`].
    Publish {
        /// The turn.
        number: u64,
        /// Its revision.
        revision: Revision,
    },
    /// End this turn, and tell [`Event::Ended`].
    End(Ending),
}

/// What is to be done at `now` without anything having happened. When the clock went backwards a turn is due at once
/// rather than held until the clock has caught up.
pub fn due(state: &TurnState, rules: &TurnRules, now: Timestamp) -> Due {
    let past = |since: Timestamp, limit: Duration| now < since || elapsed(since, now) >= limit;
    if let Some(out) = &state.out {
        let given_up = out.stage == Stage::Waiting && out.frozen_at.is_some_and(|at| past(at, rules.frozen_max));
        return if given_up && state.open.is_some() {
            Due::End(Ending { number: out.number, revision: out.revision, effect: Effect::Superseded })
        } else {
            Due::Nothing
        };
    }
    match &state.open {
        Some(open)
            if open.published != Some(open.revision)
                && (past(open.last_at, rules.quiet) || past(open.waiting_since, rules.quiet_max)) =>
        {
            Due::Publish { number: open.number, revision: open.revision }
        }
        _ => Due::Nothing,
    }
}

/// The fence's share in turns: whether the reply to this revision may be typed (further) now. True for at most one
/// turn and revision at a time; for one that is not frozen only while nothing newer is inbound.
pub fn may_type(state: &TurnState, number: u64, revision: Revision) -> bool {
    match (&state.out, &state.open) {
        (Some(out), open) => out.is(number, revision) && (out.frozen_at.is_some() || open.is_none()),
        (None, Some(open)) => open.is(number, revision),
        (None, None) => false,
    }
}

/// The turn's messages: the sequence numbers it covers lie above the first value, up to the second.
pub fn covers(state: &TurnState, number: u64) -> Option<(u64, u64)> {
    [&state.out, &state.open]
        .into_iter()
        .flatten()
        .find(|turn| turn.number == number)
        .map(|turn| (state.answered_through, turn.last_seq))
}

/// What an event makes of a conversation's turns.
pub fn decide(state: &TurnState, rules: &TurnRules, event: Event) -> Decision {
    let mut next = state.clone();
    let mut ended = Vec::new();
    let verdict = match event {
        Event::Inbound { last_seq, at, mode } => next.join(last_seq, at, mode),
        Event::HumanReplied { seq } => {
            next.human_replied(seq, &mut ended);
            Verdict::Done
        }
        Event::Published { number, revision, at } => next.published(rules, number, revision, at),
        Event::ReplyArrived { number, revision } => next.reply_arrived(number, revision),
        Event::Intent { number, revision } => next.intend(number, revision, &mut ended),
        Event::Submitting { number, revision } => next.submit(number, revision, &mut ended),
        Event::Abandoned { number, revision } => next.abandon(number, revision, &mut ended),
        Event::Ended { number, effect } => next.end(number, effect),
    };
    Decision { state: next, verdict, ended }
}

impl TurnState {
    fn join(&mut self, last_seq: u64, at: Timestamp, mode: Mode) -> Verdict {
        if let Some(open) = &mut self.open {
            if open.is_overtaken(mode) {
                self.overtakes = self.overtakes.saturating_add(1);
            }
            if open.published == Some(open.revision) {
                open.waiting_since = at;
            }
            open.revision = open.revision.next();
            (open.last_seq, open.last_at) = (last_seq, at);
            return Verdict::Joined(open.number, open.revision);
        }
        if self.out.as_ref().is_some_and(|out| out.stage == Stage::Intent && out.frozen_at.is_none()) {
            self.overtakes = self.overtakes.saturating_add(1);
        }
        self.last_number += 1;
        self.open = Some(Turn {
            number: self.last_number,
            revision: Revision::FIRST,
            last_seq,
            last_at: at,
            waiting_since: at,
            published: None,
            replied: None,
            stage: Stage::Waiting,
            frozen_at: None,
        });
        Verdict::Opened(self.last_number)
    }

    fn human_replied(&mut self, seq: u64, ended: &mut Vec<Ending>) {
        self.answered(seq);
        if self.out.as_ref().is_some_and(|out| out.stage != Stage::Submitting) {
            ended.extend(self.out.take().map(|turn| ending(&turn, Effect::HumanReplied)));
        }
        if self.open.as_ref().is_some_and(|open| open.last_seq <= seq) {
            ended.extend(self.open.take().map(|turn| ending(&turn, Effect::HumanReplied)));
        } else if let Some(open) = &mut self.open {
            // Told late: what the turn covers has shrunk, so what was published of it is void.
            open.revision = open.revision.next();
        }
    }

    fn answered(&mut self, seq: u64) {
        self.answered_through = self.answered_through.max(seq);
        self.overtakes = 0;
    }

    fn published(&mut self, rules: &TurnRules, number: u64, revision: Revision, at: Timestamp) -> Verdict {
        let Some(turn) = self.find(number, revision) else { return Verdict::Stale };
        turn.published = Some(revision);
        if self.overtakes >= rules.overtakes_max && self.out.is_none() {
            self.out = self.open.take().map(|turn| Turn { frozen_at: Some(at), ..turn });
        }
        Verdict::Done
    }

    fn reply_arrived(&mut self, number: u64, revision: Revision) -> Verdict {
        let Some(turn) = self.find(number, revision) else { return Verdict::Stale };
        turn.replied = Some(revision);
        Verdict::Done
    }

    fn intend(&mut self, number: u64, revision: Revision, ended: &mut Vec<Ending>) -> Verdict {
        if !may_type(self, number, revision) {
            return self.stale(number, ended);
        }
        if self.out.is_none() {
            self.out = self.open.take();
        }
        match &mut self.out {
            Some(out) if out.stage != Stage::Submitting => out.stage = Stage::Intent,
            _ => return Verdict::Stale,
        }
        Verdict::Done
    }

    fn submit(&mut self, number: u64, revision: Revision, ended: &mut Vec<Ending>) -> Verdict {
        let allowed = may_type(self, number, revision);
        match &mut self.out {
            Some(out) if allowed && out.stage == Stage::Intent => {
                out.stage = Stage::Submitting;
                Verdict::Done
            }
            _ => self.stale(number, ended),
        }
    }

    fn abandon(&mut self, number: u64, revision: Revision, ended: &mut Vec<Ending>) -> Verdict {
        let Some(out) = self.out.as_mut().filter(|out| out.is(number, revision) && out.stage == Stage::Intent) else {
            return Verdict::Stale;
        };
        out.stage = Stage::Waiting;
        if out.frozen_at.is_none() {
            if self.open.is_some() {
                return self.stale(number, ended);
            }
            self.open = self.out.take();
        }
        Verdict::Done
    }

    /// Ends what is out as superseded if it is this turn and a newer one took its place before Enter.
    fn stale(&mut self, number: u64, ended: &mut Vec<Ending>) -> Verdict {
        let replaced = self.open.is_some();
        if replaced
            && let Some(out) = self
                .out
                .take_if(|out| out.number == number && out.stage != Stage::Submitting && out.frozen_at.is_none())
        {
            ended.push(ending(&out, Effect::Superseded));
        }
        Verdict::Stale
    }

    fn end(&mut self, number: u64, effect: Effect) -> Verdict {
        let found =
            self.out.take_if(|turn| turn.number == number).or_else(|| self.open.take_if(|turn| turn.number == number));
        let Some(turn) = found else { return Verdict::Stale };
        if effect.may_have_sent() || effect == Effect::HumanReplied {
            self.answered(turn.last_seq);
        }
        Verdict::Done
    }

    fn find(&mut self, number: u64, revision: Revision) -> Option<&mut Turn> {
        [&mut self.out, &mut self.open].into_iter().flatten().find(|turn| turn.is(number, revision))
    }
}

fn ending(turn: &Turn, effect: Effect) -> Ending {
    Ending { number: turn.number, revision: turn.revision, effect }
}

#[cfg(test)]
mod tests {
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
}
