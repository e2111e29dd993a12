//! The sets of a [`Writes`] as one statement: a branch for each set that is not empty, its rows as arrays. The text of
//! the statement depends only on which sets there are, so that it is prepared once.

use std::collections::HashMap;

use sqlx::{Encode, PgConnection, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use super::book::{CommandRow, DraftRow, EventRow, QuotaRow, TurnRow, Writes};
use super::rows::{Fault, Saga, get};
use crate::contract::Effect;
use crate::saga::EntryId;

/// A statement that grows by branches.
struct Statement {
    query: QueryBuilder<Postgres>,
    begun: bool,
}

impl Statement {
    /// A branch: `name as (head <the arrays as rows> tail)`.
    fn branch(&mut self, name: &str, head: &str, arrays: impl FnOnce(&mut Arrays<'_>), tail: &str) {
        let before = if std::mem::replace(&mut self.begun, true) { ",\n" } else { "\nwith " };
        self.query.push(before).push(name).push(" as (").push(head).push(" unnest(");
        arrays(&mut Arrays { query: &mut self.query, begun: false });
        self.query.push(") ").push(tail).push(")");
    }
}

/// The columns of a branch.
struct Arrays<'q> {
    query: &'q mut QueryBuilder<Postgres>,
    begun: bool,
}

impl Arrays<'_> {
    fn column<T>(&mut self, kind: &str, values: impl Iterator<Item = T>)
    where
        Vec<T>: for<'e> Encode<'e, Postgres> + Type<Postgres>,
    {
        if std::mem::replace(&mut self.begun, true) {
            self.query.push(", ");
        }
        self.query.push_bind(values.collect::<Vec<T>>()).push("::").push(kind).push("[]");
    }
    fn ids(&mut self, values: impl Iterator<Item = Uuid>) {
        self.column("uuid", values);
    }
    fn numbers(&mut self, values: impl Iterator<Item = i64>) {
        self.column("bigint", values);
    }
    fn texts(&mut self, values: impl Iterator<Item = String>) {
        self.column("text", values);
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The columns of `sagas` that a step may change, in the order of [`SAGA`].
fn sagas(arrays: &mut Arrays<'_>, rows: &[Saga]) {
    arrays.ids(rows.iter().map(|saga| saga.turn.0));
    arrays.numbers(rows.iter().map(|saga| i64::from(saga.revision.0)));
    arrays.texts(rows.iter().map(|saga| saga.state.phase().as_str().to_owned()));
    arrays.column("text", rows.iter().map(|saga| saga.state.effect().map(Effect::as_str)));
    arrays.numbers(rows.iter().map(|saga| clamp(saga.lease.0)));
    arrays.texts(rows.iter().map(|saga| saga.lease_owner.clone()));
    arrays.numbers(rows.iter().map(|saga| saga.lease_until));
    arrays.numbers(rows.iter().map(|saga| saga.deadline_at));
    arrays.column("integer", rows.iter().map(|saga| saga.takeovers));
    arrays.column("integer", rows.iter().map(|saga| saga.drafts));
    arrays.column("bigint", rows.iter().map(|saga| saga.quota_day));
    arrays.numbers(rows.iter().map(|saga| saga.updated_at));
}

const SAGA: &str = "turn, revision, state, effect, lease_token, lease_owner, lease_until, deadline_at, takeovers, \
                    drafts, quota_day, updated_at";

/// Sorted, so that two groups that insert the same keys never wait for each other in a circle.
fn insert_sagas(statement: &mut Statement, rows: &mut [Saga]) {
    rows.sort_by_key(|saga| saga.turn);
    let head = format!("insert into sagas ({SAGA}) select * from");
    statement.branch("new_sagas", &head, |arrays| sagas(arrays, rows), "");
}

fn update_sagas(statement: &mut Statement, rows: &[Saga]) {
    let head = "update sagas s set revision = w.revision, state = w.state, effect = w.effect,
         lease_token = w.lease_token, lease_owner = w.lease_owner, lease_until = w.lease_until,
         deadline_at = w.deadline_at, takeovers = w.takeovers, drafts = w.drafts, quota_day = w.quota_day,
         updated_at = w.updated_at
         from";
    let tail = format!("as w ({SAGA}) where s.turn = w.turn");
    statement.branch("changed_sagas", head, |arrays| sagas(arrays, rows), &tail);
}

fn upsert_turns(statement: &mut Statement, rows: &[TurnRow], now: i64) {
    let columns = "turn, journal, desktop, conversation, peer, body, recorded_at, owner_token, traceparent";
    let arrays = |arrays: &mut Arrays<'_>| {
        arrays.ids(rows.iter().map(|row| row.turn.0));
        arrays.ids(rows.iter().map(|row| row.journal.0));
        arrays.texts(rows.iter().map(|row| row.desktop.as_str().to_owned()));
        arrays.ids(rows.iter().map(|row| row.conversation.0));
        arrays.texts(rows.iter().map(|row| row.peer.clone()));
        arrays.texts(rows.iter().map(|row| row.body.clone()));
        arrays.numbers(rows.iter().map(|_| now));
        arrays.column("bigint", rows.iter().map(|row| row.owner_token.map(clamp)));
        arrays.column("text", rows.iter().map(|row| row.traceparent.clone()));
    };
    let tail = "on conflict (turn) do update set desktop = excluded.desktop, peer = excluded.peer,
                    body = excluded.body, owner_token = excluded.owner_token,
                    traceparent = excluded.traceparent";
    statement.branch("recorded", &format!("insert into turns ({columns}) select * from"), arrays, tail);
}

fn insert_events(statement: &mut Statement, rows: &[EventRow], now: i64) {
    let columns = "id, turn, revision, at, who, event, state_from, state_to, detail, times";
    let arrays = |arrays: &mut Arrays<'_>| {
        arrays.ids(rows.iter().map(|row| row.id));
        arrays.ids(rows.iter().map(|row| row.turn.0));
        arrays.numbers(rows.iter().map(|row| i64::from(row.revision.0)));
        arrays.numbers(rows.iter().map(|_| now));
        arrays.texts(rows.iter().map(|row| row.who.clone()));
        arrays.column("text", rows.iter().map(|row| row.event));
        arrays.column("text", rows.iter().map(|row| row.from.map(|state| state.to_string())));
        arrays.texts(rows.iter().map(|row| row.to.to_string()));
        arrays.texts(rows.iter().map(|row| row.detail.clone()));
        arrays.column("text", rows.iter().map(|row| row.times.clone()));
    };
    // Numbered in the order in which they were written down.
    let tail = format!("with ordinality as w ({columns}, place) order by place");
    statement.branch("told", &format!("insert into events ({columns}) select {columns} from"), arrays, &tail);
}

