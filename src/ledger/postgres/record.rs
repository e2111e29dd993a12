//! Recording turns.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresLedger;
use super::book::{Book, Page, Stamp, TurnRow};
use super::group::{self, Wave, Work, hold_today};
use super::outcomes::{Orphan, RECORDING, orphans_of};
use super::rows::{Fault, Saga, get, hold};
use super::write::write;
use crate::clock::millis;
use crate::contract::{Command, MessagesDetected, Mode, ReplyWithdraw, TurnId};
use crate::saga::state::{Event, Phase, State};
use crate::saga::{Each, Kept, LeaseToken, Receipt, Rejected, Taken, Terms};

/// A turn with the id that its first event will have: if a commit is not heard of, that event tells whose it was.
pub(super) struct Item<'a> {
    turn: &'a MessagesDetected,
    event: Uuid,
}

pub(super) struct Record<'a> {
    terms: &'a Terms,
    daily_quota: i64,
}

pub(super) async fn record_turns(ledger: &PostgresLedger, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt> {
    let (work, items) = work(ledger, turns, terms);
    group::write(ledger, &work, &items).await
}

pub(super) fn work<'a>(
    ledger: &PostgresLedger,
    turns: &'a [MessagesDetected],
    terms: &'a Terms,
) -> (Record<'a>, Vec<Item<'a>>) {
    let items = turns.iter().map(|turn| Item { turn, event: Uuid::now_v7() }).collect();
    (Record { terms, daily_quota: ledger.daily_quota }, items)
}

#[async_trait]
impl<'a> Work for Record<'a> {
    type Item = Item<'a>;
    type Answer = Receipt;

    fn begin(&self) -> &'static str {
        RECORDING
    }

    fn turn(&self, item: &Item<'a>) -> TurnId {
        item.turn.turn
    }

    async fn wave(&self, tx: &mut PgConnection, items: &[&Item<'a>], again: bool) -> Wave<Receipt> {
        let turns: Vec<TurnId> = items.iter().map(|item| item.turn.turn).collect();
        let held = hold(tx, &turns).await?;
        let mut orphans = if held.orphaned { orphans_of(tx, &turns).await? } else { HashMap::new() };
        let written = if again { written_before(tx, items).await? } else { HashSet::new() };
        let today = if items.iter().any(|item| self.wants_quota(item.turn)) {
            Some(hold_today(tx, held.now, self.daily_quota).await?)
        } else {
            None
        };
        let mut book = Book::new(held.now, today);
        let answers = items
            .iter()
            .map(|item| {
                let waiting = orphans.remove(&item.turn.turn).unwrap_or_default();
                book.item(|page| match held.saga(item.turn.turn) {
                    None => self.insert(page, item, waiting),
                    Some(known) if item.turn.revision <= known.revision => {
                        Ok(self.again(known, item, written.contains(&item.event)))
                    }
                    Some(known) => self.restart(page, item, known.clone()),
                })
            })
            .collect();
        write(tx, book.close()).await?;
        Ok(answers)
    }
}

