//! The ledger, Postgres or SQLite: every row as one JSON text, so that both are read by the same code.

use futures::TryStreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use super::Unread;
use crate::checker::material::{Day, Draft, Event, Ledger, Outbox, Quota, Saga};
use crate::facts;

/// A table's rows as the judge wants them: what is selected is named as in the structs below.
struct Query {
    columns: &'static [(&'static str, &'static str)],
    from: &'static str,
    /// Where Postgres has it elsewhere.
    from_postgres: Option<&'static str>,
}

const SAGAS: Query = Query {
    columns: &[
        ("turn", "turn"),
        ("revision", "revision"),
        ("state", "state"),
        ("effect", "effect"),
        ("desktop", "desktop"),
        ("peer", "peer"),
        ("body", "body"),
        ("deadline_ms", "deadline_at"),
    ],
    from: "sagas order by recorded_at, turn",
    from_postgres: Some("sagas join turns using (turn) order by recorded_at, turn"),
};
const EVENTS: Query = Query {
    columns: &[
        ("turn", "turn"),
        ("revision", "revision"),
        ("event", "event"),
        ("state_to", "state_to"),
        ("detail", "detail"),
    ],
    from: "events order by number",
    from_postgres: None,
};
const DRAFTS: Query = Query {
    columns: &[("turn", "turn"), ("revision", "revision"), ("text", "text")],
    from: "drafts order by turn, version",
    from_postgres: None,
};
const QUOTA: Query = Query {
    columns: &[("turn", "turn"), ("revision", "revision"), ("day", "day"), ("state", "state")],
    from: "quota order by turn, revision",
    from_postgres: None,
};
const DAYS: Query =
    Query { columns: &[("day", "day"), ("taken", "taken")], from: "quota_days order by day", from_postgres: None };
const OUTBOX: Query = Query {
    columns: &[
        ("turn", "turn"),
        ("revision", "revision"),
        ("kind", "kind"),
        ("published", "published_at is not null"),
        ("cancelled", "cancelled_at is not null"),
    ],
    from: "outbox order by entry",
    from_postgres: None,
};
const ORPHANS: Query = Query { columns: &[("turn", "turn")], from: "orphans order by turn", from_postgres: None };

/// How many turns have not ended (those that wait for a person left out) and how many commands wait to be published.
///
/// # Errors
/// As [`load`].
pub async fn open_rows(place: &str) -> Result<i64, Unread> {
    let count = "select (select count(*) from sagas where state not in ('ended', 'awaiting_approval')) \
                 + (select count(*) from outbox where published_at is null and cancelled_at is null)";
    let read = async {
        match Database::open(place).await? {
            Database::Sqlite(mut connection) => sqlx::query_scalar(count).fetch_one(&mut connection).await,
            Database::Postgres(mut connection) => sqlx::query_scalar(count).fetch_one(&mut connection).await,
        }
    };
    read.await.map_err(|why: sqlx::Error| Unread::new(name_of(place), why))
}

/// A URL may hold a password.
fn name_of(place: &str) -> &str {
    if place.starts_with("postgres") { "the ledger in Postgres" } else { place }
}

enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Reads the ledger at `place`: a URL that begins with `postgres`, or the path of a SQLite file.
///
/// # Errors
/// It cannot be reached, or its tables are others.
pub async fn load(place: &str) -> Result<Ledger, Unread> {
    read(place).await.map_err(|why| Unread::new(name_of(place), why))
}

async fn read(place: &str) -> Result<Ledger, sqlx::Error> {
    let mut database = Database::open(place).await?;
    let mut ledger = Ledger { now_ms: database.now_ms().await?, ..Ledger::default() };
    database.each(&SAGAS, |row: SagaRow| ledger.sagas.push(row.into())).await?;
    database.each(&EVENTS, |row: EventRow| ledger.events.push(row.into())).await?;
    database
        .each(&DRAFTS, |row: DraftRow| {
            ledger.drafts.push(Draft { turn: row.turn, revision: row.revision, text: row.text });
        })
        .await?;
    database
        .each(&QUOTA, |row: QuotaRow| {
            ledger.quota.push(Quota { turn: row.turn, revision: row.revision, day: row.day, state: row.state });
        })
        .await?;
    database.each(&DAYS, |row: DayRow| ledger.days.push(Day { day: row.day, taken: row.taken })).await?;
    database.each(&OUTBOX, |row: OutboxRow| ledger.outbox.push(row.into())).await?;
    database.each(&ORPHANS, |row: OrphanRow| ledger.orphans.push(row.turn)).await?;
    Ok(ledger)
}

