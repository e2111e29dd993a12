//! Kafka: producer, consumer, the desktop's reader, and the embedded broker. It hands records to a closure and knows
//! no room.
//!
//! [`Connection::open`] starts the embedded broker or prepares the way to a real one. From it come a [`Producer`],
//! [`Consumer`]s (one a group, offsets committed when the closure is done) and [`Reader`]s (no offsets stored).

mod client;
mod connection;
mod consumer;
mod dead_letters;
mod embedded;
mod heard;
mod lookout;
mod membership;
mod names;
mod partition;
mod positions;
mod producer;
mod pump;
mod reader;
mod security;
mod settings;
mod survey;
#[cfg(test)]
mod tests;
pub mod topics;

use std::sync::Arc;

use crate::contract::wire::WireRecord;
use crate::error::{Class, Classified};

pub use connection::Connection;
pub use consumer::Consumer;
pub use dead_letters::{Gate, GateLimits, Letter, LetterError, LetterId, Letters, Resolution, Verdict, bury};
pub use lookout::{ClusterView, GroupStanding, Lookout, Member, TopicStanding};
pub use partition::partition_of;
pub use producer::{Delivered, Producer, PublishError};
pub use reader::Reader;
pub use security::PasswordReference;
pub use settings::{EMBEDDED, Settings};
pub use survey::{Lag, PartitionLag};

/// A record as it came, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The record.
    pub record: WireRecord,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// When the broker or the producer dated it, in milliseconds since the Unix epoch; -1 if nobody did.
    pub timestamp_ms: i64,
}

/// Records handed over together, in the order of each partition.
pub type Batch = Arc<[Received]>;

/// A closure could not finish a batch. The sentence says why, without chat text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Hand the same batch over again, later: a database is away.
    #[error("{0}")]
    Retry(String),
    /// Commit nothing and end: a person has to look.
    #[error("{0}")]
    Stop(String),
}

impl Classified for NotDone {
    fn class(&self) -> Class {
        match self {
            Self::Retry(_) => Class::Transient,
            Self::Stop(_) => Class::Permanent,
        }
    }
}

/// The stream failed in a way that it cannot mend by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct StreamError {
    /// What was being done, to which topic or group.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// Whether trying again may help.
    pub class: Class,
    /// What a person can do about it.
    pub remedy: &'static str,
}

impl StreamError {
    const REMEDY: &'static str = "Check stream.brokers and stream.security_protocol, and that the brokers answer";

    fn new(what: impl Into<String>, why: impl ToString, class: Class) -> Self {
        Self { what: what.into(), why: why.to_string(), class, remedy: Self::REMEDY }
    }
}

impl Classified for StreamError {
    fn class(&self) -> Class {
        self.class
    }
}
