//! Rows and what they hold; written by hand, because the derive of the database crate would build its drivers twice.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{JournalError, LastLook};
use crate::clock::{from_millis, to_millis};
use crate::contract::{Conversation, ConversationId, ConversationKind, Effect, Mode, ReplySend, Revision, TurnId};
use crate::error::Problem;
use crate::policy::turn::TurnState;

/// A conversation as the file holds it.
#[derive(Debug, Clone)]
pub(super) struct ConversationRow {
    pub(super) conversation: Conversation,
    pub(super) mode: Option<Mode>,
    pub(super) trusted: bool,
    pub(super) next_seq: u64,
    pub(super) aligned_session: i64,
    pub(super) in_a_row: u32,
    pub(super) turns: TurnState,
    pub(super) look: Option<LastLook>,
}

/// A command as the file holds it.
#[derive(Debug, Clone)]
pub(super) struct CommandRow {
    pub(super) send: ReplySend,
    pub(super) state: CommandState,
    pub(super) received_at: Timestamp,
    pub(super) tried_at: Option<Timestamp>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) attempts: u32,
    pub(super) watermark: u64,
    pub(super) typed_at: Option<Timestamp>,
    pub(super) submitted_at: Option<Timestamp>,
    pub(super) own_seq: Option<u64>,
    pub(super) withdrawn: bool,
}

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandState {
    Queued,
    Intent,
    Submitting,
    Ended,
}

/// A turn as the file holds it.
#[derive(Debug, Clone)]
pub(super) struct TurnRow {
    pub(super) id: TurnId,
    pub(super) conversation: ConversationId,
    pub(super) number: u64,
    pub(super) revision: Revision,
    pub(super) doubtful: bool,
    pub(super) after_seq: u64,
    pub(super) last_seq: u64,
    pub(super) last_at: Timestamp,
    pub(super) published_revision: Revision,
    pub(super) published_at: Option<Timestamp>,
    pub(super) recorded_revision: Revision,
    pub(super) effect: Option<Effect>,
}

/// What was read back from the file makes no sense.
pub(super) fn corrupt(what: impl std::fmt::Display) -> JournalError {
    JournalError::Storage(Problem::new(
        format!("a row of the journal cannot be understood ({what})"),
        "journal.path",
        "Move the file away; a new journal starts with its own id, and nothing is sent twice",
    ))
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &SqliteRow, column: &str) -> Result<u64, JournalError> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(corrupt)
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, JournalError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_millis))
}

pub(super) fn certain_time(row: &SqliteRow, column: &str) -> Result<Timestamp, JournalError> {
    Ok(from_millis(row.try_get(column)?))
}

pub(super) fn parsed<T>(row: &SqliteRow, column: &str) -> Result<T, JournalError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    row.try_get::<&str, _>(column)?.parse().map_err(corrupt)
}

pub(super) fn small(row: &SqliteRow, column: &str) -> Result<u32, JournalError> {
    let number: i64 = row.try_get(column)?;
    u32::try_from(number).map_err(corrupt)
}

impl ConversationRow {
    pub(super) fn from_row(row: &SqliteRow) -> Result<Self, JournalError> {
        let kind = match row.try_get::<&str, _>("kind")? {
            "group" => ConversationKind::Group,
            _ => ConversationKind::Direct,
        };
        let conversation = Conversation {
            id: ConversationId(row.try_get("id")?),
            application: row.try_get("application")?,
            network: row.try_get("network")?,
            account: row.try_get("account")?,
            peer: row.try_get("peer")?,
            kind,
        };
        let mode = row.try_get::<Option<&str>, _>("mode")?.map(str::parse).transpose().map_err(corrupt)?;
        Ok(Self {
            conversation,
            mode,
            trusted: row.try_get("trusted")?,
            next_seq: unsigned(row, "next_seq")?,
            aligned_session: row.try_get("aligned_session")?,
            in_a_row: small(row, "in_a_row")?,
            turns: serde_json::from_str(row.try_get("turns")?).map_err(corrupt)?,
            look: last_look(row)?,
        })
    }

