//! The send as a state machine: what to do next, given what was seen. Pure: no clock, no display, no journal.
//!
//! The promises it holds for any sequence of observations (see the tests): Enter only right after the journal's second
//! pass and a look that proves window, focus and text; one Enter at most; after Enter nothing is typed; text is cleared
//! only if it is a prefix of what was typed; exactly one [`Finish`].

use std::time::Duration;

use super::ports::Stage;
pub use super::vocabulary::{Action, Context, Fence, Finish, Keys, Limits, Look, Proof, Seen, Typed};
use crate::contract::Effect;

/// How often the input is asked to take the focus before the attempt counts as failed.
const FOCUS_TRIES: u32 = 3;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Fence,
    Window,
    Grab,
    Keys,
    Idle,
    Activate,
    Inspect,
    Focus,
    Type,
    ReadBack,
    Submit,
    Prove,
    Enter,
    Empty,
    Back,
    Verify,
    Align,
    Reconcile,
    Undo(Undo),
    Done(Finish),
}

/// Where the undoing stands, and what comes after it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Undo {
    pub(super) then: Then,
    pub(super) clearing: bool,
    pub(super) tries: u32,
    pub(super) empties: u32,
}

/// What comes after our text is out of the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    Postpone(String),
    Fault(String),
    Left,
    Stop,
    Unverifiable(String),
}

/// One attempt at one order.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) text: String,
    pub(super) limits: Limits,
    pub(super) step: Step,
    /// When the present wait began.
    since: Option<Duration>,
    pub(super) pausing: bool,
    faults: u32,
    focus_tries: u32,
    touched: bool,
    pub(super) entered: bool,
    /// A dead executor's intent: what stands in the input may never have been ours.
    pub(super) recovered: bool,
    /// The watermark of the second fence.
    pub watermark: u64,
    /// The input was read back exactly before Enter.
    pub read_back_exact: bool,
    /// Whether the input was read as empty after Enter.
    pub input_empty: Option<bool>,
}

impl Machine {
    /// A fresh attempt to send `text`, of an order that has failed `faults` times before.
    pub fn new(text: String, limits: Limits, faults: u32) -> Self {
        Self {
            text,
            limits,
            step: Step::Fence,
            since: None,
            pausing: false,
            faults,
            focus_tries: 0,
            touched: false,
            entered: false,
            recovered: false,
            watermark: 0,
            read_back_exact: false,
            input_empty: None,
        }
    }

    /// What to do about an intent whose executor died before the second fence: keys may have been pressed, Enter not.
    pub fn after_intent(text: String, limits: Limits) -> Self {
        Self { step: Step::Align, touched: true, recovered: true, ..Self::new(text, limits, 0) }
    }

    /// What to do about an intent whose executor died after the second fence: Enter may have been pressed.
    pub fn after_submitting(text: String, limits: Limits, watermark: u64) -> Self {
        let fresh = Self::new(text, limits, 0);
        Self { step: Step::Align, touched: true, entered: true, watermark, read_back_exact: true, ..fresh }
    }

    /// Whether the submit key may have been pressed.
    pub fn has_entered(&self) -> bool {
        self.entered
    }

    /// What it does now, for those who measure it; `None` once it is done.
    pub fn stage(&self) -> Option<Stage> {
        Some(match &self.step {
            Step::Fence => Stage::Fence,
            Step::Window | Step::Activate | Step::Inspect => Stage::Window,
            Step::Grab | Step::Keys => Stage::Keys,
            Step::Idle => Stage::Idle,
            Step::Focus => Stage::Focus,
            Step::Type => Stage::Type,
            Step::ReadBack => Stage::ReadBack,
            Step::Submit | Step::Prove | Step::Enter => Stage::Submit,
            Step::Empty | Step::Verify => Stage::Verify,
            Step::Back => Stage::GiveBack,
            Step::Align => Stage::Align,
            Step::Reconcile => Stage::Reconcile,
            Step::Undo(_) => Stage::Undo,
            Step::Done(_) => return None,
        })
    }

    /// Whether the person's input now matters: something of ours is, or is about to be, in the input.
    fn yields(&self) -> bool {
        use Step::{Activate, Focus, Inspect, Prove, ReadBack, Submit, Type};
        !self.entered && matches!(self.step, Activate | Inspect | Focus | Type | ReadBack | Submit | Prove)
    }

