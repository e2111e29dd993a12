//! `autoreply desktop`: reads windows, publishes turns, types replies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::applications::{ProfiledApplications, Sight};
use super::wiring::{Inbound, Outbound};
use super::{Context, process};
use crate::clock::Clock;
use crate::contract::DesktopId;
use crate::contract::codec::{Incoming, Source};
use crate::contract::wire::topic;
use crate::error::Problem;
use crate::execution::{self, keyboard::Keyboard, live::LiveDesk, watchdog::Watchdog};
use crate::journal::{self, Journal, JournalError};
use crate::lifecycle::Supervisor;
use crate::screen::profile::Profile;
use crate::screen::x11::{Session, X11};
use crate::screen::x11_input::X11Input;
use crate::stream::{Batch, Connection, NotDone};
use crate::telemetry::Metrics;

/// How often the journal is asked what is due although nothing was said to have changed.
const PUBLISH_TICK: Duration = Duration::from_millis(200);
/// The first wait after the broker did not take a record; it doubles up to the longest.
const PUBLISH_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// The section `[desktop]`; each key is explained in `config.default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This desktop's name; empty means the machine's.
    pub id: String,
    /// The profiles in use: built-in names or files.
    pub profiles: Vec<String>,
    /// The names under which the person appears in chats.
    pub own_names: Vec<String>,
}

impl Settings {
    /// The section, checked.
    ///
    /// # Errors
    /// It does not fit, or it names no profile.
    pub fn gather(context: &Context) -> Result<Self, Problem> {
        let settings: Self = context.layers.section("desktop")?;
        if settings.profiles.is_empty() {
            return Err(Problem::new(
                "no profile is in use",
                "desktop.profiles",
                "Name at least one, as [\"hexchat\"]",
            ));
        }
        Ok(settings)
    }

    /// The desktop's name.
    ///
    /// # Errors
    /// It holds a character that a name may not hold.
    pub fn desktop_id(&self) -> Result<DesktopId, Problem> {
        let machine = || std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "desktop".to_owned());
        let name = if self.id.is_empty() { machine().trim().to_owned() } else { self.id.clone() };
        DesktopId::try_from(name)
            .map_err(|error| Problem::new(error.to_string(), "desktop.id", "Set desktop.id to such a name"))
    }

    /// The profiles, loaded.
    ///
    /// # Errors
    /// The first that cannot be loaded.
    pub fn load_profiles(&self) -> Result<Vec<Profile>, Problem> {
        self.profiles.iter().map(|profile| Profile::load(profile)).collect()
    }
}

/// What the environment says of the session.
pub fn session(context: &Context) -> Session {
    let named = |name: &str| context.environment.get(name).map(str::to_owned);
    Session { display: named("DISPLAY"), wayland_display: named("WAYLAND_DISPLAY"), kind: named("XDG_SESSION_TYPE") }
}

/// What every task of the desktop is given.
#[derive(Clone)]
struct Shared {
    journal: Journal,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    outbound: Outbound,
    stop: CancellationToken,
}

/// Starts the desktop's tasks under `supervisor`; the journal is the desktop's authority.
///
/// # Errors
/// A section does not fit, the display cannot be used, or the journal cannot be opened.
pub async fn start(
    context: &Context,
    connection: &Connection,
    supervisor: &mut Supervisor,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    capture_only: bool,
) -> Result<Journal, Problem> {
    let settings = Settings::gather(context)?;
    let sight =
        Sight { session: session(context), profiles: settings.load_profiles()?, own_names: settings.own_names.clone() };
    let desktop = settings.desktop_id()?;
    let journal = open_journal(context, &settings, desktop.clone()).await?;
    let shared = Shared {
        journal: journal.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        outbound: Outbound::new(connection, Source::Desktop(desktop.clone()), clock.clone()),
        stop: supervisor.stop_token(),
    };
    // Whatever an earlier run left open is told again: the broker may have forgotten it, and the worker knows it by its id.
    journal.publish_again().await.map_err(|error| journal_problem(&error))?;
    start_stream(&shared, connection, supervisor, &desktop, context)?;
    super::watching::start(context, sight.clone(), journal.clone(), clock, metrics, supervisor)?;
    if !capture_only {
        start_executor(context, &sight, &shared, supervisor)?;
    }
    let upkeep = shared.clone();
    let keep: journal::Settings = context.layers.section("journal")?;
    supervisor.spawn("the journal's upkeep", async move { tend(upkeep, keep).await });
    Ok(journal)
}

async fn open_journal(context: &Context, desktop: &Settings, id: DesktopId) -> Result<Journal, Problem> {
    let settings: journal::Settings = context.layers.section("journal")?;
    settings.check()?;
    let path =
        if settings.path.is_empty() { context.data_dir()?.join("journal.db") } else { PathBuf::from(&settings.path) };
    if let Some(directory) = path.parent() {
        process::private_directory(directory)?;
    }
    let turns = journal::TurnSettings { own_names: desktop.own_names.clone(), ..settings.turns() };
    Journal::open(&path, id, turns).await.map_err(|error| journal_problem(&error))
}

