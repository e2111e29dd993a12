//! What every room's errors share: a sentence for people, and a class that decides about trying again.

use std::fmt;

/// May the same call succeed later? Decided where the error is made; what nobody classified is not retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It will fail again: bad input, bad credentials, a bug.
    Permanent,
    /// It may pass by itself: a connection lost, a server overloaded, a lock held.
    Transient,
    /// Nobody knows, or it may have taken effect: never repeated blindly.
    Unknown,
}

/// An error that knows its class.
pub trait Classified {
    /// The class of this error.
    fn class(&self) -> Class;
}

/// Something a person has to mend: what is wrong, where it stands, and how to put it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// Where it stands: a file with line, a setting's name, a topic with offset.
    pub place: String,
    /// How to mend it, as a sentence without its full stop.
    pub remedy: String,
}

impl Problem {
    /// A problem from its three parts.
    pub fn new(what: impl Into<String>, place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), place: place.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}.", self.place, self.what, self.remedy)
    }
}

impl std::error::Error for Problem {}
