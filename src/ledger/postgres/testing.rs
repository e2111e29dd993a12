//! A database of its own for each test, dropped after it, whose clock can be turned.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::PostgresLedger;
use crate::ledger::Settings;
use crate::testing::{Server, address};

/// A test's database.
pub(in crate::ledger) struct Database {
    name: String,
    server: PgConnectOptions,
    /// For the test's own looks at it.
    pub(in crate::ledger) pool: PgPool,
    /// What opens it.
    pub(in crate::ledger) settings: Settings,
}

impl Database {
    /// An empty database with the ledger's tables, or none without a server; then the test is skipped, out loud.
    pub(in crate::ledger) async fn new(test: &str) -> Option<Self> {
        let database = Self::bare(test).await?;
        PostgresLedger::migrate(&database.settings, None).await.unwrap();
        // The clock of this database alone; what stands in the migration is the server's.
        let turned = "create table test_clock (ahead bigint not null);
            insert into test_clock values (0);
            create or replace function ledger_now() returns bigint language sql volatile as $$
                select floor(extract(epoch from clock_timestamp()) * 1000)::bigint + ahead from test_clock $$";
        database.pool.execute(turned).await.unwrap();
        Some(database)
    }

    /// An empty database without tables.
    pub(in crate::ledger) async fn bare(test: &str) -> Option<Self> {
        let url = address(Server::Postgres, test)?;
        let server: PgConnectOptions = url.parse().unwrap();
        let name = format!("ledger_{}", uuid::Uuid::new_v4().simple());
        let mut connection = server.connect().await.unwrap();
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        connection.close().await.unwrap();
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy_with(server.clone().database(&name));
        let file: toml::Table = include_str!("../../../config.default.toml").parse().unwrap();
        let mut settings: Settings = file["ledger"].clone().try_into().unwrap();
        let (head, _) = url.rsplit_once('/').unwrap();
        settings.url = format!("{head}/{name}");
        settings.check().unwrap();
        Some(Self { name, server, pool, settings })
    }

    /// Another worker's view of it.
    pub(in crate::ledger) async fn open(&self, quota: u64) -> PostgresLedger {
        let settings = Settings { daily_quota: quota, pool_max: 4, ..self.settings.clone() };
        PostgresLedger::open(&settings, None).await.unwrap()
    }

    /// Lets time pass for it.
    pub(in crate::ledger) async fn pass(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        sqlx::query("update test_clock set ahead = ahead + $1").bind(ms).execute(&self.pool).await.unwrap();
    }

    /// One number.
    pub(in crate::ledger) async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// Ends every connection to it but the test's own, as a restart of the server would.
    pub(in crate::ledger) async fn end_connections(&self) -> i64 {
        self.number(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and application_name = 'autoreply'",
        )
        .await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime is ending: another one cleans up, on a thread of its own.
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = server.connect().await.unwrap();
                let statement = format!("drop database if exists {name} with (force)");
                // A vacuum of the server's own may be at work in it, which only a superuser may end.
                let mut dropped = Ok(());
                for _ in 0..60 {
                    dropped = connection.execute(AssertSqlSafe(statement.clone())).await.map(drop);
                    if dropped.is_ok() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                dropped.unwrap();
            });
        });
        assert!(clean.join().is_ok() || std::thread::panicking(), "the test's database was not dropped");
    }
}
