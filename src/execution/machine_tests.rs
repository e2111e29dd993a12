use proptest::prelude::*;

use super::*;

const TEXT: &str = "hello there";

fn limits() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        attempts: 3,
        idle_wait: ms(500),
        clear_wait: ms(300),
        read_back: ms(200),
        fresh_look: ms(300),
        verify: ms(1000),
        stop_grace: ms(200),
        retry_delay: ms(2000),
        yield_delay: ms(3000),
        poll: ms(50),
    }
}

fn good(text: &str) -> Look {
    Look { proof: Proof::Right, active: true, focused: true, free: true, text: Some(text.to_owned()) }
}

/// Drives a machine through answers chosen by `answer`, keeps the trace.
fn drive(
    mut machine: Machine,
    mut answer: impl FnMut(&Action, usize) -> (Seen, Context),
) -> Vec<(Action, Option<Seen>)> {
    let (mut trace, mut now) = (Vec::new(), Duration::ZERO);
    for turn in 0..2000 {
        let action = machine.next();
        if let Action::Finish(_) = action {
            trace.push((action, None));
            return trace;
        }
        let (seen, context) = match action {
            Action::Pause(pause) => {
                now += pause;
                (Seen::Paused, Context::default())
            }
            _ => answer(&action, turn),
        };
        now += Duration::from_millis(1);
        machine.observe(seen.clone(), Context { now, ..context });
        trace.push((action, Some(seen)));
    }
    panic!("the machine did not finish: {:?}", &trace[trace.len() - 20..]);
}

/// A desk on which all goes well: the input shows what was typed.
fn smooth() -> impl FnMut(&Action) -> Seen {
    let mut input = String::new();
    move |action| match action {
        Action::BeginIntent => Seen::Fence(Fence::Pass { watermark: 7 }),
        Action::BeginSubmit => Seen::Fence(Fence::Pass { watermark: 8 }),
        Action::Look | Action::Prove => Seen::Look(good(&input)),
        Action::TryGrab => Seen::Grab(true),
        Action::ReadKeys => Seen::Keys(Keys::Up),
        Action::ReadIdle => Seen::Idle(true),
        Action::TypeText => {
            input = TEXT.to_owned();
            Seen::Typed(Typed::Complete)
        }
        Action::PressEnter => {
            input.clear();
            Seen::Entered
        }
        Action::ClearInput => {
            input.clear();
            Seen::Done
        }
        Action::ReadOwnLine => Seen::OwnLine(Some(true)),
        Action::AskAligned => Seen::Aligned(true),
        _ => Seen::Done,
    }
}

fn finish(trace: &[(Action, Option<Seen>)]) -> Finish {
    match trace.last() {
        Some((Action::Finish(finish), None)) => finish.clone(),
        other => panic!("{other:?}"),
    }
}

fn count(trace: &[(Action, Option<Seen>)], wanted: &Action) -> usize {
    trace.iter().filter(|(action, _)| action == wanted).count()
}

fn effect(trace: &[(Action, Option<Seen>)]) -> Option<Effect> {
    match finish(trace) {
        Finish::End { effect, .. } => Some(effect),
        _ => None,
    }
}

#[test]
fn a_send_without_trouble_goes_in_the_order_of_the_design() {
    let mut desk = smooth();
    let trace = drive(Machine::new(TEXT.to_owned(), limits(), 0), |action, _| (desk(action), Context::default()));
    let order: Vec<_> = trace.iter().map(|(action, _)| action.clone()).collect();
    use Action::*;
    let expected = [
        BeginIntent,
        Look,
        TryGrab,
        ReadKeys,
        ReadIdle,
        Activate,
        Look,
        TypeText,
        Look,
        BeginSubmit,
        Prove,
        PressEnter,
        Look,
        GiveBack,
        ReadOwnLine,
    ];
    assert_eq!(order[..order.len() - 1], expected);
    assert_eq!(effect(&trace), Some(Effect::Confirmed));
}

#[test]
fn somebodys_text_is_left_alone_and_the_order_refused_in_the_end() {
    for (faults, refused) in [(0, false), (2, true)] {
        let mut desk = smooth();
        let trace = drive(Machine::new(TEXT.to_owned(), limits(), faults), |action, _| {
            (if *action == Action::Look { Seen::Look(good("hel")) } else { desk(action) }, Context::default())
        });
        assert_eq!((count(&trace, &Action::TypeText), count(&trace, &Action::ClearInput)), (0, 0));
        assert_eq!(effect(&trace) == Some(Effect::Refused), refused);
    }
}

