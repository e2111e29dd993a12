//! The command line: it parses, gathers what a role needs from outside (settings, environment), and runs one role.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::contract::{Control, Mode, Scope, TurnId};
use crate::error::Problem;
use crate::roles::{self, Context, Environment};
use crate::stream::LetterId;

/// Answers chat messages from the desktop: sees the window, writes a reply, types it, and proves that it was sent.
#[derive(Debug, Parser)]
#[command(name = "autoreply", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// The settings file; without it ~/.config/autoreply/config.toml if that is there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket of the running process.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON instead of text for people; errors too, to standard error. docs/cli.md has the fields.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process: desktop, worker, broker, databases. Nothing else is needed.
    #[cfg(all(feature = "desktop", feature = "worker"))]
    Run,
    /// Run the half that sits on a desk: read windows, type replies.
    #[cfg(feature = "desktop")]
    #[command(visible_alias = "producer")]
    Desktop {
        /// Read and publish only; never type.
        #[arg(long)]
        capture_only: bool,
    },
    /// Run the half that writes replies.
    #[cfg(feature = "worker")]
    Worker,
    /// Show the whole way of a message with a real chat client on a private display; leaves a report behind.
    #[cfg(all(feature = "desktop", feature = "worker"))]
    Demo(DemoArgs),
    /// Say what is missing on this machine, and how to mend it.
    Doctor {
        /// Only what this half needs, on a machine that runs no more than that.
        #[arg(conflicts_with = "cluster")]
        half: Option<HalfArg>,
        /// Look at the servers that workers and desks share instead of this desk: Kafka, the ledger, Redis, the models.
        #[arg(long)]
        cluster: bool,
    },
    /// Is it well, what hurts, and how everything stands; from any machine with the settings. Exits with 1 if it hurts.
    Status,
    /// The status, live, with rates; q quits. Without a terminal one frame, with --json a line of JSON a look.
    Top {
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
        every: std::time::Duration,
        /// Print one frame, or one line of JSON, and end.
        #[arg(long)]
        once: bool,
    },
    /// Look at chat applications through a profile.
    #[cfg(feature = "desktop")]
    Profile {
        #[command(subcommand)]
        command: ProfileCommand,
    },
    /// Look at replies, and decide about drafts.
    Sagas {
        #[command(subcommand)]
        command: SagasCommand,
    },
    /// Which desks run, and which accounts each answers for.
    Desks,
    /// Set how far autoreply may go, pause it, or stop it.
    Control {
        #[command(subcommand)]
        command: ControlCommand,
    },
    /// Remove every text and name of a peer from the journal and the ledger.
    Forget {
        /// The peer's name, as the chat shows it.
        peer: String,
    },
    /// Bring the databases to this version.
    Migrate,
    /// Look at records that could not be read, and send them on their way again.
    DeadLetters {
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Compare the topics on Kafka with what this version needs, and create what is missing.
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// Look at the settings.
    Settings {
        #[command(subcommand)]
        command: SettingsCommand,
    },
    /// Every metric that the running roles show at /metrics, with its labels.
    Metrics,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Release keys when the executor dies; started by it.
    #[cfg(feature = "desktop")]
    #[command(hide = true)]
    Watchdog,
    /// Parts of the demo's private desktop; started by it.
    #[cfg(all(feature = "desktop", feature = "worker"))]
    #[command(hide = true)]
    Rig {
        #[command(subcommand)]
        command: RigCommand,
    },
}

/// One half of autoreply.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HalfArg {
    /// What sits on a desk.
    Desktop,
    /// What writes replies.
    Worker,
}

impl From<HalfArg> for roles::doctor::Half {
    fn from(half: HalfArg) -> Self {
        match half {
            HalfArg::Desktop => Self::Desktop,
            HalfArg::Worker => Self::Worker,
        }
    }
}

/// How the demo runs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the report and everything else of the run go.
    #[arg(long, value_name = "DIRECTORY", default_value = "demo-report")]
    pub directory: PathBuf,
}

