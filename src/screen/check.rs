//! What a profile sees of the open windows, as data and as a picture for the person who writes the profile.

use std::path::Path;

use super::canvas::{Canvas, Colour, LETTER, fitting};
use super::geometry::{Frame, Rect};
use super::matching::{self, Match};
use super::pane::{Cue, PaneLine, PaneView};
use super::profile::Profile;
use super::reader::{Layout, Names, PaneReader};
use super::text::ocr::RowReader;
use super::window::{ScreenError, WindowInfo, WindowSystem};
use crate::contract::ConversationKind;
use crate::error::Problem;

const DARK: Colour = [38, 42, 51];
const PAPER: Colour = [230, 232, 236];
const PANE: Colour = [0, 110, 220];
const RULE: Colour = [190, 0, 190];
const ROW: Colour = [178, 184, 194];
const OTHER: Colour = [0, 140, 60];
const OWN: Colour = [90, 60, 200];
const SYSTEM: Colour = [110, 115, 125];
const UNKNOWN: Colour = [200, 0, 0];
const DOUBTFUL: Colour = [225, 120, 0];

/// Height of the strip above a window.
const STRIP: u32 = 40;
/// Width of the column beside the windows in which the labels stand.
const COLUMN: u32 = 312;
/// Between windows, and around all.
const SPACE: u32 = 12;

/// A window that the profile matches, and what was read of it.
#[derive(Debug)]
pub struct Seen {
    /// The window, its conversation and its pane.
    pub matched: Match,
    /// The lines of its pane.
    pub view: PaneView,
    whole: Frame,
    layout: Layout,
}

/// What became of all windows of the display.
#[derive(Debug)]
pub struct Sight {
    /// Those that were read.
    pub seen: Vec<Seen>,
    /// Those that look right and are refused, with the reason.
    pub refused: Vec<(WindowInfo, String)>,
    /// Those that the profile is not for.
    pub others: Vec<WindowInfo>,
}

/// Looks at every window through one profile.
///
/// # Errors
/// The display failed, or the recognition engine did.
pub fn look(
    system: &mut dyn WindowSystem,
    profile: &Profile,
    own_names: &[String],
    ocr: &mut dyn RowReader,
) -> Result<Sight, Problem> {
    let windows = system.windows().map_err(unseen)?;
    let found = matching::find(&windows, std::slice::from_ref(profile), own_names);
    let mut sight = Sight { seen: Vec::new(), refused: Vec::new(), others: Vec::new() };
    for window in windows {
        if let Some(refusal) = found.refused.iter().find(|refusal| refusal.window == window.id) {
            sight.refused.push((window, refusal.reason.clone()));
        } else if let Some(matched) = found.matched.iter().find(|matched| matched.window.id == window.id) {
            match see(system, profile, own_names, ocr, matched)? {
                Ok(seen) => sight.seen.push(seen),
                Err(reason) => sight.refused.push((window, reason)),
            }
        } else {
            sight.others.push(window);
        }
    }
    Ok(sight)
}

