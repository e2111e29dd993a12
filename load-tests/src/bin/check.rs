//! Judges a run from outside; see `autoreply_load_tests::checker`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use autoreply_load_tests::checker::load::{Places, load};
use autoreply_load_tests::checker::{Allowed, Verdict, judge};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Judges a run from outside: what was planned, what was shown, what the ledger and the topics hold.")]
struct Arguments {
    /// The run's directory; verdict.json is written into it.
    run: PathBuf,
    /// The ledger: postgres://..., or the path of a SQLite file.
    #[arg(long)]
    ledger: String,
    /// Kafka's addresses. Without them the topics are not judged.
    #[arg(long)]
    brokers: Option<String>,
    /// The prefix of the topics' names.
    #[arg(long, default_value = "autoreply")]
    topic_prefix: String,
    /// A desk's journal; may be repeated.
    #[arg(long = "journal")]
    journals: Vec<PathBuf>,
    /// A directory of logs and metrics in which no word of the plan may stand; may be repeated.
    #[arg(long)]
    logs: Vec<PathBuf>,
    /// A reply that names no message and is allowed (a canned rule's, an acknowledgement); may be repeated.
    #[arg(long = "text")]
    texts: Vec<String>,
    /// So many dead letters were planted.
    #[arg(long, default_value_t = 0)]
    dead_letters: usize,
    /// So many messages may have been recorded as history.
    #[arg(long, default_value_t = 0)]
    history: usize,
    /// What is open and within its deadline is no fault.
    #[arg(long)]
    open: bool,
    /// A deadline counts as missed so much later.
    #[arg(long, default_value_t = 5_000)]
    grace_ms: i64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "check: {why}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    let Arguments { run, ledger, brokers, topic_prefix, journals, logs, .. } = arguments;
    let places = Places { run, ledger, brokers, topic_prefix, journals, logs };
    let allowed = Allowed {
        texts: arguments.texts,
        dead_letters: arguments.dead_letters,
        history: arguments.history,
        open: arguments.open,
        grace_ms: arguments.grace_ms,
    };
    let facts = load(&places).await.map_err(|why| why.to_string())?;
    let verdict: Verdict = judge(&facts, &allowed);
    verdict.write(&places.run).map_err(|why| format!("verdict.json cannot be written: {why}"))?;
    writeln!(std::io::stdout(), "{verdict}").map_err(|why| why.to_string())?;
    Ok(verdict.clean)
}
