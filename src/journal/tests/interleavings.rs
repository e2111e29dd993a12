//! Any order of what may happen, deaths included.

use super::*;

/// What the model of the property test remembers.
#[derive(Default)]
struct Model {
    /// Sequence number of the last joined inbound message, and of the last human line.
    heard: u64,
    human: u64,
    seq: u64,
    passes: HashMap<TurnId, u32>,
    effects: HashMap<TurnId, Effect>,
    known: Vec<MessagesDetected>,
    /// The turn whose Enter was allowed and that has no line yet.
    pending: Option<TurnId>,
}

async fn step(desk: &mut Desk, model: &mut Model, die: u8, pick: usize) {
    // Mostly the newest turn, sometimes a stale one.
    let turn = if pick < 9 { model.known.last() } else { model.known.get(pick % model.known.len().max(1)) }.cloned();
    match (die % 16, turn) {
        (0, _) => {
            model.seq += 1;
            model.heard = model.seq;
            let text = format!("{} question {:x}", "abcdefgh".repeat(pick % 3 + 1), model.seq * 7919);
            desk.hear(&text).await;
        }
        (1, _) if pick.is_multiple_of(3) => {
            model.seq += 1;
            let text = format!("0123456789 {}", model.seq);
            desk.own(&text).await;
            // The first own line below an allowed Enter is that reply's, whatever it reads like.
            if model.pending.take().is_none() {
                model.human = model.seq;
            }
        }
        (1..=3, _) => {
            let told = desk.publish().await;
            model.known.extend(told.into_iter().filter(|turn| turn.mode != Mode::Off));
        }
        (4..=6, Some(turn)) => desk.accept(desk.reply(&turn, &format!("zz{}", turn.turn))).await,
        (7 | 8, Some(turn)) => drop(desk.intent(&turn).await),
        (9..=11, Some(turn)) => {
            let frozen = desk.is_frozen(&turn).await;
            if passes(&desk.submit(&turn).await) {
                *model.passes.entry(turn.turn).or_default() += 1;
                let last = turn.messages.last().unwrap().seq;
                assert!(model.human < last, "a person has answered");
                assert!(frozen || model.heard <= last, "newer text has come");
                model.pending = Some(turn.turn);
            }
        }
        (12, Some(turn)) => {
            let effect = [Effect::Confirmed, Effect::Failed, Effect::Unverifiable][pick % 3];
            if model.passes.contains_key(&turn.turn) {
                desk.end(&turn, effect).await;
            } else {
                desk.journal.abandon_intent(turn.turn, turn.revision, Duration::ZERO, desk.at()).await.unwrap();
            }
            if effect == Effect::Confirmed && model.pending == Some(turn.turn) {
                // Confirmed without a line seen: the next own line is a person's.
                model.pending = None;
            }
        }
        (13, _) if pick.is_multiple_of(4) => {
            desk.restart().await;
            desk.look(vec![]).await;
        }
        // A reply that comes at once.
        (14, _) => {
            let told = desk.publish().await;
            for turn in told.into_iter().filter(|turn| turn.mode != Mode::Off) {
                desk.accept(desk.reply(&turn, &format!("zz{}", turn.turn))).await;
                desk.intent(&turn).await;
                model.known.push(turn);
            }
        }
        _ => drop(desk.next().await),
    }
}

async fn play(dice: Vec<(u8, usize, i64)>) -> usize {
    let mut desk = Desk::new(TurnSettings { consecutive_cap: 1000, hourly_cap: 1000, ..settings() }).await;
    sqlx::query("pragma synchronous = off").execute(desk.journal.pool()).await.unwrap();
    let mut model = Model::default();
    for (die, pick, pause) in dice {
        desk.wait(pause);
        step(&mut desk, &mut model, die, pick).await;
        assert!(model.passes.values().all(|count| *count <= 1), "Enter was allowed twice");
        for turn in &model.known {
            let Some(effect) = desk.effect(turn).await else { continue };
            let before = model.effects.insert(turn.turn, effect);
            assert!(
                before.is_none_or(|before| before == effect || outcome::betters(before, effect)),
                "{before:?} became {effect:?}"
            );
            if effect == Effect::Confirmed {
                assert!(model.passes.contains_key(&turn.turn), "nothing was sent");
            }
        }
    }
    model.passes.len()
}

/// The dice are proptest's; the run as a whole must have got to Enter often, or it has shown nothing.
#[test]
fn no_interleaving_sends_twice_or_past_newer_text() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sent = std::cell::Cell::new(0);
    let config =
        ProptestConfig { cases: 100, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() };
    let dice = proptest::collection::vec((any::<u8>(), 0_usize..12, 0_i64..3000), 10..60);
    proptest::test_runner::TestRunner::new(config)
        .run(&dice, |dice| {
            sent.set(sent.get() + runtime.block_on(play(dice)));
            Ok(())
        })
        .unwrap();
    assert!(sent.get() >= 10, "only {} replies got to Enter", sent.get());
}