    /// What to do now.
    pub fn next(&self) -> Action {
        if self.pausing {
            return Action::Pause(self.limits.poll);
        }
        match &self.step {
            Step::Fence => Action::BeginIntent,
            Step::Window | Step::Inspect | Step::ReadBack | Step::Empty => Action::Look,
            Step::Grab => Action::TryGrab,
            Step::Keys => Action::ReadKeys,
            Step::Idle => Action::ReadIdle,
            Step::Activate => Action::Activate,
            Step::Focus => Action::FocusInput,
            Step::Type => Action::TypeText,
            Step::Submit => Action::BeginSubmit,
            Step::Prove => Action::Prove,
            Step::Enter => Action::PressEnter,
            Step::Back => Action::GiveBack,
            Step::Verify | Step::Reconcile => Action::ReadOwnLine,
            Step::Align => Action::AskAligned,
            Step::Undo(undo) if undo.clearing => Action::ClearInput,
            Step::Undo(_) => Action::Look,
            Step::Done(finish) => Action::Finish(finish.clone()),
        }
    }

    /// Takes in the answer to the last action. An answer that does not fit the action is as if nothing had been seen.
    pub fn observe(&mut self, seen: Seen, context: Context) {
        if self.pausing {
            self.pausing = seen != Seen::Paused;
            return;
        }
        match &seen {
            Seen::Typed(_) => self.touched = true,
            // The verdict that Enter may have been pressed is never lost to a stop or an interruption.
            Seen::Entered => {}
            Seen::Fence(Fence::Ended) => {}
            _ if context.stop && self.stops() => return,
            _ if context.person && self.yields() => {
                return self.give_way("the person pressed something");
            }
            _ => {}
        }
        self.advance(seen, context);
    }

    /// Whether a stop ends the present step; it then has.
    fn stops(&mut self) -> bool {
        match self.step {
            Step::Done(_) | Step::Undo(_) | Step::Enter | Step::Empty | Step::Back | Step::Verify => return false,
            // The verdict says whether there is an intent to put back; the next step does it.
            Step::Fence => return false,
            Step::Align | Step::Reconcile => self.done(Finish::Left),
            _ if self.touched => self.undo(Then::Stop),
            _ => self.finish_then(Then::Stop),
        }
        true
    }

    fn advance(&mut self, seen: Seen, context: Context) {
        match (self.step.clone(), seen) {
            (Step::Fence, Seen::Fence(fence)) => self.on_intent(fence),
            (Step::Window, Seen::Look(look)) => match look.proof {
                Proof::Right => self.go(Step::Grab),
                other => self.fault(proof_reason(other)),
            },
            (Step::Grab, Seen::Grab(true)) => self.go(Step::Keys),
            (Step::Grab, _) => {
                self.wait(context, self.limits.clear_wait, |m| m.fault("another program holds the keyboard"))
            }
            (Step::Keys, Seen::Keys(Keys::Up)) => self.go(Step::Idle),
            (Step::Keys, Seen::Keys(Keys::CapsLock)) => {
                self.wait(context, self.limits.clear_wait, |m| m.fault("Caps Lock is on"));
            }
            (Step::Keys, _) => self.wait(context, self.limits.clear_wait, |m| m.give_way("a key is held")),
            (Step::Idle, Seen::Idle(true)) => self.go(Step::Activate),
            (Step::Idle, _) => {
                self.wait(context, self.limits.idle_wait, |m| m.give_way("the person is at the keyboard"))
            }
            (Step::Activate, Seen::Done) => self.go(Step::Inspect),
            (Step::Activate, _) => self.fault("the window did not come to the front"),
            (Step::Inspect, Seen::Look(look)) => self.on_inspect(&look, context),
            (Step::Focus, _) => {
                self.focus_tries += 1;
                self.go(Step::Inspect);
            }
            (Step::Type, Seen::Typed(Typed::Complete)) => self.go(Step::ReadBack),
            (Step::Type, Seen::Typed(Typed::Interrupted)) => self.give_way("the person pressed something"),
            (Step::Type, _) => {
                // Whatever the answer was, keys may be down the wire.
                self.touched = true;
                self.fault("the text could not be typed");
            }
            (Step::ReadBack, Seen::Look(look)) => self.on_read_back(&look, context),
            (Step::Submit, Seen::Fence(fence)) => self.on_submit(fence, context),
            (Step::Prove, Seen::Look(look)) => self.on_proof(&look),
            (Step::Inspect | Step::ReadBack | Step::Window | Step::Fence | Step::Submit | Step::Prove, _) => {
                self.fault("the desk gave no answer");
            }
            (step, seen) => self.advance_late(step, seen, context),
        }
    }

