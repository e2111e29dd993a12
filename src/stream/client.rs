//! The client under every consumer and reader: how it is made, and how it keeps up with rebalances.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::StreamError;
use super::connection::Connection;
use super::names::Names;
use super::positions::{Assignment, Place, Told};
use crate::error::Class;
use crate::retry::retry;

/// How long a look-up at the broker may take.
pub(super) const LOOKUP: Duration = Duration::from_secs(10);

/// The client; the survey of its lag shares it with the loop.
pub(super) type Client = StreamConsumer<Watch>;

/// Keeps up with rebalances. Its callbacks run while the client is polled and never block.
pub(super) struct Watch {
    names: Names,
    assignment: Mutex<Assignment>,
    ended: Mutex<HashSet<i32>>,
    paused: AtomicBool,
    /// Polling waits now; and it has waited since this was asked last.
    waiting: AtomicBool,
    waited: AtomicBool,
    rebalances: Arc<AtomicU64>,
    joined: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            assignment: Mutex::default(),
            ended: Mutex::default(),
            paused: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            waited: AtomicBool::new(false),
            rebalances: Arc::default(),
            joined: watch::Sender::new(false),
        }
    }

    /// Tells `joined` when the group has let this member in, whether with partitions or without; and goes on counting
    /// the rebalances of the clients before it.
    pub(super) fn telling(mut self, joined: watch::Sender<bool>, rebalances: Arc<AtomicU64>) -> Self {
        (self.joined, self.rebalances) = (joined, rebalances);
        self
    }

    /// This member takes part from now on.
    pub(super) fn joined(&self) {
        self.joined.send_replace(true);
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn assignment(&self) -> MutexGuard<'_, Assignment> {
        lock(&self.assignment)
    }

    /// The partitions of a reader's topic whose end was reached.
    pub(super) fn ended(&self) -> MutexGuard<'_, HashSet<i32>> {
        lock(&self.ended)
    }

    /// Polling waits, or has got something.
    pub(super) fn waits(&self, waits: bool) {
        self.waiting.store(waits, Ordering::Relaxed);
        self.waited.fetch_or(waits, Ordering::Relaxed);
    }

    /// Whether the client has given nothing, although all was taken from it, at some moment since this was asked last.
    pub(super) fn take_idle(&self) -> bool {
        self.waited.swap(self.waiting.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    /// How often the group has given this member its partitions.
    pub(super) fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Relaxed)
    }

    fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        list.elements().iter().map(|element| (self.names.logical(element.topic()), element.partition())).collect()
    }

    /// What is done of `places` and not known to the group is committed before they go: each batch was committed when
    /// it was done, so this is what failed then. The answer is not waited for; the request leaves before the group is
    /// told that the partitions are free.
    fn commit_before_revoke(&self, consumer: &BaseConsumer<Self>, places: &[Place]) {
        let mut left = self.assignment().uncommitted();
        left.retain(|place, _| places.contains(place));
        if !consumer.assignment_lost()
            && !left.is_empty()
            && let Err(error) = commit(consumer, &self.names, offsets(&left), CommitMode::Async)
        {
            tracing::warn!(%error, "offsets of partitions that go could not be committed; their records come again");
        }
    }
}

impl ClientContext for Watch {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is told here too; the poll loop takes it for what it is.
        if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            return;
        }
        tracing::warn!(%error, reason, "the broker client reports an error");
    }
}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                self.rebalances.fetch_add(1, Ordering::Relaxed);
                tracing::info!(partitions = list.count(), "the group assigned partitions");
                self.assignment().assign(self.places(list));
                self.joined();
            }
            Rebalance::Revoke(list) => {
                tracing::info!(partitions = list.count(), "the group took partitions away");
                let places = self.places(list);
                self.commit_before_revoke(consumer, &places);
                self.assignment().revoke(places);
                // librdkafka keeps the pause of a partition that goes: it would stand still if it came back.
                if self.paused.load(Ordering::Relaxed)
                    && let Err(error) = consumer.resume(list)
                {
                    tracing::warn!(%error, "partitions that go could not be resumed");
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // librdkafka knows nothing of our pause when partitions come: they would flow while the others wait.
        if let Rebalance::Assign(list) = rebalance
            && self.paused.load(Ordering::Relaxed)
            && let Err(error) = consumer.pause(list)
        {
            tracing::warn!(%error, "newly assigned partitions could not be paused");
        }
    }
}

/// A client with its assignment made, or subscribed.
pub(super) struct Opened {
    pub(super) consumer: Client,
    pub(super) assigned: usize,
}

