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

/// A desk asks again after a turn that is recorded and has waited so long for its reply or its end, longer than a reply
/// takes: it may have ended, and the word of it been lost.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);

/// However long a turn has waited, or a clock that was set right pretends that it has: so often it is asked after.
const ASKED_AT_LEAST: Duration = Duration::from_secs(3600);

/// Whether to ask again after a turn whose last message was seen at `last_at` and that was published last at
/// `published_at`. Each time waits as long as all before it together, so that a draft that waits for a person is asked
/// after a few times and not once a minute.
pub fn asks_again(last_at: Timestamp, published_at: Timestamp, now: Timestamp) -> bool {
    let waited = elapsed(last_at, published_at).min(ASKED_AT_LEAST);
    now < published_at || elapsed(published_at, now) >= ASK_AGAIN.max(waited)
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
#[path = "turn_tests.rs"]
mod tests;
