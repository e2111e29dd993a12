//! Who answers for an account, and which process of a desk is the living one. Pure: a ledger keeps the rows and its own
//! clock, and puts down what is decided here.
//!
//! An ownership is a lease with a fencing token (as in M. Kleppmann, "How to do distributed locking", 2016): the token
//! rises with each new owner and with each new process of the owner, and a desk types only what was issued under the
//! token that it holds.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::elapsed;
use crate::contract::{
    Account, AccountOwner, DesktopGreeted, DesktopHello, DesktopId, InstanceId, JournalId, MessagesDetected,
};

/// How many times the hold of an ownership a desk counts as cloned after its rival was heard last.
const CLONED_FOR: u32 = 2;

/// The process that a desk is known by, as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The desk's name.
    pub desktop: DesktopId,
    /// The newest process that works with the journal.
    pub instance: InstanceId,
    /// When it started, on its own clock.
    pub started_at: Timestamp,
    /// When it said its last hello, on its own clock.
    pub said_at: Timestamp,
    /// When that was heard, on the ledger's clock.
    pub last_seen: Timestamp,
    /// It said that it stops.
    pub left: bool,
    /// Another process of the same journal, and when it said its last hello, on its own clock.
    pub other: Option<(InstanceId, Timestamp)>,
    /// When two processes were last known to live at once, on the ledger's clock.
    pub cloned_at: Option<Timestamp>,
}

impl Tenant {
    /// Whether two processes with this journal were alive not long ago.
    pub fn is_cloned(&self, now: Timestamp, hold: Duration) -> bool {
        self.cloned_at.is_some_and(|at| elapsed(at, now) < hold * CLONED_FOR)
    }

    /// Whether it is silent for so long that whoever says hello takes its place.
    fn is_gone(&self, now: Timestamp, hold: Duration) -> bool {
        self.left || elapsed(self.last_seen, now) >= hold
    }

    fn new(hello: &DesktopHello, now: Timestamp) -> Self {
        Self {
            desktop: hello.desktop.clone(),
            instance: hello.instance,
            started_at: whole(hello.started_at),
            said_at: whole(hello.at),
            last_seen: now,
            left: hello.leaving,
            other: None,
            cloned_at: None,
        }
    }

    /// What is known of the journal's processes after this hello, heard at `now`.
    ///
    /// The newest by its own start is the living one, unless it is silent. A restart is no clone: its predecessor says
    /// nothing after it. A hello that is delivered twice is no sign of life: only one with a later time is.
    pub fn after(known: Option<&Self>, hello: &DesktopHello, now: Timestamp, hold: Duration) -> Self {
        let fresh = Self::new(hello, now);
        let Some(known) = known else { return fresh };
        let said = fresh.said_at;
        if known.instance == hello.instance {
            let left = if said >= known.said_at { hello.leaving } else { known.left };
            let said_at = said.max(known.said_at);
            return Self { said_at, left, other: known.other, cloned_at: known.cloned_at, ..fresh };
        }
        let replaced = Some((known.instance, known.said_at));
        if known.is_gone(now, hold) {
            return Self { other: replaced, cloned_at: known.cloned_at, ..fresh };
        }
        let before = known.other.filter(|(other, _)| *other == hello.instance).map(|(_, said_at)| said_at);
        let back = before.is_some_and(|said_at| said > said_at);
        if (fresh.started_at, fresh.instance) > (known.started_at, known.instance) {
            let cloned_at = if back { Some(now) } else { known.cloned_at };
            return Self { other: replaced, cloned_at, ..fresh };
        }
        let lives = back || (before.is_none() && said > known.started_at);
        Self {
            other: Some((hello.instance, before.map_or(said, |before| before.max(said)))),
            cloned_at: if lives && !hello.leaving { Some(now) } else { known.cloned_at },
            ..known.clone()
        }
    }
}

/// Who owns an account, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The desk.
    pub desktop: DesktopId,
    /// Its journal.
    pub journal: JournalId,
    /// The process that holds it; `None` for a desk that says no hello (release 0.1.0).
    pub instance: Option<InstanceId>,
    /// Where that process sits; empty where that is not known.
    pub seat: String,
    /// Rises with each new owner and each new process.
    pub token: u64,
    /// The token with which this journal came into it.
    pub since: u64,
    /// When it lapses, on the ledger's clock.
    pub until: Timestamp,
    /// When the lease of the process before lapses, on the ledger's clock: until then both might type what was issued
    /// to the one before.
    pub former_until: Timestamp,
}

/// Who asks for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The desk.
    pub desktop: DesktopId,
    /// Its journal.
    pub journal: JournalId,
    /// Its process, if it said hello; `None` for who only sends a turn.
    pub instance: Option<InstanceId>,
    /// Where that process sits; empty where that is not known.
    pub seat: String,
}

impl Claimant {
    /// Who only sends a turn.
    pub fn of(turn: &MessagesDetected) -> Self {
        Self { desktop: turn.desktop.clone(), journal: turn.journal, instance: None, seat: String::new() }
    }
}

impl Claimant {
    /// Whether the process before has certainly ended: it held the lock of the very file that this one has open.
    fn follows(&self, owner: &Owner) -> bool {
        !self.seat.is_empty() && self.seat == owner.seat
    }
}

