//! The schema: its migrations in order, and which programs a schema serves. `migrations/README.md` has the rules.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, PgPool, Row};

use super::rows::Fault;
use crate::error::Problem;
use crate::saga::LedgerError;

/// One step of the schema. Never changed once released, only added to.
pub(super) struct Migration {
    /// Its number, from 1.
    pub(super) version: i32,
    /// What it is about.
    pub(super) name: &'static str,
    /// The oldest version a program may know and still work with a schema that has this step: a step that only adds
    /// names the one it found; a step that takes away names the one whose programs no longer need what it takes.
    pub(super) works_from: i32,
    /// The statements.
    pub(super) sql: &'static str,
}

/// Every step in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "ledger",
        works_from: 1,
        sql: include_str!("../../../migrations/postgres/0001_ledger.sql"),
    },
    Migration {
        version: 2,
        name: "owners",
        works_from: 1,
        sql: include_str!("../../../migrations/postgres/0002_owners.sql"),
    },
    Migration {
        version: 3,
        name: "traces",
        works_from: 1,
        sql: include_str!("../../../migrations/postgres/0003_traces.sql"),
    },
    Migration {
        version: 4,
        name: "workers",
        works_from: 1,
        sql: include_str!("../../../migrations/postgres/0004_workers.sql"),
    },
];

/// Two who migrate at the same time wait for each other here.
const LOCK: &str = "select pg_advisory_lock(706133, 0)";

/// What was done to a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The steps that were made now, as `1 ledger`.
    pub made: Vec<String>,
    /// The version that the schema has.
    pub version: i32,
}

fn newest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// Makes the steps that are missing, each in a transaction of its own.
pub(super) async fn migrate(options: PgConnectOptions) -> Result<Migrated, LedgerError> {
    Ok(migrate_with(options.options([("statement_timeout", "0")])).await?)
}

async fn migrate_with(options: PgConnectOptions) -> Result<Migrated, Fault> {
    let mut connection: PgConnection = options.connect().await?;
    connection.execute(LOCK).await?;
    // A step may take as long as it needs; its locks wait only a little, so that workers do not queue behind it.
    connection.execute("set lock_timeout = '30s'").await?;
    connection
        .execute(
            "create table if not exists ledger_schema (
                 version    integer primary key,
                 name       text not null,
                 works_from integer not null,
                 made_at    timestamptz not null default now())",
        )
        .await?;
    let there: i32 =
        sqlx::query_scalar("select coalesce(max(version), 0) from ledger_schema").fetch_one(&mut connection).await?;
    let mut made = Vec::new();
    for step in MIGRATIONS.iter().filter(|step| step.version > there) {
        let mut tx = connection.begin().await?;
        tx.execute(sqlx::raw_sql(step.sql)).await?;
        sqlx::query("insert into ledger_schema (version, name, works_from) values ($1, $2, $3)")
            .bind(step.version)
            .bind(step.name)
            .bind(step.works_from)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        made.push(format!("{} {}", step.version, step.name));
    }
    // The lock goes with the connection.
    connection.close().await?;
    Ok(Migrated { made, version: there.max(newest()) })
}

/// Whether this program can work with the schema: it must have every step that the program knows, and none that takes
/// away what the program needs. Steps of a newer release that only add are welcome.
pub(super) async fn check(pool: &PgPool) -> Result<(), LedgerError> {
    let row = match versions(pool).await {
        Ok(row) => row,
        Err(Fault::Ledger(LedgerError::Storage(problem))) if problem.what.contains("42P01") => None,
        Err(fault) => return Err(fault.into()),
    };
    judge(row, newest())
}

async fn versions(pool: &PgPool) -> Result<Option<(i32, i32)>, Fault> {
    let row = sqlx::query("select max(version) as version, max(works_from) as works_from from ledger_schema")
        .fetch_one(pool)
        .await?;
    let both: (Option<i32>, Option<i32>) = (row.try_get("version")?, row.try_get("works_from")?);
    Ok(both.0.zip(both.1))
}

/// `schema` is its version and the oldest version it works with; `known` is this program's.
fn judge(schema: Option<(i32, i32)>, known: i32) -> Result<(), LedgerError> {
    let problem =
        |what: String, remedy: &str| Err(LedgerError::Storage(Problem::new(what, "the ledger's database", remedy)));
    match schema {
        None => problem("it holds no ledger yet".to_owned(), "Run `autoreply migrate` with these settings once"),
        Some((version, _)) if version < known => problem(
            format!("its schema is of version {version}, this program needs {known}"),
            "Run `autoreply migrate` of this release; older workers may go on meanwhile",
        ),
        Some((version, works_from)) if works_from > known => problem(
            format!(
                "its schema (version {version}) works with programs from version {works_from}, this one knows {known}"
            ),
            "Run the newer release of autoreply",
        ),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_with_newer_schemas_that_only_add() {
        assert!(judge(Some((3, 3)), 3).is_ok());
        assert!(judge(Some((5, 3)), 3).is_ok(), "two steps that only add");
        for (schema, words) in
            [(None, "autoreply migrate"), (Some((2, 1)), "autoreply migrate"), (Some((5, 4)), "newer release")]
        {
            let refused = judge(schema, 3).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn steps_are_numbered_without_gaps_and_never_ask_for_more_than_themselves() {
        for (place, step) in (1..).zip(MIGRATIONS) {
            assert_eq!(step.version, place);
            assert!(step.works_from <= step.version && step.works_from >= 1, "{}", step.name);
        }
        assert!(MIGRATIONS.windows(2).all(|pair| pair[0].works_from <= pair[1].works_from));
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres")).unwrap();
        assert_eq!(files.count(), MIGRATIONS.len(), "every file is a step");
    }
}
