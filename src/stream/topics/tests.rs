use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::contract::codec::Codec;
use crate::contract::wire::{WireRecord, topic};
use crate::contract::{
    ControlRecord, MessagesDetected, OutcomeRecorded, ReplyOutcome, ReplySend, ReplyWithdraw, TurnRecorded,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> Vec<(&'static str, schemars::Schema)> {
    vec![
        ("messages.detected.v1", schemars::schema_for!(MessagesDetected)),
        ("reply.send.v1", schemars::schema_for!(ReplySend)),
        ("reply.withdraw.v1", schemars::schema_for!(ReplyWithdraw)),
        ("turn.recorded.v1", schemars::schema_for!(TurnRecorded)),
        ("outcome.recorded.v1", schemars::schema_for!(OutcomeRecorded)),
        ("reply.outcome.v1", schemars::schema_for!(ReplyOutcome)),
        ("control.set.v1", schemars::schema_for!(ControlRecord)),
    ]
}

fn example(name: &str) -> Value {
    let path = root().join("topics/examples").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// An example is a whole record: topic, key, headers, and the body as JSON.
fn wire(example: &Value) -> WireRecord {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    WireRecord {
        topic: text(&example["topic"]),
        key: text(&example["key"]).into_bytes(),
        headers: example["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), text(v).into_bytes()))
            .collect(),
        payload: serde_json::to_vec(&example["body"]).unwrap(),
    }
}

#[test]
fn the_files_are_the_five_topics_as_they_were_decided() {
    let topics = all().unwrap();
    let counts: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    let decided = [
        (topic::MESSAGES, 48),
        (topic::COMMANDS, 48),
        (topic::OUTCOMES, 48),
        (topic::CONTROLS, 1),
        (topic::DEAD_LETTERS, 6),
    ];
    assert_eq!(counts, decided);
    for topic in &topics {
        assert!(topic.segment_ms > 0 && !topic.writers.is_empty() && !topic.readers.is_empty(), "{}", topic.name);
        let compacted = topic.cleanup_policy == CleanupPolicy::Compact;
        assert_eq!(topic.retention_ms == -1, compacted, "{}", topic.name);
        assert!(compacted || topic.segment_ms * 10 <= topic.retention_ms, "{}: retention must be true", topic.name);
        assert!(topic.config().iter().any(|(key, value)| *key == "message.timestamp.type" && value == "LogAppendTime"));
    }
    let named: BTreeSet<&str> = topics.iter().flat_map(|topic| topic.schemas.iter().map(String::as_str)).collect();
    assert_eq!(named, generated().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn the_schemas_are_those_of_the_types() {
    let fresh = root().join("target/schemas");
    std::fs::create_dir_all(&fresh).unwrap();
    let mut changed = Vec::new();
    for (name, schema) in generated() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        std::fs::write(fresh.join(format!("{name}.json")), &text).unwrap();
        if std::fs::read_to_string(root().join(format!("topics/schemas/{name}.json"))).ok().as_deref() != Some(&text) {
            changed.push(name);
        }
    }
    assert!(
        changed.is_empty(),
        "the types and topics/schemas differ in {changed:?}. If the change is meant: cp target/schemas/*.json topics/schemas/"
    );
}

#[test]
fn every_example_fits_its_schema_and_is_read() {
    for topic in all().unwrap() {
        for (name, schema) in generated().into_iter().filter(|(name, _)| topic.schemas.iter().any(|s| s == name)) {
            let example = example(name);
            assert_eq!(example["topic"], topic.name.as_str());
            assert_eq!(example["headers"]["ce_type"], name);
            let schema = jsonschema::validator_for(&serde_json::to_value(schema).unwrap()).unwrap();
            assert!(schema.is_valid(&example["body"]), "{name}: {:?}", schema.iter_errors(&example["body"]).next());
            Codec::default().decode(&wire(&example)).unwrap();
        }
    }
    let files = std::fs::read_dir(root().join("topics/examples")).unwrap().count();
    assert_eq!(files, generated().len(), "one example a type, and none without a type");
}

#[test]
fn a_spoiled_example_fits_neither_the_schema_nor_the_codec() {
    let mut planted = 0;
    for (name, schema) in generated() {
        let schema = serde_json::to_value(schema).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for field in schema["required"].as_array().unwrap() {
            let field = field.as_str().unwrap();
            let (mut without, mut other) = (example(name), example(name));
            without["body"].as_object_mut().unwrap().remove(field);
            other["body"][field] = serde_json::json!(["planted"]);
            for bad in [without, other] {
                planted += 1;
                assert!(!validator.is_valid(&bad["body"]), "{name}: the schema takes a spoiled {field}");
                assert!(Codec::default().decode(&wire(&bad)).is_err(), "{name}: the codec takes a spoiled {field}");
            }
        }
    }
    assert!(planted > 60, "{planted}");
}
