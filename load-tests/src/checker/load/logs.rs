//! The search for words of the plan in logs and dumps of metrics.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use super::{Unread, run};
use crate::checker::material::Leak;
use crate::facts::{self, Planned};

/// Tokens of the plan in the files of these directories; one leak a line and token.
///
/// # Errors
/// A file cannot be read. A directory that holds no file at all is one, too: nothing was searched.
pub fn leaks(directories: &[PathBuf], planned: &[Planned]) -> Result<Vec<Leak>, Unread> {
    let tokens: HashSet<&str> = planned.iter().map(|message| message.token.as_str()).collect();
    let mut leaks = Vec::new();
    for directory in directories {
        let files = run::files(directory)?;
        if files.is_empty() {
            return Err(Unread::new(directory.display().to_string(), "it holds no log"));
        }
        for path in files {
            let mut reader = BufReader::new(std::fs::File::open(&path).map_err(Unread::at(&path))?);
            let (mut line, mut number) = (Vec::new(), 0);
            while reader.read_until(b'\n', &mut line).map_err(Unread::at(&path))? > 0 {
                number += 1;
                for token in facts::tokens(&String::from_utf8_lossy(&line)) {
                    if tokens.contains(token) {
                        leaks.push(Leak { place: format!("{}:{number}", path.display()), token: token.to_owned() });
                    }
                }
                line.clear();
            }
        }
    }
    Ok(leaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_plan_is_found_in_whatever_file_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let word = facts::token(4);
        let planned = Planned { number: 4, token: word.clone(), desktop: "d".into(), peer: "p".into(), at_ms: 0 };
        let places = [directory.path().to_owned()];
        assert!(leaks(&places, &[]).is_err(), "an empty directory proves nothing");
        std::fs::create_dir(directory.path().join("deep")).unwrap();
        let clean = format!("fine\nother {}\n", facts::token(5));
        std::fs::write(directory.path().join("worker.log"), clean).unwrap();
        assert_eq!(leaks(&places, std::slice::from_ref(&planned)).unwrap(), []);
        let bad = [b"fine\n\xff {\"text\":\"" as &[u8], word.as_bytes(), b"\"}\n"].concat();
        std::fs::write(directory.path().join("deep/desk.log"), bad).unwrap();
        let found = leaks(&places, &[planned]).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].place.ends_with("deep/desk.log:2") && found[0].token == word, "{found:?}");
    }
}
