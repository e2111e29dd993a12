//! What a conversation's pane has shown, and what of a new view is new. Pure.
//!
//! A view is a window on a chat that only grows at its end; the transcript is the tail of that chat as it was read.
//! [`Transcript::align`] lays the view over the transcript (see `overlap`: a bounded semi-global alignment of lines,
//! with a score for how alike two readings are) and takes only what lies below the last aligned line as new:
//!
//! - Equal pixels are the same text, whatever else was read; equal texts are compared after folding what OCR confuses;
//!   a similar text with another stamp is another message; another reading of a line is a correction, never a message.
//! - Of two equally good placements the one with fewer new lines is taken. When one of several identical lines without
//!   stamps has scrolled off, another one that came is therefore not noticed: that is a message not answered, while
//!   the other choice could answer one twice.
//! - New lines are believed only below an overlap that can hardly be chance: two lines of which one, or both
//!   together, stand only once in what is known, or one with the same stamp, or everything known. Otherwise the alignment is lost: a gap is recorded, all visible lines
//!   become history, and nothing is answered.
//! - A line that vanishes stays known as missing, so that it is no new message when it comes back.
//! - The transcript consists of *runs*: a gap, or a cleared pane, begins a new one. Earlier runs are used to see that
//!   the pane is scrolled up, and to go on with them when the pane returns before anything new was believed.

use serde::{Deserialize, Serialize};

use super::likeness::{Folds, Reading, SAME_PIXELS, SAME_TEXT, fold, pair_score};
use super::overlap::{Overlap, Step, overlap};
use crate::screen::pane::{Cue, PaneLine, PaneView};

/// After a cleared pane this many lines at once are believed to be new; more look like a history that was loaded.
const FRESH_AFTER_CLEAR: usize = 3;

/// A line as it was last read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) stamp: Option<String>,
    pub(super) sender: Option<String>,
    pub(super) text: String,
    #[serde(with = "cue_name")]
    pub(super) cue: Cue,
    pub(super) confidence: f64,
    pub(super) digest: u64,
    /// The line was within the last view's bounds and not in it.
    #[serde(default)]
    pub(super) missing: bool,
    /// A run begins here: what lies between this line and the one before it is not known.
    #[serde(default)]
    pub(super) begins: bool,
}

impl Known {
    fn of(line: &PaneLine) -> Self {
        Self {
            stamp: line.stamp.clone(),
            sender: line.sender.clone(),
            text: line.text.clone(),
            cue: line.cue,
            confidence: line.confidence,
            digest: line.digest,
            missing: false,
            begins: false,
        }
    }
}

/// How a view lies on the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignmentKind {
    /// There was no transcript, or still nothing to read: what is visible is history.
    FirstLook,
    /// The view continues the transcript.
    Aligned,
    /// The view ends above the transcript's end, or shows nothing at all: nothing can be new.
    ScrolledBack,
    /// There is no credible overlap: a gap, and history below it.
    Lost,
}

/// What a view brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// How it lies.
    pub kind: AlignmentKind,
    /// The lines that were not known, oldest first: new ones if `Aligned`, history if `FirstLook` or `Lost`.
    pub new: Vec<PaneLine>,
    /// Other readings of known lines, and lines seen only now that stand above known ones.
    pub corrections: Vec<PaneLine>,
    /// The newest line is visible, as far as the transcript tells.
    pub at_bottom: bool,
    /// Something may lie between the lines before and those in `new`.
    pub gap: bool,
}

impl Alignment {
    /// The lines in `new` are context and must not be answered.
    pub fn is_history(&self) -> bool {
        matches!(self.kind, AlignmentKind::FirstLook | AlignmentKind::Lost)
    }

    /// The view could be laid over the transcript.
    pub fn is_aligned(&self) -> bool {
        self.kind != AlignmentKind::Lost
    }

    fn nothing(kind: AlignmentKind, at_bottom: bool) -> Self {
        Self { kind, new: Vec::new(), corrections: Vec::new(), at_bottom, gap: false }
    }
}

/// The tail of a conversation as it was last seen. Kept as JSON in the journal, by which it survives a restart.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    lines: Vec<Known>,
    folds: Vec<Folds>,
    limit: usize,
    /// The last view was empty although lines are known. Not kept: after a restart an empty pane proves nothing.
    cleared: bool,
    /// Nothing new has been believed since the last run began.
    unproven: bool,
}

