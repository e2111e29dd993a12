use std::collections::BTreeMap;

use super::*;
use crate::roles::Environment;

/// A machine with a home and what `more` adds.
fn context(home: &std::path::Path, more: &[(&str, &str)]) -> Context {
    let mut environment = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Context::gather(None, None, false, Environment(environment)).unwrap()
}

fn found<'a>(findings: &'a Findings, check: &str) -> &'a Finding {
    findings
        .findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("no {check}: {findings:#?}"))
}

#[cfg(feature = "desktop")]
#[tokio::test]
async fn a_bare_machine_is_told_each_thing_and_its_remedy() {
    let home = tempfile::tempdir().unwrap();
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let more = [("TESSDATA_PREFIX", empty.to_str().unwrap()), ("OMP_THREAD_LIMIT", "4")];
    let findings = examine(&context(home.path(), &more), None).await;
    assert!(!findings.well());
    for (check, what, remedy) in [
        ("display", "there is no display", "DISPLAY"),
        ("language data", "eng", "tesseract-ocr-eng"),
        ("recognition threads", "OMP_THREAD_LIMIT", "OMP_THREAD_LIMIT=1"),
        ("accessibility", "no session bus", "DBUS_SESSION_BUS_ADDRESS"),
        ("own names", "own_names", "[desktop]"),
    ] {
        let finding = found(&findings, check);
        assert_eq!(finding.state, State::Problem, "{finding:?}");
        assert!(finding.what.contains(what), "{finding:?}");
        assert!(finding.remedy.as_ref().unwrap().contains(remedy), "{finding:?}");
    }
    for check in ["settings", "data directory", "free space", "clock", "running process"] {
        assert_eq!(found(&findings, check).state, State::Ok);
    }
    let text = findings.text(false);
    assert!(text.contains("PROBLEM  display") && text.contains("-> ") && text.ends_with("to be mended.\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&findings.text(true)).unwrap();
    assert_eq!(json["well"], false);
}

#[cfg(feature = "desktop")]
#[tokio::test]
async fn what_is_there_is_well() {
    let home = tempfile::tempdir().unwrap();
    let more = [("OMP_THREAD_LIMIT", "1"), ("AUTOREPLY__DESKTOP__OWN_NAMES", "['me']")];
    let findings = examine(&context(home.path(), &more), None).await;
    for check in ["language data", "recognition threads", "own names"] {
        assert_eq!(found(&findings, check).state, State::Ok, "{findings:#?}");
    }
}

#[cfg(feature = "desktop")]
#[tokio::test]
async fn wayland_and_a_display_that_is_gone_are_told() {
    let home = tempfile::tempdir().unwrap();
    let wayland = examine(&context(home.path(), &[("WAYLAND_DISPLAY", "wayland-0")]), None).await;
    assert!(found(&wayland, "display").what.contains("Wayland"));
    let gone = examine(&context(home.path(), &[("DISPLAY", ":4095")]), None).await;
    assert!(found(&gone, "display").what.contains(":4095"));
}

#[tokio::test]
async fn settings_that_do_not_fit_and_a_home_that_is_not_there_are_told() {
    let home = tempfile::tempdir().unwrap();
    let not_a_directory = home.path().join("file");
    std::fs::write(&not_a_directory, "").unwrap();
    let more = [
        ("AUTOREPLY__STREAM__COMPRESSION", "zip"),
        ("XDG_DATA_HOME", "/proc/1/no"),
        ("XDG_RUNTIME_DIR", home.path().to_str().unwrap()),
    ];
    let findings = examine(&context(home.path(), &more), None).await;
    assert!(found(&findings, "settings").what.contains("stream.compression"), "{findings:#?}");
    assert_eq!(found(&findings, "data directory").state, State::Problem);
    // A socket that nobody listens on.
    std::fs::write(home.path().join("autoreply.sock"), "").unwrap();
    let findings = examine(&context(home.path(), &more), None).await;
    assert!(found(&findings, "running process").what.contains("left over"));
}

#[cfg(feature = "worker")]
#[tokio::test]
async fn a_key_that_is_not_there_is_told_and_never_shown() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    std::fs::write(
        &file,
        "[generation]\nchain = ['m']\n[generation.providers.m]\nkind = 'chat_completions'\nbase_url = \
         'https://x.example/v1'\nmodel = 'm'\napi_key_env = 'MY_KEY'\n",
    )
    .unwrap();
    let look = async |environment: BTreeMap<String, String>| {
        examine(&Context::gather(Some(file.clone()), None, false, Environment(environment)).unwrap(), None).await
    };
    let without = look(BTreeMap::new()).await;
    assert!(found(&without, "generation").what.contains("MY_KEY"), "{without:#?}");
    let with = look(BTreeMap::from([("MY_KEY".to_owned(), "sesame-1".to_owned())])).await;
    assert_eq!(found(&with, "generation").state, State::Ok, "{with:#?}");
    assert!(!with.text(true).contains("sesame") && !with.text(false).contains("sesame"));
}

#[tokio::test]
async fn a_check_that_hangs_is_ended() {
    let hung = bounded("the bus", std::future::pending()).await;
    assert!(hung[0].state == State::Problem && hung[0].what.contains("no answer"));
}
