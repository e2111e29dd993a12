//! From pixels to rows of ink. Pure.
//!
//! Text is found by its distance from the background, not by its brightness: coloured names and dark themes then read
//! alike (measured: 2% instead of 30% character errors on small proportional text).

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::geometry::{Frame, Rect};

/// The share of rows that a column of ink must fill to count as a rule.
const RULE_SHARE: f32 = 0.9;
/// Blank pixel rows within one row of text: the gap between an i and its dot, between the strokes of an equals sign.
const MOST_GAP: u32 = 3;
/// Ink (0 to 255) from which a pixel counts.
const INK: u8 = 64;
/// How far a pixel's channels may lie apart and still be called grey (smoothing colours the edges of letters a little).
const GREY_SPREAD: i32 = 48;

impl Frame {
    /// The bytes of one pixel row.
    pub fn row(&self, y: u32) -> &[u8] {
        let width = self.width as usize * 4;
        let start = y as usize * width;
        self.rgbx.get(start..start + width).unwrap_or_default()
    }

    fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = x as usize * 4;
        match self.row(y).get(at..at + 3) {
            Some(&[red, green, blue]) => [red, green, blue],
            _ => [0; 3],
        }
    }

    /// The part of the frame that lies in `area`.
    pub fn crop(&self, area: Rect) -> Self {
        let x = u32::try_from(area.x).unwrap_or(0).min(self.width);
        let y = u32::try_from(area.y).unwrap_or(0).min(self.height);
        let (width, height) = (area.width.min(self.width - x), area.height.min(self.height - y));
        let (from, to) = (x as usize * 4, (x + width) as usize * 4);
        let rgbx = (y..y + height).flat_map(|row| self.row(row).get(from..to).unwrap_or_default()).copied().collect();
        Self { width, height, rgbx }
    }
}

/// A hash of all pixels: equal means nothing changed.
pub fn digest(frame: &Frame) -> u64 {
    xxh3_64(&frame.rgbx)
}

/// The most frequent colour, in steps of eight so that a gradient does not split it.
pub fn background(frame: &Frame) -> [u8; 3] {
    let mut counts: BTreeMap<[u8; 3], (usize, [u8; 3])> = BTreeMap::new();
    for pixel in frame.rgbx.chunks_exact(4).step_by(3) {
        let exact = [pixel[0], pixel[1], pixel[2]];
        let entry = counts.entry(exact.map(|channel| channel >> 3)).or_insert((0, exact));
        entry.0 += 1;
    }
    counts.into_values().max_by_key(|(count, _)| *count).map_or([255; 3], |(_, colour)| colour)
}

/// How much ink each pixel holds: 0 for the background, 255 for what is far from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ink {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    values: Vec<u8>,
}

impl Ink {
    /// The ink of a frame: `gain` times the greatest distance of a channel from the background.
    pub fn of(frame: &Frame, background: [u8; 3], gain: f32) -> Self {
        let strength: Vec<u8> = (0..=255u16).map(|distance| (f32::from(distance) * gain).min(255.0) as u8).collect();
        let values = frame
            .rgbx
            .chunks_exact(4)
            .map(|pixel| {
                let distance = (0..3).map(|channel| pixel[channel].abs_diff(background[channel])).max().unwrap_or(0);
                strength[usize::from(distance)]
            })
            .collect();
        Self { width: frame.width, height: frame.height, values }
    }

    /// The ink of one pixel; outside there is none.
    pub fn at(&self, x: u32, y: u32) -> u8 {
        if x >= self.width { 0 } else { self.values.get((y * self.width + x) as usize).copied().unwrap_or(0) }
    }

    fn has_ink(&self, x: u32, y: u32) -> bool {
        self.at(x, y) >= INK
    }

