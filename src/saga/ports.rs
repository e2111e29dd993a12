//! What the saga needs from others: a generator of replies, limits, memory. (The port `Ledger` stands beside it.)

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::contract::{ContextLine, Conversation, ConversationId, Mode, TurnId, TurnMessage};
use crate::error::{Class, Classified};

/// One question and its answer, as remembered from earlier turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What the other side wrote, lines joined by a line feed.
    pub inbound: String,
    /// What was sent.
    pub reply: String,
    /// When it was confirmed.
    pub at: Timestamp,
}

/// What a generator is given. Everything in it is data, never instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftRequest {
    /// The turn, for logs and idempotency.
    pub turn: TurnId,
    /// Who talks with whom; the recipient is decided here, never by a model.
    pub conversation: Conversation,
    /// What is to be answered, oldest first.
    pub messages: Vec<TurnMessage>,
    /// What stood above on the screen, oldest first.
    pub context: Vec<ContextLine>,
    /// Earlier exchanges of this conversation, oldest first.
    pub memory: Vec<Exchange>,
    /// Where the turn stands in its trace, as a W3C `traceparent`; no model is told.
    pub traceparent: Option<String>,
}

/// A reply that has passed validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What is to be typed.
    pub text: String,
    /// The provider's name from the settings.
    pub provider: String,
    /// How far this draft may go: a fallback may demand a person.
    pub ceiling: Mode,
}

/// Why there is no draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// Every provider of the chain failed, declined, or was skipped; one clause each, without chat text.
    #[error("no provider gave a reply: {}", .attempts.join("; "))]
    Exhausted {
        /// One clause a provider: its name and what happened.
        attempts: Vec<String>,
    },
    /// The turn's deadline ended first.
    #[error("the turn's deadline ended before a reply was there: {}", .attempts.join("; "))]
    Deadline {
        /// One clause a provider that was tried.
        attempts: Vec<String>,
    },
}

impl Classified for GenerationError {
    fn class(&self) -> Class {
        Class::Permanent
    }
}

/// Writes replies.
#[async_trait]
pub trait Generator: Send + Sync + 'static {
    /// A reply to `request`, before `deadline`. The chain, its retries and its fallbacks are the implementation's.
    async fn draft(&self, request: &DraftRequest, deadline: Instant) -> Result<Draft, GenerationError>;
}

/// May this conversation have another generated reply now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Admitted,
    /// Not before this long.
    After(Duration),
}

/// The limits could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limits could not be asked: {0}")]
pub struct LimitsError(pub String);

/// Rates a conversation, shared by all workers where the implementation can.
#[async_trait]
pub trait Limits: Send + Sync + 'static {
    /// Takes one reply out of the conversation's rate.
    async fn admit(&self, conversation: ConversationId) -> Result<Admission, LimitsError>;
}

/// The memory could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session memory could not be asked: {0}")]
pub struct MemoryError(pub String);

/// Earlier exchanges of a conversation, for a day.
#[async_trait]
pub trait Memory: Send + Sync + 'static {
    /// What is remembered, oldest first.
    async fn recall(&self, conversation: ConversationId) -> Result<Vec<Exchange>, MemoryError>;
    /// Remembers a confirmed exchange.
    async fn remember(&self, conversation: ConversationId, exchange: Exchange) -> Result<(), MemoryError>;
    /// Forgets the conversation.
    async fn forget(&self, conversation: ConversationId) -> Result<(), MemoryError>;
}
