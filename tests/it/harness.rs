//! A desk, people on both ends, and the real program between them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use autoreply_rig::child::{Kin, tied};
use autoreply_rig::{Desk, DeskPlan, PeerHandle, Person, SentinelHandle, missing_tools};
use sqlx::{Connection as _, Row as _};

/// The program under test; it plays the peer and the sentinel as well.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_autoreply");
/// The account of the desk's HexChat, unless a test has several desks.
pub const ACCOUNT: &str = "autobot";
/// How long anything may take on a busy machine. Nothing is measured: a test that passes never waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(25);

/// What the peers ask, and what they must get for it, exactly.
pub mod talk {
    pub const HOURS: (&str, &str) =
        ("what are your opening hours today", "We open 9:00-18:00, Mon to Fri; see you & thanks!");
    pub const PRICE: (&str, &str) = ("how much is the price now", "It is 12 EUR (tax: 19%), paid \"cash\" or by card.");
    pub const PARCEL: (&str, &str) = ("where is my parcel please", "Your parcel leaves tomorrow at noon.");
    pub const STORY: (&str, &str) = (
        "tell me the long story",
        "Once upon a time there was a shop that answered every letter by hand, one after the other, until the heap of \
         letters was higher than the door; then somebody wrote the answers down once, and a machine copied them out.",
    );
    /// For whatever no other rule fits: the keyboard has no keys for it, so it must be pasted.
    pub const OTHERWISE: &str = "Gr\u{fc}\u{df}e: \u{e9} \u{4f60}\u{597d} \u{1f44d} \u{2014} done";
}

/// Says that a test does not run here and why, where a person and the list at the end see it; in CI that is a failure.
#[allow(clippy::disallowed_methods, reason = "a test is given its surroundings by the environment")]
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os("AUTOREPLY_SKIPS") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).expect("the list of skips");
        list.write_all(line.as_bytes()).expect("the list of skips");
    }
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "nothing may be skipped in CI: {line}");
}

/// Waits until `look` finds what it looks for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(TICK);
    }
}

/// One desk with its person, its settings, and whatever the program leaves behind.
pub struct Bench {
    /// The person at the desk.
    pub person: Person,
    /// The display with HexChat.
    pub desk: Desk,
    /// A runtime for looking into the journal.
    runtime: tokio::runtime::Runtime,
    starts: std::cell::Cell<u32>,
    role: &'static str,
    config: PathBuf,
    directory: tempfile::TempDir,
}

impl Bench {
    /// A desk for `test`, or `None` when this machine cannot have one. `settings` is added to those of all tests.
    pub fn up(test: &str, settings: &str) -> Option<Self> {
        Self::up_as(test, "run", ("test", ACCOUNT), settings)
    }

    /// The same for a desk that runs another role, with its name and the account of its HexChat.
    pub fn up_as(test: &str, role: &'static str, who: (&str, &str), settings: &str) -> Option<Self> {
        let missing = missing_tools();
        if !missing.is_empty() {
            skip(test, &format!("the desk needs {missing:?}"));
            return None;
        }
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let directory = tempfile::Builder::new().prefix("it-").tempdir_in(base).unwrap();
        let desk = DeskPlan::new(directory.path().join("desk")).nick(who.1).start().unwrap();
        let person = Person::new(desk.display()).unwrap();
        let config = directory.path().join("config.toml");
        let rules = directory.path().join("rules.toml");
        std::fs::write(&rules, rules_file()).unwrap();
        std::fs::write(&config, format!("{}\n{settings}\n", common(&rules, who))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Some(Self { person, desk, runtime, starts: std::cell::Cell::new(0), role, config, directory })
    }

    /// A peer in a process of its own, with its dialog open on the desk at the given place.
    ///
    /// Two lines stand in it already: an empty pane proves no alignment. They are history and never answered.
    pub fn peer(&self, nick: &str, place: usize) -> PeerHandle {
        let mut peer =
            PeerHandle::start(Path::new(PROGRAM), &["rig", "peer"], nick, self.desk.irc_port(), &self.desk.logs())
                .unwrap();
        let dialog = self.person.open_dialog(nick).unwrap();
        let left = 10 + 790 * place as u32;
        self.desk.windows().unwrap().place(dialog.id, left, 40, 760, 520).unwrap();
        for line in ["good morning to you", "it rains again"] {
            ask_at(&mut peer, self.desk.nick(), line);
        }
        peer
    }

    /// A window beside HexChat that records every key it gets.
    pub fn sentinel(&self) -> SentinelHandle {
        SentinelHandle::start(
            Path::new(PROGRAM),
            &["rig", "sentinel"],
            self.desk.display(),
            (1300, 700),
            &self.desk.logs(),
        )
        .unwrap()
    }

    /// `autoreply` with these words, seeing this desk and nothing of the developer's own.
    pub fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = tied(program);
        self.desk.furnish(&mut command);
        command.arg("--config").arg(&self.config).args(words).env_remove("AUTOREPLY_FAILPOINT").env("USER", "tester");
        command
    }

