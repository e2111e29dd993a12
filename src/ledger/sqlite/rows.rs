//! What the other files share: rows to values and back, errors, one step of a saga with all that belongs to it.

use std::str::FromStr;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use crate::contract::{Effect, MessagesDetected, Revision, TurnId};
use crate::error::Problem;
use crate::saga::state::{Event, Phase, Settlement, State, settle, step};
use crate::saga::{Draft, LeaseToken, LedgerError, Rejected, StoredDraft};

/// Milliseconds of a day; a quota's day is a day of UTC.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Why an item could not be written: it is bad, or the database is.
pub(super) enum Fault {
    Bad(Rejected),
    Ledger(LedgerError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let code =
            error.as_database_error().and_then(|database| database.code()).and_then(|code| code.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH. The message names the constraint, never a value.
            Some(18..=20) => Self::Bad(Rejected(error.to_string())),
            _ => Self::Ledger(unavailable(&error)),
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Bad(rejected) => crate::ledger::refused_alone(rejected),
            Fault::Ledger(error) => error,
        }
    }
}

/// The sentence of a database error.
pub(super) fn unavailable(error: &sqlx::Error) -> LedgerError {
    LedgerError::Unavailable(error.to_string())
}

/// A value that this program wrote and can no longer read.
pub(super) fn damaged(what: &str) -> LedgerError {
    LedgerError::Storage(Problem::new(
        format!("a row holds {what} that cannot be read"),
        "the ledger",
        "Restore the file from a copy, or move it away to begin a new one",
    ))
}

/// A column of this type, parsed from its text.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T, LedgerError> {
    let text: String = row.try_get(column).map_err(|error| unavailable(&error))?;
    text.parse().map_err(|_| damaged(column))
}

/// A whole number that is never negative.
pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, LedgerError> {
    let value: i64 = row.try_get(column).map_err(|error| unavailable(&error))?;
    T::try_from(value).map_err(|_| damaged(column))
}

/// The ownership of the account that the saga's reply has to name.
pub(super) fn owner_token(row: &SqliteRow) -> Result<Option<u64>, LedgerError> {
    let token: Option<i64> = row.try_get("owner_token").map_err(|error| unavailable(&error))?;
    token.map(u64::try_from).transpose().map_err(|_| damaged("an ownership"))
}

/// What every change looks at first.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) turn: TurnId,
    pub(super) revision: Revision,
    pub(super) state: State,
    pub(super) lease: LeaseToken,
    pub(super) deadline_at: i64,
    pub(super) body: Option<String>,
}

impl Head {
    /// The turn as it was recorded, if its text is still held.
    pub(super) fn detected(&self) -> Result<Option<MessagesDetected>, LedgerError> {
        self.body.as_deref().map(serde_json::from_str).transpose().map_err(|_| damaged("a turn"))
    }
}

pub(super) fn state_of(row: &SqliteRow) -> Result<State, LedgerError> {
    match parsed::<Phase>(row, "state")? {
        Phase::Ended => Ok(State::Ended(parsed::<Effect>(row, "effect")?)),
        phase => Ok(State::Open(phase)),
    }
}

pub(super) fn head_of(row: &SqliteRow) -> Result<Head, LedgerError> {
    Ok(Head {
        turn: parsed(row, "turn")?,
        revision: Revision(number(row, "revision")?),
        state: state_of(row)?,
        lease: LeaseToken(number(row, "lease_token")?),
        deadline_at: number(row, "deadline_at")?,
        body: row.try_get("body").map_err(|error| unavailable(&error))?,
    })
}

/// The saga of this turn.
pub(super) async fn head(tx: &mut SqliteConnection, turn: TurnId) -> Result<Option<Head>, Fault> {
    let row =
        sqlx::query("select turn, revision, state, effect, lease_token, deadline_at, body from sagas where turn = ?")
            .bind(turn.to_string())
            .fetch_optional(tx)
            .await?;
    Ok(row.as_ref().map(head_of).transpose()?)
}

/// The newest draft of the turn that is still good and has its text.
pub(super) async fn draft(
    tx: &mut SqliteConnection,
    turn: TurnId,
    revision: Revision,
) -> Result<Option<StoredDraft>, Fault> {
    let row = sqlx::query(
        "select version, text, provider, ceiling from drafts
         where turn = ? and revision = ? and text is not null and discarded_at is null",
    )
    .bind(turn.to_string())
    .bind(revision.0)
    .fetch_optional(tx)
    .await?;
    Ok(row.as_ref().map(|row| draft_of(row, revision)).transpose()?)
}

pub(super) fn draft_of(row: &SqliteRow, revision: Revision) -> Result<StoredDraft, LedgerError> {
    Ok(StoredDraft {
        revision,
        version: crate::contract::DraftVersion(number(row, "version")?),
        draft: Draft {
            text: row.try_get("text").map_err(|error| unavailable(&error))?,
            provider: row.try_get("provider").map_err(|error| unavailable(&error))?,
            ceiling: parsed(row, "ceiling")?,
        },
    })
}

