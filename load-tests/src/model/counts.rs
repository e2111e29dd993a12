//! What the stub was asked, by provider.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::script::Outcome;

/// What one provider was asked so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that came, whatever became of them.
    pub attempts: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// The most that were at once.
    pub most_in_flight: u64,
    /// Requests whose asker left before the answer was there.
    pub abandoned: u64,
    /// Requests by what was decided about them; those without any are left out.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Turns that were named in a header.
    pub turns: u64,
    /// The most attempts of one turn.
    pub most_attempts_of_a_turn: u32,
}

/// A provider's counters, which requests raise.
#[derive(Debug, Default)]
pub(super) struct Counters {
    attempts: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    abandoned: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    turns: Mutex<HashMap<Uuid, u32>>,
}

impl Counters {
    /// Counts a request that came; its number from 0 is given with the guard.
    pub fn enter(self: &Arc<Self>, turn: Option<Uuid>) -> (u64, Entered) {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
        if let Some(turn) = turn {
            *self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(turn).or_default() += 1;
        }
        (number, Entered { counters: Arc::clone(self), answered: AtomicBool::new(false) })
    }

    pub fn decided(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Counts {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |outcome: Outcome| self.outcomes[outcome as usize].load(Ordering::Relaxed);
        Counts {
            attempts: self.attempts.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            most_in_flight: self.most_in_flight.load(Ordering::Relaxed),
            abandoned: self.abandoned.load(Ordering::Relaxed),
            outcomes: Outcome::ALL.into_iter().map(|o| (o, of(o))).filter(|(_, count)| *count > 0).collect(),
            turns: turns.len() as u64,
            most_attempts_of_a_turn: turns.values().copied().max().unwrap_or(0),
        }
    }

    pub fn turns(&self) -> BTreeMap<Uuid, u32> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(turn, count)| (*turn, *count)).collect()
    }
}

/// A request that is being answered; dropped without [`Entered::answered`] it was abandoned.
#[derive(Debug)]
pub(super) struct Entered {
    counters: Arc<Counters>,
    answered: AtomicBool,
}

impl Entered {
    /// The answer is complete, as far as the script goes.
    pub fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.answered.load(Ordering::Relaxed) {
            self.counters.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}
