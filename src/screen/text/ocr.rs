//! Character recognition of one row of text by Tesseract.
//!
//! `OMP_THREAD_LIMIT=1` must be in the environment before the process starts: with more threads a row takes seconds on
//! a busy machine instead of 20 ms.

use std::ffi::CString;

use tesseract::plumbing::TessBaseApi;

use crate::error::Problem;
use crate::screen::pixels::Grey;

/// What was read of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The text, outer blanks removed.
    pub text: String,
    /// The least confidence of a word, 0 to 1; 0 when nothing was read.
    pub confidence: f64,
}

/// Reads one row of text out of a picture.
pub trait RowReader: std::marker::Send {
    /// The text of `picture`, which is dark on white.
    ///
    /// # Errors
    /// The engine failed; not that there is no text.
    fn read(&mut self, picture: &Grey) -> Result<Reading, Problem>;
}

/// Tesseract's engine with its language data loaded.
pub struct Tesseract {
    engine: TessBaseApi,
}

impl std::fmt::Debug for Tesseract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tesseract")
    }
}

impl Tesseract {
    /// Starts the engine (about 50 ms) with the language data of the usual place.
    ///
    /// # Errors
    /// The language data is missing.
    pub fn start(language: &str) -> Result<Self, Problem> {
        Self::start_in(None, language)
    }

    /// The same with the data of a directory of one's own.
    ///
    /// # Errors
    /// The language data is missing.
    pub fn start_in(directory: Option<&str>, language: &str) -> Result<Self, Problem> {
        let missing = || {
            let package = language.split('+').next().unwrap_or("eng").replace('_', "-");
            Problem::new(
                format!("the language data {language:?} for character recognition is missing"),
                "tesseract",
                format!(
                    "Install the Debian package tesseract-ocr-{package}, let TESSDATA_PREFIX name no other directory, \
                     or change ocr.language in the profile"
                ),
            )
        };
        let name = CString::new(language).map_err(|_| missing())?;
        let directory = directory.map(CString::new).transpose().map_err(|_| missing())?;
        let mut engine = TessBaseApi::create();
        // First, so that the engine itself prints nothing.
        engine.set_variable(c"debug_file", c"/dev/null").map_err(|_| missing())?;
        engine.init_2(directory.as_deref(), Some(&name)).map_err(|_| missing())?;
        engine.set_page_seg_mode(tesseract::plumbing::tesseract_sys::TessPageSegMode_PSM_SINGLE_LINE);
        for (key, value) in [(c"preserve_interword_spaces", c"1"), (c"user_defined_dpi", c"200")] {
            engine.set_variable(key, value).map_err(|_| missing())?;
        }
        Ok(Self { engine })
    }
}

impl RowReader for Tesseract {
    fn read(&mut self, picture: &Grey) -> Result<Reading, Problem> {
        let failed = |what: &str| {
            Problem::new(
                format!("character recognition failed ({what})"),
                "tesseract",
                "Report this with the picture of `autoreply profile check`",
            )
        };
        let (width, height) = (i32::try_from(picture.width), i32::try_from(picture.height));
        let (Ok(width), Ok(height)) = (width, height) else { return Err(failed("the row is too large")) };
        self.engine
            .set_image(&picture.pixels, width, height, 1, width)
            .map_err(|_| failed("the picture was not taken"))?;
        self.engine.recognize().map_err(|_| failed("the engine gave up"))?;
        let text = self.engine.get_utf8_text().map_err(|_| failed("there is no text"))?;
        let text = text.as_ref().to_string_lossy().trim().to_owned();
        let words = self.engine.all_word_confidences().map_err(|_| failed("there is no confidence"))?;
        let least = words.as_slice().iter().copied().filter(|confidence| *confidence >= 0).min();
        let confidence = if text.is_empty() { 0.0 } else { f64::from(least.unwrap_or(0)) / 100.0 };
        Ok(Reading { text, confidence })
    }
}
