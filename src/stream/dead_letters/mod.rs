//! Records that cannot be read: kept as they came, and a limit that stops before a bad release empties a topic.

mod letters;

use std::collections::VecDeque;

pub use letters::{Letter, LetterError, LetterId, Letters, Resolution};

use super::Received;
use crate::contract::wire::{WireRecord, topic};

/// What the headers added to a dead letter begin with.
const PREFIX: &str = "autoreply-dead-";

/// The dead letter of `received`: key, headers and body as they came, with why it could not be read, where it stood
/// and how often it was tried in headers of their own. `why` must hold no chat text.
pub fn bury(received: &Received, why: &str, attempts: u32) -> WireRecord {
    let record = &received.record;
    let mut headers: Vec<_> = record.headers.iter().filter(|(name, _)| !name.starts_with(PREFIX)).cloned().collect();
    for (name, value) in [
        ("why", why.to_owned()),
        ("topic", record.topic.clone()),
        ("partition", received.partition.to_string()),
        ("offset", received.offset.to_string()),
        ("attempts", attempts.to_string()),
    ] {
        headers.push((format!("{PREFIX}{name}"), value.into_bytes()));
    }
    WireRecord {
        topic: topic::DEAD_LETTERS.to_owned(),
        key: record.key.clone(),
        headers,
        payload: record.payload.clone(),
    }
}

/// When burying has to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateLimits {
    /// How many of the last records are looked at for the share.
    pub window: usize,
    /// The greatest share of the window that may be bad, 0 to 1.
    pub max_share: f64,
    /// The most bad records one after the other.
    pub max_consecutive: u32,
}

impl Default for GateLimits {
    /// One in five of the last 100, or 20 in a row.
    fn default() -> Self {
        Self { window: 100, max_share: 0.2, max_consecutive: 20 }
    }
}

/// What to do with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Move it to the dead letters and go on.
    Bury,
    /// Leave it where it is and stop: so many are bad that the reader is to blame.
    Stop,
}

/// Counts good and bad records and says when to stop. Once shut it stays shut.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    recent: VecDeque<bool>,
    bad: usize,
    consecutive: u32,
    shut: bool,
}

impl Gate {
    /// An open gate.
    pub fn new(limits: GateLimits) -> Self {
        Self { limits, recent: VecDeque::new(), bad: 0, consecutive: 0, shut: false }
    }

    /// A record was read.
    pub fn good(&mut self) {
        self.consecutive = 0;
        self.note(false);
    }

    /// A record could not be read.
    pub fn bad(&mut self) -> Verdict {
        self.consecutive = self.consecutive.saturating_add(1);
        self.note(true);
        let most = self.limits.max_share * self.limits.window.max(1) as f64;
        self.shut |= self.consecutive > self.limits.max_consecutive || self.bad as f64 > most;
        if self.shut { Verdict::Stop } else { Verdict::Bury }
    }

    fn note(&mut self, bad: bool) {
        self.recent.push_back(bad);
        self.bad += usize::from(bad);
        if self.recent.len() > self.limits.window.max(1) && self.recent.pop_front() == Some(true) {
            self.bad -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn received() -> Received {
        let headers =
            vec![("ce_type".to_owned(), b"\xff".to_vec()), ("autoreply-dead-why".to_owned(), b"old".to_vec())];
        let record =
            WireRecord { topic: topic::MESSAGES.to_owned(), key: b"k".to_vec(), headers, payload: vec![0, 255] };
        Received { record, partition: 3, offset: 9, timestamp_ms: 5 }
    }

    #[test]
    fn a_dead_letter_is_the_record_as_it_came_with_why_and_where() {
        let letter = bury(&received(), "its body is not JSON", 2);
        assert_eq!((letter.topic.as_str(), letter.key.as_slice()), (topic::DEAD_LETTERS, b"k".as_slice()));
        assert_eq!(letter.payload, vec![0, 255]);
        assert_eq!(letter.headers[0], ("ce_type".to_owned(), b"\xff".to_vec()));
        assert_eq!(letter.header("autoreply-dead-why"), Some("its body is not JSON"));
        assert_eq!(letter.header("autoreply-dead-topic"), Some(topic::MESSAGES));
        assert_eq!(letter.header("autoreply-dead-partition"), Some("3"));
        assert_eq!(letter.header("autoreply-dead-offset"), Some("9"));
        assert_eq!(letter.header("autoreply-dead-attempts"), Some("2"));
        assert_eq!(letter.headers.len(), 6, "an older why is replaced");
    }

    #[test]
    fn the_gate_shuts_on_a_row_and_on_a_share_and_stays_shut() {
        let limits = GateLimits { window: 10, max_share: 0.3, max_consecutive: 4 };
        let mut row = Gate::new(GateLimits { max_share: 1.0, ..limits });
        assert!((0..4).all(|_| row.bad() == Verdict::Bury));
        assert_eq!(row.bad(), Verdict::Stop);
        (0..50).for_each(|_| row.good());
        assert_eq!(row.bad(), Verdict::Stop, "once shut it stays shut");

        let mut share = Gate::new(limits);
        let verdicts: Vec<_> = (0..20)
            .map(|i| {
                if i % 2 == 0 {
                    share.good();
                    None
                } else {
                    Some(share.bad())
                }
            })
            .collect();
        assert_eq!(verdicts.iter().position(|v| *v == Some(Verdict::Stop)), Some(7));
    }

    proptest! {
        #[test]
        fn a_few_bad_records_among_many_are_buried_and_never_too_many_are(
            records in proptest::collection::vec(proptest::bool::weighted(0.3), 0..500),
        ) {
            let limits = GateLimits { window: 20, max_share: 0.4, max_consecutive: 6 };
            let mut gate = Gate::new(limits);
            let buried: Vec<bool> = records.iter().map(|bad| {
                if *bad { gate.bad() == Verdict::Bury } else { gate.good(); false }
            }).collect();
            for window in buried.windows(20) {
                prop_assert!(window.iter().filter(|b| **b).count() <= 8);
            }
            for row in buried.windows(7) {
                prop_assert!(!row.iter().all(|b| *b));
            }
        }
    }
}
