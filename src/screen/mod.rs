//! What can be seen: windows, pixels, text. Other systems are other implementations of these traits, not branches.

mod canvas;
pub mod check;
pub mod geometry;
pub mod matching;
pub mod pane;
pub mod pixels;
pub mod profile;
pub mod reader;
pub mod text;
pub mod window;
pub mod x11;
pub mod x11_input;

#[cfg(test)]
mod reader_tests;
