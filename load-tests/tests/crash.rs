//! The crash table, every row that concerns the cluster (`DESIGN`, section 9): a real `autoreply worker`, real desks'
//! processes and real servers; the process dies by SIGKILL at the point, and the checker judges what came of it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that panics has failed, and it says what came of it"
)]

use std::time::{Duration, Instant};

use autoreply::testing::{self, Server, address};
use autoreply_load_tests::chaos::run::{Faults, judged, rest, wait_for_first_look, write_plan};
use autoreply_load_tests::chaos::{Cluster, Programs, Scale, apply_topics};
use autoreply_load_tests::checker::{Allowed, Verdict};
use autoreply_load_tests::services::{Addresses, Services};
use tempfile::TempDir;

/// How long anything may take on a busy machine. Nothing is measured.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many rows are tried at once: each has a worker, a desk and a model of its own.
static ROOM: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(3);

/// A few conversations on one desk, and models that do as they are asked.
fn scale() -> Scale {
    Scale {
        messages: 16,
        conversations: 4,
        desks: 1,
        desk_processes: 1,
        workers: 2,
        seconds: 4,
        failing_calls: 0.0,
        ..Scale::short()
    }
}

/// The servers that the tests share, or `None` after having said so.
fn shared(test: &str) -> Option<Addresses> {
    Some(Addresses {
        kafka: Some(address(Server::Kafka, test)?),
        postgres: Some(address(Server::Postgres, test)?),
        redis: Some(address(Server::Redis, test)?),
    })
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("crash-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn wait_for(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets everything come to rest, ends it, and has it judged; keeps the directory if the judge finds fault.
async fn conclude(directory: TempDir, mut cluster: Cluster) -> Verdict {
    let rested =
        rest(directory.path(), &mut cluster, &Faults::create(directory.path()).unwrap(), PATIENCE).await.unwrap();
    cluster.dump_metrics().await;
    cluster.end_all();
    let allowed = Allowed { grace_ms: 5_000, ..Allowed::default() };
    let verdict = judged(directory.path(), &cluster, &allowed).await.unwrap();
    if !verdict.clean || !rested {
        let kept = directory.keep();
        panic!("{verdict}\nrested: {rested}; kept in {}, its topics and database on the servers", kept.display());
    }
    cluster.leave_nothing().await.unwrap();
    verdict
}

/// A worker dies at this point, the N-th time it comes there; another one takes over.
async fn worker_dies_at(test: &str, point: &str) {
    let Some(addresses) = shared(test) else { return };
    let _room = ROOM.acquire().await.unwrap();
    let (directory, scale) = (directory(), scale());
    let mut cluster = Cluster::prepare(directory.path(), &scale, &addresses).await.unwrap();
    cluster.start_worker(0, Some(point)).unwrap();
    cluster.start_desks(0, None).unwrap();
    wait_for_first_look(&mut cluster).await.unwrap();
    write_plan(directory.path(), &scale).unwrap();
    wait_for("the worker's death", || cluster.worker_ended(0)).await;
    cluster.kill_worker(0);
    cluster.start_worker(1, None).unwrap();
    let verdict = conclude(directory, cluster).await;
    let confirmed = verdict.counts.effects.get("confirmed").copied().unwrap_or_default();
    assert!(
        confirmed > 0
            && confirmed + verdict.counts.effects.get("superseded").copied().unwrap_or_default()
                == verdict.counts.turns,
        "a dead worker costs no reply: {verdict}"
    );
}

/// The desk's process dies at this point and is started again.
async fn desk_dies_at(test: &str, point: &str) -> Option<Verdict> {
    let addresses = shared(test)?;
    let _room = ROOM.acquire().await.unwrap();
    let (directory, scale) = (directory(), scale());
    let mut cluster = Cluster::prepare(directory.path(), &scale, &addresses).await.unwrap();
    cluster.start_worker(0, None).unwrap();
    cluster.start_desks(0, Some(point)).unwrap();
    wait_for_first_look(&mut cluster).await.unwrap();
    write_plan(directory.path(), &scale).unwrap();
    wait_for("the desk's death", || cluster.desks_ended(0)).await;
    cluster.start_desks(0, None).unwrap();
    Some(conclude(directory, cluster).await)
}

macro_rules! rows {
    ($how:ident: $($name:ident at $point:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let _verdict = $how(stringify!($name), $point).await;
            }
        )*
    };
}

rows! {
    worker_dies_at:
    a_worker_that_dies_with_turns_recorded_is_taken_over at "worker.recorded#2";
    a_worker_that_dies_with_a_draft_stored_is_taken_over at "worker.drafted#3";
    a_reply_that_was_issued_and_not_published_is_published at "worker.issued_unpublished#3";
}

rows! {
    desk_dies_at:
    a_turn_that_was_journalled_and_not_published_is_published at "journal.turn#3";
    a_turn_that_was_published_and_not_acknowledged_is_published_again at "journal.published#3";
    a_command_that_was_accepted_is_typed_after_a_crash at "journal.accepted#3";
    a_desk_that_dies_with_its_intent_journalled_types_once at "executor.intent#3";
    a_desk_that_dies_while_submitting_never_types_again at "executor.submitting#3";
    a_desk_that_dies_after_enter_never_types_again at "executor.entered#3";
    an_outcome_that_was_not_published_is_published at "journal.outcome#3";
    an_outcome_that_was_not_acknowledged_is_published_again at "journal.outcome_published#3";
}

/// Postgres away (a worker dies meanwhile with records that it polled and could not record), Redis gone, and Kafka's
/// disks lost, one after the other, with messages coming in all the time.
#[tokio::test]
async fn servers_that_go_away_or_lose_everything_cost_no_reply() {
    const TEST: &str = "servers_that_go_away_or_lose_everything_cost_no_reply";
    let directory = directory();
    let scale = Scale { messages: 60, seconds: 40, ..scale() };
    let _room = ROOM.acquire().await.unwrap();
    let services = match Services::up(directory.path().join("services"), 1).await {
        Ok(services) => services,
        Err(problem) => return testing::skip(TEST, &problem.to_string()),
    };
    let run = directory.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let mut cluster = Cluster::prepare(&run, &scale, services.addresses()).await.unwrap();
    cluster.start_worker(0, None).unwrap();
    cluster.start_desks(0, None).unwrap();
    wait_for_first_look(&mut cluster).await.unwrap();
    write_plan(&run, &scale).unwrap();
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));

    pause(3).await;
    services.stop("postgres").await.unwrap();
    pause(3).await;
    cluster.kill_worker(0);
    services.start("postgres").await.unwrap();
    cluster.start_worker(1, None).unwrap();
    pause(2).await;
    services.stop("redis").await.unwrap();
    pause(3).await;
    services.start("redis").await.unwrap();
    pause(2).await;
    services.wipe("kafka").await.unwrap();
    pause(2).await;
    services.start("kafka").await.unwrap();
    apply_topics(&Programs::beside_this().unwrap(), &run).await.unwrap();

    let rested = rest(&run, &mut cluster, &Faults::create(&run).unwrap(), PATIENCE).await.unwrap();
    cluster.dump_metrics().await;
    cluster.end_all();
    let verdict = judged(&run, &cluster, &Allowed { grace_ms: 5_000, ..Allowed::default() }).await.unwrap();
    services.remove().await.unwrap();
    if !verdict.clean || !rested {
        let kept = directory.keep();
        panic!("{verdict}\nrested: {rested}; kept in {}", kept.display());
    }
    println!("{verdict}");
    assert!(verdict.counts.effects["confirmed"] * 2 > verdict.counts.turns, "most turns are answered: {verdict}");
}
