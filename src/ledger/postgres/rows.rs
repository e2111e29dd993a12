//! What the other files share: rows to values, and what a database error means.

use std::str::FromStr;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::contract::{DraftVersion, Effect, MessagesDetected, Revision, TurnId};
use crate::error::{Class, Classified, Problem};
use crate::saga::state::{Phase, State};
use crate::saga::{Draft, LeaseToken, LedgerError, Rejected, StoredDraft};

/// Milliseconds of a day; a quota's day is a day of UTC.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Why something could not be written.
#[derive(Debug)]
pub(super) enum Fault {
    /// The item, or one of the group, is bad.
    Bad(Rejected),
    /// Another try right away may succeed: a deadlock, a race for a key, a connection that had died.
    Again(String),
    /// The ledger cannot be asked.
    Ledger(LedgerError),
}

impl Classified for Fault {
    fn class(&self) -> Class {
        match self {
            Self::Again(_) => Class::Transient,
            Self::Bad(_) | Self::Ledger(_) => Class::Permanent,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().map(|code| code.into_owned()).unwrap_or_default();
                of_state(&code, database.constraint(), database.message())
            }
            sqlx::Error::Tls(why) => not_private(&why.to_string()),
            // A handshake that fails is told as an error of the connection; data that come later are not judged there.
            sqlx::Error::Io(why) if why.kind() == std::io::ErrorKind::InvalidData => not_private(&why.to_string()),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => Self::Again(error.to_string()),
            sqlx::Error::Configuration(_) => storage(&error.to_string()),
            sqlx::Error::ColumnDecode { index, .. } => Self::Ledger(damaged(index)),
            _ => Self::Ledger(LedgerError::Unavailable(error.to_string())),
        }
    }
}

/// What an SQLSTATE means. The messages of bad rows are not handed on: some of them quote the row.
fn of_state(code: &str, constraint: Option<&str>, message: &str) -> Fault {
    match (code.get(..2).unwrap_or_default(), code) {
        // Somebody else has just written the first row of this turn, of this day, or of this account.
        (_, "23505") if matches!(constraint, Some("sagas_pkey" | "quota_days_pkey" | "quota_pkey" | "owners_pkey")) => {
            Fault::Again("another worker wrote the same key".to_owned())
        }
        ("22" | "23" | "54", _) => {
            let what = constraint.map_or_else(String::new, |name| format!(", constraint {name}"));
            Fault::Bad(Rejected(format!("the database refuses it (SQLSTATE {code}{what})")))
        }
        // Deadlock, serialization; a connection ended by the server or on the way; a transaction ended because this process
        // stood still in it (a suspended machine), or that had failed before.
        ("40" | "08", _) | (_, "57P01" | "57P02" | "25P02" | "25P03" | "25P04") => Fault::Again(message.to_owned()),
        // The server starts, is full, slow (57014 is the statement's time limit), locked, or only a standby.
        ("53" | "55" | "57" | "58", _) | (_, "25006") => {
            Fault::Ledger(LedgerError::Unavailable(format!("{message} (SQLSTATE {code})")))
        }
        ("28", _) => broken(
            format!("{message} (SQLSTATE {code})"),
            "See that ledger.url names a role that may come in, that ledger.password_file or ledger.password_env holds \
             its password, and that ledger.tls is not disable where the server wants TLS",
        ),
        _ => storage(&format!("{message} (SQLSTATE {code})")),
    }
}

fn storage(what: &str) -> Fault {
    let remedy = "See that ledger.url names the right database and role, and that `autoreply migrate` has run there";
    broken(what.to_owned(), remedy)
}

fn not_private(why: &str) -> Fault {
    broken(
        format!("no private connection comes about ({why})"),
        "See that ledger.tls_ca_file names the authority that signed the server's certificate, that ledger.url has the \
         name that it was made for, and that the server speaks TLS; ledger.tls says how much is asked",
    )
}

/// What a person has to mend.
fn broken(what: String, remedy: &str) -> Fault {
    Fault::Ledger(LedgerError::Storage(Problem::new(what, "the ledger's database", remedy)))
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
            Fault::Again(why) => Self::Unavailable(why),
            Fault::Ledger(error) => error,
        }
    }
}

/// A value that this program wrote and can no longer read.
pub(super) fn damaged(what: &str) -> LedgerError {
    LedgerError::Storage(Problem::new(
        format!("a row holds {what} that cannot be read"),
        "the ledger's database",
        "Run the newest release against it, or restore the database from a copy",
    ))
}

/// A column as it is.
pub(super) fn get<'r, T>(row: &'r PgRow, column: &str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(column).map_err(|_| damaged(column))
}

/// A column of this type, parsed from its text.
pub(super) fn parsed<T: FromStr>(row: &PgRow, column: &str) -> Result<T, LedgerError> {
    get::<&str>(row, column)?.parse().map_err(|_| damaged(column))
}

/// A whole number that is never negative.
pub(super) fn number<T: TryFrom<i64>>(row: &PgRow, column: &str) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| damaged(column))
}

/// A turn's id.
pub(super) fn turn_of(row: &PgRow) -> Result<TurnId, LedgerError> {
    get::<Uuid>(row, "turn").map(TurnId)
}

/// The columns `state` and `effect`.
pub(super) fn state_of(row: &PgRow) -> Result<State, LedgerError> {
    match parsed::<Phase>(row, "state")? {
        Phase::Ended => Ok(State::Ended(parsed::<Effect>(row, "effect")?)),
        phase => Ok(State::Open(phase)),
    }
}

