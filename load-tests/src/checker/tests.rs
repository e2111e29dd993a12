//! The judge is judged: consistent histories are clean, and each planted fault is found as what it is.

use proptest::prelude::*;

use super::material::{Facts, Leak, Saga, Shown};
use super::sample::{FATES, Fate, PLAIN, Step, allowed, history};
use super::{Allowed, Judgement, judge};
use crate::facts::{Side, token};

/// Three conversations on two desktops in which every fate occurs; the first begins with confirmed turns.
fn clean() -> Facts {
    let first = vec![(1, Fate::Confirmed), (2, Fate::Confirmed), (1, Fate::Superseded), (1, Fate::Confirmed)];
    let second: Vec<Step> = FATES.iter().map(|fate| (2, *fate)).collect();
    let third = vec![(1, Fate::Confirmed), (1, Fate::Plain), (1, Fate::Plain)];
    history(&[first, second, third])
}

/// What the judge finds after `plant` has put a fault into a clean history.
fn found(plant: impl FnOnce(&mut Facts)) -> Vec<Judgement> {
    let mut facts = clean();
    plant(&mut facts);
    let verdict = judge(&facts, &allowed());
    for finding in &verdict.findings {
        assert_eq!(finding.faults > 0, !finding.offenders.is_empty(), "every fault names an offender");
    }
    assert_eq!(verdict.clean, verdict.faulty().is_empty());
    verdict.faulty()
}

fn saga<'a>(facts: &'a mut Facts, turn: &str) -> &'a mut Saga {
    facts.ledger.sagas.iter_mut().find(|saga| saga.turn == turn).unwrap()
}

/// The place of the `n`th sent line of a peer.
fn own(facts: &Facts, peer: &str, n: usize) -> usize {
    let lines = facts.shown.iter().enumerate().filter(|(_, line)| line.side == Side::Own && line.peer == peer);
    lines.map(|(place, _)| place).nth(n).unwrap()
}

/// Takes every trace of a turn out of ledger and topics.
fn forget(facts: &mut Facts, turn: &str) {
    let ledger = &mut facts.ledger;
    ledger.sagas.retain(|row| row.turn != turn);
    ledger.events.retain(|row| row.turn != turn);
    ledger.drafts.retain(|row| row.turn != turn);
    ledger.outbox.retain(|row| row.turn != turn);
    let used = ledger.quota.iter().filter(|row| row.turn == turn && row.state != "released").count();
    ledger.quota.retain(|row| row.turn != turn);
    ledger.days[0].taken -= used as i64;
    let topics = facts.topics.as_mut().unwrap();
    topics.turns.retain(|other| other != turn);
    topics.sends.retain(|row| row.turn != turn);
    topics.outcomes.retain(|row| row.turn != turn);
}

#[test]
fn a_clean_history_is_clean_and_counted() {
    let facts = clean();
    let verdict = judge(&facts, &allowed());
    assert!(verdict.clean, "{verdict}");
    assert_eq!(verdict.counts.never_shown, 3);
    assert_eq!(verdict.counts.unproven, 1);
    assert_eq!(verdict.counts.turns, 4 + 12 + 3);
    let shown = verdict.counts.planned - verdict.counts.never_shown;
    assert_eq!(verdict.counts.answered + verdict.counts.reasoned, shown, "the plain replies are told as reasons");
}

#[test]
fn a_reply_that_vanished_with_its_turn_is_lost() {
    let plant = |facts: &mut Facts| {
        forget(facts, "turn-0-0");
        let place = own(facts, "peer-0", 0);
        facts.shown.remove(place);
    };
    assert_eq!(found(plant), [Judgement::Lost]);
}

#[test]
fn a_superseded_turn_without_a_successor_is_lost() {
    let plant = |facts: &mut Facts| {
        forget(facts, "turn-0-3");
        let place = own(facts, "peer-0", 2);
        facts.shown.remove(place);
    };
    let mut facts = clean();
    plant(&mut facts);
    let verdict = judge(&facts, &allowed());
    assert_eq!(verdict.faulty(), [Judgement::Lost]);
    assert_eq!(verdict.faults(Judgement::Lost), 2, "the superseded message and the one after it");
}

#[test]
fn a_reply_that_leaves_out_a_message_of_its_turn_loses_it() {
    let plant = |facts: &mut Facts| {
        let (place, text) = (own(facts, "peer-0", 1), format!("Re: {}", token(1)));
        facts.ledger.drafts[1].text = Some(text.clone());
        facts.topics.as_mut().unwrap().sends[1].text = text.clone();
        facts.shown[place].text = text;
    };
    assert_eq!(found(plant), [Judgement::Lost]);
}

