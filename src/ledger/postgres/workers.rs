//! Workers by their own word, and how the replies stand.

use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresLedger;
use super::rows::{DAY_MS, damaged, get, number, parsed};
use crate::clock::{elapsed, from_millis, millis, to_millis};
use crate::saga::state::Phase;
use crate::saga::{LedgerError, OVERDUE_AFTER, PhaseStanding, Standing, WorkerFigures, WorkerSeen, WorkerWord};

pub(super) async fn say(ledger: &PostgresLedger, word: &WorkerWord) -> Result<(), LedgerError> {
    let figures = serde_json::to_string(&word.figures).map_err(|_| damaged("a worker's figures"))?;
    let statement = "insert into workers (instance, name, host, version, started_at, interval_ms, last_seen, figures)
         values ($1, $2, $3, $4, $5, $6, ledger_now(), $7)
         on conflict (instance) do update set last_seen = excluded.last_seen, figures = excluded.figures";
    let query = || {
        sqlx::query(statement)
            .bind(word.instance)
            .bind(&word.name)
            .bind(&word.host)
            .bind(&word.version)
            .bind(to_millis(word.started_at))
            .bind(millis(word.interval))
            .bind(&figures)
    };
    ledger.ask(query).await.map(drop)
}

pub(super) async fn leave(ledger: &PostgresLedger, instance: Uuid) -> Result<(), LedgerError> {
    ledger.ask(|| sqlx::query("delete from workers where instance = $1").bind(instance)).await.map(drop)
}

pub(super) async fn workers(ledger: &PostgresLedger) -> Result<Vec<WorkerSeen>, LedgerError> {
    let statement = "select *, ledger_now() as now from workers order by name, host, instance";
    ledger.ask(|| sqlx::query(statement)).await?.iter().map(worker_of).collect()
}

fn worker_of(row: &PgRow) -> Result<WorkerSeen, LedgerError> {
    let time = |column: &str| get::<i64>(row, column).map(from_millis);
    let figures: WorkerFigures = serde_json::from_str(get(row, "figures")?).map_err(|_| damaged("figures"))?;
    let last_seen = time("last_seen")?;
    Ok(WorkerSeen {
        word: WorkerWord {
            instance: get(row, "instance")?,
            name: get(row, "name")?,
            host: get(row, "host")?,
            version: get(row, "version")?,
            started_at: time("started_at")?,
            interval: Duration::from_millis(number(row, "interval_ms")?),
            figures,
        },
        last_seen,
        silent_for: elapsed(last_seen, time("now")?),
    })
}

const PHASES: &str = "select s.state, count(*) as many, min(t.recorded_at) as oldest
    from sagas s join turns t on t.turn = s.turn where s.state <> 'ended' group by s.state";

const FIGURES: &str = "
    select ledger_now() as now,
           (select count(*) from sagas where state <> 'ended' and deadline_at < (select ledger_now()) - $1) as overdue,
           (select count(*) from sagas where effect = 'needs_attention'
                                         and updated_at > (select ledger_now()) - $2) as attention,
           (select count(*) from outbox where published_at is null and cancelled_at is null) as unpublished,
           coalesce((select taken from quota_days where day = (select ledger_now()) / $2), 0) as taken";

pub(super) async fn standing(ledger: &PostgresLedger) -> Result<Standing, LedgerError> {
    let states = ledger.ask(|| sqlx::query(PHASES)).await?;
    let rows = ledger.ask(|| sqlx::query(FIGURES).bind(millis(OVERDUE_AFTER)).bind(DAY_MS)).await?;
    let row = rows.first().ok_or_else(|| damaged("the figures"))?;
    let now = from_millis(get(row, "now")?);
    let phase_of = |row: &PgRow| {
        let (phase, oldest) = (parsed::<Phase>(row, "state")?, from_millis(get(row, "oldest")?));
        Ok(PhaseStanding { phase, count: number(row, "many")?, oldest: elapsed(oldest, now) })
    };
    let mut phases = states.iter().map(phase_of).collect::<Result<Vec<_>, LedgerError>>()?;
    phases.sort_by_key(|standing| standing.phase);
    Ok(Standing {
        now,
        phases,
        overdue: number(row, "overdue")?,
        attention: number(row, "attention")?,
        unpublished: number(row, "unpublished")?,
        quota_taken: number(row, "taken")?,
    })
}
