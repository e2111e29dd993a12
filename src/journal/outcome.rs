//! How turns and commands end, and the outcomes that tell the ledger. One outcome a turn and revision; it changes only
//! towards `confirmed`.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::rows::{CommandRow, CommandState, ConversationRow, TurnRow, corrupt};
use super::{Journal, JournalError};
use crate::clock::to_millis;
use crate::contract::{ConversationId, Effect, Evidence, ReplyOutcome, Revision, Timings, TurnId};
use crate::policy::turn::{self, Event, TurnState, Verdict};

/// How a turn or a command ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// What became of it.
    pub effect: Effect,
    /// Why, without chat text.
    pub reason: String,
    /// Where Enter was pressed.
    pub evidence: Option<Evidence>,
    /// When each step happened.
    pub timings: Timings,
}

impl Ending {
    /// An end without evidence and times.
    pub fn new(effect: Effect, reason: impl Into<String>) -> Self {
        Self { effect, reason: reason.into(), evidence: None, timings: Timings::default() }
    }
}

impl Journal {
    /// Feeds an event to the turns of a conversation and ends what it ends.
    pub(super) async fn tell(
        &self,
        tx: &mut SqliteConnection,
        row: &mut ConversationRow,
        event: Event,
        now: Timestamp,
    ) -> Result<Verdict, JournalError> {
        let before = row.turns.clone();
        let decision = turn::decide(&row.turns, &self.rules(), event);
        row.turns = decision.state;
        for end in decision.ended {
            let reason = match end.effect {
                Effect::HumanReplied => "the person at the keyboard answered first",
                _ => "newer inbound text came before Enter",
            };
            let id = TurnId::derive(self.id(), row.conversation.id, end.number);
            self.finish(tx, &before, row.conversation.id, id, &Ending::new(end.effect, reason), now).await?;
        }
        Ok(decision.verdict)
    }

    /// Ends a live turn for a reason that the turns themselves do not know.
    pub(super) async fn end_turn(
        &self,
        tx: &mut SqliteConnection,
        row: &mut ConversationRow,
        number: u64,
        ending: &Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let before = row.turns.clone();
        let id = TurnId::derive(self.id(), row.conversation.id, number);
        self.finish(tx, &before, row.conversation.id, id, ending, now).await?;
        self.tell(tx, row, Event::Ended { number, effect: ending.effect }, now).await?;
        Ok(())
    }

    /// Writes a turn's one effect, ends the commands of it that no key was pressed for, and makes its outcome.
    async fn finish(
        &self,
        tx: &mut SqliteConnection,
        before: &TurnState,
        conversation: ConversationId,
        id: TurnId,
        ending: &Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let Some(turn) = TurnRow::load(tx, id).await? else { return Ok(()) };
        if turn.effect.is_some() {
            return Ok(());
        }
        let after = turn::covers(before, turn.number).map_or(turn.after_seq, |(after, _)| after);
        sqlx::query("update turns set effect = ?, after_seq = ?, ended_at = ? where id = ?")
            .bind(ending.effect.as_str())
            .bind(super::rows::signed(after))
            .bind(to_millis(now))
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query("update commands set state = 'ended' where turn = ? and state = 'queued'")
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        self.put_outcome(tx, conversation, id, turn.revision, ending, now).await
    }

