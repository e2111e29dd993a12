//! Judgements about what the ledger, the topics and the journals hold.

use std::collections::{HashMap, HashSet};

use super::index::{Index, may_have_sent};
use super::material::{Event, Quota, Saga};
use super::verdict::Counts;

/// States in which one reply of the day's quota is held.
const HOLDING: [&str; 5] = ["quota_reserved", "drafted", "awaiting_approval", "issued", "withdrawing"];
/// Lines of a story that change nothing.
const NOTES: [&str; 3] = ["published", "outcome_kept", "taken_over"];

/// Turns that have not exactly one end which their story tells too, with a reason.
pub(super) fn ends(index: &Index<'_>) -> Vec<String> {
    let mut offenders = Vec::new();
    let mut seen = HashSet::new();
    for saga in &index.facts.ledger.sagas {
        if !seen.insert(saga.turn.as_str()) {
            offenders.push(format!("turn {} is in the ledger twice", saga.turn));
        } else if let Some(why) = end_fault(saga, index.story(&saga.turn)) {
            offenders.push(format!("turn {} on {}: {why}", saga.turn, saga.desktop));
        }
    }
    offenders
}

fn end_fault(saga: &Saga, story: &[&Event]) -> Option<String> {
    if (saga.state == "ended") != saga.effect.is_some() {
        return Some(format!("it is {} with the effect {:?}", saga.state, saga.effect));
    }
    let state = match &saga.effect {
        Some(effect) => format!("ended({effect})"),
        None => saga.state.clone(),
    };
    let steps: Vec<&&Event> = story.iter().filter(|event| !NOTES.contains(&event.event.as_str())).collect();
    let Some(last) = steps.last() else { return Some("it has no story".to_owned()) };
    if last.state_to != state {
        return Some(format!("it is {state}, and its story ends with {}", last.state_to));
    }
    let mut issued = HashSet::new();
    for event in &steps {
        if matches!(event.event.as_str(), "issued" | "approved") && !issued.insert(event.revision) {
            return Some(format!("its revision {} was issued twice", event.revision));
        }
    }
    for pair in steps.windows(2) {
        if let Some(before) = effect_of(pair[0])
            && !may_follow(before, effect_of(pair[1]))
        {
            return Some(format!("after it ended as {before} came {} to {}", pair[1].event, pair[1].state_to));
        }
    }
    let reason = last.detail.split_once(": ").map_or(last.detail.as_str(), |(_, reason)| reason);
    let is_silent = saga.effect.is_some() && last.event != "rejected" && reason.trim().is_empty();
    is_silent.then(|| "it ended without a reason".to_owned())
}

fn effect_of(event: &Event) -> Option<&str> {
    event.state_to.strip_prefix("ended(")?.strip_suffix(')')
}

/// Whether a turn that ended in `before` may end in another effect, or be opened again by newer text (`None`):
/// evidence of sending beats any guess, `confirmed` stays, and what may have been sent is never opened again.
fn may_follow(before: &str, next: Option<&str>) -> bool {
    match next {
        None => !may_have_sent(before),
        Some("confirmed") => before != "confirmed",
        Some("unverifiable") => !may_have_sent(before),
        Some(next) => matches!(before, "needs_attention" | "off") && next != before,
    }
}

/// Effects without their lines, and lines without their effect.
pub(super) fn claims(index: &Index<'_>, counts: &mut Counts) -> Vec<String> {
    let mut offenders = Vec::new();
    for saga in &index.facts.ledger.sagas {
        if saga.effect.as_deref() == Some("confirmed") && !index.sent.contains_key(saga.turn.as_str()) {
            offenders.push(format!("turn {} on {} is confirmed and no line of it is shown", saga.turn, saga.desktop));
        }
    }
    for line in &index.own {
        let (desktop, peer) = line.window;
        let place = format!("line {} of the window of {peer} on {desktop}", line.place);
        let Some(saga) = line.saga else {
            // A line that names nothing is told as unknown.
            if !line.tokens.is_empty() {
                offenders.push(format!("{place} is no draft of the ledger"));
            }
            continue;
        };
        match saga.effect.as_deref() {
            Some(effect) if may_have_sent(effect) => {}
            Some("needs_attention") if index.was_issued(&saga.turn) => counts.unproven += 1,
            None if index.allowed.open => {}
            effect => {
                let state = effect.unwrap_or(&saga.state);
                offenders.push(format!("{place} was sent for turn {}, which is {state}", saga.turn));
            }
        }
    }
    offenders
}

