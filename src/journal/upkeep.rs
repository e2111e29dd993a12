//! What people and operators ask the journal: overviews, modes, retention, forgetting.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::rows::{ConversationRow, parsed, unsigned};
use super::{ControlState, ConversationState, Journal, JournalError, OpenTurn, Sizes};
use crate::clock::{millis, to_millis};
use crate::contract::{Conversation, ConversationId, Mode, Revision, TurnId};
use crate::policy::mode::{Ceilings, Doubt, Halt};

impl Journal {
    /// The mode of a conversation and whether it is paused or stopped, before any doubt about a turn.
    pub(super) async fn base_mode(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
    ) -> Result<(Mode, Halt), JournalError> {
        let standing = self.standing(tx, &row.conversation).await?;
        Ok((self.ceilings(&row.conversation, row.mode, standing.mode).effective(), standing.halt))
    }

    pub(super) fn ceilings(&self, conversation: &Conversation, own: Option<Mode>, controls: Option<Mode>) -> Ceilings {
        let settings = self.settings();
        Ceilings {
            desktop: settings.mode,
            profile: settings.profile_modes.get(&conversation.application).copied(),
            conversation: own,
            controls,
        }
    }

    /// What speaks for a person's eye, given whether the reading is doubtful.
    pub(super) fn doubt(&self, row: &ConversationRow, reading: bool) -> Doubt {
        let named = |peer: &String| peer == "*" || *peer == row.conversation.peer;
        Doubt { reading, new_peer: !row.trusted && !self.settings().trusted_peers.iter().any(named) }
    }

    pub(super) async fn mode_of(&self, conversation: &Conversation) -> Result<(Mode, Halt), JournalError> {
        let mut tx = self.begin().await?;
        let own = ConversationRow::load(&mut tx, conversation.id).await?.and_then(|row| row.mode);
        let standing = self.standing(&mut tx, conversation).await?;
        tx.commit().await?;
        Ok((self.ceilings(conversation, own, standing.mode).effective(), standing.halt))
    }

