//! From the pixels of a chat pane to its lines.
//!
//! Rows that have been read before are known by the hash of their pixels and are not read again, wherever they have
//! scrolled to. New text is looked at twice, at two scales: what the two looks disagree on, or are not sure of, is
//! doubtful, and what is doubtful is never answered without a person.

use std::collections::HashMap;

use super::geometry::{Frame, Rect};
use super::pane::{Cue, PaneLine, PaneView};
use super::pixels::{self, Ink};
use super::profile::Profile;
use super::text::ocr::{Reading, RowReader};
use crate::contract::ExtractionMethod;
use crate::error::Problem;

/// Rows that are remembered; a pane shows some fifty.
const MOST_CACHED: usize = 2_000;
/// Coloured pixels in a text that are still no emoji.
const MOST_COLOURED: usize = 12;
/// Pixels around a row that are given to the recognition with it.
const MARGIN: u32 = 2;

/// Who may appear in a pane.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The peer's name where the pane shows a direct conversation.
    pub peer: Option<String>,
    /// Own names: the account's first.
    pub own: Vec<String>,
}

/// What stands before a text.
#[derive(Debug, Clone, PartialEq)]
struct Header {
    stamp: Option<String>,
    sender: String,
    cue: Cue,
    doubtful: bool,
}

/// One row as it was read.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    header: Option<Header>,
    text: String,
    confidence: f64,
    doubtful: bool,
}

/// Where things stand in a pane.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its ink, without rules.
    pub ink: Ink,
    /// The column at which texts start: right of the rule, 0 if the profile has none; `None` if the rule was not found.
    pub split: Option<u32>,
    /// The rows that are wholly visible, as half-open ranges of pixel rows.
    pub rows: Vec<(u32, u32)>,
}

/// Reads one window's pane, again and again.
#[derive(Debug)]
pub struct PaneReader {
    profile: Profile,
    names: Names,
    cache: HashMap<u64, Row>,
}

impl PaneReader {
    /// A reader for one conversation's pane.
    pub fn new(profile: Profile, names: Names) -> Self {
        Self { profile, names, cache: HashMap::new() }
    }

    /// The lines of the pane, top to bottom.
    ///
    /// # Errors
    /// The recognition engine failed.
    pub fn read(&mut self, frame: &Frame, ocr: &mut dyn RowReader) -> Result<PaneView, Problem> {
        let Layout { ink, split, rows } = self.layout(frame);
        let mut lines: Vec<PaneLine> = Vec::new();
        for (top, bottom) in rows {
            let Some(split) = split else { break };
            let area = Rect { x: 0, y: top as i32, width: frame.width, height: bottom - top };
            let digest = pixels::area_digest(frame, area);
            let row = match self.cache.get(&digest) {
                Some(row) => row.clone(),
                None => self.read_row(frame, &ink, (top, bottom), split, ocr)?,
            };
            self.remember(digest, &row);
            join_row(&mut lines, row, digest, (top, bottom));
        }
        lines.retain(|line| !line.text.is_empty());
        let digest = pixels::digest(frame);
        Ok(PaneView { lines, digest, method: ExtractionMethod::Ocr, height: frame.height })
    }

    /// Where the pane's rows are, before anything is read.
    pub fn layout(&self, frame: &Frame) -> Layout {
        let mut ink = Ink::of(frame, pixels::background(frame), self.profile.ocr.gain);
        let rules = ink.rules();
        ink.erase(&rules);
        // The rule that parts names from text; a rule at the very edge is the pane's frame.
        let limit = frame.width * 3 / 5;
        let rule = rules.iter().find(|(left, right)| *left > 10 && *right < limit).copied();
        let split = if self.profile.rows.separator { rule.map(|(_, right)| right) } else { Some(0) };
        // A row that touches the upper edge may be cut off: it is left out, and so is what continues it.
        let mut rows = ink.text_rows();
        rows.retain(|(top, bottom)| *top > 0 && *bottom < frame.height);
        Layout { ink, split, rows }
    }

    fn remember(&mut self, digest: u64, row: &Row) {
        if self.cache.len() >= MOST_CACHED {
            self.cache.clear();
        }
        self.cache.insert(digest, row.clone());
    }

    fn read_row(
        &self,
        frame: &Frame,
        ink: &Ink,
        rows: (u32, u32),
        split: u32,
        ocr: &mut dyn RowReader,
    ) -> Result<Row, Problem> {
        let (header, text_from) = if split > 0 {
            let header = match ink.span(rows, (0, split)) {
                Some(span) => {
                    let read = ocr.read(&ink.enlarge(around(rows, span, ink), self.profile.ocr.scale))?;
                    Some(self.header(&read.text).unwrap_or_else(|| unreadable_header(&read.text)))
                }
                None => None,
            };
            (header, split)
        } else {
            (None, 0)
        };
        let Some(span) = ink.span(rows, (text_from, ink.width)) else {
            return Ok(Row { header, text: String::new(), confidence: 1.0, doubtful: false });
        };
        let area = around(rows, span, ink);
        let first = ocr.read(&ink.enlarge(area, self.profile.ocr.scale))?;
        let second = ocr.read(&ink.enlarge(area, self.profile.ocr.second_scale))?;
        let coloured = pixels::coloured_pixels(frame, ink, area) > MOST_COLOURED;
        let (text, confidence, doubtful) = self.weigh(first, second);
        let unread = text.is_ascii() && ink.blobs(area) > most_blobs(&text);
        let (header, text) = if split > 0 { (header, text) } else { self.split_text(text) };
        Ok(Row { header, text, confidence, doubtful: doubtful || coloured || unread })
    }