fn see(
    system: &mut dyn WindowSystem,
    profile: &Profile,
    own_names: &[String],
    ocr: &mut dyn RowReader,
    matched: &Match,
) -> Result<Result<Seen, String>, Problem> {
    let Rect { width, height, .. } = matched.window.rect;
    let whole = match system.capture(matched.window.id, Rect { x: 0, y: 0, width, height }) {
        Ok(whole) => whole,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let conversation = &matched.conversation;
    let is_direct = conversation.kind == ConversationKind::Direct;
    let names = Names {
        peer: is_direct.then(|| conversation.peer.clone()),
        own: std::iter::once(&conversation.account).chain(own_names).cloned().collect(),
    };
    let mut reader = PaneReader::new(profile.clone(), names);
    let pane = whole.crop(matched.pane);
    let view = reader.read(&pane, ocr)?;
    Ok(Ok(Seen { matched: matched.clone(), view, layout: reader.layout(&pane), whole }))
}

fn unseen(error: ScreenError) -> Problem {
    match error {
        ScreenError::Unavailable(problem) => problem,
        other => Problem::new(other.to_string(), "the display", "Try again; `autoreply doctor` looks at the display"),
    }
}

impl Seen {
    /// Whether the vertical rule that the profile speaks of was found; without it nothing is read.
    pub fn has_rule(&self) -> bool {
        self.layout.split.is_some()
    }
}

impl Sight {
    /// All windows that were read, one below the other, with what was seen in them painted on.
    pub fn picture(&self) -> Frame {
        let widest = self.seen.iter().map(|seen| seen.whole.width).max().unwrap_or(0);
        let width = (widest + COLUMN + 3 * SPACE).max(640);
        let heights = self.seen.iter().map(|seen| STRIP + seen.whole.height + SPACE);
        let mut canvas = Canvas::new(width, STRIP + heights.sum::<u32>().max(STRIP), PAPER);
        paint_legend(&mut canvas, width);
        if self.seen.is_empty() {
            canvas.write(SPACE as i32, STRIP as i32 + 12, 2, "no window was read", UNKNOWN);
        }
        let mut top = STRIP;
        for seen in &self.seen {
            seen.paint(&mut canvas, width, top);
            top += STRIP + seen.whole.height + SPACE;
        }
        canvas.into_frame()
    }
}

fn paint_legend(canvas: &mut Canvas, width: u32) {
    canvas.fill(Rect { x: 0, y: 0, width, height: STRIP - 8 }, [255; 3]);
    let mut x = SPACE;
    let words = [
        (PANE, "pane"),
        (RULE, "names / text"),
        (ROW, "row"),
        (OTHER, "other's"),
        (OWN, "own"),
        (SYSTEM, "system"),
        (UNKNOWN, "whose?"),
        (DOUBTFUL, "doubtful text"),
    ];
    for (colour, word) in words {
        canvas.fill(Rect { x: x as i32, y: 11, width: 10, height: 10 }, colour);
        canvas.write(x as i32 + 15, 12, 1, word, DARK);
        x += 15 + word.len() as u32 * LETTER + 14;
    }
}

/// Whose line it is, as a word and a colour.
fn whose(cue: Cue) -> (&'static str, Colour) {
    match cue {
        Cue::Own => ("own", OWN),
        Cue::Other => ("other", OTHER),
        Cue::System => ("system", SYSTEM),
        Cue::Unknown => ("unknown", UNKNOWN),
    }
}

/// The word for a cue in tables.
pub fn cue_word(cue: Cue) -> &'static str {
    whose(cue).0
}

impl Seen {
    fn paint(&self, canvas: &mut Canvas, width: u32, top: u32) {
        let (left, window_top) = (SPACE as i32, (top + STRIP) as i32);
        let conversation = &self.matched.conversation;
        let said = format!(
            "{} on {}: {} > {}",
            if conversation.kind == ConversationKind::Group { "group" } else { "direct" },
            conversation.network,
            conversation.account,
            conversation.peer
        );
        canvas.fill(Rect { x: 0, y: top as i32, width, height: STRIP - 4 }, DARK);
        canvas.write(left, top as i32 + 6, 1, &fitting(&self.matched.window.title, width - 2 * SPACE, 1), [255; 3]);
        canvas.write(left, top as i32 + 20, 1, &fitting(&said, width - 2 * SPACE, 1), [150, 200, 255]);
        canvas.paste(left, window_top, &self.whole);
        let pane = self.matched.pane;
        let pane = Rect { x: pane.x + left, y: pane.y + window_top, ..pane };
        self.paint_rows(canvas, pane);
        canvas.outline(Rect { x: pane.x - 2, y: pane.y - 2, width: pane.width + 4, height: pane.height + 4 }, 2, PANE);
        let column = left + self.whole.width as i32 + SPACE as i32;
        for (number, line) in self.view.lines.iter().enumerate() {
            self.paint_line(canvas, pane, column, number + 1, line);
        }
        if !self.has_rule() {
            canvas.write(column, pane.y, 1, "the rule between names and", UNKNOWN);
            canvas.write(column, pane.y + 12, 1, "text was not found: not read", UNKNOWN);
        } else if self.view.lines.is_empty() {
            canvas.write(column, pane.y, 1, "no line in the pane", UNKNOWN);
        }
    }