fn insert_drafts(statement: &mut Statement, rows: &[DraftRow], now: i64) {
    let columns = "turn, version, revision, text, provider, ceiling, stored_at, discarded_at";
    let arrays = |arrays: &mut Arrays<'_>| {
        arrays.ids(rows.iter().map(|row| row.turn.0));
        arrays.column("integer", rows.iter().map(|row| row.version));
        arrays.numbers(rows.iter().map(|row| i64::from(row.revision.0)));
        arrays.texts(rows.iter().map(|row| row.draft.text.clone()));
        arrays.texts(rows.iter().map(|row| row.draft.provider.clone()));
        arrays.column("text", rows.iter().map(|row| row.draft.ceiling.as_str()));
        arrays.numbers(rows.iter().map(|_| now));
        arrays.column("bigint", rows.iter().map(|row| row.discarded.then_some(now)));
    };
    statement.branch("drafted", &format!("insert into drafts ({columns}) select * from"), arrays, "");
}

fn insert_commands(statement: &mut Statement, rows: &[CommandRow]) {
    let columns = "event, turn, revision, kind, body, held_until";
    let arrays = |arrays: &mut Arrays<'_>| {
        arrays.ids(rows.iter().map(|row| row.event));
        arrays.ids(rows.iter().map(|row| row.turn.0));
        arrays.numbers(rows.iter().map(|row| i64::from(row.revision.0)));
        arrays.column("text", rows.iter().map(|row| row.kind));
        arrays.texts(rows.iter().map(|row| row.body.clone()));
        arrays.numbers(rows.iter().map(|row| row.held_until));
    };
    let head = format!("insert into outbox ({columns}) select {columns} from");
    let tail = format!("with ordinality as w ({columns}, place) order by place returning event, entry");
    statement.branch("commanded", &head, arrays, &tail);
}