/// The columns of a draft, whose text must be held.
pub(super) fn draft_of(row: &PgRow, revision: Revision) -> Result<StoredDraft, LedgerError> {
    let version = u32::try_from(get::<i32>(row, "version")?).map_err(|_| damaged("version"))?;
    Ok(StoredDraft {
        revision,
        version: DraftVersion(version),
        draft: Draft { text: get(row, "text")?, provider: get(row, "provider")?, ceiling: parsed(row, "ceiling")? },
    })
}

/// The column `owner_token` of a turn.
pub(super) fn owner_token(row: &PgRow) -> Result<Option<u64>, LedgerError> {
    let token: Option<i64> = get(row, "owner_token")?;
    token.map(u64::try_from).transpose().map_err(|_| damaged("owner_token"))
}

/// The column `body` of a turn.
pub(super) fn detected_of(row: &PgRow) -> Result<Option<MessagesDetected>, LedgerError> {
    get::<Option<&str>>(row, "body")?.map(serde_json::from_str).transpose().map_err(|_| damaged("a turn"))
}

/// A row of `sagas`: all that a step may look at or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saga {
    pub(super) turn: TurnId,
    pub(super) revision: Revision,
    pub(super) state: State,
    pub(super) lease: LeaseToken,
    pub(super) lease_owner: String,
    pub(super) lease_until: i64,
    pub(super) deadline_at: i64,
    pub(super) takeovers: i32,
    pub(super) drafts: i32,
    pub(super) quota_day: Option<i64>,
    pub(super) updated_at: i64,
}

fn saga_of(row: &PgRow) -> Result<Saga, LedgerError> {
    Ok(Saga {
        turn: turn_of(row)?,
        revision: Revision(number(row, "revision")?),
        state: state_of(row)?,
        lease: LeaseToken(number(row, "lease_token")?),
        lease_owner: get(row, "lease_owner")?,
        lease_until: get(row, "lease_until")?,
        deadline_at: get(row, "deadline_at")?,
        takeovers: get(row, "takeovers")?,
        drafts: get(row, "drafts")?,
        quota_day: get(row, "quota_day")?,
        updated_at: get(row, "updated_at")?,
    })
}

/// The sagas of a wave, locked, and the time.
pub(super) struct Held {
    /// By the ledger's clock, in milliseconds.
    pub(super) now: i64,
    /// Those that are there, in the order of their ids.
    pub(super) sagas: Vec<Saga>,
    /// Whether an outcome waits for one of the turns that were asked for.
    pub(super) orphaned: bool,
}

impl Held {
    /// The saga of this turn.
    pub(super) fn saga(&self, turn: TurnId) -> Option<&Saga> {
        let place = self.sagas.binary_search_by_key(&turn, |saga| saga.turn).ok()?;
        self.sagas.get(place)
    }
}

/// Locks the sagas of a wave in the order of their ids, so that two groups never wait for each other in a circle. The
/// columns are named: a statement that is prepared must not change when a newer release adds one.
pub(super) const HOLD: &str = "
    with held as (
        select turn, revision, state, effect, lease_token, lease_owner, lease_until, deadline_at, takeovers, drafts,
               quota_day, updated_at
        from sagas where turn = any($1) order by turn for update)
    select clock.now, clock.orphaned, turn, revision, state, effect, lease_token, lease_owner, lease_until, deadline_at,
           takeovers, drafts, quota_day, updated_at
    from (select ledger_now() as now, exists (select from orphans where turn = any($1)) as orphaned) as clock
    left join held on true";

/// Locks and reads the sagas of these turns.
pub(super) async fn hold(tx: &mut PgConnection, turns: &[TurnId]) -> Result<Held, Fault> {
    let ids: Vec<Uuid> = turns.iter().map(|turn| turn.0).collect();
    let rows = sqlx::query(HOLD).bind(ids).fetch_all(tx).await?;
    let first = rows.first().ok_or_else(|| damaged("the time"))?;
    let (now, orphaned) = (get(first, "now")?, get(first, "orphaned")?);
    let mut sagas = Vec::with_capacity(rows.len());
    for row in &rows {
        if get::<Option<Uuid>>(row, "turn")?.is_some() {
            sagas.push(saga_of(row)?);
        }
    }
    sagas.sort_by_key(|saga| saga.turn);
    Ok(Held { now, sagas, orphaned })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_database_is_tried_again_blamed_on_the_row_or_on_the_database() {
        let of = |code: &str, constraint: Option<&str>| of_state(code, constraint, "words");
        for code in ["40P01", "40001", "57P01", "08006", "25P03"] {
            assert!(matches!(of(code, None), Fault::Again(_)), "{code}");
        }
        assert!(matches!(of("23505", Some("sagas_pkey")), Fault::Again(_)));
        for code in ["23505", "23514", "22021", "54000"] {
            let Fault::Bad(Rejected(why)) = of(code, Some("drafts_pkey")) else { panic!("{code}") };
            assert!(!why.contains("words"), "the server's message may quote the row: {why}");
        }
        for code in ["57014", "57P03", "53300", "55P03", "25006", "58030"] {
            assert!(matches!(of(code, None), Fault::Ledger(LedgerError::Unavailable(_))), "{code}");
        }
        for code in ["42P01", "28P01", "3D000"] {
            assert!(matches!(of(code, None), Fault::Ledger(LedgerError::Storage(_))), "{code}");
        }
    }
}