    /// Runs a command of the real command line to its end.
    pub fn cli(&self, words: &[&str]) -> Output {
        self.command(PROGRAM, words).output().unwrap()
    }

    /// Starts the desk's role (`autoreply run` unless told otherwise) and returns when it answers on its socket.
    pub fn start(&self) -> Running<'_> {
        self.start_to_die_at(None)
    }

    /// The same with a fail point armed.
    pub fn start_to_die_at(&self, point: Option<&str>) -> Running<'_> {
        let number = self.starts.get() + 1;
        self.starts.set(number);
        let mut command = self.command(PROGRAM, &[self.role]);
        if let Some(point) = point {
            command.env("AUTOREPLY_FAILPOINT", point);
        }
        let kin = Kin::start("autoreply", command, &self.log(number), false).unwrap();
        let mut running = Running { bench: self, kin };
        // One that is to die as soon as it starts is awaited by its end.
        wait_for("the control socket", || {
            (running.has_ended() && point.is_some() || self.cli(&["control", "show"]).status.success()).then_some(())
        });
        running
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        let data = self.desk.env().into_iter().find(|(name, _)| name == "XDG_DATA_HOME").unwrap().1;
        Path::new(&data).join("autoreply/journal.db")
    }

    /// The journal's file and SQLite's files beside it.
    pub fn journal_files(&self) -> Vec<PathBuf> {
        let path = self.journal().display().to_string();
        ["", "-wal", "-shm"].iter().map(|end| PathBuf::from(format!("{path}{end}"))).collect()
    }

    /// The numbers that `query` finds in the journal, which is only read.
    pub fn ask_journal(&self, query: &'static str, nick: &str) -> Option<i64> {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.journal()).create_if_missing(false);
        self.runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.ok()?;
            let row = sqlx::query(query).bind(nick).fetch_optional(&mut connection).await.ok().flatten();
            let _ = connection.close().await;
            row?.try_get(0).ok()
        })
    }

    /// Waits until this session has laid its first look at the peer's dialog over what was there.
    pub fn wait_aligned(&self, nick: &str) {
        let query = "select 1 from conversations, journal where peer = ? and aligned_session = session";
        wait_for("the first look", || self.ask_journal(query, nick));
    }

    /// The logs of the program that hold what anybody said, as a whole or by its first words. Every test is held
    /// against this at its end.
    fn logs_with_chat(&self) -> Vec<PathBuf> {
        let said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answers = [talk::HOURS, talk::PRICE, talk::PARCEL, talk::STORY].map(|(_, answer)| answer.to_owned());
        let words: Vec<String> = said
            .iter()
            .chain(&answers)
            .filter(|text| text.contains(' '))
            .map(|text| text.chars().take(12).collect())
            .collect();
        let tells = |path: &PathBuf| {
            let log = std::fs::read_to_string(path).unwrap_or_default();
            words.iter().any(|words| log.contains(words.as_str()))
        };
        (1..=self.starts.get()).map(|number| self.log(number)).filter(tells).collect()
    }

    /// The log of the start of this number, from 1.
    pub fn log(&self, number: u32) -> PathBuf {
        self.desk.logs().join(format!("autoreply-{number}.log"))
    }

    /// A directory for what a test needs besides.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 1..=self.starts.get() {
                let log = self.log(number);
                eprintln!("--- {}\n{}", log.display(), std::fs::read_to_string(&log).unwrap_or_default());
            }
        } else {
            let telling = self.logs_with_chat();
            assert!(telling.is_empty(), "chat text is in {telling:?}");
        }
    }
}

/// The process under test.
pub struct Running<'a> {
    bench: &'a Bench,
    kin: Kin,
}

