//! What the watcher needs from others, as traits: who joins the rooms implements them.

use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{Conversation, ConversationId, Mode};
use crate::error::Problem;
use crate::journal::{Grown, Journal, JournalError, LastLook, NewMessage};
use crate::screen::geometry::{Frame, Rect};
use crate::screen::pane::PaneView;
use crate::screen::window::{WindowId, WindowInfo};

/// A window that shows exactly one conversation, and is the only one that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The window.
    pub window: WindowId,
    /// The title by which it was recognised; a look counts only while it stands.
    pub title: String,
    /// What it shows.
    pub conversation: Conversation,
    /// Its chat pane, in window coordinates.
    pub pane: Rect,
    /// The profile by which it is read.
    pub profile: String,
}

/// What became of all windows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Those that are watched.
    pub targets: Vec<Target>,
    /// Those that look right and are not read, for instance because two show the same conversation.
    pub refused: Vec<WindowId>,
}

/// Finds the windows to watch. Pure: it sees no more than the list.
pub trait FindWindows: Send {
    /// The windows of all profiles among `windows`.
    fn find(&mut self, windows: &[WindowInfo]) -> Found;
}

impl<F: FnMut(&[WindowInfo]) -> Found + Send> FindWindows for F {
    fn find(&mut self, windows: &[WindowInfo]) -> Found {
        self(windows)
    }
}

/// Reads the text of a pane.
pub trait ViewReader: Send {
    /// The reading of `frame`, which is the target's pane. It may ask other sources for the text (accessibility).
    ///
    /// # Errors
    /// The text cannot be read; the pane is tried again at the next safety poll.
    fn read(&mut self, target: &Target, frame: &Frame) -> Result<PaneView, Problem>;
}

/// How far a conversation may go now; asked before each capture, because off reads nothing.
pub trait ModeGate: Send {
    /// The mode, everything considered.
    ///
    /// # Errors
    /// It cannot be told now: nothing is read until it can.
    fn mode(&mut self, conversation: &Conversation) -> Result<Mode, JournalError>;
}

impl<F: FnMut(&Conversation) -> Result<Mode, JournalError> + Send> ModeGate for F {
    fn mode(&mut self, conversation: &Conversation) -> Result<Mode, JournalError> {
        self(conversation)
    }
}

/// Where looks are kept: the journal, or a fake in tests.
pub trait Looks: Send {
    /// What the last look left behind.
    ///
    /// # Errors
    /// As the journal's.
    fn last_look(&mut self, conversation: ConversationId) -> Result<Option<LastLook>, JournalError>;
    /// Records a look in one transaction; the turn that it opened or made longer.
    ///
    /// # Errors
    /// As the journal's. Whether the look was recorded is then unknown.
    fn record_look(
        &mut self,
        conversation: &Conversation,
        new: Vec<NewMessage>,
        look: LastLook,
        now: Timestamp,
    ) -> Result<Option<Grown>, JournalError>;
}

/// The journal, used from a thread that is not the runtime's.
#[derive(Debug, Clone)]
pub struct JournalLooks {
    journal: Journal,
    runtime: tokio::runtime::Handle,
}

impl JournalLooks {
    /// Looks in `journal`, waited for on `runtime`.
    pub fn new(journal: Journal, runtime: tokio::runtime::Handle) -> Self {
        Self { journal, runtime }
    }
}

impl Looks for JournalLooks {
    fn last_look(&mut self, conversation: ConversationId) -> Result<Option<LastLook>, JournalError> {
        self.runtime.block_on(self.journal.last_look(conversation))
    }

    fn record_look(
        &mut self,
        conversation: &Conversation,
        new: Vec<NewMessage>,
        look: LastLook,
        now: Timestamp,
    ) -> Result<Option<Grown>, JournalError> {
        self.runtime.block_on(self.journal.record_look(conversation, new, look, now))
    }
}

/// What is told to metrics; never text. Every method does nothing unless it is implemented.
pub trait Observer: Send {
    /// A round over the windows is done: a heartbeat. How many are watched, and how many refused.
    fn on_round(&mut self, watched: usize, refused: usize) {
        let _ = (watched, refused);
    }
    /// A pane was read and recorded, in this time from the first changed capture.
    fn on_look(&mut self, took: Duration) {
        let _ = took;
    }
    /// A look at this conversation, so long from the first changed capture, opened this turn or made it longer.
    fn on_grown(&mut self, conversation: ConversationId, grown: Grown, took: Duration) {
        let _ = (conversation, grown, took);
    }
    /// So many new lines were recorded that are not history.
    fn on_detected(&mut self, count: usize) {
        let _ = count;
    }
    /// How sure the reading of one of them was, 0 to 1.
    fn on_confidence(&mut self, confidence: f64) {
        let _ = confidence;
    }
    /// The view could not be aligned: a gap.
    fn on_lost(&mut self, conversation: ConversationId) {
        let _ = conversation;
    }
    /// A look failed; the sentence holds no chat text.
    fn on_error(&mut self, conversation: ConversationId, error: &str) {
        let _ = (conversation, error);
    }
}

impl Observer for () {}
