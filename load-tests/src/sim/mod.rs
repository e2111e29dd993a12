//! Simulated desktops: everything of a desktop but its screen. The journal, the relay to Kafka and the executor are
//! the real ones; in front of them stands a fake chat application that writes down what truly arrived in it.
//!
//! ```text
//! plan.jsonl ─▶ peers ─▶ application ─▶ eyes ─▶ journal ─▶ relay ─▶ Kafka
//!                            ▲  │                  │
//!             apps/*.jsonl ◀─┼──┘    hands ◀── executor
//!                            └─────────┘
//! ```
//!
//! The application outlives the process, as a real one does: it is read again from its file at the next start, with
//! the text that stood in its inputs, and shows what was planned while nobody looked. A process of desks may therefore
//! be killed at any moment.

pub mod application;
mod eyes;
mod hands;
mod inputs;
mod peers;
pub mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use autoreply::clock::Clock;
use autoreply::contract::codec::Source;
use autoreply::contract::{Conversation, ConversationKind, DesktopId};
use autoreply::error::Problem;
use autoreply::execution;
use autoreply::journal::{self, Journal};
use autoreply::lifecycle::Supervisor;
use autoreply::roles::relay;
use autoreply::roles::wiring::Outbound;
use autoreply::settings::Layers;
use autoreply::stream::{self, Connection};
use autoreply::telemetry::Metrics;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use application::{Application, Faults, HUMAN_PREFIX};

use crate::plan::DeskPlan;

/// The profile under which simulated windows are read.
pub const PROFILE: &str = "simulated";
/// The network that their accounts are on; a desk's account is its name.
pub const NETWORK: &str = "simulated";
/// Where a process says that its desks watch: one empty file a process, by its name, in the run's directory.
pub const READY_DIRECTORY: &str = "ready";

/// What differs from the program's defaults on a simulated desk: it may answer everybody, has nobody to wait for, and
/// nothing that load could run into.
const SETTINGS: &str = r#"
[journal]
mode = "auto"
trusted_peers = ["*"]
quiet_ms = 100
quiet_max_ms = 2000
consecutive_cap = 1000000
hourly_cap = 1000000
[execution]
idle_ms = 0
idle_wait_ms = 1000
clear_wait_ms = 1000
retry_delay_ms = 200
yield_delay_ms = 300
read_back_ms = 500
fresh_look_ms = 1000
verify_timeout_ms = 2000
poll_ms = 5
next_ms = 20
[stream]
linger_ms = 0
"#;

/// What stands behind a fake application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeskKind {
    /// Everything of a desktop but its screen.
    #[default]
    Journal,
    /// Only the records; see [`wire`].
    Wire,
}

/// One process of simulated desktops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The process's name, for its ready file.
    pub name: String,
    /// The run's directory; see [`crate::facts`]. Journals lie below it in `journals/`.
    pub directory: PathBuf,
    /// What stands behind the applications.
    #[serde(default)]
    pub kind: DeskKind,
    /// The brokers, as `host:port,...`.
    pub brokers: String,
    /// What the names of topics begin with.
    #[serde(default = "topic_prefix")]
    pub topic_prefix: String,
    /// What chance is drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Milliseconds that typing a reply takes; 0 is at once.
    #[serde(default)]
    pub typing_ms: u64,
    /// Milliseconds between a change of a window and the look at it.
    #[serde(default)]
    pub look_ms: u64,
    /// The desks, each with its windows.
    pub desks: Vec<DeskPlan>,
    /// What goes wrong in the applications.
    #[serde(default)]
    pub faults: Faults,
    /// Settings of autoreply that differ from those of a simulated desk.
    #[serde(default)]
    pub settings: toml::Table,
}

fn topic_prefix() -> String {
    "autoreply".to_owned()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::new(format!("it cannot be read ({error})"), &place, "Name a file that exists"))?;
        toml::from_str(&text)
            .map_err(|error| Problem::new(error.message().to_owned(), place, "See load-tests/src/sim/mod.rs"))
    }

    /// The settings in force on these desks.
    ///
    /// # Errors
    /// One of them does not exist.
    pub fn layers(&self) -> Result<Layers, Problem> {
        let unfit = |error: toml::de::Error| Problem::new(error.message().to_owned(), "the desks' settings", "Mend it");
        let mut all: toml::Table = SETTINGS.parse().map_err(unfit)?;
        let stream = [("brokers", &self.brokers), ("topic_prefix", &self.topic_prefix)]
            .map(|(key, value)| (key.to_owned(), value.clone().into()));
        merge(&mut all, toml::Table::from_iter([("stream".to_owned(), toml::Table::from_iter(stream).into())]));
        merge(&mut all, self.settings.clone());
        let write = || -> std::io::Result<tempfile::NamedTempFile> {
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(file.path(), all.to_string())?;
            Ok(file)
        };
        let file = write().map_err(|error| disk("a temporary file", &error))?;
        Layers::load(Some(file.path()), [])
    }
}

