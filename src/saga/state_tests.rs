use proptest::prelude::*;

use super::*;

fn effects() -> impl Strategy<Value = Effect> {
    proptest::sample::select(Effect::ALL.to_vec())
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::RevisionRaised),
        Just(Event::QuotaReserved),
        Just(Event::DraftStored),
        Just(Event::ApprovalRequested),
        Just(Event::Issued),
        Just(Event::Approved),
        Just(Event::Rejected),
        effects().prop_map(Event::Abandoned),
        Just(Event::WithdrawalRequested),
        Just(Event::HandedOver),
        effects().prop_map(Event::Outcome),
    ]
}

/// What a ledger would hold: every revision's quota, settled at most once.
#[derive(Default)]
struct Books {
    reserved: bool,
    settlements_of_this_revision: u32,
}

impl Books {
    fn apply(&mut self, from: State, event: Event, to: State) {
        if event == Event::QuotaReserved {
            assert!(!self.reserved, "a quota is reserved once a revision");
            self.reserved = true;
        }
        if settle(from, to).is_some() {
            assert!(self.reserved, "{from} -> {to} settles a quota that was never reserved");
            self.settlements_of_this_revision += 1;
        }
        let expected = u32::from(self.reserved && (to.effect().is_some() || event == Event::RevisionRaised));
        assert_eq!(self.settlements_of_this_revision, expected, "{from} -{event:?}-> {to}");
        if event == Event::RevisionRaised {
            *self = Self::default();
        }
    }
}

fn happy() -> [Event; 4] {
    [Event::QuotaReserved, Event::DraftStored, Event::Issued, Event::Outcome(Effect::Confirmed)]
}

proptest! {
    #[test]
    fn any_sequence_reaches_only_legal_states_and_settles_each_quota_once(
        sequence in proptest::collection::vec(events(), 0..40)
    ) {
        let (mut state, mut books, mut sent) = (State::START, Books::default(), false);
        for event in sequence {
            let Ok(next) = step(state, event) else { continue };
            prop_assert!(TABLE.iter().any(|rule| rule.from == state.phase() && rule.event == event.as_str()));
            if sent {
                prop_assert_eq!(next, State::Ended(Effect::Confirmed), "confirmed regressed by {:?}", event);
            }
            if matches!(state.phase(), Phase::Issued | Phase::Withdrawing) && next.effect().is_some() {
                prop_assert!(matches!(event, Event::Outcome(_) | Event::HandedOver));
            }
            if let (State::Ended(old), State::Ended(new)) = (state, next) {
                prop_assert!(strength(new) > strength(old));
            }
            books.apply(state, event, next);
            sent |= next == State::Ended(Effect::Confirmed);
            state = next;
        }
    }

    #[test]
    fn a_late_confirmation_replaces_every_weaker_end(end in effects()) {
        let late = step(State::Ended(end), Event::Outcome(Effect::Confirmed));
        prop_assert_eq!(late.is_ok(), end != Effect::Confirmed);
    }

    #[test]
    fn a_worker_never_claims_that_something_was_sent(effect in effects(), at in 0usize..3) {
        let state = happy()[..at].iter().fold(State::START, |state, event| step(state, *event).unwrap());
        let ended = step(state, Event::Abandoned(effect));
        let may = !effect.may_have_sent() && state.phase() != Phase::Issued;
        prop_assert_eq!(ended.is_ok(), may, "{} {}", state, effect);
    }
}

#[test]
fn fail_every_step() {
    for failing in 0..3 {
        let (mut state, mut books) = (State::START, Books::default());
        for event in &happy()[..failing] {
            let next = step(state, *event).unwrap();
            books.apply(state, *event, next);
            state = next;
        }
        let plan = compensation(state, Effect::Failed);
        assert_eq!(plan.contains(&Undo::ReleaseQuota), books.reserved);
        let end = Event::Abandoned(Effect::Failed);
        let next = step(state, end).unwrap();
        books.apply(state, end, next);
    }
}

#[test]
fn repeating_every_step_is_illegal_and_so_changes_nothing() {
    let mut state = State::START;
    for event in happy() {
        state = step(state, event).unwrap();
        assert_eq!(step(state, event), Err(Illegal { state, event }));
    }
}

#[test]
fn the_plan_undoes_in_reverse_and_withdraws_only_what_was_issued() {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Ended) {
        for effect in [Effect::Failed, Effect::NeedsAttention] {
            let plan = compensation(State::Open(phase), effect);
            assert!(plan.windows(2).all(|pair| (pair[0] as u8) < (pair[1] as u8)), "{phase}: {plan:?}");
            assert_eq!(plan.contains(&Undo::Withdraw), phase == Phase::Issued);
            let issued = matches!(phase, Phase::Issued | Phase::Withdrawing);
            let end = if issued { Effect::NeedsAttention } else { effect };
            let undone = settle(State::Open(phase), State::Ended(end)) == Some(Settlement::Released);
            assert_eq!(plan.contains(&Undo::ReleaseQuota), undone, "{phase} {effect}");
        }
    }
    assert_eq!(compensation(State::Ended(Effect::Failed), Effect::Failed), &[]);
}

#[test]
fn only_a_withdrawn_reply_is_handed_over() {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Ended) {
        assert_eq!(step(State::Open(phase), Event::HandedOver).is_ok(), phase == Phase::Withdrawing);
    }
}

#[test]
fn the_documentation_holds_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/saga.md");
    let document = std::fs::read_to_string(path).unwrap();
    let table = table_as_markdown();
    assert!(document.contains(&table), "docs/saga.md must hold this table:\n{table}");
}

proptest! {
    #[test]
    fn only_a_step_to_the_end_is_an_end_and_each_life_has_one_before_it_is_corrected(
        sequence in proptest::collection::vec((events(), any::<bool>()), 0..40)
    ) {
        let (mut state, mut ends) = (State::START, 0);
        for (event, is_overdue) in sequence {
            let Ok(next) = step(state, event) else { continue };
            let end = End::of(state, next, is_overdue);
            prop_assert_eq!(end.is_some(), next.effect().is_some());
            match end {
                Some(End::InTime) => prop_assert!(!is_overdue || state.phase() == Phase::AwaitingApproval),
                Some(End::Late) => prop_assert!(is_overdue || state.phase() == Phase::Withdrawing),
                Some(End::Corrected) => prop_assert!(state.effect().is_some()),
                None => {}
            }
            ends += u32::from(matches!(end, Some(End::InTime | End::Late)));
            if event == Event::RevisionRaised {
                ends = 0;
            }
            prop_assert_eq!(ends, u32::from(next.effect().is_some()));
            state = next;
        }
    }
}
