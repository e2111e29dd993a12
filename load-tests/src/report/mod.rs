//! What a run came to: figures from the run's own files, as a table, as JSON and as a page with plots. Nothing here
//! comes from the counters of the system under test.

mod figures;
mod material;
mod page;
mod plots;
mod rolling;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use figures::Percentiles;
pub use material::{Material, Tally};
pub use rolling::{Restart, Rolling};

use crate::checker::Verdict;
use crate::load::Scenario;
use figures::Second;

/// The file of the figures in a run's directory.
pub const JSON_FILE: &str = "report.json";
/// The page.
pub const PAGE_FILE: &str = "report.html";

/// What the figures mean; stands in every report.
pub const DEFINITIONS: [(&str, &str); 7] = [
    (
        "end to end",
        "from the planned time of a message to the moment in which the fake application shows the line that answers it. \
         Every planned message that was answered counts, also those that were shown or answered late (no coordinated omission).",
    ),
    (
        "pipeline overhead",
        "one figure a reply: end to end of the last message that it answers, less the scripted time of the model stub and \
         less the quiet time that a conversation must have before its turn is published. Everything else counts: the \
         generator's own lateness, Kafka twice, the ledger, HTTP to and from the stub, and with journal desks their \
         journal, typing and verification. Wire desks show a reply when its command arrives.",
    ),
    (
        "waited",
        "replies whose last message was written while an earlier message of its conversation had no reply yet. \
         Conversations are answered in order, so such a message waits for another one's model: it is in \
         end to end, and not in the overhead.",
    ),
    ("rate held", "messages that were answered until the plan's end, divided by the plan's length."),
    (
        "lag",
        "records of messages and outcomes that the workers have not committed, from the broker's offsets, once a second.",
    ),
    (
        "cores and memory",
        "from /proc once a second, with all children: processor time, and proportional set size. The worker's greatest \
         resident size is the kernel's own (VmHWM).",
    ),
    (
        "slowest turn",
        "in a rolling restart: the longest end to end of all messages, held against the time that a worker has for a reply \
         (saga.reply_deadline_ms). It is counted from the planned time, so that nothing that a restart holds up is hidden.",
    ),
];

/// Under what a run was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// The processor, and how many of its cores.
    pub processor: String,
    /// Memory in MB.
    pub memory_mb: u64,
    /// The kernel.
    pub kernel: String,
    /// The load average of one minute before the run: what else was going on.
    pub load_before: String,
    /// It was the short form.
    pub short: bool,
    /// Workers.
    pub workers: u32,
    /// `wire` or `journal`.
    pub desks: String,
}

impl Conditions {
    /// Those of this machine, for this scenario.
    pub fn gather(scenario: &Scenario, short: bool) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let models: Vec<_> = processors.lines().filter_map(|line| line.strip_prefix("model name")).collect();
        let model = models.first().map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        Self {
            processor: format!("{} cores, {model}", models.len()),
            memory_mb: kib.unwrap_or(0_u64) * 1024 / 1_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            short,
            workers: scenario.workers,
            desks: format!("{:?}", scenario.desk).to_lowercase(),
        }
    }
}

/// What a process took over the plan's time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Used {
    /// Cores on average.
    pub cores: f64,
    /// The most in one second.
    pub cores_max: f64,
    /// The most memory, in MB.
    pub mb_max: f64,
}

/// A goal of the scenario, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What.
    pub what: String,
    /// The figure that is wanted.
    pub wanted: f64,
    /// The figure that was reached.
    pub reached: f64,
    /// Whether that is good enough.
    pub met: bool,
}

/// One piece of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The mean planned rate.
    pub rate: f64,
    /// The rate at which its messages' replies came, while it lasted.
    pub held: f64,
    /// The overhead of the replies to its messages.
    pub overhead: Percentiles,
    /// The greatest lag while it lasted.
    pub lag: i64,
    /// It was held: see [`figures::is_held`].
    pub is_held: bool,
}

