//! A picture to paint on: areas, frames, and letters of 8 by 8 pixels. What lies outside is not painted.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts as _};

use super::geometry::{Frame, Rect};

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Height and width of a letter at scale 1, in pixels.
pub const LETTER: u32 = 8;

/// A picture that is being painted.
#[derive(Debug)]
pub struct Canvas(Frame);

impl Canvas {
    /// A canvas of one colour.
    pub fn new(width: u32, height: u32, [red, green, blue]: Colour) -> Self {
        Self(Frame { width, height, rgbx: [red, green, blue, 255].repeat(width as usize * height as usize) })
    }

    /// The painted picture.
    pub fn into_frame(self) -> Frame {
        self.0
    }

    fn set(&mut self, x: i64, y: i64, colour: Colour) {
        let (width, height) = (i64::from(self.0.width), i64::from(self.0.height));
        if (0..width).contains(&x) && (0..height).contains(&y) {
            let at = (y * width + x) as usize * 4;
            if let Some(pixel) = self.0.rgbx.get_mut(at..at + 3) {
                pixel.copy_from_slice(&colour);
            }
        }
    }

    /// Fills an area.
    pub fn fill(&mut self, area: Rect, colour: Colour) {
        for y in 0..i64::from(area.height) {
            for x in 0..i64::from(area.width) {
                self.set(i64::from(area.x) + x, i64::from(area.y) + y, colour);
            }
        }
    }

    /// Draws the frame of an area, `thick` pixels wide, inside it.
    pub fn outline(&mut self, area: Rect, thick: u32, colour: Colour) {
        let (thick_x, thick_y) = (thick.min(area.width), thick.min(area.height));
        let right = area.x.saturating_add_unsigned(area.width - thick_x);
        let bottom = area.y.saturating_add_unsigned(area.height - thick_y);
        self.fill(Rect { height: thick_y, ..area }, colour);
        self.fill(Rect { y: bottom, height: thick_y, ..area }, colour);
        self.fill(Rect { width: thick_x, ..area }, colour);
        self.fill(Rect { x: right, width: thick_x, ..area }, colour);
    }

    /// Copies a frame onto the canvas.
    pub fn paste(&mut self, x: i32, y: i32, frame: &Frame) {
        for row in 0..frame.height {
            for (column, pixel) in (0i64..).zip(frame.row(row).chunks_exact(4)) {
                self.set(i64::from(x) + column, i64::from(y) + i64::from(row), [pixel[0], pixel[1], pixel[2]]);
            }
        }
    }

    /// Writes a line of text; what the typeface has no letter for is a question mark.
    pub fn write(&mut self, x: i32, y: i32, scale: u32, text: &str, colour: Colour) {
        let mut left = x;
        for mark in text.chars() {
            let letter = BASIC_FONTS.get(mark).or_else(|| LATIN_FONTS.get(mark)).or_else(|| BASIC_FONTS.get('?'));
            for (row, bits) in (0u32..).zip(letter.unwrap_or_default()) {
                for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                    let dot = Rect {
                        x: left.saturating_add_unsigned(column * scale),
                        y: y.saturating_add_unsigned(row * scale),
                        width: scale,
                        height: scale,
                    };
                    self.fill(dot, colour);
                }
            }
            left = left.saturating_add_unsigned(LETTER * scale);
        }
    }
}

/// The first letters of a text, as many as fit into `width` pixels.
pub fn fitting(text: &str, width: u32, scale: u32) -> String {
    let most = (width / (LETTER * scale.max(1))) as usize;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(2)).chain("..".chars()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_letter_leaves_ink_and_a_blank_leaves_none() {
        let inked = |text: &str| {
            let mut canvas = Canvas::new(40, 20, [0; 3]);
            canvas.write(2, 2, 1, text, [255, 0, 0]);
            canvas.into_frame().rgbx.chunks_exact(4).filter(|pixel| pixel[0] == 255).count()
        };
        assert_eq!(inked(" "), 0);
        assert!(inked("A") > 10 && inked("é") > 10);
        assert_eq!(inked("你"), inked("?"));
    }

    #[test]
    fn an_outline_is_hollow() {
        let mut canvas = Canvas::new(10, 10, [0; 3]);
        canvas.outline(Rect { x: 1, y: 1, width: 8, height: 8 }, 2, [9; 3]);
        let count = canvas.into_frame().rgbx.chunks_exact(4).filter(|pixel| pixel[0] == 9).count();
        assert_eq!(count, 64 - 16);
    }

    proptest! {
        #[test]
        fn what_lies_outside_is_not_painted(x in any::<i32>(), y in any::<i32>(), w in 0u32..50, h in 0u32..50, text in "\\PC{0,6}") {
            let mut canvas = Canvas::new(20, 10, [0; 3]);
            canvas.outline(Rect { x, y, width: w, height: h }, 2, [1; 3]);
            canvas.write(x, y, 2, &text, [1; 3]);
            canvas.paste(x, y, &Frame { width: 2, height: 2, rgbx: vec![7; 16] });
            prop_assert_eq!(canvas.into_frame().rgbx.len(), 800);
        }

        #[test]
        fn a_fitting_text_fits(text in "\\PC*", width in 0u32..200) {
            prop_assert!(fitting(&text, width, 1).chars().count() as u32 * LETTER <= width);
        }
    }
}
