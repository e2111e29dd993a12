//! Opening the file: its settings, and its migrations one at a time under a lock of their own.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::error::Problem;
use crate::saga::LedgerError;

/// Every migration in order; the first is version 1. Never changed once released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_owners.sql"),
    include_str!("../../../migrations/sqlite/0003_traces.sql"),
    include_str!("../../../migrations/sqlite/0004_workers.sql"),
];

fn storage(path: &Path, what: String, remedy: &str) -> LedgerError {
    LedgerError::Storage(Problem::new(what, path.display().to_string(), remedy))
}

/// The pools of one file: a single writer, so that writes queue here and not in SQLite, and readers.
pub(super) async fn open(path: &Path) -> Result<(SqlitePool, SqlitePool), LedgerError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| {
            storage(path, format!("its directory cannot be made ({error})"), "Make it, or set ledger.path")
        })?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let lock = lock(path).await?;
    restrict(path)?;
    let connect = |most: u32, options: SqliteConnectOptions| async move {
        SqlitePoolOptions::new()
            .max_connections(most)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await
    };
    let unusable = |error: sqlx::Error| {
        storage(
            path,
            format!("it cannot be opened as a SQLite file ({error})"),
            "Check its permissions and the disk, or set ledger.path",
        )
    };
    let writer = connect(1, options.clone()).await.map_err(unusable)?;
    migrate(&writer, path).await?;
    drop(lock);
    let readers = connect(4, options).await.map_err(unusable)?;
    Ok((writer, readers))
}

/// Chat text stands in the file: nobody else on this machine may read it. Made before SQLite opens it, so that the files
/// SQLite puts beside it are as private.
fn restrict(path: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let private = |path: &Path| {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
    };
    private(path).map_err(|error| {
        let what = format!("its permissions cannot be set ({error})");
        storage(path, what, "Give the file to the user that runs this")
    })
}

/// Waits for the lock beside the file; it is given back when the handle is dropped, also by a crash.
async fn lock(path: &Path) -> Result<std::fs::File, LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".migrate-lock");
    let beside = PathBuf::from(name);
    let wait = move || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&beside)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    let failed = |error: String| {
        storage(path, format!("the lock beside it cannot be taken ({error})"), "Check the directory's permissions")
    };
    tokio::task::spawn_blocking(wait)
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

async fn migrate(pool: &SqlitePool, path: &Path) -> Result<(), LedgerError> {
    let failed = |error: sqlx::Error| {
        storage(
            path,
            format!("its tables cannot be brought up to date ({error})"),
            "Check the disk; the file is unchanged",
        )
    };
    let mut tx = pool.begin_with("begin immediate").await.map_err(failed)?;
    let version: i64 = sqlx::query_scalar("pragma user_version").fetch_one(&mut *tx).await.map_err(failed)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(storage(
            path,
            format!("it was made by a newer release (its version is {version}, this knows {})", MIGRATIONS.len()),
            "Run the newer release, or set ledger.path to another file",
        ));
    }
    for migration in &MIGRATIONS[done..] {
        sqlx::raw_sql(*migration).execute(&mut *tx).await.map_err(failed)?;
    }
    // The number is a constant of this program; a pragma takes no parameters.
    let stamp = sqlx::AssertSqlSafe(format!("pragma user_version = {}", MIGRATIONS.len()));
    sqlx::raw_sql(stamp).execute(&mut *tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}