    /// From Enter on, and everything that reads instead of typing.
    fn advance_late(&mut self, step: Step, seen: Seen, context: Context) {
        match (step, seen) {
            (Step::Enter, Seen::NotPressed) => self.fault("the submit key could not be pressed"),
            (Step::Enter, _) => {
                self.entered = true;
                self.go(Step::Empty);
            }
            (Step::Empty, Seen::Look(look)) => self.on_after_enter(&look, context),
            (Step::Back, _) => self.go(Step::Verify),
            (Step::Verify, Seen::OwnLine(found)) => self.on_verify(found, context),
            (Step::Align, Seen::Aligned(true)) => self.go(self.reconciling()),
            (Step::Align, _) => self.wait(context, self.limits.verify, |m| m.go(m.reconciling())),
            (Step::Reconcile, Seen::OwnLine(found)) => self.on_reconcile(found, context),
            (Step::Undo(undo), seen) => self.on_undo(undo, seen, context),
            (Step::Empty, _) => self.go(Step::Back),
            (Step::Verify, _) => self.on_verify(None, context),
            (Step::Reconcile, _) => self.on_reconcile(None, context),
            // Done; and the steps before Enter have been dealt with above.
            _ => {}
        }
    }

    fn reconciling(&self) -> Step {
        if self.entered { Step::Verify } else { Step::Reconcile }
    }

    fn on_intent(&mut self, fence: Fence) {
        match fence {
            Fence::Pass { watermark } => {
                self.watermark = watermark;
                self.go(Step::Window);
            }
            Fence::Wait => self.done(Finish::Blocked { reason: "the journal says wait".to_owned() }),
            Fence::Error => self.done(Finish::Blocked { reason: "the journal could not be asked".to_owned() }),
            Fence::Ended => self.done(Finish::Left),
        }
    }

    fn on_inspect(&mut self, look: &Look, context: Context) {
        match (&look.proof, &look.text) {
            (Proof::Right, _) if !look.active => self.fault("the window lost the keyboard"),
            (Proof::Right, None) => self.fault("the input cannot be read"),
            (Proof::Right, Some(text)) if !text.is_empty() => {
                self.wait(context, self.limits.clear_wait, |m| m.fault("somebody's text stands in the input"));
            }
            (Proof::Right, Some(_)) if look.focused => self.go(Step::Type),
            (Proof::Right, Some(_)) if self.focus_tries < FOCUS_TRIES => self.go(Step::Focus),
            (Proof::Right, Some(_)) => self.fault("the input does not take the focus"),
            (other, _) => self.fault(proof_reason(*other)),
        }
    }

    fn on_read_back(&mut self, look: &Look, context: Context) {
        if look.proof != Proof::Right || !look.active {
            return self.fault("the window changed while the text was typed");
        }
        if look.text.as_deref() == Some(self.text.as_str()) {
            self.read_back_exact = true;
            return self.go(Step::Submit);
        }
        self.wait(context, self.limits.read_back, |m| m.fault("the input did not read back as it was typed"));
    }

    fn on_submit(&mut self, fence: Fence, context: Context) {
        match fence {
            Fence::Pass { watermark } => {
                self.watermark = watermark;
                self.go(Step::Prove);
            }
            Fence::Wait => self.wait(context, self.limits.fresh_look, |m| m.give_way("the pane kept changing")),
            Fence::Error => self.give_way("the journal could not be asked"),
            Fence::Ended => self.undo(Then::Left),
        }
    }

