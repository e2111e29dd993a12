//! One trace followed through a real run: from the pixels of the peer's line to the verified reply, each span found in a
//! collector, below the one it belongs to.

use std::collections::HashMap;

use autoreply::testing::collector::{Collector, Seen};

use crate::crash::has_fail_points;
use crate::harness::{Bench, ask, heard, talk, wait_for, wait_heard};

/// A step of a turn: its name, the step that it stands below, and the half of the program that it belongs to.
type Step = (&'static str, Option<&'static str>, &'static str);

const STEPS: [Step; 15] = [
    ("look", None, DESK),
    ("wait for quiet", Some("look"), DESK),
    ("send autoreply.messages", Some("wait for quiet"), DESK),
    ("process autoreply.messages", Some("send autoreply.messages"), WORKER),
    ("ledger record", Some("process autoreply.messages"), WORKER),
    ("draft", Some("process autoreply.messages"), WORKER),
    ("chat", Some("draft"), WORKER),
    ("ledger transition", Some("process autoreply.messages"), WORKER),
    ("send autoreply.commands", Some("process autoreply.messages"), WORKER),
    ("process autoreply.commands", Some("send autoreply.commands"), DESK),
    ("execute", Some("process autoreply.commands"), DESK),
    ("type", Some("execute"), DESK),
    ("verify", Some("execute"), DESK),
    ("send autoreply.outcomes", Some("execute"), DESK),
    ("process autoreply.outcomes", Some("send autoreply.outcomes"), WORKER),
];
const DESK: &str = "autoreply-desktop";
const WORKER: &str = "autoreply-worker";

/// The trace of a turn: its id without hyphens, as bytes.
fn trace_of(turn: &str) -> Vec<u8> {
    uuid::Uuid::parse_str(turn).unwrap().as_bytes().to_vec()
}

/// The span of each of these steps of this turn's trace, once all of them are there.
fn steps<'a>(spans: &'a [Seen], turn: &str, wanted: &[Step]) -> Option<HashMap<&'static str, &'a Seen>> {
    let trace = trace_of(turn);
    let of_turn: Vec<&Seen> = spans.iter().filter(|seen| seen.span.trace_id == trace).collect();
    // What was put back or was said twice has spans of its own: a step is the one that all others hang on.
    let by_id: HashMap<&[u8], &Seen> = of_turn.iter().map(|seen| (seen.span.span_id.as_slice(), *seen)).collect();
    let is_at = |seen: &Seen, above: Option<&str>| match above {
        None => seen.span.parent_span_id.is_empty(),
        Some(name) => by_id.get(seen.span.parent_span_id.as_slice()).is_some_and(|parent| parent.span.name == name),
    };
    let find = |name: &str, above| of_turn.iter().find(|seen| seen.span.name == name && is_at(seen, above)).copied();
    wanted.iter().map(|(name, above, _)| Some((*name, find(name, *above)?))).collect()
}

/// Waits until the collector has every step of this turn, each below the one it belongs to, and judges them: who said
/// so, in which order, and that nothing anybody said is in any of them. `apart` if the halves are processes of their own.
pub fn follow(collector: &Collector, turn: &str, apart: bool) {
    let spans = wait_for(&format!("the whole trace of {turn}"), || {
        let spans = collector.spans();
        steps(&spans, turn, &STEPS).is_some().then_some(spans)
    });
    let steps = steps(&spans, turn, &STEPS).unwrap();
    let ids: Vec<_> = spans.iter().map(|seen| (&seen.span.trace_id, &seen.span.span_id)).collect();
    assert!(ids.iter().enumerate().all(|(place, id)| !ids[..place].contains(id)), "every span has its own id");
    for (name, above, service) in STEPS {
        let seen = steps[name];
        assert_eq!(seen.service(), if apart { service } else { "autoreply-run" }, "{name}");
        assert_eq!(seen.attribute("autoreply.turn").as_deref(), Some(turn), "{name}");
        assert!(seen.span.end_time_unix_nano >= seen.span.start_time_unix_nano, "{name}");
        if let Some(above) = above {
            let began = |name: &str| steps[name].span.start_time_unix_nano;
            assert!(began(name) >= began(above), "{name} began before {above}");
        }
    }
    for (name, key, value) in [
        ("send autoreply.messages", "messaging.system", "kafka"),
        ("process autoreply.outcomes", "messaging.operation.type", "process"),
        ("process autoreply.outcomes", "autoreply.effect", "confirmed"),
        ("execute", "autoreply.effect", "confirmed"),
        ("verify", "autoreply.shown", "true"),
        ("chat", "gen_ai.operation.name", "chat"),
        ("ledger transition", "autoreply.events", "draft_stored,issued"),
    ] {
        assert_eq!(steps[name].attribute(key).as_deref(), Some(value), "{name} {key}");
    }
}