fn journal_problem(error: &JournalError) -> Problem {
    match error {
        JournalError::Locked(problem) | JournalError::Storage(problem) => problem.clone(),
        JournalError::Busy(why) => Problem::new(why.clone(), "the journal", "Try again"),
    }
}

fn start_stream(
    shared: &Shared,
    connection: &Connection,
    supervisor: &mut Supervisor,
    desktop: &DesktopId,
    context: &Context,
) -> Result<(), Problem> {
    let settings: journal::Settings = context.layers.section("journal")?;
    let longest = Duration::from_millis(settings.command_ttl_ms.max(settings.detection_ttl_ms));
    let since = crate::clock::from_millis(crate::clock::to_millis(shared.clock.now()) - crate::clock::millis(longest));
    let inbound = Arc::new(Inbound::new(connection, shared.metrics.clone()));

    let commands = connection.reader(topic::COMMANDS, desktop.as_str().as_bytes(), since);
    let (taking, reading, own) = (shared.clone(), inbound.clone(), desktop.clone());
    supervisor.spawn("the desktop's commands", {
        let stop = shared.stop.clone();
        commands.run(stop, move |batch: Batch| {
            let (shared, inbound, own) = (taking.clone(), reading.clone(), own.clone());
            async move { take_commands(&shared, &inbound, &own, &batch).await }
        })
    });
    let controls = connection.reader_all(topic::CONTROLS);
    let taking = shared.clone();
    supervisor.spawn("the desktop's controls", {
        let stop = shared.stop.clone();
        controls.run(stop, move |batch: Batch| {
            let (shared, inbound) = (taking.clone(), inbound.clone());
            async move { take_controls(&shared, &inbound, &batch).await }
        })
    });
    supervisor.spawn("the publisher", publish(shared.clone()));
    let (watched, connection) = (shared.clone(), connection.clone());
    supervisor.spawn("the cluster's identity", async move { watch_cluster(watched, connection).await });
    Ok(())
}

/// A journal that cannot be written is no fault of the record: it comes again.
fn not_done(error: &JournalError) -> NotDone {
    NotDone::Retry(error.to_string())
}

async fn take_commands(shared: &Shared, inbound: &Inbound, own: &DesktopId, batch: &Batch) -> Result<(), NotDone> {
    use crate::contract::Command;
    for received in batch.iter() {
        match inbound.read(received).await? {
            Some(Incoming::Command(command)) => {
                let desktop = match &command {
                    Command::Send(send) => &send.desktop,
                    Command::Withdraw(withdraw) => &withdraw.desktop,
                    Command::TurnRecorded(recorded) => &recorded.desktop,
                    Command::OutcomeRecorded(recorded) => &recorded.desktop,
                };
                // Several desktops share a partition.
                if desktop == own {
                    shared.journal.accept(command, shared.clock.now()).await.map_err(|error| not_done(&error))?;
                }
            }
            Some(_) => inbound.bury(received, "a record of this type does not belong to this topic").await?,
            None => {}
        }
    }
    Ok(())
}

async fn take_controls(shared: &Shared, inbound: &Inbound, batch: &Batch) -> Result<(), NotDone> {
    for received in batch.iter() {
        match inbound.read(received).await? {
            Some(Incoming::Control(record)) => {
                shared.journal.apply_control(&record, shared.clock.now()).await.map_err(|error| not_done(&error))?;
            }
            Some(_) => inbound.bury(received, "a record of this type does not belong to this topic").await?,
            None => {}
        }
    }
    Ok(())
}

/// Moves what is due from the journal to the stream, until the stop. A broker or a disk that is away is waited for:
/// the rows stay where they are.
async fn publish(shared: Shared) -> Result<(), JournalError> {
    let mut changed = shared.journal.changed();
    let mut wait = PUBLISH_TICK;
    while !shared.stop.is_cancelled() {
        match publish_due(&shared).await {
            Ok(()) => wait = PUBLISH_TICK,
            Err(why) => {
                wait = if wait < PUBLISH_RETRY.0 { PUBLISH_RETRY.0 } else { (wait * 2).min(PUBLISH_RETRY.1) };
                tracing::warn!(why, wait_ms = wait.as_millis() as u64, "what is due stays in the journal for now");
            }
        }
        let may_hurry = wait == PUBLISH_TICK;
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
            gone = changed.changed(), if may_hurry => if gone.is_err() { break },
        }
    }
    if let Err(why) = publish_due(&shared).await {
        tracing::warn!(why, "what is due stays in the journal until the next start");
    }
    shared.outbound.flush(Duration::from_secs(2)).await;
    Ok(())
}

