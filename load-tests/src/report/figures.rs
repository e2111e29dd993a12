//! Figures from a run's files. Pure.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Material, Step, Used};
use crate::facts::{self, Planned, Side};
use crate::load::Scenario;
use crate::load::sampler::Sample;
use crate::sim::DeskKind;

/// A rate is held while this share of its messages is answered as it lasts...
const HELD_SHARE: f64 = 0.95;
/// ...and the overhead's p99 stays below so many times that of the first step, or below this.
const HELD_TIMES: f64 = 10.0;
/// A p99 in milliseconds that is good enough at any rate.
const HELD_P99_MS: f64 = 100.0;

/// A distribution of times.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// 90 of 100.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Percentiles {
    /// Of these times in microseconds, to three digits; a negative one counts as 0, a longer one than an hour as that.
    pub fn of(times_us: impl Iterator<Item = i64>) -> Self {
        const HOUR_US: u64 = 3_600_000_000;
        let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, HOUR_US, 3) else { return Self::default() };
        for time in times_us {
            histogram.saturating_record(u64::try_from(time).unwrap_or(0));
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: histogram.len(),
            mean_ms: histogram.mean() / 1e3,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: histogram.max() as f64 / 1e3,
        }
    }
}

/// A line that answers messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// When the last message that it answers was planned.
    pub planned_ms: i64,
    /// See `DEFINITIONS`.
    pub overhead_us: i64,
    /// It waited for an earlier reply of its conversation.
    pub waited: bool,
}

/// Every reply, with its overhead.
pub fn replies(scenario: &Scenario, material: &Material) -> Vec<Reply> {
    let planned: HashMap<&str, &Planned> = material.plan.iter().map(|p| (p.token.as_str(), p)).collect();
    let quiet_ms = if scenario.desk == DeskKind::Journal { scenario.quiet_ms as i64 } else { 0 };
    let taken_off_us = (scenario.model_ms as i64 + quiet_ms) * 1000;
    let mut replies = Vec::new();
    for lines in material.lines.values() {
        // When the last reply of each window was shown.
        let mut before: HashMap<&str, i64> = HashMap::new();
        for line in lines.iter().filter(|line| line.side == Side::Own) {
            let answered: Vec<_> =
                facts::tokens(&line.text).iter().filter_map(|token| planned.get(token)).copied().collect();
            let Some(last) = answered.iter().max_by_key(|planned| planned.number) else { continue };
            let received_us = material.stages.get(&last.number).and_then(|stages| stages.received_us);
            let shown_us = received_us.unwrap_or(line.at_ms * 1000);
            let waited = before.insert(&line.peer, line.at_ms).is_some_and(|before| before >= last.at_ms);
            let overhead_us = shown_us - last.at_ms * 1000 - taken_off_us;
            replies.push(Reply { planned_ms: last.at_ms, overhead_us, waited });
        }
    }
    replies
}

/// The stages of the way, as far as the desks' clocks tell.
pub fn stages(scenario: &Scenario, material: &Material) -> Vec<(String, Percentiles)> {
    let model_us = scenario.model_ms as i64 * 1000;
    let mut all = vec![("planned to shown by the application".to_owned(), lateness(material))];
    let mut add = |name: &str, times: Vec<i64>| {
        if !times.is_empty() {
            all.push((name.to_owned(), Percentiles::of(times.into_iter())));
        }
    };
    let wire: Vec<_> = material.stages.values().filter(|stages| !stages.waited).collect();
    let of =
        |f: &dyn Fn(&crate::sim::wire::Stages) -> Option<i64>| wire.iter().filter_map(|s| f(s)).collect::<Vec<_>>();
    add("published to taken by Kafka", of(&|s| Some(s.taken_us? - s.published_us)));
    add("published to the ledger's acknowledgement", of(&|s| Some(s.recorded_us? - s.published_us)));
    add("published to the command, less the model", of(&|s| Some(s.received_us? - s.published_us - model_us)));
    add("outcome published to its acknowledgement", of(&|s| Some(s.ended_us? - s.received_us?)));
    let between = |from: fn(&autoreply::contract::Timings) -> Option<Timestamp>,
                   to: fn(&autoreply::contract::Timings) -> Option<Timestamp>,
                   less_us: i64| {
        let times = material.timings.iter();
        times.filter_map(|t| Some(to(t)?.as_microsecond() - from(t)?.as_microsecond() - less_us)).collect::<Vec<_>>()
    };
    let quiet_us = scenario.quiet_ms as i64 * 1000;
    add(
        "detected to the command, less quiet and model",
        between(|t| t.detected_at, |t| t.received_at, quiet_us + model_us),
    );
    add("command to typing", between(|t| t.received_at, |t| t.typed_at, 0));
    add("typing to Enter", between(|t| t.typed_at, |t| t.submitted_at, 0));
    add("Enter to the verified line", between(|t| t.submitted_at, |t| t.shown_at, 0));
    all
}