#[test]
fn a_person_who_types_on_gets_our_half_removed_and_the_order_comes_back_without_a_fault() {
    let mut input = String::new();
    let mut desk = smooth();
    let trace = drive(Machine::new(TEXT.to_owned(), limits(), 0), |action, _| {
        let seen = match action {
            Action::TypeText => {
                input = "hello".to_owned();
                Seen::Typed(Typed::Interrupted)
            }
            Action::Look => Seen::Look(good(&input)),
            Action::ClearInput => {
                input.clear();
                Seen::Done
            }
            other => desk(other),
        };
        (seen, Context::default())
    });
    assert_eq!(count(&trace, &Action::ClearInput), 1);
    assert!(matches!(finish(&trace), Finish::Abandon { fault: false, .. }));
}

#[test]
fn a_mixed_input_is_never_cleared_but_told() {
    let mut typed = false;
    let mut desk = smooth();
    let trace = drive(Machine::new(TEXT.to_owned(), limits(), 0), |action, _| {
        let seen = match action {
            Action::TypeText => {
                typed = true;
                Seen::Typed(Typed::Interrupted)
            }
            Action::Look if typed => Seen::Look(good("hellox")),
            other => desk(other),
        };
        (seen, Context::default())
    });
    assert_eq!(count(&trace, &Action::ClearInput), 0);
    assert_eq!(effect(&trace), Some(Effect::NeedsAttention));
}

#[test]
fn a_stop_clears_what_is_typed_and_follows_what_is_submitted() {
    for (at, entered) in [(Action::BeginSubmit, 0), (Action::PressEnter, 1)] {
        let (mut desk, mut stop) = (smooth(), false);
        let trace = drive(Machine::new(TEXT.to_owned(), limits(), 0), |action, _| {
            stop = stop || *action == at;
            (desk(action), Context { stop, ..Context::default() })
        });
        assert_eq!(count(&trace, &Action::PressEnter), entered);
        assert_eq!(count(&trace, &Action::ClearInput), 1 - entered);
        assert_eq!(effect(&trace), (entered == 1).then_some(Effect::Confirmed));
    }
}

#[test]
fn what_a_dead_executor_left_is_reconciled_by_reading() {
    // (recovered machine, text in the input, own line seen) -> (effect, times cleared)
    let intent = || Machine::after_intent(TEXT.to_owned(), limits());
    let submitting = || Machine::after_submitting(TEXT.to_owned(), limits(), 5);
    let cases = [
        (intent(), "hello", false, None, 1),
        (intent(), "", true, Some(Effect::HumanReplied), 0),
        (intent(), "theirs", false, None, 0),
        (submitting(), "", true, Some(Effect::Confirmed), 0),
        (submitting(), "", false, Some(Effect::Unverifiable), 0),
        (submitting(), TEXT, false, Some(Effect::Unverifiable), 1),
        (submitting(), "theirs", false, Some(Effect::Unverifiable), 0),
    ];
    for (machine, text, own, expected, cleared) in cases {
        let mut input = text.to_owned();
        let trace = drive(machine, |action, _| {
            let seen = match action {
                Action::AskAligned => Seen::Aligned(true),
                Action::ReadOwnLine => Seen::OwnLine(Some(own)),
                Action::Look => Seen::Look(good(&input)),
                Action::ClearInput => {
                    input.clear();
                    Seen::Done
                }
                other => panic!("{other:?} while reconciling"),
            };
            (seen, Context::default())
        });
        assert_eq!((effect(&trace), count(&trace, &Action::ClearInput)), (expected, cleared), "{text} {own}");
    }
}

fn look() -> impl Strategy<Value = Look> {
    let proof = prop_oneof![6 => Just(Proof::Right), 1 => Just(Proof::Absent), 1 => Just(Proof::Ambiguous), 1 => Just(Proof::Unknown)];
    let text = prop_oneof![
        4 => Just(Some(String::new())),
        4 => Just(Some(TEXT.to_owned())),
        2 => (1..TEXT.len()).prop_map(|n| Some(TEXT[..n].to_owned())),
        1 => Just(Some("theirs".to_owned())),
        1 => Just(Some(format!("{TEXT}!"))),
        1 => Just(None),
    ];
    let mostly = || prop::bool::weighted(0.9);
    (proof, mostly(), mostly(), mostly(), text).prop_map(|(proof, active, focused, free, text)| Look {
        proof,
        active,
        focused,
        free,
        text,
    })
}

fn fence() -> impl Strategy<Value = Fence> {
    prop_oneof![6 => Just(Fence::Pass { watermark: 1 }), 1 => Just(Fence::Wait), 1 => Just(Fence::Ended), 1 => Just(Fence::Error)]
}

/// An answer for each kind of question, of which the one that fits is taken; sometimes one that does not fit.
type Draw = (Look, Fence, u8, bool, bool, bool);

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let one = (
        look(),
        fence(),
        any::<u8>(),
        prop::bool::weighted(0.02),
        prop::bool::weighted(0.01),
        prop::bool::weighted(0.03),
    );
    prop::collection::vec(one, 40..80)
}

