//! Simulated desktops at work: over the embedded broker with a worker in this process, and killed in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoreply::clock::{Clock, SystemClock, to_millis};
use autoreply::contract::DesktopId;
use autoreply::journal::{self, Journal};
use autoreply::lifecycle::Supervisor;
use autoreply::roles::{Context, Environment, worker};
use autoreply::settings::Layers;
use autoreply::stream::Connection;
use autoreply::telemetry::{Metrics, Traces};
use autoreply::testing::{Server, address};
use autoreply_load_tests::facts::{self, AppLine, Planned, Side, token};
use autoreply_load_tests::model::{Script, Stub};
use autoreply_load_tests::plan::DeskPlan;
use autoreply_load_tests::sim::{self, Config};

const PEERS: [&str; 3] = ["ann", "bob", "cid"];

/// A worker's settings: its model is the stub, and nothing limits it.
fn worker_settings(directory: &Path, brokers: &str, extra: &str, model: std::net::SocketAddr) -> String {
    format!(
        "{extra}\n[ledger]\npath = \"{ledger}\"\ndaily_quota = 1000000\n[stream]\nbrokers = \"{brokers}\"\n\
         [limits]\nreplies_per_minute = 100000\nburst = 10000\n[generation]\nchain = [\"stub\"]\n\
         [generation.providers.stub]\nkind = \"chat_completions\"\nbase_url = \"http://{model}/v1\"\nmodel = \"m\"\n",
        ledger = directory.join("ledger.sqlite").display(),
    )
}

fn context(directory: &Path, settings: &str) -> Context {
    let file = directory.join("worker.toml");
    std::fs::write(&file, settings).unwrap();
    let home = ("HOME".to_owned(), directory.display().to_string());
    let layers = Layers::load(Some(&file), []).unwrap();
    let environment = Environment(BTreeMap::from([home]));
    Context { layers, environment, config: Some(file), socket: None, json: false }
}

fn config(directory: &Path, brokers: &str) -> Config {
    let desks = vec![DeskPlan { name: "desk-000".to_owned(), peers: PEERS.map(str::to_owned).to_vec() }];
    let text = "name = 'desks'\ndirectory = ''\nbrokers = ''\ndesks = []\nseed = 5";
    Config { directory: directory.to_owned(), brokers: brokers.to_owned(), desks, ..toml::from_str(text).unwrap() }
}

fn write_plan(directory: &Path, messages: u64, gap_ms: i64) {
    let begin = to_millis(SystemClock.now()) + 100;
    let beside = directory.join("plan.new");
    let mut file = std::fs::File::create(&beside).unwrap();
    for number in 0..messages {
        let (desktop, peer) = ("desk-000".to_owned(), PEERS[number as usize % PEERS.len()].to_owned());
        let at_ms = begin + number as i64 * gap_ms;
        facts::append(&mut file, &Planned { number, token: token(number), desktop, peer, at_ms }).unwrap();
    }
    std::fs::rename(beside, directory.join(facts::PLAN_FILE)).unwrap();
}

fn lines(directory: &Path) -> Vec<AppLine> {
    facts::read(&directory.join(facts::APPS_DIRECTORY).join("desk-000.jsonl")).unwrap_or_default()
}

/// How often each message was answered, by its token.
fn answers(directory: &Path) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for line in lines(directory).iter().filter(|line| line.side == Side::Own) {
        facts::tokens(&line.text).iter().for_each(|token| *answers.entry((*token).to_owned()).or_default() += 1);
    }
    answers
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_plan_is_answered_once_in_the_application() {
    let directory = tempfile::tempdir().unwrap();
    let stub = Stub::start(Script::answering_after(20)).await.unwrap();
    let context = context(directory.path(), &worker_settings(directory.path(), "embedded", "", stub.address));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let connection = Connection::open(&context.layers.section("stream").unwrap()).unwrap();
    let mut supervisor = Supervisor::default();
    let stop = supervisor.stop_token();
    let metrics = Arc::new(Metrics::new());
    let running =
        worker::start(&context, &connection, &mut supervisor, &metrics, &clock, &Traces::default()).await.unwrap();
    let config = config(directory.path(), "embedded");
    let journals = sim::start(&config, &connection, &mut supervisor, &clock).await.unwrap();
    wait_for("the first looks", || directory.path().join(sim::READY_DIRECTORY).join("desks").exists()).await;
    write_plan(directory.path(), 20, 60);

    wait_for("20 answers", || answers(directory.path()).len() == 20).await;
    let began = Instant::now();
    for journal in &journals {
        while journal.sizes().await.unwrap().open_turns > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "a turn stays open");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    stop.cancel();
    supervisor.run(Duration::from_secs(10)).await.unwrap();
    running.finish(worker::DRAIN_AT_THE_DESK).await;
    let shown = lines(directory.path());
    assert_eq!(shown.iter().filter(|line| line.side == Side::Peer).count(), 20);
    assert!(answers(directory.path()).values().all(|count| *count == 1), "{:?}", answers(directory.path()));
    let mut waiting: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &shown {
        let asked = waiting.entry(&line.peer).or_default();
        match line.side {
            Side::Peer => asked.extend(facts::tokens(&line.text)),
            Side::Own => facts::tokens(&line.text).iter().for_each(|token| {
                assert_eq!(asked.remove(0), *token, "answered in another window, or out of order");
            }),
        }
    }
}

