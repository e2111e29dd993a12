use std::collections::BTreeMap;

use super::super::State;
use super::*;
use crate::roles::Environment;
use crate::roles::status::samples::{hurting, well};
use crate::roles::status::view::Status;

fn page(status: Status) -> Page {
    Page {
        workers: status.workers,
        replies: status.replies.unwrap(),
        breakers: status.breakers,
        lag: status.lag,
        desks: status.desks,
        quota: status.quota.unwrap(),
        drafts: 0,
        attention: 0,
        dead_letters: 0,
    }
}

#[test]
fn workers_and_desks_are_judged() {
    assert!(people(&page(well())).iter().all(|finding| finding.state == State::Ok));
    let found = people(&page(hurting()));
    for (check, words) in [
        ("workers", "south-9 is silent"),
        ("breakers", "model is left alone"),
        ("desks", "ben is silent"),
        ("desks", "journal of cleo"),
    ] {
        let told = |finding: &&Finding| finding.check == check && finding.what.contains(words);
        assert_eq!(found.iter().find(told).map(|finding| finding.state), Some(State::Problem), "{words}: {found:#?}");
    }
    let mut upgrading = well();
    upgrading.workers[0].version = "0.4.0".to_owned();
    assert_eq!(people(&page(upgrading))[0].state, State::Note);
}

#[test]
fn clocks_that_are_apart_are_told_by_how_much_it_matters() {
    for (seconds, state) in [(0.1, State::Ok), (-1.9, State::Ok), (2.5, State::Note), (-30.0, State::Problem)] {
        assert_eq!(judge_skew("clock", "its", seconds).state, state);
    }
    assert!(judge_skew("clock", "its", -30.0).what.contains("behind"));
}

#[tokio::test]
async fn on_a_single_machine_there_is_no_cluster_to_look_at() {
    let home = tempfile::tempdir().unwrap();
    let environment = BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]);
    let findings = examine(&Context::gather(None, None, false, Environment(environment)).unwrap()).await;
    for check in ["kafka", "ledger", "workers"] {
        let found = findings.findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(found.state, State::Note, "{findings:#?}");
    }
    assert!(findings.findings.iter().all(|finding| finding.check != "display"), "no desk is looked at");
}

#[tokio::test]
async fn a_models_server_is_tried_and_one_behind_a_proxy_is_not() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    let provider = |name: &str, url: &str| {
        format!("[generation.providers.{name}]\nkind = 'chat_completions'\nbase_url = '{url}'\nmodel = 'm'\n")
    };
    let text = format!(
        "[generation]\nchain = ['there', 'gone', 'far', 'canned']\n{}{}{}",
        provider("there", &format!("http://{}/v1", listener.local_addr().unwrap())),
        provider("gone", &format!("http://{free}/v1")),
        provider("far", "https://model.example/v1"),
    );
    std::fs::write(&file, text).unwrap();
    let environment = BTreeMap::from([("HTTPS_PROXY".to_owned(), "http://proxy.example:3128".to_owned())]);
    let context = Context::gather(Some(file), None, false, Environment(environment)).unwrap();
    let found: BTreeMap<_, _> =
        providers(&context).await.into_iter().map(|finding| (finding.check.clone(), finding)).collect();
    let state = |name: &str| found[&format!("provider {name}")].state;
    assert_eq!((state("there"), state("gone"), state("far")), (State::Ok, State::Problem, State::Note), "{found:#?}");
    assert_eq!(found.len(), 3, "what needs no server is not looked at");
}
