//! A member of a group: batches to a closure, offsets committed when it is done.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::{Opened, Watch, create_with, off_thread, partitions, refuse};
use super::connection::Connection;
use super::embedded::Positions;
use super::names::Names;
use super::positions::Place;
use super::pump::{Commit, End, Pump};
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
    pub async fn run<H, F>(self, stop: CancellationToken, mut handle: H) -> Result<(), StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let Self { connection, group, topics, positions, lag, joined } = self;
        let what = format!("consuming {} for the group {group}", topics.join(", "));
        let (link, name, rebalances) = (connection.clone(), what.clone(), Arc::<AtomicU64>::default());
        let kept: Option<HashMap<Place, i64>> = positions.as_deref().cloned();
        let watch = move |names: &Names| Watch::new(names.clone()).telling(joined.clone(), Arc::clone(&rebalances));
        let open = Arc::new(move || open(&link, &group, &topics, kept.as_ref(), &watch, &name));
        let mut commit = positions.map_or(Commit::Group, Commit::Memory);
        loop {
            let Some(opened) = off_thread(&connection, &stop, &what, &open).await? else { return Ok(()) };
            let pump = Pump::new(opened, &connection, commit, what.clone()).surveyed(lag.clone());
            if pump.run(&stop, &mut handle).await? == End::Stopped {
                return Ok(());
            }
            // The embedded broker's topics live as long as the process.
            commit = Commit::Group;
        }
    }
}

/// Subscribes, or on the embedded broker assigns every partition from the position that is kept.
fn open(
    connection: &Connection,
    group: &str,
    topics: &[String],
    kept: Option<&HashMap<Place, i64>>,
    watch: &impl Fn(&Names) -> Watch,
    what: &str,
) -> Result<Opened, StreamError> {
    let names = connection.names();
    let mut config = connection.consumer_config(group);
    let instance = &connection.settings().group_instance_id;
    if kept.is_none() && !instance.is_empty() {
        config.set("group.instance.id", instance);
    }
    let consumer = create_with(&config, watch(names), what)?;
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
        let opened = Opened::assign(consumer, &list, None, what)?;
        opened.consumer.context().joined();
        return Ok(opened);
    }
    let physical: Vec<String> = topics.iter().map(|topic| names.physical(topic)).collect();
    let physical: Vec<&str> = physical.iter().map(String::as_str).collect();
    consumer.subscribe(&physical).map_err(|error| refuse(what, &error))?;
    Ok(Opened { consumer, assigned: 0 })
}
