//! Judgements about what the windows show.

use std::collections::{HashMap, HashSet};

use super::index::{Index, Window, may_have_sent};
use super::material::Saga;
use super::verdict::Counts;
use crate::facts::{self, Side};

/// The run's own soundness: each message shown at most once, where it was planned, and nothing else with a token.
pub(super) fn plan(index: &Index<'_>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut offenders = Vec::new();
    for line in index.facts.shown.iter().filter(|line| line.side == Side::Peer) {
        for token in facts::tokens(&line.text) {
            let place = format!("the window of {} on {}", line.peer, line.desktop);
            match index.planned.get(token) {
                None => offenders.push(format!("{token} was shown in {place} and is not planned")),
                Some(message) if message.desktop != line.desktop || message.peer != line.peer => {
                    offenders.push(format!("{token} was shown in {place}, not where it was planned"));
                }
                Some(_) if !seen.insert(token) => offenders.push(format!("{token} was shown twice in {place}")),
                Some(_) => {}
            }
        }
    }
    offenders
}

/// Messages that were shown and have neither a reply nor a recorded reason.
pub(super) fn lost(index: &Index<'_>, counts: &mut Counts) -> Vec<String> {
    let history: HashSet<&str> =
        index.facts.journals.iter().flat_map(|journal| &journal.history).map(String::as_str).collect();
    let mut offenders = Vec::new();
    for message in &index.facts.planned {
        let token = message.token.as_str();
        let Some((window, place)) = index.shown.get(token).filter(|_| !index.named.contains_key(token)) else {
            continue;
        };
        let by_hand = index.by_hand.get(window).is_some_and(|line| line > place);
        let covering = index.covering.get(token).map_or(&[][..], Vec::as_slice);
        let place = format!("{token} on {} from {}", message.desktop, message.peer);
        if covering.iter().any(|saga| is_reason(index, saga))
            || (by_hand && covering.iter().any(|saga| saga.effect.as_deref() == Some("superseded")))
        {
            counts.reasoned += 1;
        } else if covering.iter().any(|saga| saga.effect.is_none()) {
            // What is open is judged as such.
        } else if let Some(saga) = covering.last() {
            let (turn, effect) = (&saga.turn, saga.effect.as_deref().unwrap_or_default());
            offenders.push(match effect {
                "superseded" => format!("{place}: turn {turn} was superseded and no later turn covers the message"),
                _ => format!("{place}: the reply of turn {turn} ({effect}) is visible and does not answer the message"),
            });
        } else if history.contains(token) {
            counts.history += 1;
            if counts.history > index.allowed.history {
                offenders.push(format!("{place}: the desk took it for history"));
            }
        } else {
            offenders.push(format!("{place}: no turn of the ledger covers it"));
        }
    }
    offenders
}

/// Whether the end of this turn says why a message that it covers and that no line names has no visible reply.
fn is_reason(index: &Index<'_>, saga: &Saga) -> bool {
    let visible = index.sent.get(saga.turn.as_str()).is_some_and(|lines| {
        // A reply that names nothing at all (an acknowledgement) answers whatever its turn covers.
        lines.iter().any(|line| !index.own[*line].tokens.is_empty())
    });
    saga.effect.as_deref().is_some_and(|effect| effect != "superseded" && !(visible && may_have_sent(effect)))
}

/// Messages that two lines name, and turns that have two lines.
pub(super) fn duplicates(index: &Index<'_>) -> Vec<String> {
    let mut offenders: Vec<String> = index
        .facts
        .planned
        .iter()
        .filter_map(|message| {
            let lines = index.named.get(message.token.as_str()).filter(|lines| lines.len() > 1)?;
            let turns = lines.iter().map(|line| turn_of(index, *line)).collect::<Vec<_>>().join(", ");
            Some(format!("{} is answered by {} lines (turns {turns})", message.token, lines.len()))
        })
        .collect();
    for saga in &index.facts.ledger.sagas {
        let Some(lines) = index.sent.get(saga.turn.as_str()).filter(|lines| lines.len() > 1) else { continue };
        let told = lines.iter().flat_map(|line| &index.own[*line].tokens).any(|token| index.named[token].len() > 1);
        if !told {
            offenders.push(format!("turn {} on {} has {} sent lines", saga.turn, saga.desktop, lines.len()));
        }
    }
    offenders
}

fn turn_of<'a>(index: &Index<'a>, line: usize) -> &'a str {
    index.own[line].saga.map_or("unknown", |saga| saga.turn.as_str())
}

/// Lines that name no message of the plan.
pub(super) fn unknown(index: &Index<'_>) -> Vec<String> {
    index
        .own
        .iter()
        .filter(|line| line.tokens.is_empty() && !index.allowed.texts.iter().any(|text| text == line.text))
        .map(|line| {
            let (desktop, peer) = line.window;
            format!("line {} of the window of {peer} on {desktop} names no message of the plan", line.place)
        })
        .collect()
}

/// Lines in another window than the messages that they name.
pub(super) fn misdelivered(index: &Index<'_>) -> Vec<String> {
    let mut offenders = Vec::new();
    for line in &index.own {
        let (desktop, peer) = line.window;
        let foreign = line.tokens.iter().find(|token| !is_of(index, token, line.window));
        if let Some(token) = foreign {
            let turn = line.saga.map_or("unknown", |saga| saga.turn.as_str());
            offenders.push(format!(
                "line {} of the window of {peer} on {desktop} answers {token} of another window (turn {turn})",
                line.place
            ));
        } else if line.tokens.is_empty()
            && let Some(saga) = line.saga
            && (saga.desktop != desktop || saga.peer != peer)
        {
            offenders.push(format!("line {} of the window of {peer} on {desktop} is turn {}'s", line.place, saga.turn));
        }
    }
    offenders
}

fn is_of(index: &Index<'_>, token: &str, window: Window<'_>) -> bool {
    index.planned.get(token).is_some_and(|message| (message.desktop.as_str(), message.peer.as_str()) == window)
}

/// Lines that answer something above what an earlier line of the window answered, or something not shown by then.
pub(super) fn order(index: &Index<'_>) -> Vec<String> {
    let mut answered: HashMap<Window<'_>, usize> = HashMap::new();
    let mut offenders = Vec::new();
    for (number, line) in index.own.iter().enumerate() {
        let last = answered.entry(line.window).or_default();
        let before = *last;
        let (desktop, peer) = line.window;
        for token in line.tokens.iter().filter(|token| is_of(index, token, line.window)) {
            let is_repeated = index.named[token].iter().any(|other| *other < number);
            match index.shown.get(token) {
                Some((window, place)) if *window == line.window && *place < line.place => {
                    if !is_repeated && *place < before {
                        offenders.push(format!(
                            "line {} of the window of {peer} on {desktop} answers {token} after a reply to something newer",
                            line.place
                        ));
                    }
                    *last = (*last).max(*place);
                }
                _ => offenders.push(format!(
                    "line {} of the window of {peer} on {desktop} answers {token} before it was shown",
                    line.place
                )),
            }
        }
    }
    offenders
}
