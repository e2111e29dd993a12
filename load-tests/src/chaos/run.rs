//! One run: bring everything up, let it be disturbed, let it come to rest, judge.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use autoreply::clock::{Clock as _, SystemClock, to_millis};
use autoreply::error::Problem;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::cluster::{Cluster, Programs, disk};
use super::places::apply_topics;
use super::scale::Scale;
use super::schedule::{Action, Outage};
use crate::checker::load::{Places, journals, ledger, load, run as files};
use crate::checker::{Allowed, Verdict, judge};
use crate::facts::{FAULTS_FILE, FaultLine, PLAN_FILE, Side, append};
use crate::services::Services;

/// How long desks are given to look at their windows for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(60);
/// A saga past its deadline is a fault only so much later: recovery needs a moment.
const GRACE_MS: i64 = 5_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The checker's word.
    pub verdict: Verdict,
    /// Everything came to rest in time.
    pub rested: bool,
    /// What the model stub counted, by provider.
    pub model_calls: serde_json::Value,
    /// How long it took.
    pub took: Duration,
}

/// Tells whoever watches how far a run is: the part of it that is done, 0 to 1, and what is going on.
pub type Watcher<'a> = &'a dyn Fn(f64, &str);

/// Runs `scale` in `directory`, which must be empty or new, over `services`, which are broken in the course of it. The
/// directory keeps everything: plan, applications, journals, logs, and the verdict.
///
/// # Errors
/// Something of the run itself does not work; what the system under test does wrong is in the verdict.
pub async fn run(directory: &Path, scale: &Scale, services: &Services, watch: Watcher<'_>) -> Result<Ran, Problem> {
    let begun = Instant::now();
    watch(0.0, "starting");
    let mut cluster = Cluster::prepare(directory, scale, services.addresses()).await?;
    let faults = Faults::create(directory)?;
    for number in 0..scale.workers {
        cluster.start_worker(number, None)?;
    }
    for number in 0..scale.desk_processes {
        cluster.start_desks(number, None)?;
    }
    wait_for_first_look(&mut cluster).await?;
    write_plan(directory, scale)?;
    disturb(&mut cluster, services, (directory, scale), &faults, watch).await?;
    watch(1.0, "coming to rest");
    let rested = rest(directory, &mut cluster, &faults, Duration::from_secs(scale.rest_seconds)).await?;
    cluster.dump_metrics().await;
    let model_calls = cluster.model_calls().await.map_err(|error| disk(directory, &error))?;
    cluster.end_all();
    watch(1.0, "judging");
    let verdict = judged(directory, &cluster, &Allowed { grace_ms: GRACE_MS, ..Allowed::default() }).await?;
    Ok(Ran { verdict, rested, model_calls, took: begun.elapsed() })
}

