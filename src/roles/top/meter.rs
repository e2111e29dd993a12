//! Rates from what workers count, and the recent past of what waits. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use crate::clock::elapsed;
use crate::roles::status::view::{Status, WorkerView};

/// How many looks of the past are kept.
const PAST: usize = 240;

/// What happens in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Turns recorded.
    pub turns: f64,
    /// Outcomes heard, by effect.
    pub replies: BTreeMap<String, f64>,
}

impl Rates {
    fn between(before: &WorkerView, after: &WorkerView) -> Option<Self> {
        let seconds = elapsed(before.last_seen, after.last_seen).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let reply = |(effect, after): (&String, &u64)| {
            (effect.clone(), rate(before.replies.get(effect).copied().unwrap_or(0), *after))
        };
        Some(Self { turns: rate(before.turns, after.turns), replies: after.replies.iter().map(reply).collect() })
    }

    fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        for (effect, rate) in &other.replies {
            *self.replies.entry(effect.clone()).or_default() += rate;
        }
    }
}

/// Remembers the last word of each worker. Workers speak more rarely than is looked, so that a rate stays until the
/// worker's next word.
#[derive(Debug, Default)]
pub struct Meter {
    workers: HashMap<String, (WorkerView, Rates)>,
    waiting: VecDeque<u64>,
}

impl Meter {
    /// Takes a look, and says what happens in a second.
    pub fn take(&mut self, status: &Status) -> Rates {
        let mut kept = HashMap::new();
        let mut together = Rates::default();
        for worker in status.workers.iter().filter(|worker| worker.is_fresh()) {
            let known = self.workers.remove(&worker.instance);
            let rates = match known {
                None => Rates::default(),
                Some((before, rates)) => Rates::between(&before, worker).unwrap_or(rates),
            };
            together.add(&rates);
            kept.insert(worker.instance.clone(), (worker.clone(), rates));
        }
        self.workers = kept;
        self.waiting.push_back(status.lag.iter().map(|lag| lag.records).sum());
        if self.waiting.len() > PAST {
            self.waiting.pop_front();
        }
        together
    }

    /// Records that waited at the last looks, the oldest first.
    pub fn waiting(&self) -> Vec<u64> {
        self.waiting.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_millis;
    use crate::roles::status::samples::{well, worker};

    fn at(ms: i64, turns: u64, confirmed: u64) -> WorkerView {
        let mut one = worker("north-7", 1);
        (one.last_seen, one.turns) = (from_millis(ms), turns);
        one.replies = BTreeMap::from([("confirmed".to_owned(), confirmed)]);
        one
    }

    fn look(meter: &mut Meter, workers: &[WorkerView]) -> Rates {
        meter.take(&Status { workers: workers.to_vec(), ..well() })
    }

    #[test]
    fn a_rate_is_what_was_counted_between_two_words_and_stays_until_the_next() {
        let mut meter = Meter::default();
        assert_eq!(look(&mut meter, &[at(1000, 50, 5)]), Rates::default(), "one word is no rate");
        let rates = look(&mut meter, &[at(3000, 70, 9)]);
        assert_eq!((rates.turns, rates.replies["confirmed"]), (10.0, 2.0));
        assert_eq!(look(&mut meter, &[at(3000, 70, 9)]), rates, "the same word");
        let silent = WorkerView { state: "silent", ..at(3000, 70, 9) };
        assert_eq!(look(&mut meter, &[silent]), Rates::default());
    }

    #[test]
    fn workers_are_added_up_and_a_new_one_counts_from_its_second_word() {
        let mut meter = Meter::default();
        let other = |ms, turns| WorkerView { instance: "other".to_owned(), ..at(ms, turns, 0) };
        look(&mut meter, &[at(1000, 0, 0)]);
        look(&mut meter, &[at(2000, 10, 0), other(2000, 1_000_000)]);
        let rates = look(&mut meter, &[at(3000, 20, 0), other(4000, 1_000_010)]);
        assert_eq!(rates.turns, 15.0);
    }

    #[test]
    fn the_past_is_bounded() {
        let mut meter = Meter::default();
        for _ in 0..PAST + 10 {
            look(&mut meter, &[]);
        }
        assert_eq!(meter.waiting(), vec![4; PAST]);
    }
}