#[cfg(feature = "desktop")]
#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// Show what a profile sees of the open windows: a picture, and a table.
    Check {
        /// A built-in profile's name, or a file.
        profile: String,
        /// Where the picture goes.
        #[arg(long, value_name = "FILE", default_value = "profile-check.png")]
        picture: PathBuf,
    },
    /// List the built-in profiles.
    List,
    /// Print a built-in profile, as a start for one's own.
    Show {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum SagasCommand {
    /// The replies that are open.
    List {
        /// Also those that have ended.
        #[arg(long)]
        all: bool,
    },
    /// The whole story of one reply.
    Show {
        /// Its turn id.
        turn: TurnId,
    },
    /// Send a draft.
    Approve {
        /// Its turn id.
        turn: TurnId,
        /// The draft's version that you saw; without it, the one that is there now.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Do not send a draft.
    Reject {
        /// Its turn id.
        turn: TurnId,
        /// Why.
        #[arg(long, default_value = "")]
        why: String,
    },
}

#[derive(Debug, Args)]
struct ControlArgs {
    /// all, desktop:NAME, profile:NAME or conversation:ID.
    #[arg(long, default_value = "all")]
    scope: Scope,
    /// Why, for those who look later.
    #[arg(long, default_value = "")]
    why: String,
}

#[derive(Debug, Subcommand)]
enum ControlCommand {
    /// How far it may go: off, draft or auto.
    Mode {
        /// off, draft or auto.
        mode: Mode,
        #[command(flatten)]
        args: ControlArgs,
    },
    /// Type nothing until resumed.
    Pause(ControlArgs),
    /// End a pause or a stop.
    Resume(ControlArgs),
    /// Type nothing, and end what is queued.
    Stop(ControlArgs),
    /// Remove what the scope had set.
    Unset(ControlArgs),
    /// What is in force.
    Show,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Those that nobody has dealt with, the newest first. No chat text.
    List {
        /// Also those that were replayed or parked.
        #[arg(long)]
        all: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One of them: its headers.
    Show {
        /// Its id, as 3/17.
        id: LetterId,
        /// Its body too, which may be chat text.
        #[arg(long)]
        text: bool,
    },
    /// Publish them to their topics again. A turn becomes a draft at most.
    Replay {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<LetterId>,
    },
    /// Mark them as dealt with.
    Park {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<LetterId>,
    },
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Show what differs.
    Plan,
    /// Show what differs, ask, and make it so. Never deletes, never lowers, never adds partitions.
    Apply {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Show what differs, and exit with 1 if something has to be done.
    Check,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// The settings in force, and where each that is not a default was set.
    Show {
        /// The defaults with their explanations instead.
        #[arg(long)]
        defaults: bool,
    },
}

#[cfg(all(feature = "desktop", feature = "worker"))]
#[derive(Debug, Subcommand)]
enum RigCommand {
    /// The scripted other side.
    Peer {
        /// Its name on the network.
        #[arg(long)]
        nick: String,
        /// The server's port on loopback.
        #[arg(long)]
        port: u16,
    },
    /// A window that records every key it gets.
    Sentinel {
        /// The display it stands on.
        #[arg(long)]
        display: String,
        /// Its left edge in pixels.
        #[arg(long, allow_negative_numbers = true)]
        x: i16,
        /// Its upper edge in pixels.
        #[arg(long, allow_negative_numbers = true)]
        y: i16,
    },
}

/// Parses the command line, runs the role it names, and returns the exit code: 0 done, 1 not done, 2 not understood.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(code) => code,
        Err(problem) => {
            #[allow(clippy::print_stderr, reason = "the command line is where errors are shown")]
            {
                if json { eprint!("{}", told(&problem)) } else { eprintln!("autoreply: {problem}") }
            }
            ExitCode::FAILURE
        }
    }
}

/// A problem for programs.
fn told(problem: &Problem) -> String {
    let Problem { what, place, remedy } = problem;
    format!("{}\n", serde_json::json!({ "error": { "what": what, "place": place, "remedy": remedy } }))
}

/// A number of seconds, with or without a fraction.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let read = text.parse::<f64>().ok().filter(|seconds| (0.2..=3600.0).contains(seconds));
    let seconds = read.ok_or_else(|| "write a number of seconds from 0.2 to 3600".to_owned())?;
    Ok(std::time::Duration::from_secs_f64(seconds))
}

type Done = Result<ExitCode, Problem>;

/// Starts this program again with one thread for each recognition: the engine reads the variable only once, when it is
/// loaded, and with more threads a row of text takes seconds on a busy machine.
#[cfg(feature = "desktop")]
fn limit_threads(command: &Command, environment: &Environment) {
    use std::os::unix::process::CommandExt as _;
    let recognises = match command {
        #[cfg(feature = "worker")]
        Command::Run | Command::Demo(_) => true,
        Command::Desktop { .. } | Command::Profile { .. } => true,
        _ => false,
    };
    if let (true, None, Ok(program)) = (recognises, environment.get("OMP_THREAD_LIMIT"), std::env::current_exe()) {
        // Only returns if it fails, and then the text is read slowly.
        let _slower =
            std::process::Command::new(program).args(std::env::args_os().skip(1)).env("OMP_THREAD_LIMIT", "1").exec();
    }
}

fn run(cli: Cli) -> Done {
    let environment = Environment(crate::settings::environment());
    #[cfg(feature = "desktop")]
    limit_threads(&cli.command, &environment);
    match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "autoreply", &mut std::io::stdout());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Metrics => {
            print(&roles::metrics::list(cli.json));
            return Ok(ExitCode::SUCCESS);
        }
        #[cfg(feature = "desktop")]
        Command::Watchdog => return roles::watchdog::run(&environment).map(|()| ExitCode::SUCCESS),
        #[cfg(all(feature = "desktop", feature = "worker"))]
        Command::Rig { command } => {
            return match command {
                RigCommand::Peer { nick, port } => Ok(roles::demo::peer(&nick, port)),
                RigCommand::Sentinel { display, x, y } => Ok(roles::demo::sentinel(&display, x, y)),
            };
        }
        _ => {}
    }
    let context = Context::gather(cli.config, cli.socket, cli.json, environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Problem::new(format!("the runtime does not start ({error})"), "this process", "Free memory or raise the limits")
    })?;
    let done = runtime.block_on(role(cli.command, &context));
    // Threads that wait for a display or a disk must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    done
}

