use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::ledger::SqliteLedger;
use crate::roles::Environment;
use crate::saga::{Ledger as _, WorkerFigures, WorkerWord, Workers as _};

fn context(home: &Path, as_json: bool, more: &[(&str, &str)]) -> Context {
    let mut environment = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Context::gather(None, None, as_json, Environment(environment)).unwrap()
}

fn word(name: &str) -> WorkerWord {
    WorkerWord {
        instance: uuid::Uuid::new_v4(),
        name: name.to_owned(),
        host: "here".to_owned(),
        version: "0.3.0".to_owned(),
        started_at: SystemClock.now(),
        // Long, so that a slow machine does not make it silent.
        interval: Duration::from_secs(600),
        figures: WorkerFigures {
            in_flight: 2,
            permits: 9,
            daily_quota: 77,
            breakers: BTreeMap::from([("model".to_owned(), false)]),
            ..WorkerFigures::default()
        },
    }
}

async fn ledger(home: &Path) -> SqliteLedger {
    let path = home.join(".local/share/autoreply/ledger.sqlite");
    SqliteLedger::open(&path, 1000, Arc::new(SystemClock)).await.unwrap()
}

#[tokio::test]
async fn where_nothing_runs_it_says_so_and_makes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (text, well) = run(&context(home.path(), false, &[])).await;
    assert!(!well && text.starts_with("HURTS: no autoreply runs here."), "{text}");
    assert!(text.contains("autoreply run") && std::fs::read_dir(home.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_single_machine_is_seen_through_its_file_by_the_workers_own_word() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path()).await;
    let (text, well) = run(&context(home.path(), false, &[])).await;
    assert!(!well && text.starts_with("HURTS: no worker runs."), "{text}");
    let mut word = word("here-1");
    ledger.say(&word).await.unwrap();
    let (text, well) = run(&context(home.path(), true, &[])).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(well && told["well"] == true, "{told:#}");
    assert_eq!(
        (told["workers"][0]["name"].as_str(), told["workers"][0]["in_flight"].as_u64()),
        (Some("here-1"), Some(2))
    );
    assert_eq!((told["quota"]["limit"].as_u64(), told["person"]["drafts"].as_u64()), (Some(77), Some(0)));
    assert!(told["group"].is_null() && told["asked"]["brokers"].is_null());

    word.figures.breakers.insert("model".to_owned(), true);
    ledger.say(&word).await.unwrap();
    let (text, well) = run(&context(home.path(), false, &[])).await;
    assert!(!well && text.contains("the provider model is left alone after failures, at 1 of 1 workers"), "{text}");
    ledger.close().await;
}

#[tokio::test]
async fn a_ledger_that_does_not_answer_hurts_and_the_rest_is_told() {
    let home = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://nobody@{free}/nothing");
    let (text, well) = run(&context(home.path(), true, &[("AUTOREPLY__LEDGER__URL", &url)])).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!well && told["hurts"][0]["what"].as_str().unwrap().contains(&url), "{told:#}");
    assert!(told["hurts"][0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
}
