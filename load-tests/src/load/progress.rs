//! What has been answered so far, read from the applications' files as they grow.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::facts::{self, AppLine, Side};

/// Follows the files of a directory.
#[derive(Debug)]
pub struct Progress {
    directory: PathBuf,
    read: BTreeMap<PathBuf, (u64, Vec<u8>)>,
    shown: usize,
    answered: HashSet<String>,
}

impl Progress {
    /// Of the run in this directory.
    pub fn new(directory: &Path) -> Self {
        let directory = directory.join(facts::APPS_DIRECTORY);
        Self { directory, read: BTreeMap::new(), shown: 0, answered: HashSet::new() }
    }

    /// Reads on.
    ///
    /// # Errors
    /// A file cannot be read, or a line is not what it should be.
    pub fn read(&mut self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let (offset, rest) = self.read.entry(path.clone()).or_default();
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(*offset))?;
            *offset += file.read_to_end(rest)? as u64;
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let remainder = rest.split_off(whole);
            let lines = std::mem::replace(rest, remainder);
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: AppLine = serde_json::from_slice(line)?;
                match line.side {
                    Side::Peer => self.shown += 1,
                    Side::Own => self.answered.extend(facts::tokens(&line.text).into_iter().map(str::to_owned)),
                }
            }
        }
        Ok(())
    }

    /// How many messages were shown.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// How many messages a reply names.
    pub fn answered(&self) -> usize {
        self.answered.len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_counted_once_and_only_when_they_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(facts::APPS_DIRECTORY)).unwrap();
        let mut file = std::fs::File::create(directory.path().join("apps/desk.jsonl")).unwrap();
        let mut progress = Progress::new(directory.path());
        let line = |side, text: &str| AppLine { at_ms: 1, peer: "ann".to_owned(), side, text: text.to_owned() };
        facts::append(&mut file, &line(Side::Peer, "hello")).unwrap();
        progress.read().unwrap();
        let whole = serde_json::to_string(&line(Side::Own, "Noted: tok00000001 tok00000002")).unwrap() + "\n";
        file.write_all(&whole.as_bytes()[..20]).unwrap();
        progress.read().unwrap();
        assert_eq!((progress.shown(), progress.answered()), (1, 0));
        file.write_all(&whole.as_bytes()[20..]).unwrap();
        facts::append(&mut file, &line(Side::Own, "Noted: tok00000002")).unwrap();
        progress.read().unwrap();
        assert_eq!((progress.shown(), progress.answered()), (1, 2));
    }
}
