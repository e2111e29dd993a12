//! Where the port [`crate::saga::Ledger`] is kept: SQLite on one machine, PostgreSQL for many.

mod postgres;
mod settings;
mod sqlite;

#[cfg(test)]
#[path = "conformance_tests.rs"]
mod conformance;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod worker_tests;

pub use postgres::{Migrated, PostgresLedger, PostgresServer};
pub use settings::{Settings, Tls};
pub use sqlite::SqliteLedger;

/// The error of a row that a database refuses where no caller could have given a bad one.
fn refused_alone(crate::saga::Rejected(why): crate::saga::Rejected) -> crate::saga::LedgerError {
    let problem = crate::error::Problem::new(why, "the ledger", "This is a bug in autoreply; report it");
    crate::saga::LedgerError::Storage(problem)
}
