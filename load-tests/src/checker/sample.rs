//! Consistent histories for tests: what a run leaves when every promise was kept.

use super::material::{Allowed, Day, Draft, Event, Facts, Journal, Outbox, Outcome, Quota, Saga, Send, Shown, Topics};
use crate::facts::{self, Planned, Side};

/// The sentence of a reply that names nothing.
pub(super) const PLAIN: &str = "Thank you, somebody will come back to you.";
const DAY: i64 = 20_000;

/// What becomes of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Confirmed,
    /// The same with a reply that names nothing.
    Plain,
    Unverifiable {
        shown: bool,
    },
    /// Overtaken before it was sent: the next turn covers its messages.
    Superseded,
    /// Ended before anything was issued.
    Expired,
    /// Ended before any quota was taken.
    Capped,
    /// The desktop would not type it.
    Refused,
    /// Nothing was heard of it.
    HandedOver {
        shown: bool,
    },
    /// A newer revision came after it was issued; that one was confirmed.
    Raised,
    /// Handed over, then the proof came.
    LateProof,
}

pub(super) const FATES: [Fate; 12] = [
    Fate::Confirmed,
    Fate::Plain,
    Fate::Unverifiable { shown: true },
    Fate::Unverifiable { shown: false },
    Fate::Superseded,
    Fate::Expired,
    Fate::Capped,
    Fate::Refused,
    Fate::HandedOver { shown: true },
    Fate::HandedOver { shown: false },
    Fate::Raised,
    Fate::LateProof,
];

/// One turn of a script: how many messages open it, and what becomes of it.
pub(super) type Step = (usize, Fate);

#[derive(Default)]
struct Writer {
    facts: Facts,
    topics: Topics,
    taken: i64,
}

/// The history of these conversations, two a desktop. The last message of each is planned and never shown.
pub(super) fn history(conversations: &[Vec<Step>]) -> Facts {
    let mut writer = Writer::default();
    for (number, steps) in conversations.iter().enumerate() {
        writer.conversation(&format!("desk-{}", number / 2), &format!("peer-{number}"), number, steps);
    }
    let Writer { mut facts, topics, taken } = writer;
    facts.ledger.now_ms = 1_000_000;
    facts.ledger.days = vec![Day { day: DAY, taken }];
    facts.topics = Some(topics);
    facts.journals = vec![Journal { desktop: "desk-0".to_owned(), ..Journal::default() }];
    facts
}

pub(super) fn allowed() -> Allowed {
    Allowed { texts: vec![PLAIN.to_owned()], ..Allowed::default() }
}

impl Writer {
    fn conversation(&mut self, desktop: &str, peer: &str, number: usize, steps: &[Step]) {
        let mut carried: Vec<String> = Vec::new();
        let last = steps.len().saturating_sub(1);
        for (place, (messages, fate)) in steps.iter().enumerate() {
            let fate = if place == last && *fate == Fate::Superseded { Fate::Confirmed } else { *fate };
            for _ in 0..*messages {
                let token = self.plan(desktop, peer);
                self.show(desktop, peer, Side::Peer, format!("is there news of {token}?"));
                carried.push(token);
            }
            let turn = format!("turn-{number}-{place}");
            self.turn(desktop, peer, &turn, &carried, fate);
            if fate != Fate::Superseded {
                carried.clear();
            }
        }
        self.plan(desktop, peer);
    }

    fn plan(&mut self, desktop: &str, peer: &str) -> String {
        let number = self.facts.planned.len() as u64;
        let token = facts::token(number);
        self.facts.planned.push(Planned {
            number,
            token: token.clone(),
            desktop: desktop.to_owned(),
            peer: peer.to_owned(),
            at_ms: number as i64,
        });
        token
    }

    fn show(&mut self, desktop: &str, peer: &str, side: Side, text: String) {
        self.facts.shown.push(Shown { desktop: desktop.to_owned(), peer: peer.to_owned(), side, text });
    }

