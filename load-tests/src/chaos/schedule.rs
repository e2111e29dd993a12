//! What is broken when: the schedule of a chaos run. Pure: the same shape gives the same schedule on every machine.
//!
//! A run's time is cut into as many stretches as there are outages of servers. Each outage begins within the first part
//! of its stretch and has the rest of it to be mended, so that no two servers are ever out at once; their order is
//! drawn. Kills of workers and of desks are spread over the whole run, whatever is out at that moment.

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What a schedule is made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// What chance is drawn from.
    pub seed: u64,
    /// How long the run is disturbed, in milliseconds.
    pub lasts_ms: u64,
    /// How many workers there are.
    pub workers: usize,
    /// How many processes of desks there are.
    pub desks: usize,
    /// How many workers are killed.
    pub worker_kills: usize,
    /// How many processes of desks are killed.
    pub desk_kills: usize,
    /// What is done to servers, once each, in an order that is drawn.
    pub outages: Vec<Outage>,
    /// How long a server stays out, in milliseconds.
    pub out_ms: u64,
    /// How often a worker more joins and leaves in the storm of rebalances, and one of the others is stopped and
    /// continued.
    pub storms: usize,
    /// A killed process is started again after so many milliseconds at most.
    pub restart_ms: u64,
}

/// Something that is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// One of several brokers is killed, and comes back with its disk.
    BrokerKilled,
    /// Postgres is restarted.
    PostgresRestarted,
    /// Postgres is away for a while.
    PostgresStopped,
    /// Redis forgets everything.
    RedisFlushed,
    /// Redis is away for a while.
    RedisStopped,
    /// Every broker loses its disk: afterwards it is another cluster.
    KafkaWiped,
    /// A worker more joins and leaves again and again, and others are stopped and continued.
    Storm,
}

/// One thing that the runner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL to this worker.
    KillWorker(usize),
    /// It is started again.
    StartWorker(usize),
    /// SIGKILL to this process of desks.
    KillDesks(usize),
    /// It is started again.
    StartDesks(usize),
    /// A server's outage begins.
    Break(Outage),
    /// It ends.
    Mend(Outage),
    /// One worker more comes.
    Join,
    /// It is asked to go.
    Leave,
    /// SIGSTOP to this worker.
    Freeze(usize),
    /// SIGCONT to it.
    Thaw(usize),
}

/// An action and its time, in milliseconds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

impl Shape {
    /// The steps, in the order of their times.
    pub fn steps(&self) -> Vec<Step> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut steps = self.outage_steps(&mut rng);
        let workers = self.kills(&mut rng, self.worker_kills, self.workers);
        steps.extend(pairs(&workers, Action::KillWorker, Action::StartWorker));
        let desks = self.kills(&mut rng, self.desk_kills, self.desks);
        steps.extend(pairs(&desks, Action::KillDesks, Action::StartDesks));
        steps.sort_by_key(|step| step.at_ms);
        steps
    }

    /// So many kills, one in each of equal stretches, with their victims and the times of their restarts. A victim is
    /// back before the next one dies.
    fn kills(&self, rng: &mut ChaCha8Rng, count: usize, victims: usize) -> Vec<(usize, u64, u64)> {
        let mut order: Vec<usize> = Vec::with_capacity(count + victims);
        while order.len() < count && victims > 0 {
            let mut round: Vec<usize> = (0..victims).collect();
            round.shuffle(rng);
            order.extend(round);
        }
        let stretch = (self.lasts_ms / (count as u64).max(1)).max(2);
        order
            .into_iter()
            .take(count)
            .enumerate()
            .map(|(number, victim)| {
                let begin = number as u64 * stretch;
                let at = begin + rng.random_range(0..stretch.div_ceil(2));
                let latest = (begin + stretch - 1).min(at + self.restart_ms.max(1));
                (victim, at, rng.random_range(at + 1..=latest.max(at + 1)))
            })
            .collect()
    }

    fn outage_steps(&self, rng: &mut ChaCha8Rng) -> Vec<Step> {
        let mut order = self.outages.clone();
        order.shuffle(rng);
        let stretch = self.lasts_ms / (order.len() as u64).max(1);
        let mut steps = Vec::new();
        for (number, outage) in order.into_iter().enumerate() {
            let begin = number as u64 * stretch + rng.random_range(0..(stretch / 4).max(1));
            let room = (stretch / 2).max(1);
            steps.push(Step { at_ms: begin, action: Action::Break(outage) });
            if outage == Outage::Storm {
                steps.extend(self.storm(rng, begin, room));
            }
            let lasts = if outage == Outage::Storm { room } else { self.out_ms.min(room) };
            steps.push(Step { at_ms: begin + lasts, action: Action::Mend(outage) });
        }
        steps
    }

    /// Joins and leaves, and freezes and thaws, one pair of each in equal stretches of `room`.
    fn storm(&self, rng: &mut ChaCha8Rng, begin: u64, room: u64) -> Vec<Step> {
        let stretch = room / (self.storms as u64).max(1);
        let mut steps = Vec::new();
        for number in 0..self.storms as u64 {
            let from = begin + number * stretch;
            let at = |part: u64| from + stretch * part / 8;
            let frozen = rng.random_range(0..self.workers.max(1));
            steps.push(Step { at_ms: at(0), action: Action::Join });
            steps.push(Step { at_ms: at(1), action: Action::Freeze(frozen) });
            steps.push(Step { at_ms: at(4), action: Action::Leave });
            steps.push(Step { at_ms: at(6), action: Action::Thaw(frozen) });
        }
        steps
    }
}

