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

pub use postgres::{Migrated, PostgresLedger};
pub use settings::{Settings, Tls};
pub use sqlite::SqliteLedger;
