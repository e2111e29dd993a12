//! One turn from where it stands to a command, a waiting draft, or an end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::handler::Inner;
use super::state::Phase;
use super::told;
use super::{
    Admission, Change, Draft, DraftRequest, EntryId, GenerationError, Kept, LedgerError, OpenSaga, PendingCommand,
    Rejected, StoredDraft, Transition, Transitioned,
};
use crate::contract::{Authority, Command, Effect, Mode, ReplySend};
use crate::failpoint;
use crate::retry::{Schedule, retry};

/// A ledger that is away for a moment is waited for; after that the lease ends and recovery goes on.
const LEDGER_WAIT: Schedule = Schedule {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(1),
    give_up_after: Some(Duration::from_secs(5)),
};

/// Why work on a turn ended before its end.
pub(super) enum Stop {
    /// Somebody else has it: a newer revision, another worker, an outcome.
    Lost,
    /// The ledger is away: recovery goes on with it.
    Ledger(LedgerError),
    /// The ledger will never take this.
    Rejected(Rejected),
    /// It must end in this effect.
    End(Effect, String),
}

impl Inner {
    /// Goes on with a saga whose lease this worker holds.
    pub(super) async fn answer(self: &Arc<Self>, saga: OpenSaga, quota: Kept) {
        let deadline = Instant::now() + Duration::from_millis(self.settings.reply_deadline_ms);
        let (turn, revision) = (saga.detected.turn, saga.detected.revision);
        let end = match self.go_on(&saga, quota, deadline).await {
            Ok(()) => return,
            Err(Stop::End(effect, reason)) => self.abandon(&saga, effect, reason).await,
            Err(Stop::Rejected(why)) => self.abandon(&saga, Effect::Failed, why.to_string()).await,
            Err(stop) => Err(stop),
        };
        match end {
            Ok(()) => {}
            Err(Stop::Lost) => tracing::debug!(%turn, %revision, "somebody else has this turn now"),
            Err(Stop::Ledger(error)) => tracing::warn!(%turn, %revision, %error, "the turn waits for recovery"),
            Err(Stop::Rejected(why)) => tracing::error!(%turn, %revision, %why, "the turn could not be ended"),
            Err(Stop::End(effect, _)) => tracing::error!(%turn, %revision, %effect, "the turn could not be ended"),
        }
    }

    async fn go_on(&self, saga: &OpenSaga, quota: Kept, deadline: Instant) -> Result<(), Stop> {
        if saga.detected.mode == Mode::Off {
            return Err(Stop::End(Effect::Off, "the turn's mode is off".to_owned()));
        }
        if saga.takeovers > self.settings.takeovers_max {
            return Err(Stop::End(Effect::Failed, format!("given up after {} tries", saga.takeovers)));
        }
        self.reserve(saga, quota).await?;
        let (draft, stored) = match (&saga.phase, &saga.draft) {
            (Phase::Drafted, Some(StoredDraft { draft, .. })) => (draft.clone(), true),
            (Phase::Drafted, None) => return Err(Stop::End(Effect::Failed, "the stored draft is gone".to_owned())),
            _ => (self.draft(saga, deadline).await?, false),
        };
        // The draft and what becomes of it are one write, unless somebody has stored the draft before.
        let mut changes = if stored { Vec::new() } else { vec![Change::StoreDraft(draft.clone())] };
        match saga.detected.mode.min(draft.ceiling) {
            Mode::Off => Err(Stop::End(Effect::Off, "the provider's ceiling is off".to_owned())),
            Mode::Draft => {
                let lifetime = Duration::from_millis(self.settings.approval_lifetime_ms);
                changes.push(Change::RequestApproval { lifetime });
                self.change(saga, changes).await?;
                told::waits(&saga.detected, &draft.provider);
                Ok(())
            }
            Mode::Auto => self.issue(saga, draft, changes).await,
        }
    }

    /// Sees to it that one reply of the day's quota is kept for this turn before a model is asked.
    async fn reserve(&self, saga: &OpenSaga, quota: Kept) -> Result<(), Stop> {
        let exhausted = match quota {
            Kept::Reserved => false,
            Kept::Exhausted => true,
            Kept::NotAsked if saga.phase != Phase::Recorded => false,
            Kept::NotAsked => self.change(saga, vec![Change::ReserveQuota]).await? == Transitioned::QuotaExhausted,
        };
        if exhausted {
            return Err(Stop::End(Effect::Capped, "the day's quota of replies is used up".to_owned()));
        }
        Ok(())
    }

    /// Asks limits, memory and generator within one deadline.
    async fn draft(&self, saga: &OpenSaga, deadline: Instant) -> Result<Draft, Stop> {
        let late = || Stop::End(Effect::NeedsAttention, "no reply was there when the turn's deadline ended".to_owned());
        let drafted = timeout_at(deadline, self.generate(saga, deadline)).await.map_err(|_| late())??;
        if drafted.text.trim().is_empty() {
            return Err(Stop::End(Effect::Failed, format!("{} gave an empty reply", drafted.provider)));
        }
        failpoint::reach("worker.drafted");
        Ok(drafted)
    }

