//! What the worker decides, in the log: one line a decision, with the ids, and why.

use super::{Applied, Decided, Decision, OpenSaga};
use crate::contract::{DesktopId, Effect, MessagesDetected, ReplyOutcome, ReplySend};

/// The turn is in the ledger, and this worker's to answer.
pub(super) fn recorded(detected: &MessagesDetected) {
    let MessagesDetected { turn, revision, desktop, mode, .. } = detected;
    let conversation = detected.conversation.id;
    tracing::info!(%turn, %revision, %conversation, %desktop, ?mode, "turn recorded");
}

/// The turn is in the ledger and has ended, because another desk answers for its account.
pub(super) fn not_owner(detected: &MessagesDetected, owner: &DesktopId) {
    let MessagesDetected { turn, revision, desktop, .. } = detected;
    let conversation = detected.conversation.id;
    tracing::info!(%turn, %revision, %conversation, %desktop, %owner, "turn recorded and left to another desk");
}

/// The turn was there already, at this revision or a newer one.
pub(super) fn known(detected: &MessagesDetected) {
    tracing::debug!(turn = %detected.turn, revision = %detected.revision, "turn was known");
}

/// Its worker was gone: this one goes on with it.
pub(super) fn taken_over(saga: &OpenSaga) {
    let MessagesDetected { turn, revision, .. } = &saga.detected;
    let conversation = saga.detected.conversation.id;
    tracing::info!(%turn, %revision, %conversation, phase = %saga.phase, takeovers = saga.takeovers, "turn taken over");
}

/// A draft is stored, and a person decides about it.
pub(super) fn waits(detected: &MessagesDetected, provider: &str) {
    let MessagesDetected { turn, revision, .. } = detected;
    let conversation = detected.conversation.id;
    tracing::info!(%turn, %revision, %conversation, provider, "draft waits for a person");
}

/// The command to type a reply is in the outbox.
pub(super) fn issued(send: &ReplySend, provider: &str) {
    let ReplySend { turn, revision, conversation, desktop, .. } = send;
    tracing::info!(%turn, %revision, %conversation, %desktop, provider, "reply issued");
}

/// It ended before anything was issued.
pub(super) fn ended(detected: &MessagesDetected, effect: Effect, reason: &str) {
    let MessagesDetected { turn, revision, .. } = detected;
    let conversation = detected.conversation.id;
    tracing::info!(%turn, %revision, %conversation, %effect, reason, "turn ended without a reply");
}

/// No outcome came in time.
pub(super) fn asked_back(detected: &MessagesDetected) {
    let MessagesDetected { turn, revision, desktop, .. } = detected;
    tracing::warn!(%turn, %revision, conversation = %detected.conversation.id, %desktop, "reply asked back");
}

/// Nobody knows what became of it.
pub(super) fn handed_over(detected: &MessagesDetected, reason: &str) {
    let MessagesDetected { turn, revision, desktop, .. } = detected;
    tracing::warn!(%turn, %revision, conversation = %detected.conversation.id, %desktop, reason, "reply handed over to a person");
}

/// A person has decided about a draft.
pub(super) fn decided(decision: &Decision, decided: &Decided) {
    let Decision { turn, version, by, .. } = decision;
    match decided {
        Decided::Issued(_) => tracing::info!(%turn, draft = %version, by, "draft approved"),
        Decided::Rejected => tracing::info!(%turn, draft = %version, by, "draft rejected"),
        Decided::Unknown | Decided::NotAwaiting(_) | Decided::OtherVersion(_) => {
            tracing::info!(%turn, draft = %version, by, "a decision about a draft came to nothing");
        }
    }
}

/// What an outcome came to.
pub(super) fn applied(outcome: &ReplyOutcome, applied: &Applied) {
    let ReplyOutcome { turn, revision, conversation, effect, .. } = outcome;
    match applied {
        Applied::Ended { .. } => tracing::info!(%turn, %revision, %conversation, %effect, "outcome applied"),
        Applied::Kept | Applied::Repeated => {
            tracing::debug!(%turn, %revision, %conversation, %effect, "outcome changed nothing");
        }
        Applied::Orphan => {
            tracing::info!(%turn, %revision, %conversation, %effect, "outcome kept for a turn that is not there yet");
        }
    }
}
