//! One run from its beginning to its report.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use autoreply::clock::{Clock as _, SystemClock, to_millis};
use autoreply::contract::wire::topic;
use autoreply::error::Problem;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::processes::Process;
use super::progress::Progress;
use super::sampler::{Sample, Sampler, peak_mb};
use super::scenario::Scenario;
use super::servers::{Database, Lag, Servers, Topics};
use super::workers::Workers;
use crate::checker::load::{Places, load};
use crate::checker::{Allowed, judge};
use crate::facts;
use crate::model::{Script, StubProcess};
use crate::report::{Conditions, Material, Report, Restart};
use crate::sim;

/// How often processes are measured.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long desks may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Time between the plan's being written and its first message.
const LEAD_MS: i64 = 1_000;
/// Where samples are kept in the run's directory, one JSON object a line.
pub const SAMPLES_FILE: &str = "samples.jsonl";

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run's directory; what an earlier run left there is removed.
    pub directory: PathBuf,
    /// The programs `autoreply`, `sim-desks` and `model-stub`.
    pub programs: Programs,
    /// Keep the topics and the database.
    pub keep: bool,
    /// Show a progress bar.
    pub bar: bool,
    /// It is the short form, and the report says so.
    pub short: bool,
}

/// Where the programs of a run are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The system under test.
    pub autoreply: PathBuf,
    /// The simulated desktops.
    pub desks: PathBuf,
    /// The model stub.
    pub stub: PathBuf,
}

pub(super) fn io(place: &Path) -> impl Fn(std::io::Error) -> Problem {
    let place = place.display().to_string();
    move |error| {
        Problem::new(format!("it cannot be read or written ({error})"), place.clone(), "Free room, check permissions")
    }
}

/// Runs `scenario` and reports.
///
/// # Errors
/// Something does not start, or dies on the way.
pub async fn run(scenario: &Scenario, options: &Options) -> Result<Report, Problem> {
    prepare(&options.directory)?;
    let servers = Servers::find(&options.directory.join("services")).await?;
    run_on(scenario, options, &servers).await
}

/// Removes what an earlier run left, and nothing else.
fn prepare(directory: &Path) -> Result<(), Problem> {
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    for name in ["apps", "inputs", "journals", "logs", "ready", "stages", "home"] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io(&path))?;
        }
    }
    for name in [facts::PLAN_FILE, facts::FAULTS_FILE, SAMPLES_FILE] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

async fn run_on(scenario: &Scenario, options: &Options, servers: &Servers) -> Result<Report, Problem> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let prefix = format!("load-{}", &id[..12]);
    let topics = Topics::new(&servers.kafka, &prefix);
    let database = Database::create(&servers.postgres, &format!("load_{}", &id[..12])).await?;
    let script = Script::answering_after(scenario.model_ms);
    let stub = StubProcess::spawn(&options.programs.stub, &script).map_err(io(&options.programs.stub))?;
    let place = Place { prefix, database: database.url.clone(), model: stub.address.to_string() };
    let result = Running::start(scenario, options, servers, &place, &stub, &topics).await;
    let report = match result {
        Ok(running) => judged(running.finish().await?, options, servers, &place).await,
        Err(problem) => Err(problem),
    };
    drop(stub);
    if !options.keep {
        topics.remove().await?;
        database.remove().await?;
    }
    report
}

/// Adds the checker's word, and writes the report.
async fn judged(
    (mut report, material): (Report, Material),
    options: &Options,
    servers: &Servers,
    place: &Place,
) -> Result<Report, Problem> {
    let directory = &options.directory;
    // What cannot be judged has been measured all the same.
    report.write(directory, &material).map_err(io(directory))?;
    let places = Places {
        run: directory.clone(),
        ledger: place.database.clone(),
        brokers: Some(servers.kafka.clone()),
        topic_prefix: place.prefix.clone(),
        journals: journals(directory).map_err(io(directory))?,
        logs: vec![directory.join("logs")],
    };
    let facts = load(&places).await.map_err(|why| {
        Problem::new(why.to_string(), directory.display().to_string(), "See the logs in the run's directory")
    })?;
    let verdict = judge(&facts, &Allowed { grace_ms: 5_000, ..Allowed::default() });
    verdict.write(directory).map_err(io(directory))?;
    report.judge(&verdict);
    report.write(directory, &material).map_err(io(directory))?;
    Ok(report)
}

fn journals(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let directory = directory.join("journals");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let paths = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let all: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "db")).collect())
}

