//! What desks and workers tell each other beside turns, commands and outcomes.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Conversation, ConversationId, DesktopId, Effect, InstanceId, JournalId, Revision, TurnId};

/// An account of an application: what one desktop at a time answers for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// The profile by which its windows are read, as `hexchat`.
    pub application: String,
    /// The network or service it is on.
    pub network: String,
    /// Its name there.
    pub account: String,
}

impl Account {
    /// The account of this conversation.
    pub fn of(conversation: &Conversation) -> Self {
        Self {
            application: conversation.application.clone(),
            network: conversation.network.clone(),
            account: conversation.account.clone(),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.application, self.network, self.account)
    }
}

/// `desktop.hello.v1`: a desktop runs, and would answer for these accounts. Said at start, when the accounts change,
/// as a heartbeat, and once more at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DesktopHello {
    /// Its name.
    pub desktop: DesktopId,
    /// The journal it works with.
    pub journal: JournalId,
    /// This run of its process.
    pub instance: InstanceId,
    /// When the process started, on its own clock.
    pub started_at: Timestamp,
    /// Its release, as `0.2.0`.
    pub version: String,
    /// The machine's name.
    pub host: String,
    /// Names the journal's very file on its running machine, where it is known: of two processes with one seat, the
    /// earlier one has ended, because the file is locked. A copy has another seat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seat: String,
    /// The accounts whose conversations it reads.
    pub accounts: Vec<Account>,
    /// How long until the next hello, in milliseconds.
    pub interval_ms: u64,
    /// It stops and types nothing more: others may have its accounts at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// When it was said, on the desktop's clock; the answer gives it back.
    pub at: Timestamp,
}

/// Who answers for an account, as one desktop is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountOwner {
    /// The account.
    pub account: Account,
    /// Whether the desktop that is told may answer for it.
    pub owned: bool,
    /// The desktop that may.
    pub owner: DesktopId,
    /// The ownership's number: it rises with each new owner, and with each new run of the owner's process.
    pub token: u64,
    /// The number with which this owner's journal came into it: since then no other journal has had it.
    pub since: u64,
    /// Replies that were issued under an older number since then may be typed after this many milliseconds: until then
    /// the process before, if it is alive after all, might type them too.
    pub inherit_ms: u64,
    /// Why, without chat text; empty for an owner.
    pub why: String,
}

/// `desktop.greeted.v1`: the answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DesktopGreeted {
    /// The desktop that said hello.
    pub desktop: DesktopId,
    /// Its journal.
    pub journal: JournalId,
    /// The run of its process.
    pub instance: InstanceId,
    /// The hello's own time: the ownerships are counted from it, on the clock that set it.
    pub hello_at: Timestamp,
    /// How long the ownerships hold unless renewed, in milliseconds.
    pub hold_ms: u64,
    /// Another process says hello with a copy of this journal.
    pub cloned: bool,
    /// This process is the one that may type; a newer one with the same journal takes that away.
    pub current: bool,
    /// One for each account of the hello.
    pub accounts: Vec<AccountOwner>,
}

/// `turn.ended.v1`: the worker has ended a turn, and no reply to this revision will come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnEnded {
    /// The turn.
    pub turn: TurnId,
    /// The revision that was ended; one that has grown since goes on.
    pub revision: Revision,
    /// The journal that holds it.
    pub journal: JournalId,
    /// The desktop that is told.
    pub desktop: DesktopId,
    /// The conversation.
    pub conversation: ConversationId,
    /// What became of it.
    pub effect: Effect,
    /// Why, as a sentence without chat text.
    pub reason: String,
}

/// Everything that travels on the notices topic: what workers tell a desktop beside commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The answer to a hello.
    Greeted(DesktopGreeted),
    /// A turn has ended without a reply.
    TurnEnded(TurnEnded),
}

impl Notice {
    /// The desktop that is told.
    pub fn desktop(&self) -> &DesktopId {
        match self {
            Self::Greeted(greeted) => &greeted.desktop,
            Self::TurnEnded(ended) => &ended.desktop,
        }
    }
}