impl Record<'_> {
    fn wants_quota(&self, turn: &MessagesDetected) -> bool {
        self.terms.reserve_quota && turn.mode != Mode::Off
    }

    fn insert(&self, page: &mut Page, item: &Item<'_>, orphans: Vec<Orphan>) -> Result<Receipt, Rejected> {
        let turn = item.turn;
        let lease = &self.terms.lease;
        let mut saga = Saga {
            turn: turn.turn,
            revision: turn.revision,
            state: State::START,
            lease: LeaseToken(1),
            lease_owner: lease.worker.clone(),
            lease_until: page.now.saturating_add(millis(lease.hold)),
            deadline_at: page.now.saturating_add(millis(self.terms.finish_within)),
            takeovers: 0,
            drafts: 0,
            quota_day: None,
            updated_at: page.now,
        };
        page.writes.turns.push(row(turn)?);
        let stamp = Stamp { id: item.event, who: &lease.worker };
        page.tell(stamp, (saga.turn, saga.revision), "recorded", (None, State::START), "");
        for orphan in orphans {
            orphan.adopt(page, &mut saga);
        }
        if saga.state.effect().is_some() {
            page.writes.new.push(saga);
            return Ok(Receipt::Closed);
        }
        let quota = self.keep_quota(page, turn, &mut saga);
        let taken = Taken { lease: saga.lease, quota };
        page.writes.new.push(saga);
        Ok(Receipt::New(taken))
    }

    fn restart(&self, page: &mut Page, item: &Item<'_>, mut saga: Saga) -> Result<Receipt, Rejected> {
        let (turn, lease) = (item.turn, &self.terms.lease);
        let stamp = Stamp { id: item.event, who: &lease.worker };
        let (phase, older) = (saga.state.phase(), saga.revision);
        let detail = format!("revision {} follows {older}", turn.revision);
        if !page.advance(stamp, &mut saga, Event::RevisionRaised, &detail) {
            return Ok(Receipt::Closed);
        }
        if phase == Phase::Issued {
            let withdraw = Command::Withdraw(ReplyWithdraw {
                turn: saga.turn,
                revision: older,
                desktop: turn.desktop.clone(),
                conversation: turn.conversation.id,
                reason: "newer text has come in".to_owned(),
            });
            // Held by nobody: the next look at the outbox publishes it.
            page.write_command(item.event, &withdraw, page.now)?;
        }
        saga.revision = turn.revision;
        saga.lease = LeaseToken(saga.lease.0 + 1);
        saga.lease_owner.clone_from(&lease.worker);
        saga.lease_until = page.now.saturating_add(millis(lease.hold));
        saga.deadline_at = page.now.saturating_add(millis(self.terms.finish_within));
        saga.takeovers = 0;
        page.writes.turns.push(row(turn)?);
        let quota = self.keep_quota(page, turn, &mut saga);
        let taken = Taken { lease: saga.lease, quota };
        page.writes.changed.push(saga);
        Ok(Receipt::Newer(taken))
    }

    fn keep_quota(&self, page: &mut Page, turn: &MessagesDetected, saga: &mut Saga) -> Kept {
        if !self.wants_quota(turn) {
            return Kept::NotAsked;
        }
        if !page.take_quota(saga) {
            return Kept::Exhausted;
        }
        page.advance(Stamp::new(&self.terms.lease.worker), saga, Event::QuotaReserved, "");
        Kept::Reserved
    }

    /// The receipt of a turn that is there already; `mine` if an earlier try of this very call wrote it.
    fn again(&self, known: &Saga, item: &Item<'_>, mine: bool) -> Receipt {
        if known.state.effect().is_some() {
            return Receipt::Closed;
        }
        if !mine || known.revision != item.turn.revision || known.lease_owner != self.terms.lease.worker {
            return Receipt::Known;
        }
        let quota = match known.state.phase() {
            Phase::QuotaReserved => Kept::Reserved,
            Phase::Recorded if self.wants_quota(item.turn) => Kept::Exhausted,
            Phase::Recorded => Kept::NotAsked,
            _ => return Receipt::Known,
        };
        let taken = Taken { lease: known.lease, quota };
        if known.lease == LeaseToken(1) { Receipt::New(taken) } else { Receipt::Newer(taken) }
    }
}

fn row(turn: &MessagesDetected) -> Result<TurnRow, Rejected> {
    Ok(TurnRow {
        turn: turn.turn,
        journal: turn.journal,
        desktop: turn.desktop.clone(),
        conversation: turn.conversation.id,
        peer: turn.conversation.peer.clone(),
        body: serde_json::to_string(turn).map_err(|error| Rejected(error.to_string()))?,
    })
}

/// The events of these items that an earlier try has written.
async fn written_before(tx: &mut PgConnection, items: &[&Item<'_>]) -> Result<HashSet<Uuid>, Fault> {
    let turns: Vec<Uuid> = items.iter().map(|item| item.turn.turn.0).collect();
    let ids: Vec<Uuid> = items.iter().map(|item| item.event).collect();
    let rows = sqlx::query("select id from events where turn = any($1) and id = any($2)")
        .bind(turns)
        .bind(ids)
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| get(row, "id").map_err(Fault::from)).collect()
}
