//! Transitions by workers, and decisions by people.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::SqliteLedger;
use super::rows::{DAY_MS, Fault, Head, Stamp, advance, damaged, draft, head, in_savepoint, owner_token, unavailable};
use crate::clock::{from_millis, millis};
use crate::contract::{Authority, Command, DraftVersion, ReplySend, TurnId};
use crate::saga::state::{End, Event, Phase, State};
use crate::saga::{
    Change, Decided, Decision, Draft, Each, EntryId, LedgerError, PendingCommand, Rejected, Transition, Transitioned,
};

/// How long the writer of a command has to publish it before recovery may.
const PUBLISHER_HOLD_MS: i64 = 10_000;

pub(super) async fn transition(ledger: &SqliteLedger, transitions: &[Transition]) -> Each<Transitioned> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let mut done = Vec::with_capacity(transitions.len());
    for wanted in transitions {
        done.push(in_savepoint!(tx, change(&mut tx, wanted, now, ledger.daily_quota)));
    }
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(done)
}

async fn change(tx: &mut SqliteConnection, wanted: &Transition, now: i64, quota: i64) -> Result<Transitioned, Fault> {
    let Some(mut saga) = head(tx, wanted.turn).await? else { return Ok(Transitioned::Lost) };
    if let Some(done) = already_done(tx, wanted, &saga).await? {
        return Ok(done);
    }
    if saga.revision != wanted.revision || saga.lease != wanted.lease || !wanted.is_legal_from(saga.state) {
        return Ok(Transitioned::Lost);
    }
    let before = saga.state;
    let (mut version, mut entry) = (None, None);
    for (index, change) in wanted.changes.iter().enumerate() {
        // Only legal as the first of its transition, so that nothing has been written if there is none left.
        if *change == Change::ReserveQuota && !take_quota(tx, &saga, now, quota).await? {
            return Ok(Transitioned::QuotaExhausted);
        }
        let stamp = Stamp { id: wanted.event_id(index), ..Stamp::new(now, &wanted.who) };
        let advanced = advance(tx, &stamp, &saga, change.event(), &change.detail()).await?;
        saga.state = advanced.ok_or_else(|| damaged("a state"))?;
        match change {
            Change::StoreDraft(draft) => version = Some(store_draft(tx, &saga, draft, now).await?),
            Change::RequestApproval { lifetime } => rest(tx, &saga, now, *lifetime).await?,
            Change::Issue { send, answer_within } => {
                entry = Some(write_command(tx, &stamp, &Command::Send(send.clone()), now + PUBLISHER_HOLD_MS).await?);
                rest(tx, &saga, now, *answer_within).await?;
            }
            Change::Withdraw { withdraw, answer_within } => {
                let command = Command::Withdraw(withdraw.clone());
                entry = Some(write_command(tx, &stamp, &command, now + PUBLISHER_HOLD_MS).await?);
                rest(tx, &saga, now, *answer_within).await?;
            }
            Change::ReserveQuota | Change::Abandon { .. } | Change::HandOver { .. } => {}
        }
    }
    let end = End::of(before, saga.state, now >= saga.deadline_at);
    Ok(Transitioned::Done { state: saga.state, draft: version, entry, end })
}

