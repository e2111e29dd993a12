//! What `autoreply status --json` prints, and `top` draws. `docs/cli.md` explains the fields; their names stay.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::control::Health;

/// How everything does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Nothing hurts.
    pub well: bool,
    /// What hurts, the worst first.
    pub hurts: Vec<Hurt>,
    /// When this was asked, by this machine's clock.
    pub at: Timestamp,
    /// Who was asked.
    pub asked: Asked,
    /// The workers that run or died lately, as the ledger knows them.
    pub workers: Vec<WorkerView>,
    /// The group that the workers share, as Kafka knows it.
    pub group: Option<GroupView>,
    /// How far the workers are behind, by topic.
    pub lag: Vec<LagView>,
    /// How the replies stand.
    pub replies: Option<RepliesView>,
    /// The providers of replies, as the workers find them.
    pub breakers: Vec<BreakerView>,
    /// The desks that the ledger knows.
    pub desks: Vec<DeskLine>,
    /// Today's quota of replies.
    pub quota: Option<QuotaView>,
    /// What waits for a person.
    pub person: PersonView,
    /// The process on this machine.
    pub process: Option<Health>,
}

/// Something that hurts, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hurt {
    /// What, as a sentence without its full stop.
    pub what: String,
    /// How to mend it, as a sentence without its full stop.
    pub remedy: String,
}

/// Who was asked; nothing where there is nobody to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The ledger: an address without its password, or a file.
    pub ledger: Option<String>,
    /// The brokers.
    pub brokers: Option<String>,
    /// The control socket of the process on this machine.
    pub socket: Option<String>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerView {
    /// Drawn at its start.
    pub instance: String,
    /// Its name, as in the stories of replies.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its release.
    pub version: String,
    /// `fresh`, or `silent`: it died, or cannot reach the ledger.
    pub state: &'static str,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// When the ledger last heard it.
    pub last_seen: Timestamp,
    /// How long ago that was.
    pub silent_seconds: f64,
    /// Turns it works on now.
    pub in_flight: u64,
    /// How many it may work on at once.
    pub permits: u64,
    /// Partitions it reads.
    pub partitions: u64,
    /// Turns it has recorded since its start.
    pub turns: u64,
    /// Outcomes it has heard since its start, by effect.
    pub replies: BTreeMap<String, u64>,
    /// Redis is away, and it keeps limits of its own.
    pub limits_local: bool,
}

impl WorkerView {
    /// Whether it says that it runs.
    pub fn is_fresh(&self) -> bool {
        self.state == "fresh"
    }
}

/// A group of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// What it does, as Kafka says it: `Stable` while it works.
    pub state: String,
    /// Its members.
    pub members: Vec<MemberView>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its id in the group.
    pub id: String,
    /// The machine it comes from, as the broker sees it.
    pub host: String,
    /// Its partitions; nothing if it does not say.
    pub partitions: Option<usize>,
}

/// How far the workers are behind in a topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LagView {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u64,
    /// Records that stand there and are not done.
    pub records: u64,
    /// For how long the oldest of them has been waiting; nothing if that could not be read.
    pub seconds: Option<f64>,
}

/// How the replies stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepliesView {
    /// The open ones, by state, in the order of a reply's life.
    pub states: Vec<StateView>,
    /// Open ones whose deadline has passed.
    pub overdue: u64,
    /// Commands that wait to be published.
    pub unpublished: u64,
}

/// The open replies of one state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateView {
    /// The state.
    pub state: &'static str,
    /// How many.
    pub count: u64,
    /// How long ago the oldest of them was recorded.
    pub oldest_seconds: f64,
}

/// A provider of replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerView {
    /// Its name in the settings.
    pub provider: String,
    /// The workers that leave it alone after failures.
    pub open_at: Vec<String>,
    /// How many workers have it.
    pub workers: usize,
}

/// A desk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeskLine {
    /// Its name.
    pub desktop: String,
    /// Its machine; empty if it says no hello.
    pub host: String,
    /// Its release; empty if it says no hello.
    pub version: String,
    /// `fresh`, `silent`, `stopped`, `cloned`, or `no hello`.
    pub state: String,
    /// How long ago it was heard; nothing if it says no hello.
    pub silent_seconds: Option<f64>,
    /// The accounts that it answers for.
    pub accounts: Vec<String>,
}

/// A day's quota of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QuotaView {
    /// Reserved or used.
    pub taken: u64,
    /// The most.
    pub limit: u64,
}

/// What waits for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PersonView {
    /// Drafts that wait for a yes or a no; nothing if the ledger was not asked.
    pub drafts: Option<u64>,
    /// Replies of the last 24 hours that nobody could tell the effect of; nothing if the ledger was not asked.
    pub needs_attention: Option<u64>,
    /// Records that could not be read and that nobody has dealt with; nothing if that is not known.
    pub dead_letters: Option<u64>,
}
