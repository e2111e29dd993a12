//! An upgrade while people write; see `autoreply_load_tests::upgrade`. `scripts/test-upgrade` builds the previous version.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use autoreply_load_tests::services::Services;
use autoreply_load_tests::upgrade::{run, scale};
use clap::Parser;

#[derive(Parser)]
#[command(
    about = "Replaces a worker of the previous version by one of this version while people write, and judges what came of it.",
    after_help = "Everything is left in the directory: plan, applications, journals, logs, verdict.json."
)]
struct Arguments {
    /// The previous version's program.
    #[arg(long)]
    previous: PathBuf,
    /// Where everything is written; what an earlier run left there is removed.
    #[arg(long)]
    directory: PathBuf,
    /// How long messages are written, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

// One thread: this process only starts and watches others.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match upgrade(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "upgrade: {why}");
            ExitCode::from(2)
        }
    }
}

async fn upgrade(arguments: &Arguments) -> Result<bool, String> {
    let run_directory = arguments.directory.join("run");
    if run_directory.exists() {
        std::fs::remove_dir_all(&run_directory).map_err(|why| format!("an earlier run cannot be removed: {why}"))?;
    }
    std::fs::create_dir_all(&run_directory)
        .map_err(|why| format!("{} cannot be made: {why}", run_directory.display()))?;
    let directory = arguments.directory.canonicalize().map_err(|why| why.to_string())?;
    let say = |what: &str| {
        // Whoever does not listen is not told.
        let _ = writeln!(std::io::stdout(), "{what}");
    };
    say("bringing up servers");
    let services = Services::up(directory.join("services"), 1).await.map_err(|problem| problem.to_string())?;
    let previous =
        arguments.previous.canonicalize().map_err(|why| format!("{}: {why}", arguments.previous.display()))?;
    let done = run(&directory.join("run"), &scale(arguments.seconds), &services, previous, &say).await;
    let removed = services.remove().await;
    let done = done.map_err(|problem| problem.to_string())?;
    removed.map_err(|problem| problem.to_string())?;
    say(&done.to_string());
    Ok(done.faults().is_empty())
}