async fn role(command: Command, context: &Context) -> Done {
    let text = match command {
        #[cfg(all(feature = "desktop", feature = "worker"))]
        Command::Run => return roles::run::run(context).await.map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "desktop")]
        Command::Desktop { capture_only } => {
            return roles::desktop::run(context, capture_only).await.map(|()| ExitCode::SUCCESS);
        }
        #[cfg(feature = "worker")]
        Command::Worker => return roles::worker::run(context).await.map(|()| ExitCode::SUCCESS),
        #[cfg(all(feature = "desktop", feature = "worker"))]
        Command::Demo(args) => return roles::demo::run(context, &args.directory).await,
        Command::Doctor { half, cluster } => {
            let findings = match cluster {
                true => roles::doctor::examine_cluster(context).await,
                false => roles::doctor::examine(context, half.map(Into::into)).await,
            };
            print(&findings.shown(context));
            return Ok(if findings.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Status => {
            let (text, well) = roles::status::run(context).await;
            print(&text);
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Top { every, once } => {
            return roles::top::run(context, every, once).await.map(|()| ExitCode::SUCCESS);
        }
        #[cfg(feature = "desktop")]
        Command::Profile { command } => match command {
            ProfileCommand::Check { profile, picture } => roles::profile::check(context, &profile, &picture)?,
            ProfileCommand::List => roles::profile::list(context.json),
            ProfileCommand::Show { name } => roles::profile::show(&name, context.json)?,
        },
        Command::Sagas { command } => match command {
            SagasCommand::List { all } => roles::sagas::list(context, all).await?,
            SagasCommand::Show { turn } => roles::sagas::show(context, turn).await?,
            SagasCommand::Approve { turn, version } => roles::sagas::approve(context, turn, version).await?,
            SagasCommand::Reject { turn, why } => roles::sagas::reject(context, turn, why).await?,
        },
        Command::Desks => roles::desks::list(context).await?,
        Command::Control { command } => control(context, command).await?,
        Command::Forget { peer } => roles::forget::run(context, &peer).await?,
        Command::Migrate => roles::migrate::run(context).await?,
        Command::DeadLetters { command } => match command {
            DeadLettersCommand::List { all, limit } => roles::dead_letters::list(context, all, limit).await?,
            DeadLettersCommand::Show { id, text } => roles::dead_letters::show(context, id, text).await?,
            DeadLettersCommand::Replay { ids } => roles::dead_letters::replay(context, &ids).await?,
            DeadLettersCommand::Park { ids } => roles::dead_letters::park(context, &ids).await?,
        },
        Command::Topics { command: TopicsCommand::Plan } => roles::topics::plan(context).await?.0,
        Command::Topics { command: TopicsCommand::Apply { yes } } => roles::topics::apply(context, yes).await?,
        Command::Topics { command: TopicsCommand::Check } => {
            let (text, fits) = roles::topics::plan(context).await?;
            print(&text);
            return Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Settings { command: SettingsCommand::Show { defaults } } => roles::settings::show(context, defaults),
        // Answered in `run`, before there are settings.
        _ => String::new(),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

async fn control(context: &Context, command: ControlCommand) -> Result<String, Problem> {
    let (control, args) = match command {
        ControlCommand::Show => return roles::control::show(context).await,
        ControlCommand::Mode { mode, args } => (Control::Mode(mode), args),
        ControlCommand::Pause(args) => (Control::Pause, args),
        ControlCommand::Resume(args) => (Control::Resume, args),
        ControlCommand::Stop(args) => (Control::Stop, args),
        ControlCommand::Unset(args) => (Control::Unset, args),
    };
    roles::control::set(context, args.scope, control, args.why).await
}

/// Prints an answer; a reader that has gone (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _gone = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_the_commands_that_look() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "autoreply", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["status", "top", "cluster", "every"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn seconds_are_read_within_reason() {
        assert_eq!(seconds("0.5"), Ok(std::time::Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_problem_is_told_to_programs_too() {
        let told: serde_json::Value = serde_json::from_str(&told(&Problem::new("a", "b", "c"))).unwrap();
        assert_eq!(told["error"]["remedy"], "c");
    }
}
