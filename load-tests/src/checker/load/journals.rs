//! A desktop's journal, read only.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::Unread;
use crate::checker::material::Journal;
use crate::facts;

/// Open turns that the ledger does not hold yet; of those that it holds it decides itself.
const OPEN: &str = "select id from turns where effect is null and recorded_revision < revision";
/// Turns that ended in silence (the mode was off) never leave the desktop, and so do their outcomes.
const UNACKNOWLEDGED: &str = "select id from turns where effect is not null and silent = 0 \
     and recorded_revision < revision \
     union select o.turn from outcomes o left join turns t on t.id = o.turn \
     where o.acknowledged = 0 and coalesce(t.silent, 0) = 0";
const HISTORY: &str = "select text from messages where direction = 'inbound' and standing = 'history'";

/// What the judge looks at in this journal; the desktop is the file's name without its end.
///
/// # Errors
/// The file is not there or is no journal.
pub async fn load(path: &Path) -> Result<Journal, Unread> {
    let desktop = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    read(path, desktop).await.map_err(|why| Unread::new(path.display().to_string(), why))
}

async fn read(path: &Path, desktop: String) -> sqlx::Result<Journal> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let mut journal = Journal { desktop, ..Journal::default() };
    for (query, turns) in [(OPEN, &mut journal.open), (UNACKNOWLEDGED, &mut journal.unacknowledged)] {
        for row in sqlx::query(query).fetch_all(&mut connection).await? {
            turns.push(row.try_get::<Uuid, _>(0)?.to_string());
        }
    }
    for row in sqlx::query(HISTORY).fetch_all(&mut connection).await? {
        journal.history.extend(facts::tokens(row.try_get(0)?).into_iter().map(str::to_owned));
    }
    connection.close().await?;
    Ok(journal)
}
