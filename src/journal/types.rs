//! What goes into the journal and comes out of it.

use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{Conversation, ConversationId, Extraction, Mode, ReplySend, Revision, Scope, Timings, TurnId};
use crate::error::{Class, Classified};
use crate::policy::mode::{Halt, Standing};
use crate::policy::turn::Stage;
use crate::screen::pane::Cue;

/// A message that capture found below the last aligned line.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    /// The name shown beside it; empty if none.
    pub sender: String,
    /// Who wrote it, by looks; the journal decides the direction.
    pub cue: Cue,
    /// Its text as read.
    pub text: String,
    /// The time shown beside it.
    pub stamp: Option<String>,
    /// How it was read.
    pub extraction: Extraction,
    /// It was there at the first look, or a gap lies before it: context, never answered.
    pub history: bool,
}

/// What a look leaves behind for the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct LastLook {
    /// Hash of the pane's pixels.
    pub pane_digest: u64,
    /// The view was aligned with what the journal holds.
    pub aligned: bool,
    /// The newest line was visible: the pane is not scrolled up.
    pub at_bottom: bool,
    /// The transcript's tail, as `capture` wrote it (JSON); the journal does not look into it.
    pub transcript: String,
    /// When.
    pub at: Timestamp,
}

/// The journal's share of the settings; each is explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnSettings {
    /// A turn is published when the conversation has been quiet this long.
    pub quiet: Duration,
    /// or when its first message is this old.
    pub quiet_max: Duration,
    /// Messages older than this when first seen are recorded, not answered.
    pub age_limit: Duration,
    /// A command lives this long from its arrival.
    pub command_ttl: Duration,
    /// and this long from the detection of what it answers.
    pub detection_ttl: Duration,
    /// A publication is repeated when no acknowledgement came within this.
    pub acknowledge_within: Duration,
    /// Automatic replies in a row without a human.
    pub consecutive_cap: u32,
    /// Automatic replies an hour, a conversation.
    pub hourly_cap: u32,
    /// The ceiling for this desktop.
    pub mode: Mode,
    /// The ceiling for each profile, by its name; what is not named has `mode`.
    pub profile_modes: std::collections::BTreeMap<String, Mode>,
    /// Peers that may be answered automatically without having been approved once; `*` means all.
    pub trusted_peers: Vec<String>,
    /// Own names, for mentions in groups.
    pub own_names: Vec<String>,
    /// Lines of context that travel with a turn.
    pub context_lines: usize,
}

/// A command to execute, with all that pins it.
#[derive(Debug, Clone, PartialEq)]
pub struct SendOrder {
    /// The command.
    pub send: ReplySend,
    /// Where it belongs, as the inbound messages were read.
    pub conversation: Conversation,
    /// What is known of the times so far.
    pub timings: Timings,
    /// How often it has been tried before.
    pub attempts: u32,
}

/// Why the fence does not let a reply pass; each maps to one effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What becomes of the turn.
    pub effect: crate::contract::Effect,
    /// Why, without chat text.
    pub reason: String,
}

/// What the fence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceVerdict {
    /// Go on; the intent is journalled. The watermark is the last message's sequence number.
    Pass {
        /// What is ours lies above it.
        watermark: u64,
    },
    /// Not now: the pane changed since the last look, or a pause is on. Try again.
    Wait(String),
    /// Never: the journal has ended the command with this effect.
    Ended(Refusal),
}

/// Our own line, as it was read back from the pane.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnLine {
    /// Its sequence number.
    pub seq: u64,
    /// What was read.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// How far a dead executor had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentState {
    /// Keys may have been pressed, Enter was not.
    Intent,
    /// Enter may have been pressed.
    Submitting,
}

/// An intent that was left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// The command.
    pub order: SendOrder,
    /// How far it had come.
    pub state: IntentState,
    /// The watermark at that time.
    pub watermark: u64,
    /// The revision that was being sent.
    pub revision: Revision,
    /// The turn.
    pub turn: TurnId,
}

/// The turn that a look opened or made longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// The turn.
    pub turn: TurnId,
    /// Its revision now; the first means that it was opened.
    pub revision: Revision,
}

/// A conversation as an operator sees it; no chat text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationState {
    /// Who talks with whom.
    pub conversation: Conversation,
    /// How far it may go, before any doubt about a turn.
    pub mode: Mode,
    /// A pause or a stop reaches it.
    pub halt: Halt,
    /// A reply to this peer was approved or confirmed once.
    pub trusted: bool,
    /// It was aligned since this process opened the journal, so it is acted on.
    pub aligned: bool,
    /// The turns that have not ended, oldest first; two at most.
    pub open_turns: Vec<OpenTurn>,
    /// Automatic replies in a row without a human.
    pub in_a_row: u32,
    /// When it was last looked at.
    pub last_look: Option<Timestamp>,
}

/// A turn that a person has to answer; no chat text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// The turn.
    pub turn: TurnId,
    /// Its revision.
    pub revision: Revision,
    /// The conversation.
    pub conversation: ConversationId,
    /// The other side; empty once forgotten.
    pub peer: String,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// A turn that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTurn {
    /// Its id.
    pub turn: TurnId,
    /// Its number in the conversation.
    pub number: u64,
    /// How often it has grown.
    pub revision: Revision,
    /// How far its reply has come.
    pub stage: Stage,
    /// When its last message was seen.
    pub last_at: Timestamp,
}

/// What stands in one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlState {
    /// The scope.
    pub scope: Scope,
    /// What is asked.
    pub standing: Standing,
    /// Of the last control.
    pub version: u64,
    /// Who sent it.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// How much the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Messages.
    pub messages: u64,
    /// Turns that have not ended.
    pub open_turns: u64,
    /// Turns that the ledger has not acknowledged at their revision.
    pub unrecorded_turns: u64,
    /// Outcomes that it has not acknowledged.
    pub open_outcomes: u64,
    /// Commands that wait.
    pub queued_commands: u64,
    /// The file's size in bytes.
    pub bytes: u64,
}

/// What a command or a notice from Kafka came to, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It was taken, refused with an outcome, or not for this desktop; nothing of the below.
    Noted,
    /// A reply that this journal had taken before; nothing was done.
    Repeated,
    /// For the first time the ledger is known to have this revision of the turn.
    TurnAcknowledged,
    /// For the first time the ledger is known to have this outcome.
    OutcomeAcknowledged,
}

/// Why the journal did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{0}")]
    Locked(crate::error::Problem),
    /// The file cannot be read or written (disk full, permissions, not a journal).
    #[error("{0}")]
    Storage(crate::error::Problem),
    /// The database is busy for the moment.
    #[error("the journal is busy: {0}")]
    Busy(String),
}

impl Classified for JournalError {
    fn class(&self) -> Class {
        match self {
            Self::Busy(_) => Class::Transient,
            Self::Locked(_) | Self::Storage(_) => Class::Permanent,
        }
    }
}
