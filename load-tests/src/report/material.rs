//! What a run left behind, read again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use autoreply::contract::{ReplyOutcome, Timings};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, Row as _};

use super::Restart;
use crate::facts::{self, AppLine, Planned, Side};
use crate::load::sampler::Sample;
use crate::sim::wire::{STAGES_DIRECTORY, Stages};

/// What became of the planned messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Planned.
    pub planned: usize,
    /// Shown by an application.
    pub shown: usize,
    /// Named by a line that was sent.
    pub answered: usize,
    /// Shown, and named by no line.
    pub unanswered: usize,
    /// Named by more than one line.
    pub twice: usize,
    /// Named after a message of the same conversation that was shown later.
    pub misordered: usize,
    /// Named in a window in which they were not shown.
    pub elsewhere: usize,
}

/// The files of a run.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// When the plan began.
    pub start_ms: i64,
    /// What was planned.
    pub plan: Vec<Planned>,
    /// What each application showed, by desktop.
    pub lines: BTreeMap<String, Vec<AppLine>>,
    /// The times of wire desks' turns, by the number of their last message.
    pub stages: HashMap<u64, Stages>,
    /// The times of journal desks' turns.
    pub timings: Vec<Timings>,
    /// Samples of the processes.
    pub samples: Vec<Sample>,
    /// The greatest resident size of each worker in MB.
    pub peaks: Vec<(String, f64)>,
    /// The most model calls at once.
    pub in_flight_max: u64,
    /// All model calls.
    pub model_calls: u64,
    /// The restarts of workers, in their order.
    pub restarts: Vec<Restart>,
    /// How long a turn may wait for its reply, in milliseconds.
    pub reply_deadline_ms: u64,
}

impl Material {
    /// Reads the run in this directory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn load(directory: &Path, start_ms: i64) -> std::io::Result<Self> {
        let plan = facts::read(&directory.join(facts::PLAN_FILE))?;
        let mut lines = BTreeMap::new();
        for (name, path) in files(&directory.join(facts::APPS_DIRECTORY), "jsonl")? {
            lines.insert(name, facts::read(&path)?);
        }
        let mut stages = HashMap::new();
        for (_, path) in files(&directory.join(STAGES_DIRECTORY), "jsonl")? {
            stages.extend(facts::read::<Stages>(&path)?.into_iter().map(|stages| (stages.number, stages)));
        }
        let mut timings = Vec::new();
        for (_, path) in files(&directory.join("journals"), "db")? {
            timings.extend(outcomes(&path).await.map_err(std::io::Error::other)?);
        }
        Ok(Self { start_ms, plan, lines, stages, timings, ..Self::default() })
    }

    /// What became of the messages, and for each that was answered when it was planned and when its answer was shown,
    /// both in milliseconds.
    pub fn tally(&self) -> (Tally, Vec<(i64, i64)>) {
        let mut tally = Tally { planned: self.plan.len(), ..Tally::default() };
        let planned: HashMap<&str, &Planned> =
            self.plan.iter().map(|planned| (planned.token.as_str(), planned)).collect();
        let mut ends = Vec::new();
        for lines in self.lines.values() {
            let mut windows: HashMap<&str, Window<'_>> = HashMap::new();
            for line in lines {
                let window = windows.entry(&line.peer).or_default();
                match line.side {
                    Side::Peer => facts::tokens(&line.text).into_iter().for_each(|token| window.show(token)),
                    Side::Own => {
                        for token in facts::tokens(&line.text) {
                            if window.answer(token, &mut tally)
                                && let Some(planned) = planned.get(token)
                            {
                                ends.push((planned.at_ms, line.at_ms));
                            }
                        }
                    }
                }
            }
            for window in windows.values() {
                tally.shown += window.shown.len();
                tally.answered += window.answers.len();
                tally.unanswered += window.shown.len() - window.answers.len();
            }
        }
        (tally, ends)
    }
}

/// One window while its lines are read.
#[derive(Default)]
struct Window<'a> {
    /// The place of each shown token.
    shown: HashMap<&'a str, usize>,
    answers: HashMap<&'a str, usize>,
    /// The greatest place that was answered.
    last: Option<usize>,
}

impl<'a> Window<'a> {
    fn show(&mut self, token: &'a str) {
        let place = self.shown.len();
        self.shown.entry(token).or_insert(place);
    }

    /// Takes in that `token` was answered; whether for the first time, and in its window.
    fn answer(&mut self, token: &'a str, tally: &mut Tally) -> bool {
        let Some(place) = self.shown.get(token).copied() else {
            tally.elsewhere += 1;
            return false;
        };
        let times = self.answers.entry(token).or_default();
        *times += 1;
        if *times > 1 {
            tally.twice += usize::from(*times == 2);
            return false;
        }
        tally.misordered += usize::from(self.last.is_some_and(|last| place < last));
        self.last = self.last.max(Some(place));
        true
    }
}

/// The files of this kind, by name; none if the directory is not there.
fn files(directory: &Path, extension: &str) -> std::io::Result<Vec<(String, std::path::PathBuf)>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    Ok(found)
}

/// The times of the outcomes in a journal.
async fn outcomes(path: &Path) -> Result<Vec<Timings>, sqlx::Error> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut journal = sqlx::SqliteConnection::connect_with(&options).await?;
    let rows = sqlx::query("select body from outcomes where effect = 'confirmed'").fetch_all(&mut journal).await?;
    let read = |row: &sqlx::sqlite::SqliteRow| serde_json::from_str::<ReplyOutcome>(row.get(0)).ok();
    let timings = rows.iter().filter_map(read).map(|outcome| outcome.timings).collect();
    journal.close().await?;
    Ok(timings)
}
