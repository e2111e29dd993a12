use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::{ManualClock, SystemClock, from_millis};
use crate::testing::collector::{Collector, Seen};

const BEGIN: i64 = 1_790_000_000_000;

fn settings(endpoint: String, ratio: f64) -> Settings {
    let all: toml::Table = toml::from_str(include_str!("../../../config.default.toml")).unwrap();
    let defaults: Settings = all["telemetry"].clone().try_into().unwrap();
    let deployment_environment = "test".to_owned();
    Settings { otlp_endpoint: endpoint, trace_ratio: ratio, deployment_environment, ..defaults }
}

fn traces(endpoint: String, ratio: f64) -> (Traces, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let traces = Traces::start(&settings(endpoint, ratio), "worker", Arc::new(SystemClock), metrics.clone());
    (traces.unwrap(), metrics)
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come");
}

proptest! {
    #[test]
    fn a_place_reads_back_as_it_was_written(trace in 1u128.., span in 1u64.., sampled: bool) {
        let place = SpanContext { trace, span, sampled };
        prop_assert_eq!(place.to_string().parse(), Ok(place));
        prop_assert_eq!(place.to_string().len(), 55);
    }

    #[test]
    fn no_text_makes_the_reading_of_a_place_panic(text in ".{0,60}") {
        let _ = text.parse::<SpanContext>();
    }

    #[test]
    fn a_greater_share_holds_every_trace_of_a_smaller_one(trace: u128, one in 0.0..1.0f64, other in 0.0..1.0f64) {
        let (small, great) = (one.min(other), one.max(other));
        prop_assert!(!belongs(trace, small) || belongs(trace, great));
        prop_assert!(belongs(trace, 1.0) && !belongs(trace, 0.0));
    }

    #[test]
    fn the_places_of_a_trace_are_its_own(trace in 1u128.., number in 0u32..9) {
        let root = SpanContext { trace, span: derived(trace, "root", 0), sampled: true };
        let places = [root, root.place("a", number), root.place("a", number + 1), root.place("b", number)];
        for (index, place) in places.iter().enumerate() {
            prop_assert_eq!(place.trace, trace);
            prop_assert!(places[..index].iter().all(|other| other.span != place.span));
        }
        prop_assert_eq!(root.place("a", number), root.place("a", number));
    }
}

#[test]
fn what_is_no_place_is_refused() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert!(good.parse::<SpanContext>().unwrap().is_sampled());
    assert!(!good.replace("-01", "-00").parse::<SpanContext>().unwrap().is_sampled());
    let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
    for bad in ["", "00", zero_trace, zero_span, &good[..54], &good.replacen("00", "01", 1), &format!("{good}-x")] {
        assert_eq!(bad.parse::<SpanContext>(), Err(NoTraceparent), "{bad}");
    }
}

/// Turns are derived ids: their fixed bits must not decide who is traced.
#[test]
fn the_share_of_derived_ids_is_the_share_asked_for() {
    let ids = (0..20_000u32).map(|n| Uuid::new_v5(&Uuid::NAMESPACE_URL, &n.to_be_bytes()).as_u128());
    let ids: Vec<u128> = ids.collect();
    for (ratio, least, most) in [(0.1, 1_700, 2_300), (0.5, 9_500, 10_500), (0.9, 17_700, 18_300)] {
        let traced = ids.iter().filter(|id| belongs(**id, ratio)).count();
        assert!((least..most).contains(&traced), "{traced} of 20000 at {ratio}");
    }
}

fn by_name(spans: Vec<Seen>) -> BTreeMap<String, Seen> {
    spans.into_iter().map(|seen| (seen.span.name.clone(), seen)).collect()
}

#[tokio::test]
async fn spans_arrive_with_their_parents_times_and_attributes() {
    let collector = Collector::start().unwrap();
    let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(ManualClock::new(from_millis(BEGIN))));
    let settings = settings(collector.endpoint(), 1.0);
    let traces = Traces::start(&settings, "desktop", clock.clone(), metrics.clone()).unwrap();
    let turn = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"turn");
    let root = traces.root(turn);
    let look = traces.at("look", Kind::Internal, root, None).took(Duration::from_millis(40));
    let mut send = traces.child("send", Kind::Producer, look.context()).with("autoreply.turn", turn).with("n", 3_i64);
    clock.advance(Duration::from_millis(5));
    send.fail("not_taken");
    let group = traces.shared("group", Kind::Client, &[root.unwrap(), send.context().unwrap()]);
    drop((send, group));
    traces.child("later", Kind::Internal, root).since(from_millis(BEGIN + 1)).until(from_millis(BEGIN + 3));
    traces.child("forgotten", Kind::Internal, root).forget();
    look.end();
    traces.finish(Duration::from_secs(20)).await;

    let spans = by_name(collector.spans());
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["group", "later", "look", "send"]);
    let (look, send, later, group) = (&spans["look"], &spans["send"], &spans["later"], &spans["group"]);
    assert_eq!(look.span.trace_id, turn.as_bytes(), "the trace is the turn's");
    assert_eq!((look.span.parent_span_id.len(), &send.span.parent_span_id), (0, &look.span.span_id));
    assert_eq!(later.span.parent_span_id, look.span.span_id);
    assert_ne!(group.span.trace_id, look.span.trace_id);
    let linked: Vec<_> = group.span.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(linked, [&look.span, &send.span].map(|span| (&span.trace_id, &span.span_id)));
    let ms = |nanos: u64| i64::try_from(nanos / 1_000_000).unwrap() - BEGIN;
    let times = |seen: &Seen| (ms(seen.span.start_time_unix_nano), ms(seen.span.end_time_unix_nano));
    assert_eq!((times(look), times(send), times(later)), ((-40, 5), (0, 5), (1, 3)));
    assert_eq!((send.attribute("autoreply.turn"), send.attribute("n")), (Some(turn.to_string()), Some("3".to_owned())));
    assert_eq!((send.attribute("error.type"), look.span.status.is_some()), (Some("not_taken".to_owned()), false));
    assert_eq!(look.service(), "autoreply-desktop");
    let resource = format!("{:?}", look.resource);
    for word in ["service.instance.id", "service.version", env!("CARGO_PKG_VERSION"), "deployment.environment.name"] {
        assert!(resource.contains(word), "{word} is not in {resource}");
    }
    assert_eq!((metrics.spans_exported.get(), metrics.spans_dropped.get()), (4.0, 0.0));
}

