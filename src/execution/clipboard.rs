//! The clipboard, borrowed for a paste and given back.

use arboard::{Clipboard, Error};

/// The person's clipboard while ours is in its place. It holds chat text and is never logged.
pub struct Loan {
    ours: String,
    theirs: Option<String>,
}

impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loan").field("held_text", &self.theirs.is_some()).finish_non_exhaustive()
    }
}

/// Puts `text` into the clipboard and keeps what was there.
///
/// # Errors
/// The clipboard cannot be used, as a sentence without its content.
pub fn lend(clipboard: &mut Clipboard, text: &str) -> Result<Loan, String> {
    let theirs = match clipboard.get_text() {
        Ok(theirs) => Some(theirs),
        Err(Error::ContentNotAvailable | Error::ConversionFailure) => None,
        Err(error) => return Err(format!("the clipboard cannot be read: {error}")),
    };
    clipboard.set_text(text).map_err(|error| format!("the clipboard cannot be set: {error}"))?;
    Ok(Loan { ours: text.to_owned(), theirs })
}

/// Gives the clipboard back, unless somebody has copied something else meanwhile. What was not text (an image) cannot be
/// given back: the clipboard is then empty, and `false` says so.
///
/// # Errors
/// The clipboard cannot be used.
pub fn give_back(clipboard: &mut Clipboard, loan: Loan) -> Result<bool, String> {
    if clipboard.get_text().ok().as_ref() != Some(&loan.ours) {
        return Ok(true);
    }
    let held_text = loan.theirs.is_some();
    let back = match loan.theirs {
        Some(theirs) => clipboard.set_text(theirs),
        None => clipboard.clear(),
    };
    back.map(|()| held_text).map_err(|error| format!("the clipboard cannot be given back: {error}"))
}
