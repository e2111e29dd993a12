//! Publishing, acknowledged by the broker.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::embedded::Embedded;
use super::heard::Heard;
use super::names::Names;
use super::{Settings, StreamError};
use crate::contract::wire::WireRecord;
use crate::error::{Class, Classified};

/// After this long a look at the brokers minds for the first time what was heard of them; then after twice as long.
const LOOK: Duration = Duration::from_millis(500);

/// Where a record was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// A record that the broker has not acknowledged. Ids are derived and readers dedupe, so one that may have arrived is
/// safe to publish again: that is why a time-out is [`Class::Transient`] here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record could not be published to {topic}: {why}")]
pub struct PublishError {
    /// The topic.
    pub topic: String,
    /// Why, as librdkafka says it.
    pub why: String,
    class: Class,
}

impl Classified for PublishError {
    fn class(&self) -> Class {
        self.class
    }
}

/// The producing client of a connection. An idempotent client gives up for good when the broker has lost what it knew
/// of it and a gap cannot be excluded, as after the loss of a disk; then a new one takes its place.
pub(super) struct Sending {
    config: ClientConfig,
    heard: Heard,
    current: RwLock<(u64, FutureProducer<Heard>)>,
}

impl Sending {
    pub(super) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let heard = Heard::default();
        let producer = config.create_with_context(heard.clone())?;
        Ok(Self { config, heard, current: RwLock::new((0, producer)) })
    }

    /// The client, and its number.
    fn current(&self) -> (u64, FutureProducer<Heard>) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new client in the place of number `old` if that has given up.
    fn renew(&self, old: u64, producer: &FutureProducer<Heard>) -> bool {
        let Some((code, why)) = producer.client().fatal_error() else { return false };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != old {
            return true;
        }
        match self.config.create_with_context(self.heard.clone()) {
            Ok(fresh) => {
                tracing::warn!(%code, why, "the producer had given up and was made anew");
                *current = (old + 1, fresh);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the producer had given up and could not be made anew");
                false
            }
        }
    }

    /// The id of the cluster, asked for afresh: the client itself looks only every few minutes. Blocks.
    pub(super) fn cluster_id(&self, topic: &str, wait: Duration) -> Option<String> {
        let (_, producer) = self.current();
        producer.client().fetch_metadata(Some(topic), wait).ok()?;
        producer.client().fetch_cluster_id(wait)
    }

    /// What `read` takes of what the brokers know of every topic. Blocks for `wait` at most; not so long if they turn
    /// this process away.
    pub(super) fn metadata<T>(&self, wait: Duration, read: impl FnOnce(&Metadata) -> T) -> KafkaResult<T> {
        let (_, producer) = self.current();
        let (begun, mut look) = (Instant::now(), LOOK);
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            match producer.client().fetch_metadata(None, left.min(look)) {
                Err(error) if left <= look || self.heard.is_refused() => return Err(error),
                // A busy broker is given longer.
                Err(_) => look *= 2,
                Ok(metadata) => {
                    self.heard.forget();
                    return Ok(read(&metadata));
                }
            }
        }
    }

    /// What its clients say of themselves.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// Publishes records. Clones share one queue.
#[derive(Clone)]
pub struct Producer {
    sending: Arc<Sending>,
    names: Names,
    timeout: Duration,
    _broker: Option<Arc<Embedded>>,
}

impl Producer {
    pub(super) fn new(sending: Arc<Sending>, names: Names, settings: &Settings, broker: Option<Arc<Embedded>>) -> Self {
        let timeout = Duration::from_millis(settings.publish_timeout_ms);
        Self { sending, names, timeout, _broker: broker }
    }

    /// Publishes `record` and waits until every in-sync replica has it. A full queue is waited for. Records of one
    /// key keep their order only if each is awaited before the next is published.
    ///
    /// # Errors
    /// When the broker refuses it, or does not answer within the publish time-out.
    pub async fn publish(&self, record: WireRecord) -> Result<Delivered, PublishError> {
        let headers =
            record.headers.iter().fold(OwnedHeaders::new_with_capacity(record.headers.len()), |all, header| {
                all.insert(Header { key: &header.0, value: Some(&header.1) })
            });
        let physical = self.names.physical(&record.topic);
        let mut outgoing = FutureRecord::to(&physical).payload(&record.payload).headers(headers);
        if !record.key.is_empty() {
            outgoing = outgoing.key(&record.key);
        }
        let (number, producer) = self.sending.current();
        match producer.send(outgoing, self.timeout).await {
            Ok(delivery) => {
                self.sending.heard.forget();
                Ok(Delivered { partition: delivery.partition, offset: delivery.offset })
            }
            Err((error, _)) => {
                let renewed = self.sending.renew(number, &producer);
                let class = if renewed { Class::Transient } else { classify(&error) };
                let late = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
                let why = if late { self.sending.heard.explain(&error) } else { error.to_string() };
                Err(PublishError { class, why, topic: physical })
            }
        }
    }

    /// Waits until everything that was published has been answered, at most `within`.
    ///
    /// # Errors
    /// When records are still unanswered then.
    pub async fn flush(&self, within: Duration) -> Result<(), StreamError> {
        let (_, producer) = self.sending.current();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(within)).await;
        let fail = |why: String| StreamError::new("records are still unanswered", why, Class::Transient);
        match flushed {
            Ok(result) => result.map_err(|error| fail(error.to_string())),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

/// What fails again is named; everything else may pass.
fn classify(error: &KafkaError) -> Class {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidArgument
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::Fatal,
        ) => Class::Permanent,
        _ => Class::Transient,
    }
}
