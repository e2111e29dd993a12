//! Children that cannot outlive us.
//!
//! Each child is started through `setpriv --pdeathsig KILL`, so the kernel ends it when we are killed. That signal
//! is sent when the *thread* that started the child ends; therefore one thread, which lives as long as the process,
//! starts them all. setpriv runs the program in its own place: the pid is the program's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::time::{Duration, Instant};

use crate::Fault;

struct Birth {
    command: Command,
    answer: SyncSender<std::io::Result<Child>>,
}

/// A running child with its log file; it is killed and waited for when dropped.
#[derive(Debug)]
pub struct Kin {
    name: String,
    log: PathBuf,
    child: Child,
    gentle: bool,
}

/// Builds the command that runs `program` tied to our life; environment and standard streams are still to be set.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Like [`tied`], but asks the program to end instead of killing it: for one that has children of its own to end.
pub fn tied_gently(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// Like [`tied`], as the unprivileged user `nobody`; for servers that refuse to run as root.
///
/// A program that changes its user by itself would lose the tie, so it is changed before.
pub fn tied_as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL", "--"]);
    command.arg(program);
    command
}

impl Kin {
    /// Starts `command` (made by [`tied`]) with its error output, and its output unless that is already set by
    /// `pipe_output`, going to `log`.
    ///
    /// # Errors
    /// When the log cannot be created or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path, pipe_output: bool) -> Result<Self, Fault> {
        let file = File::create(log).map_err(Fault::io(format!("creating the log {}", log.display())))?;
        let copy = file.try_clone().map_err(Fault::io(format!("opening the log {}", log.display())))?;
        command.stderr(file);
        command.stdout(if pipe_output { Stdio::piped() } else { Stdio::from(copy) });
        let child = bear(command).map_err(|source| Fault::Start { program: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child, gentle: false })
    }

    /// Lets the child end by itself when dropped, for up to 2 s, before it is killed: for one that has children.
    #[must_use]
    pub fn gently(mut self) -> Self {
        self.gentle = true;
        self
    }

    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file its output goes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The child's output, when it was started with `pipe_output`; once.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The child's input, when its command was given a pipe; once.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Says in an error that the child has ended, if it has.
    ///
    /// # Errors
    /// When it has ended, or cannot be asked.
    pub fn check_alive(&mut self) -> Result<(), Fault> {
        let ended = self.child.try_wait().map_err(Fault::io(format!("asking after {}", self.name)))?;
        match ended {
            None => Ok(()),
            Some(status) => {
                Err(Fault::Ended { name: self.name.clone(), status: status.to_string(), log: self.log.clone() })
            }
        }
    }

    /// Waits until `ready` says yes, looking every 20 ms, and gives up when the child ends or the time is over.
    ///
    /// # Errors
    /// What `ready` returned, the child's end, or that `what` did not come within `within`.
    pub fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        mut ready: impl FnMut() -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let started = Instant::now();
        while !ready()? {
            self.check_alive()?;
            if started.elapsed() > within {
                return Err(Fault::Late { what: what.to_owned(), within, log: self.log.clone() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for the child to end by itself and returns whether it did within the time.
    pub fn ended_within(&mut self, within: Duration) -> bool {
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if started.elapsed() < within => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        if self.gentle && !self.ended_within(Duration::ZERO) {
            signal("TERM", self.child.id());
            self.ended_within(Duration::from_secs(2));
        }
        // Both fail only when the child is already gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a command from the one thread that never ends (see the module's text).
fn bear(command: Command) -> std::io::Result<Child> {
    static NURSERY: OnceLock<Sender<Birth>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, births) = mpsc::channel::<Birth>();
        std::thread::spawn(move || {
            for Birth { mut command, answer } in births {
                // Whoever asked has gone away: then the child is ours to end.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        sender
    });
    let gone = || std::io::Error::other("the thread that starts children has ended");
    let (answer, born) = mpsc::sync_channel(1);
    nursery.send(Birth { command, answer }).map_err(|_| gone())?;
    born.recv().map_err(|_| gone())?
}

/// The processes whose environment holds `mark` ("NAME=value"), found in /proc.
///
/// Children of children (a bus starts its services) are not ours to wait for, but they inherit the mark.
#[must_use]
pub fn marked(mark: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        // An ended process that nobody has waited for has an empty environment, so it does not count.
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
    })
    .collect()
}

/// Ends the processes that carry `mark`: waits up to `patience` for them to go by themselves, then kills what is
/// left and waits as long again for that to be gone.
///
/// Returns how many had to be killed.
pub fn end_marked(mark: &str, patience: Duration) -> usize {
    let left = left_after(mark, patience);
    for pid in &left {
        signal("KILL", *pid);
    }
    left_after(mark, patience);
    left.len()
}

fn left_after(mark: &str, patience: Duration) -> Vec<u32> {
    let started = Instant::now();
    loop {
        let left = marked(mark);
        if left.is_empty() || started.elapsed() >= patience {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal by the shell's own `kill`, which needs no unsafe code; it fails only when the process has gone.
fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}
