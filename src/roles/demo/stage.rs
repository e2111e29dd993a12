//! The desk with its people on it, and the product that runs there as a child.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use autoreply_rig::child::{Kin, tied_gently};
use autoreply_rig::{Desk, DeskPlan, Fault, PeerHandle, Person, Picture, SentinelHandle};

use super::act::Act;
use super::cast::{ACCOUNT, GREETING, NETWORK, SCENES, rules};
use super::follow::{Entry, Follower};
use super::timeline::Timeline;
use crate::contract::ConversationId;
use crate::error::Problem;

/// The screen, and the part of it that one conversation gets.
const SCREEN: (u16, u16) = (1920, 1080);
const TILE: (u32, u32) = (640, 440);
const WINDOW: (u32, u32) = (628, 404);
const SENTINEL: (i16, i16) = (1400, 880);
/// Between two looks at what happened.
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at whether everything is still running.
const ROUND: Duration = Duration::from_secs(1);

/// Where and how the demo is played.
pub struct Plan {
    /// Its directory, as an absolute path.
    pub directory: PathBuf,
    /// Variables of the environment that must not reach the product.
    pub unset: Vec<String>,
    /// Set when the demo is to end early.
    pub stop: Arc<AtomicBool>,
}

/// Everything that takes part; it ends when this is dropped.
pub struct Stage {
    // In the order of dropping: who uses the desk goes first.
    product: Kin,
    follower: Follower,
    peers: Vec<PeerHandle>,
    sentinel: SentinelHandle,
    /// The human at the desk.
    pub person: Person,
    /// The private desktop.
    pub desk: Desk,
    /// The scenes, in order.
    pub acts: Vec<Act>,
    program: PathBuf,
    config: PathBuf,
    unset: Vec<String>,
    stop: Arc<AtomicBool>,
    checked: Instant,
}

/// A fault of the desk as a problem.
pub fn fault(fault: Fault) -> Problem {
    let text = fault.to_string();
    Problem::new(text.trim_end_matches('.'), "the demo's desk", "See the logs beside the report")
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(
        format!("{what} failed ({error})"),
        path.display().to_string(),
        "Name another directory with --directory",
    )
}

/// The settings of the demo; everything else is the default.
fn config(rules: &Path) -> String {
    let rules = toml::Value::String(rules.display().to_string());
    format!(
        "# What the demo changes of the defaults.\n[desktop]\nid = \"demo\"\nown_names = [\"{ACCOUNT}\"]\n\n\
         [journal]\nmode = \"auto\"\ntrusted_peers = [\"*\"]\n\n\
         # The person at this desk is part of the play and does not mind a quick reply.\n\
         [execution]\nidle_ms = {}\n\n[generation]\nchain = [\"canned\"]\nname = \"Robin\"\n\n\
         [generation.providers.canned]\nkind = \"canned\"\nrules_file = {rules}\n\n\
         [telemetry]\nlog_format = \"json\"\nlog_filter = \"info,autoreply::generation=debug\"\n",
        super::IDLE_MS
    )
}

