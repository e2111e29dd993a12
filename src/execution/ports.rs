//! What the executor needs from others: the journal's say, a desk to work on, and somebody to tell.

use std::time::Duration;

use jiff::Timestamp;

use super::machine::{Keys, Look, Typed};
use super::settings::SendProfile;
use crate::contract::{Conversation, ConversationId, Effect, Timings};
use crate::journal::{Ending, FenceVerdict, JournalError, OwnLine, SendOrder, Unfinished};
use crate::screen::window::WindowInfo;

/// The journal as the executor sees it; calls block. Each is one transaction, as described at [`crate::journal::Journal`].
pub trait Authority: Send {
    /// The oldest order that may be tried now.
    fn next_send(&mut self, blocked: &[ConversationId], now: Timestamp) -> Result<Option<SendOrder>, JournalError>;
    /// Fence and intent.
    fn begin_intent(&mut self, order: &SendOrder, now: Timestamp) -> Result<FenceVerdict, JournalError>;
    /// Fence and submitting.
    fn begin_submit(&mut self, order: &SendOrder, pane: u64, now: Timestamp) -> Result<FenceVerdict, JournalError>;
    /// Puts the order back; it must be possible after `begin_submit` too, as long as Enter was not pressed.
    fn abandon(&mut self, order: &SendOrder, after: Duration, now: Timestamp) -> Result<(), JournalError>;
    /// The own line below the watermark.
    fn own_line(&mut self, order: &SendOrder) -> Result<Option<OwnLine>, JournalError>;
    /// Whether capture has aligned the conversation at `since` or later.
    fn aligned_since(&mut self, conversation: ConversationId, since: Timestamp) -> Result<bool, JournalError>;
    /// Ends the order.
    fn end(&mut self, order: &SendOrder, ending: Ending, now: Timestamp) -> Result<(), JournalError>;
    /// What a dead executor left.
    fn unfinished(&mut self) -> Result<Vec<Unfinished>, JournalError>;
}

/// An input field of an application.
pub trait Input: Send {
    /// Its text, exactly.
    ///
    /// # Errors
    /// Why it cannot be read, without chat text.
    fn read(&mut self) -> Result<String, String>;
    /// Whether it says that it has the focus.
    ///
    /// # Errors
    /// Why it does not tell.
    fn focused(&mut self) -> Result<bool, String>;
    /// Takes the focus within its window.
    ///
    /// # Errors
    /// Why it could not.
    fn focus(&mut self) -> Result<(), String>;
    /// Empties it without keys; `false` where the application offers no such way.
    ///
    /// # Errors
    /// Why it failed.
    fn clear(&mut self) -> Result<bool, String> {
        Ok(false)
    }
}

/// What the profiles know: which conversation a window shows, where its input is, how it wants to be typed into.
pub trait Applications: Send {
    /// The conversation that a window shows, account and all; `None` if no profile matches or it cannot be told.
    fn conversation_of(&mut self, window: &WindowInfo) -> Option<Conversation>;
    /// The digest of the window's chat pane as it is now: the one that capture records.
    ///
    /// # Errors
    /// Why the pane cannot be read.
    fn pane_digest(&mut self, window: &WindowInfo) -> Result<u64, String>;
    /// The window's input field.
    ///
    /// # Errors
    /// Why there is none.
    fn input_of(&mut self, window: &WindowInfo) -> Result<Box<dyn Input>, String>;
    /// How a profile wants to be typed into; `None` means that it is not typed into at all.
    fn send_profile(&self, application: &str) -> Option<SendProfile>;
}

/// Everything physical about one display, for one order at a time.
pub trait Desk: Send {
    /// Turns to this order; forgets the one before. Returns the text as it will be typed.
    ///
    /// # Errors
    /// Why it must not be typed, without chat text: this refuses the order.
    fn take_up(&mut self, order: &SendOrder) -> Result<String, String>;
    /// Window and input as they are; with `prove` also grabs and held keys.
    fn look(&mut self, prove: bool) -> Look;
    /// Whether nobody else grabs the keyboard.
    fn try_grab(&mut self) -> bool;
    /// Held keys and locks.
    fn keys(&mut self) -> Keys;
    /// Whether the person has paused long enough. From then on, [`Desk::person`] tells of them.
    fn idle(&mut self) -> bool;
    /// Whether the person pressed anything since [`Desk::idle`] last said yes.
    fn person(&mut self) -> bool;
    /// Brings the window to the front; remembers what was there.
    fn activate(&mut self) -> bool;
    /// Focuses the input.
    fn focus(&mut self) -> bool;
    /// Types or pastes the text; stops at once when the person or `stop` interrupts.
    fn type_text(&mut self, stop: &dyn Fn() -> bool) -> Typed;
    /// The digest of the pane, if it can be read.
    fn pane_digest(&mut self) -> Option<u64>;
    /// Presses the submit key; `Ok` with the time since the last proof began, an error only if it was certainly not pressed.
    ///
    /// # Errors
    /// The key was not pressed.
    fn press_enter(&mut self) -> Result<Duration, String>;
    /// Empties the input, if it still holds a prefix of our text.
    fn clear(&mut self) -> bool;
    /// Gives focus and clipboard back, if they are still ours to give. May be called again.
    fn give_back(&mut self);
    /// Why nothing may be typed on this display at all any more.
    fn lost(&mut self) -> Option<crate::error::Problem>;
}

/// What the executor does with an order, as far as it is worth a name outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Asks the journal whether it may begin.
    Fence,
    /// Finds the window and proves it, brings it to the front, looks at the input.
    Window,
    /// Waits for held keys, and for other programs that hold the keyboard.
    Keys,
    /// Waits for the person to pause.
    Idle,
    /// Focuses the input.
    Focus,
    /// Types or pastes.
    Type,
    /// Reads the input back.
    ReadBack,
    /// Asks the journal, proves the window again, presses the submit key.
    Submit,
    /// Waits for the input to empty and for the own line.
    Verify,
    /// Gives focus and clipboard back.
    GiveBack,
    /// Waits until capture has seen the conversation.
    Align,
    /// Finds out what a dead executor left.
    Reconcile,
    /// Takes back what was typed.
    Undo,
}

/// One attempt at an order, when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempted {
    /// When it began.
    pub began_at: Timestamp,
    /// What became of the order; `None` when it was put back, to be tried again.
    pub effect: Option<Effect>,
    /// When each step happened, of earlier attempts too.
    pub timings: Timings,
}

/// Is told what metrics and traces want to know.
pub trait Observer: Send {
    /// An order stood in this stage for so long, without a break.
    fn on_stage(&self, _stage: Stage, _took: Duration) {}
    /// The time between the beginning of the last proof and the submit key: what X11 leaves open.
    fn on_submit_gap(&self, _gap: Duration) {}
    /// An order ended; `entered` if the submit key was pressed for it.
    fn on_end(&self, _effect: Effect, _entered: bool) {}
    /// An attempt is over, as the journal has it now.
    fn on_attempt(&self, _order: &SendOrder, _attempt: &Attempted) {}
    /// An attempt was put back; `fault` if something was wrong rather than busy.
    fn on_abandon(&self, _fault: bool) {}
}