    fn paint_rows(&self, canvas: &mut Canvas, pane: Rect) {
        let Layout { ink, split, rows } = &self.layout;
        if let Some(split) = split.filter(|split| *split > 0) {
            canvas.fill(Rect { x: pane.x + split as i32 - 1, width: 1, ..pane }, RULE);
        }
        for &(top, bottom) in rows {
            if let Some((left, right)) = ink.span((top, bottom), (0, ink.width)) {
                let row = Rect { x: left as i32, y: top as i32, width: right - left, height: bottom - top };
                canvas.outline(grown(row, pane, 1), 1, ROW);
            }
        }
    }

    /// The boxes of a line's sender and text, and its label beside the window.
    fn paint_line(&self, canvas: &mut Canvas, pane: Rect, column: i32, number: usize, line: &PaneLine) {
        let Layout { ink, split, .. } = &self.layout;
        let split = split.unwrap_or(0);
        let (word, colour) = whose(line.cue);
        let rows = (line.top, line.bottom);
        let first = self.layout.rows.iter().find(|(top, _)| *top == line.top).copied().unwrap_or(rows);
        let boxed = |(top, bottom): (u32, u32), (left, right): (u32, u32)| {
            let area = Rect { x: left as i32, y: top as i32, width: right - left, height: bottom - top };
            grown(area, pane, 2)
        };
        if let Some(span) = ink.span(first, (0, split)) {
            canvas.outline(boxed(first, span), 1, colour);
        }
        let text_colour = if line.doubtful { DOUBTFUL } else { colour };
        if let Some(span) = ink.span(rows, (split, ink.width)) {
            canvas.outline(boxed(rows, span), if line.doubtful { 2 } else { 1 }, text_colour);
        }
        let y = pane.y + first.0 as i32 + (first.1 - first.0) as i32 / 2 - 4;
        canvas.fill(Rect { x: column - 8, y: y - 3, width: 4, height: 14 }, colour);
        let percent = (line.confidence * 100.0).round();
        let sender = fitting(line.sender.as_deref().unwrap_or("-"), 12 * LETTER, 1);
        canvas.write(column, y, 1, &format!("{number:>2} {sender:<12} {word:<7} {percent:>3}%"), colour);
        if line.doubtful {
            canvas.write(column + 29 * LETTER as i32, y, 1, "doubtful", DOUBTFUL);
        }
    }
}

/// An area of the pane, with a margin, in the picture.
fn grown(area: Rect, pane: Rect, margin: u32) -> Rect {
    Rect {
        x: pane.x + area.x - margin as i32,
        y: pane.y + area.y - margin as i32,
        width: area.width + 2 * margin,
        height: area.height + 2 * margin,
    }
}

