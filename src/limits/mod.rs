//! Rates and session memory, in this process.
//!
//! Every adapter of the two ports must pass `conformance`; what is here is also what a worker falls back to when a
//! shared store is away.

#[cfg(test)]
pub(crate) mod conformance;
mod in_process;
mod memory;

use std::num::NonZeroU32;

use serde::Deserialize;

pub use in_process::InProcessLimits;
pub use memory::InProcessMemory;

use crate::error::Problem;

/// The settings of this room; `config.default.toml` says what each key does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Generated replies a conversation may have in a minute, on average.
    pub replies_per_minute: NonZeroU32,
    /// How many of them may come at once.
    pub burst: NonZeroU32,
    /// How long an exchange is remembered.
    pub memory_hours: u32,
    /// The most conversations that are remembered.
    pub memory_conversations: usize,
    /// The most exchanges that are remembered of a conversation.
    pub memory_exchanges: usize,
    /// The most characters that are remembered of a question or a reply.
    pub memory_chars: usize,
}

impl Settings {
    /// Whether the values fit each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Problem> {
        if self.memory_conversations == 0 {
            let remedy = "Write 1 or more; memory_exchanges = 0 switches the memory off";
            return Err(Problem::new("this must not be 0", "limits.memory_conversations", remedy));
        }
        if self.memory_hours > 24 * 31 {
            return Err(Problem::new("the memory is kept too long", "limits.memory_hours", "Write 744 or less"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit() {
        let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        let settings: Settings = all["limits"].clone().try_into().unwrap();
        assert_eq!(settings.check(), Ok(()));
        assert!(Settings { memory_conversations: 0, ..settings.clone() }.check().is_err());
        assert!(Settings { memory_hours: 1000, ..settings }.check().is_err());
    }
}
