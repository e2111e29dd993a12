//! What executors say.
//!
//! An outcome may come before its turn. It is kept then, and whoever records the turn looks for it; so that neither
//! misses the other, recording holds a lock that keeping waits for.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresLedger;
use super::book::{Book, Page, Stamp};
use super::group::{self, Wave, Work};
use super::rows::{Fault, Saga, damaged, detected_of, get, hold, number, turn_of};
use super::write::write;
use crate::clock::from_millis;
use crate::contract::{Effect, ReplyOutcome, Revision, TurnId};
use crate::saga::state::{End, Event, Settlement, correct};
use crate::saga::{Applied, Each, Exchange, Rejected};

/// Begins a transaction that records: many at the same time, none while an outcome without a turn is kept.
pub(super) const RECORDING: &str = "begin; select pg_advisory_xact_lock_shared(706133, 1)";
/// Begins a transaction that keeps outcomes without a turn: alone, so that every turn is either seen or sees them.
const KEEPING: &str = "begin; select pg_advisory_xact_lock(706133, 1)";

struct Outcomes {
    /// Whether outcomes without a turn are kept; otherwise they are left alone, and take no lock.
    keep: bool,
}

pub(super) async fn apply(ledger: &PostgresLedger, outcomes: &[ReplyOutcome]) -> Each<Applied> {
    let mut applied = group::write(ledger, &Outcomes { keep: false }, outcomes).await?;
    let (mut places, mut alone) = (Vec::new(), Vec::new());
    for (place, (answer, outcome)) in applied.iter().zip(outcomes).enumerate() {
        if *answer == Ok(Applied::Orphan) {
            places.push(place);
            alone.push(outcome.clone());
        }
    }
    let kept = group::write(ledger, &Outcomes { keep: true }, &alone).await?;
    for (place, answer) in places.into_iter().zip(kept) {
        applied[place] = answer;
    }
    Ok(applied)
}

#[async_trait]
impl Work for Outcomes {
    type Item = ReplyOutcome;
    type Answer = Applied;

    fn begin(&self) -> &'static str {
        if self.keep { KEEPING } else { "begin" }
    }

    fn turn(&self, item: &ReplyOutcome) -> TurnId {
        item.turn
    }

    async fn wave(&self, tx: &mut PgConnection, items: &[&ReplyOutcome], _: bool) -> Wave<Applied> {
        let turns: Vec<TurnId> = items.iter().map(|item| item.turn).collect();
        let held = hold(tx, &turns).await?;
        let (mut told, mut orphans) = (None, Vec::new());
        let mut book = Book::new(held.now, None);
        let (mut answers, mut corrections) = (Vec::with_capacity(items.len()), Vec::new());
        for outcome in items {
            let Some(known) = held.saga(outcome.turn) else {
                orphans.push(*outcome);
                answers.push(Ok(Applied::Orphan));
                continue;
            };
            let mut saga = known.clone();
            let ended = book.item(|page| Ok(conclude(page, &mut saga, outcome)));
            if let Some(correction) = correct(known.state, saga.state).filter(|_| ended == Ok(true)) {
                corrections.push((outcome.turn, outcome.revision, correction));
            }
            if ended == Ok(true) || ended.is_err() {
                let end = End::of(known.state, saga.state, held.now >= known.deadline_at);
                let applied = |_| Applied::Ended { exchange: None, end: end.unwrap_or(End::Corrected) };
                answers.push(ended.map(applied));
                continue;
            }
            if told.is_none() {
                told = Some(told_before(tx, &turns).await?);
            }
            let line = (outcome.turn, outcome.revision, detail_of(outcome));
            let repeated = told.as_ref().is_some_and(|told| told.contains(&line));
            answers.push(book.item(|page| {
                if repeated {
                    return Ok(Applied::Repeated);
                }
                tell_kept(page, &saga, outcome);
                Ok(Applied::Kept)
            }));
        }
        write(tx, book.close()).await?;
        correct_quota(tx, &corrections).await?;
        if self.keep {
            keep(tx, &orphans, held.now).await?;
        }
        remember(tx, items, &mut answers, held.now).await?;
        Ok(answers)
    }
}

