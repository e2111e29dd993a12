//! What is over age goes, and so does what a person asks to be forgotten.

use sqlx::{Row, SqliteConnection};

use super::SqliteLedger;
use super::rows::{DAY_MS, Fault, Stamp, advance, head_of, unavailable};
use crate::clock::millis;
use crate::contract::{ConversationId, Effect, MessagesDetected};
use crate::saga::state::{Event, State};
use crate::saga::{FORGOTTEN_AFTER, LedgerError, Pruned, Retention};

/// At most so many sagas a bite, so that no worker waits long behind it.
const BITE: i64 = 500;

pub(super) async fn prune(ledger: &SqliteLedger, retention: Retention) -> Result<Pruned, LedgerError> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let rows_before = now.saturating_sub(millis(retention.rows));
    let text_before = now.saturating_sub(millis(retention.text));
    let rows = prune_rows(&mut tx, rows_before).await.map_err(LedgerError::from)?;
    let died = now.saturating_sub(millis(FORGOTTEN_AFTER));
    let forgotten = sqlx::query("delete from workers where last_seen < ?").bind(died).execute(&mut *tx).await;
    forgotten.map_err(|error| unavailable(&error))?;
    let texts = prune_texts(&mut tx, text_before).await.map_err(LedgerError::from)?;
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(Pruned { rows, texts })
}

async fn prune_rows(tx: &mut SqliteConnection, before: i64) -> Result<u64, Fault> {
    let gone = sqlx::query(
        "delete from sagas where turn in (select turn from sagas where state = 'ended' and updated_at < ? limit ?)
         returning turn",
    )
    .bind(before)
    .bind(BITE)
    .fetch_all(&mut *tx)
    .await?;
    let list = turns(&gone)?;
    for statement in [
        "delete from events where turn in (select value from json_each(?))",
        "delete from drafts where turn in (select value from json_each(?))",
        "delete from outbox where turn in (select value from json_each(?))",
        "delete from quota where turn in (select value from json_each(?))",
    ] {
        sqlx::query(statement).bind(&list).execute(&mut *tx).await?;
    }
    sqlx::query("delete from desks where last_seen < ?").bind(before).execute(&mut *tx).await?;
    sqlx::query("delete from owners where until < ?").bind(before).execute(&mut *tx).await?;
    sqlx::query("delete from orphans where at < ?").bind(before).execute(&mut *tx).await?;
    sqlx::query("delete from quota_days where day < ?").bind(before.div_euclid(DAY_MS)).execute(tx).await?;
    Ok(gone.len() as u64)
}

async fn prune_texts(tx: &mut SqliteConnection, before: i64) -> Result<u64, Fault> {
    let bare = sqlx::query(
        "update sagas set body = null where turn in (
             select turn from sagas where state = 'ended' and updated_at < ? and body is not null limit ?)
         returning turn",
    )
    .bind(before)
    .bind(BITE)
    .fetch_all(&mut *tx)
    .await?;
    remove_texts(tx, &turns(&bare)?).await?;
    Ok(bare.len() as u64)
}

async fn remove_texts(tx: &mut SqliteConnection, list: &str) -> Result<(), Fault> {
    for statement in [
        "update drafts set text = null where turn in (select value from json_each(?))",
        "update outbox set body = null where turn in (select value from json_each(?))",
    ] {
        sqlx::query(statement).bind(list).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The turn without a word or a name of the other side; the ids that recovery needs stay.
fn without_text(mut detected: MessagesDetected) -> MessagesDetected {
    detected.messages.clear();
    detected.context.clear();
    detected.conversation.peer.clear();
    detected
}

fn turns(rows: &[sqlx::sqlite::SqliteRow]) -> Result<String, sqlx::Error> {
    let list = rows.iter().map(|row| row.try_get::<String, _>("turn")).collect::<Result<Vec<_>, _>>()?;
    Ok(serde_json::Value::from(list).to_string())
}

pub(super) async fn forget(ledger: &SqliteLedger, peer: &str) -> Result<Vec<ConversationId>, LedgerError> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let gone = forget_in(&mut tx, peer, now).await.map_err(LedgerError::from)?;
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(gone)
}

async fn forget_in(tx: &mut SqliteConnection, peer: &str, now: i64) -> Result<Vec<ConversationId>, Fault> {
    let rows = sqlx::query(
        "select turn, revision, state, effect, lease_token, deadline_at, body, conversation from sagas where peer = ?",
    )
    .bind(peer)
    .fetch_all(&mut *tx)
    .await?;
    let mut conversations = Vec::new();
    for row in &rows {
        conversations.push(super::rows::parsed(row, "conversation")?);
        let stamp = Stamp::new(now, "forget");
        let saga = head_of(row)?;
        let ended = advance(tx, &stamp, &saga, Event::Abandoned(Effect::Off), "the peer was forgotten").await?;
        // An issued reply cannot be ended here: it goes on without its text.
        let bare = match (ended.or(Some(saga.state)), saga.detected()?) {
            (Some(State::Open(_)), Some(detected)) => serde_json::to_string(&without_text(detected)).ok(),
            _ => None,
        };
        sqlx::query("update sagas set body = ?, peer = '' where turn = ?")
            .bind(bare)
            .bind(saga.turn.to_string())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "update outbox set cancelled_at = ? where turn = ? and published_at is null and cancelled_at is null",
        )
        .bind(now)
        .bind(saga.turn.to_string())
        .execute(&mut *tx)
        .await?;
    }
    remove_texts(tx, &turns(&rows)?).await?;
    conversations.sort();
    conversations.dedup();
    Ok(conversations)
}