    async fn generate(&self, saga: &OpenSaga, deadline: Instant) -> Result<Draft, Stop> {
        let detected = &saga.detected;
        let turn = detected.turn;
        let ceiling = self.admit(saga, deadline).await?;
        let memory = self.ports.memory.recall(detected.conversation.id).await.unwrap_or_else(|error| {
            tracing::warn!(%turn, %error, "answering from what is on the screen alone");
            Vec::new()
        });
        let request = DraftRequest {
            turn,
            conversation: detected.conversation.clone(),
            messages: detected.messages.clone(),
            context: detected.context.clone(),
            memory,
            traceparent: detected.traceparent.clone(),
        };
        let mut draft = self.ports.generator.draft(&request, deadline).await.map_err(|error| {
            let reason = match &error {
                GenerationError::Exhausted { .. } | GenerationError::Deadline { .. } => error.to_string(),
            };
            Stop::End(Effect::NeedsAttention, reason.chars().take(1_000).collect())
        })?;
        draft.ceiling = draft.ceiling.min(ceiling);
        Ok(draft)
    }

    /// Waits for the conversation's rate where the deadline allows it. Limits that cannot be asked demand a person.
    async fn admit(&self, saga: &OpenSaga, deadline: Instant) -> Result<Mode, Stop> {
        let (turn, conversation) = (saga.detected.turn, saga.detected.conversation.id);
        loop {
            match self.ports.limits.admit(conversation).await {
                Ok(Admission::Admitted) => return Ok(Mode::Auto),
                Ok(Admission::After(wait)) if Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
                }
                Ok(Admission::After(_)) => {
                    return Err(Stop::End(Effect::Capped, "the conversation's rate of replies is reached".to_owned()));
                }
                Err(error) => {
                    tracing::warn!(%turn, %error, "a person has to approve this reply");
                    return Ok(Mode::Draft);
                }
            }
        }
    }

    /// Writes the command with the changes that lead to it, and publishes it.
    async fn issue(&self, saga: &OpenSaga, draft: Draft, mut changes: Vec<Change>) -> Result<(), Stop> {
        let detected = &saga.detected;
        let send = ReplySend {
            turn: detected.turn,
            revision: detected.revision,
            journal: detected.journal,
            desktop: detected.desktop.clone(),
            conversation: detected.conversation.id,
            text: draft.text,
            authority: Authority::Auto,
            issued_at: self.ports.clock.now(),
            owner_token: saga.owner_token,
        };
        changes.push(Change::Issue { send: send.clone(), answer_within: self.settings.answer_within() });
        let entry = self.written(saga, changes).await?;
        told::issued(&send, &draft.provider);
        failpoint::reach("worker.issued_unpublished");
        if let Some(entry) = entry {
            let traceparent = detected.traceparent.clone();
            self.publish(&PendingCommand { entry, command: Command::Send(send), traceparent }).await;
        }
        Ok(())
    }

    /// Ends it before anything was issued; the ledger undoes what was done in the same transaction.
    pub(super) async fn abandon(self: &Arc<Self>, saga: &OpenSaga, effect: Effect, reason: String) -> Result<(), Stop> {
        self.change(saga, vec![Change::Abandon { effect, reason: reason.clone() }]).await?;
        told::ended(&saga.detected, effect, &reason);
        self.tell_ended(&saga.detected, effect, &reason);
        Ok(())
    }

    /// Makes changes that write a command, and gives the command's place.
    pub(super) async fn written(&self, saga: &OpenSaga, changes: Vec<Change>) -> Result<Option<EntryId>, Stop> {
        match self.change(saga, changes).await? {
            Transitioned::Done { entry, .. } => Ok(entry),
            Transitioned::Lost | Transitioned::QuotaExhausted => Err(Stop::Lost),
        }
    }

    /// Makes changes of the saga, all or none. They have an id, so that asking again after an unknown commit changes
    /// nothing.
    pub(super) async fn change(&self, saga: &OpenSaga, changes: Vec<Change>) -> Result<Transitioned, Stop> {
        let transition = Transition {
            id: Uuid::now_v7(),
            turn: saga.detected.turn,
            revision: saga.detected.revision,
            lease: saga.lease,
            who: self.name.clone(),
            traceparent: saga.detected.traceparent.clone(),
            changes,
        };
        let ask = || self.groups.transition(transition.clone());
        match retry(LEDGER_WAIT, ask).await.map_err(Stop::Ledger)? {
            Ok(Transitioned::Lost) => Err(Stop::Lost),
            Ok(done) => Ok(done),
            Err(why) => Err(Stop::Rejected(why)),
        }
    }
}
