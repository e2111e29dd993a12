//! The section `[capture]` of the settings.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Problem;

/// The section `[capture]`; each key is explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds between two rounds.
    pub poll_ms: u64,
    /// Milliseconds after which a pane is captured although nothing told of a change.
    pub safety_ms: u64,
    /// Milliseconds a changing pane is given to come to rest.
    pub settle_ms: u64,
    /// Milliseconds between two searches for windows.
    pub windows_ms: u64,
    /// Lines of a conversation that are kept to align with.
    pub transcript_lines: usize,
}

impl Settings {
    /// Checks that the values fit.
    ///
    /// # Errors
    /// The first key that does not, and what would.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("capture.{key}"), remedy));
        if !(10..=250).contains(&self.poll_ms) {
            return wrong("poll_ms", "a stop must be noticed within 300 ms", "Set it to 10 to 250");
        }
        if self.safety_ms < self.poll_ms {
            return wrong("safety_ms", "it is shorter than poll_ms", "Set it to poll_ms at least");
        }
        if self.settle_ms > self.safety_ms {
            return wrong("settle_ms", "it is longer than safety_ms", "Set it to safety_ms at most");
        }
        if self.windows_ms < self.poll_ms {
            return wrong("windows_ms", "it is shorter than poll_ms", "Set it to poll_ms at least");
        }
        if !(50..=5000).contains(&self.transcript_lines) {
            return wrong(
                "transcript_lines",
                "a pane must fit in it, and a look must stay quick",
                "Set it to 50 to 5000",
            );
        }
        Ok(())
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(super) fn safety(&self) -> Duration {
        Duration::from_millis(self.safety_ms)
    }

    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }

    pub(super) fn windows(&self) -> Duration {
        Duration::from_millis(self.windows_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        capture: Settings,
    }

    #[test]
    fn the_defaults_are_sound_and_bad_values_are_named() {
        let defaults = toml::from_str::<File>(include_str!("../../config.default.toml")).unwrap().capture;
        assert_eq!(defaults.check(), Ok(()));
        let named = |settings: Settings| settings.check().unwrap_err().place;
        assert_eq!(named(Settings { poll_ms: 500, ..defaults.clone() }), "capture.poll_ms");
        assert_eq!(named(Settings { safety_ms: 1, ..defaults.clone() }), "capture.safety_ms");
        assert_eq!(named(Settings { settle_ms: 9999, ..defaults.clone() }), "capture.settle_ms");
        assert_eq!(named(Settings { windows_ms: 1, ..defaults.clone() }), "capture.windows_ms");
        assert_eq!(named(Settings { transcript_lines: 3, ..defaults }), "capture.transcript_lines");
    }
}