impl Running<'_> {
    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.kin.ended_within(Duration::ZERO)
    }

    /// Waits for it to die at its fail point.
    pub fn wait_death(mut self) {
        assert!(self.kin.ended_within(PATIENCE), "the fail point was not reached");
        let log = std::fs::read_to_string(self.kin.log()).unwrap();
        assert!(log.contains("fail point reached"), "it ended otherwise");
    }

    /// Kills it without a warning.
    pub fn kill(mut self) {
        assert!(Command::new("kill").args(["-KILL", &self.kin.pid().to_string()]).status().unwrap().success());
        assert!(self.kin.ended_within(PATIENCE));
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.kin.pid().to_string()]).status().unwrap().success());
        assert!(self.kin.ended_within(PATIENCE), "SIGTERM did not end it");
    }

    /// Every reply the ledger knows, newest or oldest first as the command line gives them: (turn, state, draft).
    pub fn sagas(&self) -> Vec<(String, String, String)> {
        let output = self.bench.cli(&["--json", "sagas", "list", "--all"]);
        let Ok(serde_json::Value::Array(all)) = serde_json::from_slice(&output.stdout) else { return Vec::new() };
        let text = |saga: &serde_json::Value, name: &str| saga[name].as_str().unwrap_or_default().to_owned();
        all.iter().map(|saga| (text(saga, "turn"), text(saga, "state"), text(saga, "draft"))).collect()
    }

    /// Waits until `count` replies stand at `state`, and returns their turns.
    pub fn wait_state(&self, state: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} replies at {state}"), || {
            let turns: Vec<_> = self.sagas().into_iter().filter(|saga| saga.1 == state).map(|saga| saga.0).collect();
            (turns.len() >= count).then_some(turns)
        })
    }

    /// Runs `autoreply control` with these words.
    pub fn control(&self, words: &[&str]) {
        let words: Vec<_> = ["control"].iter().chain(words).copied().collect();
        let output = self.bench.cli(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What peers said in this test run.
static SAID: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Sends a peer's line to the person's account.
pub fn ask(peer: &mut PeerHandle, text: &str) {
    ask_at(peer, ACCOUNT, text);
}

/// The same to an account of another name.
pub fn ask_at(peer: &mut PeerHandle, account: &str, text: &str) {
    SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text.to_owned());
    peer.say(account, text).unwrap();
}

/// What arrived at the peer from the person's account, in order, duplicates included.
pub fn heard(peer: &PeerHandle) -> Vec<String> {
    heard_from(peer, ACCOUNT)
}

/// The same from an account of another name.
pub fn heard_from(peer: &PeerHandle, account: &str) -> Vec<String> {
    let lines = peer.received().into_iter().filter(|line| line.from == account);
    lines.inspect(|line| assert!(line.exact && line.target == peer.nick(), "{line:?}")).map(|line| line.text).collect()
}

/// Waits until the peer has heard exactly these lines; one more is an error even if it comes late.
pub fn wait_heard(peer: &PeerHandle, wanted: &[&str]) {
    wait_for(&format!("the {} lines for {}, which has {:?}", wanted.len(), peer.nick(), heard(peer)), || {
        (heard(peer).len() >= wanted.len()).then_some(())
    });
    assert_eq!(heard(peer), wanted);
}

fn rules_file() -> String {
    let rule = |pattern: &str, answer: &str| format!("[[rule]]\npatterns = ['{pattern}']\nanswer = '{answer}'\n\n");
    [
        rule("(?i)hours", talk::HOURS.1),
        rule("(?i)price", talk::PRICE.1),
        rule("(?i)parcel", talk::PARCEL.1),
        rule("(?i)story", talk::STORY.1),
        rule(".", talk::OTHERWISE),
    ]
    .concat()
}

fn common(rules: &Path, (desktop, account): (&str, &str)) -> String {
    format!(
        r#"
desktop.id = "{desktop}"
desktop.own_names = ["{account}"]
journal.mode = "auto"
journal.trusted_peers = ["*"]
journal.consecutive_cap = 20
execution.idle_ms = 300
execution.retry_delay_ms = 500
execution.yield_delay_ms = 500
limits.replies_per_minute = 60
limits.burst = 20
telemetry.log_format = "json"
telemetry.log_filter = "info,autoreply=debug"
generation.providers.canned.kind = "canned"
generation.providers.canned.rules_file = "{}"
"#,
        rules.display()
    )
}
