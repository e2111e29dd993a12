//! The way to the broker, embedded or real, and everything that is opened over it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use secrecy::SecretString;

use super::embedded::Embedded;
use super::heard::Heard;
use super::names::Names;
use super::producer::Sending;
use super::{Consumer, Producer, Reader, Settings, StreamError};
use crate::contract::codec::{AuthKey, Codec};
use crate::contract::wire::topic;
use crate::error::Class;

/// The way to the broker. Clones share it.
#[derive(Clone)]
pub struct Connection {
    settings: Settings,
    address: String,
    embedded: Option<Arc<Embedded>>,
    auth: Option<AuthKey>,
    names: Names,
    password: Option<SecretString>,
    sending: Arc<Sending>,
    gathering: Arc<OnceLock<Arc<Sending>>>,
}

impl Connection {
    /// Starts the embedded broker, or prepares the way to a real one; the latter need not be up yet. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// When a client property is not known or does not fit, or the embedded broker cannot start.
    pub fn open(settings: &Settings) -> Result<Self, StreamError> {
        Self::open_with(settings, None)
    }

    /// The same with the password for SASL, which [`Settings::password`] says where to find.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_with(settings: &Settings, password: Option<SecretString>) -> Result<Self, StreamError> {
        settings.find_files()?;
        let names = Names::new(&settings.topic_prefix);
        let (embedded, auth, address) = if settings.is_embedded() {
            let broker = Embedded::start(&names)?;
            let address = broker.address().unwrap_or_default();
            (Some(Arc::new(broker)), Some(AuthKey::draw()), address)
        } else {
            (None, None, settings.brokers.clone())
        };
        let sending = make_sending(settings, &address, settings.linger_ms, password.as_ref())?;
        let gathering = Arc::default();
        Ok(Self { settings: settings.clone(), address, embedded, auth, names, password, sending, gathering })
    }

    /// The codec for this broker: on the embedded one it signs and checks with a key of this process.
    pub fn codec(&self) -> Codec {
        Codec::new(self.auth.clone())
    }

    /// The addresses of the broker, for diagnosis.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The producer; all of them share one queue.
    pub fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.sending), self.names.clone(), &self.settings, self.embedded.clone())
    }

    /// The producer of what nobody waits for: it gathers for `gather_ms`, so that many records of a partition are one
    /// request. Between its records and those of [`Connection::producer`] there is no order.
    /// On the embedded broker, where a request costs nothing, it is that one.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn gathering_producer(&self) -> Result<Producer, StreamError> {
        if self.is_embedded() {
            return Ok(self.producer());
        }
        let sending = match self.gathering.get() {
            Some(sending) => Arc::clone(sending),
            None => {
                let (settings, password) = (&self.settings, self.password.as_ref());
                let made = make_sending(settings, &self.address, settings.gather_ms, password)?;
                Arc::clone(self.gathering.get_or_init(|| made))
            }
        };
        Ok(Producer::new(sending, self.names.clone(), &self.settings, None))
    }

    /// A consumer of `topics` for `group`. On a real broker its members share the partitions; on the embedded one a
    /// group has one consumer at a time.
    ///
    /// # Errors
    /// On the embedded broker, when the group has a consumer already.
    pub fn consumer(&self, group: &str, topics: &[&str]) -> Result<Consumer, StreamError> {
        let positions = match &self.embedded {
            Some(broker) => Some(broker.join(group).ok_or_else(|| {
                let why = "the embedded broker serves one consumer a group, and it has one";
                StreamError::new(format!("the group {group} could not be joined"), why, Class::Permanent)
            })?),
            None => None,
        };
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Ok(Consumer::new(self.clone(), group.to_owned(), topics, positions))
    }

    /// A reader of the records of `key` in `topic` that are not older than `since`; from the beginning on the
    /// embedded broker, which cannot look times up. It stores no offsets: the caller dedupes.
    pub fn reader(&self, topic: &str, key: &[u8], since: Timestamp) -> Reader {
        Reader::new(self.clone(), topic.to_owned(), Some(key.to_vec()), Some(since))
    }

    /// A reader of a whole topic from its beginning. It stores no offsets.
    pub fn reader_all(&self, topic: &str) -> Reader {
        Reader::new(self.clone(), topic.to_owned(), None, None)
    }

    /// The id of the cluster, if the broker answers within `wait`. Another id than before means that what was
    /// published before is gone: publish again what is open.
    pub async fn cluster_id(&self, wait: Duration) -> Option<String> {
        if let Some(broker) = &self.embedded {
            return Some(broker.id().to_owned());
        }
        let (sending, topic) = (Arc::clone(&self.sending), self.names.physical(topic::CONTROLS));
        let asked = tokio::task::spawn_blocking(move || sending.cluster_id(&topic, wait)).await;
        asked.ok().flatten().filter(|id| !id.is_empty())
    }

    /// What `read` takes of what the brokers know of every topic.
    pub(super) async fn metadata<T: Send + 'static>(
        &self,
        wait: Duration,
        read: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> KafkaResult<T> {
        let sending = Arc::clone(&self.sending);
        let asked = tokio::task::spawn_blocking(move || sending.metadata(wait, read)).await;
        asked.unwrap_or(Err(KafkaError::Canceled))
    }

    /// What the producing client says of the brokers.
    pub(super) fn heard(&self) -> &Heard {
        self.sending.heard()
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What a client that neither produces nor consumes is made from.
    pub(super) fn admin_config(&self) -> ClientConfig {
        let mut config = base_config(&self.settings, &self.address);
        for name in CONSUMING {
            config.remove(name);
        }
        self.settings.secure(&mut config, self.password.as_ref());
        config
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// What every consuming client has in common: nothing is committed or stored but by us.
    pub(super) fn consumer_config(&self, group: &str) -> ClientConfig {
        let settings = &self.settings;
        let wait = if self.is_embedded() { settings.embedded_fetch_wait_ms } else { settings.fetch_wait_ms };
        let mut config = base_config(settings, &self.address);
        settings.secure(&mut config, self.password.as_ref());
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", wait.to_string())
            // A topic that is missing, or was made anew, is looked for again after this.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("session.timeout.ms", settings.session_timeout_ms.to_string())
            .set("max.poll.interval.ms", settings.max_poll_interval_ms.to_string());
        if !settings.client.contains_key("partition.assignment.strategy") {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        if !settings.client.contains_key(QUEUED) {
            // What is fetched ahead is memory, and lost work on a pause. Counted are payloads, of which the memory was ten
            // times as much; librdkafka bounds a fetch by the same figure.
            config.set(QUEUED, "2048");
        }
        if !settings.client.contains_key(HEARTBEAT) {
            let heartbeat_ms = (settings.session_timeout_ms / 3).clamp(1, HEARTBEAT_MS);
            config.set(HEARTBEAT, heartbeat_ms.to_string());
        }
        config
    }
}

/// How often a member asks whether the group is being divided anew.
const HEARTBEAT: &str = "heartbeat.interval.ms";
/// The others hear of a member that comes or goes with their next heartbeat; until then nobody reads its partitions.
/// librdkafka's 3 s would be most of what a turn waits for in a rolling restart.
const HEARTBEAT_MS: u64 = 1_000;
/// How much a consumer fetches ahead, in kilobytes.
const QUEUED: &str = "queued.max.messages.kbytes";
/// Properties of the client that only consumers have.
const CONSUMING: [&str; 5] =
    ["partition.assignment.strategy", "session.timeout.ms", "max.poll.interval.ms", HEARTBEAT, QUEUED];

fn base_config(settings: &Settings, address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // After an outage the broker is back for us soon after it is back.
    config.set("client.id", "autoreply").set("reconnect.backoff.max.ms", "2000");
    for (name, value) in &settings.client {
        config.set(name, value);
    }
    config.set("bootstrap.servers", address);
    config
}

/// A producing client that gathers for `linger_ms`; the embedded broker is sent each record at once.
fn make_sending(
    settings: &Settings,
    address: &str,
    linger_ms: u64,
    password: Option<&SecretString>,
) -> Result<Arc<Sending>, StreamError> {
    let mut config = producer_config(settings, address, if settings.is_embedded() { 0 } else { linger_ms });
    settings.secure(&mut config, password);
    let fail = |error| StreamError::new("the producer could not be made; check [stream]", error, Class::Permanent);
    Sending::new(config).map(Arc::new).map_err(fail)
}

/// Idempotent, acknowledged by all, and with the partitioner that Java's clients use too.
fn producer_config(settings: &Settings, address: &str, linger_ms: u64) -> ClientConfig {
    let mut config = base_config(settings, address);
    for name in CONSUMING {
        config.remove(name);
    }
    config
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "2000000")
        .set("compression.type", &settings.compression)
        .set("linger.ms", linger_ms.to_string())
        .set("queue.buffering.max.messages", settings.queue_max_records.to_string())
        .set("message.timeout.ms", settings.publish_timeout_ms.to_string());
    config
}
