//! Recording turns.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresLedger;
use super::book::{Book, Page, Stamp, TurnRow};
use super::desks::{self, Owners};
use super::group::{self, Wave, Work, hold_today};
use super::outcomes::{Orphan, RECORDING, orphans_of};
use super::rows::{Fault, Held, Saga, get, hold, owner_token};
use super::write::write;
use crate::clock::millis;
use crate::contract::{
    Account, Command, Conversation, DesktopId, Effect, MessagesDetected, Mode, ReplyWithdraw, TurnId,
};
use crate::saga::ownership;
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
        let written = if again { written_before(tx, items).await? } else { HashMap::new() };
        let owners = self.owners(tx, items, &held).await?;
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
                    None => self.insert(page, item, waiting, &owners),
                    Some(known) if item.turn.revision <= known.revision => {
                        Ok(self.again(known, item, written.get(&item.event).copied()))
                    }
                    Some(known) => self.restart(page, item, known.clone(), &owners),
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

    /// Who answers for the accounts of those turns that are new to the ledger.
    async fn owners(&self, tx: &mut PgConnection, items: &[&Item<'_>], held: &Held) -> Result<Owners, Fault> {
        let is_new = |turn: &MessagesDetected| held.saga(turn.turn).is_none_or(|known| turn.revision > known.revision);
        let turns = items.iter().map(|item| item.turn);
        let asking: Vec<_> = turns.filter(|turn| turn.mode != Mode::Off && is_new(turn) && keeps(turn)).collect();
        if asking.is_empty() {
            return Ok(Owners::new());
        }
        desks::claim(tx, &asking, held.now, self.terms.account_hold).await
    }

    /// What follows on a turn that is written: it is the caller's, or another desk answers and it ends at once.
    fn judge(
        &self,
        page: &mut Page,
        turn: &MessagesDetected,
        saga: &mut Saga,
        owner: Owned,
    ) -> Result<Taken, DesktopId> {
        match owner {
            Ok(owner_token) => {
                let quota = self.keep_quota(page, turn, saga);
                Ok(Taken { lease: saga.lease, quota, owner_token })
            }
            Err(owner) => {
                let why = ownership::not_owner(&owner);
                let stamp = Stamp::new(&self.terms.lease.worker);
                page.advance(stamp, saga, Event::Abandoned(Effect::NotOwner), &why);
                Err(owner)
            }
        }
    }

    fn insert(
        &self,
        page: &mut Page,
        item: &Item<'_>,
        orphans: Vec<Orphan>,
        owners: &Owners,
    ) -> Result<Receipt, Rejected> {
        let (turn, owner) = (item.turn, owned(item.turn, owners));
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
        page.writes.turns.push(row(turn, &owner)?);
        let stamp = Stamp::of(item.event, &lease.worker);
        page.tell(stamp, (saga.turn, saga.revision), "recorded", (None, State::START), "");
        let mut told = HashSet::new();
        for orphan in orphans {
            orphan.adopt(page, &mut saga, &mut told);
        }
        if saga.state.effect().is_some() {
            page.writes.new.push(saga);
            return Ok(Receipt::Closed);
        }
        let taken = self.judge(page, turn, &mut saga, owner);
        page.writes.new.push(saga);
        Ok(taken.map_or_else(Receipt::NotOwner, Receipt::New))
    }

    fn restart(&self, page: &mut Page, item: &Item<'_>, mut saga: Saga, owners: &Owners) -> Result<Receipt, Rejected> {
        let (turn, lease, owner) = (item.turn, &self.terms.lease, owned(item.turn, owners));
        let stamp = Stamp::of(item.event, &lease.worker);
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
        page.writes.turns.push(row(turn, &owner)?);
        let taken = self.judge(page, turn, &mut saga, owner);
        page.writes.changed.push(saga);
        Ok(taken.map_or_else(Receipt::NotOwner, Receipt::Newer))
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

    /// The receipt of a turn that is there already; `mine`, its ownership, if an earlier try of this very call wrote it.
    fn again(&self, known: &Saga, item: &Item<'_>, mine: Option<Option<u64>>) -> Receipt {
        if known.state.effect().is_some() {
            return Receipt::Closed;
        }
        let Some(owner_token) = mine else { return Receipt::Known };
        if known.revision != item.turn.revision || known.lease_owner != self.terms.lease.worker {
            return Receipt::Known;
        }
        let quota = match known.state.phase() {
            Phase::QuotaReserved => Kept::Reserved,
            Phase::Recorded if self.wants_quota(item.turn) => Kept::Exhausted,
            Phase::Recorded => Kept::NotAsked,
            _ => return Receipt::Known,
        };
        let taken = Taken { lease: known.lease, quota, owner_token };
        if known.lease == LeaseToken(1) { Receipt::New(taken) } else { Receipt::Newer(taken) }
    }
}

/// The ownership under which a turn may be answered, or who answers instead. A turn that comes only to be recorded asks
/// for nothing.
type Owned = Result<Option<u64>, DesktopId>;

fn owned(turn: &MessagesDetected, owners: &Owners) -> Owned {
    let Some(owner) = owners.get(&Account::of(&turn.conversation)).filter(|_| turn.mode != Mode::Off) else {
        return Ok(None);
    };
    ownership::permits(owner, turn.journal).ok_or_else(|| owner.desktop.clone())
}

/// Whether the database can keep the names by which the account is looked for.
fn keeps(turn: &MessagesDetected) -> bool {
    let Conversation { application, network, account, .. } = &turn.conversation;
    ![application, network, account].iter().any(|name| name.contains('\0'))
}

fn row(turn: &MessagesDetected, owner: &Owned) -> Result<TurnRow, Rejected> {
    Ok(TurnRow {
        turn: turn.turn,
        journal: turn.journal,
        desktop: turn.desktop.clone(),
        conversation: turn.conversation.id,
        peer: turn.conversation.peer.clone(),
        body: serde_json::to_string(turn).map_err(|error| Rejected(error.to_string()))?,
        owner_token: owner.as_ref().ok().copied().flatten(),
        traceparent: turn.traceparent.clone(),
    })
}

/// The events of these items that an earlier try has written, with the ownership of their turns.
async fn written_before(tx: &mut PgConnection, items: &[&Item<'_>]) -> Result<HashMap<Uuid, Option<u64>>, Fault> {
    let turns: Vec<Uuid> = items.iter().map(|item| item.turn.turn.0).collect();
    let ids: Vec<Uuid> = items.iter().map(|item| item.event).collect();
    let rows = sqlx::query(
        "select e.id, t.owner_token from events e join turns t using (turn) where e.turn = any($1) and e.id = any($2)",
    )
    .bind(turns)
    .bind(ids)
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| Ok((get(row, "id")?, owner_token(row)?))).collect()
}
