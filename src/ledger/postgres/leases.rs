//! Leases, and the outbox. Each is one statement: a worker that dies in the middle has taken nothing.

use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresLedger;
use super::rows::{damaged, detected_of, draft_of, get, number, owner_token, state_of, turn_of};
use crate::clock::millis;
use crate::contract::{Command, Revision, TurnId};
use crate::saga::{EntryId, LeaseRequest, LeaseToken, LedgerError, OpenSaga, PendingCommand};

/// Which sagas are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A worker had them and is gone.
    Waiting,
    /// Their deadline has passed.
    Overdue,
}

/// $1 the turns in their order, $2 their tokens, $3 how long. The time is asked for once a statement: only so can it be
/// looked for in an index. Each saga is looked up by its key, in order, and locked.
pub(super) const RENEW: &str = "
    with held as (
        select found.turn from unnest($1::uuid[], $2::bigint[]) as w (turn, token)
        cross join lateral (
            select s.turn from sagas s where s.turn = w.turn and s.lease_token = w.token
                and s.state in ('recorded', 'quota_reserved', 'drafted') for update) as found)
    update sagas s set lease_until = (select ledger_now()) + $3 from held where s.turn = held.turn
    returning s.turn";

/// $1 the worker, $2 how long it holds, $3 how many.
pub(super) const TAKE_OVER: &str = "
    with due as (
        select turn from sagas where state in ('recorded', 'quota_reserved', 'drafted')
            and lease_until <= (select ledger_now()) and deadline_at > (select ledger_now())
        order by lease_until limit $3 for update skip locked),
    taken as (
        update sagas s set lease_token = lease_token + 1, lease_owner = $1,
            lease_until = (select ledger_now()) + $2, takeovers = takeovers + 1
        from due where s.turn = due.turn returning s.*),
    told as (
        insert into events (id, turn, revision, at, who, event, state_from, state_to, detail)
        select gen_random_uuid(), turn, revision, (select ledger_now()), $1, 'taken_over', state, state,
               'the lease had ended' from taken)
    select s.turn, s.revision, s.state, s.effect, s.lease_token, s.takeovers, t.body, t.owner_token,
           t.traceparent, d.version, d.text, d.provider, d.ceiling
    from taken s join turns t on t.turn = s.turn
    left join drafts d on d.turn = s.turn and d.revision = s.revision and d.text is not null
                       and d.discarded_at is null";

/// The same for those whose deadline has passed.
pub(super) const TAKE_OVERDUE: &str = "
    with due as (
        select turn from sagas where state <> 'ended'
            and deadline_at <= (select ledger_now()) and lease_until <= (select ledger_now())
        order by deadline_at limit $3 for update skip locked),
    taken as (
        update sagas s set lease_token = lease_token + 1, lease_owner = $1, lease_until = (select ledger_now()) + $2
        from due where s.turn = due.turn returning s.*)
    select s.turn, s.revision, s.state, s.effect, s.lease_token, s.takeovers, t.body, t.owner_token,
           t.traceparent, d.version, d.text, d.provider, d.ceiling
    from taken s join turns t on t.turn = s.turn
    left join drafts d on d.turn = s.turn and d.revision = s.revision and d.text is not null
                       and d.discarded_at is null";

/// $1 how long nobody else is given them, $2 how many.
pub(super) const TAKE_COMMANDS: &str = "
    with due as (
        select entry from outbox where published_at is null and cancelled_at is null and body is not null
            and held_until <= (select ledger_now())
        order by held_until limit $2 for update skip locked)
    update outbox o set held_until = (select ledger_now()) + $1 from due where o.entry = due.entry
    returning o.entry, o.kind, o.body, 
        (select t.traceparent from turns t where t.turn = o.turn) as traceparent";

/// $1 the entries. The state at this moment, for the story; a command outlives nothing but its saga's row.
pub(super) const MARK_PUBLISHED: &str = "
    with due as (
        select entry from outbox where entry = any($1) and published_at is null order by entry for update),
    marked as (
        update outbox o set published_at = (select ledger_now()) from due where o.entry = due.entry
        returning o.entry, o.turn, o.revision, o.kind)
    insert into events (id, turn, revision, at, who, event, state_from, state_to, detail)
    select gen_random_uuid(), m.turn, m.revision, (select ledger_now()), 'outbox', 'published', null,
           case when s.effect is null then s.state else s.state || '(' || s.effect || ')' end, m.kind
    from marked m join sagas s on s.turn = m.turn order by m.entry";