/// Rows of quota that do not fit their turns, and days whose counter is not the sum of their rows.
pub(super) fn quota(index: &Index<'_>) -> Vec<String> {
    let ledger = &index.facts.ledger;
    let mut offenders = Vec::new();
    let mut by_turn: HashMap<&str, Vec<&Quota>> = HashMap::new();
    let mut taken: HashMap<i64, i64> = HashMap::new();
    for row in &ledger.quota {
        by_turn.entry(&row.turn).or_default().push(row);
        *taken.entry(row.day).or_default() += i64::from(row.state != "released");
        let fault = match index.sagas.get(row.turn.as_str()) {
            None => Some("a turn that is not in the ledger".to_owned()),
            Some(saga) => row_fault(index, row, saga),
        };
        offenders.extend(fault.map(|why| format!("quota {} of turn {}/{}: {why}", row.state, row.turn, row.revision)));
    }
    for saga in &ledger.sagas {
        let rows = by_turn.get(saga.turn.as_str()).map_or(&[][..], Vec::as_slice);
        offenders.extend(saga_fault(index, saga, rows).map(|why| format!("turn {}: {why}", saga.turn)));
    }
    for day in &ledger.days {
        let sum = taken.remove(&day.day).unwrap_or_default();
        if sum != day.taken {
            offenders.push(format!("day {} counts {} and its rows are {sum}", day.day, day.taken));
        }
    }
    offenders.extend(
        taken.iter().filter(|(_, sum)| **sum > 0).map(|(day, sum)| format!("day {day} has {sum} rows and no counter")),
    );
    offenders.sort();
    offenders
}

fn row_fault(index: &Index<'_>, row: &Quota, saga: &Saga) -> Option<String> {
    let holds = HOLDING.contains(&saga.state.as_str()) && saga.revision == row.revision;
    match row.state.as_str() {
        "reserved" if saga.effect.is_some() => Some("the turn has ended".to_owned()),
        "reserved" if !holds => Some(format!("the turn is {} at revision {}", saga.state, saga.revision)),
        "reserved" => None,
        "used" => {
            // A hand-over after issuing counts as used: nobody knows whether it was sent.
            let spent = |effect: &str| may_have_sent(effect) || effect == "needs_attention";
            let is_spent = index.story(&row.turn).iter().any(|event| effect_of(event).is_some_and(spent));
            (!is_spent).then(|| "nothing was sent for the turn".to_owned())
        }
        "released" => holds.then(|| format!("the turn is {}", saga.state)),
        other => Some(format!("{other:?} is not a state of quota")),
    }
}

fn saga_fault(index: &Index<'_>, saga: &Saga, rows: &[&Quota]) -> Option<String> {
    let has = |state: &str| rows.iter().any(|row| row.state == state);
    if HOLDING.contains(&saga.state.as_str()) && !has("reserved") {
        return Some(format!("it is {} and holds no quota", saga.state));
    }
    let sent = saga.effect.as_deref().is_some_and(may_have_sent);
    if !sent || has("used") {
        return None;
    }
    // A reply that was sent although its revision had been overtaken, or its end told before the proof: what was
    // released by then stays released.
    let was_settled = index.story(&saga.turn).iter().any(|event| {
        event.event == "revision_raised" || (effect_of(event).is_some_and(|effect| !may_have_sent(effect)))
    });
    (!(was_settled && has("released"))).then(|| "its reply was sent and no quota is used for it".to_owned())
}

