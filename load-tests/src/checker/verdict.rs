//! What the judge says, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The name of the verdict's file in a run's directory.
pub const VERDICT_FILE: &str = "verdict.json";

/// So many offenders of a judgement are named.
pub const NAMED: usize = 20;

/// A promise that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The run itself is sound: what was shown is what was planned, once and where it was planned.
    Plan,
    /// A message that was shown has neither a visible reply nor a recorded reason.
    Lost,
    /// A message was answered twice, or a turn has two sent lines.
    Duplicates,
    /// A sent line names no message of the plan.
    Unknown,
    /// A sent line stands in another window than the messages it names.
    Misdelivered,
    /// A reply came after a reply to something newer, or before its message.
    Order,
    /// A turn has not exactly one end, with a reason, that its story tells as well.
    Ends,
    /// An effect is claimed without its line, or a line without its effect.
    Claims,
    /// Quota and turns do not agree.
    Quota,
    /// Something is open that should have ended, or unpublished.
    Open,
    /// Dead letters.
    DeadLetters,
    /// A record in a topic is not in the ledger.
    Records,
    /// Chat text in a log or a metric.
    Hygiene,
}

impl Judgement {
    /// Every judgement, in the order in which they are printed.
    pub const ALL: [Self; 13] = [
        Self::Plan,
        Self::Lost,
        Self::Duplicates,
        Self::Unknown,
        Self::Misdelivered,
        Self::Order,
        Self::Ends,
        Self::Claims,
        Self::Quota,
        Self::Open,
        Self::DeadLetters,
        Self::Records,
        Self::Hygiene,
    ];

    /// What it is called where people read it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plan => "the run is as planned",
            Self::Lost => "nothing lost",
            Self::Duplicates => "nothing twice",
            Self::Unknown => "no line of unknown origin",
            Self::Misdelivered => "nothing in the wrong window",
            Self::Order => "in order",
            Self::Ends => "one end a turn, with a reason",
            Self::Claims => "effects are what was shown",
            Self::Quota => "quotas balanced",
            Self::Open => "nothing left open",
            Self::DeadLetters => "no dead letters",
            Self::Records => "every record is in the ledger",
            Self::Hygiene => "no chat text in logs and metrics",
        }
    }
}

/// A judgement with its offenders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub judgement: Judgement,
    /// How many offend.
    pub faults: usize,
    /// The first of them, one sentence each, with ids and tokens.
    pub offenders: Vec<String>,
}

impl Finding {
    pub(super) fn of(judgement: Judgement, mut offenders: Vec<String>) -> Self {
        let faults = offenders.len();
        offenders.truncate(NAMED);
        Self { judgement, faults, offenders }
    }
}

/// What the run came to, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that were planned.
    pub planned: usize,
    /// Messages that were planned and never shown: their desk was dead to the end.
    pub never_shown: usize,
    /// Messages that a visible reply names.
    pub answered: usize,
    /// Messages without a visible reply whose turn has a recorded reason.
    pub reasoned: usize,
    /// Messages that were recorded as history and so are not answered.
    pub history: usize,
    /// Turns in the ledger.
    pub turns: usize,
    /// Turns that have not ended.
    pub open: usize,
    /// Replies that are visible in the applications.
    pub replies: usize,
    /// Lines of a turn that was handed over to a person because nothing was heard of it.
    pub unproven: usize,
    /// Ended turns by their effect.
    pub effects: BTreeMap<String, usize>,
    /// Records read from the topics.
    pub records: u64,
    /// What was broken or mended, by the first word of each fault.
    pub broken: BTreeMap<String, usize>,
}

/// The judge's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether nothing offends.
    pub clean: bool,
    /// What the run came to.
    pub counts: Counts,
    /// Every judgement.
    pub findings: Vec<Finding>,
}

impl Verdict {
    pub(super) fn new(counts: Counts, findings: Vec<Finding>) -> Self {
        Self { clean: findings.iter().all(|finding| finding.faults == 0), counts, findings }
    }

    /// The judgements that found a fault.
    pub fn faulty(&self) -> Vec<Judgement> {
        self.findings.iter().filter(|finding| finding.faults > 0).map(|finding| finding.judgement).collect()
    }

    /// Writes it as `verdict.json` into the run's directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::write(directory.join(VERDICT_FILE), serde_json::to_string_pretty(self)?)
    }

    /// How many offend against this judgement.
    pub fn faults(&self, judgement: Judgement) -> usize {
        self.findings.iter().filter(|finding| finding.judgement == judgement).map(|finding| finding.faults).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} messages planned, {} never shown; {} turns, {} open; {} replies visible",
            counts.planned, counts.never_shown, counts.turns, counts.open, counts.replies
        )?;
        writeln!(
            f,
            "{} messages answered, {} with a recorded reason instead, {} history; {} records in the topics",
            counts.answered, counts.reasoned, counts.history, counts.records
        )?;
        let list = |map: &BTreeMap<String, usize>| {
            map.iter().map(|(name, many)| format!("{name} {many}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "ended: {}; without proof, told to a person: {}", list(&counts.effects), counts.unproven)?;
        if !counts.broken.is_empty() {
            writeln!(f, "broken: {}", list(&counts.broken))?;
        }
        for finding in &self.findings {
            let word = if finding.faults == 0 { "ok".to_owned() } else { format!("{} FAULTS", finding.faults) };
            writeln!(f, "  {:<34} {word}", finding.judgement.title())?;
            for offender in &finding.offenders {
                writeln!(f, "      {offender}")?;
            }
            if finding.faults > finding.offenders.len() {
                writeln!(f, "      and {} more", finding.faults - finding.offenders.len())?;
            }
        }
        f.write_str(if self.clean { "nothing offends" } else { "THE RUN OFFENDS" })
    }
}