impl Transcript {
    /// A transcript of nothing that keeps at most `limit` lines (two at least).
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(2), ..Self::default() }
    }

    /// The transcript that [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn from_json(json: &str, limit: usize) -> Result<Self, serde_json::Error> {
        let lines: Vec<Known> = serde_json::from_str(json)?;
        let mut transcript = Self { folds: lines.iter().map(Folds::of).collect(), lines, ..Self::new(limit) };
        transcript.trim();
        Ok(transcript)
    }

    /// The transcript as JSON: a list of lines.
    ///
    /// # Errors
    /// Practically none: a confidence that is no number is the only thing JSON cannot hold, and it becomes null.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.lines)
    }

    /// How many lines are known.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// No line is known.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lays `view` over the transcript, says what is new, and takes it in. A first look that finds no line does not
    /// count as one: many applications show an empty pane before they load its history.
    pub fn align(&mut self, view: &PaneView) -> Alignment {
        if view.lines.is_empty() {
            self.cleared = !self.lines.is_empty();
            let kind = if self.cleared { AlignmentKind::ScrolledBack } else { AlignmentKind::FirstLook };
            return Alignment::nothing(kind, false);
        }
        let readings: Vec<Reading<'_>> = view.lines.iter().map(Reading::new).collect();
        let alignment = if self.lines.is_empty() {
            self.begin_run(&view.lines);
            Alignment { new: view.lines.clone(), ..Alignment::nothing(AlignmentKind::FirstLook, true) }
        } else {
            self.align_to_runs(&view.lines, &readings)
        };
        self.cleared = false;
        self.trim();
        alignment
    }

    fn align_to_runs(&mut self, lines: &[PaneLine], readings: &[Reading<'_>]) -> Alignment {
        let last = self.last_run();
        let found = overlap(&self.lines[last..], &self.folds[last..], readings);
        let credible = is_credible(&found, &self.lines[last..], readings);
        if credible && found.fresh == 0 {
            return self.take_in(last, &found, lines);
        }
        // New lines are not believed where an earlier run explains the view better.
        let bar = if credible { found.score } else { 0 };
        if let Some(alignment) = self.align_to_earlier(last, bar, lines, readings) {
            return alignment;
        }
        if credible {
            return self.take_in(last, &found, lines);
        }
        if self.cleared && lines.len() <= FRESH_AFTER_CLEAR && !self.knows_any(readings) {
            self.begin_run(lines);
            self.unproven = false;
            return Alignment { new: lines.to_vec(), ..Alignment::nothing(AlignmentKind::Aligned, true) };
        }
        self.begin_run(lines);
        Alignment { new: lines.to_vec(), gap: true, ..Alignment::nothing(AlignmentKind::Lost, true) }
    }

    /// Looks for the view in the runs before the last. When it shows the end of the run before, and nothing new has been
    /// believed since, the pane was scrolled far away and is back: the run between is forgotten.
    fn align_to_earlier(
        &mut self,
        last: usize,
        bar: i32,
        lines: &[PaneLine],
        readings: &[Reading<'_>],
    ) -> Option<Alignment> {
        let mut end = last;
        while end > 0 {
            let start = self.run_start(end);
            let found = overlap(&self.lines[start..end], &self.folds[start..end], readings);
            if found.score > bar
                && found.matches() >= lines.len().min(2)
                && is_credible(&found, &self.lines[start..end], readings)
            {
                if found.fresh == 0 && found.below == 0 && end == last && self.unproven {
                    self.lines.truncate(last);
                    self.folds.truncate(last);
                    self.unproven = false;
                    return Some(self.take_in(start, &found, lines));
                }
                if found.fresh == 0 {
                    return Some(Alignment::nothing(AlignmentKind::ScrolledBack, false));
                }
                let new = lines[lines.len() - found.fresh..].to_vec();
                self.begin_run(lines);
                return Some(Alignment { new, gap: true, ..Alignment::nothing(AlignmentKind::Lost, true) });
            }
            end = start;
        }
        None
    }

    /// Takes the view into the run that begins at `start`.
    fn take_in(&mut self, start: usize, found: &Overlap, lines: &[PaneLine]) -> Alignment {
        let mut corrections = Vec::new();
        let mut inserts = Vec::new();
        for step in &found.steps {
            match *step {
                Step::Pair(i, j, _) => {
                    if self.correct(start + i, &lines[j]) {
                        corrections.push(lines[j].clone());
                    }
                }
                Step::Missing(i) => self.lines[start + i].missing = true,
                Step::Extra(i, j) => {
                    inserts.push((start + i, &lines[j]));
                    corrections.push(lines[j].clone());
                }
            }
        }
        for (at, line) in inserts.into_iter().rev() {
            self.insert(at, line);
        }
        if found.above > 0 {
            self.prepend(start, &lines[..found.above]);
        }
        let new = lines[lines.len() - found.fresh..].to_vec();
        for line in &new {
            self.push(Known::of(line));
        }
        self.unproven &= new.is_empty();
        let kind = if found.below == 0 { AlignmentKind::Aligned } else { AlignmentKind::ScrolledBack };
        Alignment { kind, new, corrections, at_bottom: found.below == 0, gap: false }
    }

    /// Takes another reading of a line: its pixels, and its text where it was read no worse. True if the texts differ.
    fn correct(&mut self, at: usize, line: &PaneLine) -> bool {
        let known = &mut self.lines[at];
        known.missing = false;
        let differs = known.text != line.text;
        // Equal pixels give equal texts; a reading that differs only in where it stands is none.
        if known.digest != line.digest || differs {
            known.digest = line.digest;
            if line.confidence >= known.confidence {
                *known = Known { begins: known.begins, ..Known::of(line) };
                self.folds[at] = Folds::of(known);
            }
        }
        differs
    }

    fn begin_run(&mut self, lines: &[PaneLine]) {
        let at = self.lines.len();
        for line in lines {
            self.push(Known::of(line));
        }
        if let Some(first) = self.lines.get_mut(at) {
            first.begins = at > 0;
        }
        self.unproven = true;
    }

    fn push(&mut self, line: Known) {
        self.folds.push(Folds::of(&line));
        self.lines.push(line);
    }

    fn insert(&mut self, at: usize, line: &PaneLine) {
        let known = Known::of(line);
        self.folds.insert(at, Folds::of(&known));
        self.lines.insert(at, known);
    }

    /// Older lines came into sight above a run; they are kept only where there is room, at its head.
    fn prepend(&mut self, start: usize, above: &[PaneLine]) {
        let room = self.limit.saturating_sub(self.lines.len()).min(above.len());
        let begins = std::mem::take(&mut self.lines[start].begins);
        for line in above[above.len() - room..].iter().rev() {
            self.insert(start, line);
        }
        self.lines[start].begins = begins;
    }

    /// A line that surely has been seen before is among the readings.
    fn knows_any(&self, readings: &[Reading<'_>]) -> bool {
        self.lines.iter().zip(&self.folds).any(|(known, folds)| {
            readings.iter().any(|reading| {
                let score = pair_score(known, folds, reading);
                score == SAME_PIXELS || (score >= SAME_TEXT && reading.folded.chars().count() >= 8)
            })
        })
    }

    fn last_run(&self) -> usize {
        self.run_start(self.lines.len())
    }

    /// Where the run that ends before `end` begins.
    fn run_start(&self, end: usize) -> usize {
        self.lines[..end].iter().rposition(|line| line.begins).unwrap_or(0)
    }

    fn trim(&mut self) {
        let surplus = self.lines.len().saturating_sub(self.limit);
        self.lines.drain(..surplus);
        self.folds.drain(..surplus);
    }
}

/// Whether an overlap can hardly be chance. The bar is low where nothing follows from it, and high where the lines below
/// it would be answered.
fn is_credible(found: &Overlap, known: &[Known], readings: &[Reading<'_>]) -> bool {
    let matches = found.matches();
    let covered = readings.len() - found.above - found.fresh;
    let enough = if found.fresh == 0 { matches * 2 >= covered } else { matches * 3 >= covered * 2 };
    if matches == 0 || found.score <= 0 || !enough {
        return false;
    }
    let everything = matches >= known.iter().filter(|line| !line.missing).count();
    if found.above > 0 && matches < 2 {
        return false;
    }
    if found.fresh == 0 || everything {
        return true;
    }
    let stamped = found.steps.iter().any(|step| match *step {
        Step::Pair(i, j, score) if score >= SAME_TEXT => {
            readings[j].line.stamp.is_some() && known[i].stamp == readings[j].line.stamp
        }
        _ => false,
    });
    stamped || (matches >= 2 && is_telling(found, known, readings))
}

/// Whether the matched lines stand only once in what is known: one that is not tiny, or two that follow each other.
/// An overlap of nothing but repeated `ok` may lie anywhere.
fn is_telling(found: &Overlap, known: &[Known], readings: &[Reading<'_>]) -> bool {
    let folds: Vec<(String, &Option<String>)> = known.iter().map(|line| (fold(&line.text), &line.sender)).collect();
    let matched: Vec<usize> = found
        .steps
        .iter()
        .filter_map(|step| match *step {
            Step::Pair(i, j, score) if score > 0 => Some((i, j)),
            _ => None,
        })
        .filter(|&(_, j)| !readings[j].folded.is_empty())
        .map(|(i, _)| i)
        .collect();
    let once =
        |i: usize| folds[i].0.chars().count() >= 4 && folds.iter().filter(|line| **line == folds[i]).count() == 1;
    let pair_once = |pair: &[usize]| {
        pair[0] + 1 == pair[1] && folds.windows(2).filter(|two| *two == &folds[pair[0]..=pair[1]]).count() == 1
    };
    matched.iter().any(|&i| once(i)) || matched.windows(2).any(pair_once)
}

mod cue_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::screen::pane::Cue;

    const NAMES: [(Cue, &str); 4] =
        [(Cue::Own, "own"), (Cue::Other, "other"), (Cue::System, "system"), (Cue::Unknown, "unknown")];

    pub(super) fn serialize<S: Serializer>(cue: &Cue, serializer: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(known, _)| known == cue).map_or("unknown", |(_, name)| name);
        serializer.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cue, D::Error> {
        let name = String::deserialize(deserializer)?;
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(cue, _)| *cue)
            .ok_or_else(|| D::Error::custom("a cue is own, other, system or unknown"))
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
