//! The processes of a run: workers, desks and the model stub over servers of its own. Any of them may be killed and
//! started again; each start has a log of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use autoreply::error::Problem;
use autoreply_rig::child::{Kin, tied};
use rustix::process::{Pid, Signal, kill_process};

use super::places::{apply_topics, ledger_place};
use super::scale::Scale;
use crate::model::{StubProcess, raw};
use crate::plan::DeskPlan;
use crate::services::Addresses;
use crate::sim;

/// The built programs that a run starts.
#[derive(Debug, Clone)]
pub struct Programs {
    autoreply: PathBuf,
    desks: PathBuf,
    stub: PathBuf,
    /// What the first worker runs instead, if it is of an earlier version.
    previous: Option<PathBuf>,
}

impl Programs {
    /// The programs beside the one that runs now (or above it, for a test): built by whoever built this one.
    ///
    /// # Errors
    /// One of them was not built.
    pub fn beside_this() -> Result<Self, Problem> {
        let here = std::env::current_exe().map_err(|error| disk(Path::new("this program"), &error))?;
        let directory = here.parent().unwrap_or(Path::new("."));
        let directory = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
        let find = |name: &str| {
            let path = directory.join(name);
            if path.exists() {
                return Ok(path);
            }
            Err(Problem::new(
                format!("the program {name} was not built"),
                path.display().to_string(),
                "Build the whole workspace first: cargo build --workspace --features autoreply/failpoints",
            ))
        };
        Ok(Self { autoreply: find("autoreply")?, desks: find("sim-desks")?, stub: find("model-stub")?, previous: None })
    }

    /// The same, but the first worker runs the program `previous`, of a version that knows no prefix of topics' names.
    #[must_use]
    pub fn with_previous(self, previous: PathBuf) -> Self {
        Self { previous: Some(previous), ..self }
    }

    pub(super) fn newest(&self) -> &Path {
        &self.autoreply
    }

    fn of_worker(&self, number: usize) -> &Path {
        self.previous.as_deref().filter(|_| number == 0).unwrap_or(&self.autoreply)
    }
}

/// A process that is killed and started again under one name.
#[derive(Debug)]
struct Slot {
    name: String,
    starts: u32,
    kin: Option<Kin>,
}

impl Slot {
    fn new(name: String) -> Self {
        Self { name, starts: 0, kin: None }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.kin.as_ref().and_then(|kin| Pid::from_raw(i32::try_from(kin.pid()).ok()?));
        // One that has ended by itself cannot be signalled: the verdict tells what came of it.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    /// Asks it to end and waits for it; kills it if it does not.
    fn end(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if let Some(kin) = &mut self.kin {
            kin.ended_within(Duration::from_secs(10));
        }
        self.kin = None;
    }
}

/// Everything that runs.
pub struct Cluster {
    directory: PathBuf,
    programs: Programs,
    scale: Scale,
    /// The ledger's place, as the checker and the settings spell it.
    ledger: String,
    /// What topics and keys in Redis begin with, and the name of the workers' group: several runs may share servers.
    prefix: String,
    stub: StubProcess,
    workers: Vec<Slot>,
    desks: Vec<Slot>,
    /// Where each worker tells its metrics.
    listens: Vec<String>,
    addresses: Addresses,
}

impl Cluster {
    /// Writes the settings of every process into `directory`, makes the topics and starts the model stub. Nothing else
    /// runs yet.
    ///
    /// # Errors
    /// A file cannot be written, a server does not do what it should, or a program is missing.
    pub async fn prepare(directory: &Path, scale: &Scale, addresses: &Addresses) -> Result<Self, Problem> {
        Self::prepare_with(Programs::beside_this()?, directory, scale, addresses).await
    }