/// When, by whom, and with which id something happens.
#[derive(Debug, Clone)]
pub(super) struct Stamp<'a> {
    pub(super) id: Uuid,
    pub(super) now: i64,
    pub(super) who: &'a str,
    /// When each step happened on the desk, as JSON, where an outcome tells it.
    pub(super) times: Option<String>,
}

impl<'a> Stamp<'a> {
    /// A stamp with an id of its own.
    pub(super) fn new(now: i64, who: &'a str) -> Self {
        Self { id: Uuid::now_v7(), now, who, times: None }
    }
}

/// One line of the story.
pub(super) async fn tell(
    tx: &mut SqliteConnection,
    stamp: &Stamp<'_>,
    turn: TurnId,
    revision: Revision,
    event: &str,
    (from, to): (Option<State>, State),
    detail: &str,
) -> Result<(), Fault> {
    sqlx::query(
        "insert into events (id, turn, revision, at, who, event, state_from, state_to, detail, times)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(stamp.id.to_string())
    .bind(turn.to_string())
    .bind(revision.0)
    .bind(stamp.now)
    .bind(stamp.who)
    .bind(event)
    .bind(from.map(|state| state.to_string()))
    .bind(to.to_string())
    .bind(detail)
    .bind(stamp.times.as_deref())
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes one step of the table with all that belongs to it: the state, the story, the quota, the draft, and commands
/// that were not published yet. `None` if the table does not allow it.
pub(super) async fn advance(
    tx: &mut SqliteConnection,
    stamp: &Stamp<'_>,
    saga: &Head,
    event: Event,
    detail: &str,
) -> Result<Option<State>, Fault> {
    let Ok(next) = step(saga.state, event) else { return Ok(None) };
    tell(tx, stamp, saga.turn, saga.revision, event.as_str(), (Some(saga.state), next), detail).await?;
    sqlx::query("update sagas set state = ?, effect = ?, updated_at = ? where turn = ?")
        .bind(next.phase().as_str())
        .bind(next.effect().map(Effect::as_str))
        .bind(stamp.now)
        .bind(saga.turn.to_string())
        .execute(&mut *tx)
        .await?;
    let settlement = settle(saga.state, next);
    if let Some(settlement) = settlement {
        settle_quota(tx, saga, settlement).await?;
    }
    if settlement == Some(Settlement::Released) {
        sqlx::query("update drafts set discarded_at = ? where turn = ? and revision = ? and discarded_at is null")
            .bind(stamp.now)
            .bind(saga.turn.to_string())
            .bind(saga.revision.0)
            .execute(&mut *tx)
            .await?;
    }
    if next.effect().is_some() || event == Event::RevisionRaised {
        sqlx::query(
            "update outbox set cancelled_at = ? where turn = ? and published_at is null and cancelled_at is null",
        )
        .bind(stamp.now)
        .bind(saga.turn.to_string())
        .execute(&mut *tx)
        .await?;
    }
    Ok(Some(next))
}

async fn settle_quota(tx: &mut SqliteConnection, saga: &Head, settlement: Settlement) -> Result<(), Fault> {
    let to = match settlement {
        Settlement::Used => "used",
        Settlement::Released => "released",
    };
    let day: Option<i64> = sqlx::query_scalar(
        "update quota set state = ? where turn = ? and revision = ? and state = 'reserved' returning day",
    )
    .bind(to)
    .bind(saga.turn.to_string())
    .bind(saga.revision.0)
    .fetch_optional(&mut *tx)
    .await?;
    if let (Some(day), Settlement::Released) = (day, settlement) {
        sqlx::query("update quota_days set taken = taken - 1 where day = ?").bind(day).execute(tx).await?;
    }
    Ok(())
}

/// Runs `$item` between a savepoint and its release, so that a bad item takes only itself back.
macro_rules! in_savepoint {
    ($tx:expr, $item:expr) => {{
        sqlx::query("savepoint item")
            .execute(&mut *$tx)
            .await
            .map_err(|error| $crate::ledger::sqlite::rows::unavailable(&error))?;
        let result = match $item.await {
            Ok(done) => Ok(done),
            Err($crate::ledger::sqlite::rows::Fault::Bad(rejected)) => {
                sqlx::query("rollback to item")
                    .execute(&mut *$tx)
                    .await
                    .map_err(|error| $crate::ledger::sqlite::rows::unavailable(&error))?;
                Err(rejected)
            }
            Err($crate::ledger::sqlite::rows::Fault::Ledger(error)) => return Err(error),
        };
        sqlx::query("release item")
            .execute(&mut *$tx)
            .await
            .map_err(|error| $crate::ledger::sqlite::rows::unavailable(&error))?;
        result
    }};
}
pub(super) use in_savepoint;
