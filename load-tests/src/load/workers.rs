//! The workers of a run: started with settings of their own, looked after, and restarted one by one.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use autoreply::clock::{Clock as _, SystemClock, to_millis};
use autoreply::error::Problem;
use autoreply::saga;
use autoreply::settings::Layers;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::processes::Process;
use super::run::{Place, io};
use super::scenario::{Restarts, Scenario};
use super::servers::Servers;
use crate::facts::{self, FaultLine};
use crate::model::raw;
use crate::report::Restart;
use crate::sim;

/// How often a worker that ends or starts is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long workers may take to be ready at the beginning of a run.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A worker: what it is started with, and the process that runs now.
struct Slot {
    name: String,
    settings: PathBuf,
    listen: SocketAddr,
    starts: u32,
    process: Process,
}

/// The workers of a run.
#[derive(Default)]
pub struct Workers {
    directory: PathBuf,
    program: PathBuf,
    slots: Vec<Slot>,
}

impl Workers {
    /// Makes topics and tables, and starts the scenario's workers.
    ///
    /// # Errors
    /// A file cannot be written, or a program does not start or does not do what it should.
    pub fn start(
        scenario: &Scenario,
        program: &Path,
        directory: &Path,
        servers: &Servers,
        place: &Place,
    ) -> Result<Self, Problem> {
        let mut workers = Self { directory: directory.to_owned(), program: program.to_owned(), slots: Vec::new() };
        for number in 1..=scenario.workers {
            let name = format!("worker-{number}");
            let listen = free_address().map_err(io(directory))?;
            let settings = directory.join(format!("{name}.toml"));
            let text = worker_settings(scenario, servers, place, &name, listen)?;
            std::fs::write(&settings, text).map_err(io(&settings))?;
            if number == 1 {
                workers.command(&settings, &["topics", "apply", "--yes"])?;
                workers.command(&settings, &["migrate"])?;
            }
            let process = Process::start(&name, workers.worker(&settings), directory)?;
            workers.slots.push(Slot { name, settings, listen, starts: 1, process });
        }
        Ok(workers)
    }

