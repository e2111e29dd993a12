//! A rolling restart in its short form: four workers, each stopped in order and replaced while turns come in.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that panics has failed, and it says what came of it"
)]

use std::path::{Path, PathBuf};

use autoreply::testing::{Server, address};
use autoreply_load_tests::load::run::Programs;
use autoreply_load_tests::load::{Options, Scenario, run};

/// The programs above this one: built by whoever built this one.
fn programs() -> Programs {
    let here = std::env::current_exe().unwrap();
    let above = here.parent().and_then(Path::parent).unwrap();
    let of = |name: &str| -> PathBuf { above.join(name) };
    Programs { autoreply: of("autoreply"), desks: of("sim-desks"), stub: of("model-stub") }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_restarted_one_by_one_and_nothing_is_lost_twice_or_late() {
    const TEST: &str = "workers_are_restarted_one_by_one_and_nothing_is_lost_twice_or_late";
    for server in [Server::Kafka, Server::Postgres, Server::Redis] {
        if address(server, TEST).is_none() {
            return;
        }
    }
    let directory = tempfile::Builder::new().prefix("rolling-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let scenario = Scenario::load("rolling").unwrap().shortened();
    let options =
        Options { directory: directory.path().to_owned(), programs: programs(), keep: false, bar: false, short: true };
    let report = match run(&scenario, &options).await {
        Ok(report) if report.is_clean() => report,
        other => {
            let kept = directory.keep();
            println!("{}", other.as_ref().map_or_else(ToString::to_string, |report| report.table()));
            panic!("the rolling restart was not clean; what it left is kept in {}", kept.display());
        }
    };
    println!("{}", report.table());
    // Clean is worth something only if every worker was restarted, under load, and the checker looked at it.
    let rolling = report.rolling.unwrap();
    assert_eq!(rolling.restarts.len(), 4);
    assert!(rolling.slowest_ms >= scenario.model_ms as i64 && rolling.slowest_ms <= rolling.deadline_ms);
    assert_eq!((report.tally.planned, report.tally.unanswered), (report.tally.answered, 0));
    assert!(report.tally.planned > 300, "too few messages prove nothing: {}", report.tally.planned);
    assert_eq!(report.verdict.len(), 13, "every promise was judged");
    // A process is caught saying that it is not ready any more, before it ends.
    assert!(rolling.restarts.iter().any(|(restart, _)| restart.unready_ms.is_some()), "{:?}", rolling.restarts);
}
