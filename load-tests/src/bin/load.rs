//! Runs a load scenario: `load peak`, `load platform --short`. Prints a table; leaves `report.json` and `report.html`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use autoreply::error::Problem;
use autoreply_load_tests::load::run::Programs;
use autoreply_load_tests::load::{Options, Scenario, run};
use autoreply_load_tests::model::raise_file_limit;
use clap::Parser;

/// Puts workers under a planned load and measures from outside.
#[derive(Debug, Parser)]
#[command(name = "load", version, max_term_width = 100)]
struct Arguments {
    /// platform, mail, peak, concurrent, saturate, rolling, or a file.
    scenario: String,
    /// The short form, for tests.
    #[arg(long)]
    short: bool,
    /// Where reports go, one directory a scenario.
    #[arg(long, value_name = "DIRECTORY", default_value = "load-report")]
    reports: PathBuf,
    /// The system under test; without it the one beside this program.
    #[arg(long, value_name = "PROGRAM")]
    autoreply: Option<PathBuf>,
    /// How many workers, instead of the scenario's number.
    #[arg(long)]
    workers: Option<u32>,
    /// Keep the run's topics and database.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    raise_file_limit();
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(code) => code,
        Err(problem) => {
            let _gone = writeln!(std::io::stderr(), "load: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let cannot = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Problem::new(error.to_string(), what, "Check permissions and free memory")
    };
    let mut scenario = Scenario::load(&arguments.scenario)?;
    scenario.workers = arguments.workers.unwrap_or(scenario.workers);
    if arguments.short {
        scenario = scenario.shortened();
    }
    let own = std::env::current_exe().map_err(cannot("this program"))?;
    let beside = |name: &str| own.with_file_name(name);
    let directory = arguments.reports.join(&scenario.name);
    std::fs::create_dir_all(&directory).map_err(cannot("the reports' directory"))?;
    let options = Options {
        directory: directory.canonicalize().map_err(cannot("the reports' directory"))?,
        programs: Programs {
            autoreply: arguments.autoreply.clone().unwrap_or_else(|| beside("autoreply")),
            desks: beside("sim-desks"),
            stub: beside("model-stub"),
        },
        keep: arguments.keep,
        bar: true,
        short: arguments.short,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot("the runtime"))?;
    let report = runtime.block_on(run(&scenario, &options))?;
    let _gone =
        write!(std::io::stdout(), "{}\nreport: {}\n", report.table(), options.directory.join("report.html").display());
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
