//! Two desks with a HexChat each, two workers, real servers, and a model in a process of its own: one worker is killed
//! while it waits for the model, and each peer still gets its reply, once.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use autoreply::testing::collector::Collector;
use autoreply::testing::{Server, address};
use autoreply_rig::PeerHandle;
use autoreply_rig::child::{Kin, tied};
use sqlx::{Connection as _, Row as _};

use crate::harness::{Bench, PATIENCE, PROGRAM, ask_at, heard_from, skip, wait_for};
use crate::traces::{follow, hold_no};

/// How long the model takes: time enough to find out which worker waits for it, and to kill that one.
const MODEL_MS: u32 = 6_000;
/// What the stub answers when no token is asked about.
const ANSWER: &str = "Noted";

/// The servers that all parts share, with names of this test's own on them.
pub(crate) struct Cluster {
    settings: String,
    database: String,
    model: Kin,
    collector: Collector,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    pub(crate) fn up(test: &str) -> Option<Self> {
        let [kafka, postgres, redis] = [Server::Kafka, Server::Postgres, Server::Redis].map(|kind| address(kind, test));
        let (Some(kafka), Some(postgres), Some(redis)) = (kafka, postgres, redis) else {
            skip(test, "it needs Kafka, PostgreSQL and Redis");
            return None;
        };
        let stub = Path::new(PROGRAM).with_file_name("model-stub");
        assert!(stub.exists(), "{} is missing; build it with cargo build -p autoreply-load-tests", stub.display());
        let directory = tempfile::Builder::new().prefix("it-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let name = format!("it_{}", uuid::Uuid::new_v4().simple());
        let database = runtime.block_on(create_database(&postgres, &name));
        let (model, model_address) = start_model(&stub, directory.path());
        let collector = Collector::start().unwrap();
        let endpoint = collector.endpoint();
        let settings = format!(
            r#"
telemetry.otlp_endpoint = "{endpoint}"
stream.brokers = "{kafka}"
stream.topic_prefix = "{name}"
stream.worker_group = "{name}"
ledger.url = "{database}"
limits.redis_url = "{redis}"
limits.redis_prefix = "{name}"
limits.replies_per_minute = 60
limits.burst = 20
saga.reply_deadline_ms = 15000
saga.lease_ms = 20000
generation.chain = ["stub"]
generation.providers.stub = {{ kind = "chat_completions", base_url = "http://{model_address}/v1", model = "stub" }}
telemetry.log_format = "json"
telemetry.log_filter = "info,autoreply=debug"
"#
        );
        let cluster = Self { settings, database, model, collector, directory, runtime };
        for words in [&["topics", "apply", "--yes"][..], &["migrate"]] {
            let output = cluster.command("prepare", words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Some(cluster)
    }

    /// `autoreply` with these words, in surroundings of its own.
    pub(crate) fn command(&self, name: &str, words: &[&str]) -> Command {
        let (config, home) = (self.directory.path().join(format!("{name}.toml")), self.directory.path().join(name));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(&config, &self.settings).unwrap();
        let mut command = tied(PROGRAM);
        for (variable, place) in [("HOME", "."), ("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")] {
            command.env(variable, home.join(place));
        }
        command.env("XDG_RUNTIME_DIR", &home).env("USER", "tester").arg("--config").arg(config).args(words);
        command
    }

    pub(crate) fn worker(&self, name: &str) -> Kin {
        let kin = Kin::start(name, self.command(name, &["worker"]), &self.log(name), false).unwrap();
        wait_for("the worker's socket", || {
            self.command(name, &["sagas", "list"]).output().unwrap().status.success().then_some(())
        });
        kin
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// The rows of `query`, each a text.
    fn ask_ledger(&self, query: &'static str) -> Vec<String> {
        self.runtime.block_on(async {
            let mut connection = sqlx::PgConnection::connect(&self.database).await.unwrap();
            let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect()
        })
    }
}

async fn create_database(server: &str, name: &str) -> String {
    let mut connection = sqlx::PgConnection::connect(server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (head, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{head}/{name}")
}

fn start_model(program: &Path, directory: &Path) -> (Kin, String) {
    let mut command = tied(program);
    command.args(["--latency-ms", &MODEL_MS.to_string()]).stdin(Stdio::null());
    let mut kin = Kin::start("model", command, &directory.join("model.log"), true).unwrap();
    let mut line = String::new();
    BufReader::new(kin.take_output().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = ready["address"].as_str().expect("the stub says where it listens").to_owned();
    (kin, address)
}

pub(crate) fn kill(mut kin: Kin) {
    assert!(Command::new("kill").args(["-KILL", &kin.pid().to_string()]).status().unwrap().success());
    assert!(kin.ended_within(PATIENCE));
}

/// What one desk needs for the test: its bench, its peer, and its account.
fn desk(test: &str, cluster: &Cluster, id: &str, account: &str) -> Option<(Bench, PeerHandle)> {
    // Only the stream and the collector are shared; a desk knows neither ledger nor model.
    let shares = |line: &&str| line.starts_with("stream.") || line.starts_with("telemetry.otlp");
    let shared: String = cluster.settings.lines().filter(shares).fold(String::new(), |mut settings, line| {
        settings.push_str(line);
        settings.push('\n');
        settings
    });
    let bench = Bench::up_as(test, "desktop", (id, account), &shared)?;
    let peer = bench.peer(&format!("{id}peer"), 0);
    Some((bench, peer))
}

#[test]
fn two_desks_are_answered_once_though_a_worker_is_killed() {
    let test = "two_desks_are_answered_once_though_a_worker_is_killed";
    let Some(mut cluster) = Cluster::up(test) else { return };
    let Some((east, mut alice)) = desk(test, &cluster, "east", "autoeast") else { return };
    let Some((west, mut bob)) = desk(test, &cluster, "west", "autowest") else { return };
    let mut workers = vec![cluster.worker("worker-1"), cluster.worker("worker-2")];
    let (on_east, on_west) = (east.start(), west.start());
    east.wait_aligned("eastpeer");
    west.wait_aligned("westpeer");

    ask_at(&mut alice, "autoeast", "what are your opening hours today");
    ask_at(&mut bob, "autowest", "how much is the price now");
    // Whoever holds the first of them dies while the model is asked.
    let owner = wait_for("a turn in the hands of a worker", || {
        let query = "select lease_owner from sagas where state in ('recorded', 'quota_reserved')";
        cluster.ask_ledger(query).into_iter().next()
    });
    let place = workers
        .iter()
        .position(|worker| owner.ends_with(&format!("-{}", worker.pid())))
        .unwrap_or_else(|| panic!("{owner} is none of the workers"));
    // Not before its part of the trace is safe: the model still takes its time.
    let instance = format!(":{}", workers[place].pid());
    wait_for("the span of what the worker recorded", || {
        let spans = cluster.collector.spans();
        let recorded = spans
            .iter()
            .find(|seen| seen.span.name == "process autoreply.messages" && seen.instance().ends_with(&instance));
        recorded.map(drop)
    });
    kill(workers.remove(place));

    for (peer, account) in [(&alice, "autoeast"), (&bob, "autowest")] {
        wait_for("the reply", || (!heard_from(peer, account).is_empty()).then_some(()));
    }
    wait_for("the end of both replies", || {
        let ended = "select turn::text from sagas where state = 'ended' and effect = 'confirmed'";
        (cluster.ask_ledger(ended).len() == 2).then_some(())
    });
    assert_eq!(cluster.ask_ledger("select turn::text from sagas").len(), 2, "a turn each and no other");
    let taken_over = cluster.ask_ledger("select turn::text from sagas where takeovers > 0");
    assert!(!taken_over.is_empty(), "the dead worker's turn was taken over");
    // Each is one trace through three processes; that of the dead worker's turn goes through four.
    let turns = cluster.ask_ledger("select turn::text from sagas");
    turns.iter().for_each(|turn| follow(&cluster.collector, turn, true));
    hold_no(&cluster.collector, &["what are your opening hours today", "how much is the price now", ANSWER]);
    on_east.stop();
    on_west.stop();
    assert_eq!(heard_from(&alice, "autoeast"), [ANSWER]);
    assert_eq!(heard_from(&bob, "autowest"), [ANSWER]);
    cluster.model.check_alive().unwrap();
    for name in ["worker-1", "worker-2"] {
        let log = std::fs::read_to_string(cluster.log(name)).unwrap();
        assert!(!log.contains("opening hours") && !log.contains("the price") && !log.contains(ANSWER), "{name}: chat");
    }
}