/// Nothing that anybody said is in any span.
pub fn hold_no(collector: &Collector, said: &[&str]) {
    let texts: Vec<String> = collector.spans().iter().flat_map(Seen::texts).collect();
    assert!(!texts.is_empty());
    for words in said {
        let start: String = words.chars().take(12).collect();
        assert!(!texts.iter().any(|text| text.contains(&start)), "what was said is in a span");
    }
}

#[test]
fn one_trace_leads_from_the_pixels_to_the_verified_reply() {
    let collector = Collector::start().unwrap();
    let settings = format!("telemetry.otlp_endpoint = \"{}\"", collector.endpoint());
    let test = "one_trace_leads_from_the_pixels_to_the_verified_reply";
    let Some(bench) = Bench::up(test, &settings) else { return };
    let mut alice = bench.peer("alice", 0);
    let running = bench.start();
    bench.wait_aligned("alice");
    ask(&mut alice, talk::HOURS.0);
    wait_heard(&alice, &[talk::HOURS.1]);
    let first = running.wait_state("ended(confirmed)", 1).remove(0);
    follow(&collector, &first, false);

    // A restart begins no other trace, and says nothing of the old one again.
    let spans_of = |turn: &str| {
        let trace = trace_of(turn);
        collector.spans().iter().filter(|seen| seen.span.trace_id == trace).count()
    };
    running.stop();
    let before = spans_of(&first);
    let running = bench.start();
    bench.wait_aligned("alice");
    ask(&mut alice, talk::PARCEL.0);
    wait_heard(&alice, &[talk::HOURS.1, talk::PARCEL.1]);
    let ended = running.wait_state("ended(confirmed)", 2);
    let second = ended.iter().find(|turn| **turn != first).unwrap();
    follow(&collector, second, false);
    assert_eq!(spans_of(&first), before);
    running.stop();
    hold_no(&collector, &[talk::HOURS.0, talk::HOURS.1, talk::PARCEL.0, talk::PARCEL.1, "alice"]);
    assert_eq!(heard(&alice).len(), 2);

    // The log names the trace.
    let logged = std::fs::read_to_string(bench.log(2)).unwrap();
    let line = logged.lines().find(|line| line.contains("turn published")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["trace_id"], second.replace('-', ""));
}

/// Everything dies between the ledger's word and the command's publication: after the restart the command goes out at the
/// place that the ledger kept, and the trace goes on to its end.
#[test]
fn a_trace_outlives_the_process_that_began_it() {
    let test = "a_trace_outlives_the_process_that_began_it";
    if !has_fail_points(test) {
        return;
    }
    let collector = Collector::start().unwrap();
    let settings = format!("telemetry.otlp_endpoint = \"{}\"", collector.endpoint());
    let Some(bench) = Bench::up(test, &settings) else { return };
    let mut alice = bench.peer("alice", 0);
    let doomed = bench.start_to_die_at(Some("worker.issued_unpublished"));
    bench.wait_aligned("alice");
    ask(&mut alice, talk::PRICE.0);
    doomed.wait_death();
    let running = bench.start();
    wait_heard(&alice, &[talk::PRICE.1]);
    let turn = running.wait_state("ended(confirmed)", 1).remove(0);
    let published = STEPS.iter().position(|step| step.0 == "send autoreply.commands").unwrap();
    let spans = wait_for("the rest of the trace", || {
        let spans = collector.spans();
        steps(&spans, &turn, &STEPS[published + 1..]).is_some().then_some(spans)
    });
    let trace = trace_of(&turn);
    let of_turn = || spans.iter().filter(|seen| seen.span.trace_id == trace);
    let command = of_turn().find(|seen| seen.span.name == "send autoreply.commands").unwrap();
    assert!(!command.span.parent_span_id.is_empty(), "the ledger kept its place");
    assert!(of_turn().filter(|seen| seen.span.parent_span_id.is_empty()).all(|seen| seen.span.name == "look"));
    running.stop();
    hold_no(&collector, &[talk::PRICE.0, talk::PRICE.1]);
}
