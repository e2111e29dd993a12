//! `autoreply worker`: records turns, writes replies, and follows them to their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::heartbeat::{Heart, Nature};
use super::wiring::{Inbound, Outbound, stream_problem};
use super::{Context, process, traced};
use crate::clock::Clock;
use crate::contract::codec::{self, Incoming, Source};
use crate::contract::wire::topic;
use crate::contract::{Command, DesktopHello, MessagesDetected, Notice, ReplyOutcome};
use crate::error::{Class, Classified as _, Problem};
use crate::generation;
use crate::generation::observer::Observer;
use crate::ledger::{self, PostgresLedger, SqliteLedger};
use crate::lifecycle::{Supervisor, stop_signal};
use crate::limits;
use crate::saga::{self, Ledger, LedgerError, Ports, Rejected, Worker};
use crate::settings::SecretReference;
use crate::stream::{self, Batch, Connection, NotDone};
use crate::telemetry::{Metrics, Traces};

/// How long replies in the making are given where a person waits for the program's end.
pub const DRAIN_AT_THE_DESK: Duration = Duration::from_secs(3);

/// The worker's parts, for those who look at it and for its end.
#[derive(Clone)]
pub struct Running {
    /// The worker.
    pub worker: Worker,
    /// Its ledger.
    pub ledger: Arc<dyn Ledger>,
    /// How long a desk answers for an account after a hello.
    pub account_hold: Duration,
    /// How long after it was taken up a turn has its reply, or never will.
    pub reply_deadline: Duration,
    /// Whether the group of the workers has let this one in.
    pub joined: watch::Receiver<bool>,
}

impl Running {
    /// Lets what is in the making end for as long as `grace`, or until the stop is asked for again; the rest is given
    /// back for another worker to take over. Then closes the ledger.
    pub async fn finish(self, grace: Duration) {
        let turns = self.worker.in_flight();
        if turns > 0 {
            tracing::info!(turns, grace_ms = grace.as_millis(), "finishing what is in the making");
        }
        tokio::select! {
            biased;
            () = self.worker.drain(grace) => {}
            asked = stop_signal() => {
                tracing::info!(again = asked.is_ok(), "what is in the making is left to another worker");
                self.worker.drain(Duration::ZERO).await;
            }
        }
        self.ledger.close().await;
    }
}

#[async_trait]
impl saga::Commands for Outbound {
    async fn publish(&self, command: &Command, traceparent: Option<&str>) -> Result<(), saga::CommandsError> {
        self.command(command, traceparent).await.map_err(saga::CommandsError)
    }
    async fn notify(&self, notice: &Notice) -> Result<(), saga::CommandsError> {
        self.notice(notice).await.map_err(saga::CommandsError)
    }
}

/// Opens the ledger of the settings. A SQLite file is made and brought to this version; a PostgreSQL database must have
/// been brought there by `autoreply migrate`.
///
/// # Errors
/// The section does not fit, or the ledger cannot be opened.
pub async fn open_ledger(
    context: &Context,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<dyn Ledger>, ledger::Settings), Problem> {
    let settings: ledger::Settings = context.layers.section("ledger")?;
    settings.check()?;
    if settings.is_postgres() {
        let password = ledger_password(context, &settings)?;
        let ledger = PostgresLedger::open(&settings, password.as_ref()).await;
        return Ok((Arc::new(ledger.map_err(|error| ledger_problem(error, &settings.url))?), settings));
    }
    let path = ledger_path(context, &settings)?;
    if let Some(directory) = path.parent() {
        process::private_directory(directory)?;
    }
    let ledger = SqliteLedger::open(&path, settings.daily_quota, clock).await;
    Ok((Arc::new(ledger.map_err(|error| ledger_problem(error, &path.display().to_string()))?), settings))
}

/// What a person has to do about a ledger that does not open.
pub fn ledger_problem(error: LedgerError, place: &str) -> Problem {
    match error {
        LedgerError::Storage(problem) => problem,
        LedgerError::Unavailable(why) => Problem::new(why, place, "See that it is there, and try again"),
    }
}

/// The password of the ledger's database, from where the settings say.
///
/// # Errors
/// It is not there.
pub fn ledger_password(context: &Context, settings: &ledger::Settings) -> Result<Option<SecretString>, Problem> {
    let file = settings.password_file.display().to_string();
    let Some(reference) = SecretReference::of(&settings.password_env, &file) else { return Ok(None) };
    secret(context, reference, "the password of the ledger's database").map(Some)
}

