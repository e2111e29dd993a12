//! One process of simulated desktops: `sim-desks --config desks.toml`. It may be killed at any moment and started
//! again with the same file.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use autoreply::clock::SystemClock;
use autoreply::error::Problem;
use autoreply::lifecycle::{Supervisor, stop_signal};
use autoreply_load_tests::sim::{self, Config};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Simulated desktops: real journals, relays and executors before fake chat applications.
#[derive(Debug, Parser)]
#[command(name = "sim-desks", version)]
struct Arguments {
    /// What to simulate; see `load-tests/src/sim/mod.rs`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What is logged, to standard error.
    #[arg(long, default_value = "warn")]
    log: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "sim-desks: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Problem> {
    tracing_subscriber::fmt().with_env_filter(&arguments.log).with_writer(std::io::stderr).init();
    let config = Config::load(&arguments.config)?;
    // Each desk's executor keeps a thread.
    let threads = config.desks.len() + 64;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .build()
        .map_err(|error| Problem::new(error.to_string(), "the runtime", "Free memory"))?;
    let done = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(stop.clone());
        let (asked, cancel) = (stop.clone(), stop);
        supervisor.spawn("the signals", async move {
            tokio::select! {
                () = asked.cancelled() => {}
                signal = stop_signal() => { signal?; cancel.cancel(); }
            }
            Ok::<(), std::io::Error>(())
        });
        sim::run(&config, Arc::new(SystemClock), supervisor).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    done
}
