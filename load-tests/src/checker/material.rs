//! What the judge is given, as plain data: the run's own files, and what the topics, the ledger, the journals and the
//! logs hold afterwards. Effects and states are texts here, so that a damaged row can be told instead of refused.

use crate::facts::{FaultLine, Planned, Side};

/// Everything that is known about a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What the other sides were to write, in the order of their times.
    pub planned: Vec<Planned>,
    /// What each application showed; the lines of one desktop in the order in which it showed them.
    pub shown: Vec<Shown>,
    /// What was broken when.
    pub faults: Vec<FaultLine>,
    /// The ledger.
    pub ledger: Ledger,
    /// The topics, if they were read.
    pub topics: Option<Topics>,
    /// The journals that were read.
    pub journals: Vec<Journal>,
    /// Words of the plan that stand in a log or in a dump of metrics.
    pub leaks: Vec<Leak>,
}

/// A line that an application showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The desktop of the application.
    pub desktop: String,
    /// The window: the other side's name.
    pub peer: String,
    /// Who wrote it.
    pub side: Side,
    /// The text.
    pub text: String,
}

/// The rows of a ledger that the judge looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// The ledger's own time when it was read, in milliseconds of the Unix epoch.
    pub now_ms: i64,
    /// One a turn.
    pub sagas: Vec<Saga>,
    /// The stories, in the order in which they were written.
    pub events: Vec<Event>,
    /// The stored drafts.
    pub drafts: Vec<Draft>,
    /// One a turn and revision that was to be answered.
    pub quota: Vec<Quota>,
    /// One a day.
    pub days: Vec<Day>,
    /// The commands.
    pub outbox: Vec<Outbox>,
    /// Turns of outcomes whose turn never came.
    pub orphans: Vec<String>,
}

/// A saga: one turn, as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saga {
    /// The turn's id.
    pub turn: String,
    /// The newest revision.
    pub revision: u32,
    /// Its state.
    pub state: String,
    /// What it ended in.
    pub effect: Option<String>,
    /// Where its reply goes.
    pub desktop: String,
    /// The other side.
    pub peer: String,
    /// The tokens of the messages that the newest revision covers.
    pub tokens: Vec<String>,
    /// When it must have gone on, in milliseconds of the Unix epoch.
    pub deadline_ms: i64,
}

/// A line of a turn's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The turn.
    pub turn: String,
    /// The revision.
    pub revision: u32,
    /// What happened.
    pub event: String,
    /// The state afterwards, as `issued` or `ended(confirmed)`.
    pub state_to: String,
    /// More about it: the reason, where there is one.
    pub detail: String,
}

/// A stored draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The turn.
    pub turn: String,
    /// The revision.
    pub revision: u32,
    /// The text, unless it is over age.
    pub text: Option<String>,
}

/// What was kept of a day's quota for one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The turn.
    pub turn: String,
    /// The revision.
    pub revision: u32,
    /// The day, counted from the Unix epoch.
    pub day: i64,
    /// `reserved`, `used` or `released`.
    pub state: String,
}

/// A day's counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The day, counted from the Unix epoch.
    pub day: i64,
    /// Replies taken from it.
    pub taken: i64,
}

/// A command in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The turn.
    pub turn: String,
    /// The revision.
    pub revision: u32,
    /// `send` or `withdraw`.
    pub kind: String,
    /// Whether it was published.
    pub published: bool,
    /// Whether it is not to be published any more.
    pub cancelled: bool,
}

/// What the topics hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topics {
    /// The turns of the records of `messages`.
    pub turns: Vec<String>,
    /// The replies that were sent to desktops.
    pub sends: Vec<Send>,
    /// What desktops told.
    pub outcomes: Vec<Outcome>,
    /// How many records of another type there are: acknowledgements, withdrawals, controls, hellos.
    pub others: u64,
    /// What nobody could read, as a sentence each.
    pub dead_letters: Vec<String>,
    /// Records that the checker itself could not read, as a sentence each.
    pub unreadable: Vec<String>,
}

/// A reply on its way to a desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The turn.
    pub turn: String,
    /// The revision.
    pub revision: u32,
    /// The text.
    pub text: String,
}

/// What a desktop told of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The turn.
    pub turn: String,
    /// The effect.
    pub effect: String,
}

/// A desktop's journal, as far as it is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// The desktop.
    pub desktop: String,
    /// Turns without an effect that the ledger has not acknowledged either.
    pub open: Vec<String>,
    /// Turns with an effect that the ledger has not acknowledged, and outcomes likewise.
    pub unacknowledged: Vec<String>,
    /// Tokens of messages that were recorded and are not to be answered, because they stood there at the first look or
    /// below a gap.
    pub history: Vec<String>,
}

/// A word of the plan where no chat text may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The file and the line.
    pub place: String,
    /// The word.
    pub token: String,
}

/// What is allowed in this run beside the promises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Replies that name no token and are sent all the same: the texts of canned rules and acknowledgements.
    pub texts: Vec<String>,
    /// How many dead letters were planted.
    pub dead_letters: usize,
    /// How many messages may have been recorded as history instead of being answered.
    pub history: usize,
    /// The run was not left to come to rest: what is open and within its deadline is no fault.
    pub open: bool,
    /// A deadline counts as missed so many milliseconds later: recovery needs a moment.
    pub grace_ms: i64,
}