impl Stage {
    /// Brings up the desk, the peers, their windows, the sentinel and the product, and returns when every conversation
    /// is watched.
    ///
    /// # Errors
    /// Something did not come up, with its log.
    pub fn set(plan: &Plan) -> Result<Self, Problem> {
        let (directory, unset, stop) = (plan.directory.as_path(), plan.unset.clone(), plan.stop.clone());
        let place = directory.join("desk");
        let program = std::env::current_exe().map_err(|error| io("finding the own program", directory, &error))?;
        let (config_file, rules_file) = (directory.join("config.toml"), directory.join("rules.toml"));
        let written =
            std::fs::write(&rules_file, rules()).and_then(|()| std::fs::write(&config_file, config(&rules_file)));
        written.map_err(|error| io("writing the settings", directory, &error))?;
        let desk = DeskPlan::new(&place).nick(ACCOUNT).screen(SCREEN.0, SCREEN.1).start().map_err(fault)?;
        let (display, logs) = (desk.display().to_owned(), desk.logs());
        let sentinel =
            SentinelHandle::start(&program, &["rig", "sentinel"], &display, SENTINEL, &logs).map_err(fault)?;
        let person = Person::new(&display).map_err(fault)?;
        let peers = open_windows(&desk, &program)?;
        let log = directory.join("autoreply.log");
        let product = start_product(&desk, &program, &config_file, &unset, &log)?;
        let follower = Follower::open(&log).map_err(|error| io("opening the log", &log, &error))?;
        let acts = SCENES.iter().map(|scene| Act::new(*scene)).collect();
        let checked = Instant::now();
        let config = config_file;
        let mut stage =
            Self { product, follower, peers, sentinel, person, desk, acts, program, config, unset, stop, checked };
        stage.wait("every conversation to be watched", Duration::from_secs(30), |stage| {
            stage.acts.iter().all(|act| act.watched)
        })?;
        Ok(stage)
    }