    /// Makes the outcome, or betters the one that is there. `confirmed` stays; evidence of sending beats the rest.
    pub(super) async fn put_outcome(
        &self,
        tx: &mut SqliteConnection,
        conversation: ConversationId,
        turn: TurnId,
        revision: Revision,
        ending: &Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let known = sqlx::query("select effect from outcomes where turn = ? and revision = ?")
            .bind(turn.0)
            .bind(revision.0)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = &known {
            let old: Effect = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            if !betters(old, ending.effect) {
                return Ok(());
            }
        }
        let outcome = ReplyOutcome {
            turn,
            revision,
            desktop: self.desktop().clone(),
            conversation,
            effect: ending.effect,
            reason: ending.reason.clone(),
            evidence: ending.evidence.clone(),
            timings: self.merge_timings(tx, turn, revision, ending.timings).await?,
        };
        // What was published of the old text may still be acknowledged: those acknowledgements settle nothing.
        sqlx::query(
            "insert into outcomes (turn, revision, conversation, effect, body, made_at) values (?1, ?2, ?3, ?4, ?5, ?6) \
             on conflict (turn, revision) do update set effect = ?4, body = ?5, published_at = null, \
             stale_acks = stale_acks + publications, publications = 0, acknowledged = 0",
        )
        .bind(turn.0)
        .bind(revision.0)
        .bind(conversation.0)
        .bind(ending.effect.as_str())
        .bind(serde_json::to_string(&outcome).map_err(corrupt)?)
        .bind(to_millis(now))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The given times, filled up with those that the journal knows.
    pub(super) async fn merge_timings(
        &self,
        tx: &mut SqliteConnection,
        turn: TurnId,
        revision: Revision,
        given: Timings,
    ) -> Result<Timings, JournalError> {
        let detected = TurnRow::load(tx, turn).await?.map(|turn| turn.last_at);
        let command = CommandRow::load(tx, turn, revision).await?;
        let command = command.as_ref();
        Ok(Timings {
            detected_at: given.detected_at.or(detected),
            quiet_at: given.quiet_at.or_else(|| detected?.checked_add(self.settings().quiet).ok()),
            received_at: given.received_at.or(command.map(|command| command.received_at)),
            typed_at: given.typed_at.or(command.and_then(|command| command.typed_at)),
            submitted_at: given.submitted_at.or(command.and_then(|command| command.submitted_at)),
            shown_at: given.shown_at,
        })
    }

    /// What [`Journal::end`] does within its transaction.
    pub(super) async fn end_command(
        &self,
        tx: &mut SqliteConnection,
        turn: TurnId,
        revision: Revision,
        mut ending: Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let Some(held) = TurnRow::load(tx, turn).await? else { return Ok(()) };
        let Some(mut row) = ConversationRow::load(tx, held.conversation).await? else { return Ok(()) };
        let command = CommandRow::load(tx, turn, revision).await?;
        if command.as_ref().is_some_and(|command| command.state == CommandState::Submitting)
            && !(ending.effect.may_have_sent() || ending.effect == Effect::NeedsAttention)
        {
            ending.reason = format!("Enter had been allowed when it ended as {}: {}", ending.effect, ending.reason);
            ending.effect = Effect::Unverifiable;
        }
        sqlx::query("update commands set state = 'ended' where turn = ? and revision = ?")
            .bind(turn.0)
            .bind(revision.0)
            .execute(&mut *tx)
            .await?;
        let old = held.effect;
        if held.revision == revision && old.is_none() {
            self.end_turn(tx, &mut row, held.number, &ending, now).await?;
        } else if old.is_none_or(|old| betters(old, ending.effect)) || held.revision != revision {
            self.put_outcome(tx, held.conversation, turn, revision, &ending, now).await?;
            self.better_turn(tx, &held, revision, ending.effect).await?;
        }
        if ending.effect == Effect::Confirmed {
            row.trusted = true;
        }
        row.save(tx).await
    }

    /// The turn's one effect follows its outcome's.
    async fn better_turn(
        &self,
        tx: &mut SqliteConnection,
        held: &TurnRow,
        revision: Revision,
        effect: Effect,
    ) -> Result<(), JournalError> {
        if held.revision == revision && held.effect.is_some_and(|old| betters(old, effect)) {
            sqlx::query("update turns set effect = ? where id = ?")
                .bind(effect.as_str())
                .bind(held.id.0)
                .execute(tx)
                .await?;
        }
        Ok(())
    }
}

/// Whether `new` may take the place of `old`: only evidence of sending may, and nothing that says less.
pub(super) fn betters(old: Effect, new: Effect) -> bool {
    match new {
        Effect::Confirmed => old != Effect::Confirmed,
        Effect::Unverifiable => !old.may_have_sent(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_only_get_better() {
        for old in Effect::ALL {
            assert!(!betters(Effect::Confirmed, old));
            assert!(!betters(old, old));
        }
        assert!(betters(Effect::Unverifiable, Effect::Confirmed));
        assert!(betters(Effect::Superseded, Effect::Confirmed));
        assert!(!betters(Effect::Unverifiable, Effect::Failed));
    }
}
