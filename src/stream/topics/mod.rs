//! The topics as reviewed data: `topics/*.toml`, embedded.

mod admin;
pub mod plan;

use serde::Deserialize;

use crate::error::Problem;

/// The files, by name.
const FILES: [(&str, &str); 5] = [
    ("topics/messages.toml", include_str!("../../../topics/messages.toml")),
    ("topics/commands.toml", include_str!("../../../topics/commands.toml")),
    ("topics/outcomes.toml", include_str!("../../../topics/outcomes.toml")),
    ("topics/controls.toml", include_str!("../../../topics/controls.toml")),
    ("topics/dead-letters.toml", include_str!("../../../topics/dead-letters.toml")),
];

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupPolicy {
    /// They are deleted after the retention.
    Delete,
    /// The last one of each key is kept.
    Compact,
}

impl CleanupPolicy {
    /// The name as Kafka's configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What its records are keyed by, for people.
    pub key: String,
    /// How many partitions; fixed on day one, since more would break the order of keys.
    pub partitions: i32,
    /// What happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// How long records are kept; -1 for ever.
    pub retention_ms: i64,
    /// How long a segment grows; retention and compaction go by whole segments.
    pub segment_ms: i64,
    /// The most bytes of a record.
    pub max_message_bytes: i64,
    /// The types of its records; the schema of each stands in `topics/schemas/`.
    pub schemas: Vec<String>,
    /// The roles that write it.
    pub writers: Vec<String>,
    /// The roles that read it.
    pub readers: Vec<String>,
}

impl Topic {
    /// Its settings as Kafka spells them. `LogAppendTime` lets a desktop with a wrong clock publish.
    pub fn config(&self) -> Vec<(&'static str, String)> {
        vec![
            ("cleanup.policy", self.cleanup_policy.as_str().to_owned()),
            ("retention.ms", self.retention_ms.to_string()),
            ("segment.ms", self.segment_ms.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ]
    }
}

/// Every topic.
///
/// # Errors
/// When a file in the program is not a topic; a test proves that none is.
pub fn all() -> Result<Vec<Topic>, Problem> {
    let read = |(place, text): (&str, &str)| {
        toml::from_str(text).map_err(|error| Problem::new(error.message().to_owned(), place, "Correct the file"))
    };
    FILES.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
