//! What one scene became: its moments, its turns, and what its peer received.

use autoreply_rig::Received;

use super::cast::Scene;
use super::follow::Entry;
use super::timeline::{Timeline, median};

/// One event of a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What: sent, detected, drafted, typed, shown, received.
    pub what: String,
    /// What is to be said of it.
    pub detail: String,
}

/// One turn of a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// When the peer had sent its last line, in milliseconds since 1970.
    pub sent_ms: i64,
    /// When the desktop saw that line.
    pub detected_ms: Option<i64>,
    /// What became of it.
    pub effect: Option<String>,
    /// Whether a person approved the reply: its time says nothing about the machine then.
    pub approved: bool,
}

/// A scene as it was played.
#[derive(Debug, Clone)]
pub struct Act {
    /// The scene.
    pub scene: Scene,
    /// When its first line was sent, in milliseconds since 1970; 0 before that.
    pub began_ms: i64,
    /// When its last line so far was sent.
    pub last_sent_ms: i64,
    /// The lines its peer has sent.
    pub sent_lines: i64,
    /// Those of them that have been seen.
    pub seen_lines: i64,
    /// Whether its conversation is watched.
    pub watched: bool,
    /// Its events in the order in which they became known.
    pub moments: Vec<Moment>,
    /// Its turns in order.
    pub turns: Vec<Turn>,
    /// Everything its peer has received.
    pub heard: Vec<Received>,
    /// What went wrong, as sentences.
    pub faults: Vec<String>,
    /// The picture of its window, beside the report.
    pub picture: Option<String>,
}

impl Act {
    /// A scene before it is played.
    #[must_use]
    pub fn new(scene: Scene) -> Self {
        Self {
            scene,
            began_ms: 0,
            last_sent_ms: 0,
            sent_lines: 0,
            seen_lines: 0,
            watched: false,
            moments: Vec::new(),
            turns: Vec::new(),
            heard: Vec::new(),
            faults: Vec::new(),
            picture: None,
        }
    }

    /// Writes an event down and shows it.
    pub fn note(&mut self, at_ms: i64, what: &str, detail: impl Into<String>) {
        let moment = Moment { at_ms, what: what.to_owned(), detail: detail.into() };
        if self.began_ms == 0 {
            self.began_ms = at_ms;
        }
        Timeline.event(at_ms - self.began_ms, what, &moment.detail);
        self.moments.push(moment);
    }

    /// The turn of this id; a new one answers what has been sent up to now.
    pub fn turn(&mut self, id: &str, sent_ms: i64) -> &mut Turn {
        let at = self.turns.iter().position(|turn| turn.id == id).unwrap_or_else(|| {
            let (id, effect) = (id.to_owned(), None);
            self.turns.push(Turn { id, sent_ms, detected_ms: None, effect, approved: false });
            self.turns.len() - 1
        });
        &mut self.turns[at]
    }

    /// Takes new lines from the product's log; after the peer's own lines come those of this side, which say nothing.
    pub fn see(&mut self, entry: &Entry) {
        let new = entry.number("lines").unwrap_or(0).min(self.sent_lines - self.seen_lines);
        if new > 0 {
            self.seen_lines += new;
            self.note(entry.at_ms, "detected", if new == 1 { "1 line".to_owned() } else { format!("{new} lines") });
        }
    }

    /// Takes an outcome from the product's log.
    pub fn end_turn(&mut self, entry: &Entry) {
        if let Some(at_ms) = entry.number("shown_ms") {
            self.note(at_ms, "shown", "the reply is read back from the screen");
        }
        self.note(entry.at_ms, "ended", format!("{}: {}", entry.text("effect"), entry.text("reason")));
        let sent_ms = self.last_sent_ms;
        let turn = self.turn(entry.text("turn"), sent_ms);
        turn.detected_ms = entry.number("detected_ms").or(turn.detected_ms);
        turn.effect = Some(entry.text("effect").to_owned());
    }

    /// Takes what the peer has received since.
    pub fn hear(&mut self, received: &[Received]) {
        for new in received.iter().skip(self.heard.len()) {
            self.note(new.at_ms as i64, "received", format!("{}: {}", new.from, new.text));
            self.heard.push(new.clone());
        }
    }

    /// Whether `count` turns have ended.
    #[must_use]
    pub fn has_ended(&self, count: usize) -> bool {
        self.turns.iter().filter(|turn| turn.effect.is_some()).count() >= count
    }

