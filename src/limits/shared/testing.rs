//! A Redis of a test's own, which it may kill.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A child process; ends with the test.
pub struct Redis {
    pub port: u16,
    more: Vec<String>,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Redis {
    /// A running server on a free port, or `None` (said out loud) where the program is not installed.
    pub fn start(test: &str, more: &[&str]) -> Option<Self> {
        let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if installed.is_err() {
            crate::testing::skip(test, "redis-server is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let more = more.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { port, more, directory: tempfile::tempdir().unwrap(), child: None };
        redis.run();
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again where it was, empty.
    pub fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server does not listen on {}", self.port);
    }

    /// SIGKILL, and until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: it takes connections and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