/// The answer to a transition whose commit the caller did not hear of.
async fn already_done(
    tx: &mut SqliteConnection,
    wanted: &Transition,
    saga: &Head,
) -> Result<Option<Transitioned>, Fault> {
    let known: Option<i64> = sqlx::query_scalar("select number from events where id = ?")
        .bind(wanted.id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
    if known.is_none() {
        return Ok(None);
    }
    let mut entry: Option<i64> = None;
    for index in 0..wanted.changes.len() {
        let written = sqlx::query_scalar("select entry from outbox where event = ?")
            .bind(wanted.event_id(index).to_string())
            .fetch_optional(&mut *tx)
            .await?;
        entry = written.or(entry);
    }
    let stored = draft(tx, saga.turn, wanted.revision).await?;
    Ok(Some(Transitioned::Done {
        state: saga.state,
        draft: stored.map(|stored| stored.version),
        entry: entry.map(EntryId),
        end: None,
    }))
}

/// Nobody works on it now; it is looked at again when the deadline has passed.
async fn rest(tx: &mut SqliteConnection, saga: &Head, now: i64, deadline: Duration) -> Result<(), Fault> {
    sqlx::query("update sagas set lease_until = ?, deadline_at = ? where turn = ?")
        .bind(now)
        .bind(now.saturating_add(millis(deadline)))
        .bind(saga.turn.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn take_quota(tx: &mut SqliteConnection, saga: &Head, now: i64, quota: i64) -> Result<bool, Fault> {
    let day = now.div_euclid(DAY_MS);
    sqlx::query("insert into quota_days (day, taken) values (?, 0) on conflict do nothing")
        .bind(day)
        .execute(&mut *tx)
        .await?;
    let taken = sqlx::query("update quota_days set taken = taken + 1 where day = ? and taken < ?")
        .bind(day)
        .bind(quota)
        .execute(&mut *tx)
        .await?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("insert into quota (turn, revision, day, state) values (?, ?, ?, 'reserved')")
        .bind(saga.turn.to_string())
        .bind(saga.revision.0)
        .bind(day)
        .execute(tx)
        .await?;
    Ok(true)
}

async fn store_draft(tx: &mut SqliteConnection, saga: &Head, draft: &Draft, now: i64) -> Result<DraftVersion, Fault> {
    let turn = saga.turn.to_string();
    let version: u32 = sqlx::query_scalar("select coalesce(max(version), 0) + 1 from drafts where turn = ?")
        .bind(&turn)
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query(
        "insert into drafts (turn, version, revision, text, provider, ceiling, stored_at) values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&turn)
    .bind(version)
    .bind(saga.revision.0)
    .bind(&draft.text)
    .bind(&draft.provider)
    .bind(draft.ceiling.as_str())
    .bind(now)
    .execute(tx)
    .await?;
    Ok(DraftVersion(version))
}

/// Puts a command that belongs to a saga into the outbox; nobody but its writer publishes it before `held_until`.
pub(super) async fn write_command(
    tx: &mut SqliteConnection,
    stamp: &Stamp<'_>,
    command: &Command,
    held_until: i64,
) -> Result<EntryId, Fault> {
    let bad = |why: String| Fault::Bad(Rejected(why));
    let (kind, turn, revision, body) = match command {
        Command::Send(send) => ("send", send.turn, send.revision, serde_json::to_string(send)),
        Command::Withdraw(withdraw) => ("withdraw", withdraw.turn, withdraw.revision, serde_json::to_string(withdraw)),
        Command::TurnRecorded(_) | Command::OutcomeRecorded(_) => {
            return Err(bad("an acknowledgement has no place in the outbox".to_owned()));
        }
    };
    let body = body.map_err(|error| bad(error.to_string()))?;
    let entry: i64 = sqlx::query_scalar(
        "insert into outbox (event, turn, revision, kind, body, held_until) values (?, ?, ?, ?, ?, ?) returning entry",
    )
    .bind(stamp.id.to_string())
    .bind(turn.to_string())
    .bind(revision.0)
    .bind(kind)
    .bind(body)
    .bind(held_until)
    .fetch_one(tx)
    .await?;
    Ok(EntryId(entry))
}

pub(super) async fn decide(ledger: &SqliteLedger, decision: &Decision) -> Result<Decided, LedgerError> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let decided = decide_in(&mut tx, decision, now).await?;
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(decided)
}

async fn decide_in(tx: &mut SqliteConnection, decision: &Decision, now: i64) -> Result<Decided, Fault> {
    let Some(saga) = head(tx, decision.turn).await? else { return Ok(Decided::Unknown) };
    if saga.state != State::Open(Phase::AwaitingApproval) {
        return Ok(Decided::NotAwaiting(saga.state));
    }
    let stored = draft(tx, saga.turn, saga.revision).await?.ok_or_else(|| damaged("a draft"))?;
    if stored.version != decision.version {
        return Ok(Decided::OtherVersion(stored.version));
    }
    let stamp = Stamp::new(now, &decision.by);
    let detail = format!("draft {}", stored.version);
    if !decision.approve {
        advance(tx, &stamp, &saga, Event::Rejected, &detail).await?;
        return Ok(Decided::Rejected);
    }
    let detected = saga.detected()?.ok_or_else(|| damaged("a turn"))?;
    let (owner_token, traceparent) = terms_of(tx, saga.turn).await?;
    let command = Command::Send(ReplySend {
        turn: saga.turn,
        revision: saga.revision,
        journal: detected.journal,
        desktop: detected.desktop,
        conversation: detected.conversation.id,
        text: stored.draft.text,
        authority: Authority::ApprovedBy { by: decision.by.clone() },
        issued_at: from_millis(now),
        owner_token,
    });
    advance(tx, &stamp, &saga, Event::Approved, &detail).await?;
    let entry = write_command(tx, &stamp, &command, now + PUBLISHER_HOLD_MS).await?;
    rest(tx, &saga, now, decision.answer_within).await?;
    Ok(Decided::Issued(PendingCommand { entry, command, traceparent }))
}

/// The ownership under which the saga's turn was recorded, and its place in its trace.
async fn terms_of(tx: &mut SqliteConnection, turn: TurnId) -> Result<(Option<u64>, Option<String>), Fault> {
    let row = sqlx::query("select owner_token, traceparent from sagas where turn = ?")
        .bind(turn.to_string())
        .fetch_one(tx)
        .await?;
    Ok((owner_token(&row)?, row.try_get("traceparent")?))
}

/// The command of an outbox row.
pub(super) fn command_of(row: &sqlx::sqlite::SqliteRow) -> Result<PendingCommand, LedgerError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| unavailable(&error));
    let (kind, body) = (text("kind")?, text("body")?);
    let command = match kind.as_str() {
        "send" => serde_json::from_str(&body).map(Command::Send),
        _ => serde_json::from_str(&body).map(Command::Withdraw),
    };
    let entry = row.try_get("entry").map(EntryId).map_err(|error| unavailable(&error))?;
    let traceparent = row.try_get("traceparent").map_err(|error| unavailable(&error))?;
    Ok(PendingCommand { entry, command: command.map_err(|_| damaged("a command"))?, traceparent })
}
