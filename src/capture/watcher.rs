//! The capture loop: change, rest, reading, alignment, journal. It blocks and runs on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::seams::{FindWindows, Found, Looks, ModeGate, Observer, Target, ViewReader};
use super::settings::Settings;
use super::transcript::{Alignment, AlignmentKind, Transcript};
use crate::clock::Clock;
use crate::contract::{ConversationId, Extraction, Mode};
use crate::journal::{Grown, JournalError, LastLook, NewMessage};
use crate::policy::redaction::redact;
use crate::screen::geometry::Frame;
use crate::screen::pane::{PaneLine, PaneView};
use crate::screen::window::{ScreenError, WindowId, WindowInfo, WindowSystem};

/// Time between two samples of a pane that is changing.
const SAMPLE: Duration = Duration::from_millis(25);

/// Everything the loop works with.
pub struct Watcher<W, F, R, L, M, O, C> {
    /// The display.
    pub windows: W,
    /// Which windows show what.
    pub finder: F,
    /// How a pane is read.
    pub reader: R,
    /// Where looks are kept.
    pub looks: L,
    /// Whether a conversation may be read.
    pub gate: M,
    /// Who is told how it goes.
    pub observer: O,
    /// Wall-clock time.
    pub clock: C,
    /// The figures.
    pub settings: Settings,
    /// Ends the loop.
    pub stop: CancellationToken,
}

/// What the loop remembers of a window.
#[derive(Debug)]
struct Watched {
    target: Target,
    /// The pane's pixels when they were last recorded.
    recorded: Option<u64>,
    /// When it was last captured.
    captured: Option<Instant>,
    /// Something changed, or the pane was not at rest.
    due: bool,
    /// Not before this, after a failure.
    held_until: Option<Instant>,
    /// The mode was off: what came meanwhile is context.
    was_off: bool,
}

impl Watched {
    fn new(target: Target) -> Self {
        Self { target, recorded: None, captured: None, due: true, held_until: None, was_off: false }
    }
}

/// What the loop remembers between rounds.
#[derive(Debug, Default)]
struct Memory {
    watched: BTreeMap<WindowId, Watched>,
    transcripts: BTreeMap<ConversationId, Transcript>,
    refused: usize,
    searched: Option<Instant>,
}

/// Why one look brought nothing.
enum Missed {
    /// The window has gone or shows something else now.
    Changed,
    /// The display has gone.
    Display(ScreenError),
    /// Something failed that may pass.
    Failed(String),
}

impl From<ScreenError> for Missed {
    fn from(error: ScreenError) -> Self {
        match error {
            ScreenError::Gone(_) | ScreenError::Unviewable(_) => Self::Changed,
            other => Self::Display(other),
        }
    }
}