impl Opened {
    /// Assigns `list` to `consumer`. All records before the offsets of `list` are older than `since_ms`, where that is
    /// known.
    pub(super) fn assign(
        consumer: Client,
        list: &TopicPartitionList,
        since_ms: Option<i64>,
        what: &str,
    ) -> Result<Self, StreamError> {
        consumer.assign(list).map_err(|error| refuse(what, &error))?;
        let watch = consumer.context();
        let places = watch.places(list);
        let mut assignment = watch.assignment();
        assignment.assign(places.iter().cloned());
        for (place, element) in places.iter().zip(list.elements()) {
            if let Offset::Offset(next) = element.offset() {
                assignment.start(place, next, since_ms.map_or(-1, |since| since - 1));
            }
        }
        drop(assignment);
        Ok(Self { consumer, assigned: places.len() })
    }
}

/// A client with this configuration.
pub(super) fn create(config: &ClientConfig, names: &Names, what: &str) -> Result<Client, StreamError> {
    create_with(config, Watch::new(names.clone()), what)
}

/// The same, kept up with by this one.
pub(super) fn create_with(config: &ClientConfig, watch: Watch, what: &str) -> Result<Client, StreamError> {
    config.create_with_context(watch).map_err(|error: KafkaError| StreamError::new(what, error, Class::Permanent))
}

/// How many partitions `topic` (by its logical name) has. Blocks.
pub(super) fn partitions(consumer: &Client, topic: &str, what: &str) -> Result<i32, StreamError> {
    let physical = consumer.context().names.physical(topic);
    let metadata = consumer.fetch_metadata(Some(&physical), LOOKUP).map_err(|error| refuse(what, &error))?;
    let found = metadata.topics().first();
    if let Some(error) = found.and_then(|topic| topic.error()) {
        let error = KafkaError::MetadataFetch(error.into());
        if is_permanent(&error) {
            return Err(refuse(what, &error));
        }
    }
    match i32::try_from(found.map_or(0, |topic| topic.partitions().len())) {
        Ok(count) if count > 0 => Ok(count),
        _ => {
            let why = format!("the topic {physical} does not exist yet; create the topics: autoreply topics apply");
            Err(StreamError::new(what, why, Class::Transient))
        }
    }
}

/// The error of a look-up or an assignment.
pub(super) fn refuse(what: &str, error: &KafkaError) -> StreamError {
    StreamError::new(what, error, if is_permanent(error) { Class::Permanent } else { Class::Transient })
}

/// Whether time does not mend it: missing rights, another member with our instance id, a client that has given up.
pub(super) fn is_permanent(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Some(
                Code::Fatal
                    | Code::TopicAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::SaslAuthenticationFailed
                    | Code::FencedInstanceId
                    | Code::InvalidArgument
            )
        )
}

/// Runs `open`, which blocks, on a thread of its own, again while its error may pass; `None` when the stop came first.
pub(super) async fn off_thread<O>(
    connection: &Connection,
    stop: &CancellationToken,
    what: &str,
    open: &Arc<O>,
) -> Result<Option<Opened>, StreamError>
where
    O: Fn() -> Result<Opened, StreamError> + Send + Sync + 'static,
{
    let opening = retry(connection.settings().redelivery(), || {
        let open = Arc::clone(open);
        let what = what.to_owned();
        async move {
            let opened = tokio::task::spawn_blocking(move || open()).await;
            let opened = opened.unwrap_or_else(|error| Err(StreamError::new(what, error, Class::Permanent)));
            opened.inspect_err(|error| tracing::warn!(%error, "not ready yet; tried again"))
        }
    });
    tokio::select! {
        opened = opening => opened.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// Pauses or resumes everything that is assigned.
pub(super) fn set_paused(consumer: &Client, paused: bool) {
    consumer.context().paused.store(paused, Ordering::Relaxed);
    let done = consumer.assignment().and_then(|all| if paused { consumer.pause(&all) } else { consumer.resume(&all) });
    if let Err(error) = done {
        tracing::warn!(%error, paused, "partitions could not be paused or resumed");
    }
}

/// What [`commit`] is to tell.
pub(super) fn offsets(told: &HashMap<Place, Told>) -> impl Iterator<Item = (&Place, i64)> {
    told.iter().map(|(place, told)| (place, told.next))
}

/// Tells the group how far partitions are done.
pub(super) fn commit<'a>(
    consumer: &impl Consumer<Watch>,
    names: &Names,
    next: impl Iterator<Item = (&'a Place, i64)>,
    mode: CommitMode,
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in next {
        list.add_partition_offset(&names.physical(topic), *partition, Offset::Offset(next))?;
    }
    if list.count() == 0 { Ok(()) } else { consumer.commit(&list, mode) }
}
