//! TLS and passwords, from the settings to real servers: certificates made now, a Kafka that asks for them and for users,
//! a PostgreSQL that lets nobody in without them. What does not fit is said so that a person can mend it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod certificates;
mod kafka;
mod postgres;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory of a test, with certificates in it.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("secured-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What the program said to a person.
pub struct Said {
    /// It ended with 0.
    pub well: bool,
    /// What it wrote to its output and its error output.
    pub text: String,
}

impl Said {
    /// It refused, and said all of this; and never a password.
    #[track_caller]
    pub fn refused(&self, words: &[&str]) {
        assert!(!self.well, "it did not refuse: {}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word:?} is not in: {}", self.text);
        }
        for password in [kafka::PASSWORD, postgres::PASSWORD, WRONG] {
            assert!(!self.text.contains(password), "a password was shown: {}", self.text);
        }
    }

    /// It did what it was asked, and said this.
    #[track_caller]
    pub fn done(&self, word: &str) {
        assert!(self.well && self.text.contains(word), "{word:?} is not in: {}", self.text);
    }
}

/// A password that nobody has.
pub const WRONG: &str = "not-the-password-7";

/// Runs `autoreply` with settings, as an operator does.
pub fn autoreply(directory: &Path, settings: &toml::Table, words: &[&str]) -> Said {
    let config = directory.join("config.toml");
    std::fs::write(&config, settings.to_string()).unwrap();
    let ended = Command::new(program())
        .arg("--config")
        .arg(&config)
        .args(words)
        .env("XDG_DATA_HOME", directory.join("data"))
        .env("XDG_RUNTIME_DIR", directory)
        .env("SECURED_PASSWORD", kafka::PASSWORD)
        .output()
        .unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    Said { well: ended.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// The program beside this test, built by whoever built this.
fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.parent().unwrap().parent().unwrap().join("autoreply");
    assert!(program.exists(), "{} was not built: cargo build -p autoreply --features failpoints", program.display());
    program
}

/// A file that holds a password, and its path.
pub fn password_file(directory: &Path, password: &str) -> String {
    let path = directory.join(format!("password-{}", password.len()));
    std::fs::write(&path, format!("{password}\n")).unwrap();
    path.display().to_string()
}
