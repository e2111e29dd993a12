//! `autoreply desktop`: reads windows, publishes turns, types replies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::applications::{ProfiledApplications, Sight};
use super::hello::Greeting;
use super::relay::{self, Shared};
use super::wiring::Outbound;
use super::{Context, process};
use crate::clock::Clock;
use crate::contract::DesktopId;
use crate::contract::codec::Source;
use crate::error::Problem;
use crate::execution::{self, keyboard::Keyboard, live::LiveDesk, watchdog::Watchdog};
use crate::journal::{self, Journal, JournalError};
use crate::lifecycle::Supervisor;
use crate::screen::profile::Profile;
use crate::screen::x11::{Session, X11};
use crate::screen::x11_input::X11Input;
use crate::stream::Connection;
use crate::telemetry::{Metrics, Traces};

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
    /// Milliseconds between two hellos to the workers.
    pub hello_ms: u64,
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
        if settings.hello_ms < 1_000 {
            return Err(Problem::new(
                format!("a hello every {} ms is a burden on everybody", settings.hello_ms),
                "desktop.hello_ms",
                "Set it to 1000 or more",
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
    traces: &Traces,
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
        outbound: Outbound::new(connection, Source::Desktop(desktop.clone()), clock.clone()).traced(traces.clone()),
        stop: supervisor.stop_token(),
    };
    // Whatever an earlier run left open is told again: the broker may have forgotten it, and the worker knows it by its id.
    journal.publish_again().await.map_err(|error| journal_problem(&error))?;
    let keep: journal::Settings = context.layers.section("journal")?;
    let longest = Duration::from_millis(keep.command_ttl_ms.max(keep.detection_ttl_ms));
    let greeting = Greeting { every: Duration::from_millis(settings.hello_ms), ..Greeting::default() };
    relay::start_greeting(&shared, connection, supervisor, &desktop, longest, greeting);
    super::watching::start(context, sight.clone(), journal.clone(), clock, metrics, traces, supervisor)?;
    if !capture_only {
        start_executor(context, &sight, &shared, supervisor)?;
    }
    let upkeep = shared.clone();
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

async fn tend(shared: Shared, settings: journal::Settings) -> Result<(), JournalError> {
    let mut due = 0u32;
    loop {
        if let Ok(sizes) = shared.journal.sizes().await {
            shared.metrics.journal.set(sizes.bytes as f64);
            shared.metrics.journal_turns.set(sizes.open_turns as f64);
        }
        if let Ok(left) = shared.journal.attention().await {
            shared.metrics.attention.set(left.len() as f64);
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
    let executed = super::observed::Executed::new(shared.metrics.clone());
    let observer = super::traced::TracedExecutor::new(executed, shared.outbound.traces().clone());
    supervisor.spawn_blocking("the executor", move || {
        let authority = execution::JournalAuthority::new(journal, handle);
        execution::Executor::new(authority, desk, settings, clock, Box::new(observer), stop).run()
    });
    Ok(())
}

/// Runs until it is asked to stop.
///
/// # Errors
/// It does not start, or a part of it died.
pub async fn run(context: &Context, capture_only: bool) -> Result<(), Problem> {
    let mut process = process::Process::start(context, "desktop")?;
    let connection = process.connect_with_others(context)?;
    let (metrics, clock, traces) = (process.metrics.clone(), process.clock.clone(), process.traces.clone());
    let supervisor = &mut process.supervisor;
    let journal = start(context, &connection, supervisor, &metrics, &clock, &traces, capture_only).await?;
    let mut parts = process.admin_parts("desktop");
    parts.journal = Some(journal.clone());
    parts.outbound = Some(process.outbound(&connection, Source::Control(context.user())));
    process.serve(context, parts).await?;
    process.run(journal.close()).await
}
