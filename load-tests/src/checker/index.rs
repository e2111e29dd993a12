//! The facts, joined: which line names which messages, which turn it answers, which turns cover a message.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::material::{Allowed, Event, Facts, Saga, Shown};
use super::verdict::Counts;
use crate::facts::{self, Planned, Side};
use crate::sim::HUMAN_PREFIX;

/// A window: a desktop and the other side's name.
pub(super) type Window<'a> = (&'a str, &'a str);

/// A sent line.
pub(super) struct Own<'a> {
    pub(super) window: Window<'a>,
    /// Its place among all the lines of its window.
    pub(super) place: usize,
    pub(super) text: &'a str,
    /// The tokens that it names and that are in the plan.
    pub(super) tokens: Vec<&'a str>,
    /// The turn whose draft it is.
    pub(super) saga: Option<&'a Saga>,
}

pub(super) struct Index<'a> {
    pub(super) facts: &'a Facts,
    pub(super) allowed: &'a Allowed,
    pub(super) planned: HashMap<&'a str, &'a Planned>,
    /// Where each message was shown: its window, and its place there.
    pub(super) shown: HashMap<&'a str, (Window<'a>, usize)>,
    /// Every sent line; those of a window in their order.
    pub(super) own: Vec<Own<'a>>,
    /// The sent lines that name a message, by their places in `own`.
    pub(super) named: HashMap<&'a str, Vec<usize>>,
    /// The turns that cover a message.
    pub(super) covering: HashMap<&'a str, Vec<&'a Saga>>,
    pub(super) sagas: HashMap<&'a str, &'a Saga>,
    pub(super) stories: HashMap<&'a str, Vec<&'a Event>>,
    /// The sent lines of a turn.
    pub(super) sent: HashMap<&'a str, Vec<usize>>,
    /// The place of the last line that the person at a desk wrote in a window.
    pub(super) by_hand: HashMap<Window<'a>, usize>,
}

impl<'a> Index<'a> {
    pub(super) fn of(facts: &'a Facts, allowed: &'a Allowed) -> Self {
        let planned = facts.planned.iter().map(|message| (message.token.as_str(), message)).collect();
        let sagas: HashMap<&str, &Saga> = facts.ledger.sagas.iter().map(|saga| (saga.turn.as_str(), saga)).collect();
        let mut covering: HashMap<&str, Vec<&Saga>> = HashMap::new();
        for saga in &facts.ledger.sagas {
            for token in &saga.tokens {
                covering.entry(token).or_default().push(saga);
            }
        }
        let mut stories: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in &facts.ledger.events {
            stories.entry(&event.turn).or_default().push(event);
        }
        let mut index = Self {
            facts,
            allowed,
            planned,
            shown: HashMap::new(),
            own: Vec::new(),
            named: HashMap::new(),
            covering,
            sagas,
            stories,
            sent: HashMap::new(),
            by_hand: HashMap::new(),
        };
        index.place_lines();
        index
    }

    fn place_lines(&mut self) {
        let drafts = drafts_by_text(self.facts);
        let mut places: HashMap<Window<'a>, usize> = HashMap::new();
        let mut plain: HashSet<&str> = HashSet::new();
        for line in &self.facts.shown {
            let window = (line.desktop.as_str(), line.peer.as_str());
            let place = places.entry(window).or_default();
            *place += 1;
            let tokens = self.tokens_of(line);
            if line.side == Side::Peer {
                for token in tokens {
                    self.shown.entry(token).or_insert((window, *place));
                }
                continue;
            }
            if line.text.starts_with(HUMAN_PREFIX) {
                self.by_hand.insert(window, *place);
                continue;
            }
            let candidates = drafts.get(line.text.as_str()).map_or(&[][..], Vec::as_slice);
            let saga = self.author(candidates, window, tokens.is_empty(), &plain);
            let number = self.own.len();
            if let Some(saga) = saga {
                self.sent.entry(&saga.turn).or_default().push(number);
                if tokens.is_empty() {
                    plain.insert(&saga.turn);
                }
            }
            for token in &tokens {
                self.named.entry(token).or_default().push(number);
            }
            self.own.push(Own { window, place: *place, text: &line.text, tokens, saga });
        }
    }

    /// The tokens of a line that are in the plan, each once, as the plan spells them.
    fn tokens_of(&self, line: &Shown) -> Vec<&'a str> {
        let mut found: Vec<&'a str> = Vec::new();
        for token in facts::tokens(&line.text) {
            if let Some((_, message)) = self.planned.get_key_value(token)
                && !found.contains(&message.token.as_str())
            {
                found.push(&message.token);
            }
        }
        found
    }

    /// The turn that a line answers: one with a draft of this text, rather one that claims a line. A text without
    /// tokens may be the draft of many turns: then one of the same window that has no line yet.
    fn author(
        &self,
        candidates: &[&'a str],
        window: Window<'a>,
        plain: bool,
        taken: &HashSet<&str>,
    ) -> Option<&'a Saga> {
        let claim = |saga: &&Saga| match saga.effect.as_deref() {
            Some("confirmed") => 0,
            Some("unverifiable") => 1,
            _ => 2,
        };
        candidates
            .iter()
            .filter_map(|turn| self.sagas.get(turn).copied())
            .filter(|saga| {
                !plain || (saga.desktop == window.0 && saga.peer == window.1 && !taken.contains(saga.turn.as_str()))
            })
            .min_by_key(claim)
    }

    pub(super) fn story(&self, turn: &str) -> &[&'a Event] {
        self.stories.get(turn).map_or(&[], Vec::as_slice)
    }

    /// Whether a command to type a reply was ever written for this turn.
    pub(super) fn was_issued(&self, turn: &str) -> bool {
        self.story(turn).iter().any(|event| matches!(event.event.as_str(), "issued" | "approved"))
    }

    pub(super) fn counts(&self) -> Counts {
        let facts = self.facts;
        let mut effects = BTreeMap::new();
        for effect in facts.ledger.sagas.iter().filter_map(|saga| saga.effect.clone()) {
            *effects.entry(effect).or_default() += 1;
        }
        let mut broken = BTreeMap::new();
        for fault in &facts.faults {
            let what = fault.what.split('-').next().unwrap_or_default().trim();
            *broken.entry(what.to_owned()).or_default() += 1;
        }
        Counts {
            planned: facts.planned.len(),
            never_shown: facts
                .planned
                .iter()
                .filter(|message| !self.shown.contains_key(message.token.as_str()))
                .count(),
            answered: self.named.len(),
            reasoned: 0,
            history: 0,
            turns: facts.ledger.sagas.len(),
            open: facts.ledger.sagas.iter().filter(|saga| saga.effect.is_none()).count(),
            replies: self.own.len(),
            unproven: 0,
            effects,
            records: facts.topics.as_ref().map_or(0, |topics| {
                (topics.turns.len() + topics.sends.len() + topics.outcomes.len()) as u64 + topics.others
            }),
            broken,
        }
    }
}

/// Whether Enter was pressed in this effect.
pub(super) fn may_have_sent(effect: &str) -> bool {
    matches!(effect, "confirmed" | "unverifiable")
}

fn drafts_by_text(facts: &Facts) -> HashMap<&str, Vec<&str>> {
    let mut drafts: HashMap<&str, Vec<&str>> = HashMap::new();
    for draft in &facts.ledger.drafts {
        if let Some(text) = &draft.text {
            drafts.entry(text).or_default().push(&draft.turn);
        }
    }
    drafts
}
