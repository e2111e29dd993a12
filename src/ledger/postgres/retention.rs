//! What is over age goes, in bites; and so does what a person asks to be forgotten.

use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::PostgresLedger;
use super::book::{Book, Stamp};
use super::group::SOON;
use super::rows::{DAY_MS, Fault, detected_of, get, hold, turn_of};
use super::write::write;
use crate::clock::millis;
use crate::contract::{ConversationId, Effect, MessagesDetected, TurnId};
use crate::retry::retry;
use crate::saga::state::{Event, State};
use crate::saga::{FORGOTTEN_AFTER, LedgerError, Pruned, Retention};

/// At most so many sagas a bite, so that no worker waits long behind it.
const BITE: i64 = 500;

/// Ended sagas of this age, passing over those that somebody else is removing.
pub(super) const OVER_AGE: &str = "
    delete from sagas where turn in (
        select turn from sagas where state = 'ended' and text_held in (true, false)
            and updated_at < (select ledger_now()) - $1 limit $2 for update skip locked)
    returning turn";

pub(super) const TEXT_OVER_AGE: &str = "
    update sagas set text_held = false where turn in (
        select turn from sagas where state = 'ended' and text_held
            and updated_at < (select ledger_now()) - $1 limit $2 for update skip locked)
    returning turn";

pub(super) async fn prune(ledger: &PostgresLedger, retention: Retention) -> Result<Pruned, LedgerError> {
    Ok(retry(SOON, || ledger.in_time(prune_once(ledger, retention))).await?)
}

async fn prune_once(ledger: &PostgresLedger, retention: Retention) -> Result<Pruned, Fault> {
    let mut loan = ledger.lend().await?;
    let mut tx = loan.begin().await?;
    let gone = bite(&mut tx, OVER_AGE, millis(retention.rows)).await?;
    for statement in [
        "delete from turns where turn = any($1)",
        "delete from events where turn = any($1)",
        "delete from drafts where turn = any($1)",
        "delete from outbox where turn = any($1)",
        "delete from quota where turn = any($1)",
    ] {
        sqlx::query(statement).bind(&gone).execute(&mut *tx).await?;
    }
    let age = millis(retention.rows);
    sqlx::query("delete from desks where last_seen < (select ledger_now()) - $1").bind(age).execute(&mut *tx).await?;
    sqlx::query("delete from owners where until < (select ledger_now()) - $1").bind(age).execute(&mut *tx).await?;
    sqlx::query("delete from orphans where at < (select ledger_now()) - $1").bind(age).execute(&mut *tx).await?;
    sqlx::query("delete from quota_days where day < ((select ledger_now()) - $1) / $2")
        .bind(age)
        .bind(DAY_MS)
        .execute(&mut *tx)
        .await?;
    let died = millis(FORGOTTEN_AFTER);
    sqlx::query("delete from workers where last_seen < (select ledger_now()) - $1")
        .bind(died)
        .execute(&mut *tx)
        .await?;
    let bare = bite(&mut tx, TEXT_OVER_AGE, millis(retention.text)).await?;
    sqlx::query("update turns set body = null where turn = any($1)").bind(&bare).execute(&mut *tx).await?;
    remove_texts(&mut tx, &bare).await?;
    tx.commit().await?;
    loan.whole();
    Ok(Pruned { rows: gone.len() as u64, texts: bare.len() as u64 })
}

async fn bite(tx: &mut PgConnection, statement: &'static str, age: i64) -> Result<Vec<Uuid>, Fault> {
    let rows = sqlx::query(statement).bind(age).bind(BITE).fetch_all(tx).await?;
    rows.iter().map(|row| get(row, "turn").map_err(Fault::from)).collect()
}

async fn remove_texts(tx: &mut PgConnection, turns: &[Uuid]) -> Result<(), Fault> {
    for statement in
        ["update drafts set text = null where turn = any($1)", "update outbox set body = null where turn = any($1)"]
    {
        sqlx::query(statement).bind(turns).execute(&mut *tx).await?;
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

pub(super) async fn forget(ledger: &PostgresLedger, peer: &str) -> Result<Vec<ConversationId>, LedgerError> {
    Ok(retry(SOON, || ledger.in_time(forget_once(ledger, peer))).await?)
}

async fn forget_once(ledger: &PostgresLedger, peer: &str) -> Result<Vec<ConversationId>, Fault> {
    let mut loan = ledger.lend().await?;
    let mut tx = loan.begin().await?;
    let asked = sqlx::query("select turn from turns where peer = $1").bind(peer).fetch_all(&mut *tx).await?;
    let turns = asked.iter().map(turn_of).collect::<Result<Vec<TurnId>, _>>()?;
    let held = hold(&mut tx, &turns).await?;
    let ids: Vec<Uuid> = held.sagas.iter().map(|saga| saga.turn.0).collect();
    // Read under the lock: a newer revision may have come in before it.
    let rows = sqlx::query("select turn, conversation, body from turns where turn = any($1)")
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await?;
    let (mut conversations, mut bodies) = (Vec::new(), Vec::<Option<String>>::new());
    let mut book = Book::new(held.now, None);
    for row in &rows {
        conversations.push(ConversationId(row.try_get::<Uuid, _>("conversation")?));
        let Some(known) = held.saga(turn_of(row)?) else { continue };
        let ended = book.item(|page| {
            let mut saga = known.clone();
            if page.advance(Stamp::new("forget"), &mut saga, Event::Abandoned(Effect::Off), "the peer was forgotten") {
                page.writes.changed.push(saga.clone());
            }
            page.writes.cancelled.push(saga.turn);
            Ok(saga.state)
        });
        // An issued reply cannot be ended here: it goes on without its text.
        bodies.push(match (ended.map_err(Fault::Bad)?, detected_of(row)?) {
            (State::Open(_), Some(detected)) => serde_json::to_string(&without_text(detected)).ok(),
            _ => None,
        });
    }
    let order: Vec<Uuid> = rows.iter().map(|row| row.try_get("turn")).collect::<Result<_, _>>()?;
    write(&mut tx, book.close()).await?;
    sqlx::query(
        "update turns t set body = w.body, peer = '' from unnest($1::uuid[], $2::text[]) as w (turn, body)
         where t.turn = w.turn",
    )
    .bind(&order)
    .bind(bodies)
    .execute(&mut *tx)
    .await?;
    // What had ended has no text left to be pruned.
    sqlx::query("update sagas set text_held = false where turn = any($1) and state = 'ended'")
        .bind(&order)
        .execute(&mut *tx)
        .await?;
    remove_texts(&mut tx, &order).await?;
    tx.commit().await?;
    loan.whole();
    conversations.sort();
    conversations.dedup();
    Ok(conversations)
}