    pub(super) async fn overview(&self) -> Result<Vec<ConversationState>, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query("select * from conversations where application <> '' order by peer")
            .fetch_all(&mut *tx)
            .await?;
        let mut all = Vec::new();
        for row in &rows {
            let row = ConversationRow::from_row(row)?;
            let (mode, halt) = self.base_mode(&mut tx, &row).await?;
            let live = [&row.turns.out, &row.turns.open].into_iter().flatten().map(|turn| OpenTurn {
                turn: TurnId::derive(self.id(), row.conversation.id, turn.number),
                number: turn.number,
                revision: turn.revision,
                stage: turn.stage,
                last_at: turn.last_at,
            });
            all.push(ConversationState {
                mode,
                halt,
                trusted: row.trusted,
                aligned: row.aligned_session == self.session(),
                open_turns: live.collect(),
                in_a_row: row.in_a_row,
                last_look: row.look.as_ref().map(|look| look.at),
                conversation: row.conversation.clone(),
            });
        }
        tx.commit().await?;
        Ok(all)
    }

    pub(super) async fn control_states(&self) -> Result<Vec<ControlState>, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query("select * from controls order by scope").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(ControlState {
                    scope: parsed(row, "scope")?,
                    standing: super::command::standing(row)?,
                    version: unsigned(row, "version")?,
                    by: row.try_get("sent_by")?,
                    why: row.try_get("why")?,
                })
            })
            .collect()
    }

    pub(super) async fn put_mode(
        &self,
        id: ConversationId,
        mode: Option<Mode>,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let mut tx = self.begin().await?;
        let Some(mut row) = ConversationRow::load(&mut tx, id).await? else { return Ok(false) };
        row.mode = mode;
        row.save(&mut tx).await?;
        self.settle(&mut tx, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn put_trust(&self, id: ConversationId) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        sqlx::query("update conversations set trusted = 1 where id = ?").bind(id.0).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes old text, then old rows; nothing that is still open.
    pub(super) async fn delete_old(
        &self,
        now: Timestamp,
        keep_text: Duration,
        keep_rows: Duration,
    ) -> Result<(), JournalError> {
        let text_before = to_millis(now).saturating_sub(millis(keep_text));
        let rows_before = to_millis(now).saturating_sub(millis(keep_rows));
        let mut tx = self.begin().await?;
        for statement in [
            "update messages set text = '', sender = '' where detected_at < ? and text <> '' \
             and conversation not in (select id from conversations where live = 1)",
            "update commands set body = json_set(body, '$.text', '') where received_at < ? and state = 'ended'",
            "update conversations set look_transcript = null, look_at = null, look_digest = null, look_aligned = null, \
             look_at_bottom = null where look_at < ? and live = 0",
        ] {
            sqlx::query(statement).bind(text_before).execute(&mut *tx).await?;
        }
        for statement in [
            "delete from messages where detected_at < ? \
             and conversation not in (select id from conversations where live = 1)",
            "delete from outcomes where made_at < ? and acknowledged = 1",
            "delete from commands where received_at < ? and state = 'ended'",
            "delete from turns where ended_at < ? and effect is not null \
             and not exists (select 1 from outcomes o where o.turn = turns.id and o.acknowledged = 0)",
            "delete from refused_commands where at < ?",
            "delete from sends where at < ?",
        ] {
            sqlx::query(statement).bind(rows_before).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        self.wipe_log().await
    }

    /// Removes all text and names of a peer. Ids and counters stay: a turn's id must never be given twice.
    pub(super) async fn delete_peer(&self, peer: &str, now: Timestamp) -> Result<u64, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query("select * from conversations where peer = ? and application <> ''")
            .bind(peer)
            .fetch_all(&mut *tx)
            .await?;
        for row in &rows {
            let mut row = ConversationRow::from_row(row)?;
            self.silence(&mut tx, &mut row, now).await?;
            row.look = None;
            row.mode = None;
            row.trusted = false;
            row.aligned_session = 0;
            row.save(&mut tx).await?;
            for statement in [
                "delete from messages where conversation = ?",
                "update commands set body = json_set(body, '$.text', '') where conversation = ? and state = 'ended'",
                "update turns set silent = 1 where conversation = ?",
                "update outcomes set unheld = 1 where conversation = ?",
                "update conversations set application = '', network = '', account = '', peer = '' where id = ?",
            ] {
                sqlx::query(statement).bind(row.conversation.id.0).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        self.wipe_log().await?;
        Ok(rows.len() as u64)
    }

    /// Deleted text must not survive in the write-ahead log.
    async fn wipe_log(&self) -> Result<(), JournalError> {
        sqlx::query("pragma wal_checkpoint(truncate)").execute(self.pool()).await?;
        Ok(())
    }

    pub(super) async fn count_rows(&self) -> Result<Sizes, JournalError> {
        let row = sqlx::query(
            "select (select count(*) from messages) as messages, \
             (select count(*) from turns where effect is null) as open_turns, \
             (select count(*) from turns where recorded_revision < revision and silent = 0) as unrecorded_turns, \
             (select count(*) from outcomes where acknowledged = 0) as open_outcomes, \
             (select count(*) from commands where state = 'queued') as queued, \
             (select page_count * page_size from pragma_page_count(), pragma_page_size()) as bytes",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(Sizes {
            messages: unsigned(&row, "messages")?,
            open_turns: unsigned(&row, "open_turns")?,
            unrecorded_turns: unsigned(&row, "unrecorded_turns")?,
            open_outcomes: unsigned(&row, "open_outcomes")?,
            queued_commands: unsigned(&row, "queued")?,
            bytes: unsigned(&row, "bytes")?,
        })
    }

    pub(super) async fn effect_of(
        &self,
        turn: TurnId,
    ) -> Result<Option<(Revision, Option<crate::contract::Effect>)>, JournalError> {
        let mut tx = self.begin().await?;
        let held = super::rows::TurnRow::load(&mut tx, turn).await?;
        tx.commit().await?;
        Ok(held.map(|turn| (turn.revision, turn.effect)))
    }
}
