//! The desk for real: HexChat under a virtual display, a peer on the wire, a sentinel beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use autoreply_rig::child::marked;
use autoreply_rig::{Desk, DeskPlan, PeerHandle, Person, SentinelHandle, missing_tools};

const ACTOR: &str = env!("CARGO_BIN_EXE_rig-actor");
const PATIENCE: Duration = Duration::from_secs(15);

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// In CI a machine that cannot run the desk is a failure; elsewhere it is said and skipped.
fn can_run() -> bool {
    let missing = missing_tools();
    if missing.is_empty() {
        return true;
    }
    #[allow(clippy::disallowed_methods, reason = "a test has no settings")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "the desk needs {missing:?}");
    eprintln!("SKIPPED: the desk needs {missing:?}");
    false
}

fn alive(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|pid| Path::new(&format!("/proc/{pid}/cmdline")).exists()).collect()
}

fn peer(desk: &Desk, nick: &str) -> PeerHandle {
    PeerHandle::start(Path::new(ACTOR), &["peer"], nick, desk.irc_port(), &desk.logs()).unwrap()
}

fn wait_gone(mark: &str, pids: &[u32]) {
    let started = Instant::now();
    while (!marked(mark).is_empty() || !alive(pids).is_empty()) && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((marked(mark), alive(pids)), (vec![], vec![]), "processes outlived the desk");
}

#[test]
fn a_message_travels_both_ways_and_only_the_leaked_key_is_seen() {
    if !can_run() {
        return;
    }
    let directory = scratch("both-ways");
    let mut desk = DeskPlan::new(&directory).start().unwrap();
    let sentinel =
        SentinelHandle::start(Path::new(ACTOR), &["sentinel"], desk.display(), (1300, 800), &desk.logs()).unwrap();
    let person = Person::new(desk.display()).unwrap();
    let (mut alice, bob) = (peer(&desk, "alice"), peer(&desk, "bob"));
    assert!(alice.sees("autobot").unwrap() && !alice.sees("nobody").unwrap());

    // One window opens by the peer's first message, the other by the person's command.
    alice.say("autobot", "is the é shop open? 你好").unwrap();
    desk.windows().unwrap().wait_for(&desk.dialog_title("alice"), PATIENCE).unwrap();
    person.open_dialog("bob").unwrap();
    assert_eq!(desk.windows().unwrap().all().unwrap().iter().filter(|shown| shown.class == "Hexchat").count(), 3);

    // Windows go where they are put, so that several can be watched side by side.
    let windows = desk.windows().unwrap();
    let dialog = windows.find(&desk.dialog_title("alice")).unwrap().id;
    windows.place(dialog, 10, 30, 700, 500).unwrap();
    let (started, wanted) = (Instant::now(), |(x, y, width, height)| x < 30 && y < 80 && (width, height) == (700, 500));
    while !wanted(windows.rectangle(dialog).unwrap()) && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(wanted(windows.rectangle(dialog).unwrap()), "{:?}", windows.rectangle(dialog));

    // The same line twice stays two, in order, each in its own conversation.
    for text in ["Yes, until 18:00 (7 days) ~ {OK}!", "see you", "see you"] {
        person.say(&desk.dialog_title("alice"), text).unwrap();
    }
    person.say(&desk.dialog_title("bob"), "for Bob only").unwrap();
    let heard = alice.wait_received(3, PATIENCE).unwrap();
    let texts: Vec<&str> =
        heard.iter().filter(|line| line.command == "PRIVMSG").map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["Yes, until 18:00 (7 days) ~ {OK}!", "see you", "see you"]);
    assert!(heard.iter().all(|line| line.from == "autobot" && line.target == "alice" && line.exact));
    assert_eq!(bob.wait_received(1, PATIENCE).unwrap()[0].text, "for Bob only");
    assert!(alice.wait_received(4, Duration::from_millis(300)).is_err(), "nothing else may arrive");

    // The display shows something, and the sentinel has seen no key although it had none to see.
    let picture = desk.capture_root().unwrap();
    assert_eq!(picture.rgbx.len(), 1600 * 1000 * 4);
    assert!(picture.rgbx.chunks_exact(4).filter(|pixel| pixel[0] > 240).count() > 200_000, "HexChat is light");
    assert_eq!(sentinel.keys().unwrap(), vec![]);

    // The test of the test: a key leaked on purpose is recorded, and reaches nobody else.
    person.focus(autoreply_rig::sentinel::TITLE).unwrap();
    person.type_text("x").unwrap();
    assert_eq!(sentinel.keys().unwrap().len(), 1);
    assert!(alice.wait_received(4, Duration::from_millis(200)).is_err());

    desk.check_alive().unwrap();
    let (mark, mut pids) = (desk.mark(), desk.pids());
    assert!(marked(&mark).len() >= pids.len(), "the mark finds the desk's processes");
    assert_eq!(alive(&pids).len(), 6);
    pids.extend([sentinel.pid(), bob.pid()]);
    assert!(alice.quit(), "a peer leaves when told");
    drop((sentinel, bob, desk));
    assert_eq!((marked(&mark), alive(&pids)), (vec![], vec![]), "processes outlived the drop");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn nothing_outlives_a_killed_owner() {
    if !can_run() {
        return;
    }
    let directory = scratch("killed");
    let mut owner =
        Command::new(ACTOR).arg("desk").arg(&directory).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mark =
        lines.into_iter().find_map(|line| line.strip_prefix("# up: ").map(str::to_owned)).expect("the desk came up");
    let pids = marked(&mark);
    assert!(pids.len() >= 6, "six programs and what they started: {pids:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_gone(&mark, &pids);
    std::fs::remove_dir_all(directory).unwrap();
}