#[test]
fn history_is_told_apart_and_is_lost_unless_it_was_expected() {
    let plant = |facts: &mut Facts| {
        forget(facts, "turn-0-0");
        let place = own(facts, "peer-0", 0);
        facts.shown.remove(place);
        facts.journals[0].history.push(token(0));
    };
    assert_eq!(found(plant), [Judgement::Lost]);
    let mut facts = clean();
    plant(&mut facts);
    assert!(judge(&facts, &Allowed { history: 1, ..allowed() }).clean);
}

#[test]
fn a_line_that_was_sent_twice_is_a_duplicate() {
    let plant = |facts: &mut Facts| {
        let line = facts.shown[own(facts, "peer-0", 0)].clone();
        facts.shown.push(line);
    };
    assert_eq!(found(plant), [Judgement::Duplicates]);
}

#[test]
fn two_lines_of_one_turn_are_a_duplicate_whatever_they_name() {
    let plant = |facts: &mut Facts| {
        // One of the two messages of a turn in each line.
        let place = own(facts, "peer-0", 1);
        let mut second = facts.shown[place].clone();
        facts.shown[place].text = format!("Re: {}", token(1));
        second.text = format!("Re: {}", token(2));
        facts.ledger.drafts[1].text = Some(facts.shown[place].text.clone());
        let mut other = facts.ledger.drafts[1].clone();
        other.text = Some(second.text.clone());
        facts.ledger.drafts.push(other);
        facts.topics.as_mut().unwrap().sends[1].text = second.text.clone();
        facts.shown.insert(place + 1, second);
    };
    assert_eq!(found(plant), [Judgement::Duplicates]);
}

#[test]
fn a_line_that_names_nothing_is_unknown() {
    let plant = |facts: &mut Facts| {
        let text = format!("hello {}", token(99_999));
        facts.shown.push(Shown { desktop: "desk-0".into(), peer: "peer-0".into(), side: Side::Own, text });
    };
    assert_eq!(found(plant), [Judgement::Unknown]);
}

#[test]
fn swapped_windows_are_misdelivered() {
    let plant = |facts: &mut Facts| {
        let (one, other) = (own(facts, "peer-0", 0), own(facts, "peer-2", 0));
        let (one_text, other_text) = (facts.shown[one].text.clone(), facts.shown[other].text.clone());
        (facts.shown[one].text, facts.shown[other].text) = (other_text, one_text);
    };
    assert_eq!(found(plant), [Judgement::Misdelivered]);
}

#[test]
fn swapped_replies_of_one_window_are_out_of_order() {
    let plant = |facts: &mut Facts| {
        // The first reply is shown after the second.
        let line = facts.shown.remove(own(facts, "peer-0", 0));
        let second = own(facts, "peer-0", 0);
        facts.shown.insert(second + 1, line);
    };
    assert_eq!(found(plant), [Judgement::Order]);
}

#[test]
fn a_reply_before_its_message_is_out_of_order() {
    let plant = |facts: &mut Facts| {
        let line = facts.shown.remove(own(facts, "peer-0", 0));
        facts.shown.insert(0, line);
    };
    assert_eq!(found(plant), [Judgement::Order]);
}

#[test]
fn a_claim_without_a_line_is_found() {
    let plant = |facts: &mut Facts| {
        let place = own(facts, "peer-0", 0);
        facts.shown.remove(place);
    };
    assert_eq!(found(plant), [Judgement::Claims]);
    // As many confirmed turns as plain lines, or one has no evidence.
    let plant = |facts: &mut Facts| {
        let place = facts.shown.iter().rposition(|line| line.text == PLAIN).unwrap();
        facts.shown.remove(place);
    };
    assert_eq!(found(plant), [Judgement::Claims]);
}

#[test]
fn a_line_of_a_turn_that_says_nothing_was_sent_is_found() {
    let plant = |facts: &mut Facts| {
        // A refused reply that was typed all the same.
        let text = facts.ledger.drafts.iter().find(|draft| draft.turn == "turn-1-7").unwrap().text.clone().unwrap();
        let asked = crate::facts::tokens(&text).last().unwrap().to_owned().to_owned();
        let after = facts.shown.iter().position(|line| line.text.contains(&asked));
        let line = Shown { desktop: "desk-0".into(), peer: "peer-1".into(), side: Side::Own, text };
        facts.shown.insert(after.unwrap() + 1, line);
    };
    assert_eq!(found(plant), [Judgement::Claims]);
}

