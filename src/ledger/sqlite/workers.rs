//! Workers by their own word, and how the replies stand.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::SqliteLedger;
use super::rows::{DAY_MS, damaged, number, parsed, unavailable};
use crate::clock::{elapsed, from_millis, millis, to_millis};
use crate::saga::state::Phase;
use crate::saga::{LedgerError, OVERDUE_AFTER, PhaseStanding, Standing, WorkerFigures, WorkerSeen, WorkerWord};

fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(|error| unavailable(&error))
}

pub(super) async fn say(ledger: &SqliteLedger, word: &WorkerWord) -> Result<(), LedgerError> {
    let figures = serde_json::to_string(&word.figures).map_err(|_| damaged("a worker's figures"))?;
    sqlx::query(
        "insert into workers (instance, name, host, version, started_at, interval_ms, last_seen, figures)
         values (?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (instance) do update set last_seen = excluded.last_seen, figures = excluded.figures",
    )
    .bind(word.instance.to_string())
    .bind(&word.name)
    .bind(&word.host)
    .bind(&word.version)
    .bind(to_millis(word.started_at))
    .bind(millis(word.interval))
    .bind(ledger.now())
    .bind(figures)
    .execute(&ledger.writer)
    .await
    .map(drop)
    .map_err(|error| unavailable(&error))
}

pub(super) async fn leave(ledger: &SqliteLedger, instance: Uuid) -> Result<(), LedgerError> {
    let gone = sqlx::query("delete from workers where instance = ?").bind(instance.to_string());
    gone.execute(&ledger.writer).await.map(drop).map_err(|error| unavailable(&error))
}

pub(super) async fn workers(ledger: &SqliteLedger) -> Result<Vec<WorkerSeen>, LedgerError> {
    let now = from_millis(ledger.now());
    let rows = sqlx::query("select * from workers order by name, host, instance").fetch_all(&ledger.readers).await;
    rows.map_err(|error| unavailable(&error))?.iter().map(|row| worker_of(row, now)).collect()
}

fn worker_of(row: &SqliteRow, now: jiff::Timestamp) -> Result<WorkerSeen, LedgerError> {
    let figures: String = get(row, "figures")?;
    let figures: WorkerFigures = serde_json::from_str(&figures).map_err(|_| damaged("figures"))?;
    let last_seen = from_millis(get(row, "last_seen")?);
    Ok(WorkerSeen {
        word: WorkerWord {
            instance: parsed(row, "instance")?,
            name: get(row, "name")?,
            host: get(row, "host")?,
            version: get(row, "version")?,
            started_at: from_millis(get(row, "started_at")?),
            interval: Duration::from_millis(number(row, "interval_ms")?),
            figures,
        },
        last_seen,
        silent_for: elapsed(last_seen, now),
    })
}

pub(super) async fn standing(ledger: &SqliteLedger) -> Result<Standing, LedgerError> {
    let (now, failed) = (ledger.now(), |error: sqlx::Error| unavailable(&error));
    let states = sqlx::query(
        "select state, count(*) as many, min(recorded_at) as oldest from sagas where state <> 'ended' group by state",
    )
    .fetch_all(&ledger.readers)
    .await
    .map_err(failed)?;
    let row = sqlx::query(
        "select (select count(*) from sagas where state <> 'ended' and deadline_at < ?1) as overdue,
                (select count(*) from sagas where effect = 'needs_attention' and updated_at > ?2) as attention,
                (select count(*) from outbox where published_at is null and cancelled_at is null) as unpublished,
                coalesce((select taken from quota_days where day = ?3), 0) as taken",
    )
    .bind(now.saturating_sub(millis(OVERDUE_AFTER)))
    .bind(now.saturating_sub(DAY_MS))
    .bind(now.div_euclid(DAY_MS))
    .fetch_one(&ledger.readers)
    .await
    .map_err(failed)?;
    let now = from_millis(now);
    let phase_of = |row: &SqliteRow| {
        let (phase, oldest) = (parsed::<Phase>(row, "state")?, from_millis(get(row, "oldest")?));
        Ok(PhaseStanding { phase, count: number(row, "many")?, oldest: elapsed(oldest, now) })
    };
    let mut phases = states.iter().map(phase_of).collect::<Result<Vec<_>, LedgerError>>()?;
    phases.sort_by_key(|standing| standing.phase);
    Ok(Standing {
        now,
        phases,
        overdue: number(&row, "overdue")?,
        attention: number(&row, "attention")?,
        unpublished: number(&row, "unpublished")?,
        quota_taken: number(&row, "taken")?,
    })
}
