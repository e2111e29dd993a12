//! Child processes of a run: started with a log each, asked to stop at the end, killed if they do not.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use autoreply::error::Problem;
use rustix::process::{Pid, Signal, kill_process};

/// A child process. Dropped, it is killed.
pub struct Process {
    /// Its name in the report.
    pub name: String,
    child: Child,
}

impl Process {
    /// Starts `command`; what it says goes to `logs/NAME.log` below `directory`.
    ///
    /// # Errors
    /// It does not start, or its log cannot be written.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self, Problem> {
        let program = command.get_program().to_string_lossy().into_owned();
        let cannot = |error: std::io::Error| {
            Problem::new(format!("it does not start ({error})"), &program, "Build it: make load does")
        };
        let logs = directory.join("logs");
        std::fs::create_dir_all(&logs).map_err(cannot)?;
        let log = File::create(logs.join(format!("{name}.log"))).map_err(cannot)?;
        let also = log.try_clone().map_err(cannot)?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(also).spawn().map_err(cannot)?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn must_live(&mut self) -> Result<(), Problem> {
        let Some(status) = self.ended() else { return Ok(()) };
        let how = status.code().map_or(format!("signal {:?}", status.signal()), |code| format!("code {code}"));
        let log = format!("logs/{}.log", self.name);
        Err(Problem::new(format!("{} has ended with {how}", self.name), log, "See its log in the run's directory"))
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended, and kills it after `within`.
    pub fn wait(&mut self, within: Duration) {
        let began = Instant::now();
        while self.ended().is_none() {
            if began.elapsed() > within {
                let _gone = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _gone = self.child.kill();
            let _ended = self.child.wait();
        }
    }
}