/// Where the SQLite file of the settings lies, or would lie.
///
/// # Errors
/// There is no directory for it.
pub(super) fn ledger_path(context: &Context, settings: &ledger::Settings) -> Result<PathBuf, Problem> {
    if settings.path.as_os_str().is_empty() {
        Ok(context.data_dir()?.join("ledger.sqlite"))
    } else {
        Ok(settings.path.clone())
    }
}

/// Starts the worker's tasks under `supervisor`.
///
/// # Errors
/// A section does not fit, a key is missing, or a part does not start.
pub async fn start(
    context: &Context,
    connection: &Connection,
    supervisor: &mut Supervisor,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    traces: &Traces,
) -> Result<Running, Problem> {
    let saga_settings: saga::Settings = context.layers.section("saga")?;
    saga_settings.check()?;
    let stream_settings: stream::Settings = context.layers.section("stream")?;
    let opened = open_limits(context, supervisor, metrics, clock).await?;
    let generation_settings: generation::Settings = context.layers.section("generation")?;
    let generator = generator(context, &generation_settings, metrics, clock, traces)?;
    let (ledger, ledger_settings) = open_ledger(context, clock.clone()).await?;
    super::files::raise(super::files::needed(&generation_settings, &ledger_settings));
    let ledger: Arc<dyn Ledger> = Arc::new(
        super::counted::Counted::new(ledger, metrics.clone(), clock.clone())
            .traced(traces.clone(), if ledger_settings.is_postgres() { "postgresql" } else { "sqlite" }),
    );

    // In a container every process is number 1: the machine's name tells the workers of a ledger apart.
    let name = format!("{}-{}", super::heartbeat::host(), std::process::id());
    let outbound = Outbound::new(connection, Source::Worker(name.clone()), clock.clone())
        .gathering(connection)?
        .traced(traces.clone());
    let ports = Ports {
        ledger: ledger.clone(),
        generator,
        limits: Arc::new(super::observed::Guarded::new(opened.limits, metrics.clone())),
        memory: opened.memory,
        commands: Arc::new(outbound),
        clock: clock.clone(),
    };
    let hold = saga_settings.account_hold();
    let permits = u64::from(saga_settings.permits);
    let reply_deadline = Duration::from_millis(saga_settings.reply_deadline_ms);
    let worker = Worker::new(name.clone(), ports, saga_settings);

    let consumer = connection
        .consumer(&stream_settings.worker_group, &[topic::MESSAGES, topic::OUTCOMES, topic::DESKTOPS])
        .map_err(|error| stream_problem(&error))?;
    let joined = consumer.joined();
    tell_lag(consumer.lag(), metrics, clock, supervisor);
    let nature = Nature::of(name, generation_settings.chain, permits, &ledger_settings);
    let heart = Heart::new(nature, (&ledger, &worker, metrics, clock), consumer.lag());
    supervisor.spawn("the worker's word to the ledger", heart.beat(supervisor.stop_token()));
    let (stop, inbound) = (supervisor.stop_token(), Arc::new(Inbound::new(connection, metrics.clone())));
    let (consuming, tracing) = (worker.clone(), traces.clone());
    supervisor.spawn("the worker's consumer", async move {
        consumer
            .run(stop, move |batch: Batch| {
                let (worker, inbound) = (consuming.clone(), inbound.clone());
                let traces = tracing.clone();
                async move { handle(&worker, &inbound, &traces, &batch).await }
            })
            .await
    });
    let (recovering, stop, retention) = (worker.clone(), supervisor.stop_token(), ledger_settings.retention());
    supervisor.spawn("the worker's recovery", async move {
        recovering.recover(retention, stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let quota = ledger_settings.daily_quota;
    let figures = super::observed::LedgerFigures::new(ledger.clone(), hold, quota, metrics.clone());
    supervisor
        .spawn("the worker's figures", tell_figures(figures, worker.clone(), metrics.clone(), supervisor.stop_token()));
    Ok(Running { worker, ledger, account_hold: hold, reply_deadline, joined })
}

/// Puts how far the consumer is behind into the metrics, whenever it is told.
fn tell_lag(
    mut lag: watch::Receiver<stream::Lag>,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) {
    let (metrics, clock, stop) = (metrics.clone(), clock.clone(), supervisor.stop_token());
    supervisor.spawn("the consumer's lag", async move {
        while stop.run_until_cancelled(lag.changed()).await.is_some_and(|told| told.is_ok()) {
            super::observed::lag(&metrics, &lag.borrow_and_update(), clock.now());
        }
        stop.cancelled().await;
        Ok::<(), std::convert::Infallible>(())
    });
}

/// Keeps the gauges true of what the ledger and this worker hold.
async fn tell_figures(
    mut figures: super::observed::LedgerFigures,
    worker: Worker,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !stop.is_cancelled() {
        metrics.turns_in_flight.set(worker.in_flight() as f64);
        figures.tell().await;
        tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(Duration::from_secs(5)) => {} }
    }
    Ok(())
}

/// The provider chain of the settings, watched.
fn generator(
    context: &Context,
    settings: &generation::Settings,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    traces: &Traces,
) -> Result<Arc<dyn saga::Generator>, Problem> {
    let secrets = secrets(context, settings)?;
    let names = settings.chain.iter().map(String::as_str);
    let observer: Arc<dyn Observer> = Arc::new(super::observed::Providers::new(metrics.clone(), names));
    let observer: Arc<dyn Observer> = Arc::new(traced::TracedProviders::new(observer, traces.clone()));
    let chain = generation::build_observed(settings, &secrets, clock, &observer);
    let timed = super::observed::Timed::new(chain.map_err(|problems| first(&problems))?, metrics.clone());
    Ok(Arc::new(traced::Drafting::new(timed, traces.clone())))
}

/// The limits and the memory of the settings, kept alive under `supervisor`.
async fn open_limits(
    context: &Context,
    supervisor: &mut Supervisor,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<limits::Opened, Problem> {
    let settings: limits::Settings = context.layers.section("limits")?;
    settings.check()?;
    let password = redis_password(context, &settings)?;
    let observer = Arc::new(super::observed::SharedStore::new(metrics.clone()));
    let mut opened = limits::open(&settings, password.as_ref(), clock.clone(), observer).await?;
    if let Some(upkeep) = opened.upkeep.take() {
        let stop = supervisor.stop_token();
        supervisor.spawn("the connection to Redis", async move {
            upkeep.run(stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }
    Ok(opened)
}

/// The password of Redis, if the settings name one.
///
/// # Errors
/// It is not where the settings say.
pub fn redis_password(context: &Context, settings: &limits::Settings) -> Result<Option<SecretString>, Problem> {
    settings.password().map(|reference| secret(context, reference, "the password of Redis")).transpose()
}

fn first(problems: &[Problem]) -> Problem {
    problems
        .first()
        .cloned()
        .unwrap_or_else(|| Problem::new("the chain cannot be built", "[generation]", "See config.default.toml"))
}

/// The keys that the providers need, from where the settings say.
///
/// # Errors
/// A key is not where the settings say.
pub fn secrets(context: &Context, settings: &generation::Settings) -> Result<BTreeMap<String, SecretString>, Problem> {
    let of = |(provider, reference)| Ok((provider, secret(context, reference, "the key of a model")?));
    settings.secrets().into_iter().map(of).collect()
}

/// What `reference` refers to; `what` names it to people.
fn secret(context: &Context, reference: SecretReference, what: &str) -> Result<SecretString, Problem> {
    let place = reference.to_string();
    match reference {
        SecretReference::Environment(name) => context.environment.get(&name).map(SecretString::from).ok_or_else(|| {
            let remedy = "Set it, or name another variable or a file in the settings";
            Problem::new(format!("{what} is not in the environment"), place, remedy)
        }),
        SecretReference::File(path) => {
            std::fs::read_to_string(&path).map(|text| SecretString::from(text.trim())).map_err(|error| {
                let remedy = "Write it into that file, readable by you alone";
                Problem::new(format!("{what} cannot be read ({error})"), place, remedy)
            })
        }
    }
}

/// What a batch holds, each with its place in it.
#[derive(Default)]
struct Sorted {
    hellos: Vec<(usize, DesktopHello)>,
    turns: Vec<(usize, MessagesDetected)>,
    outcomes: Vec<(usize, ReplyOutcome)>,
    /// Why a record cannot be read.
    unread: BTreeMap<usize, String>,
    misplaced: Vec<usize>,
    spans: traced::Processing,
}

fn sorted(inbound: &Inbound, traces: &Traces, batch: &Batch) -> Sorted {
    let mut sorted = Sorted::default();
    for (index, received) in batch.iter().enumerate() {
        match inbound.decode(received) {
            Err(why) => drop(sorted.unread.insert(index, why)),
            Ok(Incoming::Messages(mut detected)) => {
                let span = traced::processing(traces, received, topic::MESSAGES, (&detected).into());
                let handed_on = || codec::traceparent(&received.record).map(str::to_owned);
                detected.traceparent = span.context().map(|place| place.to_string()).or_else(handed_on);
                sorted.spans.begin(index, span);
                sorted.turns.push((index, detected));
            }
            Ok(Incoming::Outcome(outcome)) => {
                let span = traced::processing(traces, received, topic::OUTCOMES, (&outcome).into());
                sorted.spans.begin(index, span.with("autoreply.effect", outcome.effect.as_str()));
                sorted.outcomes.push((index, outcome));
            }
            Ok(Incoming::Hello(hello)) => sorted.hellos.push((index, hello)),
            Ok(Incoming::Command(_) | Incoming::Control(_) | Incoming::Notice(_)) => sorted.misplaced.push(index),
        }
    }
    sorted
}

/// One batch: hellos, turns and outcomes in the order in which they came, runs of a kind together.
async fn handle(worker: &Worker, inbound: &Inbound, traces: &Traces, batch: &Batch) -> Result<(), NotDone> {
    let Sorted { hellos, turns, outcomes, unread, misplaced, mut spans } = sorted(inbound, traces, batch);
    let mut refused: Vec<(usize, Rejected)> = Vec::new();
    let mut put_back = |error: LedgerError| {
        spans.put_back();
        not_done(&error)
    };
    // Hellos before turns, so that who answers is settled first.
    if !hellos.is_empty() {
        let (places, records): (Vec<_>, Vec<_>) = hellos.into_iter().unzip();
        let bad = worker.on_hellos(records).await.map_err(&mut put_back)?;
        refused.extend(bad.into_iter().map(|refused| (places[refused.index], refused.why)));
    }
    // Turns before outcomes: an outcome speaks of a turn that the ledger should hold by then.
    if !turns.is_empty() {
        let (places, records): (Vec<_>, Vec<_>) = turns.into_iter().unzip();
        let bad = worker.on_messages(records).await.map_err(&mut put_back)?;
        refused.extend(bad.into_iter().map(|refused| (places[refused.index], refused.why)));
    }
    if !outcomes.is_empty() {
        let (places, records): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        let bad = worker.on_outcomes(records).await.map_err(&mut put_back)?;
        refused.extend(bad.into_iter().map(|refused| (places[refused.index], refused.why)));
    }
    // Last, when the batch will not come again because the ledger is away.
    for (place, received) in batch.iter().enumerate() {
        inbound.settle(received, unread.get(&place).map(String::as_str)).await?;
    }
    for place in misplaced {
        inbound.bury(&batch[place], "a record of this type does not belong to this topic").await?;
    }
    for (place, why) in refused {
        spans.refuse(place);
        inbound.bury(&batch[place], &why.to_string()).await?;
    }
    Ok(())
}

/// An outage of the ledger stops polling; it is not poison.
fn not_done(error: &LedgerError) -> NotDone {
    match error.class() {
        Class::Transient | Class::Unknown => NotDone::Retry(error.to_string()),
        Class::Permanent => NotDone::Stop(error.to_string()),
    }
}

/// Runs until it is asked to stop.
///
/// # Errors
/// It does not start, or a part of it died.
pub async fn run(context: &Context) -> Result<(), Problem> {
    let mut process = process::Process::start(context, "worker")?;
    let connection = process.connect_with_others(context)?;
    if !context.layers.section::<ledger::Settings>("ledger")?.is_postgres() {
        tracing::warn!("the ledger is a SQLite file: no second worker can share it (see ledger.url)");
    }
    let (metrics, clock, traces) = (process.metrics.clone(), process.clock.clone(), process.traces.clone());
    let running = start(context, &connection, &mut process.supervisor, &metrics, &clock, &traces).await?;
    let mut parts = process.admin_parts("worker");
    parts.worker = Some(running.clone());
    parts.outbound = Some(process.outbound(&connection, Source::Control(context.user())));
    process.serve(context, parts).await?;
    let grace = running.reply_deadline;
    process.run(running.finish(grace)).await
}
