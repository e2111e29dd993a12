//! Drives `scripts/services`: real servers in a directory of their own, for load and chaos runs and for tests.
//!
//! The directory's file `env` holds a line for each server that was ever brought up there, as a shell can source it:
//!
//! ```text
//! export AUTOREPLY_TEST_KAFKA=127.0.0.1:24403,127.0.0.1:27338
//! export AUTOREPLY_TEST_POSTGRES=postgres://autoreply@127.0.0.1:21053/autoreply
//! export AUTOREPLY_TEST_REDIS=redis://127.0.0.1:20590
//! ```
//!
//! Ports are chosen at the first `up` and stay through every stop, kill and wipe. `docs/services.md` says the rest.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use autoreply::error::Problem;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka: its servers are named `kafka-1`, `kafka-2`, `kafka-3`, and `kafka` means all of them.
    Kafka,
    /// PostgreSQL, named `postgres`.
    Postgres,
    /// Redis, named `redis`.
    Redis,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Postgres, Self::Redis];

    /// The name in `SERVICES` and of its servers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// Where the servers of a directory answer; `None` for a kind that was never brought up there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `host:port` of every broker, separated by commas.
    pub kafka: Option<String>,
    /// A URL whose role may create databases.
    pub postgres: Option<String>,
    /// A URL.
    pub redis: Option<String>,
}

impl Addresses {
    /// Reads the lines of an `env` file; lines of other variables are skipped.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let line = line.trim();
            let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else { continue };
            let value = (!value.is_empty()).then(|| value.to_owned());
            match name {
                "AUTOREPLY_TEST_KAFKA" => found.kafka = value,
                "AUTOREPLY_TEST_POSTGRES" => found.postgres = value,
                "AUTOREPLY_TEST_REDIS" => found.redis = value,
                _ => {}
            }
        }
        found
    }
}

/// Servers in one directory. They outlive a crash of this process; dropping this ends them in order, blocks while it
/// does (seconds), and keeps their data.
#[derive(Debug)]
pub struct Services {
    script: PathBuf,
    directory: PathBuf,
    addresses: Addresses,
    ended: bool,
}

impl Services {
    /// Brings up one server of every kind in `directory` (made if it is not there), with 1 or 3 `brokers`, and returns
    /// when each answers.
    ///
    /// # Errors
    /// What `scripts/services` says, with the end of the log of the server that did not come up.
    pub async fn up(directory: impl Into<PathBuf>, brokers: u8) -> Result<Self, Problem> {
        Self::up_only(directory, brokers, &Kind::ALL).await
    }

