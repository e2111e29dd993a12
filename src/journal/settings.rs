//! The section `[journal]` of the settings.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::TurnSettings;
use crate::contract::Mode;
use crate::error::Problem;

/// The section `[journal]`; each key is explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The journal file; empty means `autoreply/journal.db` in the user's data directory.
    pub path: String,
    /// How far this desktop may go by itself.
    pub mode: Mode,
    /// The ceiling for each profile, by its name.
    pub profile_modes: BTreeMap<String, Mode>,
    /// Peers that may be answered automatically without having been approved once; `*` means all.
    pub trusted_peers: Vec<String>,
    /// Milliseconds of quiet after which a turn is published.
    pub quiet_ms: u64,
    /// Milliseconds after which it is published although it is not quiet.
    pub quiet_max_ms: u64,
    /// Milliseconds after which a message is too old to be answered when it is first seen.
    pub age_limit_ms: u64,
    /// Milliseconds a command lives from its arrival.
    pub command_ttl_ms: u64,
    /// Milliseconds a command lives from the detection of what it answers.
    pub detection_ttl_ms: u64,
    /// Milliseconds after which an unacknowledged publication is repeated.
    pub acknowledge_within_ms: u64,
    /// Automatic replies in a row without a human.
    pub consecutive_cap: u32,
    /// Automatic replies an hour, a conversation.
    pub hourly_cap: u32,
    /// Lines of context that travel with a turn.
    pub context_lines: usize,
    /// Days after which rows of ended turns are deleted.
    pub retention_days: u32,
    /// Days after which the text of messages and replies is deleted.
    pub text_days: u32,
}

impl Settings {
    /// Whether the values fit each other.
    ///
    /// # Errors
    /// The first that does not, and how to mend it.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("journal.{key}"), remedy));
        if self.quiet_ms == 0 {
            return wrong("quiet_ms", "a turn needs some quiet", "Set at least 1");
        }
        if self.quiet_max_ms < self.quiet_ms {
            return wrong("quiet_max_ms", "it is shorter than quiet_ms", "Set it to quiet_ms or more");
        }
        if self.command_ttl_ms == 0 || self.acknowledge_within_ms == 0 {
            return wrong("command_ttl_ms", "it and acknowledge_within_ms must not be 0", "Set at least 1000");
        }
        if self.detection_ttl_ms < self.command_ttl_ms {
            return wrong("detection_ttl_ms", "it is shorter than command_ttl_ms", "Set it to command_ttl_ms or more");
        }
        if self.text_days == 0 || self.retention_days < self.text_days {
            return wrong(
                "retention_days",
                "rows must stay at least as long as text, and text at least a day",
                "Set text_days to 1 or more and retention_days to text_days or more",
            );
        }
        if self.context_lines > 200 {
            return wrong("context_lines", "more than 200 lines do not fit a record", "Set 200 or less");
        }
        Ok(())
    }

    /// What the journal works with.
    pub fn turns(&self) -> TurnSettings {
        TurnSettings {
            quiet: Duration::from_millis(self.quiet_ms),
            quiet_max: Duration::from_millis(self.quiet_max_ms),
            age_limit: Duration::from_millis(self.age_limit_ms),
            command_ttl: Duration::from_millis(self.command_ttl_ms),
            detection_ttl: Duration::from_millis(self.detection_ttl_ms),
            acknowledge_within: Duration::from_millis(self.acknowledge_within_ms),
            consecutive_cap: self.consecutive_cap,
            hourly_cap: self.hourly_cap,
            mode: self.mode,
            profile_modes: self.profile_modes.clone(),
            trusted_peers: self.trusted_peers.clone(),
            own_names: Vec::new(),
            context_lines: self.context_lines,
        }
    }

    /// How long texts are kept.
    pub fn keep_text(&self) -> Duration {
        Duration::from_secs(u64::from(self.text_days) * 86_400)
    }

    /// How long rows are kept.
    pub fn keep_rows(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_days) * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Settings {
        let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        all["journal"].clone().try_into().unwrap()
    }

    #[test]
    fn the_defaults_fit_and_are_the_agreed_ones() {
        let settings = defaults();
        settings.check().unwrap();
        let turns = settings.turns();
        assert_eq!((turns.quiet.as_millis(), turns.quiet_max.as_secs()), (1500, 8));
        assert_eq!((turns.command_ttl.as_secs(), turns.detection_ttl.as_secs()), (120, 600));
        assert_eq!((turns.age_limit.as_secs(), turns.acknowledge_within.as_secs()), (600, 10));
        assert_eq!((turns.consecutive_cap, turns.hourly_cap, turns.mode), (3, 20, Mode::Draft));
        assert_eq!((settings.keep_text().as_secs(), settings.keep_rows().as_secs()), (7 * 86_400, 30 * 86_400));
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let good = defaults();
        for (bad, key) in [
            (Settings { quiet_ms: 0, ..good.clone() }, "quiet_ms"),
            (Settings { quiet_max_ms: 1, ..good.clone() }, "quiet_max_ms"),
            (Settings { detection_ttl_ms: 1, ..good.clone() }, "detection_ttl_ms"),
            (Settings { command_ttl_ms: 0, ..good.clone() }, "command_ttl_ms"),
            (Settings { retention_days: 1, ..good.clone() }, "retention_days"),
            (Settings { context_lines: 1000, ..good.clone() }, "context_lines"),
        ] {
            assert!(bad.check().unwrap_err().place.ends_with(key), "{key}");
        }
    }
}
