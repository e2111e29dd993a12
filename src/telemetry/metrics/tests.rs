use std::collections::HashSet;
use std::path::Path;

use super::*;

#[test]
fn every_metric_has_help_a_unit_and_a_name_of_its_own() {
    let rows = Metrics::catalogue();
    let names: HashSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len(), "names are unique");
    for Row { name, kind, help, labels, .. } in &rows {
        assert!(help.len() > 10 && help.ends_with('.'), "{name} has no sentence of help");
        assert!(
            name.strip_prefix("autoreply_")
                .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        );
        let units: &[&str] = match *kind {
            "counter" => &["_total"],
            "histogram" => &["_seconds", "_bytes", "_size", "_ratio"],
            _ => &["_bytes", "_seconds", "_ratio", "_info", "_open", "_local", "_records", "_connections", "_ok"],
        };
        assert!(units.iter().any(|unit| name.ends_with(unit)), "{name} is a {kind} without its unit");
        if let Some((_, values)) = labels {
            assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
            assert!(!values.is_empty() && values.len() <= 20, "{name} has too many values");
        }
    }
}

#[test]
fn every_metric_is_exposed_from_the_start_and_counts() {
    let metrics = Metrics::new();
    metrics.clone().replies.of(Outcome::Confirmed).inc();
    metrics.generation.observe(0.3);
    metrics.introduce_providers(["p"]);
    metrics.provider_tokens.of("p", TokenDirection::Output).inc_by(3.0);
    let text = metrics.with_process().render().unwrap();
    for row in Metrics::catalogue() {
        assert!(text.contains(&format!("# HELP {} {}\n", row.name, row.help)), "{}", row.name);
        assert!(text.contains(&format!("# TYPE {} {}\n", row.name, row.kind)));
        let part = if row.kind == "histogram" { "_count" } else { "" };
        let bare = format!("{}{part}", row.name);
        if let Some((label, values)) = &row.labels {
            for value in values.iter().map(|value| format!("{label}=\"{value}\"")) {
                let shown = text.lines().any(|line| line.starts_with(&format!("{bare}{{")) && line.contains(&value));
                assert!(shown, "{} {value}", row.name);
            }
        }
        if row.labels.is_none() && !row.by_provider {
            assert!(text.lines().any(|line| line.starts_with(&format!("{bare} "))), "{}", row.name);
        }
        let of_provider = |line: &str| line.starts_with(&format!("{bare}{{")) && line.contains("provider=\"p\"");
        assert_eq!(text.lines().any(of_provider), row.by_provider, "{}", row.name);
    }
    assert!(text.contains("autoreply_provider_tokens_total{direction=\"output\",provider=\"p\"} 3\n"));
    assert!(text.contains("autoreply_replies_total{effect=\"confirmed\"} 1\n"));
    assert!(text.contains("autoreply_generation_seconds_bucket{le=\"0.5\"} 1\n"));
    assert!(text.contains("autoreply_generation_seconds_bucket{le=\"0.25\"} 0\n"));
    #[cfg(target_os = "linux")]
    assert!(text.contains("process_resident_memory_bytes"));
}

#[test]
fn the_document_is_the_catalogue() {
    let written = include_str!("../../../docs/METRICS.md");
    assert!(written == Metrics::document(), "docs/METRICS.md must be:\n{}", Metrics::document());
}

#[test]
fn labels_whose_values_nobody_wrote_down_have_none_in_the_catalogue() {
    let of = |name: &str| Metrics::catalogue().into_iter().find(|row| row.name == name).unwrap();
    let errors = of("autoreply_provider_errors_total");
    let labels = errors.all_labels();
    assert_eq!(labels[0], ("provider", None));
    assert!(matches!(labels[1], ("kind", Some(values)) if values.contains(&"timeout")));
    assert_eq!(of("autoreply_build_info").all_labels(), [("version", None)]);
    assert!(of("autoreply_turns_due_total").all_labels().is_empty());
}

/// What is counted when the process begins, in this room.
const IN_THIS_ROOM: &[&str] = &["build_info", "spans_exported", "spans_dropped"];

/// The code of a source file: no comments, nothing after the beginning of its tests.
fn code(source: &str) -> String {
    let lines = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines();
    lines.map(str::trim).filter(|line| !line.starts_with("//")).collect()
}

/// Whether this code counts the metric of this field: `.field.inc()`, `.field.of(label)`, and the like.
fn counts(code: &str, field: &str) -> bool {
    ["inc()", "inc_by(", "set(", "observe(", "of("].iter().any(|call| code.contains(&format!(".{field}.{call}")))
}

/// The fields of the catalogue that none of these sources counts.
fn uncounted(sources: &[String]) -> Vec<&'static str> {
    let codes: Vec<_> = sources.iter().map(|source| code(source)).collect();
    let fields = Metrics::catalogue().into_iter().map(|row| row.field).filter(|field| !IN_THIS_ROOM.contains(field));
    fields.filter(|field| !codes.iter().any(|code| counts(code, field))).collect()
}

fn sources_below(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "telemetry" && name != "tests" {
            sources_below(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_metric_is_counted_somewhere() {
    let mut sources = Vec::new();
    sources_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    assert!(sources.len() > 100, "the sources were found");
    assert_eq!(uncounted(&sources), Vec::<&str>::new(), "nothing counts these metrics");
}

#[test]
fn a_metric_that_nothing_counts_is_found() {
    let fields: Vec<_> = Metrics::catalogue().into_iter().map(|row| row.field).collect();
    let all = |but: &str| {
        let one = |field: &&str| if *field == but { String::new() } else { format!("    metrics.{field}.set(1.0);\n") };
        format!("fn count() {{\n{}}}\n", fields.iter().map(one).collect::<String>())
    };
    assert_eq!(uncounted(&[all("nothing")]), Vec::<&str>::new());
    for planted in [
        String::new(),
        "    // metrics.turns_due.inc();\n".to_owned(),
        "    let turns_due = metrics.turns_due_and_more.inc();\n".to_owned(),
        "    metrics.turns_due.get();\n".to_owned(),
        "#[cfg(test)]\nmod tests {\n    fn f() { metrics.turns_due.inc() }\n}\n".to_owned(),
    ] {
        assert_eq!(uncounted(&[all("turns_due"), planted.clone()]), ["turns_due"], "{planted}");
    }
    // A call may stand on a line of its own.
    let broken = "    metrics\n        .turns_due\n        .inc();\n".to_owned();
    assert_eq!(uncounted(&[all("turns_due"), broken]), Vec::<&str>::new());
}