impl Database {
    async fn open(place: &str) -> sqlx::Result<Self> {
        if place.starts_with("postgres") {
            return Ok(Self::Postgres(PgConnection::connect(place).await?));
        }
        let options = SqliteConnectOptions::new().filename(place).create_if_missing(false);
        Ok(Self::Sqlite(SqliteConnection::connect_with(&options).await?))
    }

    /// The ledger's own time, in milliseconds of the Unix epoch.
    async fn now_ms(&mut self) -> sqlx::Result<i64> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::query_scalar("select cast(unixepoch('subsec') * 1000 as integer)").fetch_one(connection).await
            }
            Self::Postgres(connection) => {
                let now = "select (extract(epoch from clock_timestamp()) * 1000)::bigint";
                sqlx::query_scalar(now).fetch_one(connection).await
            }
        }
    }

    /// Hands every row over, one at a time: a ledger is larger than its judge needs it.
    async fn each<T: DeserializeOwned>(&mut self, query: &Query, mut take: impl FnMut(T)) -> sqlx::Result<()> {
        let decode = |text: String| serde_json::from_str(&text).map_err(|why| sqlx::Error::Decode(Box::new(why)));
        let sql = AssertSqlSafe(self.statement(query));
        match self {
            Self::Sqlite(connection) => {
                let mut rows = sqlx::query_scalar::<_, String>(sql).fetch(connection);
                while let Some(text) = rows.try_next().await? {
                    take(decode(text)?);
                }
            }
            Self::Postgres(connection) => {
                let mut rows = sqlx::query_scalar::<_, String>(sql).fetch(connection);
                while let Some(text) = rows.try_next().await? {
                    take(decode(text)?);
                }
            }
        }
        Ok(())
    }

    fn statement(&self, query: &Query) -> String {
        let Query { columns, from, from_postgres } = query;
        let (function, text, from) = match self {
            Self::Sqlite(_) => ("json_object", "", *from),
            Self::Postgres(_) => ("json_build_object", "::text", from_postgres.unwrap_or(from)),
        };
        let pairs: Vec<String> = columns.iter().map(|(name, column)| format!("'{name}', {column}")).collect();
        format!("select {function}({}){text} from {from}", pairs.join(", "))
    }
}

#[derive(Deserialize)]
struct SagaRow {
    turn: String,
    revision: u32,
    state: String,
    effect: Option<String>,
    desktop: String,
    peer: String,
    /// The record, or its text.
    body: serde_json::Value,
    deadline_ms: i64,
}

impl From<SagaRow> for Saga {
    fn from(row: SagaRow) -> Self {
        let body = match row.body {
            serde_json::Value::String(text) => serde_json::from_str(&text).unwrap_or_default(),
            other => other,
        };
        let texts = body["messages"].as_array().into_iter().flatten().filter_map(|message| message["text"].as_str());
        Self {
            turn: row.turn,
            revision: row.revision,
            state: row.state,
            effect: row.effect,
            desktop: row.desktop,
            peer: row.peer,
            tokens: texts.flat_map(facts::tokens).map(str::to_owned).collect(),
            deadline_ms: row.deadline_ms,
        }
    }
}

#[derive(Deserialize)]
struct EventRow {
    turn: String,
    revision: u32,
    event: String,
    state_to: String,
    detail: String,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        let EventRow { turn, revision, event, state_to, detail } = row;
        Self { turn, revision, event, state_to, detail }
    }
}

#[derive(Deserialize)]
struct DraftRow {
    turn: String,
    revision: u32,
    text: Option<String>,
}

#[derive(Deserialize)]
struct QuotaRow {
    turn: String,
    revision: u32,
    day: i64,
    state: String,
}

#[derive(Deserialize)]
struct DayRow {
    day: i64,
    taken: i64,
}

#[derive(Deserialize)]
struct OrphanRow {
    turn: String,
}

#[derive(Deserialize)]
struct OutboxRow {
    turn: String,
    revision: u32,
    kind: String,
    published: Flag,
    cancelled: Flag,
}

impl From<OutboxRow> for Outbox {
    fn from(row: OutboxRow) -> Self {
        let OutboxRow { turn, revision, kind, published, cancelled } = row;
        Self { turn, revision, kind, published: published.is_set(), cancelled: cancelled.is_set() }
    }
}

/// A truth value, which SQLite spells as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(i64),
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Self::Bool(flag) => *flag,
            Self::Number(number) => *number != 0,
        }
    }
}