    /// The same with these programs. The first worker's migrates.
    ///
    /// # Errors
    /// As [`Cluster::prepare`].
    pub async fn prepare_with(
        programs: Programs,
        directory: &Path,
        scale: &Scale,
        addresses: &Addresses,
    ) -> Result<Self, Problem> {
        for name in ["logs", "config", "data"] {
            let path = directory.join(name);
            std::fs::create_dir_all(&path).map_err(|error| disk(&path, &error))?;
        }
        let stub = StubProcess::spawn(&programs.stub, &scale.script()).map_err(|error| disk(&programs.stub, &error))?;
        let name = format!("chaos-{}", uuid::Uuid::new_v4().simple());
        // An earlier version's topics have the names that come without a setting.
        let prefix = if programs.previous.is_some() { "autoreply".to_owned() } else { name.clone() };
        // The storm's worker is one more.
        let listens = (0..=scale.workers).map(|_| free_address()).collect::<std::io::Result<Vec<_>>>();
        let cluster = Self {
            directory: directory.to_owned(),
            programs,
            scale: scale.clone(),
            ledger: ledger_place(addresses, &name).await?,
            prefix,
            stub,
            workers: (0..=scale.workers).map(|number| Slot::new(format!("worker-{number}"))).collect(),
            desks: (0..scale.desk_processes).map(|number| Slot::new(format!("desks-{number}"))).collect(),
            listens: listens.map_err(|error| disk(directory, &error))?,
            addresses: addresses.clone(),
        };
        cluster.write_settings()?;
        apply_topics(&cluster.programs, directory).await?;
        cluster.migrate(0).await?;
        Ok(cluster)
    }

    /// Brings the ledger to the version of a worker's program, and gives what that says.
    ///
    /// # Errors
    /// It cannot be brought there.
    pub async fn migrate(&self, number: usize) -> Result<String, Problem> {
        let migrated = command(self.programs.of_worker(number), &self.directory, &["migrate"]).await?;
        if migrated.status.success() {
            return Ok(String::from_utf8_lossy(&migrated.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&migrated.stderr).trim().to_owned();
        Err(Problem::new(
            format!("the ledger's tables cannot be made: {said}"),
            self.directory.display().to_string(),
            "See the database's log",
        ))
    }

    /// The ledger, as the checker wants it named.
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// What the names of its topics begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Kafka's addresses.
    pub fn brokers(&self) -> String {
        self.addresses.kafka.clone().unwrap_or_default()
    }

    /// The address of the server under the ledger.
    pub(super) fn postgres(&self) -> &str {
        self.addresses.postgres.as_deref().unwrap_or_default()
    }

    /// The journals of all desks.
    pub fn journals(&self) -> Vec<PathBuf> {
        let desks = self.scale.plan().desks();
        desks.iter().map(|desk| self.directory.join("journals").join(format!("{}.db", desk.name))).collect()
    }

    /// The logs of everything that was started, and the dumps of metrics.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// Starts a worker; with a fail point it dies there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_worker(&mut self, number: usize, point: Option<&str>) -> Result<(), Problem> {
        let slot = &mut self.workers[number];
        let mut command = tied(self.programs.of_worker(number));
        command.arg("--config").arg(self.directory.join("config").join(format!("{}.toml", slot.name))).arg("worker");
        command.env("XDG_DATA_HOME", self.directory.join("data").join(&slot.name));
        start(slot, command, &self.directory, point)
    }

    /// Starts a process of desks; with a fail point it dies there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_desks(&mut self, number: usize, point: Option<&str>) -> Result<(), Problem> {
        let slot = &mut self.desks[number];
        let mut command = tied(&self.programs.desks);
        command.arg("--config").arg(self.directory.join("config").join(format!("{}.toml", slot.name)));
        command.args(["--log", "info"]);
        start(slot, command, &self.directory, point)
    }

    /// SIGKILL; the worker is gone when this returns.
    pub fn kill_worker(&mut self, number: usize) {
        self.workers[number].kin = None;
    }

    /// SIGKILL; the process is gone when this returns.
    pub fn kill_desks(&mut self, number: usize) {
        self.desks[number].kin = None;
    }

    /// Asks a worker to end and waits for it.
    pub fn end_worker(&mut self, number: usize) {
        self.workers[number].end();
    }

    /// The process of a worker that runs; the name under which it writes into the ledger ends with it.
    pub fn worker_pid(&self, number: usize) -> Option<String> {
        self.workers[number].kin.as_ref().map(|kin| kin.pid().to_string())
    }

