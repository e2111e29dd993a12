//! The records that travel, one type each. Unknown fields are ignored when read; the version is part of the record's
//! type name, not of its fields.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConversationId, DesktopId, Effect, Evidence, JournalId, Revision, Timings, TurnId};

/// How far autoreply may go by itself. The order is the order of caution: the smaller wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reads and publishes nothing.
    Off,
    /// Writes a draft that a person approves.
    Draft,
    /// Answers by itself.
    Auto,
}

impl Mode {
    /// The name as it stands in settings and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Draft => "draft",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "draft" => Ok(Self::Draft),
            "auto" => Ok(Self::Auto),
            other => Err(format!("{other:?} is not a mode; the modes are off, draft and auto")),
        }
    }
}

/// Two people, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// One peer.
    Direct,
    /// A channel or group: answered only when mentioned.
    Group,
}

/// Who talks with whom, where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// Derived from network, account and peer.
    pub id: ConversationId,
    /// The profile by which the window was read, as `hexchat`.
    pub application: String,
    /// The network or service the account is on.
    pub network: String,
    /// Whose account it is.
    pub account: String,
    /// The other side: a person, or a group's name.
    pub peer: String,
    /// Two people, or more.
    pub kind: ConversationKind,
}

impl Conversation {
    /// The conversation of these facts, with its id derived.
    pub fn new(application: &str, network: &str, account: &str, peer: &str, kind: ConversationKind) -> Self {
        Self {
            id: ConversationId::derive(network, account, peer),
            application: application.to_owned(),
            network: network.to_owned(),
            account: account.to_owned(),
            peer: peer.to_owned(),
            kind,
        }
    }
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The other side.
    Inbound,
    /// This system.
    OwnAutomatic,
    /// The person at the keyboard.
    OwnHuman,
    /// The application itself: joins, notices, day marks.
    System,
}

impl Direction {
    /// The name as it stands in records and databases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::OwnAutomatic => "own_automatic",
            Self::OwnHuman => "own_human",
            Self::System => "system",
        }
    }

    /// Whether this side wrote it.
    pub fn is_own(self) -> bool {
        matches!(self, Self::OwnAutomatic | Self::OwnHuman)
    }
}

impl FromStr for Direction {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Inbound, Self::OwnAutomatic, Self::OwnHuman, Self::System]
            .into_iter()
            .find(|direction| direction.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not the name of a direction"))
    }
}

/// How a text was read from the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtractionMethod {
    /// The application's accessibility tree: exact.
    Accessibility,
    /// Optical character recognition of the pixels.
    Ocr,
    /// Select and copy: exact.
    Clipboard,
}

/// How a text was read, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Extraction {
    /// The way it was read.
    pub method: ExtractionMethod,
    /// 0 to 1.
    pub confidence: f64,
    /// Too uncertain to be answered without a person.
    pub doubtful: bool,
}

/// One message of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnMessage {
    /// Its place in the conversation, as this journal counts.
    pub seq: u64,
    /// The name shown beside it.
    pub sender: String,
    /// Always inbound today; kept so that a reader need not assume it.
    pub direction: Direction,
    /// The text, redacted.
    pub text: String,
    /// When it was first seen.
    pub detected_at: Timestamp,
    /// How it was read.
    pub extraction: Extraction,
}

/// One line of what stood above the turn on the screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextLine {
    /// The name shown beside it.
    pub sender: String,
    /// Who wrote it.
    pub direction: Direction,
    /// The text, redacted.
    pub text: String,
}

/// `messages.detected.v1`: a turn as a desktop saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessagesDetected {
    /// The turn; also the saga's id.
    pub turn: TurnId,
    /// How often it has grown.
    pub revision: Revision,
    /// The turn's number in its conversation, from 1.
    pub number: u64,
    /// The journal that holds it.
    pub journal: JournalId,
    /// Where replies go.
    pub desktop: DesktopId,
    /// Who talks with whom.
    pub conversation: Conversation,
    /// Everything inbound since the last reply, oldest first; never empty.
    pub messages: Vec<TurnMessage>,
    /// What stood above, oldest first.
    pub context: Vec<ContextLine>,
    /// How far this turn may go, everything considered.
    pub mode: Mode,
    /// When its last message was seen, on the desktop's clock.
    pub detected_at: Timestamp,
    /// Where it stands in its trace, as a W3C `traceparent`; it travels in the header of that name, not in the body.
    #[serde(skip)]
    #[schemars(skip)]
    pub traceparent: Option<String>,
}

/// Who allowed a reply to be typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Authority {
    /// The mode `auto`.
    Auto,
    /// A person, by name.
    ApprovedBy {
        /// Who.
        by: String,
    },
}

