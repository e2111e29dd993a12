//! Text of a window: by accessibility, by character recognition.

pub mod accessibility;
pub mod ocr;
