//! What a rolling restart came to: how each worker ended, and how long the slowest turn took. Pure.

use serde::{Deserialize, Serialize};

use super::Material;
use crate::load::Scenario;

/// A worker that was asked to stop, and its successor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restart {
    /// Its name.
    pub worker: String,
    /// When it was asked, in milliseconds of the Unix epoch.
    pub asked_ms: i64,
    /// How many milliseconds later it first said that it is not ready, if it was caught saying so.
    pub unready_ms: Option<i64>,
    /// When it had ended, in milliseconds of the Unix epoch.
    pub ended_ms: i64,
    /// How it ended, for people.
    pub ended: String,
    /// It ended by itself and successfully.
    pub in_order: bool,
    /// When its successor was ready, in milliseconds of the Unix epoch.
    pub ready_ms: i64,
}

/// All restarts of a run, and the verdict over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// How long a turn may wait for its reply, in milliseconds.
    pub deadline_ms: i64,
    /// The longest time from a message's planned time to its answer, in milliseconds.
    pub slowest_ms: i64,
    /// Messages that were answered later than that.
    pub late: usize,
    /// Each restart, with the slowest answer in milliseconds that was shown between the asking of this worker and that of
    /// the next one.
    pub restarts: Vec<(Restart, i64)>,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}

impl Rolling {
    /// Of a run whose messages were planned and answered at `ends`, both in milliseconds of the Unix epoch.
    pub fn of(scenario: &Scenario, material: &Material, ends: &[(i64, i64)]) -> Self {
        let deadline_ms = i64::try_from(material.reply_deadline_ms).unwrap_or(i64::MAX);
        let took = |from_ms: i64, to_ms: i64| {
            let within = ends.iter().filter(move |(_, shown)| (from_ms..to_ms).contains(shown));
            within.map(|(planned, shown)| shown - planned)
        };
        let slowest = |from_ms: i64, to_ms: i64| took(from_ms, to_ms).max().unwrap_or(0);
        let asked = material.restarts.iter().map(|restart| restart.asked_ms);
        let next = asked.skip(1).chain([i64::MAX]);
        let restarts: Vec<_> = (material.restarts.iter().zip(next))
            .map(|(restart, next)| (restart.clone(), slowest(restart.asked_ms, next)))
            .collect();
        let mut rolling = Self {
            deadline_ms,
            slowest_ms: slowest(0, i64::MAX),
            late: took(0, i64::MAX).filter(|took| *took > deadline_ms).count(),
            restarts,
            faults: Vec::new(),
        };
        let end_ms = material.plan.last().map_or(material.start_ms, |last| last.at_ms);
        rolling.faults = rolling.faults_of(scenario.workers as usize, end_ms);
        rolling
    }

    fn faults_of(&self, workers: usize, end_ms: i64) -> Vec<String> {
        let mut faults = Vec::new();
        if self.restarts.len() != workers {
            faults.push(format!("{} of {workers} workers were restarted", self.restarts.len()));
        }
        if self.late > 0 {
            faults.push(format!("{} turns were answered after their deadline", self.late));
        }
        for (restart, _) in &self.restarts {
            if !restart.in_order {
                faults.push(format!("{} did not end in order: {}", restart.worker, restart.ended));
            }
            // What nobody writes to proves nothing.
            if restart.ready_ms > end_ms {
                faults.push(format!("the plan was over before the successor of {} was ready", restart.worker));
            }
        }
        faults
    }

    /// The figures as rows of name and value.
    pub fn rows(&self) -> Vec<(String, String)> {
        let seconds = |ms: i64| ms as f64 / 1e3;
        let text = format!(
            "{:.2} s, its deadline {:.0} s; {} over it",
            seconds(self.slowest_ms),
            seconds(self.deadline_ms),
            self.late
        );
        let mut rows = vec![("slowest turn".to_owned(), text)];
        rows.extend(self.restarts.iter().map(|(restart, slowest_ms)| {
            let unready = restart.unready_ms.map_or_else(
                || "never seen as not ready".to_owned(),
                |after_ms| format!("not ready after {:.2} s", seconds(after_ms)),
            );
            let text = format!(
                "{unready}, ended after {:.2} s ({}), the new one ready {:.2} s later; slowest turn until the next {:.2} s",
                seconds(restart.ended_ms - restart.asked_ms),
                restart.ended,
                seconds(restart.ready_ms - restart.ended_ms),
                seconds(*slowest_ms),
            );
            (format!("  restart of {}", restart.worker), text)
        }));
        let word = if self.faults.is_empty() { "ok".to_owned() } else { format!("FAULTS: {}", self.faults.join("; ")) };
        rows.push(("rolling restart".to_owned(), word));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Planned, token};

    fn restart(worker: &str, asked_ms: i64) -> Restart {
        let (ended_ms, ready_ms) = (asked_ms + 500, asked_ms + 900);
        let ended = "exit code 0".to_owned();
        Restart { worker: worker.to_owned(), asked_ms, ended_ms, ready_ms, ended, in_order: true, unready_ms: Some(3) }
    }

    fn rolling(restarts: Vec<Restart>, ends: &[(i64, i64)]) -> Rolling {
        let scenario = Scenario { workers: 2, ..Scenario::load("rolling").unwrap() };
        let last = Planned { number: 0, token: token(0), desktop: "d".into(), peer: "p".into(), at_ms: 10_000 };
        let material = Material { restarts, plan: vec![last], reply_deadline_ms: 30_000, ..Material::default() };
        Rolling::of(&scenario, &material, ends)
    }

    #[test]
    fn a_restart_in_order_that_makes_nothing_late_is_clean_and_tells_the_slowest_turn_of_each() {
        // The second was in the making when the first worker was asked.
        let ends = [(100, 200), (900, 3_900), (6_000, 36_000)];
        let found = rolling(vec![restart("worker-1", 1_000), restart("worker-2", 5_000)], &ends);
        assert_eq!(found.faults, Vec::<String>::new());
        assert_eq!((found.slowest_ms, found.late), (30_000, 0));
        let slowest: Vec<i64> = found.restarts.iter().map(|(_, slowest)| *slowest).collect();
        assert_eq!(slowest, [3_000, 30_000]);
        let rows = found.rows();
        assert_eq!(rows[0].1, "30.00 s, its deadline 30 s; 0 over it");
        assert!(
            rows[1].1.contains("ended after 0.50 s (exit code 0), the new one ready 0.40 s later"),
            "{}",
            rows[1].1
        );
        assert_eq!(rows[3], ("rolling restart".to_owned(), "ok".to_owned()));
    }

    #[test]
    fn a_late_turn_a_killed_worker_one_not_restarted_and_a_plan_too_short_are_faults() {
        let killed = Restart { in_order: false, ended: "signal 9".to_owned(), ..restart("worker-1", 9_500) };
        let found = rolling(vec![killed], &[(0, 30_001)]);
        let told = found.faults.join("; ");
        assert_eq!(found.faults.len(), 4, "{told}");
        for what in ["1 of 2 workers", "1 turns were answered after", "signal 9", "the plan was over"] {
            assert!(told.contains(what), "{what} is missing in {told}");
        }
    }
}
