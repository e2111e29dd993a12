//! Looking at a cluster from a machine that runs nothing: `status`, `top` and `doctor --cluster`, against real servers,
//! while workers come, die and leave.

use std::process::Command;

use crate::cluster::{Cluster, kill};
use crate::harness::{PATIENCE, wait_for};

/// What a command says in JSON, and whether it ended well.
fn ask(cluster: &Cluster, words: &[&str]) -> (serde_json::Value, bool) {
    let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
    let output = cluster.command("looker", &words).output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    (told.unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}")), output.status.success())
}

fn hurts(status: &serde_json::Value) -> Vec<String> {
    let hurts = status["hurts"].as_array().unwrap();
    hurts.iter().map(|hurt| hurt["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_cluster_is_seen_from_a_machine_that_runs_nothing() {
    let Some(cluster) = Cluster::up("a_cluster_is_seen_from_a_machine_that_runs_nothing") else { return };
    let (status, well) = ask(&cluster, &["status"]);
    assert!(!well && hurts(&status) == ["no worker runs"], "{status:#}");

    let (first, mut second) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    let status = wait_for("a status that is well with both workers in their group", || {
        let (status, well) = ask(&cluster, &["status"]);
        let members = status["group"]["members"].as_array().map_or(0, Vec::len);
        (well && members == 2 && status["group"]["state"] == "Stable").then_some(status)
    });
    assert_eq!(status["workers"].as_array().unwrap().len(), 2, "{status:#}");
    let pids = [first.pid(), second.pid()].map(|pid| format!("-{pid}"));
    let named = |pid: &String| {
        status["workers"].as_array().unwrap().iter().any(|worker| worker["name"].as_str().unwrap().ends_with(pid))
    };
    assert!(pids.iter().all(named), "{status:#}");
    assert_eq!(status["breakers"][0]["provider"], "stub");
    assert_eq!(status["lag"].as_array().unwrap().len(), 3);
    assert_eq!(status["person"]["dead_letters"], 0);

    let (frame, _) = ask(&cluster, &["top", "--once"]);
    assert!(frame["rates"]["turns"].is_number() && frame["workers"].is_array(), "{frame:#}");
    let drawn = cluster.command("looker", &["top", "--every", "0.2"]).output().unwrap();
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.contains("Workers (2)") && !drawn.contains('\u{1b}'), "{drawn}");

    let (found, well) = ask(&cluster, &["doctor", "--cluster"]);
    assert!(well, "{found:#}");
    let state = |check: &str| {
        let all = found["findings"].as_array().unwrap();
        all.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("no {check}: {found:#}"))["state"].clone()
    };
    for check in ["settings", "kafka", "topics", "worker group", "ledger", "ledger clock", "ledger pool", "workers"] {
        assert_eq!(state(check), "ok", "{check}: {found:#}");
    }
    assert_eq!(state("provider stub"), "ok", "{found:#}");

    kill(first);
    wait_for("the dead worker told as silent", || {
        let (status, well) = ask(&cluster, &["status"]);
        (!well && hurts(&status).iter().any(|hurt| hurt.contains("silent"))).then_some(())
    });
    assert!(Command::new("kill").args(["-TERM", &second.pid().to_string()]).status().unwrap().success());
    assert!(second.ended_within(PATIENCE));
    let (status, _) = ask(&cluster, &["status"]);
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "one that stops takes its row away: {status:#}");
    assert!(hurts(&status).contains(&"no worker runs".to_owned()), "{status:#}");
    let (problem, well) = {
        let output = cluster.command("looker", &["--json", "desks"]).output().unwrap();
        (serde_json::from_slice::<serde_json::Value>(&output.stderr).unwrap(), output.status.success())
    };
    assert!(!well && problem["error"]["remedy"].is_string(), "{problem:#}");
}
