//! What executors say.

use sqlx::{Row, SqliteConnection};

use super::SqliteLedger;
use super::rows::{Fault, Head, Stamp, advance, damaged, draft, head, in_savepoint, tell, unavailable};
use crate::clock::from_millis;
use crate::contract::{Effect, ReplyOutcome, Revision};
use crate::saga::state::{End, Event, Settlement, State, correct};
use crate::saga::{Applied, Each, Exchange, Rejected};

pub(super) async fn apply(ledger: &SqliteLedger, outcomes: &[ReplyOutcome]) -> Each<Applied> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let mut applied = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        applied.push(in_savepoint!(tx, apply_one(&mut tx, outcome, now)));
    }
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(applied)
}

/// An outcome about an older revision says nothing about the newer one, unless something was sent: then the turn has
/// had its reply.
fn bears_on(outcome: &ReplyOutcome, revision: Revision) -> bool {
    outcome.revision >= revision || outcome.effect.may_have_sent()
}

async fn apply_one(tx: &mut SqliteConnection, outcome: &ReplyOutcome, now: i64) -> Result<Applied, Fault> {
    let Some(saga) = head(tx, outcome.turn).await? else { return keep_orphan(tx, outcome, now).await };
    let Some(state) = conclude(tx, &saga, outcome, now).await? else {
        return tell_once(tx, &saga, outcome, now).await;
    };
    let exchange = match state.effect() {
        Some(Effect::Confirmed) => exchange(tx, &saga, outcome, now).await?,
        _ => None,
    };
    let end = End::of(saga.state, state, now >= saga.deadline_at).unwrap_or(End::Corrected);
    Ok(Applied::Ended { exchange, end })
}

async fn conclude(
    tx: &mut SqliteConnection,
    saga: &Head,
    outcome: &ReplyOutcome,
    now: i64,
) -> Result<Option<State>, Fault> {
    if !bears_on(outcome, saga.revision) {
        return Ok(None);
    }
    let stamp = stamp_of(outcome, now);
    let detail = detail_of(outcome);
    let Some(state) = advance(tx, &stamp, saga, Event::Outcome(outcome.effect), &detail).await? else {
        return Ok(None);
    };
    if let Some(correction) = correct(saga.state, state) {
        correct_quota(tx, outcome, correction).await?;
    }
    // A later record of the very revision that has ended must not look newer.
    sqlx::query("update sagas set revision = max(revision, ?) where turn = ?")
        .bind(outcome.revision.0)
        .bind(saga.turn.to_string())
        .execute(tx)
        .await?;
    Ok(Some(state))
}

/// An outcome's line in the story tells when each step happened on the desk.
fn stamp_of(outcome: &ReplyOutcome, now: i64) -> Stamp<'_> {
    Stamp { times: serde_json::to_string(&outcome.timings).ok(), ..Stamp::new(now, outcome.desktop.as_str()) }
}

/// A late word about a revision whose quota was settled by a guess.
async fn correct_quota(tx: &mut SqliteConnection, outcome: &ReplyOutcome, correction: Settlement) -> Result<(), Fault> {
    let (from, to, change) = match correction {
        Settlement::Used => ("released", "used", 1),
        Settlement::Released => ("used", "released", -1),
    };
    let day: Option<i64> =
        sqlx::query_scalar("update quota set state = ? where turn = ? and revision = ? and state = ? returning day")
            .bind(to)
            .bind(outcome.turn.to_string())
            .bind(outcome.revision.0)
            .bind(from)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(day) = day {
        let correct = "update quota_days set taken = max(taken + ?, 0) where day = ?";
        sqlx::query(correct).bind(change).bind(day).execute(tx).await?;
    }
    Ok(())
}

fn detail_of(outcome: &ReplyOutcome) -> String {
    let reason: String = outcome.reason.chars().take(1_000).collect();
    format!("{}: {reason}", outcome.effect)
}

/// What changed nothing is told once, however often it is repeated.
async fn tell_once(tx: &mut SqliteConnection, saga: &Head, outcome: &ReplyOutcome, now: i64) -> Result<Applied, Fault> {
    let detail = detail_of(outcome);
    let told: Option<i64> = sqlx::query_scalar(
        "select number from events where turn = ? and revision = ? and event like 'outcome%' and detail = ?",
    )
    .bind(saga.turn.to_string())
    .bind(outcome.revision.0)
    .bind(&detail)
    .fetch_optional(&mut *tx)
    .await?;
    if told.is_some() {
        return Ok(Applied::Repeated);
    }
    let stamp = stamp_of(outcome, now);
    tell(tx, &stamp, saga.turn, outcome.revision, "outcome_kept", (Some(saga.state), saga.state), &detail).await?;
    Ok(Applied::Kept)
}

async fn exchange(
    tx: &mut SqliteConnection,
    saga: &Head,
    outcome: &ReplyOutcome,
    now: i64,
) -> Result<Option<Exchange>, Fault> {
    let Some(detected) = saga.detected()? else { return Ok(None) };
    let Some(stored) = draft(tx, saga.turn, outcome.revision).await? else { return Ok(None) };
    let inbound: Vec<&str> = detected.messages.iter().map(|message| message.text.as_str()).collect();
    let at = outcome.timings.shown_at.unwrap_or_else(|| from_millis(now));
    Ok(Some(Exchange { inbound: inbound.join("\n"), reply: stored.draft.text, at }))
}

async fn keep_orphan(tx: &mut SqliteConnection, outcome: &ReplyOutcome, now: i64) -> Result<Applied, Fault> {
    let body = serde_json::to_string(outcome).map_err(|error| Fault::Bad(Rejected(error.to_string())))?;
    sqlx::query("insert into orphans (turn, revision, effect, body, at) values (?, ?, ?, ?, ?) on conflict do nothing")
        .bind(outcome.turn.to_string())
        .bind(outcome.revision.0)
        .bind(outcome.effect.as_str())
        .bind(body)
        .bind(now)
        .execute(tx)
        .await?;
    Ok(Applied::Orphan)
}

/// Applies outcomes that came before their turn, oldest first, and gives the state they lead to.
pub(super) async fn adopt_orphans(tx: &mut SqliteConnection, saga: &Head, now: i64) -> Result<State, Fault> {
    let rows = sqlx::query("delete from orphans where turn = ? returning body, at")
        .bind(saga.turn.to_string())
        .fetch_all(&mut *tx)
        .await?;
    let mut outcomes = Vec::with_capacity(rows.len());
    for row in &rows {
        let (body, at) = (row.try_get::<String, _>("body")?, row.try_get::<i64, _>("at")?);
        outcomes.push((at, serde_json::from_str::<ReplyOutcome>(&body).map_err(|_| damaged("an outcome"))?));
    }
    outcomes.sort_by_key(|(at, outcome)| (*at, outcome.revision));
    let mut saga = saga.clone();
    for (_, outcome) in outcomes {
        match conclude(tx, &saga, &outcome, now).await? {
            Some(state) => {
                saga.state = state;
                saga.revision = saga.revision.max(outcome.revision);
            }
            None => {
                tell_once(tx, &saga, &outcome, now).await?;
            }
        }
    }
    Ok(saga.state)
}
