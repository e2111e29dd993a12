//! What crosses a boundary: ids, effects, records, and the one codec that turns them into bytes and back. Pure.

pub mod codec;
mod desks;
mod effect;
mod ids;
mod records;
pub mod wire;

pub use desks::{Account, AccountOwner, DesktopGreeted, DesktopHello, Notice, TurnEnded};
pub use effect::{Effect, Evidence, Timings};
pub use ids::{ConversationId, DesktopId, DraftVersion, InstanceId, InvalidDesktopId, JournalId, Revision, TurnId};
pub use records::{
    Authority, Command, ContextLine, Control, ControlRecord, Conversation, ConversationKind, Direction, Extraction,
    ExtractionMethod, MessagesDetected, Mode, OutcomeRecorded, ReplyOutcome, ReplySend, ReplyWithdraw, Scope,
    TurnMessage, TurnRecorded,
};