fn fitting(action: &Action, draw: &Draw) -> Seen {
    let (look, fence, dice, _, _, misfit) = draw;
    let lucky = dice % 8 != 0;
    if *misfit {
        return Seen::Failed;
    }
    match action {
        Action::BeginIntent | Action::BeginSubmit => Seen::Fence(*fence),
        Action::Look | Action::Prove => Seen::Look(look.clone()),
        Action::TryGrab => Seen::Grab(lucky),
        Action::ReadKeys => {
            Seen::Keys([Keys::Up, Keys::Up, Keys::Up, Keys::Held, Keys::CapsLock][usize::from(dice % 5)])
        }
        Action::ReadIdle => Seen::Idle(lucky),
        Action::TypeText => Seen::Typed(
            [Typed::Complete, Typed::Complete, Typed::Complete, Typed::Interrupted, Typed::Failed]
                [usize::from(dice % 5)],
        ),
        Action::PressEnter => {
            if lucky {
                Seen::Entered
            } else {
                Seen::NotPressed
            }
        }
        Action::ReadOwnLine => Seen::OwnLine([Some(true), Some(false), None][usize::from(dice % 3)]),
        Action::AskAligned => Seen::Aligned(lucky),
        _ => {
            if lucky {
                Seen::Done
            } else {
                Seen::Failed
            }
        }
    }
}

fn holds(trace: &[(Action, Option<Seen>)], recovered_after_enter: bool) -> Result<(), TestCaseError> {
    let (mut entered, mut enters) = (recovered_after_enter, 0);
    for (at, (action, seen)) in trace.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map(|index| &trace[index]);
        let looked = |back: usize| match before(back) {
            Some((Action::Look | Action::Prove, Some(Seen::Look(look)))) => Some(look.clone()),
            _ => None,
        };
        match action {
            Action::PressEnter => {
                enters += 1;
                prop_assert!(!entered, "Enter twice, or after a crash");
                prop_assert_eq!(looked(1), Some(good(TEXT)), "no proof right before Enter");
                let passed = matches!(before(2), Some((Action::BeginSubmit, Some(Seen::Fence(Fence::Pass { .. })))));
                prop_assert!(passed, "no pass right before the proof");
                entered = *seen != Some(Seen::NotPressed);
            }
            Action::TypeText => {
                prop_assert!(!entered, "typed after Enter");
                let look = looked(1);
                prop_assert!(look.is_some_and(|l| l == Look { free: l.free, ..good("") }), "typed blindly");
            }
            Action::ClearInput => {
                let text = looked(1).and_then(|look| look.text).unwrap_or_default();
                prop_assert!(!text.is_empty() && TEXT.starts_with(&text), "cleared what is not ours");
            }
            Action::Finish(Finish::End { effect, .. }) => {
                prop_assert_eq!(entered, effect.may_have_sent());
                if *effect == Effect::Confirmed {
                    prop_assert_eq!(before(1).and_then(|(_, seen)| seen.clone()), Some(Seen::OwnLine(Some(true))));
                }
            }
            Action::Finish(Finish::Abandon { .. } | Finish::Blocked { .. }) => {
                prop_assert!(!entered, "sent, and put back")
            }
            _ => {}
        }
    }
    prop_assert!(enters <= 1);
    prop_assert_eq!(trace.iter().filter(|(action, _)| matches!(action, Action::Finish(_))).count(), 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn the_promises_hold_for_any_observations(draws in draws(), start in 0..6u8, faults in 0..3u32) {
        let machine = match start {
            0 => Machine::after_intent(TEXT.to_owned(), limits()),
            1 => Machine::after_submitting(TEXT.to_owned(), limits(), 3),
            _ => Machine::new(TEXT.to_owned(), limits(), faults),
        };
        let trace = drive(machine, |action, turn| {
            let draw = &draws[turn % draws.len()];
            (fitting(action, draw), Context { now: Duration::ZERO, person: draw.3, stop: draw.4 })
        });
        holds(&trace, start == 1)?;
    }

    #[test]
    fn nothing_of_ours_stays_behind_an_order_that_is_put_back(draws in draws()) {
        let trace = drive(Machine::new(TEXT.to_owned(), limits(), 0), |action, turn| {
            let draw = &draws[turn % draws.len()];
            (fitting(action, draw), Context { now: Duration::ZERO, person: draw.3, stop: draw.4 })
        });
        let typed = trace.iter().any(|(action, _)| *action == Action::TypeText);
        if let (Finish::Abandon { .. }, true) = (finish(&trace), typed) {
            let last = trace.iter().rev().find_map(|(_, seen)| match seen { Some(Seen::Look(look)) => Some(look.clone()), _ => None });
            prop_assert!(last.is_some_and(|look| look.proof == Proof::Absent || look.text.as_deref() == Some("")));
        }
    }
}
