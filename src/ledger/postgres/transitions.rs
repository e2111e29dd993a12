//! Transitions by workers, and decisions by people.

use std::collections::HashMap;
use std::slice;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::PostgresLedger;
use super::book::{Book, Page, Stamp};
use super::group::{self, SOON, Wave, Work, hold_today};
use super::rows::{Fault, Held, Saga, damaged, detected_of, draft_of, get, hold, owner_token};
use super::write::write;
use crate::clock::{from_millis, millis};
use crate::contract::{Authority, Command, DraftVersion, ReplySend, TurnId};
use crate::retry::retry;
use crate::saga::state::{End, Event, Phase, State};
use crate::saga::{
    Change, Decided, Decision, Each, EntryId, LedgerError, PendingCommand, Rejected, Transition, Transitioned,
};

/// How long the writer of a command has to publish it before recovery may.
const PUBLISHER_HOLD_MS: i64 = 10_000;

struct Transitions {
    daily_quota: i64,
}

pub(super) async fn transition(ledger: &PostgresLedger, transitions: &[Transition]) -> Each<Transitioned> {
    group::write(ledger, &Transitions { daily_quota: ledger.daily_quota }, transitions).await
}

/// What a transition came to before its command has a place.
#[derive(Clone, Copy)]
enum Step {
    Lost,
    QuotaExhausted,
    Done { state: State, draft: Option<DraftVersion>, command: Option<Uuid>, end: Option<End> },
}

#[async_trait]
impl Work for Transitions {
    type Item = Transition;
    type Answer = Transitioned;

    fn turn(&self, item: &Transition) -> TurnId {
        item.turn
    }

    async fn wave(&self, tx: &mut PgConnection, items: &[&Transition], _: bool) -> Wave<Transitioned> {
        let turns: Vec<TurnId> = items.iter().map(|item| item.turn).collect();
        let held = hold(tx, &turns).await?;
        let reserves = |wanted: &&Transition| wanted.changes.contains(&Change::ReserveQuota);
        let today =
            if items.iter().any(reserves) { Some(hold_today(tx, held.now, self.daily_quota).await?) } else { None };
        let mut book = Book::new(held.now, today);
        let steps: Vec<Result<Step, Rejected>> =
            items.iter().map(|wanted| book.item(|page| change(page, &held, wanted))).collect();
        let entries = write(tx, book.close()).await?;
        // What is not legal now may have been done before: no transition is legal twice.
        let lost = steps.iter().zip(items).filter(|(step, _)| matches!(step, Ok(Step::Lost)));
        let before = done_before(tx, &held, lost.map(|(_, wanted)| *wanted).collect()).await?;
        let answer = |(step, wanted): (Result<Step, Rejected>, &&Transition)| {
            step.map(|step| match step {
                Step::Lost => before.get(&wanted.id).cloned().unwrap_or(Transitioned::Lost),
                Step::QuotaExhausted => Transitioned::QuotaExhausted,
                Step::Done { state, draft, command, end } => {
                    let entry = command.and_then(|event| entries.get(&event).copied());
                    Transitioned::Done { state, draft, entry, end }
                }
            })
        };
        Ok(steps.into_iter().zip(items).map(answer).collect())
    }
}

fn change(page: &mut Page, held: &Held, wanted: &Transition) -> Result<Step, Rejected> {
    let Some(known) = held.saga(wanted.turn) else { return Ok(Step::Lost) };
    if known.revision != wanted.revision || known.lease != wanted.lease || !wanted.is_legal_from(known.state) {
        return Ok(Step::Lost);
    }
    let (mut saga, mut version, mut command) = (known.clone(), None, None);
    for (index, change) in wanted.changes.iter().enumerate() {
        // Only legal as the first of its transition, so that nothing has been written if there is none left.
        if *change == Change::ReserveQuota && !page.take_quota(&mut saga) {
            return Ok(Step::QuotaExhausted);
        }
        let stamp = Stamp::of(wanted.event_id(index), &wanted.who);
        page.advance(stamp, &mut saga, change.event(), &change.detail());
        match change {
            Change::StoreDraft(draft) => version = Some(page.store_draft(&mut saga, draft)),
            Change::RequestApproval { lifetime } => page.rest(&mut saga, millis(*lifetime)),
            Change::Issue { send, answer_within } => {
                page.write_command(stamp.id, &Command::Send(send.clone()), page.now + PUBLISHER_HOLD_MS)?;
                page.rest(&mut saga, millis(*answer_within));
                command = Some(stamp.id);
            }
            Change::Withdraw { withdraw, answer_within } => {
                let ask = Command::Withdraw(withdraw.clone());
                page.write_command(stamp.id, &ask, page.now + PUBLISHER_HOLD_MS)?;
                page.rest(&mut saga, millis(*answer_within));
                command = Some(stamp.id);
            }
            Change::ReserveQuota | Change::Abandon { .. } | Change::HandOver { .. } => {}
        }
    }
    let draft = version.and_then(|version| u32::try_from(version).ok()).map(DraftVersion);
    let state = saga.state;
    let end = End::of(known.state, state, page.now >= known.deadline_at);
    page.writes.changed.push(saga);
    Ok(Step::Done { state, draft, command, end })
}