    /// The better of two looks, its confidence, and whether it is doubtful.
    fn weigh(&self, first: Reading, second: Reading) -> (String, f64, bool) {
        let (one, two) = (plain(&first.text), plain(&second.text));
        // Small l and capital L are drawn nearly alike; which one it was changes no meaning.
        let agree = one.to_lowercase() == two.to_lowercase();
        let (text, confidence) =
            if second.confidence > first.confidence { (two, second.confidence) } else { (one, first.confidence) };
        let foreign = self.profile.ocr.language == "eng" && !text.is_ascii();
        let doubtful = !agree || confidence < self.profile.ocr.confidence_floor || foreign || text.is_empty();
        (text, confidence, doubtful)
    }

    fn split_text(&self, text: String) -> (Option<Header>, String) {
        match self.profile.rows.header.find(&text) {
            Some(found) if found.start() == 0 => (self.header(&text), text[found.end()..].trim().to_owned()),
            _ => (None, text),
        }
    }

    fn header(&self, text: &str) -> Option<Header> {
        let groups = self.profile.rows.header.captures(text)?;
        let stamp = groups.name("stamp").map(|stamp| digits(stamp.as_str()));
        let read = groups.name("sender").map(|sender| sender.as_str().trim()).unwrap_or_default();
        let known = |name: &String| strsim::osa_distance(&fold(name), &fold(read)) <= self.profile.rows.sender_distance;
        let is_system = read.is_empty()
            || self.profile.rows.system_senders.iter().any(|system| system == read)
            || !read.chars().any(char::is_alphanumeric);
        let own = self.names.own.iter().find(|name| known(name));
        let peer = self.names.peer.iter().find(|name| known(name));
        let (sender, cue, doubtful) = match (own, peer) {
            // Two names that are so alike that a misread letter tells them apart: only the exact one counts.
            (Some(own), Some(_)) if own == read => (own.clone(), Cue::Own, false),
            (Some(_), Some(peer)) => (peer.clone(), if peer == read { Cue::Other } else { Cue::Unknown }, peer != read),
            (Some(own), None) => (own.clone(), Cue::Own, false),
            (None, Some(peer)) => (peer.clone(), Cue::Other, false),
            (None, None) if is_system => (read.to_owned(), Cue::System, false),
            (None, None) => (
                read.to_owned(),
                if self.names.peer.is_some() { Cue::Unknown } else { Cue::Other },
                self.names.peer.is_some(),
            ),
        };
        Some(Header { stamp, sender, cue, doubtful })
    }
}

/// There is something before the text, but nobody knows what: the line is kept, and nobody answers it.
fn unreadable_header(text: &str) -> Header {
    let is_mark = !text.chars().any(char::is_alphanumeric);
    let cue = if is_mark { Cue::System } else { Cue::Unknown };
    Header { stamp: None, sender: text.trim().to_owned(), cue, doubtful: !is_mark }
}

fn join_row(lines: &mut Vec<PaneLine>, row: Row, digest: u64, (top, bottom): (u32, u32)) {
    if let Some(header) = row.header {
        lines.push(PaneLine {
            stamp: header.stamp,
            sender: (!header.sender.is_empty()).then_some(header.sender),
            text: row.text,
            cue: header.cue,
            confidence: row.confidence,
            doubtful: row.doubtful || header.doubtful,
            top,
            bottom,
            digest,
        });
    } else if let Some(line) = lines.last_mut() {
        if !line.text.is_empty() && !row.text.is_empty() {
            line.text.push(' ');
        }
        line.text.push_str(&row.text);
        line.confidence = line.confidence.min(row.confidence);
        line.doubtful |= row.doubtful;
        line.bottom = bottom;
        line.digest = line.digest.rotate_left(7) ^ digest;
    }
}

/// How many blobs of ink a text can have: more than that are accents or marks that were not read, as in an ü that was
/// taken for a U.
fn most_blobs(text: &str) -> usize {
    let blobs = text.chars().map(|mark| match mark {
        ' ' => 0,
        // Some typefaces put a dot into the zero, and the a of the at sign stands free.
        '0' | 'i' | 'j' | ':' | ';' | '!' | '?' | '=' | '"' | '@' => 2,
        '%' => 3,
        _ => 1,
    });
    blobs.sum()
}