/// An outcome about an older revision says nothing about the newer one, unless something was sent: then the turn has
/// had its reply.
fn bears_on(outcome: &ReplyOutcome, revision: Revision) -> bool {
    outcome.revision >= revision || outcome.effect.may_have_sent()
}

/// Ends the saga as told, or leaves it.
fn conclude(page: &mut Page, saga: &mut Saga, outcome: &ReplyOutcome) -> bool {
    let ended = settle(page, saga, outcome);
    if ended {
        page.writes.changed.push(saga.clone());
    }
    ended
}

fn settle(page: &mut Page, saga: &mut Saga, outcome: &ReplyOutcome) -> bool {
    let times = times_of(outcome);
    let stamp = Stamp { times: times.as_deref(), ..Stamp::new(outcome.desktop.as_str()) };
    let ends = bears_on(outcome, saga.revision)
        && page.advance(stamp, saga, Event::Outcome(outcome.effect), &detail_of(outcome));
    if ends {
        // A later record of the very revision that has ended must not look newer.
        saga.revision = saga.revision.max(outcome.revision);
    }
    ends
}

/// When each step happened on the desk, for the story.
fn times_of(outcome: &ReplyOutcome) -> Option<String> {
    serde_json::to_string(&outcome.timings).ok()
}

/// Late words about revisions whose quota was settled by a guess. The day's row is locked last, as by every group.
async fn correct_quota(tx: &mut PgConnection, corrections: &[(TurnId, Revision, Settlement)]) -> Result<(), Fault> {
    for (turn, revision, correction) in corrections {
        let (from, to, change) = match correction {
            Settlement::Used => ("released", "used", 1_i64),
            Settlement::Released => ("used", "released", -1),
        };
        sqlx::query(
            "with corrected as (
                 update quota set state = $3 where turn = $1 and revision = $2 and state = $4 returning day)
             update quota_days y set taken = greatest(y.taken + $5, 0) from corrected c where y.day = c.day",
        )
        .bind(turn.0)
        .bind(i64::from(revision.0))
        .bind(to)
        .bind(from)
        .bind(change)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn detail_of(outcome: &ReplyOutcome) -> String {
    let reason: String = outcome.reason.chars().take(1_000).collect();
    format!("{}: {reason}", outcome.effect)
}

/// What changed nothing is told, once.
fn tell_kept(page: &mut Page, saga: &Saga, outcome: &ReplyOutcome) {
    let times = times_of(outcome);
    let stamp = Stamp { times: times.as_deref(), ..Stamp::new(outcome.desktop.as_str()) };
    let states = (Some(saga.state), saga.state);
    page.tell(stamp, (saga.turn, outcome.revision), "outcome_kept", states, &detail_of(outcome));
}

/// What has been told of outcomes of these turns.
async fn told_before(tx: &mut PgConnection, turns: &[TurnId]) -> Result<HashSet<(TurnId, Revision, String)>, Fault> {
    let ids: Vec<Uuid> = turns.iter().map(|turn| turn.0).collect();
    let rows = sqlx::query("select turn, revision, detail from events where turn = any($1) and event like 'outcome%'")
        .bind(ids)
        .fetch_all(tx)
        .await?;
    let line = |row| Ok((turn_of(row)?, Revision(number(row, "revision")?), get(row, "detail")?));
    rows.iter().map(line).collect()
}

async fn keep(tx: &mut PgConnection, orphans: &[&ReplyOutcome], now: i64) -> Result<(), Fault> {
    if orphans.is_empty() {
        return Ok(());
    }
    let mut bodies = Vec::with_capacity(orphans.len());
    for outcome in orphans {
        bodies.push(serde_json::to_string(outcome).map_err(|error| Fault::Bad(Rejected(error.to_string())))?);
    }
    sqlx::query(
        "insert into orphans (turn, revision, effect, body, at)
         select w.*, $5 from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) as w on conflict do nothing",
    )
    .bind(orphans.iter().map(|outcome| outcome.turn.0).collect::<Vec<_>>())
    .bind(orphans.iter().map(|outcome| i64::from(outcome.revision.0)).collect::<Vec<_>>())
    .bind(orphans.iter().map(|outcome| outcome.effect.as_str()).collect::<Vec<_>>())
    .bind(bodies)
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}

