//! The loop that consumers and readers share: gather a batch, hand it over until it is done, remember the position.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::embedded::Positions;
use super::positions::{Assignment, Place, next_offsets};
use super::{Batch, NotDone, Received, Settings, StreamError};
use crate::contract::wire::WireRecord;
use crate::error::{Class, Classified};
use crate::retry::{Schedule, retry};

/// How long a look-up at the broker may take.
pub(super) const LOOKUP: Duration = Duration::from_secs(10);

/// The client under every consumer and reader.
pub(super) type Client = StreamConsumer<Watch>;

/// Keeps up with rebalances. Its callbacks run while the client is polled and never block.
#[derive(Default)]
pub(super) struct Watch {
    assignment: Mutex<Assignment>,
    paused: AtomicBool,
}

impl Watch {
    fn assignment(&self) -> MutexGuard<'_, Assignment> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assignment().assign(places(list)),
            Rebalance::Revoke(list) => self.assignment().revoke(places(list)),
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

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The next commit covers this one; until then a crash means that records are seen again.
            tracing::warn!(%error, "offsets could not be committed");
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// A client with its assignment made, or subscribed.
pub(super) struct Opened {
    pub(super) consumer: Client,
    pub(super) assigned: Vec<Place>,
}

impl Opened {
    /// Assigns `list` to `consumer`.
    pub(super) fn assign(consumer: Client, list: &TopicPartitionList, what: &str) -> Result<Self, StreamError> {
        consumer.assign(list).map_err(|error| refuse(what, &error))?;
        let assigned = places(list);
        consumer.context().assignment().assign(assigned.iter().cloned());
        Ok(Self { consumer, assigned })
    }
}

/// A client with this configuration.
pub(super) fn create(config: &ClientConfig, what: &str) -> Result<Client, StreamError> {
    config
        .create_with_context(Watch::default())
        .map_err(|error: KafkaError| StreamError::new(what, error, Class::Permanent))
}

/// How many partitions `topic` has. Blocks.
pub(super) fn partitions(consumer: &Client, topic: &str, what: &str) -> Result<i32, StreamError> {
    let metadata = consumer.fetch_metadata(Some(topic), LOOKUP).map_err(|error| refuse(what, &error))?;
    let count = metadata.topics().first().map_or(0, |found| found.partitions().len());
    match i32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(StreamError::new(what, "the topic does not exist yet; create the topics first", Class::Transient)),
    }
}

/// The error of a look-up or an assignment.
pub(super) fn refuse(what: &str, error: &KafkaError) -> StreamError {
    StreamError::new(what, error, if is_permanent(error) { Class::Permanent } else { Class::Transient })
}

fn is_permanent(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(
            Code::Fatal
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::InvalidArgument
        )
    )
}

