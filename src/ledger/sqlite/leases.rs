//! Leases, and the outbox.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::SqliteLedger;
use super::rows::{Fault, Stamp, draft, head_of, number, owner_token, tell, unavailable};
use super::transitions::command_of;
use crate::clock::millis;
use crate::contract::TurnId;
use crate::saga::{EntryId, LeaseRequest, LeaseToken, LedgerError, OpenSaga, PendingCommand};

/// Which sagas are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A worker had them and is gone.
    Waiting,
    /// Their deadline has passed.
    Overdue,
}

pub(super) async fn renew(
    ledger: &SqliteLedger,
    leases: &[(TurnId, LeaseToken)],
    hold: Duration,
) -> Result<Vec<bool>, LedgerError> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let mut held = Vec::with_capacity(leases.len());
    for (turn, token) in leases {
        let done = sqlx::query(
            "update sagas set lease_until = ? where turn = ? and lease_token = ?
             and state in ('recorded', 'quota_reserved', 'drafted')",
        )
        .bind(now.saturating_add(millis(hold)))
        .bind(turn.to_string())
        .bind(i64::try_from(token.0).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await
        .map_err(|error| unavailable(&error))?;
        held.push(done.rows_affected() == 1);
    }
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(held)
}

pub(super) async fn take(
    ledger: &SqliteLedger,
    due: Due,
    lease: &LeaseRequest,
    limit: u32,
) -> Result<Vec<OpenSaga>, LedgerError> {
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let taken = take_in(&mut tx, due, lease, ledger.now(), limit).await?;
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(taken)
}

async fn take_in(
    tx: &mut SqliteConnection,
    due: Due,
    lease: &LeaseRequest,
    now: i64,
    limit: u32,
) -> Result<Vec<OpenSaga>, Fault> {
    let statement = match due {
        Due::Waiting => {
            "update sagas set lease_token = lease_token + 1, lease_owner = ?1, lease_until = ?2, takeovers = takeovers + 1
             where turn in (select turn from sagas where state in ('recorded', 'quota_reserved', 'drafted')
                            and lease_until <= ?3 and deadline_at > ?3 and body is not null
                            order by lease_until limit ?4)
             returning turn, revision, state, effect, lease_token, deadline_at, body, takeovers, owner_token,
                       traceparent"
        }
        Due::Overdue => {
            "update sagas set lease_token = lease_token + 1, lease_owner = ?1, lease_until = ?2
             where turn in (select turn from sagas where state <> 'ended' and deadline_at <= ?3
                            and lease_until <= ?3 and body is not null order by deadline_at limit ?4)
             returning turn, revision, state, effect, lease_token, deadline_at, body, takeovers, owner_token,
                       traceparent"
        }
    };
    let rows = sqlx::query(statement)
        .bind(&lease.worker)
        .bind(now.saturating_add(millis(lease.hold)))
        .bind(now)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let saga = head_of(row)?;
        let Some(mut detected) = saga.detected()? else { continue };
        detected.traceparent = row.try_get("traceparent")?;
        if due == Due::Waiting {
            let stamp = Stamp::new(now, &lease.worker);
            let states = (Some(saga.state), saga.state);
            tell(tx, &stamp, saga.turn, saga.revision, "taken_over", states, "the lease had ended").await?;
        }
        let draft = draft(tx, saga.turn, saga.revision).await?;
        let phase = saga.state.phase();
        let (takeovers, owner_token) = (number(row, "takeovers")?, owner_token(row)?);
        taken.push(OpenSaga { detected, phase, lease: saga.lease, draft, takeovers, owner_token });
    }
    Ok(taken)
}

pub(super) async fn take_commands(
    ledger: &SqliteLedger,
    hold: Duration,
    limit: u32,
) -> Result<Vec<PendingCommand>, LedgerError> {
    let now = ledger.now();
    let rows = sqlx::query(
        "update outbox set held_until = ?1 where entry in (
             select entry from outbox where published_at is null and cancelled_at is null
             and body is not null and held_until <= ?2 order by entry limit ?3)
         returning entry, kind, body, (select traceparent from sagas where sagas.turn = outbox.turn) as traceparent",
    )
    .bind(now.saturating_add(millis(hold)))
    .bind(now)
    .bind(limit)
    .fetch_all(&ledger.writer)
    .await
    .map_err(|error| unavailable(&error))?;
    let mut commands: Vec<PendingCommand> = rows.iter().map(command_of).collect::<Result<_, _>>()?;
    commands.sort_by_key(|pending| pending.entry);
    Ok(commands)
}

pub(super) async fn mark_published(ledger: &SqliteLedger, entries: &[EntryId]) -> Result<(), LedgerError> {
    let list: Vec<i64> = entries.iter().map(|entry| entry.0).collect();
    let list = serde_json::Value::from(list).to_string();
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    mark_in(&mut tx, &list, now).await?;
    tx.commit().await.map_err(|error| unavailable(&error))
}

async fn mark_in(tx: &mut SqliteConnection, list: &str, now: i64) -> Result<(), Fault> {
    let rows = sqlx::query(
        "update outbox set published_at = ? where published_at is null
         and entry in (select value from json_each(?)) returning turn, revision, kind",
    )
    .bind(now)
    .bind(list)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        // The state at this moment, for the story; a command outlives nothing but its saga's row.
        sqlx::query(
            "insert into events (id, turn, revision, at, who, event, state_from, state_to, detail)
             select ?, turn, ?, ?, 'outbox', 'published', null,
                    case when effect is null then state else state || '(' || effect || ')' end, ?
             from sagas where turn = ?",
        )
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(row.try_get::<i64, _>("revision")?)
        .bind(now)
        .bind(row.try_get::<String, _>("kind")?)
        .bind(row.try_get::<String, _>("turn")?)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
