//! The text that stands in the inputs of a fake application, kept in a file: half-typed text stays where it is when
//! the one who typed it dies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the files lie in a run's directory.
pub const DIRECTORY: &str = "inputs";

/// The text of one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    text: String,
    /// How many lines its window had when it was typed. Enter takes the text and adds a line in one step; a process that
    /// died between the two has left a text that was sent.
    after: usize,
}

/// The inputs of one application that are not empty.
#[derive(Debug)]
pub struct Inputs {
    path: PathBuf,
    texts: BTreeMap<String, Kept>,
}

impl Inputs {
    /// The inputs as they were left; `own` tells how many own lines a window has.
    pub fn open(directory: &Path, desktop: &str, own: impl Fn(&str) -> usize) -> Self {
        let path = directory.join(DIRECTORY).join(format!("{desktop}.json"));
        let kept: Option<BTreeMap<String, Kept>> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut texts = kept.unwrap_or_default();
        texts.retain(|peer, kept| own(peer) == kept.after);
        Self { path, texts }
    }

    /// The text of an input.
    pub fn read(&self, peer: &str) -> &str {
        self.texts.get(peer).map_or("", |kept| kept.text.as_str())
    }

    /// Puts `text` into an input whose window has `own` own lines.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, peer: &str, text: &str, own: usize) -> std::io::Result<()> {
        if text.is_empty() {
            self.texts.remove(peer);
        } else {
            self.texts.insert(peer.to_owned(), Kept { text: text.to_owned(), after: own });
        }
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec(&self.texts)?)?;
        std::fs::rename(&beside, &self.path)
    }
}