/// Runs `open`, which blocks, on a thread of its own, again while its error may pass; `None` when the stop came first.
pub(super) async fn off_thread<O>(
    connection: &Connection,
    stop: &CancellationToken,
    what: &str,
    open: O,
) -> Result<Option<Opened>, StreamError>
where
    O: Fn() -> Result<Opened, StreamError> + Send + Sync + 'static,
{
    let open = Arc::new(open);
    let opening = retry(connection.settings().redelivery(), || {
        let open = Arc::clone(&open);
        let what = what.to_owned();
        async move {
            let opened = tokio::task::spawn_blocking(move || open()).await;
            let opened = opened.unwrap_or_else(|error| Err(StreamError::new(what, error, Class::Permanent)));
            opened.inspect_err(|error| tracing::warn!(%error, "the broker could not be asked"))
        }
    });
    tokio::select! {
        opened = opening => opened.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// Where the position goes when a batch is done.
pub(super) enum Commit {
    /// To the group's coordinator.
    Group,
    /// Into memory, for the next consumer of the group in this process.
    Memory(Positions),
    /// Nowhere.
    Nowhere,
}

struct Tracked {
    received: Received,
    epoch: Option<u64>,
}

/// What has come in and was not handed over.
struct Intake {
    pending: VecDeque<Tracked>,
    only: Option<Vec<u8>>,
    expected: Option<HashMap<Place, i64>>,
    ended: HashSet<i32>,
    what: String,
}

impl Intake {
    /// Takes what a poll gave: a record that is wanted is queued, an end noted, an error that may pass told.
    fn take(&mut self, consumer: &Client, polled: KafkaResult<BorrowedMessage<'_>>) -> Result<(), StreamError> {
        match polled {
            Ok(message) => {
                self.notice_loss(&message);
                if self.only.as_deref().is_none_or(|key| message.key() == Some(key)) {
                    let received = receive(&message);
                    let epoch = consumer.context().assignment().epoch(&received.record.topic, received.partition);
                    self.pending.push_back(Tracked { received, epoch });
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.ended.insert(partition);
            }
            Err(error) if is_permanent(&error) => return Err(StreamError::new(&self.what, error, Class::Permanent)),
            Err(error) => tracing::warn!(%error, what = self.what, "polling failed; the client goes on by itself"),
        }
        Ok(())
    }

    /// The embedded broker drops its oldest records silently; a hole in the offsets shows it.
    fn notice_loss(&mut self, message: &BorrowedMessage<'_>) {
        let Some(expected) = &mut self.expected else { return };
        let next = expected.entry((message.topic().to_owned(), message.partition())).or_insert(0);
        if message.offset() > *next {
            let (lost, topic, partition) = (message.offset() - *next, message.topic(), message.partition());
            tracing::warn!(lost, topic, partition, "the embedded broker dropped records before they were read");
        }
        *next = message.offset() + 1;
    }
}

fn receive(message: &BorrowedMessage<'_>) -> Received {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    let record = WireRecord {
        topic: message.topic().to_owned(),
        key: message.key().unwrap_or_default().to_vec(),
        headers,
        payload: message.payload().unwrap_or_default().to_vec(),
    };
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
    Received { record, partition: message.partition(), offset: message.offset(), timestamp_ms }
}

/// Records on their way through a closure, each with the number of the assignment under which it came.
struct Handed {
    batch: Batch,
    epochs: Vec<Option<u64>>,
}

impl Handed {
    fn new(tracked: Vec<Tracked>) -> Self {
        let (epochs, records): (Vec<_>, Vec<_>) = tracked.into_iter().map(|t| (t.epoch, t.received)).unzip();
        Self { batch: records.into(), epochs }
    }

    /// What of it no rebalance has given away.
    fn still_ours(&self, consumer: &Client) -> Batch {
        let assignment = consumer.context().assignment();
        let ours = |(received, epoch): &(&Received, &Option<u64>)| {
            epoch.is_some() && assignment.epoch(&received.record.topic, received.partition) == **epoch
        };
        let pairs = || self.batch.iter().zip(&self.epochs);
        if pairs().all(|pair| ours(&pair)) {
            return Arc::clone(&self.batch);
        }
        pairs().filter(ours).map(|(received, _)| received.clone()).collect()
    }
}

/// Why a batch was not finished.
enum Halt {
    Retry,
    Stop(String),
    Abandoned,
}

impl Classified for Halt {
    fn class(&self) -> Class {
        if matches!(self, Self::Retry) { Class::Transient } else { Class::Permanent }
    }
}

/// The loop and what it owns.
pub(super) struct Pump {
    consumer: Client,
    settings: Settings,
    commit: Commit,
    intake: Intake,
    assigned: usize,
    finished: HashMap<Place, i64>,
    caught_up: Option<watch::Sender<bool>>,
}

impl Pump {
    pub(super) fn new(opened: Opened, connection: &Connection, commit: Commit, what: String) -> Self {
        let expected = connection.is_embedded().then(|| match &commit {
            Commit::Memory(positions) => (**positions).clone(),
            _ => HashMap::new(),
        });
        let intake = Intake { pending: VecDeque::new(), only: None, expected, ended: HashSet::new(), what };
        Self {
            consumer: opened.consumer,
            settings: connection.settings().clone(),
            commit,
            intake,
            assigned: opened.assigned.len(),
            finished: HashMap::new(),
            caught_up: None,
        }
    }

    /// Hands over only the records of `key`.
    pub(super) fn only(mut self, key: Option<Vec<u8>>) -> Self {
        self.intake.only = key;
        self
    }

    /// Tells `caught_up` when the end of every partition has been reached and all before it is done.
    pub(super) fn telling(mut self, caught_up: watch::Sender<bool>) -> Self {
        self.caught_up = Some(caught_up);
        self
    }

    /// Runs until the stop, then leaves the group in order.
    pub(super) async fn run<H, F>(mut self, stop: CancellationToken, mut handle: H) -> Result<(), StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let result = loop {
            let gathered = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                gathered = self.gather() => gathered,
            };
            let handed = match gathered {
                Ok(tracked) => Handed::new(tracked),
                Err(error) => break Err(error),
            };
            match self.hand_over(&stop, &handed, &mut handle).await {
                Ok(()) => self.finish(&handed),
                Err(Halt::Stop(why)) => break Err(StreamError::new(&self.intake.what, why, Class::Permanent)),
                Err(Halt::Retry | Halt::Abandoned) => break Ok(()),
            }
        };
        self.close().await;
        result
    }

    /// Waits for the first record, then takes what is there, up to the limits of a batch.
    async fn gather(&mut self) -> Result<Vec<Tracked>, StreamError> {
        loop {
            while self.intake.pending.len() < self.settings.batch_max_records {
                let Some(polled) = self.consumer.recv().now_or_never() else { break };
                self.intake.take(&self.consumer, polled)?;
            }
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(next) = self.intake.pending.front() {
                bytes += next.received.record.payload.len();
                if batch.len() >= self.settings.batch_max_records
                    || (bytes > self.settings.batch_max_bytes && !batch.is_empty())
                {
                    break;
                }
                batch.extend(self.intake.pending.pop_front());
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
            self.tell_caught_up();
            let polled = self.consumer.recv().await;
            self.intake.take(&self.consumer, polled)?;
        }
    }

    /// Calls `handle` until it is done. Meanwhile, after a while, the partitions are paused and polling goes on, so
    /// that the group keeps this member and rebalances are noticed.
    async fn hand_over<H, F>(&mut self, stop: &CancellationToken, handed: &Handed, handle: &mut H) -> Result<(), Halt>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let Self { consumer, intake, settings, .. } = self;
        let running = Semaphore::new(1);
        let handing = attempts(settings.redelivery(), stop, &running, || {
            let ours = handed.still_ours(consumer);
            (!ours.is_empty()).then(|| handle(ours))
        });
        tokio::pin!(handing);
        let pause = tokio::time::sleep(Duration::from_millis(settings.pause_after_ms));
        tokio::pin!(pause);
        let mut paused = false;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut handing => break end,
                () = stopped_between_attempts(stop, &running) => break Err(Halt::Abandoned),
                () = &mut pause, if !paused => {
                    paused = true;
                    set_paused(consumer, true);
                }
                polled = consumer.recv(), if paused => {
                    // What was on its way when the pause came is kept for the next batch.
                    if let Err(error) = intake.take(consumer, polled) {
                        break Err(Halt::Stop(error.why));
                    }
                }
            }
        };
        if paused {
            set_paused(consumer, false);
        }
        end
    }

    /// Remembers the position behind a batch that is done.
    fn finish(&mut self, handed: &Handed) {
        let ours = handed.still_ours(&self.consumer);
        let next = next_offsets(ours.iter().map(|r| (r.record.topic.as_str(), r.partition, r.offset)));
        match &mut self.commit {
            Commit::Group => {
                if let Err(error) = commit(&self.consumer, &next, CommitMode::Async) {
                    tracing::warn!(%error, what = self.intake.what, "offsets could not be committed");
                }
                self.finished.extend(next);
            }
            Commit::Memory(positions) => positions.extend(next),
            Commit::Nowhere => {}
        }
    }

    fn tell_caught_up(&self) {
        if let Some(caught_up) = &self.caught_up
            && self.intake.ended.len() >= self.assigned
        {
            caught_up.send_if_modified(|told| !std::mem::replace(told, true));
        }
    }

    /// Commits what is finished, waits for the answer, and leaves. librdkafka blocks here, so on a thread of its own.
    async fn close(self) {
        let Self { consumer, commit: kind, mut finished, intake, .. } = self;
        let closed = tokio::task::spawn_blocking(move || {
            finished.retain(|(topic, partition), _| consumer.context().assignment().epoch(topic, *partition).is_some());
            if matches!(kind, Commit::Group)
                && !finished.is_empty()
                && let Err(error) = commit(&consumer, &finished, CommitMode::Sync)
            {
                tracing::warn!(%error, what = intake.what, "the last offsets could not be committed");
            }
            drop(consumer);
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the consumer was not closed in order");
        }
    }
}

