//! Recording turns.

use sqlx::SqliteConnection;

use super::outcomes;
use super::rows::{Fault, Head, Stamp, advance, head, in_savepoint, tell, unavailable};
use super::transitions::{take_quota, write_command};
use super::{SqliteLedger, desks};
use crate::clock::millis;
use crate::contract::{Command, DesktopId, Effect, MessagesDetected, Mode, ReplyWithdraw};
use crate::saga::ownership;
use crate::saga::state::{Event, Phase, State};
use crate::saga::{Each, Kept, LeaseToken, Receipt, Rejected, Taken, Terms};

/// The terms, in this ledger's time.
struct Now<'a> {
    terms: &'a Terms,
    lease_until: i64,
    deadline_at: i64,
    now: i64,
    daily_quota: i64,
}

pub(super) async fn record_turns(ledger: &SqliteLedger, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt> {
    let now = ledger.now();
    let at = Now {
        terms,
        lease_until: now.saturating_add(millis(terms.lease.hold)),
        deadline_at: now.saturating_add(millis(terms.finish_within)),
        now,
        daily_quota: ledger.daily_quota,
    };
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let mut receipts = Vec::with_capacity(turns.len());
    for turn in turns {
        receipts.push(in_savepoint!(tx, record(&mut tx, turn, &at)));
    }
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(receipts)
}

async fn record(tx: &mut SqliteConnection, turn: &MessagesDetected, at: &Now<'_>) -> Result<Receipt, Fault> {
    let body = serde_json::to_string(turn).map_err(|error| Fault::Bad(Rejected(error.to_string())))?;
    match head(tx, turn.turn).await? {
        None => {
            let owner = answerer(tx, turn, at).await?;
            insert(tx, turn, &body, at, owner).await
        }
        Some(known) if turn.revision <= known.revision => Ok(match known.state {
            State::Ended(_) => Receipt::Closed,
            State::Open(_) => Receipt::Known,
        }),
        Some(known) => {
            let owner = answerer(tx, turn, at).await?;
            restart(tx, turn, &body, &known, at, owner).await
        }
    }
}

/// Who answers for the turn's account.
enum Answerer {
    /// The turn's desk, under this ownership; none is named for one that says no hello.
    Itself(Option<u64>),
    /// Another desk.
    Other(DesktopId),
}

impl Answerer {
    fn token(&self) -> Option<i64> {
        match self {
            Self::Itself(token) => token.map(|token| i64::try_from(token).unwrap_or(i64::MAX)),
            Self::Other(_) => None,
        }
    }
}

/// A turn that comes only to be recorded asks for nothing.
async fn answerer(tx: &mut SqliteConnection, turn: &MessagesDetected, at: &Now<'_>) -> Result<Answerer, Fault> {
    if turn.mode == Mode::Off {
        return Ok(Answerer::Itself(None));
    }
    let owner = desks::claim(tx, turn, at.now, at.terms.account_hold).await?;
    Ok(match ownership::permits(&owner, turn.journal) {
        Some(token) => Answerer::Itself(token),
        None => Answerer::Other(owner.desktop),
    })
}

/// What follows on a turn that is written: it is the caller's, or another desk answers and it ends at once.
async fn judge(
    tx: &mut SqliteConnection,
    turn: &MessagesDetected,
    saga: &Head,
    at: &Now<'_>,
    owner: Answerer,
) -> Result<Result<Taken, DesktopId>, Fault> {
    match owner {
        Answerer::Itself(owner_token) => {
            let quota = keep_quota(tx, turn, saga, at).await?;
            Ok(Ok(Taken { lease: saga.lease, quota, owner_token }))
        }
        Answerer::Other(owner) => {
            let stamp = Stamp::new(at.now, &at.terms.lease.worker);
            let why = ownership::not_owner(&owner);
            advance(tx, &stamp, saga, Event::Abandoned(Effect::NotOwner), &why).await?;
            Ok(Err(owner))
        }
    }
}

async fn insert(
    tx: &mut SqliteConnection,
    turn: &MessagesDetected,
    body: &str,
    at: &Now<'_>,
    owner: Answerer,
) -> Result<Receipt, Fault> {
    sqlx::query(
        "insert into sagas (turn, revision, state, effect, journal, desktop, conversation, peer, body,
                            lease_token, lease_owner, lease_until, deadline_at, recorded_at, updated_at, owner_token,
                            traceparent)
         values (?, ?, 'recorded', null, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(turn.turn.to_string())
    .bind(turn.revision.0)
    .bind(turn.journal.to_string())
    .bind(turn.desktop.as_str())
    .bind(turn.conversation.id.to_string())
    .bind(&turn.conversation.peer)
    .bind(body)
    .bind(&at.terms.lease.worker)
    .bind(at.lease_until)
    .bind(at.deadline_at)
    .bind(at.now)
    .bind(at.now)
    .bind(owner.token())
    .bind(&turn.traceparent)
    .execute(&mut *tx)
    .await?;
    let stamp = Stamp::new(at.now, &at.terms.lease.worker);
    tell(tx, &stamp, turn.turn, turn.revision, "recorded", (None, State::START), "").await?;
    let saga = Head {
        turn: turn.turn,
        revision: turn.revision,
        state: State::START,
        lease: LeaseToken(1),
        deadline_at: at.deadline_at,
        body: None,
    };
    let state = outcomes::adopt_orphans(tx, &saga, at.now).await?;
    if state.effect().is_some() {
        return Ok(Receipt::Closed);
    }
    Ok(judge(tx, turn, &saga, at, owner).await?.map_or_else(Receipt::NotOwner, Receipt::New))
}

/// Keeps one reply of the day's quota for a turn that has just been recorded, where that was asked for.
async fn keep_quota(
    tx: &mut SqliteConnection,
    turn: &MessagesDetected,
    saga: &Head,
    at: &Now<'_>,
) -> Result<Kept, Fault> {
    if !at.terms.reserve_quota || turn.mode == Mode::Off {
        return Ok(Kept::NotAsked);
    }
    if !take_quota(tx, saga, at.now, at.daily_quota).await? {
        return Ok(Kept::Exhausted);
    }
    let stamp = Stamp::new(at.now, &at.terms.lease.worker);
    advance(tx, &stamp, saga, Event::QuotaReserved, "").await?;
    Ok(Kept::Reserved)
}

async fn restart(
    tx: &mut SqliteConnection,
    turn: &MessagesDetected,
    body: &str,
    known: &Head,
    at: &Now<'_>,
    owner: Answerer,
) -> Result<Receipt, Fault> {
    let stamp = Stamp::new(at.now, &at.terms.lease.worker);
    let detail = format!("revision {} follows {}", turn.revision, known.revision);
    let Some(_) = advance(tx, &stamp, known, Event::RevisionRaised, &detail).await? else {
        return Ok(Receipt::Closed);
    };
    if known.state.phase() == Phase::Issued {
        let withdraw = Command::Withdraw(ReplyWithdraw {
            turn: known.turn,
            revision: known.revision,
            desktop: turn.desktop.clone(),
            conversation: turn.conversation.id,
            reason: "newer text has come in".to_owned(),
        });
        // Held by nobody: the next look at the outbox publishes it.
        write_command(tx, &stamp, &withdraw, at.now).await?;
    }
    let lease = LeaseToken(known.lease.0 + 1);
    sqlx::query(
        "update sagas set revision = ?, body = ?, peer = ?, desktop = ?, lease_token = ?, lease_owner = ?,
                          lease_until = ?, deadline_at = ?, takeovers = 0, owner_token = ?, traceparent = ? where turn = ?",
    )
    .bind(turn.revision.0)
    .bind(body)
    .bind(&turn.conversation.peer)
    .bind(turn.desktop.as_str())
    .bind(i64::try_from(lease.0).unwrap_or(i64::MAX))
    .bind(&at.terms.lease.worker)
    .bind(at.lease_until)
    .bind(at.deadline_at)
    .bind(owner.token())
    .bind(&turn.traceparent)
    .bind(known.turn.to_string())
    .execute(&mut *tx)
    .await?;
    let saga = Head {
        turn: turn.turn,
        revision: turn.revision,
        state: State::START,
        lease,
        deadline_at: at.deadline_at,
        body: None,
    };
    Ok(judge(tx, turn, &saga, at, owner).await?.map_or_else(Receipt::NotOwner, Receipt::Newer))
}
