//! The section `[stream]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::names::is_prefix;
use crate::error::Problem;
use crate::retry::Schedule;

/// The value of `brokers` that starts a broker in this process.
pub const EMBEDDED: &str = "embedded";

/// Client properties that promises rest on; they may not be overridden.
const FIXED: [&str; 9] = [
    "bootstrap.servers",
    "partitioner",
    "acks",
    "enable.idempotence",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "group.id",
    "group.instance.id",
];

/// How to reach Kafka, and how much to take at once. The keys are explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `embedded`, or addresses `host:port` joined by commas.
    pub brokers: String,
    /// What the names of the topics begin with on the broker.
    pub topic_prefix: String,
    /// Copies of each partition on a real Kafka; 0 for three, or as many as there are brokers.
    pub replication_factor: u16,
    /// The consumer group of the workers.
    pub worker_group: String,
    /// This process's own name in the group, kept over its restarts (static membership); empty for none.
    pub group_instance_id: String,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: String,
    /// The certificates that the brokers' are signed with, in PEM; empty for those of the system.
    pub ca_file: String,
    /// This process's own certificate in PEM; empty for none.
    pub certificate_file: String,
    /// Its key in PEM.
    pub key_file: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: String,
    /// The user.
    pub sasl_username: String,
    /// The file that holds the password and nothing else.
    pub sasl_password_file: String,
    /// The variable of the environment that holds the password.
    pub sasl_password_env: String,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// How long the producer gathers records before it sends them; none on the embedded broker.
    pub linger_ms: u64,
    /// How long acknowledgements, which nobody waits for, are gathered; none on the embedded broker.
    pub gather_ms: u64,
    /// Records that may wait in the producer.
    pub queue_max_records: u32,
    /// How long a record may take to be taken by the broker.
    pub publish_timeout_ms: u64,
    /// The most records handed over at once.
    pub batch_max_records: usize,
    /// The most bytes handed over at once; a single larger record is handed over alone.
    pub batch_max_bytes: usize,
    /// How long a real broker may hold back a fetch that finds nothing; it answers at once when something comes.
    pub fetch_wait_ms: u64,
    /// The same for the embedded broker, which does not wake a waiting fetch: this is latency.
    pub embedded_fetch_wait_ms: u64,
    /// After this long without a heartbeat the group gives a member's partitions away.
    pub session_timeout_ms: u64,
    /// After this long without a poll the group gives a member's partitions away.
    pub max_poll_interval_ms: u64,
    /// How often the group is told at most how far the partitions are done.
    pub commit_every_ms: u64,
    /// The first wait before a batch that was not done is handed over again.
    pub redeliver_initial_ms: u64,
    /// The longest such wait.
    pub redeliver_max_ms: u64,
    /// After this long with one batch the partitions are paused and only heartbeats go on.
    pub pause_after_ms: u64,
    /// How often a consumer looks how far it is behind, and whether its topics are still the same ones.
    pub survey_every_ms: u64,
    /// Client properties of librdkafka that are passed through.
    #[serde(default)]
    pub client: BTreeMap<String, String>,
}

impl Settings {
    /// Whether the broker lives in this process.
    pub fn is_embedded(&self) -> bool {
        self.brokers == EMBEDDED
    }

    /// How a batch that was not done is handed over again: for ever.
    pub(super) fn redelivery(&self) -> Schedule {
        Schedule {
            initial: Duration::from_millis(self.redeliver_initial_ms),
            max: Duration::from_millis(self.redeliver_max_ms),
            give_up_after: None,
        }
    }

    /// Checks that the values can work and fit each other.
    ///
    /// # Errors
    /// The first value that does not, with its key and what to write instead.
    pub fn check(&self) -> Result<(), Problem> {
        let bad = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("stream.{key}"), remedy));
        let address = |text: &str| {
            text.trim().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !self.is_embedded() && !self.brokers.split(',').all(address) {
            return bad(
                "brokers",
                "it is neither embedded nor a list of addresses",
                "Write embedded, or host:port,host:port",
            );
        }
        if !is_prefix(&self.topic_prefix) {
            let what = "it is no beginning of a topic's name";
            return bad("topic_prefix", what, "Write letters, digits, dots, dashes or underscores, 1 to 200 of them");
        }
        if self.worker_group.is_empty() {
            return bad("worker_group", "it is empty", "Write a name, as autoreply-worker");
        }
        if !["none", "gzip", "snappy", "lz4", "zstd"].contains(&self.compression.as_str()) {
            return bad("compression", "it is not a codec this program has", "Write none, gzip, snappy, lz4 or zstd");
        }
        self.check_amounts()?;
        self.check_security()?;
        match self.client.keys().find(|key| FIXED.contains(&key.as_str())) {
            Some(key) => bad(&format!("client.{key}"), "what autoreply promises rests on this property", "Remove it"),
            None => Ok(()),
        }
    }

    fn check_amounts(&self) -> Result<(), Problem> {
        let bad = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("stream.{key}"), remedy));
        if self.queue_max_records == 0 || self.batch_max_records == 0 || self.batch_max_bytes == 0 {
            return bad("queue_max_records, batch_max_records, batch_max_bytes", "one of them is 0", "Write 1 or more");
        }
        if self.redeliver_initial_ms == 0 || self.redeliver_max_ms < self.redeliver_initial_ms {
            return bad("redeliver_max_ms", "it is less than redeliver_initial_ms, or both are 0", "Raise it");
        }
        if self.publish_timeout_ms <= self.linger_ms.max(self.gather_ms) {
            return bad("publish_timeout_ms", "it is not greater than linger_ms and gather_ms", "Raise it");
        }
        if self.gather_ms > 2_000 {
            return bad(
                "gather_ms",
                "desks would take turns for lost before they are acknowledged",
                "Write 2000 or less",
            );
        }
        if self.commit_every_ms > 5_000 {
            return bad("commit_every_ms", "after a crash too much would come again", "Write 5000 or less");
        }
        if self.max_poll_interval_ms < self.session_timeout_ms {
            return bad("max_poll_interval_ms", "it is less than session_timeout_ms", "Raise it");
        }
        if self.pause_after_ms.saturating_mul(2) > self.max_poll_interval_ms {
            return bad("pause_after_ms", "it is more than half of max_poll_interval_ms", "Lower it");
        }
        if self.survey_every_ms == 0 {
            return bad("survey_every_ms", "it is 0", "Write 1 or more, as 5000");
        }
        Ok(())
    }
}