    /// The columns of full-height vertical rules, as half-open ranges from left to right. A pixel column belongs to one
    /// if there is something in nearly all of its rows; rules are often faint, so any distance from the background counts.
    pub fn rules(&self) -> Vec<(u32, u32)> {
        let needed = (self.height as f32 * RULE_SHARE) as u32;
        let is_rule =
            |x: u32| self.height >= 20 && (0..self.height).filter(|y| self.at(x, *y) >= 16).count() as u32 >= needed;
        runs((0..self.width).map(is_rule))
    }

    /// Clears the columns of these ranges.
    pub fn erase(&mut self, columns: &[(u32, u32)]) {
        for &(from, to) in columns {
            for y in 0..self.height {
                for x in from..to.min(self.width) {
                    self.values[(y * self.width + x) as usize] = 0;
                }
            }
        }
    }

    /// Rows of text, as half-open ranges of pixel rows from the top. Parts that lie close together are one row as long as
    /// they are not higher than the pane's usual row: tall glyphs of two rows may nearly touch.
    pub fn text_rows(&self) -> Vec<(u32, u32)> {
        let inked = runs((0..self.height).map(|y| (0..self.width).any(|x| self.has_ink(x, y))));
        let mut heights: Vec<u32> =
            inked.iter().map(|(top, bottom)| bottom - top).filter(|height| *height >= 8).collect();
        heights.sort_unstable();
        let usual = heights.get(heights.len() / 2).map_or(u32::MAX, |height| height + 2);
        let mut rows: Vec<(u32, u32)> = Vec::new();
        for (top, bottom) in inked {
            match rows.last_mut() {
                Some(last) if top - last.1 <= MOST_GAP && bottom - last.0 <= usual => last.1 = bottom,
                _ => rows.push((top, bottom)),
            }
        }
        rows
    }

    /// The columns between the first and the last ink in these pixel rows; `None` if there is none.
    pub fn span(&self, rows: (u32, u32), columns: (u32, u32)) -> Option<(u32, u32)> {
        let inked = |x: &u32| (rows.0..rows.1).any(|y| self.has_ink(*x, y));
        let first = (columns.0..columns.1.min(self.width)).find(inked)?;
        let last = (first..columns.1.min(self.width)).rev().find(inked)?;
        Some((first, last + 1))
    }

    /// How many separate blobs of ink lie in an area; pixels that touch at a corner belong together.
    pub fn blobs(&self, area: Rect) -> usize {
        let mut open: BTreeSet<(u32, u32)> = points(area).filter(|(x, y)| self.has_ink(*x, *y)).collect();
        let mut count = 0;
        while let Some(start) = open.pop_first() {
            count += 1;
            let mut edge = vec![start];
            while let Some((x, y)) = edge.pop() {
                for (dx, dy) in (0..3).flat_map(|dx| (0..3).map(move |dy| (dx, dy))) {
                    let next = ((x + dx).wrapping_sub(1), (y + dy).wrapping_sub(1));
                    if open.remove(&next) {
                        edge.push(next);
                    }
                }
            }
        }
        count
    }

    /// The area as dark text on white, enlarged `scale` times with linear interpolation and a white border.
    pub fn enlarge(&self, area: Rect, scale: u32) -> Grey {
        const BORDER: u32 = 10;
        let (width, height) = (area.width * scale + 2 * BORDER, area.height * scale + 2 * BORDER);
        let (left, top) = (u32::try_from(area.x).unwrap_or(0), u32::try_from(area.y).unwrap_or(0));
        let mut pixels = vec![255u8; (width * height) as usize];
        let step = 1.0 / scale as f32;
        for y in 0..area.height * scale {
            let (y0, fy) = source(y, step, area.height);
            for x in 0..area.width * scale {
                let (x0, fx) = source(x, step, area.width);
                let at = |dx: u32, dy: u32| {
                    let (px, py) = ((x0 + dx).min(area.width - 1), (y0 + dy).min(area.height - 1));
                    f32::from(self.at(left + px, top + py))
                };
                let upper = at(0, 0) * (1.0 - fx) + at(1, 0) * fx;
                let lower = at(0, 1) * (1.0 - fx) + at(1, 1) * fx;
                let ink = upper * (1.0 - fy) + lower * fy;
                pixels[((y + BORDER) * width + x + BORDER) as usize] = 255 - ink.round().min(255.0) as u8;
            }
        }
        Grey { width, height, pixels }
    }
}

