//! The words between the machine and those who carry its actions out.

use std::time::Duration;

use crate::contract::Effect;

/// The bounds of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How often an order is tried that fails before Enter.
    pub attempts: u32,
    /// Longest wait for the person to pause.
    pub idle_wait: Duration,
    /// Longest wait for held keys, a foreign grab, or somebody's text in the input.
    pub clear_wait: Duration,
    /// Longest wait until the input shows what was typed, or that it is empty.
    pub read_back: Duration,
    /// Longest wait until the journal has seen the pane as it is.
    pub fresh_look: Duration,
    /// Longest wait for the own line.
    pub verify: Duration,
    /// How long a submit in flight is followed when a stop was asked for.
    pub stop_grace: Duration,
    /// Wait before a failed attempt is repeated.
    pub retry_delay: Duration,
    /// Wait before an attempt that gave way is repeated.
    pub yield_delay: Duration,
    /// Wait between two looks at the same thing.
    pub poll: Duration,
}

/// What is to be done now. The answer is given to [`Machine::observe`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Fence and intent in the journal; answered by [`Seen::Fence`].
    BeginIntent,
    /// Find the window and read the input, without touching either; answered by [`Seen::Look`].
    Look,
    /// The same, with a trial grab: the proof just before Enter; answered by [`Seen::Look`].
    Prove,
    /// Try to grab the keyboard and let go; answered by [`Seen::Grab`].
    TryGrab,
    /// Read held keys and locks; answered by [`Seen::Keys`].
    ReadKeys,
    /// Has the person paused? Answered by [`Seen::Idle`].
    ReadIdle,
    /// Raise the window; answered by [`Seen::Done`] or [`Seen::Failed`].
    Activate,
    /// Focus the input; answered by [`Seen::Done`] or [`Seen::Failed`].
    FocusInput,
    /// Type or paste the text; answered by [`Seen::Typed`].
    TypeText,
    /// The second fence, with the pane's digest as it is now; answered by [`Seen::Fence`].
    BeginSubmit,
    /// Press the submit key; answered by [`Seen::Entered`] or [`Seen::NotPressed`].
    PressEnter,
    /// Ask the journal for the own line; answered by [`Seen::OwnLine`].
    ReadOwnLine,
    /// Has capture aligned the conversation since this process started? Answered by [`Seen::Aligned`].
    AskAligned,
    /// Empty the input, which was just read as ours; answered by [`Seen::Done`] or [`Seen::Failed`].
    ClearInput,
    /// Give the focus back to where it was; answered by [`Seen::Done`].
    GiveBack,
    /// Wait this long; answered by [`Seen::Paused`].
    Pause(Duration),
    /// Nothing more: carry this out and stop.
    Finish(Finish),
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// The command ends with this effect.
    End {
        /// What became of it.
        effect: Effect,
        /// Why, without chat text.
        reason: String,
    },
    /// Our text is out of the input: the command goes back.
    Abandon {
        /// Not before.
        after: Duration,
        /// Why, without chat text.
        reason: String,
        /// It counts as a failed attempt.
        fault: bool,
    },
    /// No intent was journalled; the conversation waits, others pass.
    Blocked {
        /// Why, without chat text.
        reason: String,
    },
    /// The journal has ended the command, or it is left to be reconciled at the next start.
    Left,
}

/// Is it the one right window?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Exactly one window shows this application, account and conversation.
    Right,
    /// None does.
    Absent,
    /// Several do.
    Ambiguous,
    /// The window system did not answer.
    Unknown,
}

/// Window and input at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Is it the one right window?
    pub proof: Proof,
    /// It has the keyboard.
    pub active: bool,
    /// The input says that it is focused.
    pub focused: bool,
    /// Nobody else grabs the keyboard and no key is held; only looked at by [`Action::Prove`].
    pub free: bool,
    /// The input's text; `None` if it cannot be read.
    pub text: Option<String>,
}

/// What the journal said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Go on.
    Pass {
        /// What is ours lies above it.
        watermark: u64,
    },
    /// Not now.
    Wait,
    /// Never: the journal has ended it.
    Ended,
    /// The journal could not be asked.
    Error,
}

/// Held keys and locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// All up.
    Up,
    /// Some key or modifier is held.
    Held,
    /// Caps Lock is on.
    CapsLock,
}

/// How typing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// All of it went out.
    Complete,
    /// The person pressed something: stopped at once.
    Interrupted,
    /// Keys could not be pressed, or not all.
    Failed,
}

/// The answer to an [`Action`].
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// To the two fences.
    Fence(Fence),
    /// To a look or a proof.
    Look(Look),
    /// Nobody else grabs the keyboard.
    Grab(bool),
    /// To the reading of the keys.
    Keys(Keys),
    /// The person has paused long enough.
    Idle(bool),
    /// To typing.
    Typed(Typed),
    /// The submit key may have been pressed.
    Entered,
    /// The submit key was certainly not pressed.
    NotPressed,
    /// Whether the own line was seen; `None` if the journal could not be asked.
    OwnLine(Option<bool>),
    /// Whether the conversation has been aligned since the start.
    Aligned(bool),
    /// It was done.
    Done,
    /// It could not be done.
    Failed,
    /// The pause is over.
    Paused,
}

/// What goes with every observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// Time since the attempt began.
    pub now: Duration,
    /// The person pressed something since they were last seen idle.
    pub person: bool,
    /// autoreply was asked to stop.
    pub stop: bool,
}