    pub(super) async fn load(tx: &mut SqliteConnection, id: ConversationId) -> Result<Option<Self>, JournalError> {
        let row = sqlx::query("select * from conversations where id = ?").bind(id.0).fetch_optional(tx).await?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// The row of this conversation, made if it is not there; its names are those of now.
    pub(super) async fn make(tx: &mut SqliteConnection, conversation: &Conversation) -> Result<Self, JournalError> {
        let kind = match conversation.kind {
            ConversationKind::Direct => "direct",
            ConversationKind::Group => "group",
        };
        let row = sqlx::query(
            "insert into conversations (id, application, network, account, peer, kind) values (?1, ?2, ?3, ?4, ?5, ?6) \
             on conflict (id) do update set application = ?2, network = ?3, account = ?4, peer = ?5, kind = ?6 \
             returning *",
        )
        .bind(conversation.id.0)
        .bind(&conversation.application)
        .bind(&conversation.network)
        .bind(&conversation.account)
        .bind(&conversation.peer)
        .bind(kind)
        .fetch_one(tx)
        .await?;
        Self::from_row(&row)
    }

    /// Those in which a turn lives.
    pub(super) async fn live(tx: &mut SqliteConnection) -> Result<Vec<Self>, JournalError> {
        let rows = sqlx::query("select * from conversations where live = 1").fetch_all(tx).await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Writes everything back but the names.
    pub(super) async fn save(&self, tx: &mut SqliteConnection) -> Result<(), JournalError> {
        let look = self.look.as_ref();
        sqlx::query(
            "update conversations set mode = ?2, trusted = ?3, next_seq = ?4, aligned_session = ?5, in_a_row = ?6, \
             turns = ?7, live = ?8, look_digest = ?9, look_aligned = ?10, look_at_bottom = ?11, look_transcript = ?12, \
             look_at = ?13 where id = ?1",
        )
        .bind(self.conversation.id.0)
        .bind(self.mode.map(Mode::as_str))
        .bind(self.trusted)
        .bind(signed(self.next_seq))
        .bind(self.aligned_session)
        .bind(i64::from(self.in_a_row))
        .bind(serde_json::to_string(&self.turns).map_err(corrupt)?)
        .bind(self.turns.open.is_some() || self.turns.out.is_some())
        .bind(look.map(|look| look.pane_digest.cast_signed()))
        .bind(look.map(|look| look.aligned))
        .bind(look.map(|look| look.at_bottom))
        .bind(look.map(|look| look.transcript.as_str()))
        .bind(look.map(|look| to_millis(look.at)))
        .execute(tx)
        .await?;
        Ok(())
    }
}

fn last_look(row: &SqliteRow) -> Result<Option<LastLook>, JournalError> {
    let Some(at) = time(row, "look_at")? else { return Ok(None) };
    Ok(Some(LastLook {
        pane_digest: row.try_get::<i64, _>("look_digest")?.cast_unsigned(),
        aligned: row.try_get("look_aligned")?,
        at_bottom: row.try_get("look_at_bottom")?,
        transcript: row.try_get("look_transcript")?,
        at,
    }))
}

impl CommandRow {
    pub(super) fn from_row(row: &SqliteRow) -> Result<Self, JournalError> {
        let state = match row.try_get::<&str, _>("state")? {
            "queued" => CommandState::Queued,
            "intent" => CommandState::Intent,
            "submitting" => CommandState::Submitting,
            _ => CommandState::Ended,
        };
        Ok(Self {
            send: serde_json::from_str(row.try_get("body")?).map_err(corrupt)?,
            state,
            received_at: certain_time(row, "received_at")?,
            tried_at: time(row, "tried_at")?,
            not_before: time(row, "not_before")?,
            attempts: small(row, "attempts")?,
            watermark: row.try_get::<Option<i64>, _>("watermark")?.map_or(Ok(0), u64::try_from).map_err(corrupt)?,
            typed_at: time(row, "typed_at")?,
            submitted_at: time(row, "submitted_at")?,
            own_seq: row.try_get::<Option<i64>, _>("own_seq")?.map(u64::try_from).transpose().map_err(corrupt)?,
            withdrawn: row.try_get::<Option<&str>, _>("withdrawn")?.is_some(),
        })
    }

    pub(super) async fn load(
        tx: &mut SqliteConnection,
        turn: TurnId,
        revision: Revision,
    ) -> Result<Option<Self>, JournalError> {
        let row = sqlx::query("select * from commands where turn = ? and revision = ?")
            .bind(turn.0)
            .bind(revision.0)
            .fetch_optional(tx)
            .await?;
        row.as_ref().map(Self::from_row).transpose()
    }
}

impl TurnRow {
    pub(super) fn from_row(row: &SqliteRow) -> Result<Self, JournalError> {
        Ok(Self {
            id: TurnId(row.try_get::<Uuid, _>("id")?),
            conversation: ConversationId(row.try_get::<Uuid, _>("conversation")?),
            number: unsigned(row, "number")?,
            revision: Revision(small(row, "revision")?),
            doubtful: row.try_get("doubtful")?,
            after_seq: unsigned(row, "after_seq")?,
            last_seq: unsigned(row, "last_seq")?,
            last_at: certain_time(row, "last_at")?,
            published_revision: Revision(small(row, "published_revision")?),
            published_at: time(row, "published_at")?,
            recorded_revision: Revision(small(row, "recorded_revision")?),
            effect: row.try_get::<Option<&str>, _>("effect")?.map(str::parse).transpose().map_err(corrupt)?,
        })
    }

    pub(super) async fn load(tx: &mut SqliteConnection, id: TurnId) -> Result<Option<Self>, JournalError> {
        let row = sqlx::query("select * from turns where id = ?").bind(id.0).fetch_optional(tx).await?;
        row.as_ref().map(Self::from_row).transpose()
    }
}
