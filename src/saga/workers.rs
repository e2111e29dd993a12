//! The port of what workers say of themselves, and of how the replies stand, for those who look. It is a part of the
//! ledger, because every worker writes there: whoever may read it sees them all, from any machine.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LedgerError;
use super::state::Phase;

/// A worker that died is forgotten after this.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);
/// A reply is overdue when its deadline has passed by this: recovery looks around only from time to time.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(15);

/// How far a worker is behind in one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicLag {
    /// Its partitions.
    pub partitions: u64,
    /// Records that stand there and are not done.
    pub records: u64,
    /// For how long the oldest of them has been waiting.
    pub seconds: f64,
}

/// What a worker counts. Totals begin at 0 with its start. A field that another release does not know is 0 there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerFigures {
    /// Turns it works on now.
    pub in_flight: u64,
    /// How many it may work on at once.
    pub permits: u64,
    /// Replies a day, by its settings.
    pub daily_quota: u64,
    /// Turns it has recorded.
    pub turns: u64,
    /// Outcomes it has heard, by effect.
    pub replies: BTreeMap<String, u64>,
    /// Records it could not read.
    pub dead_letters: u64,
    /// Its providers, and whether each is left alone after failures.
    pub breakers: BTreeMap<String, bool>,
    /// How far it is behind, by topic.
    pub lag: BTreeMap<String, TopicLag>,
    /// A Redis that was set is away, so that it keeps its own limits.
    pub limits_local: bool,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerWord {
    /// Drawn at its start.
    pub instance: Uuid,
    /// Its name, as in the stories of replies.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its release.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// How often it means to say so.
    pub interval: Duration,
    /// What it counts.
    pub figures: WorkerFigures,
}

/// A worker as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSeen {
    /// Its last word.
    pub word: WorkerWord,
    /// When that was, by the ledger's clock.
    pub last_seen: Timestamp,
    /// How long ago that was, by the ledger's clock.
    pub silent_for: Duration,
}

impl WorkerSeen {
    /// Whether it is heard as often as it said, with two words to spare.
    pub fn is_fresh(&self) -> bool {
        self.silent_for <= self.word.interval * 3
    }
}

/// How many open replies stand in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseStanding {
    /// The phase; never the end.
    pub phase: Phase,
    /// How many.
    pub count: u64,
    /// How long ago the oldest of them was recorded.
    pub oldest: Duration,
}

/// How the replies stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The ledger's clock.
    pub now: Timestamp,
    /// The phases in which there are open replies, in the order of a reply's life.
    pub phases: Vec<PhaseStanding>,
    /// Open replies whose deadline passed more than [`OVERDUE_AFTER`] ago.
    pub overdue: u64,
    /// Replies of the last 24 hours that ended as `needs_attention`.
    pub attention: u64,
    /// Commands that wait to be published.
    pub unpublished: u64,
    /// Replies of today's quota that are reserved or used.
    pub quota_taken: u64,
}

/// What the ledger knows of workers, and how the replies stand.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Writes a worker's word in the place of its last one.
    async fn say(&self, word: &WorkerWord) -> Result<(), LedgerError>;

    /// Takes a worker's row away: it stops.
    async fn leave(&self, instance: Uuid) -> Result<(), LedgerError>;

    /// Every worker that has not left, by name; those that died too, until they are forgotten.
    async fn workers(&self) -> Result<Vec<WorkerSeen>, LedgerError>;

    /// How the replies stand.
    async fn standing(&self) -> Result<Standing, LedgerError>;
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
