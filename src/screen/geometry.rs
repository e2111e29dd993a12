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
