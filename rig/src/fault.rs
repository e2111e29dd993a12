//! What can go wrong with the desk, in sentences.

use std::path::PathBuf;
use std::time::Duration;

/// Why the private desktop could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A program could not be started.
    #[error(
        "`{program}` could not be started: {source}. Install the package that holds it (scripts/install-run-deps)."
    )]
    Start {
        /// The program as it was called.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A child ended although it is needed.
    #[error("{name} ended early ({status}); its log is {}.", log.display())]
    Ended {
        /// The child's name on the desk.
        name: String,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
    },
    /// Something that should have come did not.
    #[error("{what} did not come within {:.1} s; look into {}.", within.as_secs_f32(), log.display())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// The log of whoever should have done it.
        log: PathBuf,
    },
    /// A file or a socket failed.
    #[error("{what} failed: {source}.")]
    Io {
        /// What was tried, with the path or address.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The display refused a request or went away.
    #[error("the display did not do what was asked: {0}.")]
    Display(Box<dyn std::error::Error + Send + Sync>),
    /// No window, or more than one, has the title.
    #[error("{found} windows have \"{title}\" in their title, and exactly one is needed.")]
    Window {
        /// The part of the title that was looked for.
        title: String,
        /// How many windows have it.
        found: usize,
    },
    /// The keyboard map of the display has no key for a character.
    #[error("the display's keyboard has no key for {0:?}; the person types only what is on it.")]
    NoKey(char),
    /// A peer was asked to say what IRC cannot carry.
    #[error("the line cannot be said over IRC: {0}.")]
    Unsayable(&'static str),
}

impl Fault {
    /// Names what was tried when the system refused it.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

macro_rules! display_faults {
    ($($error:ty),*) => { $(impl From<$error> for Fault {
        fn from(error: $error) -> Self { Self::Display(Box::new(error)) }
    })* };
}
display_faults!(
    x11rb::errors::ConnectError,
    x11rb::errors::ConnectionError,
    x11rb::errors::ReplyError,
    x11rb::errors::ReplyOrIdError
);