/// What an account's owner is after `who` asked for it at `now`: the claimant, if it had it or if nobody holds it.
pub fn claim(owner: Option<&Owner>, who: &Claimant, now: Timestamp, hold: Duration) -> Owner {
    let until = later(now, hold);
    let taken = |token: u64| Owner {
        desktop: who.desktop.clone(),
        journal: who.journal,
        instance: who.instance,
        seat: who.seat.clone(),
        token,
        since: token,
        until,
        former_until: now,
    };
    let Some(owner) = owner else { return taken(1) };
    if owner.journal != who.journal {
        return if owner.until > now { owner.clone() } else { taken(owner.token + 1) };
    }
    let kept = Owner { desktop: who.desktop.clone(), ..owner.clone() };
    match (owner.instance, who.instance) {
        // A turn does not speak for a desk that says hello: only its heartbeat renews.
        (Some(_), None) => kept,
        // Heard not long ago: a row less to write.
        (None, None) if elapsed(now, owner.until) * 3 > hold * 2 => kept,
        (before, instance) if before == instance || before.is_none() => {
            Owner { instance, seat: who.seat.clone(), until: until.max(owner.until), ..kept }
        }
        (_, instance) => {
            let before = if who.follows(owner) { owner.former_until } else { owner.until.max(owner.former_until) };
            let (seat, token) = (who.seat.clone(), owner.token + 1);
            Owner { instance, seat, token, until, former_until: before, ..kept }
        }
    }
}

/// The owner after its process said that it types nothing more.
pub fn release(owner: &Owner, instance: InstanceId, now: Timestamp) -> Owner {
    if owner.instance == Some(instance) {
        Owner { until: owner.until.min(now), former_until: owner.former_until.min(now), ..owner.clone() }
    } else {
        owner.clone()
    }
}

/// Whether this turn's journal may answer for the account that `owner` has, and the token that its reply carries: none
/// for a desk that says no hello, which could not check it.
pub fn permits(owner: &Owner, journal: JournalId) -> Option<Option<u64>> {
    (owner.journal == journal).then(|| owner.instance.map(|_| owner.token))
}

/// Why a turn of another desk is not answered.
pub fn not_owner(owner: &DesktopId) -> String {
    format!("{owner} answers for this account")
}

/// The accounts of a hello, each once.
pub fn accounts(hello: &DesktopHello) -> Vec<Account> {
    let mut accounts = hello.accounts.clone();
    accounts.sort();
    accounts.dedup();
    accounts
}

/// One account's owner after a hello; `None` if nobody has it. `tenant` is what is known after the hello.
pub fn greet(
    owner: Option<&Owner>,
    hello: &DesktopHello,
    tenant: &Tenant,
    now: Timestamp,
    hold: Duration,
) -> Option<Owner> {
    if tenant.instance != hello.instance || hello.leaving {
        return owner.map(|owner| release(owner, hello.instance, now));
    }
    let (desktop, journal) = (hello.desktop.clone(), hello.journal);
    let (instance, seat) = (Some(hello.instance), hello.seat.clone());
    Some(claim(owner, &Claimant { desktop, journal, instance, seat }, now, hold))
}

/// What a desk is told of one account.
pub fn tell(account: &Account, owner: Option<&Owner>, hello: &DesktopHello, now: Timestamp) -> AccountOwner {
    let same = owner.is_none_or(|owner| owner.journal == hello.journal);
    let owned = owner.is_some_and(|owner| same && owner.instance == Some(hello.instance) && owner.until > now);
    let desktop = owner.map_or(&hello.desktop, |owner| &owner.desktop);
    let why = match (owned, hello.leaving, same) {
        (true, _, _) => String::new(),
        (_, true, _) => "the desktop stops".to_owned(),
        (_, _, true) => "a newer process works with a copy of this journal".to_owned(),
        (_, _, false) => not_owner(desktop),
    };
    let wait = owner.map_or(Duration::ZERO, |owner| elapsed(now, owner.former_until));
    AccountOwner {
        account: account.clone(),
        owned,
        owner: desktop.clone(),
        token: owner.map_or(0, |owner| owner.token),
        since: owner.map_or(0, |owner| owner.since),
        inherit_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        why,
    }
}

/// The answer to a hello.
pub fn answer(
    hello: &DesktopHello,
    tenant: &Tenant,
    accounts: Vec<AccountOwner>,
    now: Timestamp,
    hold: Duration,
) -> DesktopGreeted {
    DesktopGreeted {
        desktop: hello.desktop.clone(),
        journal: hello.journal,
        instance: hello.instance,
        hello_at: hello.at,
        hold_ms: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX).max(1),
        cloned: tenant.is_cloned(now, hold),
        current: tenant.instance == hello.instance,
        accounts,
    }
}

/// To the millisecond, as ledgers keep it: a hello that comes twice must not look newer than itself.
fn whole(at: Timestamp) -> Timestamp {
    crate::clock::from_millis(crate::clock::to_millis(at))
}

fn later(now: Timestamp, hold: Duration) -> Timestamp {
    crate::clock::from_millis(crate::clock::to_millis(now).saturating_add(crate::clock::millis(hold)))
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
