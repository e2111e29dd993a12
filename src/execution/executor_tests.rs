use std::sync::Mutex;

use uuid::Uuid;

use super::super::machine::{Keys, Look, Proof, Typed};
use super::*;
use crate::clock::SystemClock;
use crate::contract::{Authority as Allowed, Conversation, ConversationKind, DesktopId, JournalId, ReplySend};

/// A journal, a chat window and a person, as far as the executor can see them.
#[derive(Default)]
struct World {
    queue: Vec<SendOrder>,
    unfinished: Vec<Unfinished>,
    wait_for: Option<ConversationId>,
    ended: Vec<(ConversationId, Ending)>,
    abandoned: usize,
    log: Vec<&'static str>,
    told: Vec<String>,
    stages: Vec<Stage>,
    ended_by_fence: Option<Effect>,
    input: String,
    text: String,
    shown: bool,
    loses_a_key: bool,
    stop_while_typing: Option<CancellationToken>,
    stop_after: Option<(usize, CancellationToken)>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn with<T>(&self, see: impl FnOnce(&mut World) -> T) -> T {
        see(&mut self.0.lock().unwrap())
    }
}

impl Observer for Shared {
    fn on_stage(&self, stage: Stage, _: Duration) {
        self.with(|w| w.stages.push(stage));
    }
    fn on_submit_gap(&self, gap: Duration) {
        self.with(|w| w.told.push(format!("gap {gap:?}")));
    }
    fn on_end(&self, effect: Effect, entered: bool) {
        self.with(|w| w.told.push(format!("end {effect} {entered}")));
    }
    fn on_abandon(&self, fault: bool) {
        self.with(|w| w.told.push(format!("back {fault}")));
    }
}

impl Authority for Shared {
    fn next_send(&mut self, blocked: &[ConversationId], _: Timestamp) -> Result<Option<SendOrder>, JournalError> {
        Ok(self.with(|w| w.queue.iter().find(|o| !blocked.contains(&o.conversation.id)).cloned()))
    }
    fn begin_intent(&mut self, order: &SendOrder, _: Timestamp) -> Result<FenceVerdict, JournalError> {
        Ok(self.with(|w| {
            w.log.push("intent");
            if w.wait_for == Some(order.conversation.id) {
                return FenceVerdict::Wait("a pause".to_owned());
            }
            if let Some(effect) = w.ended_by_fence {
                w.queue.clear();
                if let Some((_, stop)) = &w.stop_after {
                    stop.cancel();
                }
                return FenceVerdict::Ended(crate::journal::Refusal { effect, reason: "as told".to_owned() });
            }
            FenceVerdict::Pass { watermark: 3 }
        }))
    }
    fn begin_submit(&mut self, _: &SendOrder, pane: u64, _: Timestamp) -> Result<FenceVerdict, JournalError> {
        self.with(|w| w.log.push("submitting"));
        Ok(if pane == 42 { FenceVerdict::Pass { watermark: 4 } } else { FenceVerdict::Wait(String::new()) })
    }
    fn abandon(&mut self, _: &SendOrder, _: Duration, _: Timestamp) -> Result<(), JournalError> {
        self.with(|w| {
            w.abandoned += 1;
            w.log.push("abandon");
        });
        Ok(())
    }
    fn own_line(&mut self, order: &SendOrder) -> Result<Option<OwnLine>, JournalError> {
        let at = Timestamp::UNIX_EPOCH;
        Ok(self.with(|w| w.shown.then(|| OwnLine { seq: 5, text: order.send.text.clone(), at })))
    }
    fn aligned_since(&mut self, _: ConversationId, _: Timestamp) -> Result<bool, JournalError> {
        Ok(true)
    }
    fn end(&mut self, order: &SendOrder, ending: Ending, _: Timestamp) -> Result<(), JournalError> {
        self.with(|w| {
            w.queue.retain(|o| o.send.turn != order.send.turn);
            w.ended.push((order.conversation.id, ending));
            if let Some((ends, stop)) = &w.stop_after
                && w.ended.len() >= *ends
            {
                stop.cancel();
            }
        });
        Ok(())
    }
    fn unfinished(&mut self) -> Result<Vec<Unfinished>, JournalError> {
        Ok(self.with(|w| w.unfinished.clone()))
    }
}

impl Desk for Shared {
    fn take_up(&mut self, order: &SendOrder) -> Result<String, String> {
        self.with(|w| w.text = order.send.text.clone());
        Ok(order.send.text.clone())
    }
    fn look(&mut self, _: bool) -> Look {
        let text = Some(self.with(|w| w.input.clone()));
        Look { proof: Proof::Right, active: true, focused: true, free: true, text }
    }
    fn try_grab(&mut self) -> bool {
        true
    }
    fn keys(&mut self) -> Keys {
        Keys::Up
    }
    fn idle(&mut self) -> bool {
        true
    }
    fn person(&mut self) -> bool {
        false
    }
    fn activate(&mut self) -> bool {
        true
    }
    fn focus(&mut self) -> bool {
        true
    }
    fn type_text(&mut self, stop: &dyn Fn() -> bool) -> Typed {
        self.with(|w| {
            w.log.push("type");
            let whole = w.text.len();
            w.input = w.text[..if w.loses_a_key { whole - 1 } else { whole }].to_owned();
            if let Some(token) = &w.stop_while_typing {
                token.cancel();
            }
            if stop() { Typed::Interrupted } else { Typed::Complete }
        })
    }
    fn pane_digest(&mut self) -> Option<u64> {
        Some(42)
    }
    fn press_enter(&mut self) -> Result<Duration, String> {
        self.with(|w| {
            w.log.push("enter");
            w.input.clear();
            w.shown = true;
        });
        Ok(Duration::from_millis(1))
    }
    fn clear(&mut self) -> bool {
        self.with(|w| {
            w.log.push("clear");
            w.input.clear();
        });
        true
    }
    fn give_back(&mut self) {}
    fn lost(&mut self) -> Option<Problem> {
        None
    }
}

