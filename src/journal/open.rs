//! Opening the file: the lock, the pragmas, the schema, the id.
//!
//! Write-ahead logging with `synchronous=FULL`: one fsync a commit where a rollback journal needs two or three, and a
//! commit that returned survives a power cut all the same. There is one connection, so nothing waits for a reader.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlSafeStr, SqlitePool};
use uuid::Uuid;

use super::JournalError;
use crate::contract::JournalId;
use crate::error::Problem;

/// The schema, oldest first; a migration that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "journal", include_str!("../../migrations/journal/0001_journal.sql")),
    (2, "withdrawn", include_str!("../../migrations/journal/0002_withdrawn.sql")),
];

/// What opening gives.
pub(super) struct Opened {
    pub(super) pool: SqlitePool,
    pub(super) lock: File,
    pub(super) id: JournalId,
    pub(super) session: i64,
}

/// Locks, opens, migrates, and counts the session.
pub(super) async fn open(path: &Path) -> Result<Opened, JournalError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot(folder, &error.to_string()))?;
    }
    let lock = lock(path)?;
    private_file(path).map_err(|error| cannot(path, &error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("secure_delete", "on");
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(30))
        .connect_with(options)
        .await
        .map_err(|error| cannot(path, &error.to_string()))?;
    migrate(&pool).await.map_err(|error| cannot(path, &error.to_string()))?;
    let (id, session) = begin_session(&pool).await?;
    Ok(Opened { pool, lock, id, session })
}

/// The lock lies beside the journal: SQLite's own locks on the file would be lost with any second handle to it.
fn lock(path: &Path) -> Result<File, JournalError> {
    let beside = lock_path(path);
    let file = private_file(&beside).map_err(|error| cannot(&beside, &error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(Problem::new(
            "another process has this journal open",
            path.display().to_string(),
            "Stop the other autoreply on this desktop, or give this one another journal.path",
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(&beside, &error.to_string())),
    }
}

/// See [`super::Journal::seat`]. Asked for only after the lock was taken.
pub(super) fn seat(path: &Path) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        if let (Ok(boot), Ok(file)) = (boot, std::fs::metadata(lock_path(path))) {
            return format!("{}/{}/{}", boot.trim(), file.dev(), file.ino());
        }
    }
    String::new()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Opens the file and makes it, for its owner only, if it is not there. SQLite gives its side files the same mode.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::migrate::MigrateError> {
    let migrations = MIGRATIONS
        .into_iter()
        .map(|(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations).run(pool).await
}

/// The id of the file, drawn now if it is new, and the number of this session.
async fn begin_session(pool: &SqlitePool) -> Result<(JournalId, i64), JournalError> {
    let mut tx = pool.begin_with("begin immediate").await?;
    sqlx::query("insert or ignore into journal (one, id) values (1, ?)")
        .bind(JournalId::draw().0)
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query("update journal set session = session + 1 returning id, session").fetch_one(&mut *tx).await?;
    let (id, session) = (row.try_get::<Uuid, _>(0)?, row.try_get(1)?);
    tx.commit().await?;
    Ok((JournalId(id), session))
}

fn cannot(path: &Path, why: &str) -> JournalError {
    JournalError::Storage(Problem::new(
        format!("the journal cannot be opened ({why})"),
        path.display().to_string(),
        "Check that the folder exists, is on a disk with room, and belongs to this user; a file that is not a journal must be moved away",
    ))
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        let busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            // SQLITE_BUSY and SQLITE_LOCKED with their extended codes.
            sqlx::Error::Database(database) => database
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 5 | 6)),
            _ => false,
        };
        if busy {
            return Self::Busy(error.to_string());
        }
        Self::Storage(Problem::new(
            format!("the journal cannot be read or written ({error})"),
            "journal.path",
            "Free some room on its disk and check its permissions; nothing is typed until it can be written",
        ))
    }
}
