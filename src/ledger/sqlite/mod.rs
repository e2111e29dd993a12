//! The ledger in one SQLite file: every group of writes is one `begin immediate` transaction, and so one sync of the
//! disk; an item that the database rejects is rolled back to its savepoint and the others are written.

mod desks;
mod leases;
mod open;
mod outcomes;
mod read;
mod record;
mod retention;
mod rows;
mod transitions;
mod workers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;
use uuid::Uuid;

use crate::clock::{Clock, to_millis};
use crate::contract::{ConversationId, DesktopGreeted, DesktopHello, MessagesDetected, ReplyOutcome, TurnId};
use crate::saga::{
    Applied, Counts, Decided, Decision, Desk, Desks, Detail, Each, EntryId, Filter, LeaseRequest, LeaseToken, Ledger,
    LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Retention, Standing, StoryLine, Summary, Terms,
    Transition, Transitioned, WorkerSeen, WorkerWord, Workers,
};

/// The ledger of one machine. Several processes may open the same file.
#[derive(Clone)]
pub struct SqliteLedger {
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    daily_quota: i64,
}

impl SqliteLedger {
    /// Opens the file, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file or its directory cannot be used, or a newer release made it.
    pub async fn open(path: &Path, daily_quota: u64, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let (writer, readers) = open::open(path).await?;
        Ok(Self { writer, readers, clock, daily_quota: i64::try_from(daily_quota).unwrap_or(i64::MAX) })
    }

    /// Begins a transaction that may read and then write. A full disk makes SQLite end a transaction by itself, which
    /// the driver does not notice: it believes to be in one for ever. Such a connection is replaced.
    async fn begin(&self) -> sqlx::Result<sqlx::Transaction<'static, sqlx::Sqlite>> {
        match self.writer.begin_with("begin immediate").await {
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with("begin immediate").await
            }
            other => other,
        }
    }

    fn now(&self) -> i64 {
        to_millis(self.clock.now())
    }
}

#[async_trait]
impl Desks for SqliteLedger {
    async fn greet(&self, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted> {
        desks::greet(self, hellos, hold).await
    }
    async fn desks(&self, hold: Duration) -> Result<Vec<Desk>, LedgerError> {
        desks::desks(self, hold).await
    }
}

#[async_trait]
impl Workers for SqliteLedger {
    async fn say(&self, word: &WorkerWord) -> Result<(), LedgerError> {
        workers::say(self, word).await
    }
    async fn leave(&self, instance: Uuid) -> Result<(), LedgerError> {
        workers::leave(self, instance).await
    }
    async fn workers(&self) -> Result<Vec<WorkerSeen>, LedgerError> {
        workers::workers(self).await
    }
    async fn standing(&self) -> Result<Standing, LedgerError> {
        workers::standing(self).await
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn record_turns(&self, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt> {
        record::record_turns(self, turns, terms).await
    }
    async fn transition(&self, transitions: &[Transition]) -> Each<Transitioned> {
        transitions::transition(self, transitions).await
    }
    async fn decide(&self, decision: &Decision) -> Result<Decided, LedgerError> {
        transitions::decide(self, decision).await
    }
    async fn apply_outcomes(&self, outcomes: &[ReplyOutcome]) -> Each<Applied> {
        outcomes::apply(self, outcomes).await
    }
    async fn renew(&self, leases: &[(TurnId, LeaseToken)], hold: Duration) -> Result<Vec<bool>, LedgerError> {
        leases::renew(self, leases, hold).await
    }
    async fn take_over(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError> {
        leases::take(self, leases::Due::Waiting, lease, limit).await
    }
    async fn take_overdue(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError> {
        leases::take(self, leases::Due::Overdue, lease, limit).await
    }
    async fn take_commands(&self, hold: Duration, limit: u32) -> Result<Vec<PendingCommand>, LedgerError> {
        leases::take_commands(self, hold, limit).await
    }
    async fn mark_published(&self, entries: &[EntryId]) -> Result<(), LedgerError> {
        leases::mark_published(self, entries).await
    }
    async fn show(&self, turn: TurnId) -> Result<Option<Detail>, LedgerError> {
        read::show(self, turn).await
    }
    async fn story(&self, turn: TurnId) -> Result<Vec<StoryLine>, LedgerError> {
        read::story(self, turn).await
    }
    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LedgerError> {
        read::list(self, filter).await
    }
    async fn prune(&self, retention: Retention) -> Result<Pruned, LedgerError> {
        retention::prune(self, retention).await
    }
    async fn forget(&self, peer: &str) -> Result<Vec<ConversationId>, LedgerError> {
        retention::forget(self, peer).await
    }
    async fn counts(&self) -> Result<Counts, LedgerError> {
        read::counts(self).await
    }
    fn pool(&self) -> PoolUse {
        let both = [&self.writer, &self.readers];
        let idle: usize = both.iter().map(|pool| pool.num_idle()).sum();
        let (open, idle) = (both.iter().map(|pool| pool.size()).sum::<u32>(), u32::try_from(idle).unwrap_or(u32::MAX));
        PoolUse { in_use: open.saturating_sub(idle), idle }
    }
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