fn insert_quota(statement: &mut Statement, rows: &[QuotaRow]) {
    let arrays = |arrays: &mut Arrays<'_>| {
        arrays.ids(rows.iter().map(|row| row.turn.0));
        arrays.numbers(rows.iter().map(|row| i64::from(row.revision.0)));
        arrays.numbers(rows.iter().map(|row| row.day));
        arrays.column("text", rows.iter().map(|row| row.state));
    };
    statement.branch("reserved", "insert into quota (turn, revision, day, state) select * from", arrays, "");
}

fn change_rows(statement: &mut Statement, writes: &Writes, now: i64) {
    if !writes.cancelled.is_empty() {
        // Rows that this very statement inserts are not seen by it, and so not cancelled.
        let arrays = |arrays: &mut Arrays<'_>| {
            arrays.ids(writes.cancelled.iter().map(|turn| turn.0));
            arrays.numbers(writes.cancelled.iter().map(|_| now));
        };
        let tail = "as w (turn, at) where o.turn = w.turn and published_at is null and cancelled_at is null";
        statement.branch("cancelled", "update outbox o set cancelled_at = w.at from", arrays, tail);
    }
    if !writes.discarded.is_empty() {
        let arrays = |arrays: &mut Arrays<'_>| {
            arrays.ids(writes.discarded.iter().map(|(turn, _)| turn.0));
            arrays.numbers(writes.discarded.iter().map(|(_, revision)| i64::from(revision.0)));
            arrays.numbers(writes.discarded.iter().map(|_| now));
        };
        let tail = "as w (turn, revision, at)
             where d.turn = w.turn and d.revision = w.revision and d.discarded_at is null";
        statement.branch("discarded", "update drafts d set discarded_at = w.at from", arrays, tail);
    }
    if !writes.settled.is_empty() {
        let arrays = |arrays: &mut Arrays<'_>| {
            arrays.ids(writes.settled.iter().map(|(turn, ..)| turn.0));
            arrays.numbers(writes.settled.iter().map(|(_, revision, _)| i64::from(revision.0)));
            arrays.column("text", writes.settled.iter().map(|(.., to)| *to));
        };
        let tail = "as w (turn, revision, state)
             where q.turn = w.turn and q.revision = w.revision and q.state = 'reserved'";
        statement.branch("settled", "update quota q set state = w.state from", arrays, tail);
    }
    if writes.days.values().any(|delta| *delta != 0) {
        let arrays = |arrays: &mut Arrays<'_>| {
            arrays.numbers(writes.days.keys().copied());
            arrays.numbers(writes.days.values().copied());
        };
        let tail = "as w (day, delta) where y.day = w.day";
        statement.branch("days", "update quota_days y set taken = y.taken + w.delta from", arrays, tail);
    }
}

/// The statement that writes these sets, after `prefix`; it gives `event` and `entry` of each command.
pub(super) fn statement(prefix: &str, mut writes: Writes, now: i64) -> QueryBuilder<Postgres> {
    let mut statement = Statement { query: QueryBuilder::new(prefix), begun: false };
    if !writes.new.is_empty() {
        insert_sagas(&mut statement, &mut writes.new);
    }
    if !writes.changed.is_empty() {
        update_sagas(&mut statement, &writes.changed);
    }
    if !writes.turns.is_empty() {
        upsert_turns(&mut statement, &writes.turns, now);
    }
    if !writes.drafts.is_empty() {
        insert_drafts(&mut statement, &writes.drafts, now);
    }
    if !writes.reserved.is_empty() {
        insert_quota(&mut statement, &writes.reserved);
    }
    change_rows(&mut statement, &writes, now);
    if !writes.events.is_empty() {
        insert_events(&mut statement, &writes.events, now);
    }
    let commands = !writes.commands.is_empty();
    if commands {
        insert_commands(&mut statement, &writes.commands);
    }
    let last = if commands { "select event, entry from commanded" } else { "select where false" };
    statement.query.push("\n").push(last);
    statement.query
}

/// Writes these sets, and gives the entry of each command by the id of its event.
pub(super) async fn write(
    tx: &mut PgConnection,
    (now, writes): (i64, Writes),
) -> Result<HashMap<Uuid, EntryId>, Fault> {
    if writes.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = statement("", writes, now).build().fetch_all(tx).await?;
    let mut entries = HashMap::with_capacity(rows.len());
    for row in &rows {
        entries.insert(get(row, "event")?, EntryId(get(row, "entry")?));
    }
    Ok(entries)
}
