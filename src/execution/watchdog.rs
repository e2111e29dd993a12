//! A process that releases keys when the executor dies between key down and key up: the X server would repeat them into
//! whatever has the focus.
//!
//! The executor writes, before it presses: `down 38 50` (these keycodes may be pressed from now on), `beat`, and `up`
//! when all are released. A written line outlives its writer. At the end of the input, or when nothing is heard for
//! [`SILENCE`] while keys may be down, those that are down are released.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::error::Problem;
use crate::screen::x11_input::KeyReleaser;

/// Longest silence while keys may be down.
pub const SILENCE: Duration = Duration::from_millis(500);
/// What the watchdog says when it can release keys.
const READY: &str = "autoreply watchdog: ready";
const START_TIMEOUT: Duration = Duration::from_secs(5);
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The executor's end.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts `program args`, which must come to [`run`], and waits until it is ready.
    ///
    /// # Errors
    /// It does not start or does not get ready; nothing may be typed then.
    pub fn spawn(program: &Path, args: &[&str]) -> Result<Self, Problem> {
        let broken = |why: String| {
            let remedy = "Check that the program can be started and that the display is there";
            Problem::new(
                format!("the watchdog does not start ({why}), so no key is pressed"),
                program.display().to_string(),
                remedy,
            )
        };
        // A group of its own: Ctrl+C in a terminal must not end it before the executor.
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| broken(error.to_string()))?;
        let (pipe, output) = (child.stdin.take(), child.stdout.take());
        let watchdog = Self { child, pipe };
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.map(BufReader::new).into_iter().flat_map(BufRead::lines);
            for line in lines.map_while(Result::ok) {
                // A test harness may have printed to the left of it.
                if line.ends_with(READY) && tell.send(()).is_err() {
                    break;
                }
            }
        });
        told.recv_timeout(START_TIMEOUT).map_err(|error| broken(error.to_string()))?;
        Ok(watchdog)
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Says that these keycodes may be pressed from now on; once this returns, the watchdog will know of it.
    ///
    /// # Errors
    /// The watchdog is gone: nothing may be pressed.
    pub fn announce(&mut self, keycodes: &[u8]) -> io::Result<()> {
        let codes: BTreeSet<u8> = keycodes.iter().copied().collect();
        let line = codes.iter().fold(String::from("down"), |line, code| format!("{line} {code}"));
        self.say(&line)
    }

    /// Says that the executor lives.
    ///
    /// # Errors
    /// The watchdog is gone.
    pub fn beat(&mut self) -> io::Result<()> {
        self.say("beat")
    }

    /// Says that every key is up again.
    ///
    /// # Errors
    /// The watchdog is gone.
    pub fn released(&mut self) -> io::Result<()> {
        self.say("up")
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        let pipe = self.pipe.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        pipe.write_all(format!("{line}\n").as_bytes())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let since = Instant::now();
        while since.elapsed() < END_TIMEOUT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(|_| ())) {
            tracing::warn!(%error, "the watchdog did not end");
        }
    }
}

/// What may be down, as told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told(BTreeSet<u8>);

impl Told {
    fn hear(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("down") => self.0.extend(words.filter_map(|word| word.parse::<u8>().ok())),
            Some("up") => self.0.clear(),
            _ => {}
        }
    }

    fn codes(&self) -> Vec<u8> {
        self.0.iter().copied().collect()
    }
}

/// The watchdog's whole life: says that it is ready on standard output, listens to `input`, releases what is left down,
/// and ends with the input.
///
/// # Errors
/// The display cannot be reached.
pub fn run(input: impl Read + Send + 'static, display: Option<&str>) -> Result<(), Problem> {
    let failed = |error: crate::screen::window::ScreenError| {
        Problem::new(error.to_string(), "the watchdog", "Check that the display is still there")
    };
    let keys = KeyReleaser::connect(display).map_err(failed)?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    let mut out = io::stdout();
    writeln!(out, "{READY}")
        .and_then(|()| out.flush())
        .map_err(|error| Problem::new(error.to_string(), "the watchdog's output", "Start it by the executor"))?;
    let mut down = Told::default();
    loop {
        // What is announced stays announced after a silence: the executor may only have been stopped for a while.
        match told.recv_timeout(SILENCE) {
            Ok(line) => down.hear(&line),
            Err(RecvTimeoutError::Timeout) if down.0.is_empty() => {}
            Err(RecvTimeoutError::Timeout) => {
                keys.release(&down.codes()).map_err(failed)?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return keys.release(&down.codes()).map(|_| ()).map_err(failed);
            }
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