/// Waits until every desk has looked at all of its windows: what stands there at the first look is history.
///
/// # Errors
/// They do not get so far.
pub async fn wait_for_first_look(cluster: &mut Cluster) -> Result<(), Problem> {
    let begun = Instant::now();
    while !cluster.desks_watch() {
        let fallen = cluster.fallen();
        if !fallen.is_empty() || begun.elapsed() > FIRST_LOOK {
            let place = cluster.logs().display().to_string();
            return Err(Problem::new(format!("the desks do not watch; ended: {fallen:?}"), place, "See the logs"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Writes the plan, whose first message is due at once. Its file appears whole.
///
/// # Errors
/// The disk does not take it.
pub fn write_plan(directory: &Path, scale: &Scale) -> Result<(), Problem> {
    let (new, path) = (directory.join("plan.new"), directory.join(PLAN_FILE));
    let write = || {
        let mut file = File::create(&new)?;
        let start = to_millis(SystemClock.now());
        scale.plan().plan(start).iter().try_for_each(|planned| append(&mut file, planned))?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error: std::io::Error| disk(&path, &error))
}

/// The file of faults.
pub struct Faults(RefCell<File>);

impl Faults {
    /// Makes the file.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn create(directory: &Path) -> Result<Self, Problem> {
        let path = directory.join(FAULTS_FILE);
        File::create(&path).map(|file| Self(RefCell::new(file))).map_err(|error| disk(&path, &error))
    }

    /// Writes down what was just done.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn tell(&self, what: &str) -> Result<(), Problem> {
        let line = FaultLine { at_ms: to_millis(SystemClock.now()), what: what.to_owned() };
        append(&mut self.0.borrow_mut(), &line).map_err(|error| disk(Path::new(FAULTS_FILE), &error))
    }
}

/// Goes through the schedule. Processes are killed and started on time; servers are broken and mended one after the
/// other beside it, as fast as they go.
async fn disturb(
    cluster: &mut Cluster,
    services: &Services,
    (directory, scale): (&Path, &Scale),
    faults: &Faults,
    watch: Watcher<'_>,
) -> Result<(), Problem> {
    let (orders, mut taken) = mpsc::unbounded_channel::<Action>();
    let (told, mut news) = mpsc::unbounded_channel::<Result<(), Problem>>();
    let servers = async move {
        while let Some(action) = taken.recv().await {
            let done = serve(services, directory, action, faults).await;
            let failed = done.is_err();
            if told.send(done).is_err() || failed {
                break;
            }
        }
    };
    let steps = async {
        let begun = Instant::now();
        for step in scale.schedule().steps() {
            let at = Duration::from_millis(step.at_ms);
            while let Some(left) = at.checked_sub(begun.elapsed()) {
                watch(begun.elapsed().as_secs_f64() / scale.seconds as f64, "");
                supervise(cluster, faults)?;
                sleep(left.min(Duration::from_millis(500))).await;
            }
            while let Ok(done) = news.try_recv() {
                done?;
            }
            if matches!(step.action, Action::Break(_) | Action::Mend(_)) {
                // The receiver lives as long as this; if it has failed, its failure is in the news.
                let _ = orders.send(step.action);
            } else {
                act(cluster, step.action, faults, watch).await?;
            }
        }
        sleep(Duration::from_secs(scale.seconds).saturating_sub(begun.elapsed())).await;
        drop(orders);
        while let Some(done) = news.recv().await {
            done?;
        }
        Ok(())
    };
    let (done, ()) = tokio::join!(steps, servers);
    done
}

async fn act(cluster: &mut Cluster, action: Action, faults: &Faults, watch: Watcher<'_>) -> Result<(), Problem> {
    let what = match action {
        Action::KillWorker(number) => {
            cluster.kill_worker(number);
            format!("kill worker-{number}")
        }
        Action::StartWorker(number) => {
            cluster.start_worker(number, None)?;
            format!("start worker-{number}")
        }
        Action::KillDesks(number) => {
            cluster.kill_desks(number);
            format!("kill desks-{number}")
        }
        Action::StartDesks(number) => {
            cluster.start_desks(number, None)?;
            format!("start desks-{number}")
        }
        Action::Join => {
            cluster.start_worker(cluster.guest(), None)?;
            "join worker-guest".to_owned()
        }
        Action::Leave => {
            cluster.end_worker(cluster.guest());
            "leave worker-guest".to_owned()
        }
        Action::Freeze(number) => {
            cluster.freeze_worker(number, true);
            format!("freeze worker-{number}")
        }
        Action::Thaw(number) => {
            cluster.freeze_worker(number, false);
            format!("thaw worker-{number}")
        }
        Action::Break(_) | Action::Mend(_) => return Ok(()),
    };
    watch(-1.0, &what);
    faults.tell(&what)
}

/// Breaks or mends a server.
async fn serve(services: &Services, directory: &Path, action: Action, faults: &Faults) -> Result<(), Problem> {
    let (Action::Break(outage) | Action::Mend(outage)) = action else { return Ok(()) };
    let is_break = matches!(action, Action::Break(_));
    match (outage, is_break) {
        (Outage::BrokerKilled, true) => services.kill("kafka-2").await?,
        (Outage::BrokerKilled, false) => services.start("kafka-2").await?,
        (Outage::PostgresRestarted, true) => services.restart("postgres").await?,
        (Outage::PostgresStopped, true) => services.stop("postgres").await?,
        (Outage::PostgresStopped, false) => services.start("postgres").await?,
        (Outage::RedisFlushed, true) => flush(services.addresses().redis.as_deref().unwrap_or_default()).await?,
        (Outage::RedisStopped, true) => services.stop("redis").await?,
        (Outage::RedisStopped, false) => services.start("redis").await?,
        (Outage::KafkaWiped, true) => services.wipe("kafka").await?,
        (Outage::KafkaWiped, false) => {
            services.start("kafka").await?;
            apply_topics(&Programs::beside_this()?, directory).await?;
        }
        (Outage::Storm, _) | (Outage::PostgresRestarted | Outage::RedisFlushed, false) => {}
    }
    let name = match outage {
        Outage::BrokerKilled => "broker (killed)",
        Outage::PostgresRestarted => "postgres (restarted)",
        Outage::PostgresStopped => "postgres (stopped)",
        Outage::RedisFlushed => "redis (flushed)",
        Outage::RedisStopped => "redis (stopped)",
        Outage::KafkaWiped => "kafka (disk wiped)",
        Outage::Storm => "storm of rebalances",
    };
    faults.tell(&format!("{} {name}", if is_break { "break" } else { "mend" }))
}

async fn flush(redis: &str) -> Result<(), Problem> {
    let address = redis.strip_prefix("redis://").unwrap_or(redis);
    let fault = |error: std::io::Error| Problem::new(error.to_string(), redis.to_owned(), "See the log of Redis");
    let mut stream = tokio::net::TcpStream::connect(address).await.map_err(fault)?;
    stream.write_all(b"FLUSHALL\r\n").await.map_err(fault)?;
    let mut answer = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.map(drop).map_err(fault)
}

/// Starts what ended by itself, and writes that down.
fn supervise(cluster: &mut Cluster, faults: &Faults) -> Result<(), Problem> {
    cluster.restart_fallen()?.iter().try_for_each(|name| faults.tell(&format!("fell {name}")))
}

/// Waits until everything that was planned is shown and nothing is open in the ledger and the journals, twice in a
/// row; `false` if that does not come within `patience`.
///
/// # Errors
/// A process cannot be started again.
pub async fn rest(
    directory: &Path,
    cluster: &mut Cluster,
    faults: &Faults,
    patience: Duration,
) -> Result<bool, Problem> {
    let begun = Instant::now();
    let mut quiet = 0;
    while begun.elapsed() < patience {
        supervise(cluster, faults)?;
        quiet = if is_at_rest(directory, cluster).await { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(true);
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(false)
}

async fn is_at_rest(directory: &Path, cluster: &Cluster) -> bool {
    if ledger::open_rows(cluster.ledger()).await.ok() != Some(0) {
        return false;
    }
    for path in cluster.journals() {
        let Ok(journal) = journals::load(&path).await else { return false };
        if !journal.open.is_empty() || !journal.unacknowledged.is_empty() {
            return false;
        }
    }
    let Ok(facts) = files::load(directory) else { return false };
    facts.shown.iter().filter(|line| line.side == Side::Peer).count() >= facts.planned.len()
}

/// Loads what the run left and judges it; the verdict is written into the directory.
///
/// # Errors
/// Something cannot be read.
pub async fn judged(directory: &Path, cluster: &Cluster, allowed: &Allowed) -> Result<Verdict, Problem> {
    let places = Places {
        run: directory.to_owned(),
        ledger: cluster.ledger().to_owned(),
        brokers: Some(cluster.brokers()),
        topic_prefix: cluster.prefix().to_owned(),
        journals: cluster.journals(),
        logs: vec![cluster.logs()],
    };
    let unread = |why: crate::checker::load::Unread| {
        Problem::new(why.to_string(), directory.display().to_string(), "See what it names")
    };
    let verdict = judge(&load(&places).await.map_err(unread)?, allowed);
    verdict.write(directory).map_err(|error| disk(directory, &error))?;
    Ok(verdict)
}
