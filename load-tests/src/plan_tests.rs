use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn shape(pieces: Vec<Piece>) -> Shape {
    Shape { seed: 1, pieces, conversations: 40, desks: 4, spread: Spread::Uniform, bursts: None }
}

fn constant(rate: f64, seconds: f64) -> Piece {
    Piece { seconds, from: rate, to: rate }
}

/// How many messages lie in `[from, to)` seconds.
fn count(plan: &[Planned], from: f64, to: f64) -> f64 {
    plan.iter().filter(|p| (from * 1e3..to * 1e3).contains(&(p.at_ms as f64))).count() as f64
}

/// Within five standard deviations of a Poisson count.
fn near(counted: f64, expected: f64) -> bool {
    (counted - expected).abs() <= 5.0 * expected.sqrt() + 1.0
}

#[test]
fn the_rate_is_what_the_pieces_say_also_on_a_ramp_and_in_a_peak() {
    let ramp = Piece { seconds: 100.0, from: 0.0, to: 100.0 };
    let plan = shape(vec![constant(20.0, 100.0), ramp, constant(100.0, 10.0), constant(0.0, 10.0)]).plan(0);
    assert!(near(count(&plan, 0.0, 100.0), 2000.0));
    assert!(near(count(&plan, 100.0, 150.0), 1250.0), "the first half of a ramp is a quarter of it");
    assert!(near(count(&plan, 150.0, 200.0), 3750.0));
    assert!(near(count(&plan, 200.0, 210.0), 1000.0));
    assert_eq!(count(&plan, 210.0, 1000.0), 0.0);
}

#[test]
fn bursts_stay_in_one_conversation_and_within_the_rate() {
    let bursts = Some(Bursts { share: 0.5, messages: 4, gap_ms: 50 });
    let plan = Shape { bursts, conversations: 4000, ..shape(vec![constant(50.0, 200.0)]) }.plan(0);
    assert!((count(&plan, 0.0, 201.0) - 10_000.0).abs() < 1000.0, "bursts are within the rate");
    let mut by_peer: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    plan.iter().for_each(|p| by_peer.entry(&p.peer).or_default().push(p.at_ms));
    let gaps = by_peer.values().flat_map(|times| times.windows(2).map(|two| two[1] - two[0]));
    assert!(gaps.filter(|gap| *gap == 50).count() > 4000);
}

#[test]
fn zipf_makes_the_first_the_busiest_by_its_law() {
    let spread = Spread::Zipf { exponent: 1.0 };
    let plan = Shape { spread, conversations: 100, ..shape(vec![constant(1000.0, 50.0)]) }.plan(0);
    let of = |conversation| plan.iter().filter(|p| p.peer == peer_name(conversation)).count() as f64;
    let ratio = of(0) / of(9);
    assert!((8.0..12.5).contains(&ratio), "{ratio}");
}

#[test]
fn shapes_that_cannot_be_are_named() {
    let good = shape(vec![constant(1.0, 1.0)]);
    good.check().unwrap();
    let wrong = [
        Shape { desks: 0, ..good.clone() },
        Shape { desks: 41, ..good.clone() },
        Shape { pieces: vec![], ..good.clone() },
        Shape { pieces: vec![constant(-1.0, 1.0)], ..good.clone() },
        Shape { spread: Spread::Zipf { exponent: -1.0 }, ..good.clone() },
        Shape { bursts: Some(Bursts { share: 0.5, messages: 1, gap_ms: 0 }), ..good },
    ];
    assert!(wrong.iter().all(|shape| shape.check().is_err()));
}

proptest! {
    #[test]
    fn a_plan_is_ordered_numbered_unique_and_the_same_again(
        seed in any::<u64>(),
        rates in prop::collection::vec((0.0..50.0f64, 0.0..50.0f64, 0.0..5.0f64), 1..4),
        (conversations, desks) in (1u32..60, 1u32..60).prop_map(|(a, b)| (a.max(b), a.min(b))),
        burst in prop::option::of((0.0..1.0f64, 2u32..5, 0i64..300)),
    ) {
        let pieces = rates.into_iter().map(|(from, to, seconds)| Piece { seconds, from, to }).collect();
        let bursts = burst.map(|(share, messages, gap_ms)| Bursts { share, messages, gap_ms });
        let shape = Shape { seed, pieces, conversations, desks, spread: Spread::Uniform, bursts };
        let plan = shape.plan(1_000_000);
        prop_assert_eq!(&plan, &shape.plan(1_000_000));
        prop_assert!(plan.windows(2).all(|two| two[0].at_ms <= two[1].at_ms));
        prop_assert!(plan.iter().zip(0..).all(|(p, number)| p.number == number && p.token == token(number)));
        let longest = shape.seconds() * 1e3 + 5.0 * 300.0 + 1.0;
        prop_assert!(plan.iter().all(|p| (0.0..longest).contains(&((p.at_ms - 1_000_000) as f64))));
        let desks = shape.desks();
        let peers: BTreeSet<_> = desks.iter().flat_map(|desk| &desk.peers).collect();
        prop_assert_eq!(peers.len(), conversations as usize, "each conversation lies on one desk");
        for planned in &plan {
            let desk = desks.iter().find(|desk| desk.name == planned.desktop).unwrap();
            prop_assert!(desk.peers.contains(&planned.peer));
            let text = text(planned);
            prop_assert_eq!(crate::facts::tokens(&text), [planned.token.as_str()]);
        }
    }

    #[test]
    fn another_seed_is_another_plan(seed in any::<u64>()) {
        let one = Shape { seed, ..shape(vec![constant(50.0, 10.0)]) };
        let two = Shape { seed: seed.wrapping_add(1), ..one.clone() };
        prop_assert_ne!(one.plan(0), two.plan(0));
    }
}