async fn publish_due(shared: &Shared) -> Result<(), String> {
    let said = |error: JournalError| error.to_string();
    let now = shared.clock.now();
    for turn in shared.journal.turns_to_publish(now).await.map_err(said)? {
        shared.outbound.turn(&turn).await?;
        shared.journal.turn_published(turn.turn, turn.revision, shared.clock.now()).await.map_err(said)?;
        shared.metrics.turns_published.inc();
        tracing::info!(turn = %turn.turn, revision = turn.revision.0, conversation = %turn.conversation.id, "turn published");
    }
    for outcome in shared.journal.outcomes_to_publish(now).await.map_err(said)? {
        shared.outbound.outcome(&outcome).await?;
        shared.journal.outcome_published(outcome.turn, outcome.revision, shared.clock.now()).await.map_err(said)?;
        let (times, ms) = (&outcome.timings, |at: Option<jiff::Timestamp>| at.map(crate::clock::to_millis));
        tracing::info!(
            turn = %outcome.turn,
            revision = outcome.revision.0,
            effect = %outcome.effect,
            reason = outcome.reason,
            detected_ms = ms(times.detected_at),
            received_ms = ms(times.received_at),
            typed_ms = ms(times.typed_at),
            submitted_ms = ms(times.submitted_at),
            shown_ms = ms(times.shown_at),
            "outcome published"
        );
    }
    Ok(())
}

/// Publishes everything open again when the cluster has become another one: its disk was lost.
async fn watch_cluster(shared: Shared, connection: Connection) -> Result<(), JournalError> {
    let mut known: Option<String> = None;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
        let now = connection.cluster_id(Duration::from_secs(5)).await;
        if let (Some(before), Some(after)) = (&known, &now)
            && before != after
        {
            tracing::warn!(before, after, "this is another cluster; everything open is published again");
            shared.journal.publish_again().await?;
        }
        known = now.or(known);
    }
}

async fn tend(shared: Shared, settings: journal::Settings) -> Result<(), JournalError> {
    let mut due = 0u32;
    loop {
        if let Ok(sizes) = shared.journal.sizes().await {
            shared.metrics.journal.set(sizes.bytes as f64);
        }
        if due == 0
            && let Err(error) =
                shared.journal.prune(shared.clock.now(), settings.keep_text(), settings.keep_rows()).await
        {
            tracing::warn!(%error, "old rows were not removed; tried again in an hour");
        }
        due = (due + 1) % 240;
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(15)) => {}
        }
    }
}

fn start_executor(
    context: &Context,
    sight: &Sight,
    shared: &Shared,
    supervisor: &mut Supervisor,
) -> Result<(), Problem> {
    let settings: execution::Settings = context.layers.section("execution")?;
    settings.check()?;
    let screen = |error: crate::screen::window::ScreenError| match error {
        crate::screen::window::ScreenError::Unavailable(problem) => problem,
        other => Problem::new(other.to_string(), "the display", "Check that the display is still there"),
    };
    let display = sight.session.x_display()?.to_owned();
    // Taken here, so that a second executor on this display is told at the start and not in a thread's log.
    let input = X11Input::connect(Some(&display)).map_err(screen)?;
    let windows = X11::connect(&sight.session).map_err(screen)?;
    let program = std::env::current_exe().map_err(|error| {
        Problem::new(
            format!("the program's own path is not known ({error})"),
            "the watchdog",
            "Start autoreply by its full path",
        )
    })?;
    let watchdog = Watchdog::spawn(&program, &["watchdog"])?;
    let keyboard = Keyboard::new(Some(&display), watchdog)?;
    let handle = tokio::runtime::Handle::current();
    let applications = ProfiledApplications::new(sight.clone(), handle.clone()).map_err(screen)?;
    let desk = LiveDesk::new(Box::new(windows), Box::new(applications), Box::new(input), keyboard, &settings);
    let (journal, clock, stop) = (shared.journal.clone(), shared.clock.clone(), shared.stop.clone());
    supervisor.spawn_blocking("the executor", move || {
        execution::run_blocking(handle, journal, desk, settings, clock, Box::new(execution::ports::Silent), stop)
    });
    Ok(())
}

/// Runs until it is asked to stop.
///
/// # Errors
/// It does not start, or a part of it died.
pub async fn run(context: &Context, capture_only: bool) -> Result<(), Problem> {
    let mut process = process::Process::start(context, "desktop")?;
    if context.layers.section::<crate::stream::Settings>("stream")?.is_embedded() {
        return Err(Problem::new(
            "a desktop by itself needs a broker that the workers reach, and the embedded one lives in one process",
            "stream.brokers",
            "Set it to your Kafka's addresses, or use `autoreply run` on a single machine",
        ));
    }
    let connection = process.connect(context)?;
    let (metrics, clock) = (process.metrics.clone(), process.clock.clone());
    let journal = start(context, &connection, &mut process.supervisor, &metrics, &clock, capture_only).await?;
    let mut parts = process.admin_parts("desktop");
    parts.journal = Some(journal.clone());
    parts.outbound = Some(process.outbound(&connection, Source::Control(context.user())));
    process.serve(context, parts).await?;
    let ended = process.run().await;
    journal.close().await;
    ended
}