/// The ink of a row with a margin, inside the picture.
fn around(rows: (u32, u32), span: (u32, u32), ink: &Ink) -> Rect {
    let (top, left) = (rows.0.saturating_sub(MARGIN), span.0.saturating_sub(MARGIN));
    let (bottom, right) = ((rows.1 + MARGIN).min(ink.height), (span.1 + MARGIN).min(ink.width));
    Rect { x: left as i32, y: top as i32, width: right - left, height: bottom - top }
}

/// Typographic marks as a keyboard has them, and runs of blanks as one: recognition guesses at both.
fn plain(text: &str) -> String {
    let marks = text.chars().map(|mark| match mark {
        '‘' | '’' | '`' | '´' => '\'',
        '“' | '”' | '„' => '"',
        '–' | '—' => '-',
        other => other,
    });
    marks.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ").replace("''", "\"")
}

/// A time as digits and colons, whatever letters they were taken for.
fn digits(stamp: &str) -> String {
    stamp
        .chars()
        .map(|mark| match mark {
            'o' | 'O' => '0',
            'l' | 'I' | '|' => '1',
            '.' => ':',
            other => other,
        })
        .collect()
}

/// A name in the form in which misread letters fall together.
fn fold(name: &str) -> String {
    name.to_lowercase()
        .replace("rn", "m")
        .chars()
        .map(|mark| {
            if matches!(mark, '1' | '|' | 'i') {
                'l'
            } else if mark == '0' {
                'o'
            } else {
                mark
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::screen::pixels::Grey;

    fn reader(peer: Option<&str>) -> PaneReader {
        let names = Names { peer: peer.map(str::to_owned), own: vec!["autobot".to_owned()] };
        PaneReader::new(Profile::load("hexchat").unwrap(), names)
    }

    fn header(text: &str) -> Header {
        reader(Some("alice")).header(text).unwrap()
    }

    #[test]
    fn names_are_told_apart_although_letters_are_misread() {
        let exact = header("[06:05:58] alice");
        assert_eq!((exact.stamp.as_deref(), exact.sender.as_str(), exact.cue), (Some("06:05:58"), "alice", Cue::Other));
        assert_eq!(header("[O6:05.58]  aIice").cue, Cue::Other);
        assert_eq!(header("[06:05:58] autobot").cue, Cue::Own);
        assert_eq!(header("[06:05:58] *").cue, Cue::System);
        assert_eq!(header("[06:05:58]").cue, Cue::System);
        let stranger = header("[06:05:58] mallory");
        assert!(stranger.doubtful && stranger.cue == Cue::Unknown);
    }

    #[test]
    fn a_peer_whose_name_is_like_ours_counts_only_when_exact() {
        let near = PaneReader::new(
            Profile::load("hexchat").unwrap(),
            Names { peer: Some("autobat".into()), own: vec!["autobot".into()] },
        );
        assert_eq!(near.header("[06:05:58] autobot").unwrap().cue, Cue::Own);
        assert_eq!(near.header("[06:05:58] autobat").unwrap().cue, Cue::Other);
        let between = near.header("[06:05:58] autobut").unwrap();
        assert!(between.doubtful && between.cue == Cue::Unknown);
    }

    #[test]
    fn two_looks_that_disagree_or_are_unsure_are_doubtful() {
        let reader = reader(Some("alice"));
        let look = |text: &str, confidence: f64| Reading { text: text.into(), confidence };
        assert!(!reader.weigh(look("it’s fine", 0.9), look("it's  fine", 0.95)).2);
        assert!(reader.weigh(look("it's fine", 0.9), look("its fine", 0.95)).2);
        assert!(reader.weigh(look("it's fine", 0.5), look("it's fine", 0.5)).2);
        assert!(reader.weigh(look("é fine", 0.95), look("é fine", 0.95)).2);
        assert!(reader.weigh(look("", 0.0), look("", 0.0)).2);
    }

    /// Reads every picture as the same words, as often as it is asked.
    struct Parrot(u32);
    impl RowReader for Parrot {
        fn read(&mut self, _: &Grey) -> Result<Reading, Problem> {
            self.0 += 1;
            Ok(Reading { text: "[06:05:58] alice".into(), confidence: 0.9 })
        }
    }

    proptest! {
        #[test]
        fn any_pixels_end_in_a_view(width in 0u32..120, height in 0u32..80, bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let rgbx = bytes.iter().copied().cycle().take((width * height * 4) as usize).collect();
            let view = reader(Some("alice")).read(&Frame { width, height, rgbx }, &mut Parrot(0)).unwrap();
            prop_assert!(view.lines.iter().all(|line| line.top < line.bottom && line.bottom <= height));
        }

        #[test]
        fn any_text_ends_in_a_header_or_none(text in "\\PC*") {
            let _ = reader(None).header(&text);
            let (header, rest) = reader(None).split_text(text.clone());
            prop_assert!(header.is_some() || rest == text);
        }
    }
}
