//! Rectangles and frames, in pixels, origin at the top left.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rect {
    /// Left edge.
    pub x: i32,
    /// Top edge.
    pub y: i32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Rect {
    /// Whether the two have a pixel in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let span = |start: i32, length: u32| (i64::from(start), i64::from(start) + i64::from(length));
        let meet = |(a, a_end): (i64, i64), (b, b_end): (i64, i64)| a.max(b) < a_end.min(b_end);
        meet(span(self.x, self.width), span(other.x, other.width))
            && meet(span(self.y, self.height), span(other.y, other.height))
    }
}

/// The pixels of a region, four bytes each: red, green, blue, unused; rows from the top without padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 4` bytes.
    pub rgbx: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pixels(rect: Rect) -> impl Iterator<Item = (i32, i32)> {
        let (width, height) = (rect.width as i32, rect.height as i32);
        (0..width).flat_map(move |x| (0..height).map(move |y| (rect.x + x, rect.y + y)))
    }

    prop_compose! {
        fn rect()(x in -6..6i32, y in -6..6i32, width in 0..6u32, height in 0..6u32) -> Rect {
            Rect { x, y, width, height }
        }
    }

    proptest! {
        #[test]
        fn overlap_is_a_pixel_in_common(a in rect(), b in rect()) {
            prop_assert_eq!(a.overlaps(&b), pixels(a).any(|one| pixels(b).any(|other| one == other)));
        }
    }

    #[test]
    fn the_edges_of_the_numbers_are_no_trap() {
        let far = Rect { x: i32::MAX, y: i32::MIN, width: u32::MAX, height: u32::MAX };
        assert!(far.overlaps(&far));
    }
}