impl From<JournalError> for Missed {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl<W, F, R, L, M, O, C> Watcher<W, F, R, L, M, O, C>
where
    W: WindowSystem,
    F: FindWindows,
    R: ViewReader,
    L: Looks,
    M: ModeGate,
    O: Observer,
    C: Clock,
{
    /// Watches until the stop token is cancelled; that is noticed within a poll, or when the reading at hand is done.
    ///
    /// # Errors
    /// The display does not answer any more. A window that goes away, a reading or a journal write that fails is no
    /// error of the loop: it is told to the observer and tried again at the next safety poll.
    pub fn run(mut self) -> Result<(), ScreenError> {
        let mut memory = Memory::default();
        while !self.stop.is_cancelled() {
            self.search(&mut memory)?;
            self.round(&mut memory)?;
            self.observer.on_round(memory.watched.len(), memory.refused);
            for changed in self.windows.wait_change(self.settings.poll())? {
                if let Some(watched) = memory.watched.get_mut(&changed) {
                    watched.due = true;
                }
            }
        }
        Ok(())
    }

    /// Looks for windows, unless that was done a moment ago.
    fn search(&mut self, memory: &mut Memory) -> Result<(), ScreenError> {
        if memory.searched.is_some_and(|at| at.elapsed() < self.settings.windows()) {
            return Ok(());
        }
        memory.searched = Some(Instant::now());
        let windows = self.windows.windows()?;
        let Found { targets, refused } = self.finder.find(&windows);
        memory.refused = refused.len();
        let found: BTreeSet<WindowId> = targets.iter().map(|target| target.window).collect();
        memory.watched.retain(|id, _| found.contains(id));
        for target in targets {
            let known = memory.watched.get(&target.window);
            if known.is_some_and(|watched| watched.target == target) {
                continue;
            }
            // A caret blinks in the input box for ever: only the pane is watched. One that moved is another target.
            match self.windows.watch(target.window, target.pane) {
                Ok(()) => {
                    memory.watched.insert(target.window, Watched::new(target));
                }
                Err(ScreenError::Gone(id)) => {
                    memory.watched.remove(&id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at each window that is due.
    fn round(&mut self, memory: &mut Memory) -> Result<(), ScreenError> {
        let Memory { watched, transcripts, searched, .. } = memory;
        let mut changed = Vec::new();
        for (id, watched) in watched.iter_mut() {
            if self.stop.is_cancelled() {
                break;
            }
            let held = watched.held_until.is_some_and(|until| Instant::now() < until);
            match self.gate.mode(&watched.target.conversation) {
                Ok(Mode::Off) => {
                    watched.was_off = true;
                    continue;
                }
                Ok(_) => {}
                // Not known is no permission, and not off either: what comes meanwhile is no history.
                Err(error) => {
                    if !held {
                        watched.held_until = Some(Instant::now() + self.settings.safety());
                        watched.due = true;
                        self.observer.on_error(watched.target.conversation.id, &error.to_string());
                    }
                    continue;
                }
            }
            let waited = watched.captured.is_none_or(|at| at.elapsed() >= self.settings.safety());
            if held || !(watched.due || watched.was_off || waited) {
                continue;
            }
            match self.look(watched, transcripts) {
                Ok(()) => watched.held_until = None,
                Err(Missed::Changed) => changed.push(*id),
                Err(Missed::Display(error)) => return Err(error),
                Err(Missed::Failed(error)) => {
                    let conversation = watched.target.conversation.id;
                    // The look may or may not be in the journal: its transcript decides.
                    transcripts.remove(&conversation);
                    watched.held_until = Some(Instant::now() + self.settings.safety());
                    watched.due = true;
                    self.observer.on_error(conversation, &error);
                }
            }
        }
        for id in changed {
            watched.remove(&id);
            *searched = None;
        }
        Ok(())
    }

    /// One look at one window, from the pixels to the journal.
    fn look(
        &mut self,
        watched: &mut Watched,
        transcripts: &mut BTreeMap<ConversationId, Transcript>,
    ) -> Result<(), Missed> {
        let started = Instant::now();
        if self.is_hidden(&watched.target)? {
            return Ok(());
        }
        (watched.captured, watched.due) = (Some(started), false);
        let frame = self.windows.capture(watched.target.window, watched.target.pane)?;
        if watched.recorded == Some(digest(&frame)) {
            // A title that lies about these pixels would be noticed when they are read.
            watched.was_off = false;
            return Ok(());
        }
        let Some((frame, at_rest)) = self.settle(&watched.target, frame)? else { return Ok(()) };
        let pixels = digest(&frame);
        let mut view =
            self.reader.read(&watched.target, &frame).map_err(|problem| Missed::Failed(problem.to_string()))?;
        // The pixels belong to the conversation only if the title stood before and stands after them.
        self.is_hidden(&watched.target)?;
        redact_view(&mut view);
        let grown = self.record(&watched.target, &view, watched.was_off, transcripts)?;
        watched.recorded = Some(pixels);
        watched.due = !at_rest;
        watched.was_off = false;
        self.observer.on_look(started.elapsed());
        if let Some(grown) = grown {
            self.observer.on_grown(watched.target.conversation.id, grown, started.elapsed());
        }
        Ok(())
    }

    /// Whether the window's pixels may be old; `Changed` if it is not the target any more.
    fn is_hidden(&mut self, target: &Target) -> Result<bool, Missed> {
        let WindowInfo { title, hidden, .. } = self.windows.window(target.window)?;
        if title == target.title { Ok(hidden) } else { Err(Missed::Changed) }
    }

    /// Samples until two captures are equal or the time is over; whether it came to rest. `None` on a stop.
    fn settle(&mut self, target: &Target, first: Frame) -> Result<Option<(Frame, bool)>, Missed> {
        let started = Instant::now();
        let mut last = first;
        while started.elapsed() < self.settings.settle() {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            std::thread::sleep(SAMPLE);
            let next = self.windows.capture(target.window, target.pane)?;
            let at_rest = next == last;
            last = next;
            if at_rest {
                return Ok(Some((last, true)));
            }
        }
        Ok(Some((last, false)))
    }

    /// Aligns a view and records what it brought; the transcript is kept only when the journal has it.
    fn record(
        &mut self,
        target: &Target,
        view: &PaneView,
        was_off: bool,
        transcripts: &mut BTreeMap<ConversationId, Transcript>,
    ) -> Result<Option<Grown>, Missed> {
        let conversation = target.conversation.id;
        let mut transcript = match transcripts.get(&conversation) {
            Some(transcript) => transcript.clone(),
            None => self.load(conversation)?,
        };
        let alignment = transcript.align(view);
        let history = was_off || alignment.is_history();
        let now = self.clock.now();
        let look = LastLook {
            pane_digest: view.digest,
            aligned: alignment.is_aligned() && !view.lines.is_empty(),
            at_bottom: alignment.at_bottom,
            transcript: transcript.to_json().map_err(|error| Missed::Failed(error.to_string()))?,
            at: now,
        };
        let new: Vec<NewMessage> = alignment.new.iter().map(|line| message(line, view, history)).collect();
        let count = new.len();
        let grown = self.looks.record_look(&target.conversation, new, look, now)?;
        transcripts.insert(conversation, transcript);
        self.tell(conversation, &alignment, if history { 0 } else { count }, grown);
        Ok(grown)
    }

    fn load(&mut self, conversation: ConversationId) -> Result<Transcript, Missed> {
        let limit = self.settings.transcript_lines;
        let Some(look) = self.looks.last_look(conversation)? else { return Ok(Transcript::new(limit)) };
        Ok(Transcript::from_json(&look.transcript, limit).unwrap_or_else(|_| {
            // Written by another version: what is visible becomes history, nothing is answered blindly.
            self.observer.on_error(conversation, "the last look's transcript cannot be read; starting a new one");
            Transcript::new(limit)
        }))
    }

    fn tell(&mut self, conversation: ConversationId, alignment: &Alignment, detected: usize, grown: Option<Grown>) {
        if alignment.kind == AlignmentKind::Lost {
            tracing::warn!(%conversation, "the view does not overlap with what was seen before; a gap is recorded");
            self.observer.on_lost(conversation);
        }
        if alignment.kind == AlignmentKind::FirstLook && !alignment.new.is_empty() {
            tracing::info!(%conversation, lines = alignment.new.len(), "watching; what is already there is history");
        }
        if detected > 0 {
            let (turn, revision) =
                (grown.map(|grown| tracing::field::display(grown.turn)), grown.map(|g| g.revision.0));
            tracing::info!(%conversation, turn, revision, lines = detected, "new lines");
            self.observer.on_detected(detected);
            alignment.new.iter().for_each(|line| self.observer.on_confidence(line.confidence));
        }
    }
}

/// Secrets are taken out before anything is compared, so that the transcript never holds them either.
fn redact_view(view: &mut PaneView) {
    for line in &mut view.lines {
        line.text = redact(&line.text);
    }
}

fn message(line: &PaneLine, view: &PaneView, history: bool) -> NewMessage {
    NewMessage {
        sender: line.sender.clone().unwrap_or_default(),
        cue: line.cue,
        text: line.text.clone(),
        stamp: line.stamp.clone(),
        extraction: Extraction { method: view.method, confidence: line.confidence, doubtful: line.doubtful },
        history,
    }
}

fn digest(frame: &Frame) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&frame.width.to_le_bytes());
    hash.update(&frame.height.to_le_bytes());
    hash.update(&frame.rgbx);
    hash.digest()
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
