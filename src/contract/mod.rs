//! What crosses a boundary: ids, effects, records, and the one codec that turns them into bytes and back. Pure.

pub mod codec;
mod effect;
mod ids;
mod records;
pub mod wire;

pub use effect::{Effect, Evidence, Timings};
pub use ids::{ConversationId, DesktopId, DraftVersion, InstanceId, InvalidDesktopId, JournalId, Revision, TurnId};
pub use records::{
    Account, AccountOwner, Authority, Command, ContextLine, Control, ControlRecord, Conversation, ConversationKind,
    DesktopGreeted, DesktopHello, Direction, Extraction, ExtractionMethod, MessagesDetected, Mode, Notice,
    OutcomeRecorded, ReplyOutcome, ReplySend, ReplyWithdraw, Scope, TurnEnded, TurnMessage, TurnRecorded,
};