pub(super) async fn renew(
    ledger: &PostgresLedger,
    leases: &[(TurnId, LeaseToken)],
    hold: Duration,
) -> Result<Vec<bool>, LedgerError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted = leases.to_vec();
    sorted.sort_unstable();
    let (turns, tokens): (Vec<Uuid>, Vec<i64>) =
        sorted.iter().map(|(turn, token)| (turn.0, i64::try_from(token.0).unwrap_or(i64::MAX))).unzip();
    let rows = ledger.ask(|| sqlx::query(RENEW).bind(turns.clone()).bind(tokens.clone()).bind(millis(hold))).await?;
    let mut held = rows.iter().map(turn_of).collect::<Result<Vec<_>, _>>()?;
    held.sort();
    Ok(leases.iter().map(|(turn, _)| held.binary_search(turn).is_ok()).collect())
}

pub(super) async fn take(
    ledger: &PostgresLedger,
    due: Due,
    lease: &LeaseRequest,
    limit: u32,
) -> Result<Vec<OpenSaga>, LedgerError> {
    let statement = match due {
        Due::Waiting => TAKE_OVER,
        Due::Overdue => TAKE_OVERDUE,
    };
    let ask = || sqlx::query(statement).bind(lease.worker.clone()).bind(millis(lease.hold)).bind(i64::from(limit));
    let rows = ledger.ask(ask).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        match open_saga(row) {
            Ok(saga) => taken.extend(saga),
            Err(error) => unread(row, &error),
        }
    }
    Ok(taken)
}

/// One row that this version cannot read, as while two versions work side by side, must not hold up those beside it.
fn unread(row: &PgRow, error: &LedgerError) {
    let turn = turn_of(row).ok().map(|turn| turn.to_string());
    tracing::error!(turn, %error, "a reply in the ledger cannot be read by this version; the others go on");
}

fn open_saga(row: &PgRow) -> Result<Option<OpenSaga>, LedgerError> {
    let Some(mut detected) = detected_of(row)? else { return Ok(None) };
    detected.traceparent = get(row, "traceparent")?;
    let revision = Revision(number(row, "revision")?);
    let draft = match get::<Option<i32>>(row, "version")? {
        Some(_) => Some(draft_of(row, revision)?),
        None => None,
    };
    let takeovers = u32::try_from(get::<i32>(row, "takeovers")?).map_err(|_| damaged("takeovers"))?;
    let lease = LeaseToken(number(row, "lease_token")?);
    let owner_token = owner_token(row)?;
    Ok(Some(OpenSaga { detected, phase: state_of(row)?.phase(), lease, draft, takeovers, owner_token }))
}

pub(super) async fn take_commands(
    ledger: &PostgresLedger,
    hold: Duration,
    limit: u32,
) -> Result<Vec<PendingCommand>, LedgerError> {
    let rows = ledger.ask(|| sqlx::query(TAKE_COMMANDS).bind(millis(hold)).bind(i64::from(limit))).await?;
    let read = |row: &PgRow| command_of(row).map_err(|error| unread(row, &error)).ok();
    let mut commands: Vec<PendingCommand> = rows.iter().filter_map(read).collect();
    commands.sort_by_key(|pending| pending.entry);
    Ok(commands)
}

fn command_of(row: &PgRow) -> Result<PendingCommand, LedgerError> {
    let body: &str = get(row, "body")?;
    let command = match get::<&str>(row, "kind")? {
        "send" => serde_json::from_str(body).map(Command::Send),
        _ => serde_json::from_str(body).map(Command::Withdraw),
    };
    let command = command.map_err(|_| damaged("a command"))?;
    Ok(PendingCommand { entry: EntryId(get(row, "entry")?), command, traceparent: get(row, "traceparent")? })
}

pub(super) async fn mark_published(ledger: &PostgresLedger, entries: &[EntryId]) -> Result<(), LedgerError> {
    let list: Vec<i64> = entries.iter().map(|entry| entry.0).collect();
    ledger.ask(|| sqlx::query(MARK_PUBLISHED).bind(list.clone())).await.map(drop)
}