    /// Like [`Services::up`], for some kinds of servers only.
    ///
    /// # Errors
    /// As [`Services::up`].
    pub async fn up_only(directory: impl Into<PathBuf>, brokers: u8, kinds: &[Kind]) -> Result<Self, Problem> {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services");
        let mut services = Self { script, directory: directory.into(), addresses: Addresses::default(), ended: false };
        let mut command = services.command("up", None);
        command.env("BROKERS", brokers.to_string()).env("SERVICES", names.join(" "));
        // A half that came up before the other failed is ended when this is dropped.
        services.finish("up", command).await?;
        let file = services.directory.join("env");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Problem::new(
                format!("the servers' addresses cannot be read ({error})"),
                file.display().to_string(),
                "Delete the directory and bring the servers up again",
            )
        })?;
        services.addresses = Addresses::parse(&text);
        Ok(services)
    }

    /// Where they answer.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The directory in which everything of theirs lies; the log of `kafka-2` is `kafka/2/server.log`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// SIGKILL, for PostgreSQL with all its backends; returns when it is gone.
    ///
    /// # Errors
    /// There is no server `name`.
    pub async fn kill(&self, name: &str) -> Result<(), Problem> {
        self.verb("kill", Some(name)).await
    }

    /// Ends it in order, by force if that takes more than 30 s (a broker whose cluster has no majority).
    ///
    /// # Errors
    /// There is no server `name`.
    pub async fn stop(&self, name: &str) -> Result<(), Problem> {
        self.verb("stop", Some(name)).await
    }

    /// Starts it on the same data and port; returns when it answers, at once if it was running.
    ///
    /// # Errors
    /// There is no server `name`, or it does not come up: the end of its log.
    pub async fn start(&self, name: &str) -> Result<(), Problem> {
        self.verb("start", Some(name)).await
    }

    /// [`Services::stop`] and [`Services::start`].
    ///
    /// # Errors
    /// As [`Services::start`].
    pub async fn restart(&self, name: &str) -> Result<(), Problem> {
        self.verb("restart", Some(name)).await
    }

    /// SIGKILL and its disk is lost. It stays down; [`Services::start`] makes it anew. A broker of several comes back
    /// empty into the same cluster; when all are wiped (`kafka`) the cluster is another one, with another id.
    ///
    /// # Errors
    /// There is no server `name`, or its disk cannot be deleted.
    pub async fn wipe(&self, name: &str) -> Result<(), Problem> {
        self.verb("wipe", Some(name)).await
    }

    /// A line for each server with version, address, pid and memory.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn status(&self) -> Result<String, Problem> {
        self.finish("status", self.command("status", None)).await
    }

    /// Ends them and deletes the directory with their data.
    ///
    /// # Errors
    /// One of them could not be ended.
    pub async fn remove(mut self) -> Result<(), Problem> {
        self.verb("remove", None).await?;
        self.ended = true;
        Ok(())
    }

    async fn verb(&self, verb: &str, name: Option<&str>) -> Result<(), Problem> {
        self.finish(verb, self.command(verb, name)).await.map(drop)
    }

    /// The script with its directory, and none of the settings that this process happens to have for others.
    fn command(&self, verb: &str, name: Option<&str>) -> std::process::Command {
        let mut command = std::process::Command::new(&self.script);
        command.arg(verb).args(name).stdin(Stdio::null()).env("SERVICES_DIR", &self.directory);
        for other in ["BROKERS", "SERVICES"] {
            command.env_remove(other);
        }
        command
    }

    async fn finish(&self, verb: &str, command: std::process::Command) -> Result<String, Problem> {
        let place = self.directory.display().to_string();
        let ended = tokio::process::Command::from(command).output().await.map_err(|error| {
            Problem::new(
                format!("{} cannot be run ({error})", self.script.display()),
                place.clone(),
                "Run this from the repository that it was built in",
            )
        })?;
        if ended.status.success() {
            return Ok(text(&ended.stdout));
        }
        let said = [text(&ended.stdout), text(&ended.stderr)].concat();
        Err(Problem::new(
            format!("services {verb} failed: {}", said.trim_end()),
            place,
            "docs/services.md has a section about trouble",
        ))
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.ended || !self.directory.exists() {
            return;
        }
        let mut down = self.command("down", None);
        let ended = down.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !ended.is_ok_and(|status| status.success()) {
            tracing::error!(
                directory = %self.directory.display(),
                "the servers could not be ended; `SERVICES_DIR={} scripts/services down` tries again",
                OsStr::to_string_lossy(self.directory.as_os_str())
            );
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::process::Command;

    use autoreply::testing;

    use super::*;

    #[test]
    fn the_env_file_is_read_with_and_without_export() {
        let text =
            "export AUTOREPLY_TEST_KAFKA=127.0.0.1:1,127.0.0.1:2\nAUTOREPLY_TEST_REDIS=redis://127.0.0.1:3\nX=y\n\n";
        let found = Addresses::parse(text);
        assert_eq!(found.kafka.as_deref(), Some("127.0.0.1:1,127.0.0.1:2"));
        assert_eq!(found.redis.as_deref(), Some("redis://127.0.0.1:3"));
        assert_eq!(found.postgres, None);
    }

    /// Redis' answer to one inline command, or `None` if nobody listens.
    fn ask(url: &str, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(url.strip_prefix("redis://")?).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).trim_end().to_owned())
    }

    fn installed(program: &str) -> bool {
        Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status().unwrap().success()
    }

    #[tokio::test]
    async fn redis_comes_up_dies_and_comes_back_on_its_port() {
        const TEST: &str = "redis_comes_up_dies_and_comes_back_on_its_port";
        if !installed("redis-server") {
            testing::skip(TEST, "redis-server is not installed (scripts/install-services)");
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("services");
        let services = Services::up_only(&directory, 1, &[Kind::Redis]).await.unwrap();
        assert_eq!((&services.addresses().kafka, &services.addresses().postgres), (&None, &None));
        let url = services.addresses().redis.clone().unwrap();
        assert_eq!(ask(&url, "set key value").as_deref(), Some("+OK"));
        assert!(services.status().await.unwrap().contains(&url));

        services.kill("redis").await.unwrap();
        assert_eq!(ask(&url, "ping"), None, "it is still there after SIGKILL");
        services.status().await.unwrap_err();
        services.start("redis").await.unwrap();
        assert_eq!(ask(&url, "exists key").as_deref(), Some(":0"), "it has no disk");
        services.start("redis").await.unwrap();
        services.restart("redis").await.unwrap();
        assert_eq!(ask(&url, "ping").as_deref(), Some("+PONG"));
        services.stop("redis").await.unwrap();
        assert_eq!(ask(&url, "ping"), None);

        let unknown = services.kill("kafka-1").await.unwrap_err().to_string();
        assert!(unknown.contains("there is no server \"kafka-1\""), "{unknown}");

        services.start("redis").await.unwrap();
        drop(services);
        assert_eq!(ask(&url, "ping"), None, "dropping ends it");
        assert!(directory.join("redis/server.log").exists(), "dropping keeps what lies in the directory");

        let again = Services::up_only(&directory, 1, &[Kind::Redis]).await.unwrap();
        assert_eq!(again.addresses().redis.as_deref(), Some(url.as_str()), "the port is remembered");
        again.remove().await.unwrap();
        assert_eq!(ask(&url, "ping"), None);
        assert!(!directory.exists());
    }
}