/// Where a run's records, rows and questions go.
pub struct Place {
    /// What topics, keys and the group begin with.
    pub prefix: String,
    /// The ledger's URL.
    pub database: String,
    /// The model stub's address.
    pub model: String,
}

/// Everything that runs.
struct Running<'a> {
    scenario: &'a Scenario,
    options: &'a Options,
    stub: &'a StubProcess,
    workers: Workers,
    desks: Vec<Process>,
    sampler: Sampler,
    lag: Lag,
    progress: Progress,
    samples: Vec<Sample>,
    restarts: Vec<Restart>,
}

impl<'a> Running<'a> {
    async fn start(
        scenario: &'a Scenario,
        options: &'a Options,
        servers: &Servers,
        place: &Place,
        stub: &'a StubProcess,
        topics: &Topics,
    ) -> Result<Self, Problem> {
        let directory = &options.directory;
        let mut sampler = Sampler::default();
        servers.processes().iter().for_each(|(name, pid)| sampler.watch(name, *pid));
        sampler.watch("model stub", stub.pid());
        sampler.watch_self("this generator");
        let workers = Workers::start(scenario, &options.programs.autoreply, directory, servers, place)?;
        let mut desks = Vec::new();
        for config in desk_configs(scenario, directory, servers, place) {
            let file = directory.join(format!("{}.toml", config.name));
            let text = toml::to_string(&config)
                .map_err(|error| Problem::new(error.to_string(), "the desks' settings", "Mend the scenario"))?;
            std::fs::write(&file, text).map_err(io(&file))?;
            let mut command = Command::new(&options.programs.desks);
            command.arg("--config").arg(&file);
            desks.push(Process::start(&config.name, command, directory)?);
        }
        workers.processes().for_each(|(name, pid)| sampler.watch(name, pid));
        desks.iter().for_each(|process| sampler.watch(&process.name, process.pid()));
        let read = [topic::MESSAGES, topic::OUTCOMES].map(|topic| topics.physical(topic));
        let lag = Lag::new(&servers.kafka, &place.prefix, read.to_vec())?;
        let progress = Progress::new(directory);
        let (samples, restarts) = (Vec::new(), Vec::new());
        Ok(Self { scenario, options, stub, workers, desks, sampler, lag, progress, samples, restarts })
    }

    /// Waits until all is ready, lets the plan run, waits until all is quiet, ends all, and counts.
    async fn finish(mut self) -> Result<(Report, Material), Problem> {
        let conditions = Conditions::gather(self.scenario, self.options.short);
        self.wait_until_ready().await?;
        let start_ms = to_millis(SystemClock.now()) + LEAD_MS;
        let plan = self.scenario.plan.plan(start_ms);
        let directory = self.options.directory.clone();
        write_plan(&directory, &plan).map_err(io(&directory))?;
        let times: Vec<i64> = plan.iter().map(|planned| planned.at_ms).collect();
        self.watch(&times, start_ms).await?;
        let peaks: Vec<_> =
            self.workers.processes().filter_map(|(name, pid)| Some((name.to_owned(), peak_mb(pid)?))).collect();
        let asked = self.stub.counts().await.map_err(io(&self.options.programs.stub))?;
        self.desks.iter().for_each(Process::ask_to_stop);
        self.desks.iter_mut().for_each(|process| process.wait(Duration::from_secs(15)));
        self.workers.stop();
        let file = directory.join(SAMPLES_FILE);
        let mut out = std::fs::File::create(&file).map_err(io(&file))?;
        self.samples.iter().try_for_each(|sample| facts::append(&mut out, sample)).map_err(io(&file))?;
        let mut material = Material::load(&directory, start_ms).await.map_err(io(&directory))?;
        (material.samples, material.peaks) = (self.samples, peaks);
        material.in_flight_max = asked.values().map(|counts| counts.most_in_flight).max().unwrap_or(0);
        material.model_calls = asked.values().map(|counts| counts.attempts).sum();
        (material.restarts, material.reply_deadline_ms) = (self.restarts, self.workers.reply_deadline_ms()?);
        Ok((Report::of(self.scenario, &material, conditions), material))
    }

