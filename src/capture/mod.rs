//! Change on the screen becomes lines, and lines become messages: a loop that reads the panes that changed, a
//! transcript that tells what is new in them, and the journal that keeps both.

mod likeness;
mod overlap;
mod seams;
mod settings;
pub mod transcript;
mod watcher;

pub use seams::{FindWindows, Found, JournalLooks, Looks, ModeGate, Observer, Target, ViewReader};
pub use settings::Settings;
pub use watcher::Watcher;