/// A run's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// What it stands for.
    pub about: String,
    /// Under what it was made.
    pub conditions: Conditions,
    /// How long the plan lasted.
    pub seconds: f64,
    /// The planned rate on average.
    pub rate_planned: f64,
    /// The rate that was held.
    pub rate_held: f64,
    /// What became of the messages.
    pub tally: Tally,
    /// See [`DEFINITIONS`].
    pub overhead: Percentiles,
    /// See [`DEFINITIONS`].
    pub end_to_end: Percentiles,
    /// Replies that waited for an earlier one of their conversation.
    pub waited: usize,
    /// The stages of the way, as far as the desks' clocks tell.
    pub stages: Vec<(String, Percentiles)>,
    /// What each process took.
    pub used: BTreeMap<String, Used>,
    /// The greatest resident size of each worker, in MB.
    pub worker_peak_mb: Vec<(String, f64)>,
    /// The greatest lag.
    pub lag_max: i64,
    /// The most model calls at once, as the stub counted them.
    pub in_flight_max: u64,
    /// Calls that the model stub got.
    pub model_calls: u64,
    /// The plan's pieces.
    pub steps: Vec<Step>,
    /// The last rate that was held, if that was asked.
    pub knee: Option<f64>,
    /// The goals.
    pub goals: Vec<Goal>,
    /// The restarts, if workers were restarted.
    pub rolling: Option<Rolling>,
    /// What the checker says, if it was asked: each promise, and how many offend against it.
    pub verdict: Vec<(String, usize)>,
    #[serde(skip)]
    seconds_of_plan: Vec<Second>,
}

impl Report {
    /// The figures of a run.
    pub fn of(scenario: &Scenario, material: &Material, conditions: Conditions) -> Self {
        let replies = figures::replies(scenario, material);
        let own: Vec<_> = replies.iter().filter(|reply| !reply.waited).collect();
        let overhead = Percentiles::of(own.iter().map(|reply| reply.overhead_us));
        let (tally, ends) = material.tally();
        let end_to_end = Percentiles::of(ends.iter().map(|(planned_ms, shown_ms)| (shown_ms - planned_ms) * 1000));
        let seconds = scenario.plan.seconds();
        let end_ms = material.start_ms + (seconds * 1e3) as i64;
        let in_time = ends.iter().filter(|(_, shown_ms)| *shown_ms <= end_ms).count();
        let steps = figures::steps(scenario, material, &replies, &ends);
        let lag_max = material.samples.iter().filter_map(|sample| sample.lag).max().unwrap_or(0);
        let mut report = Self {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            conditions,
            seconds,
            rate_planned: material.plan.len() as f64 / seconds,
            rate_held: in_time as f64 / seconds,
            tally,
            overhead,
            end_to_end,
            waited: replies.len() - own.len(),
            stages: figures::stages(scenario, material),
            used: figures::used(&material.samples, material.start_ms, end_ms),
            worker_peak_mb: material.peaks.clone(),
            lag_max,
            in_flight_max: material.in_flight_max,
            model_calls: material.model_calls,
            knee: scenario.find_knee.then(|| figures::knee(&steps)).flatten(),
            steps,
            goals: Vec::new(),
            rolling: scenario.restarts.map(|_| Rolling::of(scenario, material, &ends)),
            verdict: Vec::new(),
            seconds_of_plan: figures::seconds(material, &replies, &ends),
        };
        report.goals = report.goals_of(scenario);
        report
    }

