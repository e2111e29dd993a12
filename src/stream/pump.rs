//! The loop that consumers and readers share: gather a batch, hand it over until it is done, remember the position.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Opened, commit, is_permanent, offsets, set_paused};
use super::connection::Connection;
use super::embedded::Positions;
use super::names::Names;
use super::positions::{Place, Told, next_offsets};
use super::survey::{Lag, Surveyor};
use super::{Batch, NotDone, Received, Settings, StreamError};
use crate::contract::wire::WireRecord;
use crate::error::{Class, Classified};
use crate::retry::{Schedule, retry};

/// Where the position goes when a batch is done.
pub(super) enum Commit {
    /// To the group's coordinator.
    Group,
    /// Into memory, for the next consumer of the group in this process.
    Memory(Positions),
    /// Nowhere.
    Nowhere,
}

/// After how long what the coordinator has refused is told again.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// A commit whose answer is waited for. librdkafka tells the answer only to a thread that waits for it.
struct Telling {
    told: HashMap<Place, Told>,
    answer: JoinHandle<KafkaResult<()>>,
}

impl Telling {
    async fn answered(telling: &mut Option<Self>) -> KafkaResult<()> {
        match telling {
            // A thread that died has told nothing.
            Some(this) => (&mut this.answer).await.unwrap_or(Err(KafkaError::Canceled)),
            None => std::future::pending().await,
        }
    }
}

/// Tells, while it lives, that polling waits.
struct Waiting(Arc<Client>);

impl Waiting {
    fn begin(consumer: &Arc<Client>) -> Self {
        consumer.context().waits(true);
        Self(Arc::clone(consumer))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.context().waits(false);
    }
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// A log is another one than before: a new client is to go on.
    Renewed,
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
    what: String,
}

