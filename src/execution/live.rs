//! The desk of a real display: window system, profiles, input state, hands and clipboard joined for one order at a time.

use std::time::{Duration, Instant};

use super::clipboard::{self, Loan};
use super::keyboard::{Keyboard, Pressed, Stroke, chord, plan};
use super::machine::{Keys, Look, Proof, Typed};
use super::ports::{Applications, Desk, Input};
use super::settings::{Method, SendProfile, Settings};
use crate::contract::Conversation;
use crate::error::Problem;
use crate::journal::SendOrder;
use crate::screen::window::{WindowId, WindowInfo, WindowSystem};
use crate::screen::x11_input::{InputState, KeyMap};

/// One display, worked on for one order at a time.
pub struct LiveDesk {
    windows: Box<dyn WindowSystem>,
    applications: Box<dyn Applications>,
    state: Box<dyn InputState>,
    keyboard: Keyboard,
    clipboard: Option<arboard::Clipboard>,
    idle: Duration,
    read_back: Duration,
    last_activity: Instant,
    pressed: bool,
    job: Option<Job>,
}

struct Job {
    conversation: Conversation,
    text: String,
    profile: SendProfile,
    window: Option<WindowInfo>,
    input: Option<Box<dyn Input>>,
    previous: Option<WindowId>,
    loan: Option<Loan>,
    proof_began: Instant,
}

impl std::fmt::Debug for LiveDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveDesk").finish_non_exhaustive()
    }
}

impl LiveDesk {
    /// A desk of these parts. The person counts as active until they have been seen idle.
    pub fn new(
        windows: Box<dyn WindowSystem>,
        applications: Box<dyn Applications>,
        state: Box<dyn InputState>,
        keyboard: Keyboard,
        settings: &Settings,
    ) -> Self {
        Self {
            windows,
            applications,
            state,
            keyboard,
            clipboard: None,
            idle: Duration::from_millis(settings.idle_ms),
            read_back: Duration::from_millis(settings.read_back_ms),
            last_activity: Instant::now(),
            pressed: false,
            job: None,
        }
    }

    /// Takes in what the person did.
    fn listen(&mut self) {
        match self.state.activity() {
            Ok(activity) => {
                if activity.any {
                    self.last_activity = Instant::now();
                }
                self.pressed |= activity.pressed;
            }
            Err(error) => {
                tracing::warn!(%error, "the person's input cannot be seen; taken for active");
                (self.last_activity, self.pressed) = (Instant::now(), true);
            }
        }
    }

    /// The one window of the job's conversation. Once found it is pinned: another one in its place is not it.
    fn find(&mut self) -> (Proof, Option<WindowInfo>) {
        let Some(job) = &mut self.job else { return (Proof::Unknown, None) };
        let windows = match self.windows.windows() {
            Ok(windows) => windows,
            Err(error) => {
                tracing::warn!(%error, "the windows cannot be listed");
                return (Proof::Unknown, None);
            }
        };
        let pinned = job.window.as_ref().map(|window| window.id);
        let pinned_is_there = windows.iter().any(|window| Some(window.id) == pinned);
        let applications = &mut self.applications;
        let mut right =
            windows.into_iter().filter(|w| applications.conversation_of(w).as_ref() == Some(&job.conversation));
        match (right.next(), right.next(), pinned) {
            (Some(_), Some(_), _) => (Proof::Ambiguous, None),
            (Some(window), None, None) => (Proof::Right, Some(window)),
            (Some(window), None, Some(id)) if window.id == id => (Proof::Right, Some(window)),
            // It is there and shows something else: what we typed may still be in it.
            (_, _, Some(_)) if pinned_is_there => (Proof::Unknown, None),
            _ => (Proof::Absent, None),
        }
    }

    fn with_input<T>(&mut self, ask: impl FnOnce(&mut dyn Input) -> Result<T, String>) -> Option<T> {
        let job = self.job.as_mut()?;
        if job.input.is_none() {
            job.input = self.applications.input_of(job.window.as_ref()?).map_err(told("finding the input")).ok();
        }
        let answer = ask(job.input.as_mut()?.as_mut()).map_err(told("asking the input"));
        if answer.is_err() {
            job.input = None;
        }
        answer.ok()
    }

    fn keymap(&mut self) -> Option<(KeyMap, u8)> {
        let map = self.state.keymap().map_err(told("reading the keyboard map")).ok()?;
        let held = self.state.held().map_err(told("reading the keys")).ok()?;
        Some((map, held.group))
    }

