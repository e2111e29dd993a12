//! The ledger in PostgreSQL, for any number of workers. A group of writes is one transaction of a few statements: its
//! sagas are locked in the order of their ids, everything is decided here by the table of states, and what is to be
//! written goes out as sets of rows. Time is the server's.

mod book;
mod desks;
mod examine;
mod group;
mod leases;
mod loan;
mod migrate;
mod open;
mod outcomes;
mod read;
mod record;
mod retention;
mod rows;
mod transitions;
mod workers;
mod write;

#[cfg(test)]
mod plans;
#[cfg(test)]
pub(in crate::ledger) mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

pub use examine::PostgresServer;
pub use migrate::Migrated;

use self::group::SOON;
use self::rows::Fault;
use super::Settings;
use crate::contract::{ConversationId, DesktopGreeted, DesktopHello, MessagesDetected, ReplyOutcome, TurnId};
use crate::retry::retry;
use crate::saga::{
    Applied, Counts, Decided, Decision, Desk, Desks, Detail, Each, EntryId, Filter, LeaseRequest, LeaseToken, Ledger,
    LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Retention, Standing, StoryLine, Summary, Terms,
    Transition, Transitioned, WorkerSeen, WorkerWord, Workers,
};

/// The ledger of many machines.
#[derive(Clone)]
pub struct PostgresLedger {
    pool: PgPool,
    daily_quota: i64,
    /// How long a try may take before its connection is given up: the server ends statements by itself, but not those
    /// that never reached it.
    patience: Duration,
}

impl PostgresLedger {
    /// Connects and sees whether the schema is one to work with; it changes nothing.
    ///
    /// # Errors
    /// The server does not answer, the settings do not fit it, or its schema does not fit this program.
    pub async fn open(settings: &Settings, password: Option<&SecretString>) -> Result<Self, LedgerError> {
        let pool = open::pool(settings, open::options(settings, password)?);
        migrate::check(&pool).await?;
        let patience = Duration::from_millis(
            settings.connect_timeout_ms.saturating_add(settings.statement_timeout_ms.saturating_mul(2)),
        );
        Ok(Self { pool, daily_quota: i64::try_from(settings.daily_quota).unwrap_or(i64::MAX), patience })
    }

    /// Brings the schema to this version; workers may go on meanwhile.
    ///
    /// # Errors
    /// The server does not answer, or refuses a step; the steps before it are made.
    pub async fn migrate(settings: &Settings, password: Option<&SecretString>) -> Result<Migrated, LedgerError> {
        migrate::migrate(open::options(settings, password)?).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let late = || Fault::Ledger(LedgerError::Unavailable("the database did not answer in time".to_owned()));
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// The rows of one statement, asked for again where that can help.
    async fn ask<'q, Q>(&self, query: Q) -> Result<Vec<PgRow>, LedgerError>
    where
        Q: Fn() -> Query<'q, Postgres, PgArguments>,
    {
        let once = || {
            self.in_time(async {
                let mut loan = self.lend().await?;
                let rows = query().fetch_all(&mut *loan).await?;
                loan.whole();
                Ok(rows)
            })
        };
        Ok(retry(SOON, once).await?)
    }

    /// The same for a statement that is put together.
    async fn ask_built(&self, query: impl Fn() -> QueryBuilder<Postgres>) -> Result<Vec<PgRow>, LedgerError> {
        let once = || {
            self.in_time(async {
                let mut loan = self.lend().await?;
                let rows = query().build().fetch_all(&mut *loan).await?;
                loan.whole();
                Ok(rows)
            })
        };
        Ok(retry(SOON, once).await?)
    }
}

#[async_trait]
impl Desks for PostgresLedger {
    async fn greet(&self, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted> {
        desks::greet(self, hellos, hold).await
    }
    async fn desks(&self, hold: Duration) -> Result<Vec<Desk>, LedgerError> {
        desks::desks(self, hold).await
    }
}

#[async_trait]
impl Workers for PostgresLedger {
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
impl Ledger for PostgresLedger {
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
        let (open, idle) = (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX));
        PoolUse { in_use: open.saturating_sub(idle), idle }
    }
    async fn close(&self) {
        self.pool.close().await;
    }
}