/// A process of desks that can be killed.
struct Child(std::process::Child);

impl Child {
    fn start(config: &Config) -> Self {
        let file = config.directory.join("desks.toml");
        std::fs::write(&file, toml::to_string(config).unwrap()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sim-desks"));
        Self(command.arg("--config").arg(file).spawn().unwrap())
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Something stands in an input: a reply is being typed.
fn is_typing(directory: &Path) -> bool {
    std::fs::read_to_string(directory.join("inputs/desk-000.json")).is_ok_and(|text| text.len() > 2)
}

async fn sizes(directory: &Path, config: &Config) -> journal::Sizes {
    let settings: journal::Settings = config.layers().unwrap().section("journal").unwrap();
    let (path, desk) = (directory.join("journals/desk-000.db"), DesktopId::try_from("desk-000".to_owned()).unwrap());
    let journal = Journal::open(&path, desk, settings.turns()).await.unwrap();
    let sizes = journal.sizes().await.unwrap();
    journal.close().await;
    sizes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn desks_that_are_killed_while_they_type_go_on_and_send_nothing_twice() {
    const KILLS: usize = 4;
    let Some(brokers) = address(Server::Kafka, "desks_that_are_killed_while_they_type") else { return };
    let directory = tempfile::tempdir().unwrap();
    let stub = Stub::start(Script::answering_after(20)).await.unwrap();
    let prefix = format!("desks-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let settings = worker_settings(directory.path(), &brokers, "", stub.address)
        .replace("[stream]\n", &format!("[stream]\ntopic_prefix = \"{prefix}\"\nworker_group = \"{prefix}\"\n"));
    let context = context(directory.path(), &settings);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let connection = Connection::open(&context.layers.section("stream").unwrap()).unwrap();
    connection.apply_topics(&connection.plan_topics().await.unwrap()).await.unwrap();
    let mut supervisor = Supervisor::default();
    let stop = supervisor.stop_token();
    let metrics = Arc::new(Metrics::new());
    let running =
        worker::start(&context, &connection, &mut supervisor, &metrics, &clock, &Traces::default()).await.unwrap();

    let config = Config { topic_prefix: prefix.clone(), typing_ms: 300, ..config(directory.path(), &brokers) };
    let mut child = Child::start(&config);
    wait_for("the first looks", || directory.path().join(sim::READY_DIRECTORY).join("desks").exists()).await;
    write_plan(directory.path(), 20, 150);
    for kill in 0..KILLS {
        wait_for("somebody types", || is_typing(directory.path())).await;
        // Another moment of the typing each time; the last one is over it.
        tokio::time::sleep(Duration::from_millis(100 * kill as u64)).await;
        child.kill();
        child = Child::start(&config);
    }
    // A reply whose Enter was allowed when its desk died may stay unsent; it is never typed again.
    wait_for("the rest of the answers", || answers(directory.path()).len() >= 20 - KILLS).await;
    wait_for("nobody types", || !is_typing(directory.path())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(child);
    stop.cancel();
    supervisor.run(Duration::from_secs(10)).await.unwrap();
    running.finish(worker::DRAIN_AT_THE_DESK).await;
    autoreply_load_tests::load::servers::Topics::new(&brokers, &prefix).remove().await.unwrap();

    assert_eq!(lines(directory.path()).iter().filter(|line| line.side == Side::Peer).count(), 20);
    assert!(answers(directory.path()).values().all(|count| *count == 1), "{:?}", answers(directory.path()));
    assert_eq!(sizes(directory.path(), &config).await.open_turns, 0);
}