/// Turns past their deadline, or open at rest; commands, journal rows and outcomes that wait.
pub(super) fn open(index: &Index<'_>) -> Vec<String> {
    let ledger = &index.facts.ledger;
    let mut offenders = Vec::new();
    for saga in ledger.sagas.iter().filter(|saga| saga.effect.is_none()) {
        let late = ledger.now_ms - saga.deadline_ms - index.allowed.grace_ms;
        if late >= 0 {
            offenders.push(format!(
                "turn {} on {} is {} and {} s past its deadline",
                saga.turn,
                saga.desktop,
                saga.state,
                (late + index.allowed.grace_ms) / 1000
            ));
        } else if !index.allowed.open && saga.state != "awaiting_approval" {
            offenders.push(format!("turn {} on {} is still {}", saga.turn, saga.desktop, saga.state));
        }
    }
    if index.allowed.open {
        return offenders;
    }
    for row in ledger.outbox.iter().filter(|row| !row.published && !row.cancelled) {
        offenders.push(format!("the {} of turn {}/{} is not published", row.kind, row.turn, row.revision));
    }
    for journal in &index.facts.journals {
        let told = |what: &str, turn: &String| format!("the journal of {}: turn {turn} {what}", journal.desktop);
        offenders.extend(journal.open.iter().map(|turn| told("has no effect and is not acknowledged", turn)));
        offenders.extend(journal.unacknowledged.iter().map(|turn| told("is not acknowledged", turn)));
    }
    offenders
}

/// Dead letters, unless exactly those that were planted.
pub(super) fn dead_letters(index: &Index<'_>) -> Vec<String> {
    let Some(topics) = &index.facts.topics else { return Vec::new() };
    let (found, planted) = (topics.dead_letters.len(), index.allowed.dead_letters);
    match found.cmp(&planted) {
        std::cmp::Ordering::Equal => Vec::new(),
        std::cmp::Ordering::Less => vec![format!("{planted} dead letters were planted and {found} are there")],
        std::cmp::Ordering::Greater => topics.dead_letters.iter().skip(planted).cloned().collect(),
    }
}

/// Records of topics that the ledger does not know: nothing may be published before it is in the ledger, and nothing
/// that was published may be missing there.
pub(super) fn records(index: &Index<'_>) -> Vec<String> {
    let mut offenders: Vec<String> = index
        .facts
        .ledger
        .orphans
        .iter()
        .map(|turn| format!("an outcome waits for turn {turn}, which never came"))
        .collect();
    let Some(topics) = &index.facts.topics else { return offenders };
    offenders.extend(topics.unreadable.iter().cloned());
    let mut told = HashSet::new();
    for turn in topics.turns.iter().chain(topics.outcomes.iter().map(|outcome| &outcome.turn)) {
        if !index.sagas.contains_key(turn.as_str()) && told.insert(turn) {
            offenders.push(format!("turn {turn} is in a topic and not in the ledger"));
        }
    }
    for outcome in topics.outcomes.iter().filter(|outcome| outcome.effect == "confirmed") {
        let effect = index.sagas.get(outcome.turn.as_str()).map(|saga| saga.effect.as_deref());
        if let Some(effect) = effect.filter(|effect| *effect != Some("confirmed")) {
            offenders.push(format!("turn {} was told as confirmed and is {effect:?} in the ledger", outcome.turn));
        }
    }
    let drafts: HashSet<(&str, u32, &str)> = index
        .facts
        .ledger
        .drafts
        .iter()
        .filter_map(|draft| Some((draft.turn.as_str(), draft.revision, draft.text.as_deref()?)))
        .collect();
    for send in &topics.sends {
        if !drafts.contains(&(send.turn.as_str(), send.revision, send.text.as_str())) {
            offenders
                .push(format!("a reply to turn {}/{} was published that is no draft of it", send.turn, send.revision));
        }
    }
    offenders
}
