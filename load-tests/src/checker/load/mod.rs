//! Fetches what the judge is given. Everything is only read.

pub mod journals;
pub mod ledger;
pub mod logs;
pub mod run;
pub mod topics;

use std::path::{Path, PathBuf};

use super::Facts;

/// Something that cannot be read: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {why}")]
pub struct Unread {
    what: String,
    why: String,
}

impl Unread {
    pub(super) fn new(what: impl Into<String>, why: impl ToString) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }

    pub(super) fn at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |why| Self::new(path.display().to_string(), why)
    }
}

/// Where a run left its traces.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The run's directory ([`crate::facts`]).
    pub run: PathBuf,
    /// The ledger: `postgres://...`, or the path of a SQLite file.
    pub ledger: String,
    /// Kafka's addresses; without them the topics are not judged.
    pub brokers: Option<String>,
    /// The prefix of the topics' names.
    pub topic_prefix: String,
    /// The files of journals.
    pub journals: Vec<PathBuf>,
    /// Directories with logs and dumps of metrics.
    pub logs: Vec<PathBuf>,
}

/// Reads everything.
///
/// # Errors
/// Something is not there, or not what it should be.
pub async fn load(places: &Places) -> Result<Facts, Unread> {
    let mut facts = run::load(&places.run)?;
    facts.ledger = ledger::load(&places.ledger).await?;
    if let Some(brokers) = places.brokers.clone() {
        let prefix = places.topic_prefix.clone();
        // librdkafka's consumer blocks.
        let read = tokio::task::spawn_blocking(move || topics::load(&brokers, &prefix)).await;
        facts.topics = Some(read.map_err(|why| Unread::new("the topics", why))??);
    }
    for path in &places.journals {
        facts.journals.push(journals::load(path).await?);
    }
    facts.leaks = logs::leaks(&places.logs, &facts.planned)?;
    Ok(facts)
}
