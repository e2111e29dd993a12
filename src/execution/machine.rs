//! The send as a state machine: what to do next, given what was seen. Pure: no clock, no display, no journal.
//!
//! The promises it holds for any sequence of observations (see the tests): Enter only right after the journal's second
//! pass and a look that proves window, focus and text; one Enter at most; after Enter nothing is typed; text is cleared
//! only if it is a prefix of what was typed; exactly one [`Finish`].

use std::time::Duration;

use crate::contract::Effect;

/// How often the input is asked to take the focus before the attempt counts as failed.
const FOCUS_TRIES: u32 = 3;

/// The bounds of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How often an order is tried that fails before Enter.
    pub attempts: u32,
    /// Longest wait for the person to pause.
    pub idle_wait: Duration,
    /// Longest wait for held keys, a foreign grab, or somebody's text in the input.
    pub clear_wait: Duration,
    /// Longest wait until the input shows what was typed, or that it is empty.
    pub read_back: Duration,
    /// Longest wait until the journal has seen the pane as it is.
    pub fresh_look: Duration,
    /// Longest wait for the own line.
    pub verify: Duration,
    /// How long a submit in flight is followed when a stop was asked for.
    pub stop_grace: Duration,
    /// Wait before a failed attempt is repeated.
    pub retry_delay: Duration,
    /// Wait before an attempt that gave way is repeated.
    pub yield_delay: Duration,
    /// Wait between two looks at the same thing.
    pub poll: Duration,
}

/// What is to be done now. The answer is given to [`Machine::observe`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Fence and intent in the journal; answered by [`Seen::Fence`].
    BeginIntent,
    /// Find the window and read the input, without touching either; answered by [`Seen::Look`].
    Look,
    /// The same, with a trial grab: the proof just before Enter; answered by [`Seen::Look`].
    Prove,
    /// Try to grab the keyboard and let go; answered by [`Seen::Grab`].
    TryGrab,
    /// Read held keys and locks; answered by [`Seen::Keys`].
    ReadKeys,
    /// Has the person paused? Answered by [`Seen::Idle`].
    ReadIdle,
    /// Raise the window; answered by [`Seen::Done`] or [`Seen::Failed`].
    Activate,
    /// Focus the input; answered by [`Seen::Done`] or [`Seen::Failed`].
    FocusInput,
    /// Type or paste the text; answered by [`Seen::Typed`].
    TypeText,
    /// The second fence, with the pane's digest as it is now; answered by [`Seen::Fence`].
    BeginSubmit,
    /// Press the submit key; answered by [`Seen::Entered`] or [`Seen::NotPressed`].
    PressEnter,
    /// Ask the journal for the own line; answered by [`Seen::OwnLine`].
    ReadOwnLine,
    /// Has capture aligned the conversation since this process started? Answered by [`Seen::Aligned`].
    AskAligned,
    /// Empty the input, which was just read as ours; answered by [`Seen::Done`] or [`Seen::Failed`].
    ClearInput,
    /// Give the focus back to where it was; answered by [`Seen::Done`].
    GiveBack,
    /// Wait this long; answered by [`Seen::Paused`].
    Pause(Duration),
    /// Nothing more: carry this out and stop.
    Finish(Finish),
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// The command ends with this effect.
    End {
        /// What became of it.
        effect: Effect,
        /// Why, without chat text.
        reason: String,
    },
    /// Our text is out of the input: the command goes back.
    Abandon {
        /// Not before.
        after: Duration,
        /// Why, without chat text.
        reason: String,
        /// It counts as a failed attempt.
        fault: bool,
    },
    /// No intent was journalled; the conversation waits, others pass.
    Blocked {
        /// Why, without chat text.
        reason: String,
    },
    /// The journal has ended the command, or it is left to be reconciled at the next start.
    Left,
}

/// Is it the one right window?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Exactly one window shows this application, account and conversation.
    Right,
    /// None does.
    Absent,
    /// Several do.
    Ambiguous,
    /// The window system did not answer.
    Unknown,
}

/// Window and input at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Is it the one right window?
    pub proof: Proof,
    /// It has the keyboard.
    pub active: bool,
    /// The input says that it is focused.
    pub focused: bool,
    /// Nobody else grabs the keyboard and no key is held; only looked at by [`Action::Prove`].
    pub free: bool,
    /// The input's text; `None` if it cannot be read.
    pub text: Option<String>,
}

/// What the journal said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Go on.
    Pass {
        /// What is ours lies above it.
        watermark: u64,
    },
    /// Not now.
    Wait,
    /// Never: the journal has ended it.
    Ended,
    /// The journal could not be asked.
    Error,
}

/// Held keys and locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// All up.
    Up,
    /// Some key or modifier is held.
    Held,
    /// Caps Lock is on.
    CapsLock,
}

/// How typing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// All of it went out.
    Complete,
    /// The person pressed something: stopped at once.
    Interrupted,
    /// Keys could not be pressed, or not all.
    Failed,
}

/// The answer to an [`Action`].
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// To the two fences.
    Fence(Fence),
    /// To a look or a proof.
    Look(Look),
    /// Nobody else grabs the keyboard.
    Grab(bool),
    /// To the reading of the keys.
    Keys(Keys),
    /// The person has paused long enough.
    Idle(bool),
    /// To typing.
    Typed(Typed),
    /// The submit key may have been pressed.
    Entered,
    /// The submit key was certainly not pressed.
    NotPressed,
    /// Whether the own line was seen; `None` if the journal could not be asked.
    OwnLine(Option<bool>),
    /// Whether the conversation has been aligned since the start.
    Aligned(bool),
    /// It was done.
    Done,
    /// It could not be done.
    Failed,
    /// The pause is over.
    Paused,
}

/// What goes with every observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// Time since the attempt began.
    pub now: Duration,
    /// The person pressed something since they were last seen idle.
    pub person: bool,
    /// autoreply was asked to stop.
    pub stop: bool,
}

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
    entered_at: Duration,
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
            entered_at: Duration::ZERO,
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
            (Step::Enter, Seen::NotPressed) => self.fault("the submit key could not be pressed"),
            (Step::Enter, _) => {
                self.entered = true;
                self.entered_at = context.now;
                self.go(Step::Empty);
            }
            (Step::Empty, Seen::Look(look)) => self.on_after_enter(&look, context),
            (Step::Back, _) => self.go(Step::Verify),
            (Step::Verify, Seen::OwnLine(found)) => self.on_verify(found, context),
            (Step::Align, Seen::Aligned(true)) => self.go(self.reconciling()),
            (Step::Align, _) => self.wait(context, self.limits.verify, |m| m.go(m.reconciling())),
            (Step::Reconcile, Seen::OwnLine(found)) => self.on_reconcile(found, context),
            (Step::Undo(undo), seen) => self.on_undo(undo, seen, context),
            (Step::Done(_), _) => {}
            (Step::Inspect | Step::ReadBack | Step::Window | Step::Fence, _) => self.fault("the desk gave no answer"),
            (Step::Submit | Step::Prove, _) => self.fault("the desk gave no answer"),
            (Step::Empty, _) => self.go(Step::Back),
            (Step::Verify, _) => self.on_verify(None, context),
            (Step::Reconcile, _) => self.on_reconcile(None, context),
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
