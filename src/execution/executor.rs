//! The loop: takes the journal's orders one by one, carries the machine's actions out, and first of all reconciles what
//! a dead executor left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::machine::{Action, Context, Fence, Finish, Machine, Seen};
use super::ports::{Attempted, Authority, Desk, Observer, Stage};
use super::settings::Settings;
use crate::clock::Clock;
use crate::contract::{ConversationId, Effect, Evidence, Revision, Timings, TurnId};
use crate::error::{Class, Classified, Problem};
use crate::failpoint;
use crate::journal::{Ending, FenceVerdict, IntentState, JournalError, OwnLine, SendOrder, Unfinished};

/// How long failed attempts are remembered; longer than any order lives.
const REMEMBER: Duration = Duration::from_secs(3600);

/// The executor of one display and one journal.
pub struct Executor<J, D> {
    journal: J,
    desk: D,
    clock: Arc<dyn Clock>,
    settings: Settings,
    stop: CancellationToken,
    observer: Box<dyn Observer>,
    blocked: HashMap<ConversationId, Instant>,
    faults: HashMap<(TurnId, Revision), (u32, Instant)>,
    started: Timestamp,
}

impl<J, D> std::fmt::Debug for Executor<J, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What is known of one attempt beside the machine.
struct Attempt {
    order: SendOrder,
    timings: Timings,
    own_line: Option<OwnLine>,
    began: Instant,
    began_at: Timestamp,
    /// A fence has passed: the journal holds an intent that must be ended or put back.
    intent: bool,
}

impl Attempt {
    fn over(&self, effect: Option<Effect>, timings: Timings) -> Attempted {
        Attempted { began_at: self.began_at, effect, timings }
    }
}

impl<J: Authority, D: Desk> Executor<J, D> {
    /// An executor of these parts.
    pub fn new(
        journal: J,
        desk: D,
        settings: Settings,
        clock: Arc<dyn Clock>,
        observer: Box<dyn Observer>,
        stop: CancellationToken,
    ) -> Self {
        let started = clock.now();
        let (blocked, faults) = (HashMap::new(), HashMap::new());
        Self { journal, desk, clock, settings, stop, observer, blocked, faults, started }
    }

