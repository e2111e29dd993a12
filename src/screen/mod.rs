//! What can be seen: windows, pixels, text. Other systems are other implementations of these traits, not branches.

pub mod geometry;
pub mod pane;
pub mod text;
pub mod window;
pub mod x11;
