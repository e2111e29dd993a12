//! A member of a group: batches to a closure, offsets committed when it is done.

use std::future::Future;
use std::sync::Arc;

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::{Opened, Watch, create_with, off_thread, partitions, refuse};
use super::connection::Connection;
use super::embedded::Positions;
use super::pump::{Commit, Pump};
use super::survey::Lag;
use super::{Batch, NotDone, StreamError};

/// A member of a group, made by [`Connection::consumer`].
pub struct Consumer {
    connection: Connection,
    group: String,
    topics: Vec<String>,
    positions: Option<Positions>,
    lag: watch::Sender<Lag>,
    joined: watch::Sender<bool>,
}

impl Consumer {
    pub(super) fn new(
        connection: Connection,
        group: String,
        topics: Vec<String>,
        positions: Option<Positions>,
    ) -> Self {
        Self { connection, group, topics, positions, lag: watch::Sender::default(), joined: watch::Sender::default() }
    }

    /// How far it is behind, told anew at every survey (`[stream] survey_every_ms`).
    pub fn lag(&self) -> watch::Receiver<Lag> {
        self.lag.subscribe()
    }

    /// Whether the group has let this member in: from then on it gets its share of the records.
    pub fn joined(&self) -> watch::Receiver<bool> {
        self.joined.subscribe()
    }

    /// Hands batches to `handle` until `stop` is cancelled. Offsets are committed only when it returns `Ok`; on
    /// [`NotDone::Retry`] the same batch is handed over again after a pause, without what a rebalance has given to
    /// another member meanwhile. A call that is running when the stop comes is waited for.
    ///
    /// # Errors
    /// [`NotDone::Stop`] from `handle`, or a failure that time does not mend, as missing rights.
    pub async fn run<H, F>(self, stop: CancellationToken, handle: H) -> Result<(), StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let Self { connection, group, topics, positions, lag, joined } = self;
        let what = format!("consuming {} for the group {group}", topics.join(", "));
        let shared = Arc::new(positions);
        let (link, name, kept) = (connection.clone(), what.clone(), Arc::clone(&shared));
        let open = move || open(&link, &group, &topics, kept.as_ref().as_ref(), &joined, &name);
        let Some(opened) = off_thread(&connection, &stop, &what, open).await? else { return Ok(()) };
        let commit = match Arc::into_inner(shared).flatten() {
            Some(positions) => Commit::Memory(positions),
            None => Commit::Group,
        };
        Pump::new(opened, &connection, commit, what).surveyed(lag).run(stop, handle).await
    }
}

/// Subscribes, or on the embedded broker assigns every partition from the position that is kept.
fn open(
    connection: &Connection,
    group: &str,
    topics: &[String],
    kept: Option<&Positions>,
    joined: &watch::Sender<bool>,
    what: &str,
) -> Result<Opened, StreamError> {
    let names = connection.names();
    let mut config = connection.consumer_config(group);
    let instance = &connection.settings().group_instance_id;
    if kept.is_none() && !instance.is_empty() {
        config.set("group.instance.id", instance);
    }
    let consumer = create_with(&config, Watch::new(names.clone()).telling(joined.clone()), what)?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        // Also asked where the group hands partitions out: a topic that is missing would be waited for in silence.
        for partition in 0..partitions(&consumer, topic, what)? {
            let next = kept.and_then(|kept| kept.get(&(topic.clone(), partition)));
            let offset = next.map_or(Offset::Beginning, |next| Offset::Offset(*next));
            list.add_partition_offset(&names.physical(topic), partition, offset)
                .map_err(|error| refuse(what, &error))?;
        }
    }
    if kept.is_some() {
        let opened = Opened::assign(consumer, &list, what)?;
        joined.send_replace(true);
        return Ok(opened);
    }
    let physical: Vec<String> = topics.iter().map(|topic| names.physical(topic)).collect();
    let physical: Vec<&str> = physical.iter().map(String::as_str).collect();
    consumer.subscribe(&physical).map_err(|error| refuse(what, &error))?;
    Ok(Opened { consumer, assigned: 0 })
}