    /// Lets what happened be known, and fails when the demo was interrupted or a part of it ended.
    ///
    /// # Errors
    /// So.
    pub fn look(&mut self) -> Result<(), Problem> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Problem::new("it was interrupted", "the demo", "Start it again"));
        }
        let entries = self.follower.read().map_err(|error| io("reading the log", self.product.log(), &error))?;
        entries.iter().for_each(|entry| self.take(entry));
        for (act, peer) in self.acts.iter_mut().zip(&self.peers) {
            act.hear(&peer.received());
        }
        if self.checked.elapsed() > ROUND {
            self.checked = Instant::now();
            self.product.check_alive().and_then(|()| self.desk.check_alive()).map_err(fault)?;
        }
        Ok(())
    }

    fn take(&mut self, entry: &Entry) {
        let (turn, conversation) = (entry.text("turn"), entry.text("conversation"));
        let of = |act: &Act| {
            conversation_of(act) == conversation || act.turns.iter().any(|known| !turn.is_empty() && known.id == turn)
        };
        let Some(act) = self.acts.iter_mut().find(|act| of(act)) else { return };
        match entry.message.as_str() {
            "watching; what is already there is history" => act.watched = true,
            "new lines" => act.see(entry),
            "turn published" => {
                let sent_ms = act.last_sent_ms;
                act.turn(turn, sent_ms).sent_ms = sent_ms;
                act.note(entry.at_ms, "asked", "the turn goes to the worker");
            }
            "a reply was drafted" => act.note(entry.at_ms, "drafted", format!("by {}", entry.text("provider"))),
            "typing" => act.note(entry.at_ms, "typed", "begins, and is read back before Enter"),
            "Enter was pressed" => act.note(entry.at_ms, "submitted", ""),
            "outcome published" => act.end_turn(entry),
            "put back" => act.note(entry.at_ms, "put back", entry.text("reason")),
            _ => {}
        }
    }

    /// Waits until `done` says yes, and tells what happens meanwhile.
    ///
    /// # Errors
    /// The time is over, or those of [`Self::look`].
    pub fn wait(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Problem> {
        let started = Instant::now();
        loop {
            self.look()?;
            if done(self) {
                return Ok(());
            }
            if started.elapsed() > within {
                let log = self.product.log().display().to_string();
                return Err(Problem::new(
                    format!("the demo waited {} s for {what}", within.as_secs()),
                    log,
                    "See this log and those in the directory desk/log beside it",
                ));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Lets time pass, and tells what happens meanwhile.
    ///
    /// # Errors
    /// Those of [`Self::look`].
    pub fn pause(&mut self, time: Duration) -> Result<(), Problem> {
        let started = Instant::now();
        while started.elapsed() < time {
            self.look()?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// The peer of a scene says a line.
    ///
    /// # Errors
    /// The peer's process has gone.
    pub fn say(&mut self, scene: usize, text: &str) -> Result<(), Problem> {
        let at_ms = self.peers[scene].say(ACCOUNT, text).map_err(fault)? as i64;
        let act = &mut self.acts[scene];
        (act.last_sent_ms, act.sent_lines) = (at_ms, act.sent_lines + 1);
        act.note(at_ms, "sent", format!("{}: {text}", act.scene.nick));
        Ok(())
    }

    /// Runs the command line against the product, as a person would, and returns what it printed.
    ///
    /// # Errors
    /// It failed: what it said.
    pub fn command(&mut self, words: &[&str]) -> Result<String, Problem> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(words);
        self.desk.furnish(&mut command);
        self.unset.iter().for_each(|name| {
            command.env_remove(name);
        });
        let shown = format!("autoreply {}", words.join(" "));
        let output = command.output().map_err(|error| io(&shown, &self.program, &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().trim_end_matches('.').to_owned();
            return Err(Problem::new(format!("it failed: {said}"), shown, "See autoreply.log beside the report"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes a picture of the whole screen.
    ///
    /// # Errors
    /// The display has gone.
    pub fn picture(&self) -> Result<Picture, Problem> {
        self.desk.capture_root().map_err(fault)
    }

    /// Where a scene's window is on the screen: x, y, width, height.
    ///
    /// # Errors
    /// The window has gone.
    pub fn place_of(&self, scene: usize) -> Result<(u32, u32, u32, u32), Problem> {
        let windows = self.desk.windows().map_err(fault)?;
        let shown = windows.find(&self.desk.dialog_title(self.acts[scene].scene.nick)).map_err(fault)?;
        let (x, y, width, height) = windows.rectangle(shown.id).map_err(fault)?;
        Ok((x.max(0) as u32, y.max(0) as u32, u32::from(width), u32::from(height)))
    }

    /// How many keys the window beside HexChat got.
    ///
    /// # Errors
    /// It has gone: then nothing is proved.
    pub fn stray_keys(&self) -> Result<usize, Problem> {
        Ok(self.sentinel.keys().map_err(fault)?.len())
    }
}

/// The id of a scene's conversation, as the product derives it.
#[must_use]
pub fn conversation_of(act: &Act) -> String {
    ConversationId::derive(NETWORK, ACCOUNT, act.scene.nick).to_string()
}

fn start_product(desk: &Desk, program: &Path, config: &Path, unset: &[String], log: &Path) -> Result<Kin, Problem> {
    let mut command = tied_gently(program);
    command.arg("--config").arg(config).arg("run").stdin(std::process::Stdio::null());
    desk.furnish(&mut command);
    unset.iter().for_each(|name| {
        command.env_remove(name);
    });
    Ok(Kin::start("autoreply", command, log, false).map_err(fault)?.gently())
}

/// Connects the peers; the greeting of each opens its window, and the windows are laid side by side.
fn open_windows(desk: &Desk, program: &Path) -> Result<Vec<PeerHandle>, Problem> {
    let windows = desk.windows().map_err(fault)?;
    let mut peers = Vec::new();
    for (number, scene) in SCENES.iter().enumerate() {
        let start = PeerHandle::start(program, &["rig", "peer"], scene.nick, desk.irc_port(), &desk.logs());
        let mut peer = start.map_err(fault)?;
        peer.say(ACCOUNT, GREETING).map_err(fault)?;
        let title = desk.dialog_title(scene.nick);
        let shown = windows.wait_for(&title, Duration::from_secs(10)).map_err(fault)?;
        let (column, row) = (number as u32 % 3, number as u32 / 3);
        windows.place(shown.id, column * TILE.0, row * TILE.1, WINDOW.0, WINDOW.1).map_err(fault)?;
        peers.push(peer);
    }
    let main = windows.find(desk.main_title()).map_err(fault)?;
    windows.place(main.id, 0, 2 * TILE.1, 1200, 160).map_err(fault)?;
    Timeline
        .say(&format!("{} conversations are open in HexChat, each with a peer in a process of its own.", peers.len()));
    Ok(peers)
}
