//! What `autoreply doctor --cluster` wants to know of the server.

use jiff::Timestamp;

use super::PostgresLedger;
use super::rows::{damaged, get, number};
use crate::clock::from_millis;
use crate::saga::LedgerError;

/// The server of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresServer {
    /// Its release.
    pub version: String,
    /// The version of the schema.
    pub schema: u64,
    /// What its clock shows.
    pub now: Timestamp,
    /// The most connections that it gives to ordinary roles.
    pub connections_max: u64,
    /// Connections that it has now, to all of its databases.
    pub connections: u64,
    /// It is a standby, to which nothing can be written.
    pub standby: bool,
    /// How large the database is, in bytes.
    pub bytes: u64,
}

const SERVER: &str = "
    select current_setting('server_version') as version, ledger_now() as now, pg_is_in_recovery() as standby,
           (select max(version)::bigint from ledger_schema) as schema,
           current_setting('max_connections')::bigint
               - current_setting('superuser_reserved_connections')::bigint as most,
           (select coalesce(sum(numbackends), 0)::bigint from pg_stat_database) as used,
           pg_database_size(current_database()) as bytes";

impl PostgresLedger {
    /// Asks the server about itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn examine(&self) -> Result<PostgresServer, LedgerError> {
        let rows = self.ask(|| sqlx::query(SERVER)).await?;
        let row = rows.first().ok_or_else(|| damaged("nothing about itself"))?;
        Ok(PostgresServer {
            version: get(row, "version")?,
            schema: number(row, "schema")?,
            now: from_millis(get(row, "now")?),
            connections_max: number(row, "most")?,
            connections: number(row, "used")?,
            standby: get(row, "standby")?,
            bytes: number(row, "bytes")?,
        })
    }
}
