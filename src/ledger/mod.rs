//! Where the port [`crate::saga::Ledger`] is kept: SQLite on one machine.

mod settings;
mod sqlite;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod worker_tests;

pub use settings::Settings;
pub use sqlite::SqliteLedger;