    /// Reconciles, then sends until the stop token is cancelled.
    ///
    /// # Errors
    /// The journal or the display can be used no more.
    pub fn run(&mut self) -> Result<(), Problem> {
        let unfinished = self.persist(|journal, _| journal.unfinished())?;
        for left in unfinished {
            self.reconcile(left)?;
        }
        while !self.stop.is_cancelled() {
            if let Some(problem) = self.desk.lost() {
                return Err(problem);
            }
            self.blocked.retain(|_, until| *until > Instant::now());
            let blocked: Vec<_> = self.blocked.keys().copied().collect();
            match self.journal.next_send(&blocked, self.clock.now()) {
                Ok(Some(order)) => self.send(order)?,
                Ok(None) => self.sleep(self.settings.next_ms),
                Err(error) if error.class() == Class::Transient => self.sleep(self.settings.next_ms),
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// One attempt at one order.
    fn send(&mut self, order: SendOrder) -> Result<(), Problem> {
        let faults = self.faults.get(&key(&order)).map_or(0, |(faults, _)| *faults);
        match self.desk.take_up(&order) {
            Ok(text) => {
                let machine = Machine::new(text, self.settings.limits(), faults);
                self.execute(order, machine)
            }
            Err(reason) => {
                let timings = order.timings;
                self.end(&order, Ending { effect: Effect::Refused, reason, evidence: None, timings })
            }
        }
    }

    fn reconcile(&mut self, left: Unfinished) -> Result<(), Problem> {
        let Unfinished { order, state, watermark, .. } = left;
        tracing::info!(turn = %order.send.turn, ?state, "reconciling what an earlier run left");
        // What can no longer be typed is still looked for.
        let text = self.desk.take_up(&order).unwrap_or_else(|_| order.send.text.clone());
        let limits = self.settings.limits();
        let machine = match state {
            IntentState::Intent => Machine::after_intent(text, limits),
            IntentState::Submitting => Machine::after_submitting(text, limits, watermark),
        };
        self.execute(order, machine)
    }

    fn execute(&mut self, order: SendOrder, mut machine: Machine) -> Result<(), Problem> {
        let timings = order.timings;
        let (began, began_at) = (Instant::now(), self.clock.now());
        let mut attempt = Attempt { order, timings, own_line: None, began, began_at, intent: false };
        let mut stage = (machine.stage(), Duration::ZERO);
        loop {
            stage = self.watch(stage, machine.stage(), attempt.began.elapsed());
            let action = machine.next();
            if let Action::Finish(finish) = action {
                self.desk.give_back();
                return self.finish(&attempt, &machine, finish);
            }
            let seen = self.carry_out(&action, &mut attempt);
            let person = self.desk.person();
            let context = Context { now: attempt.began.elapsed(), person, stop: self.stop.is_cancelled() };
            machine.observe(seen, context);
        }
    }

    /// Tells how long a stage took, once it is another one. A stage is known with its beginning in the attempt.
    fn watch(
        &self,
        (stage, began): (Option<Stage>, Duration),
        next: Option<Stage>,
        now: Duration,
    ) -> (Option<Stage>, Duration) {
        if stage == next {
            return (stage, began);
        }
        if let Some(stage) = stage {
            self.observer.on_stage(stage, now.saturating_sub(began));
        }
        (next, now)
    }

    fn carry_out(&mut self, action: &Action, attempt: &mut Attempt) -> Seen {
        let done = |good: bool| if good { Seen::Done } else { Seen::Failed };
        match action {
            Action::BeginIntent => self.begin_intent(attempt),
            Action::BeginSubmit => self.begin_submit(attempt),
            Action::Look => Seen::Look(self.desk.look(false)),
            Action::Prove => Seen::Look(self.desk.look(true)),
            Action::TryGrab => Seen::Grab(self.desk.try_grab()),
            Action::ReadKeys => Seen::Keys(self.desk.keys()),
            Action::ReadIdle => Seen::Idle(self.desk.idle()),
            Action::Activate => done(self.desk.activate()),
            Action::FocusInput => done(self.desk.focus()),
            Action::TypeText => {
                attempt.timings.typed_at = Some(self.clock.now());
                tracing::info!(turn = %attempt.order.send.turn, "typing");
                let stop = self.stop.clone();
                Seen::Typed(self.desk.type_text(&|| stop.is_cancelled()))
            }
            Action::PressEnter => self.press_enter(attempt),
            Action::ReadOwnLine => self.read_own_line(attempt),
            Action::AskAligned => {
                let conversation = attempt.order.conversation.id;
                Seen::Aligned(self.journal.aligned_since(conversation, self.started).unwrap_or(false))
            }
            Action::ClearInput => done(self.desk.clear()),
            Action::GiveBack => {
                self.desk.give_back();
                Seen::Done
            }
            Action::Pause(pause) => {
                std::thread::sleep(*pause);
                Seen::Paused
            }
            Action::Finish(_) => Seen::Done,
        }
    }

    fn begin_intent(&mut self, attempt: &mut Attempt) -> Seen {
        let verdict = self.journal.begin_intent(&attempt.order, self.clock.now());
        // After an error nobody knows: putting back what is not there does no harm.
        attempt.intent = !matches!(verdict, Ok(FenceVerdict::Wait(_) | FenceVerdict::Ended(_)));
        failpoint::reach("executor.intent");
        Seen::Fence(self.fence(verdict, &attempt.order))
    }

    fn begin_submit(&mut self, attempt: &Attempt) -> Seen {
        // A pane that cannot be read now has not been seen by the journal either.
        let Some(digest) = self.desk.pane_digest() else { return Seen::Fence(Fence::Wait) };
        let verdict = self.journal.begin_submit(&attempt.order, digest, self.clock.now());
        failpoint::reach("executor.submitting");
        Seen::Fence(self.fence(verdict, &attempt.order))
    }

    fn fence(&self, verdict: Result<FenceVerdict, JournalError>, order: &SendOrder) -> Fence {
        let turn = order.send.turn;
        match verdict {
            Ok(FenceVerdict::Pass { watermark }) => Fence::Pass { watermark },
            Ok(FenceVerdict::Wait(reason)) => {
                tracing::debug!(%turn, reason, "the fence says wait");
                Fence::Wait
            }
            Ok(FenceVerdict::Ended(refusal)) => {
                tracing::info!(%turn, effect = %refusal.effect, reason = refusal.reason, "the fence ended it");
                self.observer.on_end(refusal.effect, false);
                Fence::Ended
            }
            Err(error) => {
                tracing::warn!(%turn, %error, "the fence could not be asked");
                Fence::Error
            }
        }
    }

    fn press_enter(&mut self, attempt: &mut Attempt) -> Seen {
        let at = self.clock.now();
        match self.desk.press_enter() {
            Ok(gap) => {
                failpoint::reach("executor.entered");
                attempt.timings.submitted_at = Some(at);
                self.observer.on_submit_gap(gap);
                tracing::info!(turn = %attempt.order.send.turn, "Enter was pressed");
                Seen::Entered
            }
            Err(reason) => {
                tracing::warn!(turn = %attempt.order.send.turn, reason, "not submitted");
                Seen::NotPressed
            }
        }
    }

    fn read_own_line(&mut self, attempt: &mut Attempt) -> Seen {
        match self.journal.own_line(&attempt.order) {
            Ok(found) => {
                attempt.own_line = found;
                Seen::OwnLine(Some(attempt.own_line.is_some()))
            }
            Err(error) => {
                tracing::warn!(%error, turn = %attempt.order.send.turn, "the own line could not be asked for");
                Seen::OwnLine(None)
            }
        }
    }

    fn finish(&mut self, attempt: &Attempt, machine: &Machine, finish: Finish) -> Result<(), Problem> {
        let order = &attempt.order;
        let turn = order.send.turn;
        match finish {
            Finish::End { effect, reason } => {
                let evidence = machine.has_entered().then(|| evidence(attempt, machine));
                let shown_at = attempt.own_line.as_ref().map(|line| line.at);
                let timings = Timings { shown_at, ..attempt.timings };
                self.end(order, Ending { effect, reason, evidence, timings })?;
                self.observer.on_attempt(order, &attempt.over(Some(effect), timings));
                Ok(())
            }
            Finish::Abandon { after, reason, fault } => {
                tracing::info!(%turn, reason, fault, "put back");
                if fault {
                    self.faults.retain(|_, (_, since)| since.elapsed() < REMEMBER);
                    self.faults.entry(key(order)).or_insert((0, Instant::now())).0 += 1;
                }
                self.observer.on_abandon(fault);
                self.persist(|journal, now| journal.abandon(order, after, now))?;
                self.observer.on_attempt(order, &attempt.over(None, attempt.timings));
                Ok(())
            }
            Finish::Blocked { reason } => {
                tracing::debug!(%turn, reason, "waits, others pass");
                let delay = Duration::from_millis(self.settings.retry_delay_ms);
                self.blocked.insert(order.conversation.id, Instant::now() + delay);
                if attempt.intent { self.persist(|journal, now| journal.abandon(order, delay, now)) } else { Ok(()) }
            }
            Finish::Left => {
                tracing::info!(%turn, "left as the journal has it");
                Ok(())
            }
        }
    }

    fn end(&mut self, order: &SendOrder, ending: Ending) -> Result<(), Problem> {
        tracing::info!(turn = %order.send.turn, effect = %ending.effect, reason = ending.reason, "ended");
        self.faults.remove(&key(order));
        self.observer.on_end(ending.effect, ending.evidence.is_some());
        self.persist(|journal, now| journal.end(order, ending.clone(), now))
    }

    /// Writes to the journal, again while it is busy; a stop ends that after its grace, and the next start reconciles.
    fn persist<T>(
        &mut self,
        mut write: impl FnMut(&mut J, Timestamp) -> Result<T, JournalError>,
    ) -> Result<T, Problem> {
        let since = Instant::now();
        let grace = Duration::from_millis(self.settings.stop_grace_ms);
        loop {
            match write(&mut self.journal, self.clock.now()) {
                Ok(value) => return Ok(value),
                Err(error) if error.class() != Class::Transient => return Err(broken(&error)),
                Err(error) if self.stop.is_cancelled() && since.elapsed() > grace => return Err(broken(&error)),
                Err(_) => self.sleep(self.settings.poll_ms),
            }
        }
    }

    fn sleep(&self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

fn key(order: &SendOrder) -> (TurnId, Revision) {
    (order.send.turn, order.send.revision)
}

fn broken(error: &JournalError) -> Problem {
    let remedy = "Mend it and start again: what was being sent is reconciled by reading, never typed twice";
    Problem::new(error.to_string(), "the journal", remedy)
}

fn evidence(attempt: &Attempt, machine: &Machine) -> Evidence {
    let line = attempt.own_line.as_ref();
    Evidence {
        watermark: machine.watermark,
        shown_as: line.map(|line| line.seq),
        similarity: line.map(|line| strsim::normalized_levenshtein(&line.text, &attempt.order.send.text)),
        input_empty: machine.input_empty,
        read_back_exact: machine.read_back_exact,
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;
