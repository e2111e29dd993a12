//! What the admin API answers with, and what it is asked with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contract::{Control, DraftVersion, Scope, TurnId};

/// One reply in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaSummary {
    /// The turn, which is the saga's id.
    pub turn: TurnId,
    /// The turn's revision.
    pub revision: u32,
    /// The account and the peer, as `account > peer`.
    pub conversation: String,
    /// Where it stands, as `awaiting_approval` or `ended(confirmed)`.
    pub state: String,
    /// The draft's version, where there is a draft.
    pub draft_version: Option<u32>,
    /// The draft's text, where there is one: only on the socket, for the person who decides.
    pub draft: Option<String>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One step of a reply's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryEvent {
    /// When.
    pub at: Timestamp,
    /// Where: a desktop's name, a worker's, or the person's.
    pub place: String,
    /// What happened.
    pub event: String,
    /// What is to be said of it.
    pub detail: String,
}

/// The whole life of one reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaStory {
    /// Where it stands.
    pub summary: SagaSummary,
    /// What the other side wrote, a line each.
    pub inbound: Vec<String>,
    /// Its steps on the desk and in the worker, in order of time: two clocks, so that steps close together may stand
    /// the wrong way round.
    pub events: Vec<StoryEvent>,
}

/// A desk as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeskView {
    /// Its name.
    pub desktop: String,
    /// Its journal's id.
    pub journal: String,
    /// Its machine; empty if it says no hello.
    pub host: String,
    /// Its release; empty if it says no hello.
    pub version: String,
    /// When it was last heard; nothing if it says no hello.
    pub last_seen: Option<Timestamp>,
    /// `fresh`, `silent`, `stopped`, `cloned`, or `no hello`.
    pub state: String,
    /// The accounts that it answers for.
    pub accounts: Vec<OwnedAccountView>,
}

/// An account that a desk answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedAccountView {
    /// The account, as `hexchat irc.example/me`.
    pub account: String,
    /// The ownership's number.
    pub token: u64,
    /// The next desk that asks gets it.
    pub lapsed: bool,
}

/// A person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decides.
    pub by: String,
    /// The draft they saw; without it, the one that is there now.
    pub draft_version: Option<DraftVersion>,
}

/// A person's no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Who decides.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// A control to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// What it applies to.
    pub scope: Scope,
    /// What is asked.
    pub control: Control,
    /// Who asks.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// A control that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlInForce {
    /// What it applies to.
    pub scope: Scope,
    /// What it says, as `mode draft, paused`.
    pub standing: String,
    /// Counts up within the scope.
    pub version: u64,
    /// Who asked last.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// One part of a process, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Whether it can work now.
    pub ready: bool,
    /// What is to be said of it.
    pub detail: String,
}

/// How a process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The role, as `run`.
    pub role: String,
    /// Every part.
    pub parts: Vec<Part>,
}

impl Health {
    /// Whether every part can work.
    pub fn ready(&self) -> bool {
        self.parts.iter().all(|part| part.ready)
    }
}
