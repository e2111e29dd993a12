//! Looking, without changing anything.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};

use super::PostgresLedger;
use super::rows::{DAY_MS, damaged, detected_of, draft_of, get, number, state_of, turn_of};
use crate::clock::from_millis;
use crate::contract::{ConversationId, DesktopId, Revision, TurnId};
use crate::saga::state::Phase;
use crate::saga::{Counts, Detail, Filter, LedgerError, StoryLine, Summary};

const DEFAULT_LIMIT: u32 = 100;

const SUMMARY: &str = "select s.turn, s.revision, s.state, s.effect, s.updated_at, t.conversation, t.peer, t.desktop,
           t.body, t.recorded_at, d.version, d.revision as draft_revision, d.text, d.provider, d.ceiling
    from sagas s join turns t on t.turn = s.turn
    left join drafts d on d.turn = s.turn and d.revision = s.revision and d.text is not null where ";

fn summary_of(row: &PgRow) -> Result<Summary, LedgerError> {
    let draft = match get::<Option<&str>>(row, "text")? {
        Some(_) => Some(draft_of(row, Revision(number(row, "draft_revision")?))?),
        None => None,
    };
    Ok(Summary {
        turn: turn_of(row)?,
        revision: Revision(number(row, "revision")?),
        state: state_of(row)?,
        conversation: ConversationId(get(row, "conversation")?),
        peer: get(row, "peer")?,
        desktop: DesktopId::try_from(get::<String>(row, "desktop")?).map_err(|_| damaged("desktop"))?,
        recorded_at: from_millis(get(row, "recorded_at")?),
        updated_at: from_millis(get(row, "updated_at")?),
        draft,
    })
}

/// Only the conditions that are asked for stand in the statement, so that each can use its own index.
fn listing(filter: &Filter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(SUMMARY);
    query.push("true");
    if let Some(phase) = filter.phase {
        query.push(" and s.state = ").push_bind(phase.as_str());
    }
    if let Some(effect) = filter.effect {
        query.push(" and s.effect = ").push_bind(effect.as_str());
    }
    if let Some(conversation) = filter.conversation {
        query.push(" and t.conversation = ").push_bind(conversation.0);
    }
    if filter.open_only || filter.phase.is_some_and(|phase| phase != Phase::Ended) {
        query.push(" and s.state <> 'ended'");
    }
    let limit = if filter.limit == 0 { DEFAULT_LIMIT } else { filter.limit };
    query.push(" order by t.recorded_at desc, t.turn limit ").push_bind(i64::from(limit));
    query
}

pub(super) async fn list(ledger: &PostgresLedger, filter: &Filter) -> Result<Vec<Summary>, LedgerError> {
    let rows = ledger.ask_built(|| listing(filter)).await?;
    rows.iter().map(summary_of).collect()
}

pub(super) async fn show(ledger: &PostgresLedger, turn: TurnId) -> Result<Option<Detail>, LedgerError> {
    let one = || {
        let mut query = QueryBuilder::new(SUMMARY);
        query.push("s.turn = ").push_bind(turn.0);
        query
    };
    let rows = ledger.ask_built(one).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Detail { summary: summary_of(row)?, detected: detected_of(row)?, story: story(ledger, turn).await? }))
}

pub(super) async fn story(ledger: &PostgresLedger, turn: TurnId) -> Result<Vec<StoryLine>, LedgerError> {
    let statement = "select at, who, revision, event, state_from, state_to, detail, times from events where turn = $1 order by number";
    let rows = ledger.ask(|| sqlx::query(statement).bind(turn.0)).await?;
    let line = |row: &PgRow| {
        Ok(StoryLine {
            at: from_millis(get(row, "at")?),
            who: get(row, "who")?,
            revision: Revision(number(row, "revision")?),
            event: get(row, "event")?,
            from: get(row, "state_from")?,
            to: get(row, "state_to")?,
            detail: get(row, "detail")?,
            times: get::<Option<&str>>(row, "times")?.and_then(|text| serde_json::from_str(text).ok()),
        })
    };
    rows.iter().map(line).collect()
}

/// Open sagas alone are counted: what has ended may be hundreds of millions of rows.
pub(super) const OPEN: &str = "
    select state, effect, count(*) as many, (select ledger_now()) - min(updated_at) as oldest,
           count(*) filter (where deadline_at <= (select ledger_now())) as overdue
    from sagas where state <> 'ended' group by state, effect";

const FIGURES: &str = "
    select ledger_now() - (select min(t.recorded_at) from sagas s join turns t on t.turn = s.turn
                           where s.state <> 'ended') as oldest,
           (select count(*) from outbox where published_at is null and cancelled_at is null) as unpublished,
           coalesce((select taken from quota_days where day = (select ledger_now()) / $1), 0) as taken";

pub(super) async fn counts(ledger: &PostgresLedger) -> Result<Counts, LedgerError> {
    let states = ledger.ask(|| sqlx::query(OPEN)).await?;
    let rows = ledger.ask(|| sqlx::query(FIGURES).bind(DAY_MS)).await?;
    let row = rows.first().ok_or_else(|| damaged("the figures"))?;
    let age = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let by_state = |row: &PgRow| Ok((state_of(row)?, number(row, "many")?));
    let oldest_in = |row: &PgRow| Ok((state_of(row)?.phase(), age(get(row, "oldest")?)));
    let overdue = states.iter().map(|row| number::<u64>(row, "overdue")).sum::<Result<u64, LedgerError>>()?;
    Ok(Counts {
        by_state: states.iter().map(by_state).collect::<Result<_, LedgerError>>()?,
        oldest_in: states.iter().map(oldest_in).collect::<Result<_, LedgerError>>()?,
        overdue,
        oldest_open: get::<Option<i64>>(row, "oldest")?.map(age),
        unpublished: number(row, "unpublished")?,
        quota_taken: number(row, "taken")?,
    })
}
