//! The port of what the ledger knows of desks: who runs, and who answers for which account. It is a part of the
//! ledger, because a turn is recorded and judged in one transaction.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Each, LedgerError};
use crate::contract::{Account, DesktopGreeted, DesktopHello, DesktopId, JournalId};

/// A desk as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desk {
    /// Its name.
    pub desktop: DesktopId,
    /// Its journal.
    pub journal: JournalId,
    /// Its release; empty if it says no hello.
    pub version: String,
    /// Its machine; empty if it says no hello.
    pub host: String,
    /// When it was first heard of; `None` if it says no hello.
    pub first_seen: Option<Timestamp>,
    /// When it was last heard of; `None` if it says no hello.
    pub last_seen: Option<Timestamp>,
    /// How long ago that was, on the ledger's clock.
    pub silent_for: Duration,
    /// How often it means to say hello.
    pub interval: Duration,
    /// It said that it stops.
    pub stopped: bool,
    /// Another process works with a copy of its journal.
    pub cloned: bool,
    /// The accounts that it answers for.
    pub accounts: Vec<OwnedAccount>,
}

impl Desk {
    /// A desk of which nothing is known but that it owns an account: it says no hello.
    pub fn silent(desktop: DesktopId, journal: JournalId) -> Self {
        Self {
            desktop,
            journal,
            version: String::new(),
            host: String::new(),
            first_seen: None,
            last_seen: None,
            silent_for: Duration::ZERO,
            interval: Duration::ZERO,
            stopped: false,
            cloned: false,
            accounts: Vec::new(),
        }
    }

    /// Whether it is heard as often as it said, with two hellos to spare. One that says no hello is never fresh.
    pub fn is_fresh(&self) -> bool {
        self.last_seen.is_some() && !self.stopped && self.silent_for <= self.interval * 3
    }
}

/// An account that a desk answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedAccount {
    /// The account.
    pub account: Account,
    /// The ownership's number.
    pub token: u64,
    /// Whether it has lapsed: the next who asks gets it.
    pub lapsed: bool,
}

/// What the ledger knows of desks.
#[async_trait]
pub trait Desks: Send + Sync + 'static {
    /// Hears hellos in their order and answers each: the accounts that are free, or were this desk's, are its own for
    /// `hold` from now.
    async fn greet(&self, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted>;

    /// Every desk that is known, by name; also those that only own an account and never said hello.
    async fn desks(&self, hold: Duration) -> Result<Vec<Desk>, LedgerError>;
}
