//! The stub as a process of its own.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::counts::Counts;
use super::raw;
use super::script::Script;

/// A running `model-stub`; dropped, it is killed. It also ends when this process does, for its standard input ends then.
pub struct StubProcess {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _script: tempfile::NamedTempFile,
}

#[derive(Deserialize)]
struct Ready {
    address: SocketAddr,
}

impl StubProcess {
    /// Starts `program` with this script on a free port of the loopback interface, and waits until it listens.
    ///
    /// # Errors
    /// The program does not start, or does not say where it listens.
    pub fn spawn(program: &Path, script: &Script) -> io::Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(serde_json::to_string(script)?.as_bytes())?;
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--end-with-stdin", "--script"])
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map_or(Ok(0), |stdout| BufReader::new(stdout).read_line(&mut line));
        let ready = read.and_then(|_| serde_json::from_str::<Ready>(&line).map_err(io::Error::from));
        match ready {
            Ok(Ready { address }) => Ok(Self { address, child, _script: file }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Behaves like this from the next request on.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn set(&self, script: &Script) -> io::Result<()> {
        let answer = raw::request(self.address, "POST", "/script", &[], &serde_json::to_string(script)?).await?;
        if answer.status == 200 { Ok(()) } else { Err(io::Error::other(answer.body)) }
    }

    /// What each provider was asked so far.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn counts(&self) -> io::Result<BTreeMap<String, Counts>> {
        let answer = raw::request(self.address, "GET", "/counts", &[], "").await?;
        serde_json::from_str(&answer.body).map_err(io::Error::from)
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process open as many files as it may: a connection each, and the usual 1,024 are too few for thousands.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