    fn goals_of(&self, scenario: &Scenario) -> Vec<Goal> {
        let goals = &scenario.goals;
        let worker = self.worker_peak_mb.iter().map(|(_, mb)| *mb).fold(0.0, f64::max);
        let at_most = |what: &str, wanted: Option<f64>, reached: f64| {
            wanted.map(|wanted| Goal { what: what.to_owned(), wanted, reached, met: reached <= wanted })
        };
        let flight = self.in_flight_max as f64;
        let in_flight = goals.in_flight.map(|wanted| Goal {
            what: "replies in flight, at least".to_owned(),
            wanted,
            reached: flight,
            met: flight >= wanted,
        });
        [
            at_most("overhead p50 (ms), at most", goals.overhead_p50_ms, self.overhead.p50_ms),
            at_most("overhead p99 (ms), at most", goals.overhead_p99_ms, self.overhead.p99_ms),
            at_most("memory of a worker (MB), at most", goals.worker_mb, worker),
            in_flight,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Takes in what the checker says.
    pub fn judge(&mut self, verdict: &Verdict) {
        let findings = verdict.findings.iter();
        self.verdict = findings.map(|finding| (finding.judgement.title().to_owned(), finding.faults)).collect();
    }

    /// Whether everything was answered, once, in order and where it belongs, the checker has found nothing, and workers
    /// that were restarted ended in order and made no turn late.
    pub fn is_clean(&self) -> bool {
        let Tally { unanswered, twice, misordered, elsewhere, .. } = self.tally;
        self.rolling.as_ref().is_none_or(|rolling| rolling.faults.is_empty())
            && self.verdict.iter().all(|(_, faults)| *faults == 0)
            && unanswered + twice + misordered + elsewhere == 0
    }

    /// Writes `report.json` and `report.html`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, directory: &Path, material: &Material) -> std::io::Result<()> {
        std::fs::write(directory.join(JSON_FILE), serde_json::to_string_pretty(self)? + "\n")?;
        let plots = plots::draw(self, material).map_err(std::io::Error::other)?;
        std::fs::write(directory.join(PAGE_FILE), page::page(self, &plots))
    }

    /// The figures as rows of name and value.
    pub fn rows(&self) -> Vec<(String, String)> {
        let latency = |p: &Percentiles| {
            format!(
                "p50 {:.1}  p90 {:.1}  p99 {:.1}  max {:.1} ms ({})",
                p.p50_ms, p.p90_ms, p.p99_ms, p.max_ms, p.count
            )
        };
        let tally = &self.tally;
        let mut rows = vec![
            (
                "rate".to_owned(),
                format!("{:.1}/s planned, {:.1}/s held, {:.1} s", self.rate_planned, self.rate_held, self.seconds),
            ),
            ("pipeline overhead".to_owned(), latency(&self.overhead)),
            ("end to end".to_owned(), latency(&self.end_to_end)),
            ("waited".to_owned(), self.waited.to_string()),
            (
                "messages".to_owned(),
                format!(
                    "{} planned, {} shown, {} answered, {} not; {} twice, {} misordered, {} elsewhere",
                    tally.planned,
                    tally.shown,
                    tally.answered,
                    tally.unanswered,
                    tally.twice,
                    tally.misordered,
                    tally.elsewhere
                ),
            ),
            ("model".to_owned(), format!("{} calls, {} at once at most", self.model_calls, self.in_flight_max)),
            ("lag".to_owned(), format!("{} records at most", self.lag_max)),
        ];
        rows.extend(self.rolling.iter().flat_map(Rolling::rows));
        rows.extend(self.knee.map(|rate| ("knee".to_owned(), format!("{rate:.0}/s was the last rate held"))));
        rows.extend(self.stages.iter().map(|(name, times)| (format!("  {name}"), latency(times))));
        rows.extend(self.used.iter().map(|(name, used)| {
            let text = format!("{:.2} cores ({:.2} at most), {:.0} MB", used.cores, used.cores_max, used.mb_max);
            (format!("  {name}"), text)
        }));
        rows.extend(
            self.worker_peak_mb.iter().map(|(name, mb)| (format!("  {name}, resident"), format!("{mb:.0} MB at most"))),
        );
        rows.extend(self.goals.iter().map(|goal| {
            let met = if goal.met { "met" } else { "MISSED" };
            (format!("goal: {}", goal.what), format!("{:.1} wanted, {:.1}: {met}", goal.wanted, goal.reached))
        }));
        rows.extend(self.verdict.iter().map(|(promise, faults)| {
            let word = if *faults == 0 { "ok".to_owned() } else { format!("{faults} FAULTS, see verdict.json") };
            (format!("checker: {promise}"), word)
        }));
        rows
    }

    /// The rows as a table for a terminal.
    pub fn table(&self) -> String {
        let rows = self.rows();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let lines = rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n"));
        std::iter::once(format!("{}: {}\n", self.scenario, self.about)).chain(lines).collect()
    }
}
