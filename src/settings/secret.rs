//! Secrets by reference: the settings name a place, whoever starts a role reads it.

use std::fmt;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// In this environment variable.
    Environment(String),
    /// In this file.
    File(String),
}

impl SecretReference {
    /// The reference of a pair of settings, of which the variable wins; `None` when both are empty.
    pub fn of(variable: &str, file: &str) -> Option<Self> {
        match (variable, file) {
            ("", "") => None,
            ("", file) => Some(Self::File(file.to_owned())),
            (variable, _) => Some(Self::Environment(variable.to_owned())),
        }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {path}"),
        }
    }
}