/// Calls until a call is done; never again once the stop has come.
async fn attempts<F>(
    schedule: Schedule,
    stop: &CancellationToken,
    running: &Semaphore,
    mut call: impl FnMut() -> Option<F>,
) -> Result<(), Halt>
where
    F: Future<Output = Result<(), NotDone>>,
{
    retry(schedule, || {
        let attempt = if stop.is_cancelled() { Err(Halt::Abandoned) } else { Ok(call()) };
        async move {
            let Some(attempt) = attempt? else { return Ok(()) };
            let _running = running.acquire().await;
            match attempt.await {
                Ok(()) => Ok(()),
                Err(NotDone::Stop(why)) => Err(Halt::Stop(why)),
                Err(NotDone::Retry(why)) => {
                    tracing::warn!(why, "a batch was not done and will be handed over again");
                    Err(if stop.is_cancelled() { Halt::Abandoned } else { Halt::Retry })
                }
            }
        }
    })
    .await
}

async fn stopped_between_attempts(stop: &CancellationToken, running: &Semaphore) {
    stop.cancelled().await;
    drop(running.acquire().await);
}

fn set_paused(consumer: &Client, paused: bool) {
    consumer.context().paused.store(paused, Ordering::Relaxed);
    let done = consumer.assignment().and_then(|all| if paused { consumer.pause(&all) } else { consumer.resume(&all) });
    if let Err(error) = done {
        tracing::warn!(%error, paused, "partitions could not be paused or resumed");
    }
}

fn commit(consumer: &Client, next: &HashMap<Place, i64>, mode: CommitMode) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    if list.count() == 0 { Ok(()) } else { consumer.commit(&list, mode) }
}