/// `reply.send.v1`: type this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplySend {
    /// The turn it answers.
    pub turn: TurnId,
    /// The revision it answers; refused if the journal has a newer one.
    pub revision: Revision,
    /// The journal that must hold the turn.
    pub journal: JournalId,
    /// The desktop that types it.
    pub desktop: DesktopId,
    /// Where it must be typed.
    pub conversation: ConversationId,
    /// What is typed.
    pub text: String,
    /// Who allowed it.
    pub authority: Authority,
    /// When it was issued, on the worker's clock.
    pub issued_at: Timestamp,
    /// Under which ownership of the account it was issued: the desktop types it only while it holds that one. Workers
    /// of release 0.1.0, and all where the desktop says no hello, leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_token: Option<u64>,
}

/// `reply.withdraw.v1`: please do not type it, if you still can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyWithdraw {
    /// The turn.
    pub turn: TurnId,
    /// The revision whose reply is withdrawn.
    pub revision: Revision,
    /// The desktop that holds it.
    pub desktop: DesktopId,
    /// The conversation, for ordering.
    pub conversation: ConversationId,
    /// Why, without chat text.
    pub reason: String,
}

/// `turn.recorded.v1`: the ledger has this revision of the turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnRecorded {
    /// The turn.
    pub turn: TurnId,
    /// The revision that was recorded.
    pub revision: Revision,
    /// The desktop that asked.
    pub desktop: DesktopId,
}

/// `outcome.recorded.v1`: the ledger has this outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRecorded {
    /// The turn.
    pub turn: TurnId,
    /// The revision the outcome was about.
    pub revision: Revision,
    /// The desktop that reported it.
    pub desktop: DesktopId,
}

/// Everything that travels on the commands topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Type this.
    Send(ReplySend),
    /// Please do not type it.
    Withdraw(ReplyWithdraw),
    /// The turn is in the ledger.
    TurnRecorded(TurnRecorded),
    /// The outcome is in the ledger.
    OutcomeRecorded(OutcomeRecorded),
}

impl Command {
    /// The turn that it is about.
    pub fn turn(&self) -> TurnId {
        match self {
            Self::Send(send) => send.turn,
            Self::Withdraw(withdraw) => withdraw.turn,
            Self::TurnRecorded(recorded) => recorded.turn,
            Self::OutcomeRecorded(recorded) => recorded.turn,
        }
    }

    /// The revision that it is about.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Send(send) => send.revision,
            Self::Withdraw(withdraw) => withdraw.revision,
            Self::TurnRecorded(recorded) => recorded.revision,
            Self::OutcomeRecorded(recorded) => recorded.revision,
        }
    }
}

/// `reply.outcome.v1`: what became of a turn on the desktop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyOutcome {
    /// The turn.
    pub turn: TurnId,
    /// The revision it is about.
    pub revision: Revision,
    /// The desktop that reports it.
    pub desktop: DesktopId,
    /// The conversation, which is the record's key.
    pub conversation: ConversationId,
    /// What became of it.
    pub effect: Effect,
    /// Why, as a sentence without chat text.
    pub reason: String,
    /// The evidence, where Enter was pressed.
    pub evidence: Option<Evidence>,
    /// When each step happened.
    pub timings: Timings,
}

/// What a control applies to, from the widest to the narrowest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum Scope {
    /// Everything.
    All,
    /// One desktop.
    Desktop(DesktopId),
    /// Every window of one profile.
    Profile(String),
    /// One conversation.
    Conversation(ConversationId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Desktop(id) => write!(f, "desktop:{id}"),
            Self::Profile(name) => write!(f, "profile:{name}"),
            Self::Conversation(id) => write!(f, "conversation:{id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "all" if id.is_empty() => Ok(Self::All),
            "desktop" => DesktopId::try_from(id.to_owned()).map(Self::Desktop).map_err(|error| error.to_string()),
            "profile" if !id.is_empty() => Ok(Self::Profile(id.to_owned())),
            "conversation" => {
                id.parse().map(Self::Conversation).map_err(|_| format!("{id:?} is not a conversation id"))
            }
            _ => {
                Err(format!("{text:?} is not a scope; write all, desktop:<name>, profile:<name> or conversation:<id>"))
            }
        }
    }
}

/// What a person or an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", content = "mode")]
pub enum Control {
    /// A ceiling: nothing in the scope goes further than this mode.
    Mode(Mode),
    /// Nothing is typed until resumed; turns are still read and drafted.
    Pause,
    /// Ends a pause or a stop.
    Resume,
    /// Nothing is typed, and what is queued ends as `off`.
    Stop,
    /// Removes what this scope had set.
    Unset,
}

/// `control.set.v1`, on the compacted controls topic, keyed by scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControlRecord {
    /// What it applies to.
    pub scope: Scope,
    /// What is asked.
    pub control: Control,
    /// Counts up within a scope: the greater wins.
    pub version: u64,
    /// Who asked.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// When.
    pub at: Timestamp,
}
