//! What a run leaves behind for the checker, one JSON object a line: what was planned, what truly arrived in each fake
//! chat application, and what was broken when. Nothing here comes from autoreply's own counters.
//!
//! A run's directory:
//!
//! ```text
//! plan.jsonl            one [`Planned`] a line, in the order of their times
//! apps/<desktop>.jsonl  one [`AppLine`] a line, in the order in which the application showed them
//! faults.jsonl          one [`FaultLine`] a line
//! ```
//!
//! Each planned message carries a *token*, a word that occurs nowhere else in the run. The model stub answers with the
//! tokens that it was asked about, so that a sent line names the messages that it answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The beginning of every token; what follows are letters and digits.
pub const TOKEN_PREFIX: &str = "tok";

/// The name of the plan's file in a run's directory.
pub const PLAN_FILE: &str = "plan.jsonl";
/// The directory of the applications' files.
pub const APPS_DIRECTORY: &str = "apps";
/// The name of the faults' file.
pub const FAULTS_FILE: &str = "faults.jsonl";

/// The token of the message with this number.
pub fn token(number: u64) -> String {
    format!("{TOKEN_PREFIX}{number:08x}")
}

/// The tokens that a text names, in their order.
pub fn tokens(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| {
            word.len() == TOKEN_PREFIX.len() + 8
                && word.strip_prefix(TOKEN_PREFIX).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        .collect()
}

/// A message that the other side was to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its number in the run, from 0.
    pub number: u64,
    /// Its token.
    pub token: String,
    /// The desktop on which it is shown.
    pub desktop: String,
    /// The other side's name in the application.
    pub peer: String,
    /// When it was to be written, in milliseconds of the Unix epoch.
    pub at_ms: i64,
}

/// Who wrote a line of a fake chat application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The other side.
    Peer,
    /// This side: it was sent.
    Own,
}

/// A line that a fake chat application showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppLine {
    /// When, in milliseconds of the Unix epoch.
    pub at_ms: i64,
    /// The window: the other side's name.
    pub peer: String,
    /// Who wrote it.
    pub side: Side,
    /// The text.
    pub text: String,
}

/// Something that was broken or mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultLine {
    /// When, in milliseconds of the Unix epoch.
    pub at_ms: i64,
    /// What, as `kill worker-2` or `stop redis`.
    pub what: String,
}

/// Appends `line` to the file, whole or not at all as far as other appenders are concerned.
///
/// # Errors
/// The file cannot be written.
pub fn append<T: Serialize>(file: &mut std::fs::File, line: &T) -> std::io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    file.write_all(text.as_bytes())
}

/// The lines of a file. A last line without its end (its writer was killed) is left out.
///
/// # Errors
/// The file cannot be read, or a whole line is not what it should be.
pub fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<Vec<T>> {
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let (mut lines, mut text) = (Vec::new(), String::new());
    while reader.read_line(&mut text)? > 0 {
        if text.ends_with('\n') {
            lines.push(serde_json::from_str(&text)?);
        }
        text.clear();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_a_text_and_nothing_else_is() {
        let text = format!("Re: {} and {}, tok123, token, {}x", token(7), token(255), token(1));
        assert_eq!(tokens(&text), [token(7), token(255)]);
    }

    #[test]
    fn a_line_that_was_cut_off_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PLAN_FILE);
        let line = FaultLine { at_ms: 1, what: "kill worker-2".to_owned() };
        let mut file = std::fs::File::create(&path).unwrap();
        append(&mut file, &line).unwrap();
        file.write_all(b"{\"at_ms\":2,\"wh").unwrap();
        assert_eq!(read::<FaultLine>(&path).unwrap(), [line]);
    }
}
