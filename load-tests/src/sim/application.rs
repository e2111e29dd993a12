//! A fake chat application: windows by peer, and a file to which every line is appended that truly arrived.
//!
//! A line counts as sent when the application got Enter; that it is shown late, or that the process of the desk dies
//! in the next moment, changes nothing about it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use autoreply::clock::{Clock, to_millis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Config;
use super::inputs::Inputs;
use crate::facts::{self, AppLine, Side};
use crate::plan::DeskPlan;

/// What an own line begins with that the person at the desk wrote. It names no token.
pub const HUMAN_PREFIX: &str = "By hand:";

/// What goes wrong in an application. Each share is that of the events that could go wrong, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Sent lines that are shown late...
    pub late_share: f64,
    /// ...by so many milliseconds.
    pub late_ms: u64,
    /// Enters that the application swallows: the input is emptied, nothing is sent.
    pub swallow_share: f64,
    /// Inbound messages that the person answers by hand...
    pub human_share: f64,
    /// ...within so many milliseconds.
    pub human_within_ms: u64,
    /// Inbound messages after which the window is not there...
    pub missing_share: f64,
    /// ...for so many milliseconds.
    pub missing_ms: u64,
}

/// A line as a window shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the window, in the order in which lines arrived, which is not always that in which they are shown.
    pub place: usize,
    /// Who wrote it.
    pub side: Side,
    /// Its text.
    pub text: String,
}

/// Which lines of a window have been seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    below: usize,
    beyond: BTreeSet<usize>,
}

impl Seen {
    fn holds(&self, place: usize) -> bool {
        place < self.below || self.beyond.contains(&place)
    }

    /// Takes in a line.
    pub fn add(&mut self, place: usize) {
        self.beyond.insert(place);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }
}

/// A look at a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The lines that had not been seen, in the order in which they are shown.
    pub new: Vec<Line>,
    /// Another one after every change of what is shown.
    pub digest: u64,
}

#[derive(Debug, Default)]
struct Window {
    /// What is shown, in its order.
    shown: Vec<Line>,
    /// Arrived lines, shown or not.
    arrived: usize,
    /// Own ones among them.
    own: usize,
    missing_until: Option<Instant>,
}

impl Window {
    fn arrive(&mut self, side: Side, text: String) -> Line {
        let line = Line { place: self.arrived, side, text };
        self.arrived += 1;
        self.own += usize::from(side == Side::Own);
        line
    }

    fn is_missing(&self) -> bool {
        self.missing_until.is_some_and(|until| Instant::now() < until)
    }
}

struct State {
    file: File,
    windows: BTreeMap<String, Window>,
    inputs: Inputs,
    /// The window that has the keyboard.
    front: String,
    /// Sent lines that are not shown yet.
    late: Vec<(Instant, String, Line)>,
    /// Windows that changed since they were last asked for.
    changed: BTreeSet<String>,
    /// When the person last pressed a key.
    person: Option<Instant>,
    last_ms: i64,
}

struct Inner {
    desktop: String,
    seed: u64,
    faults: Faults,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Notify,
}

/// The application of one desk. Clones share it.
#[derive(Clone)]
pub struct Application(Arc<Inner>);