fn pairs(kills: &[(usize, u64, u64)], kill: fn(usize) -> Action, start: fn(usize) -> Action) -> Vec<Step> {
    kills
        .iter()
        .flat_map(|(victim, killed, started)| {
            [Step { at_ms: *killed, action: kill(*victim) }, Step { at_ms: *started, action: start(*victim) }]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTAGES: [Outage; 7] = [
        Outage::BrokerKilled,
        Outage::PostgresRestarted,
        Outage::PostgresStopped,
        Outage::RedisFlushed,
        Outage::RedisStopped,
        Outage::KafkaWiped,
        Outage::Storm,
    ];

    fn shapes() -> impl Strategy<Value = Shape> {
        let figures = (10_000..2_000_000_u64, 1..9_usize, 1..101_usize, 0..40_usize, 0..40_usize, 1..12_usize);
        let times = (100..10_000_u64, 100..5_000_u64);
        let outages = prop::sample::subsequence(OUTAGES.to_vec(), 0..=OUTAGES.len());
        (any::<u64>(), figures, times, outages).prop_map(|(seed, figures, (out_ms, restart_ms), outages)| {
            let (lasts_ms, workers, desks, worker_kills, desk_kills, storms) = figures;
            Shape { seed, lasts_ms, workers, desks, worker_kills, desk_kills, outages, out_ms, storms, restart_ms }
        })
    }

    fn count(steps: &[Step], wanted: impl Fn(Action) -> bool) -> usize {
        steps.iter().filter(|step| wanted(step.action)).count()
    }

    proptest! {
        #[test]
        fn everything_demanded_is_there_in_time_and_in_order(shape in shapes()) {
            let steps = shape.steps();
            prop_assert_eq!(&steps, &shape.steps(), "the same shape, the same schedule");
            prop_assert!(steps.is_sorted_by_key(|step| step.at_ms));
            prop_assert!(steps.iter().all(|step| step.at_ms <= shape.lasts_ms));
            prop_assert_eq!(count(&steps, |action| matches!(action, Action::KillWorker(_))), shape.worker_kills);
            prop_assert_eq!(count(&steps, |action| matches!(action, Action::KillDesks(_))), shape.desk_kills);
            for outage in OUTAGES {
                let wanted = usize::from(shape.outages.contains(&outage));
                prop_assert_eq!(count(&steps, |action| action == Action::Break(outage)), wanted);
                prop_assert_eq!(count(&steps, |action| action == Action::Mend(outage)), wanted);
            }
            let joins = if shape.outages.contains(&Outage::Storm) { shape.storms } else { 0 };
            prop_assert_eq!(count(&steps, |action| action == Action::Join), joins);
        }

        #[test]
        fn one_server_is_out_at_a_time_and_all_come_back(shape in shapes()) {
            let mut out = None;
            for step in shape.steps() {
                match step.action {
                    Action::Break(outage) => prop_assert_eq!(out.replace(outage), None),
                    Action::Mend(outage) => prop_assert_eq!(out.take(), Some(outage)),
                    _ => {}
                }
            }
            prop_assert_eq!(out, None);
        }

        #[test]
        fn who_is_killed_lives_and_is_started_again(shape in shapes()) {
            let (mut workers, mut desks) = (vec![true; shape.workers], vec![true; shape.desks]);
            let (mut joined, mut frozen) = (false, None);
            for step in shape.steps() {
                match step.action {
                    Action::KillWorker(n) => prop_assert!(std::mem::replace(&mut workers[n], false)),
                    Action::StartWorker(n) => prop_assert!(!std::mem::replace(&mut workers[n], true)),
                    Action::KillDesks(n) => prop_assert!(std::mem::replace(&mut desks[n], false)),
                    Action::StartDesks(n) => prop_assert!(!std::mem::replace(&mut desks[n], true)),
                    Action::Join => prop_assert!(!std::mem::replace(&mut joined, true)),
                    Action::Leave => prop_assert!(std::mem::replace(&mut joined, false)),
                    Action::Freeze(n) => prop_assert_eq!(frozen.replace(n), None),
                    Action::Thaw(n) => prop_assert_eq!(frozen.take(), Some(n)),
                    Action::Break(_) | Action::Mend(_) => {}
                }
            }
            prop_assert!(workers.iter().chain(&desks).all(|lives| *lives) && !joined && frozen.is_none());
        }

        #[test]
        fn kills_are_spread_over_the_run_and_over_the_victims(shape in shapes()) {
            let steps = shape.steps();
            let half = shape.lasts_ms / 2;
            let early = steps.iter().filter(|step| step.at_ms < half);
            let early = early.filter(|step| matches!(step.action, Action::KillWorker(_))).count();
            prop_assert!(early.abs_diff(shape.worker_kills.div_ceil(2)) <= 1, "{} of {}", early, shape.worker_kills);
            let mut hits = vec![0_usize; shape.desks];
            for step in &steps {
                if let Action::KillDesks(n) = step.action {
                    hits[n] += 1;
                }
            }
            let (least, most) = (hits.iter().min().copied(), hits.iter().max().copied());
            prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "each in its turn");
        }
    }
}