#[test]
fn a_line_that_no_draft_holds_is_found() {
    let plant = |facts: &mut Facts| {
        let place = own(facts, "peer-1", 2);
        facts.shown[place].text.push_str(" and more");
        let turn = "turn-1-2";
        assert_eq!(saga(facts, turn).effect.as_deref(), Some("unverifiable"), "it needs no line as evidence");
    };
    assert_eq!(found(plant), [Judgement::Claims]);
}

#[test]
fn ends_that_contradict_their_story_are_found() {
    assert_eq!(found(|facts| saga(facts, "turn-1-5").effect = Some("failed".into())), [Judgement::Ends]);
    assert_eq!(
        found(|facts| {
            let row = saga(facts, "turn-1-5").clone();
            facts.ledger.sagas.push(row);
        }),
        [Judgement::Ends]
    );
    let silent = |facts: &mut Facts| {
        let last = facts.ledger.events.iter_mut().rfind(|event| event.turn == "turn-1-5").unwrap();
        last.detail.clear();
    };
    assert_eq!(found(silent), [Judgement::Ends]);
    let twice = |facts: &mut Facts| {
        let issued = facts.ledger.events.iter().position(|event| event.event == "issued").unwrap();
        let again = facts.ledger.events[issued].clone();
        facts.ledger.events.insert(issued, again);
    };
    assert_eq!(found(twice), [Judgement::Ends]);
    let regressed = |facts: &mut Facts| {
        let last = facts.ledger.events.iter().rposition(|event| event.turn == "turn-0-0").unwrap();
        let mut before = facts.ledger.events[last].clone();
        before.state_to = "ended(refused)".into();
        before.detail = "refused: no".into();
        facts.ledger.events.insert(last + 1, before.clone());
        let confirmed = facts.ledger.events[last].clone();
        facts.ledger.events.insert(last + 2, confirmed);
    };
    assert_eq!(found(regressed), [Judgement::Ends]);
}

#[test]
fn tampered_quota_is_found() {
    assert_eq!(found(|facts| facts.ledger.days[0].taken += 1), [Judgement::Quota]);
    assert_eq!(found(|facts| facts.ledger.days.clear()), [Judgement::Quota]);
    let state = |turn: &'static str, state: &'static str, by: i64| {
        move |facts: &mut Facts| {
            facts.ledger.quota.iter_mut().find(|row| row.turn == turn).unwrap().state = state.to_owned();
            facts.ledger.days[0].taken += by;
        }
    };
    assert_eq!(found(state("turn-0-0", "reserved", 0)), [Judgement::Quota], "reserved for an ended turn");
    assert_eq!(found(state("turn-0-0", "released", -1)), [Judgement::Quota], "a reply that nothing was used for");
    assert_eq!(found(state("turn-1-5", "used", 1)), [Judgement::Quota], "used for a reply that was never sent");
    let missing = |facts: &mut Facts| {
        facts.ledger.quota.retain(|row| row.turn != "turn-0-0");
        facts.ledger.days[0].taken -= 1;
    };
    assert_eq!(found(missing), [Judgement::Quota]);
}

/// Takes the last turn of the second conversation back to `issued`.
fn reopen(facts: &mut Facts) {
    let turn = "turn-1-5";
    let row = saga(facts, turn);
    (row.state, row.effect) = ("quota_reserved".to_owned(), None);
    let last = facts.ledger.events.iter().rposition(|event| event.turn == turn).unwrap();
    facts.ledger.events.remove(last);
    facts.ledger.quota.iter_mut().find(|row| row.turn == turn).unwrap().state = "reserved".to_owned();
    facts.ledger.days[0].taken += 1;
}

#[test]
fn what_is_left_open_is_found() {
    assert_eq!(found(reopen), [Judgement::Open], "past its deadline");
    let at_rest = |facts: &mut Facts| {
        reopen(facts);
        saga(facts, "turn-1-5").deadline_ms = 2_000_000;
    };
    assert_eq!(found(at_rest), [Judgement::Open], "within its deadline, and nobody works on it");
    let mut facts = clean();
    at_rest(&mut facts);
    assert!(judge(&facts, &Allowed { open: true, ..allowed() }).clean);
    assert_eq!(found(|facts| facts.ledger.outbox[0].published = false), [Judgement::Open]);
    assert_eq!(found(|facts| facts.journals[0].open.push("turn-9".into())), [Judgement::Open]);
    assert_eq!(found(|facts| facts.journals[0].unacknowledged.push("turn-9".into())), [Judgement::Open]);
}