fn order(peer: &str) -> SendOrder {
    let conversation = Conversation::new("hexchat", "net", "me", peer, ConversationKind::Direct);
    let journal: JournalId = serde_json::from_value(serde_json::json!(Uuid::nil())).unwrap();
    let send = ReplySend {
        turn: TurnId::derive(journal, conversation.id, 1),
        revision: serde_json::from_value(serde_json::json!(1)).unwrap(),
        journal,
        desktop: serde_json::from_value::<DesktopId>(serde_json::json!("desk")).unwrap(),
        conversation: conversation.id,
        text: "on my way".to_owned(),
        authority: Allowed::Auto,
        issued_at: Timestamp::UNIX_EPOCH,
        owner_token: None,
    };
    SendOrder { send, conversation, timings: Timings::default(), attempts: 0 }
}

/// Runs an executor over `world` until it has ended `ends` orders, or the stop that the world holds.
fn run(world: World, ends: usize) -> World {
    let stop = world.stop_while_typing.clone().unwrap_or_default();
    let shared = Shared(Arc::new(Mutex::new(World { stop_after: Some((ends, stop.clone())), ..world })));
    let whole: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
    let delivered: Settings = whole["execution"].clone().try_into().unwrap();
    let settings = Settings { poll_ms: 1, next_ms: 1, read_back_ms: 20, verify_timeout_ms: 100, ..delivered };
    let clock = Arc::new(SystemClock);
    Executor::new(shared.clone(), shared.clone(), settings, clock, Box::new(shared.clone()), stop).run().unwrap();
    shared.with(std::mem::take)
}

#[test]
fn an_order_is_sent_once_and_confirmed_with_evidence() {
    let world = run(World { queue: vec![order("ann")], ..World::default() }, 1);
    assert_eq!(world.log, ["intent", "type", "submitting", "enter"]);
    let ending = &world.ended[0].1;
    let evidence = ending.evidence.clone().unwrap();
    assert_eq!(ending.effect, Effect::Confirmed);
    assert_eq!((evidence.watermark, evidence.shown_as, evidence.similarity), (4, Some(5), Some(1.0)));
    assert_eq!((evidence.input_empty, evidence.read_back_exact), (Some(true), true));
    assert!(ending.timings.typed_at <= ending.timings.submitted_at && ending.timings.shown_at.is_some());
    assert_eq!(world.told, ["gap 1ms", "end confirmed true"]);
    let way = [Stage::Fence, Stage::Window, Stage::Keys, Stage::Idle, Stage::Window, Stage::Type, Stage::ReadBack];
    assert_eq!(world.stages[..7], way);
    assert_eq!(world.stages[7..], [Stage::Submit, Stage::Verify, Stage::GiveBack, Stage::Verify]);
}

#[test]
fn one_that_must_wait_lets_others_pass() {
    let (ann, bob) = (order("ann"), order("bob"));
    let wait_for = Some(ann.conversation.id);
    let world = run(World { queue: vec![ann, bob.clone()], wait_for, ..World::default() }, 1);
    assert_eq!(world.ended.len(), 1);
    assert_eq!((world.ended[0].0, world.abandoned), (bob.conversation.id, 0));
}

#[test]
fn an_input_that_loses_keys_is_cleared_each_time_and_refused_in_the_end() {
    let world = run(World { queue: vec![order("ann")], loses_a_key: true, ..World::default() }, 1);
    assert_eq!(world.ended[0].1.effect, Effect::Refused);
    let count = |what| world.log.iter().filter(|entry| **entry == what).count();
    assert_eq!((count("type"), count("clear"), count("enter"), world.abandoned), (5, 5, 0, 4));
    assert_eq!(world.input, "");
    assert_eq!(world.told, ["back true", "back true", "back true", "back true", "end refused false"]);
}

#[test]
fn what_the_fence_ends_is_told_and_not_typed() {
    let ended_by_fence = Some(Effect::Capped);
    let world = run(World { queue: vec![order("ann")], ended_by_fence, ..World::default() }, 1);
    assert_eq!((world.log, world.told), (vec!["intent"], vec!["end capped false".to_owned()]));
}

#[test]
fn a_stop_leaves_nothing_half_typed() {
    let stop_while_typing = Some(CancellationToken::new());
    let world = run(World { queue: vec![order("ann")], stop_while_typing, ..World::default() }, 1);
    assert_eq!(world.log, ["intent", "type", "clear", "abandon"]);
    assert_eq!((world.input.as_str(), world.ended.len()), ("", 0));
}

#[test]
fn what_was_left_is_reconciled_before_anything_is_typed_and_never_typed_again() {
    for (state, shown, expected) in [
        (IntentState::Submitting, true, Effect::Confirmed),
        (IntentState::Submitting, false, Effect::Unverifiable),
        (IntentState::Intent, true, Effect::HumanReplied),
    ] {
        let left = order("ann");
        let (turn, revision) = key(&left);
        let unfinished = vec![Unfinished { order: left, state, watermark: 3, revision, turn }];
        let world = run(World { unfinished, shown, ..World::default() }, 1);
        assert_eq!(world.ended[0].1.effect, expected);
        assert_eq!(world.log, [""; 0]);
        assert_eq!(world.ended[0].1.evidence.is_some(), expected.may_have_sent());
    }
}