    /// SIGSTOP to a worker, or SIGCONT.
    pub fn freeze_worker(&self, number: usize, frozen: bool) {
        self.workers[number].signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// The number of the worker that joins in a storm.
    pub fn guest(&self) -> usize {
        self.scale.workers
    }

    /// Whether a worker has ended, as one with a fail point does.
    pub fn worker_ended(&mut self, number: usize) -> bool {
        ended(&mut self.workers[number])
    }

    /// Whether a process of desks has ended.
    pub fn desks_ended(&mut self, number: usize) -> bool {
        ended(&mut self.desks[number])
    }

    /// Names of processes that should run and have ended by themselves.
    pub fn fallen(&mut self) -> Vec<String> {
        let slots = self.workers.iter_mut().chain(&mut self.desks);
        slots.filter(|slot| slot.kin.is_some()).filter_map(|slot| ended(slot).then(|| slot.name.clone())).collect()
    }

    /// Starts processes again that ended by themselves, as a supervisor does (one that is started while its server is
    /// away may give up), and gives their names.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn restart_fallen(&mut self) -> Result<Vec<String>, Problem> {
        let fallen = self.fallen();
        for number in 0..self.workers.len() {
            if fallen.contains(&self.workers[number].name) {
                self.start_worker(number, None)?;
            }
        }
        for number in 0..self.desks.len() {
            if fallen.contains(&self.desks[number].name) {
                self.start_desks(number, None)?;
            }
        }
        Ok(fallen)
    }

    /// Whether every process of desks looks at all of its windows.
    pub fn desks_watch(&self) -> bool {
        let ready = self.directory.join(sim::READY_DIRECTORY);
        self.desks.iter().all(|slot| ready.join(&slot.name).exists())
    }

    /// Writes what each worker tells of itself into the logs' directory, where no chat text may stand either.
    pub async fn dump_metrics(&self) {
        for (slot, address) in self.workers.iter().zip(&self.listens).filter(|(slot, _)| slot.kin.is_some()) {
            let Ok(address) = address.parse() else { continue };
            if let Ok(answer) = raw::request(address, "GET", "/metrics", &[], "").await {
                let path = self.logs().join(format!("{}-{}.metrics", slot.name, slot.starts));
                // A dump that cannot be written is missed by nobody but the search for chat text.
                let _ = std::fs::write(path, answer.body);
            }
        }
    }

    /// Asks every process to end, desks first, and waits for them.
    pub fn end_all(&mut self) {
        self.desks.iter_mut().chain(&mut self.workers).for_each(Slot::end);
    }

    /// What the stub was asked, and how much of it failed.
    pub async fn model_calls(&self) -> std::io::Result<serde_json::Value> {
        Ok(serde_json::to_value(self.stub.counts().await?)?)
    }

    fn write_settings(&self) -> Result<(), Problem> {
        for (slot, listen) in self.workers.iter().zip(&self.listens) {
            let path = self.directory.join("config").join(format!("{}.toml", slot.name));
            let mut settings = self.worker_settings(&slot.name, listen);
            if self.programs.previous.is_some()
                && let Some(stream) = settings.get_mut("stream").and_then(toml::Value::as_table_mut)
            {
                stream.remove("topic_prefix");
            }
            let text = settings.to_string();
            std::fs::write(&path, text).map_err(|error| disk(&path, &error))?;
        }
        let desks = self.scale.plan().desks();
        for (number, slot) in self.desks.iter().enumerate() {
            let own = desks.iter().skip(number).step_by(self.desks.len()).cloned().collect();
            let path = self.directory.join("config").join(format!("{}.toml", slot.name));
            let text = toml::to_string(&self.desk_settings(&slot.name, own))
                .map_err(|error| disk(&path, &std::io::Error::other(error)))?;
            std::fs::write(&path, text).map_err(|error| disk(&path, &error))?;
        }
        Ok(())
    }

