//! Follows the log of the running product: one JSON object a line, read as it grows.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// A log that is being written by another process.
#[derive(Debug)]
pub struct Follower {
    file: File,
    pending: Vec<u8>,
}

/// What the demo wants to know of a log line.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When it was written, in milliseconds since 1970.
    pub at_ms: i64,
    /// The event's name.
    pub message: String,
    fields: Value,
}

impl Entry {
    /// A field that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.fields[name].as_i64()
    }
}

impl Follower {
    /// Opens a log at its beginning.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::open(path)?, pending: Vec::new() })
    }

    /// The entries that have been completed since the last call; lines that are none (of a library) are left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self) -> std::io::Result<Vec<Entry>> {
        self.file.read_to_end(&mut self.pending)?;
        let complete = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.pending.drain(..complete).collect();
        Ok(lines.split(|byte| *byte == b'\n').filter_map(parse).collect())
    }
}

fn parse(line: &[u8]) -> Option<Entry> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let at: jiff::Timestamp = fields["timestamp"].as_str()?.parse().ok()?;
    let message = fields["message"].as_str()?.to_owned();
    Some(Entry { at_ms: at.as_millisecond(), message, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_when_its_line_is_complete_and_other_lines_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let line = r#"{"timestamp":"1970-01-01T00:00:01.5Z","message":"new lines","lines":2,"turn":"t"}"#;
        std::fs::write(&path, format!("not json\n{line}\n{}", &line[..20])).unwrap();
        let mut follower = Follower::open(&path).unwrap();
        let entries = follower.read().unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].at_ms, entries[0].message.as_str()), (1500, "new lines"));
        assert_eq!((entries[0].number("lines"), entries[0].text("turn")), (Some(2), "t"));
        std::fs::write(&path, format!("not json\n{line}\n{line}\n")).unwrap();
        assert_eq!(follower.read().unwrap().len(), 1);
    }
}
