//! The ledger's settings; each is explained in `config.default.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::error::Problem;
use crate::saga::Retention;

/// The section `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The SQLite file; empty means the place that the role chooses.
    pub path: PathBuf,
    /// Replies a day (UTC), reserved and used together.
    pub daily_quota: u64,
    /// Days for which ended sagas and their stories are kept.
    pub retention_days: u32,
    /// Days for which the chat text of ended sagas is kept.
    pub text_days: u32,
}

impl Settings {
    /// Holds the values against each other.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn check(&self) -> Result<(), Problem> {
        if self.retention_days == 0 || self.text_days == 0 || self.text_days > self.retention_days {
            return Err(Problem::new(
                format!("text is kept for {} days and rows for {} days", self.text_days, self.retention_days),
                "ledger.text_days",
                "Set both to at least 1, and text_days to no more than retention_days",
            ));
        }
        if i64::try_from(self.daily_quota).is_err() {
            return Err(Problem::new(
                "the quota is beyond counting",
                "ledger.daily_quota",
                "Set it to a smaller number",
            ));
        }
        Ok(())
    }

    /// The two ages in one.
    pub fn retention(&self) -> Retention {
        let days = |count: u32| Duration::from_secs(u64::from(count) * 86_400);
        Retention { rows: days(self.retention_days), text: days(self.text_days) }
    }
}