/// Writes a frame as a PNG file.
///
/// # Errors
/// The file cannot be written.
pub fn save(frame: &Frame, path: &Path) -> Result<(), Problem> {
    let rgb: Vec<u8> = frame.rgbx.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    image::save_buffer_with_format(
        path,
        &rgb,
        frame.width,
        frame.height,
        image::ColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .map_err(|error| {
        Problem::new(
            format!("the picture cannot be written ({error})"),
            path.display().to_string(),
            "Name a file in a directory that is there and may be written with --picture",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::screen::pixels::Grey;
    use crate::screen::text::ocr::Reading;
    use crate::screen::window::WindowId;

    /// A display with these windows; each shows the same frame.
    struct Display(Vec<WindowInfo>, Frame);

    impl WindowSystem for Display {
        fn windows(&mut self) -> Result<Vec<WindowInfo>, ScreenError> {
            Ok(self.0.clone())
        }
        fn window(&mut self, id: WindowId) -> Result<WindowInfo, ScreenError> {
            self.0.iter().find(|window| window.id == id).cloned().ok_or(ScreenError::Gone(id))
        }
        fn capture(&mut self, id: WindowId, region: Rect) -> Result<Frame, ScreenError> {
            if id.0 == 9 { Err(ScreenError::Gone(id)) } else { Ok(self.1.crop(region)) }
        }
        fn watch(&mut self, _: WindowId, _: Rect) -> Result<(), ScreenError> {
            Ok(())
        }
        fn wait_change(&mut self, _: Duration) -> Result<Vec<WindowId>, ScreenError> {
            Ok(Vec::new())
        }
        fn active(&mut self) -> Result<Option<WindowId>, ScreenError> {
            Ok(None)
        }
        fn activate(&mut self, id: WindowId) -> Result<(), ScreenError> {
            Err(ScreenError::Gone(id))
        }
    }

    /// Reads the header where the picture is narrow, and a doubtful text where it is wide.
    struct Words;
    impl RowReader for Words {
        fn read(&mut self, picture: &Grey) -> Result<Reading, Problem> {
            let text = if picture.width < 500 { "[06:05:58] alice" } else { "WWWWWWWWWWWWWW" };
            Ok(Reading { text: text.into(), confidence: 0.5 })
        }
    }

    fn window(id: u32, application: &str, title: &str) -> WindowInfo {
        let rect = Rect { x: 0, y: 0, width: 400, height: 200 };
        WindowInfo {
            id: WindowId(id),
            application: application.into(),
            title: title.into(),
            pid: None,
            rect,
            hidden: false,
        }
    }

    fn pixels() -> Frame {
        let mut canvas = Canvas::new(400, 200, [250; 3]);
        canvas.fill(Rect { x: 120, y: 0, width: 1, height: 200 }, [120; 3]);
        canvas.fill(Rect { x: 20, y: 60, width: 80, height: 12 }, [0; 3]);
        canvas.fill(Rect { x: 130, y: 60, width: 200, height: 12 }, [0; 3]);
        canvas.into_frame()
    }

    fn sight(windows: &[(u32, &str, &str)]) -> Sight {
        let windows = windows.iter().map(|(id, application, title)| window(*id, application, title)).collect();
        let profile = Profile::load("hexchat").unwrap();
        look(&mut Display(windows, pixels()), &profile, &["me".to_owned()], &mut Words).unwrap()
    }

    fn count(frame: &Frame, colour: Colour) -> usize {
        frame.rgbx.chunks_exact(4).filter(|pixel| pixel[..3] == colour).count()
    }

    #[test]
    fn every_window_is_seen_refused_or_named() {
        let all = sight(&[
            (1, "Hexchat", "Dialog with alice @ Net - HexChat"),
            (2, "Hexchat", "Dialog with bob @ Net - HexChat"),
            (3, "Hexchat", "Dialog with bob @ Net - HexChat"),
            (4, "Firefox", "News"),
            (9, "Hexchat", "Dialog with eve @ Net - HexChat"),
        ]);
        assert_eq!(all.seen.iter().map(|seen| seen.matched.window.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(all.refused.iter().map(|(window, _)| window.id.0).collect::<Vec<_>>(), [2, 3, 9]);
        assert_eq!(all.others.iter().map(|window| window.title.as_str()).collect::<Vec<_>>(), ["News"]);
        assert_eq!(all.seen[0].view.lines.len(), 1);
    }

    #[test]
    fn what_was_seen_is_painted_in_its_colours() {
        let bare = sight(&[(4, "Firefox", "News")]).picture();
        let full = sight(&[(1, "Hexchat", "Dialog with alice @ Net - HexChat")]).picture();
        for colour in [PANE, RULE, OTHER, DOUBTFUL] {
            let (without, with) = (count(&bare, colour), count(&full, colour));
            assert!(with > without + 40, "{colour:?}: {without} -> {with}");
        }
        assert_eq!(count(&full, OWN), count(&bare, OWN), "no own line is there");
        let two = sight(&[
            (1, "Hexchat", "Dialog with alice @ Net - HexChat"),
            (2, "Hexchat", "Dialog with bob @ Net - HexChat"),
        ]);
        assert!(two.picture().height >= full.height + 200);
    }

    #[test]
    fn a_saved_picture_can_be_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, frame) = (directory.path().join("p.png"), pixels());
        save(&frame, &path).unwrap();
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!((read.width(), read.height()), (frame.width, frame.height));
        assert!(save(&frame, &directory.path().join("no/p.png")).unwrap_err().to_string().contains("--picture"));
    }
}
