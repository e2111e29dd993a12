//! The chaos run; see `autoreply_load_tests::chaos`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use autoreply_load_tests::chaos::{Ran, Scale, report, run};
use autoreply_load_tests::services::Services;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Parser)]
#[command(
    about = "Kills, stops and wipes the parts of a whole cluster under load, and judges what came of it.",
    after_help = "Everything is left in the directory: plan, applications, journals, logs, verdict.json, report.html."
)]
struct Arguments {
    /// Where the report and everything else is written; what an earlier run left there is removed.
    #[arg(long, default_value = "chaos-report")]
    directory: PathBuf,
    /// The short form that the tests run.
    #[arg(long)]
    short: bool,
    /// What all chance is drawn from.
    #[arg(long)]
    seed: Option<u64>,
    /// About how many messages are written.
    #[arg(long)]
    messages: Option<u32>,
    /// How long messages are written and things are broken, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Arguments {
    fn scale(&self) -> Scale {
        let mut scale = if self.short { Scale::short() } else { Scale::full() };
        scale.seed = self.seed.unwrap_or(scale.seed);
        scale.messages = self.messages.unwrap_or(scale.messages);
        scale.seconds = self.seconds.unwrap_or(scale.seconds);
        scale
    }
}

// One thread: this process only starts and watches others.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match chaos(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "chaos: {why}");
            ExitCode::from(2)
        }
    }
}

async fn chaos(arguments: &Arguments) -> Result<bool, String> {
    let scale = arguments.scale();
    if arguments.directory.join("run").exists() {
        std::fs::remove_dir_all(arguments.directory.join("run"))
            .map_err(|why| format!("an earlier run cannot be removed: {why}"))?;
    }
    std::fs::create_dir_all(arguments.directory.join("run"))
        .map_err(|why| format!("{} cannot be made: {why}", arguments.directory.display()))?;
    let directory = arguments.directory.canonicalize().map_err(|why| why.to_string())?;
    let bar = ProgressBar::new(1_000);
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent}% {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar.set_message("bringing up servers");
    let services =
        Services::up(directory.join("services"), scale.brokers).await.map_err(|problem| problem.to_string())?;
    let watch = |done: f64, what: &str| {
        if done >= 0.0 {
            bar.set_position((done * 1_000.0) as u64);
        }
        if !what.is_empty() {
            bar.set_message(what.to_owned());
        }
    };
    let ran = run(&directory.join("run"), &scale, &services, &watch).await;
    bar.finish_and_clear();
    let removed = services.remove().await;
    let ran = ran.map_err(|problem| problem.to_string())?;
    removed.map_err(|problem| problem.to_string())?;
    report::write(&directory, &scale, &ran).map_err(|why| format!("the report cannot be written: {why}"))?;
    tell(&ran).map_err(|why| why.to_string())?;
    writeln!(std::io::stdout(), "the report is {}", directory.join("report.html").display())
        .map_err(|why| why.to_string())?;
    Ok(ran.verdict.clean && ran.rested)
}

fn tell(ran: &Ran) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", ran.verdict)?;
    writeln!(out, "models: {}", ran.model_calls)?;
    let rest = if ran.rested { "everything came to rest" } else { "it did NOT come to rest" };
    writeln!(out, "it took {} s; {rest}", ran.took.as_secs())
}