/// How late the generator itself was.
fn lateness(material: &Material) -> Percentiles {
    let planned: HashMap<&str, i64> = material.plan.iter().map(|p| (p.token.as_str(), p.at_ms)).collect();
    let lines = material.lines.values().flatten().filter(|line| line.side == Side::Peer);
    let times = lines.flat_map(|line| {
        facts::tokens(&line.text)
            .into_iter()
            .filter_map(|token| Some((line.at_ms - planned.get(token)?) * 1000))
            .collect::<Vec<_>>()
    });
    Percentiles::of(times)
}

/// Figures by second of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// Messages planned in it.
    pub planned: usize,
    /// Messages answered in it.
    pub answered: usize,
    /// The overhead of replies to messages that were planned in it.
    pub overhead: Percentiles,
}

/// All seconds, from the plan's beginning to the last answer.
pub fn seconds(material: &Material, replies: &[Reply], ends: &[(i64, i64)]) -> Vec<Second> {
    let second = |at_ms: i64| usize::try_from((at_ms - material.start_ms) / 1000).unwrap_or(0);
    let last = ends.iter().map(|(_, shown)| *shown).chain(material.plan.last().map(|p| p.at_ms)).max();
    let mut all = vec![Second::default(); last.map_or(0, |at| second(at) + 1)];
    let mut times: Vec<Vec<i64>> = vec![Vec::new(); all.len()];
    material.plan.iter().for_each(|planned| all[second(planned.at_ms)].planned += 1);
    ends.iter().for_each(|(_, shown)| all[second(*shown)].answered += 1);
    for reply in replies.iter().filter(|reply| !reply.waited) {
        times[second(reply.planned_ms)].push(reply.overhead_us);
    }
    for (second, times) in all.iter_mut().zip(times) {
        second.overhead = Percentiles::of(times.into_iter());
    }
    all
}

/// The plan's pieces, each with what came of it.
pub fn steps(scenario: &Scenario, material: &Material, replies: &[Reply], ends: &[(i64, i64)]) -> Vec<Step> {
    let mut begin_ms = material.start_ms;
    let mut steps: Vec<Step> = Vec::new();
    for piece in &scenario.plan.pieces {
        let end_ms = begin_ms + (piece.seconds * 1e3) as i64;
        let within = |at_ms: i64| (begin_ms..end_ms).contains(&at_ms);
        let own = replies.iter().filter(|reply| !reply.waited && within(reply.planned_ms));
        let overhead = Percentiles::of(own.map(|reply| reply.overhead_us));
        let answered = ends.iter().filter(|(_, shown)| within(*shown)).count();
        let lags = material.samples.iter().filter(|sample| within(sample.at_ms)).filter_map(|sample| sample.lag);
        let (rate, held) = ((piece.from + piece.to) / 2.0, answered as f64 / piece.seconds);
        let first = steps.first().map_or(overhead.p99_ms, |first| first.overhead.p99_ms);
        let is_held = is_held(rate, held, overhead.p99_ms, first);
        steps.push(Step { rate, held, overhead, lag: lags.max().unwrap_or(0), is_held });
        begin_ms = end_ms;
    }
    steps
}

/// Whether a step was held: its messages are answered as fast as they come, and the overhead has not grown out of
/// proportion to that of the first step.
pub fn is_held(rate: f64, held: f64, p99_ms: f64, first_p99_ms: f64) -> bool {
    held >= rate * HELD_SHARE && p99_ms <= (first_p99_ms * HELD_TIMES).max(HELD_P99_MS)
}

/// The rate of the last step before the first one that was not held.
pub fn knee(steps: &[Step]) -> Option<f64> {
    steps.iter().take_while(|step| step.is_held).last().map(|step| step.rate)
}

/// What each process took while the plan lasted.
pub fn used(samples: &[Sample], start_ms: i64, end_ms: i64) -> BTreeMap<String, Used> {
    let mut all: BTreeMap<String, (Used, usize)> = BTreeMap::new();
    let within = samples.iter().filter(|sample| sample.at_ms > start_ms + 1000 && sample.at_ms <= end_ms + 1000);
    for (name, usage) in within.flat_map(|sample| &sample.usage) {
        let (used, count) = all.entry(name.clone()).or_default();
        used.cores += usage.cores;
        used.cores_max = used.cores_max.max(usage.cores);
        used.mb_max = used.mb_max.max(usage.mb);
        *count += 1;
    }
    let mean = |(used, count): (Used, usize)| Used { cores: used.cores / count.max(1) as f64, ..used };
    all.into_iter().map(|(name, sum)| (name, mean(sum))).collect()
}