pub(crate) fn merge(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn disk(place: impl ToString, error: &std::io::Error) -> Problem {
    Problem::new(format!("it cannot be read or written ({error})"), place.to_string(), "Free room, check permissions")
}

/// The conversation of a simulated window.
pub fn conversation(desktop: &str, peer: &str) -> Conversation {
    Conversation::new(PROFILE, NETWORK, desktop, peer, ConversationKind::Direct)
}

/// What the desks of a process share.
struct Common {
    config: Config,
    journal: journal::Settings,
    execution: execution::Settings,
    connection: Connection,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Told by each desk when it watches all of its windows.
    watching: mpsc::Sender<()>,
}

/// Starts the desks of `config` over `connection`, and those who write to them, under `supervisor`. Returns the
/// journals; the ready file is written when every window has been looked at.
///
/// # Errors
/// A section of the settings does not fit, or a desk's files cannot be opened.
pub async fn start(
    config: &Config,
    connection: &Connection,
    supervisor: &mut Supervisor,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Journal>, Problem> {
    if config.kind == DeskKind::Wire {
        let settings = stream_settings(config)?;
        let others = (1..wire::CONNECTIONS).map(|_| connect(config, &settings));
        let connections = std::iter::once(Ok(connection.clone())).chain(others).collect::<Result<Vec<_>, _>>()?;
        return wire::start(config, &connections, supervisor, clock).map(|()| Vec::new());
    }
    let layers = config.layers()?;
    let (journal, execution): (journal::Settings, execution::Settings) =
        (layers.section("journal")?, layers.section("execution")?);
    journal.check()?;
    execution.check()?;
    for directory in [crate::facts::APPS_DIRECTORY, READY_DIRECTORY, "journals", inputs::DIRECTORY] {
        let path = config.directory.join(directory);
        std::fs::create_dir_all(&path).map_err(|error| disk(path.display(), &error))?;
    }
    let (watching, mut watched) = mpsc::channel(config.desks.len().max(1));
    let (metrics, clock, connection) = (Arc::new(Metrics::new()), clock.clone(), connection.clone());
    let common = Common { config: config.clone(), journal, execution, connection, metrics, clock, watching };
    let (mut applications, mut journals) = (BTreeMap::new(), Vec::new());
    for desk in &config.desks {
        let (application, journal) = start_desk(&common, desk, supervisor).await?;
        applications.insert(desk.name.clone(), application);
        journals.push(journal);
    }
    let (count, ready) = (config.desks.len(), config.directory.join(READY_DIRECTORY).join(&config.name));
    let stop = supervisor.stop_token();
    let writing = peers::Peers::new(config, applications, common.clock.clone());
    supervisor.spawn("the other sides", async move {
        for _ in 0..count {
            tokio::select! { () = stop.cancelled() => return Ok(()), _one = watched.recv() => {} }
        }
        tracing::info!(desks = count, "every window has been looked at");
        std::fs::write(&ready, b"")?;
        writing.run(stop).await
    });
    Ok(journals)
}

async fn start_desk(
    common: &Common,
    desk: &DeskPlan,
    supervisor: &mut Supervisor,
) -> Result<(Application, Journal), Problem> {
    let Common { config, clock, connection, .. } = common;
    let unfit = |error: &dyn ToString| Problem::new(error.to_string(), desk.name.clone(), "See the desk's files");
    let id = DesktopId::try_from(desk.name.clone()).map_err(|error| unfit(&error))?;
    let application = Application::open(config, desk, clock.clone()).map_err(|error| disk(&desk.name, &error))?;
    let path = config.directory.join("journals").join(format!("{}.db", desk.name));
    let journal = Journal::open(&path, id.clone(), common.journal.turns()).await.map_err(|error| unfit(&error))?;
    journal.publish_again().await.map_err(|error| unfit(&error))?;
    let shared = relay::Shared {
        journal: journal.clone(),
        clock: clock.clone(),
        metrics: common.metrics.clone(),
        outbound: Outbound::new(connection, Source::Desktop(id.clone()), clock.clone()),
        stop: supervisor.stop_token(),
    };
    let longest = Duration::from_millis(common.journal.command_ttl_ms.max(common.journal.detection_ttl_ms));
    relay::start(&shared, connection, supervisor, &id, longest);

    let conversations = desk.peers.iter().map(|peer| (peer.clone(), conversation(&desk.name, peer))).collect();
    let eyes = eyes::Eyes::new(application.clone(), journal.clone(), clock.clone(), conversations);
    let (stop, watching) = (supervisor.stop_token(), common.watching.clone());
    let look = Duration::from_millis(config.look_ms);
    supervisor.spawn("the eyes", async move { eyes.run(look, watching, stop).await });

    let hands = hands::Hands::new(application.clone(), Duration::from_millis(config.typing_ms));
    let (kept, clock, stop) = (journal.clone(), clock.clone(), supervisor.stop_token());
    let (settings, handle) = (common.execution.clone(), tokio::runtime::Handle::current());
    supervisor.spawn_blocking("the executor", move || {
        let authority = execution::JournalAuthority::new(kept, handle);
        execution::Executor::new(authority, hands, settings, clock, Box::new(Silent), stop).run()
    });
    Ok((application, journal))
}

/// Nobody is told what the executors do: the applications' files are what counts.
struct Silent;

impl execution::ports::Observer for Silent {}

fn stream_settings(config: &Config) -> Result<stream::Settings, Problem> {
    let settings: stream::Settings = config.layers()?.section("stream")?;
    settings.check().map(|()| settings)
}

fn connect(config: &Config, settings: &stream::Settings) -> Result<Connection, Problem> {
    Connection::open(settings)
        .map_err(|error| Problem::new(error.to_string(), &config.brokers, "Check the brokers' addresses"))
}

/// Runs a process of desks until `supervisor` is asked to stop.
///
/// # Errors
/// It does not start, or a part of it died.
pub async fn run(config: &Config, clock: Arc<dyn Clock>, mut supervisor: Supervisor) -> Result<(), Problem> {
    let connection = connect(config, &stream_settings(config)?)?;
    let journals = start(config, &connection, &mut supervisor, &clock).await?;
    let ended = supervisor.run(Duration::from_secs(5)).await;
    for journal in journals {
        journal.close().await;
    }
    ended.map_err(|died| Problem::new(died.to_string(), &config.name, "See the log above"))
}
