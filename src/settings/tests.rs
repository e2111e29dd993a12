use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    poll_ms: u64,
    name: String,
}

fn sample() -> (Table, Layers) {
    let defaults: Table = "[sample]\npoll_ms = 100\nname = \"a\"\n".parse().unwrap();
    (defaults.clone(), Layers { merged: defaults, origins: BTreeMap::new() })
}

#[test]
fn later_layers_win_and_a_wrong_type_names_the_layer() {
    let (defaults, mut layers) = sample();
    layers.apply_file(&defaults, b"[sample]\npoll_ms = 5\n", "my.toml").unwrap();
    assert_eq!(layers.section::<Sample>("sample").unwrap().poll_ms, 5);
    layers.apply_variable(&defaults, "AUTOREPLY__SAMPLE__POLL_MS", "7").unwrap();
    layers.apply_variable(&defaults, "AUTOREPLY__SAMPLE__NAME", "12345").unwrap();
    let read = layers.section::<Sample>("sample").unwrap();
    assert_eq!((read.poll_ms, read.name.as_str()), (7, "12345"));
    layers.apply_variable(&defaults, "AUTOREPLY__SAMPLE__POLL_MS", "soon").unwrap();
    let problem = layers.section::<Sample>("sample").unwrap_err().to_string();
    assert!(problem.contains("AUTOREPLY__SAMPLE__POLL_MS") && problem.contains("sample.poll_ms"), "{problem}");
}

#[test]
fn an_unknown_key_names_the_place_and_the_nearest_key() {
    let (defaults, mut layers) = sample();
    let problem = layers.apply_file(&defaults, b"[sample]\npol_ms = 5\n", "my.toml").unwrap_err().to_string();
    assert!(
        problem.contains("my.toml") && problem.contains("sample.pol_ms") && problem.contains("sample.poll_ms"),
        "{problem}"
    );
    let problem = layers.apply_variable(&defaults, "AUTOREPLY__SAMPLE__NAM", "x").unwrap_err().to_string();
    assert!(problem.contains("AUTOREPLY__SAMPLE__NAM") && problem.contains("sample.name"), "{problem}");
}

#[test]
fn broken_toml_names_its_line() {
    let (defaults, mut layers) = sample();
    let problem = layers.apply_file(&defaults, b"[sample]\n\npoll_ms = = 5\n", "my.toml").unwrap_err();
    assert_eq!(problem.place, "my.toml, line 3");
}

#[test]
fn a_missing_file_is_told() {
    let problem = Layers::load(Some(Path::new("does/not/exist.toml")), []).unwrap_err();
    assert!(problem.to_string().contains("does/not/exist.toml"));
}

proptest! {
    #[test]
    fn any_bytes_end_in_settings_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (defaults, mut layers) = sample();
        if let Err(problem) = layers.apply_file(&defaults, &bytes, "my.toml") {
            prop_assert!(problem.to_string().contains("my.toml"));
        }
    }

    #[test]
    fn any_variable_ends_in_settings_or_a_problem(name in "AUTOREPLY__[A-Z_]{0,20}", value in ".*") {
        let (defaults, mut layers) = sample();
        if let Err(problem) = layers.apply_variable(&defaults, &name, &value) {
            prop_assert!(problem.to_string().contains(&name));
        }
    }
}