    /// The names with the processes that run now.
    pub fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), slot.process.pid()))
    }

    /// An error if one has ended.
    ///
    /// # Errors
    /// One has ended.
    pub fn must_live(&mut self) -> Result<(), Problem> {
        self.slots.iter_mut().try_for_each(|slot| slot.process.must_live())
    }

    /// Waits until each says that it is ready.
    ///
    /// # Errors
    /// One of them dies, or is not ready in time.
    pub async fn wait_until_ready(&mut self) -> Result<(), Problem> {
        let began = Instant::now();
        for number in 0..self.slots.len() {
            self.ready(number, began + READY_WITHIN).await?;
        }
        Ok(())
    }

    /// How long after its beginning a turn must have its reply, in milliseconds: what the workers' settings say.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub fn reply_deadline_ms(&self) -> Result<u64, Problem> {
        let file = self.slots.first().map(|slot| slot.settings.as_path());
        let settings: saga::Settings = Layers::load(file, [])?.section("saga")?;
        Ok(settings.reply_deadline_ms)
    }

    /// Asks all to stop, and waits.
    pub fn stop(&mut self) {
        self.slots.iter().for_each(|slot| slot.process.ask_to_stop());
        self.slots.iter_mut().for_each(|slot| slot.process.wait(Duration::from_secs(45)));
    }

    /// Restarts one after the other: each is asked to stop, must end by itself, and is replaced; the next one's turn
    /// comes when the new one is ready. `replaced` is told the name and the process id of each new one.
    ///
    /// # Errors
    /// A worker that nobody asked dies, or a new one does not start or is not ready in time.
    pub async fn roll(
        mut self,
        restarts: Restarts,
        start_ms: i64,
        replaced: mpsc::UnboundedSender<(String, u32)>,
    ) -> Result<(Self, Vec<Restart>), Problem> {
        let file = self.directory.join(facts::FAULTS_FILE);
        let mut told = std::fs::File::create(&file).map_err(io(&file))?;
        let first_ms = start_ms + (restarts.after_s * 1e3) as i64;
        tokio::time::sleep(Duration::from_millis(u64::try_from(first_ms - now_ms()).unwrap_or(0))).await;
        let mut all = Vec::new();
        for number in 0..self.slots.len() {
            let line = FaultLine { at_ms: now_ms(), what: format!("restart {}", self.slots[number].name) };
            facts::append(&mut told, &line).and_then(|()| told.flush()).map_err(io(&file))?;
            let restart = self.restart(number, &restarts).await?;
            // Nobody listens once the run is over, and then nobody has to.
            let _over = replaced.send((restart.worker.clone(), self.slots[number].process.pid()));
            all.push(restart);
            tokio::time::sleep(Duration::from_secs_f64(restarts.pause_s)).await;
        }
        Ok((self, all))
    }

    async fn restart(&mut self, number: usize, restarts: &Restarts) -> Result<Restart, Problem> {
        let asked_ms = now_ms();
        self.slots[number].process.ask_to_stop();
        let within = Duration::from_secs_f64(restarts.end_within_s);
        let (status, unready_ms) = self.ended(number, within, asked_ms).await?;
        let ended_ms = now_ms();
        let command = self.worker(&self.slots[number].settings);
        let slot = &mut self.slots[number];
        slot.starts += 1;
        slot.process = Process::start(&format!("{}-{}", slot.name, slot.starts), command, &self.directory)?;
        self.ready(number, Instant::now() + Duration::from_secs_f64(restarts.ready_within_s)).await?;
        Ok(Restart {
            worker: self.slots[number].name.clone(),
            asked_ms,
            unready_ms,
            ended_ms,
            ended: status.map_or_else(|| "killed: it did not end by itself".to_owned(), told),
            in_order: status.is_some_and(|status| status.success()),
            ready_ms: now_ms(),
        })
    }

    /// Waits until a worker has ended, or kills it; with it, how long after `asked_ms` it said that it is not ready any
    /// more, if it was caught saying so.
    async fn ended(
        &mut self,
        number: usize,
        within: Duration,
        asked_ms: i64,
    ) -> Result<(Option<ExitStatus>, Option<i64>), Problem> {
        let (began, mut unready_ms) = (Instant::now(), None);
        loop {
            if let Some(status) = self.slots[number].process.ended() {
                return Ok((Some(status), unready_ms));
            }
            if began.elapsed() > within {
                self.slots[number].process.wait(Duration::ZERO);
                return Ok((None, unready_ms));
            }
            if unready_ms.is_none() && is_ready(self.slots[number].listen).await == Some(false) {
                unready_ms = Some(now_ms() - asked_ms);
            }
            self.others_live(number)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ready(&mut self, number: usize, until: Instant) -> Result<(), Problem> {
        while is_ready(self.slots[number].listen).await != Some(true) {
            self.must_live()?;
            if Instant::now() > until {
                let place = format!("logs/{}*.log", self.slots[number].name);
                return Err(Problem::new("the worker is not ready", place, "See its log in the run's directory"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn others_live(&mut self, number: usize) -> Result<(), Problem> {
        let others = self.slots.iter_mut().enumerate().filter(|(other, _)| *other != number);
        others.map(|(_, slot)| slot).try_for_each(|slot| slot.process.must_live())
    }

    fn worker(&self, settings: &Path) -> Command {
        let mut command = program(&self.program, &self.directory, settings, &["worker"]);
        // As the image has it.
        command.env("MALLOC_ARENA_MAX", "2");
        command
    }

    /// Runs a command of the system under test to its end.
    fn command(&self, settings: &Path, arguments: &[&str]) -> Result<(), Problem> {
        let mut command = program(&self.program, &self.directory, settings, arguments);
        let output = command.output().map_err(io(&self.program))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Problem::new(told, format!("autoreply {}", arguments.join(" ")), "See its message"))
    }
}

fn now_ms() -> i64 {
    to_millis(SystemClock.now())
}

/// How a process ended, for people.
fn told(status: ExitStatus) -> String {
    status.code().map_or_else(|| format!("signal {}", status.signal().unwrap_or(0)), |code| format!("exit code {code}"))
}

/// An address that nobody listens at now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// What `/readyz` says; nothing where nobody answers.
async fn is_ready(address: SocketAddr) -> Option<bool> {
    let asked = raw::request(address, "GET", "/readyz", &[], "");
    let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
    Some(answer.status == 200)
}

/// The settings of a load run's workers: nothing limits them but themselves.
fn worker_settings(
    scenario: &Scenario,
    servers: &Servers,
    place: &Place,
    name: &str,
    listen: SocketAddr,
) -> Result<String, Problem> {
    let is_static = scenario.restarts.is_some_and(|restarts| restarts.static_members);
    let instance = if is_static { format!("group_instance_id = \"{name}\"\n") } else { String::new() };
    let text = format!(
        "[stream]\nbrokers = \"{kafka}\"\ntopic_prefix = \"{prefix}\"\nworker_group = \"{prefix}\"\nlinger_ms = 0\n\
         {instance}\
         [ledger]\nurl = \"{url}\"\ndaily_quota = 100000000\n\
         [limits]\nreplies_per_minute = 100000\nburst = 10000\nredis_url = \"{redis}\"\nredis_prefix = \"{prefix}\"\n\
         [generation]\nchain = [\"stub\"]\n[generation.providers.stub]\nkind = \"chat_completions\"\n\
         base_url = \"http://{model}/v1\"\nmodel = \"stub\"\n\
         [control]\nsocket = \"{name}.sock\"\nlisten = \"{listen}\"\n[telemetry]\nlog_filter = \"warn\"\n",
        kafka = servers.kafka,
        prefix = place.prefix,
        url = place.database,
        redis = servers.redis,
        model = place.model,
    );
    let unfit = |error: toml::de::Error| Problem::new(error.message().to_owned(), "the workers' settings", "Mend it");
    let mut settings: toml::Table = text.parse().map_err(unfit)?;
    sim::merge(&mut settings, scenario.worker.clone());
    Ok(settings.to_string())
}

/// A command of the system under test, with a home and settings of its own.
fn program(program: &Path, directory: &Path, settings: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let home = directory.join("home");
    let _there = std::fs::create_dir_all(&home);
    command.arg("--config").arg(settings).args(arguments).current_dir(directory).env("HOME", &home);
    command.env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
    command
}