    fn turn(&mut self, desktop: &str, peer: &str, turn: &str, tokens: &[String], fate: Fate) {
        let text = match fate {
            Fate::Plain => PLAIN.to_owned(),
            _ => format!("Re: {}", tokens.join(" ")),
        };
        self.tell(turn, 1, "recorded", "recorded", "");
        self.topics.turns.push(turn.to_owned());
        let (effect, reason) = match fate {
            Fate::Confirmed | Fate::Plain | Fate::Raised | Fate::LateProof => ("confirmed", "confirmed: shown"),
            Fate::Unverifiable { .. } => ("unverifiable", "unverifiable: no proof was found"),
            Fate::Superseded => ("superseded", "superseded: newer text came"),
            Fate::Expired => ("expired", "it was not answered in time"),
            Fate::Capped => ("capped", "the day's quota is used up"),
            Fate::Refused => ("refused", "refused: two windows fit"),
            Fate::HandedOver { .. } => ("needs_attention", "no outcome came"),
        };
        let mut revision = 1;
        if fate != Fate::Capped {
            self.tell(turn, revision, "quota_reserved", "quota_reserved", "");
        }
        if fate == Fate::Raised {
            self.issue(turn, revision, &text);
            self.settle(turn, revision, "released");
            revision = 2;
            self.tell(turn, revision, "revision_raised", "recorded", "revision 2 follows 1");
            self.tell(turn, revision, "quota_reserved", "quota_reserved", "");
        }
        if !matches!(fate, Fate::Capped | Fate::Expired) {
            self.issue(turn, revision, &text);
        }
        if fate == Fate::LateProof {
            self.tell(turn, revision, "handed_over", "ended(needs_attention)", "no outcome came");
        }
        let shown = match fate {
            Fate::Unverifiable { shown } | Fate::HandedOver { shown } => shown,
            _ => effect == "confirmed",
        };
        if shown {
            self.show(desktop, peer, Side::Own, text);
        }
        self.end(turn, revision, effect, reason);
        match fate {
            Fate::Capped => {}
            Fate::Expired | Fate::Refused | Fate::Superseded => self.settle(turn, revision, "released"),
            _ => self.settle(turn, revision, "used"),
        }
        self.facts.ledger.sagas.push(Saga {
            turn: turn.to_owned(),
            revision,
            state: "ended".to_owned(),
            effect: Some(effect.to_owned()),
            desktop: desktop.to_owned(),
            peer: peer.to_owned(),
            tokens: tokens.to_vec(),
            deadline_ms: 500_000,
        });
    }

    fn issue(&mut self, turn: &str, revision: u32, text: &str) {
        let owned = turn.to_owned();
        self.facts.ledger.drafts.push(Draft { turn: owned.clone(), revision, text: Some(text.to_owned()) });
        self.tell(turn, revision, "draft_stored", "drafted", "by stub");
        self.tell(turn, revision, "issued", "issued", "");
        self.facts.ledger.outbox.push(Outbox {
            turn: owned.clone(),
            revision,
            kind: "send".to_owned(),
            published: true,
            cancelled: false,
        });
        self.topics.sends.push(Send { turn: owned, revision, text: text.to_owned() });
        self.tell(turn, revision, "published", "issued", "send");
    }

    fn end(&mut self, turn: &str, revision: u32, effect: &str, reason: &str) {
        let event = match effect {
            "expired" | "capped" => "abandoned",
            "needs_attention" => "handed_over",
            _ => "outcome",
        };
        self.tell(turn, revision, event, &format!("ended({effect})"), reason);
        if event == "outcome" {
            self.topics.outcomes.push(Outcome { turn: turn.to_owned(), effect: effect.to_owned() });
        }
    }

    fn settle(&mut self, turn: &str, revision: u32, state: &str) {
        self.taken += i64::from(state != "released");
        self.facts.ledger.quota.push(Quota { turn: turn.to_owned(), revision, day: DAY, state: state.to_owned() });
    }

    fn tell(&mut self, turn: &str, revision: u32, event: &str, state_to: &str, detail: &str) {
        self.facts.ledger.events.push(Event {
            turn: turn.to_owned(),
            revision,
            event: event.to_owned(),
            state_to: state_to.to_owned(),
            detail: detail.to_owned(),
        });
    }
}