#[test]
fn dead_letters_must_be_those_that_were_planted() {
    let plant = |facts: &mut Facts| facts.topics.as_mut().unwrap().dead_letters.push("messages 3/17: not JSON".into());
    assert_eq!(found(plant), [Judgement::DeadLetters]);
    let mut facts = clean();
    assert_eq!(judge(&facts, &Allowed { dead_letters: 1, ..allowed() }).faulty(), [Judgement::DeadLetters]);
    plant(&mut facts);
    assert!(judge(&facts, &Allowed { dead_letters: 1, ..allowed() }).clean);
}

#[test]
fn records_that_the_ledger_does_not_know_are_found() {
    fn topics(facts: &mut Facts) -> &mut super::material::Topics {
        facts.topics.as_mut().unwrap()
    }
    assert_eq!(found(|facts| topics(facts).turns.push("turn-9".into())), [Judgement::Records]);
    assert_eq!(found(|facts| topics(facts).sends[0].text.push('!')), [Judgement::Records]);
    assert_eq!(found(|facts| topics(facts).sends[0].revision = 7), [Judgement::Records]);
    assert_eq!(found(|facts| topics(facts).unreadable.push("outcomes 0/1".into())), [Judgement::Records]);
    assert_eq!(found(|facts| facts.ledger.orphans.push("turn-9".into())), [Judgement::Records]);
    let told = |facts: &mut Facts| topics(facts).outcomes.last_mut().unwrap().turn = "turn-1-5".into();
    assert_eq!(found(told), [Judgement::Records]);
}

#[test]
fn a_leak_is_found() {
    let leak = Leak { place: "worker-1.log:7".into(), token: token(3) };
    assert_eq!(found(|facts| facts.leaks.push(leak)), [Judgement::Hygiene]);
}

#[test]
fn a_run_that_showed_something_else_than_planned_is_found() {
    let shown_twice = |facts: &mut Facts| {
        let line = facts.shown[0].clone();
        facts.shown.push(line);
    };
    assert_eq!(found(shown_twice), [Judgement::Plan]);
    let unplanned = |facts: &mut Facts| facts.shown[0].text.push_str(&format!(" {}", token(99_999)));
    assert_eq!(found(unplanned), [Judgement::Plan]);
}

#[test]
fn the_verdict_names_the_first_offenders_and_counts_all() {
    let mut facts = clean();
    facts.topics.as_mut().unwrap().dead_letters = (0..30).map(|n| format!("letter {n}")).collect();
    let verdict = judge(&facts, &allowed());
    let finding = verdict.findings.iter().find(|finding| finding.judgement == Judgement::DeadLetters).unwrap();
    assert_eq!((finding.faults, finding.offenders.len()), (30, 20));
    let text = verdict.to_string();
    assert!(text.contains("30 FAULTS") && text.contains("and 10 more") && text.ends_with("THE RUN OFFENDS"), "{text}");
    let json = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<super::Verdict>(&json).unwrap(), verdict);
}

fn scripts() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (1..4_usize, prop::sample::select(FATES.to_vec()));
    prop::collection::vec(prop::collection::vec(step, 1..8), 1..7)
}

proptest! {
    #[test]
    fn consistent_histories_are_clean(script in scripts()) {
        let verdict = judge(&history(&script), &allowed());
        prop_assert!(verdict.clean, "{}", verdict);
    }

    #[test]
    fn one_line_more_or_less_is_never_clean(script in scripts(), at in any::<prop::sample::Index>()) {
        let mut facts = history(&script);
        let named: Vec<usize> = (0..facts.shown.len())
            .filter(|place| facts.shown[*place].side == Side::Own && facts.shown[*place].text != PLAIN)
            .collect();
        prop_assume!(!named.is_empty());
        let place = named[at.index(named.len())];
        let line = facts.shown[place].clone();
        facts.shown.push(line);
        prop_assert_eq!(judge(&facts, &allowed()).faulty(), [Judgement::Duplicates]);
        facts.shown.pop();
        let line = facts.shown.remove(place);
        let author = facts.ledger.drafts.iter().find(|draft| draft.text.as_ref() == Some(&line.text)).unwrap();
        let turn = author.turn.clone();
        let effect = facts.ledger.sagas.iter().find(|saga| saga.turn == turn).unwrap().effect.clone();
        // Of a reply that nobody could prove, the line may be missing.
        let expected: &[Judgement] = if effect.as_deref() == Some("confirmed") { &[Judgement::Claims] } else { &[] };
        prop_assert_eq!(judge(&facts, &allowed()).faulty(), expected);
    }
}