    fn all_live(&mut self) -> Result<(), Problem> {
        self.workers.must_live()?;
        self.desks.iter_mut().try_for_each(Process::must_live)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Problem> {
        let began = Instant::now();
        let ready = self.options.directory.join(sim::READY_DIRECTORY);
        let missing = |desks: &[Process]| desks.iter().any(|desk| !ready.join(&desk.name).exists());
        while missing(&self.desks) {
            self.all_live()?;
            if began.elapsed() > READY_WITHIN {
                return Err(Problem::new("the desks are not ready", "logs/", "See their logs in the run's directory"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.workers.wait_until_ready().await?;
        // The group's first rebalances are no part of what is measured.
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.all_live()
    }

    /// Takes samples until everything is answered and the workers have read every record, or nothing has moved for the
    /// scenario's patience.
    async fn watch(&mut self, times: &[i64], start_ms: i64) -> Result<(), Problem> {
        let bar = self.bar(times.len());
        // The workers that are being restarted are in the hands of that task.
        let (replaced, mut replacements) = tokio::sync::mpsc::unbounded_channel();
        let mut rolling = JoinSet::new();
        if let Some(restarts) = self.scenario.restarts {
            rolling.spawn(std::mem::take(&mut self.workers).roll(restarts, start_ms, replaced));
        }
        let end_ms = times.last().copied().unwrap_or(0);
        let patience_ms = self.scenario.patience_s as i64 * 1000;
        let (mut answered, mut behind, mut moved_ms) = (0, i64::MAX, end_ms);
        let mut next = tokio::time::interval(SAMPLE_EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            self.all_live()?;
            while let Ok((name, pid)) = replacements.try_recv() {
                self.sampler.watch(&name, pid);
            }
            if let Some(rolled) = rolling.try_join_next() {
                let failed = |error: tokio::task::JoinError| Problem::new(error.to_string(), "the restarts", "A bug");
                (self.workers, self.restarts) = rolled.map_err(failed)??;
            }
            self.progress.read().map_err(io(&self.options.directory))?;
            let now_ms = to_millis(SystemClock.now());
            let planned = times.partition_point(|at_ms| *at_ms <= now_ms);
            let lag = tokio::task::block_in_place(|| self.lag.read());
            let waiting = planned as i64 - self.progress.answered() as i64;
            self.samples.push(Sample { at_ms: now_ms, usage: self.sampler.take(now_ms), lag, waiting });
            bar.set_position(self.progress.answered() as u64);
            bar.set_prefix(format!("waiting {waiting}, lag {}", lag.unwrap_or(-1)));
            let left = lag.unwrap_or(0);
            if self.progress.answered() > answered || left < behind {
                (answered, behind, moved_ms) = (self.progress.answered(), left, now_ms.max(end_ms));
            }
            let at_rest = (waiting <= 0 && left <= 0) || now_ms - moved_ms > patience_ms;
            if now_ms > end_ms && rolling.is_empty() && at_rest {
                break;
            }
        }
        // What would be sent twice, or what the ledger still wants to say, comes now.
        tokio::time::sleep(Duration::from_secs(3)).await;
        bar.finish();
        Ok(())
    }

    fn bar(&self, messages: usize) -> ProgressBar {
        let bar = if self.options.bar { ProgressBar::new(messages as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {pos}/{len} answered, {elapsed} {prefix}") {
            bar.set_style(style);
        }
        bar.set_message(self.scenario.name.clone());
        bar
    }
}

fn desk_configs(scenario: &Scenario, directory: &Path, servers: &Servers, place: &Place) -> Vec<sim::Config> {
    let desks = scenario.plan.desks();
    let each = desks.len().div_ceil(scenario.desk_processes as usize).max(1);
    let quiet = format!("[journal]\nquiet_ms = {}\n", scenario.quiet_ms.max(1));
    let mut settings: toml::Table = quiet.parse().unwrap_or_default();
    sim::merge(&mut settings, scenario.desks.clone());
    desks
        .chunks(each)
        .zip(1..)
        .map(|(desks, number)| sim::Config {
            name: format!("desks-{number}"),
            directory: directory.to_owned(),
            kind: scenario.desk,
            brokers: servers.kafka.clone(),
            topic_prefix: place.prefix.clone(),
            seed: scenario.plan.seed,
            typing_ms: 0,
            look_ms: 0,
            desks: desks.to_vec(),
            faults: sim::Faults::default(),
            settings: settings.clone(),
        })
        .collect()
}

fn write_plan(directory: &Path, plan: &[facts::Planned]) -> std::io::Result<()> {
    let beside = directory.join("plan.new");
    let lines: Result<Vec<_>, _> = plan.iter().map(serde_json::to_string).collect();
    std::fs::write(&beside, lines?.join("\n") + "\n")?;
    std::fs::rename(beside, directory.join(facts::PLAN_FILE))
}
