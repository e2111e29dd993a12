use super::*;
use crate::facts::{AppLine, Planned, Side, token};
use crate::load::sampler::{Sample, Usage};

const START_MS: i64 = 1_000_000;

fn planned(number: u64, peer: &str, at_ms: i64) -> Planned {
    let (token, desktop, peer) = (token(number), "desk-000".to_owned(), peer.to_owned());
    Planned { number, token, desktop, peer, at_ms: START_MS + at_ms }
}

fn line(peer: &str, side: Side, at_ms: i64, tokens: &[u64]) -> AppLine {
    let text = tokens.iter().map(|number| token(*number)).collect::<Vec<_>>().join(" ");
    AppLine { at_ms: START_MS + at_ms, peer: peer.to_owned(), side, text }
}

/// The peak scenario: wire desks, a model of 100 ms.
fn scenario() -> Scenario {
    Scenario::load("peak").unwrap()
}

fn material(plan: Vec<Planned>, lines: Vec<AppLine>) -> Material {
    let lines = BTreeMap::from([("desk-000".to_owned(), lines)]);
    Material { start_ms: START_MS, plan, lines, ..Material::default() }
}

#[test]
fn the_overhead_is_counted_from_the_planned_time_and_the_model_is_taken_off() {
    // Shown 40 ms late, answered 10 ms after the model: 50 ms of overhead, whoever is to blame.
    let material = material(
        vec![planned(0, "ann", 0)],
        vec![line("ann", Side::Peer, 40, &[0]), line("ann", Side::Own, 150, &[0])],
    );
    let report = Report::of(&scenario(), &material, Conditions::default());
    assert!((report.overhead.p50_ms - 50.0).abs() < 0.1, "{:?}", report.overhead);
    assert!((report.end_to_end.max_ms - 150.0).abs() < 0.2);
    let late = &report.stages.iter().find(|(name, _)| name.starts_with("planned")).unwrap().1;
    assert!((late.p50_ms - 40.0).abs() < 0.1);
}

#[test]
fn a_reply_to_several_messages_is_measured_at_the_last_and_one_that_waited_apart() {
    let material = material(
        vec![planned(0, "ann", 0), planned(1, "ann", 30), planned(2, "ann", 60)],
        vec![
            line("ann", Side::Peer, 0, &[0]),
            line("ann", Side::Peer, 30, &[1]),
            line("ann", Side::Peer, 60, &[2]),
            line("ann", Side::Own, 140, &[0, 1]),
            line("ann", Side::Own, 400, &[2]),
        ],
    );
    let report = Report::of(&scenario(), &material, Conditions::default());
    assert_eq!((report.overhead.count, report.waited), (1, 1));
    assert!((report.overhead.p50_ms - 10.0).abs() < 0.1);
    assert_eq!((report.end_to_end.count, report.tally.answered), (3, 3));
}

#[test]
fn what_was_lost_sent_twice_misordered_or_sent_elsewhere_is_counted() {
    let material = material(
        (0..5).map(|number| planned(number, if number < 4 { "ann" } else { "bob" }, 0)).collect(),
        vec![
            line("ann", Side::Peer, 1, &[0]),
            line("ann", Side::Peer, 1, &[1]),
            line("ann", Side::Peer, 1, &[2]),
            line("bob", Side::Peer, 1, &[4]),
            line("ann", Side::Own, 9, &[2]),
            line("ann", Side::Own, 9, &[1]),
            line("ann", Side::Own, 9, &[1, 4]),
        ],
    );
    let tally = material.tally().0;
    let expected = Tally { planned: 5, shown: 4, answered: 2, unanswered: 2, twice: 1, misordered: 1, elsewhere: 1 };
    assert_eq!(tally, expected);
}

#[test]
fn the_knee_is_the_last_step_before_the_first_that_was_not_held() {
    let step = |rate: f64, held: f64, p99_ms: f64| Step {
        rate,
        held,
        overhead: Percentiles { p99_ms, ..Percentiles::default() },
        lag: 0,
        is_held: figures::is_held(rate, held, p99_ms, 20.0),
    };
    let steps =
        [step(100.0, 99.0, 20.0), step(200.0, 198.0, 90.0), step(400.0, 396.0, 250.0), step(800.0, 800.0, 20.0)];
    assert_eq!(figures::knee(&steps), Some(200.0));
    assert_eq!(figures::knee(&[step(100.0, 50.0, 20.0)]), None);
}

#[test]
fn the_report_says_what_was_missed_and_writes_a_page_with_plots() {
    let usage = |cores| BTreeMap::from([("worker-1 <&>".to_owned(), Usage { cores, mb: 80.0 })]);
    let samples = [(0, 0.0), (2000, 0.5), (3000, 1.5)].map(|(at, cores)| Sample {
        at_ms: START_MS + at,
        usage: usage(cores),
        lag: Some(at / 100),
        waiting: 1,
    });
    let lines = vec![line("ann", Side::Peer, 0, &[0]), line("ann", Side::Own, 3150, &[0])];
    let material = Material { samples: samples.to_vec(), ..material(vec![planned(0, "ann", 0)], lines) };
    let report = Report::of(&scenario(), &material, Conditions::default());
    assert!(report.goals.iter().all(|goal| !goal.met) && report.goals.len() == 2);
    let used = report.used["worker-1 <&>"];
    assert!((used.cores - 1.0).abs() < 1e-9 && (used.cores_max - 1.5).abs() < 1e-9);
    assert_eq!(report.lag_max, 30);
    let directory = tempfile::tempdir().unwrap();
    report.write(directory.path(), &material).unwrap();
    let page = std::fs::read_to_string(directory.path().join(PAGE_FILE)).unwrap();
    assert_eq!((page.matches("<svg").count(), page.contains("MISSED")), (5, true));
    assert!(page.contains("worker-1 &lt;&amp;&gt;") && !page.contains("worker-1 <&>"));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.path().join(JSON_FILE)).unwrap()).unwrap();
    assert_eq!(json["tally"]["answered"], 1);
    assert!(report.table().contains("pipeline overhead"));
}
