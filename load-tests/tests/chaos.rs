//! The chaos run in its short form, on servers of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that panics has failed, and it says what came of it"
)]

use autoreply::testing;
use autoreply_load_tests::chaos::{Scale, run};
use autoreply_load_tests::services::Services;

/// The current thread: the run only starts and watches processes.
#[tokio::test]
async fn nothing_is_lost_or_sent_twice_while_everything_is_killed_stopped_and_wiped() {
    const TEST: &str = "nothing_is_lost_or_sent_twice_while_everything_is_killed_stopped_and_wiped";
    let directory = tempfile::Builder::new().prefix("chaos-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let scale = Scale::short();
    let services = match Services::up(directory.path().join("services"), scale.brokers).await {
        Ok(services) => services,
        Err(problem) => return testing::skip(TEST, &problem.to_string()),
    };
    let run_directory = directory.path().join("run");
    std::fs::create_dir(&run_directory).unwrap();
    let ran = run(&run_directory, &scale, &services, &|_, what| {
        if !what.is_empty() {
            println!("{what}");
        }
    })
    .await;
    services.remove().await.unwrap();
    let kept = |ran: &dyn std::fmt::Debug| format!("{ran:?}; what the run left is kept in {}", run_directory.display());
    let ran = match ran {
        Ok(ran) if ran.verdict.clean && ran.rested => ran,
        other => {
            let _kept = directory.keep();
            if let Ok(ran) = &other {
                println!("{}", ran.verdict);
            }
            panic!("{}", kept(&other.err()));
        }
    };
    println!("{}\n{}\nit took {} s", ran.verdict, ran.model_calls, ran.took.as_secs());
    let counts = &ran.verdict.counts;
    // How many messages share a turn depends on how busy the machine is.
    assert_eq!(counts.never_shown, 0, "every desk lives at the end");
    assert!(counts.turns >= 3 * scale.conversations as usize, "too few turns to prove anything: {}", counts.turns);
    assert!(counts.answered * 2 > counts.planned, "most messages must be answered, or the run proves little");
    assert_eq!(counts.broken["kill worker"], scale.worker_kills);
    assert_eq!(counts.broken["kill desks"], scale.desk_kills);
    for outage in ["break postgres (restarted)", "break redis (stopped)", "break kafka (disk wiped)"] {
        assert_eq!(counts.broken[outage], 1, "{outage}");
    }
}