impl Application {
    /// The application of `desk` as its file tells it, with a window for each peer.
    ///
    /// # Errors
    /// Its files cannot be read or written.
    pub fn open(config: &Config, desk: &DeskPlan, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let path = config.directory.join(facts::APPS_DIRECTORY).join(format!("{}.jsonl", desk.name));
        let file = open_whole(&path)?;
        let mut windows: BTreeMap<String, Window> =
            desk.peers.iter().map(|peer| (peer.clone(), Window::default())).collect();
        let mut last_ms = 0;
        for AppLine { at_ms, peer, side, text } in facts::read::<AppLine>(&path)? {
            let window = windows.entry(peer).or_default();
            let line = window.arrive(side, text);
            window.shown.push(line);
            last_ms = last_ms.max(at_ms);
        }
        let own = |peer: &str| windows.get(peer).map_or(0, |window| window.own);
        let inputs = Inputs::open(&config.directory, &desk.name, own);
        let changed = windows.keys().cloned().collect();
        let state =
            State { file, windows, inputs, front: String::new(), late: Vec::new(), changed, person: None, last_ms };
        let (desktop, seed, faults) = (desk.name.clone(), config.seed, config.faults);
        Ok(Self(Arc::new(Inner { desktop, seed, faults, clock, state: Mutex::new(state), changed: Notify::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number from 0 to 1 that is the same for the same event of the same run.
    fn chance(&self, what: &str, peer: &str, number: usize) -> f64 {
        // FNV-1a, by Fowler, Noll and Vo.
        let bytes = what.bytes().chain([0]).chain(self.0.desktop.bytes()).chain([0]).chain(peer.bytes());
        let hash = bytes
            .chain(number.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        ChaCha8Rng::seed_from_u64(hash ^ self.0.seed).random()
    }

    /// Every token that the other sides have written.
    pub fn shown_tokens(&self) -> HashSet<String> {
        let state = self.state();
        let lines = state.windows.values().flat_map(|window| &window.shown).filter(|line| line.side == Side::Peer);
        lines.flat_map(|line| facts::tokens(&line.text)).map(str::to_owned).collect()
    }

    /// The other side writes `text`. Without `at_ms` now; with it, it was there since then.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn peer_writes(&self, peer: &str, text: &str, at_ms: Option<i64>) -> std::io::Result<()> {
        let mut state = self.state();
        let place = state.arrived(peer);
        let at_ms = at_ms.unwrap_or_else(|| self.now_ms());
        state.arrive(at_ms, peer, Side::Peer, text, None)?;
        if self.chance("missing", peer, place) < self.0.faults.missing_share
            && let Some(window) = state.windows.get_mut(peer)
        {
            window.missing_until = Some(Instant::now() + Duration::from_millis(self.0.faults.missing_ms));
        }
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// How long after the last line of this window the person answers it by hand, if they do.
    pub fn person_answers(&self, peer: &str) -> Option<Duration> {
        let place = self.state().arrived(peer);
        let answers = self.chance("human", peer, place) < self.0.faults.human_share;
        let within = self.0.faults.human_within_ms as f64;
        answers.then(|| Duration::from_secs_f64(self.chance("when", peer, place) * within / 1e3))
    }

    /// The person writes a line by hand, without the input of this window: on another device, say.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn person_writes(&self, peer: &str) -> std::io::Result<()> {
        let mut state = self.state();
        let text = format!("{HUMAN_PREFIX} I have looked into this myself, note {}.", state.arrived(peer));
        state.person = Some(Instant::now());
        state.arrive(self.now_ms(), peer, Side::Own, &text, None)?;
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// When the person last pressed a key.
    pub fn person(&self) -> Option<Instant> {
        self.state().person
    }

    /// Whether the window of this peer is there.
    pub fn is_there(&self, peer: &str) -> bool {
        self.state().windows.get(peer).is_some_and(|window| !window.is_missing())
    }

    /// Gives the keyboard to a window.
    pub fn bring_to_front(&self, peer: &str) -> bool {
        let there = self.is_there(peer);
        if there {
            peer.clone_into(&mut self.state().front);
        }
        there
    }

    /// Whether this window has the keyboard.
    pub fn is_in_front(&self, peer: &str) -> bool {
        self.state().front == peer
    }

    /// The text of a window's input.
    pub fn input(&self, peer: &str) -> String {
        self.state().inputs.read(peer).to_owned()
    }

    /// Puts `text` into a window's input.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_input(&self, peer: &str, text: &str) -> std::io::Result<()> {
        let mut state = self.state();
        let own = state.windows.get(peer).map_or(0, |window| window.own);
        state.inputs.write(peer, text, own)
    }

    /// Enter: what stands in the input is sent, unless the application swallows it.
    ///
    /// # Errors
    /// The file cannot be written; then nothing was sent.
    pub fn enter(&self, peer: &str) -> std::io::Result<()> {
        let mut state = self.state();
        let text = state.inputs.read(peer).to_owned();
        let place = state.arrived(peer);
        if !text.is_empty() && self.chance("swallow", peer, place) >= self.0.faults.swallow_share {
            let late = self.chance("late", peer, place) < self.0.faults.late_share;
            let late = late.then(|| Instant::now() + Duration::from_millis(self.0.faults.late_ms));
            state.arrive(self.now_ms(), peer, Side::Own, &text, late)?;
        }
        let own = state.windows.get(peer).map_or(0, |window| window.own);
        state.inputs.write(peer, "", own)?;
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// The windows that changed since this was last called and can be looked at.
    pub fn take_changed(&self) -> Vec<String> {
        let mut state = self.state();
        let now = Instant::now();
        let (due, late): (Vec<_>, Vec<_>) = state.late.drain(..).partition(|(at, ..)| *at <= now);
        state.late = late;
        for (_, peer, line) in due {
            state.show(&peer, line);
        }
        let State { changed, windows, .. } = &mut *state;
        let there: Vec<_> =
            changed.iter().filter(|peer| windows.get(*peer).is_some_and(|w| !w.is_missing())).cloned().collect();
        changed.retain(|peer| !there.contains(peer));
        there
    }

    /// This window is to be looked at again.
    pub fn look_again(&self, peer: &str) {
        self.state().changed.insert(peer.to_owned());
    }

    /// Completes when a window may have changed.
    pub async fn wait_change(&self) {
        self.0.changed.notified().await;
    }

    /// What a window shows that is not in `seen`; `None` if it is not there.
    pub fn view(&self, peer: &str, seen: &Seen) -> Option<View> {
        let state = self.state();
        let window = state.windows.get(peer).filter(|window| !window.is_missing())?;
        let new = window.shown.iter().filter(|line| !seen.holds(line.place)).cloned().collect();
        Some(View { new, digest: digest(window) })
    }

    /// The digest of what a window shows; `None` if it is not there.
    pub fn digest(&self, peer: &str) -> Option<u64> {
        self.state().windows.get(peer).filter(|window| !window.is_missing()).map(digest)
    }

    fn now_ms(&self) -> i64 {
        to_millis(self.0.clock.now())
    }
}

impl State {
    fn arrived(&self, peer: &str) -> usize {
        self.windows.get(peer).map_or(0, |window| window.arrived)
    }

    /// A line arrives, and is shown now or at `late`. Times in the file never go back.
    fn arrive(&mut self, at_ms: i64, peer: &str, side: Side, text: &str, late: Option<Instant>) -> std::io::Result<()> {
        self.last_ms = self.last_ms.max(at_ms);
        let line = AppLine { at_ms: self.last_ms, peer: peer.to_owned(), side, text: text.to_owned() };
        facts::append(&mut self.file, &line)?;
        let line = self.windows.entry(peer.to_owned()).or_default().arrive(side, line.text);
        match late {
            Some(at) => self.late.push((at, peer.to_owned(), line)),
            None => self.show(peer, line),
        }
        Ok(())
    }

    fn show(&mut self, peer: &str, line: Line) {
        self.windows.entry(peer.to_owned()).or_default().shown.push(line);
        self.changed.insert(peer.to_owned());
    }
}

/// Lines only come: their number tells what is shown.
fn digest(window: &Window) -> u64 {
    (window.shown.len() as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Opens a file for appending; a last line whose writer was killed within it is taken off.
fn open_whole(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        file.set_len(whole as u64)?;
    }
    file.seek(std::io::SeekFrom::End(0))?;
    Ok(file)
}

#[cfg(test)]
#[path = "application_tests.rs"]
mod tests;