/// The answers to transitions whose commit their callers did not hear of.
async fn done_before(
    tx: &mut PgConnection,
    held: &Held,
    lost: Vec<&Transition>,
) -> Result<HashMap<Uuid, Transitioned>, Fault> {
    let mut answers = HashMap::new();
    if lost.is_empty() {
        return Ok(answers);
    }
    let rows = sqlx::query(
        "select w.id, d.version, (select max(o.entry) from outbox o where o.turn = w.turn and o.event = any($4))
                as entry
         from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as w (id, turn, revision)
         join events e on e.turn = w.turn and e.id = w.id
         left join drafts d on d.turn = w.turn and d.revision = w.revision and d.text is not null
                            and d.discarded_at is null",
    )
    .bind(lost.iter().map(|wanted| wanted.id).collect::<Vec<_>>())
    .bind(lost.iter().map(|wanted| wanted.turn.0).collect::<Vec<_>>())
    .bind(lost.iter().map(|wanted| i64::from(wanted.revision.0)).collect::<Vec<_>>())
    .bind(
        lost.iter()
            .flat_map(|wanted| (0..wanted.changes.len()).map(|index| wanted.event_id(index)))
            .collect::<Vec<_>>(),
    )
    .fetch_all(tx)
    .await?;
    for row in &rows {
        let id: Uuid = get(row, "id")?;
        let saga = lost.iter().find(|wanted| wanted.id == id).and_then(|wanted| held.saga(wanted.turn));
        let Some(saga) = saga else { continue };
        let version: Option<i32> = get(row, "version")?;
        let draft = version.and_then(|version| u32::try_from(version).ok()).map(DraftVersion);
        let entry = get::<Option<i64>>(row, "entry")?.map(EntryId);
        answers.insert(id, Transitioned::Done { state: saga.state, draft, entry, end: None });
    }
    Ok(answers)
}

pub(super) async fn decide(ledger: &PostgresLedger, decision: &Decision) -> Result<Decided, LedgerError> {
    Ok(retry(SOON, || ledger.in_time(decide_once(ledger, decision))).await?)
}

async fn decide_once(ledger: &PostgresLedger, decision: &Decision) -> Result<Decided, Fault> {
    let mut loan = ledger.lend().await?;
    let mut tx = loan.begin().await?;
    let held = hold(&mut tx, slice::from_ref(&decision.turn)).await?;
    let Some(saga) = held.saga(decision.turn).cloned() else { return Ok(Decided::Unknown) };
    if saga.state != State::Open(Phase::AwaitingApproval) {
        return Ok(Decided::NotAwaiting(saga.state));
    }
    let row = sqlx::query(
        "select t.body, t.owner_token, t.traceparent, d.version, d.text, d.provider, d.ceiling
         from turns t join drafts d using (turn)
         where t.turn = $1 and d.revision = $2 and d.text is not null and d.discarded_at is null",
    )
    .bind(saga.turn.0)
    .bind(i64::from(saga.revision.0))
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| damaged("a draft"))?;
    let stored = draft_of(&row, saga.revision)?;
    if stored.version != decision.version {
        return Ok(Decided::OtherVersion(stored.version));
    }
    let command = approved(decision, &saga, &row, stored.draft.text, held.now)?;
    let (event, detail) = (Uuid::now_v7(), format!("draft {}", stored.version));
    let mut book = Book::new(held.now, None);
    let written = book.item(|page| {
        let (mut saga, stamp) = (saga, Stamp::of(event, &decision.by));
        if decision.approve {
            page.advance(stamp, &mut saga, Event::Approved, &detail);
            page.write_command(event, &command, page.now + PUBLISHER_HOLD_MS)?;
            page.rest(&mut saga, millis(decision.answer_within));
        } else {
            page.advance(stamp, &mut saga, Event::Rejected, &detail);
        }
        page.writes.changed.push(saga);
        Ok(())
    });
    written.map_err(Fault::Bad)?;
    let entries = write(&mut tx, book.close()).await?;
    tx.commit().await?;
    loan.whole();
    Ok(match entries.get(&event) {
        Some(entry) => {
            Decided::Issued(PendingCommand { entry: *entry, command, traceparent: get(&row, "traceparent")? })
        }
        None => Decided::Rejected,
    })
}

fn approved(
    decision: &Decision,
    saga: &Saga,
    row: &sqlx::postgres::PgRow,
    text: String,
    now: i64,
) -> Result<Command, LedgerError> {
    let detected = detected_of(row)?.ok_or_else(|| damaged("a turn"))?;
    Ok(Command::Send(ReplySend {
        turn: saga.turn,
        revision: saga.revision,
        journal: detected.journal,
        desktop: detected.desktop,
        conversation: detected.conversation.id,
        text,
        authority: Authority::ApprovedBy { by: decision.by.clone() },
        issued_at: from_millis(now),
        owner_token: owner_token(row)?,
    }))
}