/// The source pixel and the fraction towards the next for a pixel of the enlargement.
fn source(at: u32, step: f32, length: u32) -> (u32, f32) {
    let position = ((at as f32 + 0.5) * step - 0.5).clamp(0.0, (length - 1) as f32);
    (position as u32, position.fract())
}

/// A grey picture, a byte a pixel, for character recognition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height` bytes, 255 is white.
    pub pixels: Vec<u8>,
}

/// The half-open ranges in which a condition holds.
fn runs(holds: impl Iterator<Item = bool>) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for (index, holds) in (0u32..).zip(holds) {
        at = index + 1;
        match (holds, start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                found.push((from, index));
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| (from, at)));
    found
}

/// A hash of the pixels of an area: the same text at another height has the same.
pub fn area_digest(frame: &Frame, area: Rect) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&area.width.to_le_bytes());
    let x = u32::try_from(area.x).unwrap_or(0) as usize * 4;
    for y in 0..area.height {
        let row = frame.row(u32::try_from(area.y).unwrap_or(0) + y);
        hash.update(row.get(x..(x + area.width as usize * 4).min(row.len())).unwrap_or_default());
    }
    hash.digest()
}

/// The average colour of the strongest ink of an area: what its text is painted with. `None` if there is no ink.
pub fn text_colour(frame: &Frame, ink: &Ink, area: Rect) -> Option<[u8; 3]> {
    let (mut sum, mut count) = ([0u64; 3], 0u64);
    for (x, y) in points(area) {
        if ink.at(x, y) >= 200 {
            let pixel = frame.pixel(x, y);
            (0..3).for_each(|channel| sum[channel] += u64::from(pixel[channel]));
            count += 1;
        }
    }
    (count > 0).then(|| sum.map(|channel| (channel / count) as u8))
}

/// How many inked pixels of an area are coloured although its text is grey: emoji are.
pub fn coloured_pixels(frame: &Frame, ink: &Ink, area: Rect) -> usize {
    points(area)
        .filter(|(x, y)| ink.has_ink(*x, *y))
        .filter(|(x, y)| {
            let [red, green, blue] = frame.pixel(*x, *y).map(i32::from);
            red.max(green).max(blue) - red.min(green).min(blue) > GREY_SPREAD
        })
        .count()
}