    fn on_proof(&mut self, look: &Look) {
        let same = look.text.as_deref() == Some(self.text.as_str());
        match look.proof {
            Proof::Right if look.active && look.focused && look.free && same => self.go(Step::Enter),
            Proof::Right => self.fault("focus, input or keyboard changed just before Enter"),
            other => self.fault(proof_reason(other)),
        }
    }

    fn on_after_enter(&mut self, look: &Look, context: Context) {
        match (&look.proof, &look.text) {
            (Proof::Right, Some(text)) if text.is_empty() => {
                self.input_empty = Some(true);
                self.go(Step::Back);
            }
            (Proof::Right, Some(_)) => {
                self.input_empty = Some(false);
                self.wait(context, self.limits.read_back, |m| m.go(Step::Back));
            }
            _ => self.wait(context, self.limits.read_back, |m| m.go(Step::Back)),
        }
    }

    fn on_verify(&mut self, found: Option<bool>, context: Context) {
        if found == Some(true) {
            let reason = "shown below the watermark".to_owned();
            return self.done(Finish::End { effect: Effect::Confirmed, reason });
        }
        let since = *self.since.get_or_insert(context.now);
        if context.stop && context.now.saturating_sub(since) >= self.limits.stop_grace {
            return self.done(Finish::Left);
        }
        self.wait(context, self.limits.verify, |m| {
            let then = Then::Unverifiable("no own line appeared below the watermark in time".to_owned());
            if m.input_empty == Some(true) { m.finish_then(then) } else { m.undo(then) }
        });
    }

    fn on_reconcile(&mut self, found: Option<bool>, context: Context) {
        match found {
            Some(true) => {
                let reason = "the person sent it before autoreply came back".to_owned();
                self.done(Finish::End { effect: Effect::HumanReplied, reason });
            }
            Some(false) => self.undo(Then::Postpone("an earlier attempt was cut off".to_owned())),
            None => self.wait(context, self.limits.verify, |m| m.done(Finish::Left)),
        }
    }

    /// Looks again after a pause until `longest` has passed since the first wait of this step, then gives up.
    pub(super) fn wait(&mut self, context: Context, longest: Duration, give_up: impl FnOnce(&mut Self)) {
        let since = *self.since.get_or_insert(context.now);
        if context.now.saturating_sub(since) >= longest {
            give_up(self);
        } else {
            self.pausing = true;
        }
    }

    pub(super) fn go(&mut self, step: Step) {
        self.step = step;
        self.since = None;
    }

    pub(super) fn done(&mut self, finish: Finish) {
        self.go(Step::Done(finish));
    }

    /// The person, or something that will pass by itself, has precedence.
    fn give_way(&mut self, why: &str) {
        let then = Then::Postpone(why.to_owned());
        if self.touched { self.undo(then) } else { self.finish_then(then) }
    }

    /// Something is wrong; it counts.
    fn fault(&mut self, why: &str) {
        let then = Then::Fault(why.to_owned());
        if self.touched { self.undo(then) } else { self.finish_then(then) }
    }

    fn undo(&mut self, then: Then) {
        self.go(Step::Undo(Undo { then, clearing: false, tries: 0, empties: 0 }));
    }

    /// Ends the attempt, with nothing of ours in the input.
    pub(super) fn finish_then(&mut self, then: Then) {
        let finish = match then {
            Then::Unverifiable(reason) => Finish::End { effect: Effect::Unverifiable, reason },
            Then::Left => Finish::Left,
            Then::Stop => Finish::Abandon { after: Duration::ZERO, reason: "asked to stop".to_owned(), fault: false },
            Then::Postpone(reason) => Finish::Abandon { after: self.limits.yield_delay, reason, fault: false },
            Then::Fault(reason) if self.faults + 1 >= self.limits.attempts => {
                Finish::End { effect: Effect::Refused, reason }
            }
            Then::Fault(reason) => Finish::Abandon { after: self.limits.retry_delay, reason, fault: true },
        };
        self.done(finish);
    }
}

fn proof_reason(proof: Proof) -> &'static str {
    match proof {
        Proof::Right => "the window is right",
        Proof::Absent => "no window shows this conversation",
        Proof::Ambiguous => "several windows show this conversation",
        Proof::Unknown => "the window system did not answer",
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