    fn worker_settings(&self, name: &str, listen: &str) -> toml::Table {
        let Scale { command_ttl_seconds: ttl, .. } = self.scale;
        let model = |provider: &str| {
            toml::toml! {
                kind = "chat_completions"
                model = "stub"
                timeout_ms = 1500
                base_url = (format!("http://{}/{provider}/v1", self.stub.address))
            }
        };
        let mut settings = toml::toml! {
            [telemetry]
            log_format = "json"
            [limits]
            replies_per_minute = 60000
            burst = 60000
            [saga]
            reply_deadline_ms = 6000
            lease_ms = 12000
            recovery_poll_ms = 500
            finish_within_ms = 60000
            outcome_grace_ms = 5000
            [generation]
            chain = ["main", "spare"]
            max_chars = 4000
            max_bytes = 4000
            retry_initial_ms = 50
            retry_max_ms = 500
            breaker_cool_down_ms = 2000
            [stream]
            session_timeout_ms = 6000
            publish_timeout_ms = 10000
        };
        let data = self.directory.join("data");
        set(&mut settings, "saga", "command_ttl_ms", (ttl * 1000) as i64);
        // The worker holds its own against what desks have.
        set(&mut settings, "journal", "command_ttl_ms", (ttl * 1000) as i64);
        set(&mut settings, "stream", "brokers", self.brokers());
        set(&mut settings, "stream", "topic_prefix", self.prefix.clone());
        set(&mut settings, "stream", "worker_group", self.prefix.clone());
        let key = if self.ledger.starts_with("postgres") { "url" } else { "path" };
        set(&mut settings, "ledger", key, self.ledger.clone());
        set(&mut settings, "ledger", "daily_quota", 100_000_000_i64);
        set(&mut settings, "limits", "redis_url", self.addresses.redis.clone().unwrap_or_default());
        set(&mut settings, "limits", "redis_prefix", self.prefix.clone());
        set(&mut settings, "control", "listen", listen.to_owned());
        set(&mut settings, "control", "socket", data.join(format!("{name}.sock")).display().to_string());
        let providers = toml::Table::from_iter(["main", "spare"].map(|name| (name.to_owned(), model(name).into())));
        set(&mut settings, "generation", "providers", providers);
        settings
    }

    fn desk_settings(&self, name: &str, desks: Vec<DeskPlan>) -> sim::Config {
        let ttl = (self.scale.command_ttl_seconds * 1000) as i64;
        let mut settings = toml::Table::new();
        set(&mut settings, "journal", "command_ttl_ms", ttl);
        set(&mut settings, "journal", "acknowledge_within_ms", 3000);
        // A hundred executors that ask their journals fifty times a second would be most of the machine's work.
        set(&mut settings, "execution", "next_ms", 100);
        sim::Config {
            name: name.to_owned(),
            directory: self.directory.clone(),
            kind: sim::DeskKind::default(),
            brokers: self.brokers(),
            topic_prefix: self.prefix.clone(),
            seed: self.scale.seed,
            typing_ms: 20,
            look_ms: 10,
            desks,
            faults: sim::Faults::default(),
            settings,
        }
    }
}

/// What an operator types, with the settings of the first worker.
pub(super) async fn command(program: &Path, directory: &Path, words: &[&str]) -> Result<std::process::Output, Problem> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--config").arg(directory.join("config/worker-0.toml")).args(words).stdin(Stdio::null());
    command.output().await.map_err(|error| disk(program, &error))
}

fn set(table: &mut toml::Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
    if let toml::Value::Table(section) = section {
        section.insert(key.to_owned(), value.into());
    }
}

fn start(
    slot: &mut Slot,
    mut command: std::process::Command,
    directory: &Path,
    point: Option<&str>,
) -> Result<(), Problem> {
    slot.starts += 1;
    command.stdin(Stdio::null()).env_remove("AUTOREPLY_FAILPOINT");
    if let Some(point) = point {
        command.env("AUTOREPLY_FAILPOINT", point);
    }
    let log = directory.join("logs").join(format!("{}-{}.log", slot.name, slot.starts));
    let kin = Kin::start(&slot.name, command, &log, false)
        .map_err(|fault| Problem::new(fault.to_string(), slot.name.clone(), "See its log"))?;
    slot.kin = Some(kin);
    Ok(())
}

fn ended(slot: &mut Slot) -> bool {
    slot.kin.as_mut().is_some_and(|kin| kin.check_alive().is_err())
}

fn free_address() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

pub(super) fn disk(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(
        format!("it cannot be read or written ({error})"),
        path.display().to_string(),
        "Free room, check permissions",
    )
}