    fn press_chord(&mut self, name: &str) -> Pressed {
        let Some(stroke) = self.keymap().and_then(|(map, group)| chord(name, &map, group)) else {
            tracing::warn!(key = name, "the keyboard does not have this key");
            return Pressed::Nothing;
        };
        self.keyboard.press(&[stroke], Duration::ZERO, self.state.as_mut(), &mut |_| false)
    }

    fn type_keys(&mut self, strokes: &[Stroke], pace: Duration, stop: &dyn Fn() -> bool) -> Typed {
        let mut pressed = false;
        let went = self.keyboard.press(strokes, pace, self.state.as_mut(), &mut |state| {
            pressed |= state.activity().is_ok_and(|activity| activity.pressed);
            pressed || stop()
        });
        if pressed {
            (self.pressed, self.last_activity) = (true, Instant::now());
        }
        match went {
            Pressed::All => Typed::Complete,
            Pressed::Interrupted => Typed::Interrupted,
            Pressed::Nothing | Pressed::Broken => Typed::Failed,
        }
    }

    fn paste(&mut self, text: &str, key: &str, stop: &dyn Fn() -> bool) -> Typed {
        if !self.borrow_clipboard(text) {
            return Typed::Failed;
        }
        if self.press_chord(key) != Pressed::All {
            return Typed::Failed;
        }
        // The application fetches the clipboard when it likes: ours stays in it until the text is in the input.
        let since = Instant::now();
        let mut went = Typed::Complete;
        while since.elapsed() < self.read_back && self.with_input(|i| i.read()).as_deref() != Some(text) {
            if self.person() || stop() {
                went = Typed::Interrupted;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.return_clipboard();
        went
    }

    fn borrow_clipboard(&mut self, text: &str) -> bool {
        if self.clipboard.is_none() {
            self.clipboard = arboard::Clipboard::new().map_err(told("opening the clipboard")).ok();
        }
        let (Some(clipboard), Some(job)) = (&mut self.clipboard, &mut self.job) else { return false };
        job.loan = clipboard::lend(clipboard, text).map_err(told("borrowing the clipboard")).ok();
        job.loan.is_some()
    }

    fn return_clipboard(&mut self) {
        let Some(loan) = self.job.as_mut().and_then(|job| job.loan.take()) else { return };
        let Some(clipboard) = &mut self.clipboard else { return };
        match clipboard::give_back(clipboard, loan) {
            Ok(true) => {}
            Ok(false) => tracing::debug!("the clipboard held no text before; it is empty now"),
            Err(error) => tracing::warn!(error, "the clipboard was not given back"),
        }
    }

    fn is_ours(&self, look: &Look) -> bool {
        let whole = self.job.as_ref().map_or("", |job| job.text.as_str());
        look.proof == Proof::Right && look.text.as_deref().is_some_and(|t| !t.is_empty() && whole.starts_with(t))
    }

    fn clear_by_keys(&mut self) -> bool {
        let look = self.look(false);
        if !(look.active || self.activate()) || !(look.focused && look.active || self.focus()) {
            return false;
        }
        let look = self.look(true);
        if !(self.is_ours(&look) && look.active && look.focused && look.free) {
            return false;
        }
        let keys = self.job.as_ref().map(|job| job.profile.clear.clone()).unwrap_or_default();
        !keys.is_empty() && keys.iter().all(|key| self.press_chord(key) == Pressed::All)
    }
}

/// Logs why something did not work.
fn told<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> E {
    move |error| {
        tracing::warn!(%error, what, "the display did not do what was asked");
        error
    }
}

impl Desk for LiveDesk {
    fn take_up(&mut self, order: &SendOrder) -> Result<String, String> {
        self.job = None;
        let application = &order.conversation.application;
        let Some(profile) = self.applications.send_profile(application) else {
            return Err(format!("the profile {application} does not allow typing"));
        };
        let text = profile.prepare(&order.send.text)?;
        self.job = Some(Job {
            conversation: order.conversation.clone(),
            text: text.clone(),
            profile,
            window: None,
            input: None,
            previous: None,
            loan: None,
            proof_began: Instant::now(),
        });
        Ok(text)
    }

    fn look(&mut self, prove: bool) -> Look {
        let (mut proof, window) = self.find();
        if let (Some(job), Some(window)) = (&mut self.job, window) {
            job.window = Some(window);
        }
        let text = self.with_input(|input| input.read());
        let focused = self.with_input(|input| input.focused()).unwrap_or(false);
        let free = !prove || self.try_grab() && self.keys() == Keys::Up;
        if prove {
            // The window comes last, as near to the key as can be.
            if let Some(job) = &mut self.job {
                job.proof_began = Instant::now();
            }
            proof = self.find().0;
        }
        let ours = self.job.as_ref().and_then(|job| job.window.as_ref()).map(|window| window.id);
        let active =
            ours.is_some() && self.windows.active().map_err(told("asking for the active window")).ok() == Some(ours);
        Look { proof, active, focused, free, text }
    }

    fn try_grab(&mut self) -> bool {
        self.state.try_grab().map_err(told("the trial grab")).unwrap_or(false)
    }

    fn keys(&mut self) -> Keys {
        match self.state.held() {
            Ok(held) if held.modifiers || !held.keys.is_empty() => Keys::Held,
            Ok(held) if held.caps_lock => Keys::CapsLock,
            Ok(_) => Keys::Up,
            Err(_) => Keys::Held,
        }
    }

    fn idle(&mut self) -> bool {
        self.listen();
        let idle = self.last_activity.elapsed() >= self.idle;
        if idle {
            self.pressed = false;
        }
        idle
    }

    fn person(&mut self) -> bool {
        self.listen();
        self.pressed
    }

    fn activate(&mut self) -> bool {
        let Some(ours) = self.job.as_ref().and_then(|job| job.window.as_ref()).map(|window| window.id) else {
            return false;
        };
        let before = self.windows.active().ok().flatten();
        if before == Some(ours) {
            return true;
        }
        if let Some(job) = &mut self.job {
            job.previous = job.previous.or(before);
        }
        self.windows.activate(ours).map_err(told("raising the window")).is_ok()
    }

    fn focus(&mut self) -> bool {
        self.with_input(|input| input.focus()).is_some()
    }

    fn type_text(&mut self, stop: &dyn Fn() -> bool) -> Typed {
        let Some((text, profile)) = self.job.as_ref().map(|job| (job.text.clone(), job.profile.clone())) else {
            return Typed::Failed;
        };
        let keyboard = if profile.method == Method::Paste { None } else { self.keymap() };
        match keyboard.and_then(|(map, group)| plan(&text, &map, group)) {
            Some(strokes) => self.type_keys(&strokes, profile.pace, stop),
            None if profile.method == Method::Keys => Typed::Failed,
            None => self.paste(&text, &profile.paste, stop),
        }
    }

    fn pane_digest(&mut self) -> Option<u64> {
        let window = self.job.as_ref()?.window.clone()?;
        self.applications.pane_digest(&window).map_err(told("reading the pane")).ok()
    }

    fn press_enter(&mut self) -> Result<Duration, String> {
        let Some((submit, began)) = self.job.as_ref().map(|job| (job.profile.submit.clone(), job.proof_began)) else {
            return Err("no order is taken up".to_owned());
        };
        match self.press_chord(&submit) {
            Pressed::Nothing => Err("the submit key could not be pressed".to_owned()),
            Pressed::All | Pressed::Interrupted | Pressed::Broken => Ok(began.elapsed()),
        }
    }

    fn clear(&mut self) -> bool {
        let look = self.look(false);
        if !self.is_ours(&look) {
            return false;
        }
        self.with_input(|input| input.clear()).unwrap_or(false) || self.clear_by_keys()
    }

    fn give_back(&mut self) {
        self.return_clipboard();
        let Some(job) = &mut self.job else { return };
        let (Some(previous), Some(window)) = (job.previous.take(), &job.window) else { return };
        if self.windows.active().ok().flatten() == Some(window.id) {
            // The window may have gone meanwhile; then there is nothing to give back to.
            if let Err(error) = self.windows.activate(previous) {
                tracing::debug!(%error, "the focus could not be given back");
            }
        }
    }

    fn lost(&mut self) -> Option<Problem> {
        // What the person does between orders is taken in as it comes, or it would pile up in the connection.
        self.listen();
        if self.keyboard.is_unguarded() {
            let remedy = "Start autoreply again; its log says what became of the watchdog";
            return Some(Problem::new("the process that releases keys has ended", "the watchdog", remedy));
        }
        match self.state.owns() {
            Ok(true) => None,
            Ok(false) => Some(Problem::new(
                "another program has taken over as this display's executor",
                "the display",
                "Run one autoreply on it",
            )),
            Err(error) => Some(Problem::new(error.to_string(), "the display", "Check that the X server still runs")),
        }
    }
}