/// What is to be remembered of the sagas that these outcomes have confirmed.
async fn remember(
    tx: &mut PgConnection,
    items: &[&ReplyOutcome],
    answers: &mut [Result<Applied, Rejected>],
    now: i64,
) -> Result<(), Fault> {
    let confirmed = |(outcome, answer): &(&&ReplyOutcome, &mut Result<Applied, Rejected>)| {
        outcome.effect == Effect::Confirmed && matches!(answer, Ok(Applied::Ended { .. }))
    };
    let mut ended: HashMap<TurnId, _> =
        items.iter().zip(answers.iter_mut()).filter(confirmed).map(|both| (both.0.turn, both)).collect();
    if ended.is_empty() {
        return Ok(());
    }
    let (turns, revisions): (Vec<Uuid>, Vec<i64>) =
        ended.values().map(|(outcome, _)| (outcome.turn.0, i64::from(outcome.revision.0))).unzip();
    let rows = sqlx::query(
        "select t.turn, t.body, d.text from unnest($1::uuid[], $2::bigint[]) as w (turn, revision)
         join turns t on t.turn = w.turn join drafts d on d.turn = w.turn and d.revision = w.revision
         where d.text is not null and d.discarded_at is null",
    )
    .bind(turns)
    .bind(revisions)
    .fetch_all(tx)
    .await?;
    for row in &rows {
        let Some(detected) = detected_of(row)? else { continue };
        let Some((outcome, answer)) = ended.remove(&turn_of(row)?) else { continue };
        let inbound: Vec<&str> = detected.messages.iter().map(|message| message.text.as_str()).collect();
        let at = outcome.timings.shown_at.unwrap_or_else(|| from_millis(now));
        let exchange = Exchange { inbound: inbound.join("\n"), reply: get(row, "text")?, at };
        if let Ok(Applied::Ended { exchange: slot, .. }) = answer {
            *slot = Some(exchange);
        }
    }
    Ok(())
}

/// An outcome that came before its turn.
pub(super) struct Orphan(ReplyOutcome);

impl Orphan {
    /// Applies it to the saga that is being made. `told` holds what was told of the saga's outcomes so far.
    pub(super) fn adopt(&self, page: &mut Page, saga: &mut Saga, told: &mut HashSet<(Revision, String)>) {
        let (ended_at, detail) = (saga.revision, detail_of(&self.0));
        if settle(page, saga, &self.0) {
            told.insert((ended_at, detail));
        } else if told.insert((self.0.revision, detail)) {
            tell_kept(page, saga, &self.0);
        }
    }
}

/// Takes the outcomes that wait for these turns, each turn's oldest first.
pub(super) async fn orphans_of(tx: &mut PgConnection, turns: &[TurnId]) -> Result<HashMap<TurnId, Vec<Orphan>>, Fault> {
    let ids: Vec<Uuid> = turns.iter().map(|turn| turn.0).collect();
    let rows = sqlx::query("delete from orphans where turn = any($1) returning turn, body, at")
        .bind(ids)
        .fetch_all(tx)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let outcome: ReplyOutcome = serde_json::from_str(get(row, "body")?).map_err(|_| damaged("an outcome"))?;
        found.push((get::<i64>(row, "at")?, outcome));
    }
    found.sort_by_key(|(at, outcome)| (*at, outcome.revision));
    let mut orphans = HashMap::<TurnId, Vec<Orphan>>::new();
    for (_, outcome) in found {
        orphans.entry(outcome.turn).or_default().push(Orphan(outcome));
    }
    Ok(orphans)
}