impl Intake {
    /// Takes what a poll gave: a record that is wanted is queued, an end noted, an error that may pass told.
    fn take(&mut self, consumer: &Client, polled: KafkaResult<BorrowedMessage<'_>>) -> Result<(), StreamError> {
        match polled {
            Ok(message) => {
                self.notice_loss(&message, consumer.context().names());
                if self.only.as_deref().is_none_or(|key| message.key() == Some(key)) {
                    let received = receive(&message, consumer.context().names());
                    let epoch = consumer.context().assignment().epoch(&received.record.topic, received.partition);
                    self.pending.push_back(Tracked { received, epoch });
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                consumer.context().ended().insert(partition);
            }
            Err(error) if is_permanent(&error) => return Err(StreamError::new(&self.what, error, Class::Permanent)),
            Err(error) => tracing::warn!(%error, what = self.what, "polling failed; the client goes on by itself"),
        }
        Ok(())
    }

    /// The embedded broker drops its oldest records silently; a hole in the offsets shows it.
    fn notice_loss(&mut self, message: &BorrowedMessage<'_>, names: &Names) {
        let Some(expected) = &mut self.expected else { return };
        let next = expected.entry((names.logical(message.topic()), message.partition())).or_insert(0);
        if message.offset() > *next {
            let (lost, topic, partition) = (message.offset() - *next, message.topic(), message.partition());
            tracing::warn!(lost, topic, partition, "the embedded broker dropped records before they were read");
        }
        *next = message.offset() + 1;
    }
}

fn receive(message: &BorrowedMessage<'_>, names: &Names) -> Received {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    let record = WireRecord {
        topic: names.logical(message.topic()),
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

    /// Tells the assignment that these are being worked on.
    fn tell(&self, consumer: &Client) {
        let mut assignment = consumer.context().assignment();
        for received in self.batch.iter() {
            assignment.hand(&received.record.topic, received.partition, received.timestamp_ms);
        }
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
    consumer: Arc<Client>,
    settings: Settings,
    commit: Commit,
    intake: Intake,
    assigned: usize,
    surveyor: Surveyor,
    caught_up: Option<watch::Sender<bool>>,
    told: Instant,
    /// When the group is to be told next, if there is anything to tell.
    tell_at: Option<Instant>,
    telling: Option<Telling>,
    renewed: CancellationToken,
}

impl Pump {
    pub(super) fn new(opened: Opened, connection: &Connection, commit: Commit, what: String) -> Self {
        let expected = connection.is_embedded().then(|| match &commit {
            Commit::Memory(positions) => (**positions).clone(),
            _ => HashMap::new(),
        });
        let intake = Intake { pending: VecDeque::new(), only: None, expected, what };
        let (consumer, grouped) = (Arc::new(opened.consumer), matches!(commit, Commit::Group));
        let renewed = CancellationToken::new();
        let surveyor = Surveyor::new(Arc::clone(&consumer), connection, grouped, renewed.clone());
        let settings = connection.settings().clone();
        Self {
            consumer,
            settings,
            commit,
            intake,
            assigned: opened.assigned,
            surveyor,
            caught_up: None,
            told: Instant::now(),
            tell_at: None,
            telling: None,
            renewed,
        }
    }

    /// Tells `lag` at every survey.
    pub(super) fn surveyed(mut self, lag: watch::Sender<Lag>) -> Self {
        self.surveyor.lag = Some(lag);
        self
    }

    /// Hands over only the records of `key`.
    pub(super) fn only(mut self, key: Option<Vec<u8>>) -> Self {
        self.intake.only = key;
        self
    }

    /// Tells `caught_up` when the end of every partition has been reached and all before it is done.
    pub(super) fn telling(mut self, caught_up: watch::Sender<bool>) -> Self {
        self.surveyor.caught_up = Some(caught_up.clone());
        self.caught_up = Some(caught_up);
        self
    }

    /// Runs until the stop, or until a new client is needed; then leaves the group in order.
    pub(super) async fn run<H, F>(mut self, stop: &CancellationToken, handle: &mut H) -> Result<End, StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let surveyor = self.surveyor.clone();
        let result = tokio::select! {
            biased;
            result = self.pump(stop, handle) => result,
            never = surveyor.run() => match never {},
        };
        self.close().await;
        result
    }

    async fn pump<H, F>(&mut self, stop: &CancellationToken, handle: &mut H) -> Result<End, StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let renewed = self.renewed.clone();
        loop {
            let gathered = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                () = renewed.cancelled() => return Ok(End::Renewed),
                gathered = self.gather() => gathered?,
            };
            let handed = Handed::new(gathered);
            handed.tell(&self.consumer);
            match self.hand_over(stop, &handed, handle).await {
                Ok(()) => self.finish(&handed),
                Err(Halt::Stop(why)) => return Err(StreamError::new(&self.intake.what, why, Class::Permanent)),
                Err(Halt::Retry | Halt::Abandoned) => return Ok(End::Stopped),
            }
        }
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
            let due = self.tell_at.filter(|_| self.telling.is_none());
            // Not after the select: a stop may end it.
            let _waiting = Waiting::begin(&self.consumer);
            tokio::select! {
                biased;
                polled = self.consumer.recv() => self.intake.take(&self.consumer, polled)?,
                answer = Telling::answered(&mut self.telling) => self.told_group(answer),
                () = tokio::time::sleep_until(due.unwrap_or(self.told)), if due.is_some() => self.tell_group(),
            }
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
        let next = next_offsets(ours.iter().map(|r| (r.record.topic.as_str(), r.partition, r.offset, r.timestamp_ms)));
        {
            let mut assignment = self.consumer.context().assignment();
            assignment.finish(&next);
            assignment.handed_back();
        }
        match &mut self.commit {
            Commit::Group => {
                if let Some(answer) = Telling::answered(&mut self.telling).now_or_never() {
                    self.told_group(answer);
                }
                let due = self.told + Duration::from_millis(self.settings.commit_every_ms);
                self.tell_at = Some(due);
                if due <= Instant::now() && self.telling.is_none() {
                    self.tell_group();
                }
            }
            Commit::Memory(positions) => positions.extend(next.into_iter().map(|(place, done)| (place, done.next))),
            Commit::Nowhere => {}
        }
    }

    /// Commits what is done. Each commit is a record that the coordinator replicates, so there are few of them, one
    /// at a time.
    fn tell_group(&mut self) {
        (self.told, self.tell_at) = (Instant::now(), None);
        let told = self.consumer.context().assignment().uncommitted();
        // A group that has forgotten this member may be one that begins anew: old offsets have no place there.
        if told.is_empty() || self.consumer.assignment_lost() {
            return;
        }
        let (consumer, left) = (Arc::clone(&self.consumer), told.clone());
        let answer = tokio::task::spawn_blocking(move || {
            commit(&*consumer, consumer.context().names(), offsets(&left), CommitMode::Sync)
        });
        self.telling = Some(Telling { told, answer });
    }

    /// Takes the coordinator's answer. What it has refused is told again, also when nothing new comes.
    fn told_group(&mut self, answer: KafkaResult<()>) {
        let Some(Telling { told, .. }) = self.telling.take() else { return };
        match answer {
            Ok(()) => self.consumer.context().assignment().committed(&told),
            Err(error) => {
                tracing::warn!(%error, what = self.intake.what, "offsets could not be committed; tried again");
                self.tell_at.get_or_insert(Instant::now() + TELL_AGAIN);
            }
        }
    }

    fn tell_caught_up(&self) {
        if let Some(caught_up) = &self.caught_up
            && self.consumer.context().ended().len() >= self.assigned
        {
            caught_up.send_if_modified(|told| !std::mem::replace(told, true));
        }
    }

    /// Commits what is done, waits for the answer, and leaves. librdkafka blocks here, so on a thread of its own.
    async fn close(mut self) {
        if self.telling.is_some() {
            let answer = Telling::answered(&mut self.telling).await;
            self.told_group(answer);
        }
        let Self { consumer, commit: kind, intake, surveyor, .. } = self;
        // A survey under way shares the client, which leaves the group when its last user drops it.
        surveyor.rest().await;
        drop(surveyor);
        let closed = tokio::task::spawn_blocking(move || {
            let left = consumer.context().assignment().uncommitted();
            let names = consumer.context().names();
            if matches!(kind, Commit::Group)
                && !left.is_empty()
                && !consumer.assignment_lost()
                && let Err(error) = commit(&*consumer, names, offsets(&left), CommitMode::Sync)
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