fn points(area: Rect) -> impl Iterator<Item = (u32, u32)> {
    let (left, top) = (u32::try_from(area.x).unwrap_or(0), u32::try_from(area.y).unwrap_or(0));
    (top..top + area.height).flat_map(move |y| (left..left + area.width).map(move |x| (x, y)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blank(width: u32, height: u32, colour: [u8; 3]) -> Frame {
        let pixel = [colour[0], colour[1], colour[2], 0];
        Frame { width, height, rgbx: pixel.repeat((width * height) as usize) }
    }

    fn paint(frame: &mut Frame, area: Rect, colour: [u8; 3]) {
        for (x, y) in points(area) {
            let at = ((y * frame.width + x) * 4) as usize;
            frame.rgbx[at..at + 3].copy_from_slice(&colour);
        }
    }

    fn area(x: i32, y: i32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn a_faint_rule_is_found_and_erased_and_rows_are_told_apart() {
        let mut frame = blank(100, 60, [250, 250, 248]);
        paint(&mut frame, area(40, 0, 1, 60), [200, 200, 220]);
        paint(&mut frame, area(5, 5, 20, 10), [30, 30, 30]);
        paint(&mut frame, area(50, 5, 2, 2), [30, 30, 30]);
        paint(&mut frame, area(50, 9, 2, 6), [30, 30, 30]);
        paint(&mut frame, area(50, 25, 30, 12), [30, 30, 30]);
        let mut ink = Ink::of(&frame, background(&frame), 1.8);
        assert_eq!(ink.rules(), [(40, 41)]);
        ink.erase(&[(40, 41)]);
        assert_eq!(ink.text_rows(), [(5, 15), (25, 37)]);
        assert_eq!(ink.span((25, 37), (0, 100)), Some((50, 80)));
        assert_eq!(ink.span((5, 15), (60, 100)), None);
    }

    #[test]
    fn a_dark_theme_gives_the_same_ink() {
        let (mut light, mut dark) = (blank(40, 20, [255; 3]), blank(40, 20, [0; 3]));
        paint(&mut light, area(4, 4, 8, 8), [0; 3]);
        paint(&mut dark, area(4, 4, 8, 8), [255; 3]);
        let ink = |frame: &Frame| Ink::of(frame, background(frame), 1.8);
        assert_eq!(ink(&light), ink(&dark));
    }

    #[test]
    fn an_area_has_the_same_digest_at_another_height() {
        let mut frame = blank(40, 60, [255; 3]);
        paint(&mut frame, area(4, 4, 8, 8), [0; 3]);
        paint(&mut frame, area(4, 34, 8, 8), [0; 3]);
        assert_eq!(area_digest(&frame, area(0, 2, 40, 12)), area_digest(&frame, area(0, 32, 40, 12)));
        assert_ne!(area_digest(&frame, area(0, 2, 40, 12)), area_digest(&frame, area(0, 33, 40, 12)));
    }

    #[test]
    fn coloured_glyphs_are_seen() {
        let mut frame = blank(40, 20, [255; 3]);
        paint(&mut frame, area(4, 4, 8, 8), [40, 40, 45]);
        let whole = area(0, 0, 40, 20);
        let count = |frame: &Frame| coloured_pixels(frame, &Ink::of(frame, [255; 3], 1.8), whole);
        assert_eq!(count(&frame), 0);
        paint(&mut frame, area(20, 4, 8, 8), [255, 200, 30]);
        assert_eq!(count(&frame), 64);
    }

    #[test]
    fn blobs_are_counted_and_corners_join_them() {
        let mut frame = blank(40, 20, [255; 3]);
        paint(&mut frame, area(4, 2, 2, 2), [0; 3]);
        paint(&mut frame, area(4, 6, 2, 8), [0; 3]);
        paint(&mut frame, area(6, 14, 2, 2), [0; 3]);
        paint(&mut frame, area(30, 19, 10, 1), [0; 3]);
        let ink = Ink::of(&frame, [255; 3], 1.8);
        assert_eq!(ink.blobs(area(0, 0, 40, 20)), 3);
        assert_eq!(ink.blobs(area(0, 0, 40, 5)), 1);
        assert_eq!(ink.blobs(area(10, 0, 10, 20)), 0);
    }

    proptest! {
        #[test]
        fn any_frame_is_looked_at_without_a_panic(width in 0u32..40, height in 0u32..40, seed in any::<u8>(), scale in 1u32..4) {
            let bytes = (0..width * height * 4).map(|at| (at as u8).wrapping_mul(seed)).collect();
            let frame = Frame { width, height, rgbx: bytes };
            let mut ink = Ink::of(&frame, background(&frame), 1.8);
            let rules = ink.rules();
            ink.erase(&rules);
            let rows = ink.text_rows();
            prop_assert!(rows.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (top, bottom) in rows {
                prop_assert!(top < bottom && bottom <= height);
                let grey = ink.enlarge(area(0, top as i32, width, bottom - top), scale);
                prop_assert_eq!(grey.pixels.len() as u32, grey.width * grey.height);
            }
        }
    }
}
