//! The reader on real pixels: panes of HexChat as a server drew them (`tests/fixtures/screen`), read by Tesseract.

use super::geometry::Frame;
use super::pane::{Cue, PaneLine, PaneView};
use super::pixels::Grey;
use super::profile::Profile;
use super::reader::{Names, PaneReader};
use super::text::ocr::{Reading, RowReader, Tesseract};
use crate::error::Problem;

/// What was typed into the panes `bob` and `carol`, twenty lines each.
const PLAIN: &str = include_str!("../../tests/fixtures/screen/plain.txt");
/// What was typed into the pane `odd`.
const ODD: &str = include_str!("../../tests/fixtures/screen/odd.txt");

/// Tesseract, counting how often it is asked.
struct Counted {
    engine: Tesseract,
    calls: usize,
}

impl RowReader for Counted {
    fn read(&mut self, picture: &Grey) -> Result<Reading, Problem> {
        self.calls += 1;
        self.engine.read(picture)
    }
}

fn engine() -> Counted {
    Counted { engine: Tesseract::start("eng").unwrap(), calls: 0 }
}

fn frame(name: &str) -> Frame {
    let path = format!("{}/tests/fixtures/screen/{name}.png", env!("CARGO_MANIFEST_DIR"));
    let picture = image::open(path).unwrap().to_rgba8();
    Frame { width: picture.width(), height: picture.height(), rgbx: picture.into_raw() }
}

fn reader(peer: &str) -> PaneReader {
    let names = Names { peer: Some(peer.to_owned()), own: vec!["autobot".to_owned()] };
    PaneReader::new(Profile::load("hexchat").unwrap(), names)
}

fn look(name: &str) -> PaneView {
    reader(name).read(&frame(name), &mut engine()).unwrap()
}

/// The lines of a view beside what they should read, one to one.
fn beside<'a>(view: &'a PaneView, texts: impl Iterator<Item = &'a str>) -> Vec<(&'a PaneLine, &'a str)> {
    let texts: Vec<_> = texts.collect();
    assert_eq!(view.lines.len(), texts.len(), "{:?}", view.lines.iter().map(|line| &line.text).collect::<Vec<_>>());
    view.lines.iter().zip(texts).collect()
}

#[test]
fn plain_lines_are_read_and_trusted() {
    let (bob, carol) = (look("bob"), look("carol"));
    let mut lines = beside(&bob, PLAIN.lines().take(20));
    lines.extend(beside(&carol, PLAIN.lines().skip(20)));
    assert!(lines.iter().all(|(line, _)| line.cue == Cue::Other && line.stamp.as_deref() == Some("06:15:07")));
    let trusted: Vec<_> = lines.iter().filter(|(line, _)| !line.doubtful).collect();
    let doubted: Vec<_> =
        lines.iter().filter(|(line, _)| line.doubtful).map(|(line, text)| (&line.text, text)).collect();
    assert!(trusted.len() >= 36, "only {} of 40 are trusted; doubted: {doubted:?}", trusted.len());
    let total: usize = trusted.iter().map(|(_, text)| text.chars().count()).sum();
    let wrong: usize = trusted.iter().map(|(line, text)| strsim::levenshtein(&line.text, text)).sum();
    let misread: Vec<_> =
        trusted.iter().filter(|(line, text)| line.text != *text).map(|(line, text)| (&line.text, text)).collect();
    println!("trusted {} of 40, {wrong} of {total} characters wrong: {misread:?}; doubted: {doubted:?}", trusted.len());
    assert!(wrong * 100 <= total * 3, "{wrong} of {total} characters are wrong: {misread:?}");
}

#[test]
fn what_the_language_has_not_is_doubted() {
    let odd = look("odd");
    let is_picture = |mark: char| ('\u{2600}'..='\u{27bf}').contains(&mark) || mark >= '\u{3000}';
    for (line, text) in beside(&odd, ODD.lines()) {
        println!(
            "{} {:.2} {text:?} -> {:?}",
            if line.doubtful { "doubted" } else { "trusted" },
            line.confidence,
            line.text
        );
        assert!(line.doubtful || !text.chars().any(is_picture), "{text:?} is trusted as {:?}", line.text);
    }
}

#[test]
fn wrapped_rows_are_one_line_and_own_lines_are_known() {
    let alice = look("alice");
    let [hello, odd, long, own] = alice.lines.as_slice() else { panic!("{:?}", alice.lines) };
    assert_eq!(
        (hello.text.as_str(), hello.cue, hello.doubtful),
        ("hello there, are you open on Saturday?", Cue::Other, false)
    );
    assert!(odd.doubtful);
    let whole = "I'll be there at 5 pm, ok? This is a rather long line which should wrap around at the edge of the pane \
                 because it is longer than the width";
    // Small l and capital L are drawn nearly alike.
    assert_eq!((long.text.to_lowercase(), long.stamp.as_deref()), (whole.to_lowercase(), Some("06:06:00")));
    assert!(!long.doubtful && long.cue == Cue::Other);
    assert!(long.bottom - long.top > 40, "three rows high");
    assert_eq!(
        (own.text.as_str(), own.cue, own.sender.as_deref()),
        ("hello I am the person", Cue::Own, Some("autobot"))
    );
}

#[test]
fn rows_that_were_read_are_not_read_again_wherever_they_are() {
    let (mut reader, mut ocr, bob) = (reader("bob"), engine(), frame("bob"));
    let first = reader.read(&bob, &mut ocr).unwrap();
    let calls = ocr.calls;
    assert!(calls >= 40, "{calls} looks at 20 lines");
    assert_eq!(reader.read(&bob, &mut ocr).unwrap(), first);
    assert_eq!(ocr.calls, calls);
    // One row scrolled out at the top: what is left has moved up by 21 pixels.
    let line = bob.width as usize * 4;
    let mut scrolled = bob.rgbx[21 * line..].to_vec();
    scrolled.extend_from_slice(&bob.rgbx[bob.rgbx.len() - 21 * line..]);
    let moved = reader.read(&Frame { rgbx: scrolled, ..bob }, &mut ocr).unwrap();
    let texts = |view: &PaneView| view.lines.iter().map(|line| (line.text.clone(), line.digest)).collect::<Vec<_>>();
    assert_eq!(texts(&moved), texts(&first)[1..]);
    assert_eq!(ocr.calls, calls);
}
