//! How alike two readings of a line are. Pure.

use super::transcript::Known;
use crate::screen::pane::PaneLine;

/// The score of two readings that are surely of the same pixels.
pub(super) const SAME_PIXELS: i32 = 5;
/// The score of two readings with the same text but for characters that OCR confuses.
pub(super) const SAME_TEXT: i32 = 4;
/// The score of a pair that may be two readings of one line, one of them very bad.
const DOUBTFUL_PAIR: i32 = -2;
/// The score of a pair that is two different messages; as bad as leaving both unpaired.
const DIFFERENT: i32 = -6;

/// A text without what OCR gets wrong: blanks (a reflow moves them), dots and quotes, and the classes `I l 1 |`,
/// `O 0`, `rn m`, `vv w`. What is nothing but those is left as it is.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        let kept = match character {
            'I' | 'l' | '1' | '|' | 'i' | 'L' => 'l',
            'O' | '0' | 'o' => 'o',
            '.' | ',' | ':' | ';' | '\'' | '"' | '`' | '’' | '‘' | '“' | '”' | '-' | '–' | '_' | '…' | '·' =>
            {
                continue;
            }
            blank if blank.is_whitespace() => continue,
            other => {
                folded.extend(other.to_lowercase());
                continue;
            }
        };
        folded.push(kept);
    }
    let folded = folded.replace("rn", "m").replace("vv", "w");
    if folded.is_empty() { text.split_whitespace().collect() } else { folded }
}

/// The words that hold a digit, with the letters that OCR takes for digits made digits: they tell `room 101` from
/// `room 102`, which are alike otherwise.
fn numbers(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().any(|c| c.is_ascii_digit()))
        .map(|word| {
            word.chars()
                .map(|c| match c {
                    'I' | 'l' | 'i' => '1',
                    'O' | 'o' => '0',
                    'S' | 's' => '5',
                    'B' => '8',
                    other => other,
                })
                .collect()
        })
        .collect()
}

/// What is compared of a text, made once for all comparisons.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shape {
    length: usize,
    numbers: Vec<String>,
    /// How often each character occurs, in buckets.
    counts: [u16; 32],
}

impl Shape {
    fn of(text: &str, folded: &str) -> Self {
        let mut shape = Self { length: 0, numbers: numbers(text), counts: [0; 32] };
        for character in folded.chars() {
            shape.length += 1;
            let count = &mut shape.counts[character as usize % 32];
            *count = count.saturating_add(1);
        }
        shape
    }

    /// No fewer edits than this turn one text into the other: each changes one count up and one down at most.
    fn least_edits(&self, other: &Self) -> usize {
        let (up, down) = self.counts.iter().zip(&other.counts).fold((0, 0), |(up, down), (a, b)| {
            (up + usize::from(a.saturating_sub(*b)), down + usize::from(b.saturating_sub(*a)))
        });
        up.max(down)
    }
}

/// A reading of the pane with its folds.
pub(super) struct Reading<'a> {
    pub(super) line: &'a PaneLine,
    pub(super) folded: String,
    shape: Shape,
    sender: String,
    stamp: Option<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(line: &'a PaneLine) -> Self {
        let folded = fold(&line.text);
        Self {
            line,
            shape: Shape::of(&line.text, &folded),
            folded,
            sender: fold(line.sender.as_deref().unwrap_or_default()),
            stamp: line.stamp.as_deref().map(fold),
        }
    }
}

/// The same for a known line; kept beside it while the transcript lives.
#[derive(Debug, Clone, Default)]
pub(super) struct Folds {
    pub(super) text: String,
    shape: Shape,
    sender: String,
    stamp: Option<String>,
}

impl Folds {
    pub(super) fn of(line: &Known) -> Self {
        let text = fold(&line.text);
        Self {
            shape: Shape::of(&line.text, &text),
            text,
            sender: fold(line.sender.as_deref().unwrap_or_default()),
            stamp: line.stamp.as_deref().map(fold),
        }
    }
}

/// How well a known line and a reading go together: positive when they are the same line.
pub(super) fn pair_score(known: &Known, folds: &Folds, reading: &Reading<'_>) -> i32 {
    if known.digest == reading.line.digest && known.digest != 0 {
        return SAME_PIXELS;
    }
    let stamps_differ = matches!((&folds.stamp, &reading.stamp), (Some(a), Some(b)) if a != b);
    let stamps_equal = matches!((&folds.stamp, &reading.stamp), (Some(a), Some(b)) if a == b);
    let senders_agree = folds.sender == reading.sender
        || (folds.sender.len() > 3 && strsim::normalized_levenshtein(&folds.sender, &reading.sender) >= 0.7);
    let text = text_score(folds, reading);
    match (text, senders_agree) {
        (text, true) if text > 0 && stamps_differ => DOUBTFUL_PAIR,
        (text, true) if text > 0 => (text + i32::from(stamps_equal)).min(SAME_TEXT),
        // A name that was read worse than the text it stands beside.
        (SAME_TEXT, false) if !stamps_differ && folds.shape.length >= 12 && known.cue == reading.line.cue => 1,
        (_, true) if !stamps_differ && known.cue == reading.line.cue => DOUBTFUL_PAIR,
        _ => DIFFERENT,
    }
}

fn text_score(folds: &Folds, reading: &Reading<'_>) -> i32 {
    if folds.text == reading.folded {
        // Readings that are equal but for their numbers' confusable letters are equal.
        return SAME_TEXT;
    }
    let (ours, theirs) = (&folds.shape, &reading.shape);
    let longest = ours.length.max(theirs.length);
    if ours.length.min(theirs.length) < 5
        || ours.least_edits(theirs) * 100 > longest * 22
        || ours.numbers != theirs.numbers
    {
        return 0;
    }
    let likeness = strsim::normalized_levenshtein(&folds.text, &reading.folded);
    if likeness < 0.78 {
        return 0;
    }
    if likeness >= 0.92 {
        3
    } else if likeness >= 0.85 {
        2
    } else {
        1
    }
}
