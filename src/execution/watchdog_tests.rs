#![allow(clippy::disallowed_methods, reason = "the test runs itself again and tells its child the display")]

use super::*;
use crate::screen::x11_input::tests::Server;

const DISPLAY: &str = "AUTOREPLY_TEST_DISPLAY";
const GUARD: &str = "execution::watchdog::tests::runs_as_the_watchdog_of_another_test";
const KEYCODE: u8 = 38;

#[test]
fn what_is_told_is_kept_until_all_is_up() {
    let mut told = Told::default();
    for line in ["down 38 50", "beat", "down 400 x 10", "nonsense"] {
        told.hear(line);
    }
    assert_eq!(told.codes(), [10, 38, 50]);
    told.hear("up");
    assert_eq!(told, Told::default());
}

/// In the child: the watchdog itself. Run by the harness without a display, it has nothing to do.
#[test]
fn runs_as_the_watchdog_of_another_test() {
    if let Ok(display) = std::env::var(DISPLAY) {
        // A watchdog that does not start is missed by its parent; one may also outlive the server of the test.
        drop(run(io::stdin(), Some(&display)));
    }
}

/// In the child: an executor that presses a key and never comes to release it.
#[test]
fn runs_as_the_executor_that_dies() {
    die_holding_a_key(true);
}

#[test]
fn runs_as_the_executor_that_dies_unguarded() {
    die_holding_a_key(false);
}

fn die_holding_a_key(guarded: bool) {
    let Ok(display) = std::env::var(DISPLAY) else { return };
    let keys = KeyReleaser::connect(Some(&display)).unwrap();
    let me = std::env::current_exe().unwrap();
    let mut watchdog = guarded.then(|| Watchdog::spawn(&me, &["--exact", GUARD, "--nocapture"]).unwrap());
    if let Some(watchdog) = &mut watchdog {
        watchdog.announce(&[KEYCODE]).unwrap();
    }
    keys.press(KEYCODE).unwrap();
    println!("pressed");
    loop {
        std::thread::park();
    }
}

/// Starts the child, waits for its key to be down, sends it `signal`; whether the key is up within two seconds.
fn released_after(signal: &str, role: &str) -> bool {
    let server = Server::start();
    let keys = KeyReleaser::connect(Some(&server.1)).unwrap();
    let role = format!("execution::watchdog::tests::{role}");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &role, "--nocapture"])
        .env(DISPLAY, &server.1)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.ends_with("pressed")));
    assert_eq!(keys.down().unwrap(), [KEYCODE]);
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let since = Instant::now();
    let mut up = false;
    while !up && since.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(20));
        up = keys.down().unwrap().is_empty();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    up
}

#[test]
fn a_key_that_a_killed_executor_held_is_released() {
    assert!(released_after("-KILL", "runs_as_the_executor_that_dies"));
}

#[test]
fn a_key_that_a_stopped_executor_holds_is_released() {
    assert!(released_after("-STOP", "runs_as_the_executor_that_dies"));
}

#[test]
fn without_a_watchdog_the_key_stays_down() {
    assert!(!released_after("-KILL", "runs_as_the_executor_that_dies_unguarded"));
}

#[test]
fn a_program_that_is_no_watchdog_is_refused() {
    assert!(Watchdog::spawn(Path::new("/bin/true"), &[]).is_err());
    assert!(Watchdog::spawn(Path::new("/nonexistent"), &[]).is_err());
}