#[tokio::test]
async fn whoever_decided_first_decides_whether_a_trace_is_recorded() {
    let collector = Collector::start().unwrap();
    let (none, _) = traces(collector.endpoint(), 0.0);
    let turn = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"turn");
    // The desk traces everything, this process would trace nothing: the desk's word counts.
    let told = SpanContext { trace: turn.as_u128(), span: 7, sampled: true };
    let process = none.child("told", Kind::Consumer, Some(told));
    assert!(process.is_recorded());
    drop(process);
    // Nobody said anything.
    let first = none.first("first", Kind::Consumer, turn);
    assert!(!first.is_recorded() && !first.context().unwrap().is_sampled());
    drop(first);
    // The desk does not trace it, this process would.
    let (all, _) = traces(collector.endpoint(), 1.0);
    let told = SpanContext { sampled: false, ..told };
    let process = all.child("not told", Kind::Consumer, Some(told));
    assert!(!process.is_recorded());
    assert_eq!(process.context(), Some(told), "it is handed on as it came");
    drop(process);
    // Without an endpoint it is handed on too.
    let off = Traces::default().child("off", Kind::Consumer, Some(told));
    assert_eq!((off.context(), off.is_recorded(), Traces::default().root(turn)), (Some(told), false, None));
    none.finish(Duration::from_secs(20)).await;
    all.finish(Duration::from_secs(20)).await;
    assert_eq!(by_name(collector.spans()).keys().collect::<Vec<_>>(), ["told"]);
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_was_kept_for_it() {
    let address = Collector::start().unwrap().address;
    let (traces, metrics) = traces(format!("http://{address}"), 1.0);
    let root = traces.root(Uuid::from_u128(9));
    traces.at("kept", Kind::Internal, root, None).end();
    // It is gone; nobody waits for it.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(metrics.spans_exported.get(), 0.0);
    let collector = Collector::start_at(address).unwrap();
    collector.answer(503);
    wait_for("a request", || collector.requests() > 0).await;
    collector.answer(200);
    wait_for("the span", || collector.spans().len() == 1).await;
    wait_for("the count", || metrics.spans_exported.get() == 1.0).await;
    assert_eq!(metrics.spans_dropped.get(), 0.0);
}

#[tokio::test]
async fn what_the_collector_refuses_is_lost_and_counted() {
    let collector = Collector::start().unwrap();
    collector.answer(400);
    let (traces, metrics) = traces(collector.endpoint(), 1.0);
    traces.at("refused", Kind::Internal, traces.root(Uuid::from_u128(9)), None).end();
    wait_for("the loss", || metrics.spans_dropped.get() == 1.0).await;
    assert_eq!((collector.requests(), metrics.spans_exported.get()), (1, 0.0));
}

#[tokio::test]
async fn no_collector_holds_nobody_up_and_the_end_is_bounded() {
    // Connections are taken and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (traces, metrics) = traces(format!("http://{}", silent.local_addr().unwrap()), 1.0);
    let root = traces.root(Uuid::from_u128(9));
    // Nothing yields in between, so nothing can be sent meanwhile: what is over the queue is lost at once.
    for _ in 0..10_000 {
        traces.child("step", Kind::Internal, root).end();
    }
    assert_eq!(metrics.spans_dropped.get(), 10_000.0 - 8_192.0);
    let ended = tokio::time::timeout(Duration::from_secs(4), traces.finish(Duration::from_millis(200))).await;
    assert!(ended.is_ok(), "it waits no longer than it was given");
    assert_eq!(metrics.spans_exported.get(), 0.0);
    let before = Timestamp::UNIX_EPOCH;
    traces.child("too late", Kind::Internal, root).since(before).end();
}
