//! Where the port [`crate::saga::Ledger`] is kept: SQLite on one machine.

mod settings;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use settings::Settings;
pub use sqlite::SqliteLedger;