    /// The milliseconds from the last line of each turn to its being seen.
    #[must_use]
    pub fn detection_times(&self) -> Vec<i64> {
        self.turns.iter().filter_map(|turn| Some(turn.detected_ms? - turn.sent_ms)).collect()
    }

    /// The milliseconds from the last line of each turn to its reply at the peer; without those a person approved.
    #[must_use]
    pub fn reply_times(&self) -> Vec<i64> {
        let by_person = usize::from(self.scene.by_person.is_some());
        let sent = self.turns.iter().filter(|turn| turn.effect.as_deref() == Some("confirmed"));
        let pairs = sent.zip(self.heard.iter().skip(by_person));
        pairs.filter(|(turn, _)| !turn.approved).map(|(turn, heard)| heard.at_ms as i64 - turn.sent_ms).collect()
    }
}

/// What the whole demo showed, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Turns that ended.
    pub turns: usize,
    /// Expected replies that were received exactly once.
    pub once: usize,
    /// Replies that were received again.
    pub duplicates: usize,
    /// Lines at a peer that were not meant for it.
    pub misdelivered: usize,
    /// The median time to see a line.
    pub detect_ms: Option<i64>,
    /// The median time to the reply.
    pub reply_ms: Option<i64>,
}

impl Totals {
    /// Counts what the peers received.
    #[must_use]
    pub fn count(acts: &[Act]) -> Self {
        let (mut once, mut duplicates, mut misdelivered) = (0, 0, 0);
        for act in acts {
            let mut wanted: Vec<&str> = act.scene.replies.iter().chain(&act.scene.by_person).copied().collect();
            for heard in &act.heard {
                let known = act.scene.replies.contains(&heard.text.as_str());
                match wanted.iter().position(|text| *text == heard.text) {
                    Some(at) => {
                        wanted.swap_remove(at);
                        once += usize::from(known);
                    }
                    None if known => duplicates += 1,
                    None => misdelivered += 1,
                }
            }
        }
        let detections: Vec<i64> = acts.iter().flat_map(Act::detection_times).collect();
        let replies: Vec<i64> = acts.iter().flat_map(Act::reply_times).collect();
        let turns = acts.iter().flat_map(|act| &act.turns).filter(|turn| turn.effect.is_some()).count();
        Self { turns, once, duplicates, misdelivered, detect_ms: median(&detections), reply_ms: median(&replies) }
    }

    /// The demo's last line.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "demo: {} turns, {} replies received once, {} duplicates, {} misdelivered, detect median {} ms, reply median {} ms",
            self.turns,
            self.once,
            self.duplicates,
            self.misdelivered,
            self.detect_ms.unwrap_or(-1),
            self.reply_ms.unwrap_or(-1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::cast::SCENES;
    use super::*;

    fn heard(at_ms: u64, text: &str) -> Received {
        let name = |name: &str| name.to_owned();
        Received {
            at_ms,
            command: name("PRIVMSG"),
            from: name("autobot"),
            target: name("x"),
            text: text.to_owned(),
            exact: true,
        }
    }

    #[test]
    fn a_second_reply_is_a_duplicate_and_a_foreign_one_is_misdelivered() {
        let mut act = Act::new(SCENES[0]);
        let turn = act.turn("t", 1000);
        (turn.detected_ms, turn.effect) = (Some(1200), Some("confirmed".to_owned()));
        act.heard = vec![heard(4000, SCENES[0].replies[0])];
        let totals = Totals::count(&[act.clone()]);
        assert_eq!((totals.turns, totals.once, totals.duplicates, totals.misdelivered), (1, 1, 0, 0));
        assert_eq!((totals.detect_ms, totals.reply_ms), (Some(200), Some(3000)));
        act.heard.extend([heard(4001, SCENES[0].replies[0]), heard(4002, SCENES[1].replies[0])]);
        let totals = Totals::count(&[act]);
        assert_eq!((totals.once, totals.duplicates, totals.misdelivered), (1, 1, 1));
    }

    #[test]
    fn two_equal_replies_that_were_both_due_are_no_duplicates() {
        let mut act = Act::new(SCENES[2]);
        act.heard = vec![heard(1, SCENES[2].replies[0]), heard(2, SCENES[2].replies[1])];
        assert_eq!((Totals::count(&[act.clone()]).once, Totals::count(&[act]).duplicates), (2, 0));
    }
}
