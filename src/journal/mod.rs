//! The desktop's authority: one SQLite file that decides what was said, which messages make a turn, and whether a key
//! may be pressed. Every public method is one transaction.

mod types;

pub use types::{
    FenceVerdict, IntentState, JournalError, LastLook, NewMessage, OwnLine, Refusal, SendOrder, TurnSettings,
    Unfinished,
};

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{
    Command, ControlRecord, Conversation, ConversationId, DesktopId, Effect, Evidence, JournalId, MessagesDetected,
    ReplyOutcome, Revision, Timings, TurnId,
};

/// An open journal. Cheap to clone. One process at a time: the file is locked.
#[derive(Debug, Clone)]
pub struct Journal {}

impl Journal {
    /// Opens the journal at `path`, makes it if it is not there, and locks it against a second process.
    pub async fn open(_path: &Path, _desktop: DesktopId, _settings: TurnSettings) -> Result<Self, JournalError> {
        unimplemented!()
    }
    /// This file's own id.
    pub fn id(&self) -> JournalId {
        unimplemented!()
    }

    // ---- capture writes, in one transaction a look --------------------------------------------------------------

    /// What the last look at this conversation left behind; `None` before the first one ever.
    pub async fn last_look(&self, _conversation: ConversationId) -> Result<Option<LastLook>, JournalError> {
        unimplemented!()
    }
    /// Records a look: the messages that are new (possibly none), the pane's digest, whether the view was aligned and
    /// at the bottom. Decides directions against submitting intents, joins or opens the turn, raises its revision.
    pub async fn record_look(
        &self,
        _conversation: &Conversation,
        _new: Vec<NewMessage>,
        _look: LastLook,
        _now: Timestamp,
    ) -> Result<(), JournalError> {
        unimplemented!()
    }

    // ---- the publisher moves rows to Kafka and records to the journal --------------------------------------------

    /// Turns that are quiet (or over the longest wait) and not yet acknowledged at their revision.
    pub async fn turns_to_publish(&self, _now: Timestamp) -> Result<Vec<MessagesDetected>, JournalError> {
        unimplemented!()
    }
    /// The turn at this revision went to Kafka; it is offered again when no acknowledgement comes in time.
    pub async fn turn_published(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _now: Timestamp,
    ) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Outcomes that the ledger has not acknowledged and that are due (again).
    pub async fn outcomes_to_publish(&self, _now: Timestamp) -> Result<Vec<ReplyOutcome>, JournalError> {
        unimplemented!()
    }
    /// The outcome went to Kafka.
    pub async fn outcome_published(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _now: Timestamp,
    ) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// A command from Kafka; repeats are ignored. A send for a turn this journal does not hold, or whose journal id is
    /// another, is refused with an outcome where one can be addressed.
    pub async fn accept(&self, _command: Command, _now: Timestamp) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// A control; the greater version of a scope wins. A stop ends what is queued in its scope as `off`.
    pub async fn apply_control(&self, _record: &ControlRecord, _now: Timestamp) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Everything unacknowledged is due at once: at start, and when the cluster is another one.
    pub async fn publish_again(&self) -> Result<(), JournalError> {
        unimplemented!()
    }

    // ---- the executor --------------------------------------------------------------------------------------------

    /// The oldest command that may be tried now. Commands that cannot be executed any more (expired, stale, off)
    /// are ended with their outcome on the way. Conversations in `blocked` are passed over.
    pub async fn next_send(
        &self,
        _blocked: &[ConversationId],
        _now: Timestamp,
    ) -> Result<Option<SendOrder>, JournalError> {
        unimplemented!()
    }
    /// Fence and intent in one transaction, before the first key.
    pub async fn begin_intent(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        unimplemented!()
    }
    /// The same fence again and `submitting`, with the watermark, just before Enter. `pane_digest` must be that of the
    /// last recorded look, or the verdict is `Wait`.
    pub async fn begin_submit(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _pane_digest: u64,
        _now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        unimplemented!()
    }
    /// Nothing was sent and our text is out of the input: the command goes back to be tried again, not before `after`.
    pub async fn abandon_intent(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _after: Duration,
        _now: Timestamp,
    ) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// The first own line below the watermark of this submitting intent, if it has been seen.
    pub async fn own_line(&self, _turn: TurnId, _revision: Revision) -> Result<Option<OwnLine>, JournalError> {
        unimplemented!()
    }
    /// Ends the command with its effect and makes the outcome, once; `confirmed` never regresses.
    pub async fn end(
        &self,
        _turn: TurnId,
        _revision: Revision,
        _effect: Effect,
        _reason: &str,
        _evidence: Option<Evidence>,
        _timings: Timings,
        _now: Timestamp,
    ) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Intents that a dead executor left, to be reconciled by reading before anything is typed.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, JournalError> {
        unimplemented!()
    }
}
