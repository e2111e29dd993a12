//! What a reading of a chat pane gives.

use crate::contract::ExtractionMethod;

/// Who wrote a line, as far as its looks tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cue {
    /// Own name, colour or side.
    Own,
    /// Somebody else's.
    Other,
    /// The application's own line.
    System,
    /// Nothing tells.
    Unknown,
}

/// One message as shown: a row that starts with a sender, and the rows it wraps into.
#[derive(Debug, Clone, PartialEq)]
pub struct PaneLine {
    /// The time shown beside it, as it stands there.
    pub stamp: Option<String>,
    /// The name shown beside it.
    pub sender: Option<String>,
    /// Its text; wrapped rows joined by one blank.
    pub text: String,
    /// Who wrote it, by looks.
    pub cue: Cue,
    /// 0 to 1.
    pub confidence: f64,
    /// Too uncertain to be answered without a person.
    pub doubtful: bool,
    /// First pixel row in the pane.
    pub top: u32,
    /// Pixel row after the last.
    pub bottom: u32,
    /// Hash of its pixels: the same line at another height has the same.
    pub digest: u64,
}

/// A reading of a whole pane, top to bottom.
#[derive(Debug, Clone, PartialEq)]
pub struct PaneView {
    /// The lines that are wholly visible; a message whose first row is cut off is left out.
    pub lines: Vec<PaneLine>,
    /// Hash of all of the pane's pixels: equal means nothing changed.
    pub digest: u64,
    /// How the text was read.
    pub method: ExtractionMethod,
    /// Height of the pane in pixels.
    pub height: u32,
}
