//! Publishing, acknowledged by the broker.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::embedded::Embedded;
use super::{Settings, StreamError};
use crate::contract::wire::WireRecord;
use crate::error::{Class, Classified};

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

/// Publishes records. Clones share one queue.
#[derive(Clone)]
pub struct Producer {
    producer: FutureProducer,
    timeout: Duration,
    _broker: Option<Arc<Embedded>>,
}

impl Producer {
    pub(super) fn new(producer: FutureProducer, settings: &Settings, broker: Option<Arc<Embedded>>) -> Self {
        Self { producer, timeout: Duration::from_millis(settings.publish_timeout_ms), _broker: broker }
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
        let mut outgoing = FutureRecord::to(&record.topic).payload(&record.payload).headers(headers);
        if !record.key.is_empty() {
            outgoing = outgoing.key(&record.key);
        }
        match self.producer.send(outgoing, self.timeout).await {
            Ok(delivery) => Ok(Delivered { partition: delivery.partition, offset: delivery.offset }),
            Err((error, _)) => {
                Err(PublishError { class: classify(&error), why: error.to_string(), topic: record.topic.clone() })
            }
        }
    }

    /// Waits until everything that was published has been answered, at most `within`.
    ///
    /// # Errors
    /// When records are still unanswered then.
    pub async fn flush(&self, within: Duration) -> Result<(), StreamError> {
        let producer = self.producer.clone();
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
