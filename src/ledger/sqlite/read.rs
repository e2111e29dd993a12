//! Looking, without changing anything.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteLedger;
use super::rows::{DAY_MS, damaged, draft_of, head_of, number, parsed, state_of, unavailable};
use crate::clock::from_millis;
use crate::contract::{DesktopId, Effect, Revision, TurnId};
use crate::saga::{Counts, Detail, Filter, LedgerError, StoryLine, Summary};

const DEFAULT_LIMIT: u32 = 100;

fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(|error| unavailable(&error))
}

fn summary_of(row: &SqliteRow) -> Result<Summary, LedgerError> {
    let revision = Revision(number(row, "revision")?);
    let text: Option<String> = get(row, "text")?;
    let draft = text.map(|_| draft_of(row, Revision(number(row, "draft_revision")?))).transpose()?;
    Ok(Summary {
        turn: parsed(row, "turn")?,
        revision,
        state: state_of(row)?,
        conversation: parsed(row, "conversation")?,
        peer: get(row, "peer")?,
        desktop: DesktopId::try_from(get::<String>(row, "desktop")?).map_err(|_| damaged("desktop"))?,
        recorded_at: from_millis(get(row, "recorded_at")?),
        updated_at: from_millis(get(row, "updated_at")?),
        draft,
    })
}

pub(super) async fn list(ledger: &SqliteLedger, filter: &Filter) -> Result<Vec<Summary>, LedgerError> {
    let limit = if filter.limit == 0 { DEFAULT_LIMIT } else { filter.limit };
    let rows = sqlx::query(
        "select s.turn, s.revision, s.state, s.effect, s.conversation, s.peer, s.desktop, s.recorded_at, s.updated_at,
                d.version, d.revision as draft_revision, d.text, d.provider, d.ceiling
         from sagas s left join drafts d on d.turn = s.turn and d.revision = s.revision and d.text is not null
         where (?1 is null or s.state = ?1) and (?2 is null or s.effect = ?2)
           and (?3 is null or s.conversation = ?3) and (?4 = 0 or s.state <> 'ended')
         order by s.recorded_at desc, s.turn limit ?5",
    )
    .bind(filter.phase.map(|phase| phase.as_str()))
    .bind(filter.effect.map(Effect::as_str))
    .bind(filter.conversation.map(|id| id.to_string()))
    .bind(filter.open_only)
    .bind(limit)
    .fetch_all(&ledger.readers)
    .await
    .map_err(|error| unavailable(&error))?;
    rows.iter().map(summary_of).collect()
}

pub(super) async fn show(ledger: &SqliteLedger, turn: TurnId) -> Result<Option<Detail>, LedgerError> {
    let row = sqlx::query(
        "select s.turn, s.revision, s.state, s.effect, s.lease_token, s.deadline_at, s.body, s.conversation, s.peer, s.desktop,
                s.recorded_at, s.updated_at, d.version, d.revision as draft_revision, d.text, d.provider, d.ceiling
         from sagas s left join drafts d on d.turn = s.turn and d.revision = s.revision and d.text is not null
         where s.turn = ?",
    )
    .bind(turn.to_string())
    .fetch_optional(&ledger.readers)
    .await
    .map_err(|error| unavailable(&error))?;
    let Some(row) = row else { return Ok(None) };
    let detected = head_of(&row)?.detected()?;
    Ok(Some(Detail { summary: summary_of(&row)?, detected, story: story(ledger, turn).await? }))
}

pub(super) async fn story(ledger: &SqliteLedger, turn: TurnId) -> Result<Vec<StoryLine>, LedgerError> {
    let rows = sqlx::query(
        "select at, who, revision, event, state_from, state_to, detail, times from events where turn = ? order by number",
    )
    .bind(turn.to_string())
    .fetch_all(&ledger.readers)
    .await
    .map_err(|error| unavailable(&error))?;
    let line = |row: &SqliteRow| {
        Ok(StoryLine {
            at: from_millis(get(row, "at")?),
            who: get(row, "who")?,
            revision: Revision(number(row, "revision")?),
            event: get(row, "event")?,
            from: get(row, "state_from")?,
            to: get(row, "state_to")?,
            detail: get(row, "detail")?,
            times: get::<Option<String>>(row, "times")?.and_then(|text| serde_json::from_str(&text).ok()),
        })
    };
    rows.iter().map(line).collect()
}

pub(super) async fn counts(ledger: &SqliteLedger) -> Result<Counts, LedgerError> {
    let now = ledger.now();
    let failed = |error: sqlx::Error| unavailable(&error);
    let states = sqlx::query("select state, effect, count(*) as many from sagas group by state, effect")
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed)?;
    let open = sqlx::query(
        "select state, min(updated_at) as since, sum(deadline_at <= ?) as overdue from sagas
         where state <> 'ended' group by state",
    )
    .bind(now)
    .fetch_all(&ledger.readers)
    .await
    .map_err(failed)?;
    let row = sqlx::query(
        "select (select min(recorded_at) from sagas where state <> 'ended') as oldest,
                (select count(*) from outbox where published_at is null and cancelled_at is null) as unpublished,
                coalesce((select taken from quota_days where day = ?), 0) as taken",
    )
    .bind(now.div_euclid(DAY_MS))
    .fetch_one(&ledger.readers)
    .await
    .map_err(failed)?;
    let oldest: Option<i64> = get(&row, "oldest")?;
    let age = |at: i64| Duration::from_millis(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
    let oldest_in = |row: &SqliteRow| Ok((parsed(row, "state")?, age(get(row, "since")?)));
    let overdue = open.iter().map(|row| number::<u64>(row, "overdue")).sum::<Result<u64, LedgerError>>()?;
    Ok(Counts {
        oldest_in: open.iter().map(oldest_in).collect::<Result<_, LedgerError>>()?,
        overdue,
        by_state: states
            .iter()
            .map(|row| Ok((state_of(row)?, number(row, "many")?)))
            .collect::<Result<_, LedgerError>>()?,
        oldest_open: oldest.map(age),
        unpublished: number(&row, "unpublished")?,
        quota_taken: number(&row, "taken")?,
    })
}
