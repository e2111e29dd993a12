//! Real servers for tests (never in a release build): their addresses come from outside, and a test that has none says so and is counted.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are told of their servers by the environment"
)]

pub mod collector;

use std::io::Write as _;

/// A kind of server that tests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Apache Kafka: `host:port,...`.
    Kafka,
    /// PostgreSQL: a URL whose role may create databases.
    Postgres,
    /// Redis: a URL.
    Redis,
}

impl Server {
    fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "AUTOREPLY_TEST_KAFKA",
            Self::Postgres => "AUTOREPLY_TEST_POSTGRES",
            Self::Redis => "AUTOREPLY_TEST_REDIS",
        }
    }
}

/// The address of a real server; without one the test named `test` is skipped, out loud and in the list of skips.
pub fn address(server: Server, test: &str) -> Option<String> {
    let found = std::env::var(server.variable()).ok().filter(|address| !address.is_empty());
    if found.is_none() {
        skip(test, &format!("{} is not set (make services prints it)", server.variable()));
    }
    found
}

/// Says that a test does not run, and why; `scripts/test` lists it again at the end and fails for it in CI.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}");
    eprintln!("{line}");
    if let Ok(path) = std::env::var("AUTOREPLY_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _told = writeln!(file, "{line}");
    }
}
