//! Reading by assignment, without a group and without stored offsets: one key's records, or a whole topic.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::{Client, LOOKUP, Opened, create, off_thread, partitions, refuse};
use super::connection::Connection;
use super::partition::partition_of;
use super::pump::{Commit, End, Pump};
use super::{Batch, NotDone, StreamError};
use crate::clock::to_millis;
use crate::error::Class;

/// A reader, made by [`Connection::reader`] or [`Connection::reader_all`].
pub struct Reader {
    connection: Connection,
    topic: String,
    key: Option<Vec<u8>>,
    since: Option<Timestamp>,
    caught_up: watch::Sender<bool>,
}

impl Reader {
    pub(super) fn new(connection: Connection, topic: String, key: Option<Vec<u8>>, since: Option<Timestamp>) -> Self {
        Self { connection, topic, key, since, caught_up: watch::Sender::new(false) }
    }

    /// True once everything that stood in the topic has been handed over and is done; false again while the broker
    /// does not answer, and while a topic that was made anew is read from its beginning.
    pub fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.subscribe()
    }

    /// Hands batches to `handle` until `stop` is cancelled; on [`NotDone::Retry`] the same batch again. Nothing is
    /// stored: the next reader starts where this one did, and the caller dedupes.
    ///
    /// # Errors
    /// As [`super::Consumer::run`].
    pub async fn run<H, F>(self, stop: CancellationToken, mut handle: H) -> Result<(), StreamError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), NotDone>>,
    {
        let Self { connection, topic, key, since, caught_up } = self;
        let what = format!("reading {topic}");
        let since = since.filter(|_| !connection.is_embedded());
        let (link, name, only) = (connection.clone(), what.clone(), key.clone());
        let open = Arc::new(move || open(&link, &topic, only.as_deref(), since, &name));
        loop {
            let Some(opened) = off_thread(&connection, &stop, &what, &open).await? else { return Ok(()) };
            let pump = Pump::new(opened, &connection, Commit::Nowhere, what.clone());
            let end = pump.only(key.clone()).telling(caught_up.clone()).run(&stop, &mut handle).await?;
            if end == End::Stopped {
                return Ok(());
            }
        }
    }
}

fn open(
    connection: &Connection,
    topic: &str,
    key: Option<&[u8]>,
    since: Option<Timestamp>,
    what: &str,
) -> Result<Opened, StreamError> {
    // librdkafka wants the name of a group although none is joined.
    let mut config = connection.consumer_config("autoreply-reader");
    config.set("enable.partition.eof", "true");
    let names = connection.names();
    let consumer = create(&config, names, what)?;
    let physical = names.physical(topic);
    let count = partitions(&consumer, topic, what)?;
    let wanted = match key {
        Some(key) => {
            let none = || StreamError::new(what, "the key is empty, so no partition is its own", Class::Permanent);
            let partition = partition_of(key, count).ok_or_else(none)?;
            partition..partition + 1
        }
        None => 0..count,
    };
    let mut list = TopicPartitionList::new();
    for partition in wanted {
        let offset = match since {
            Some(since) => first_since(&consumer, &physical, partition, since, what)?,
            None => Offset::Beginning,
        };
        list.add_partition_offset(&physical, partition, offset).map_err(|error| refuse(what, &error))?;
    }
    Opened::assign(consumer, &list, since.map(to_millis), what)
}

/// The first offset that is not older than `since`. Where there is none yet, the end as a number, fixed before the
/// reading starts: the logical end would be looked up later and skip what is published in between.
fn first_since(
    consumer: &Client,
    topic: &str,
    partition: i32,
    since: Timestamp,
    what: &str,
) -> Result<Offset, StreamError> {
    let (_, end) = consumer.fetch_watermarks(topic, partition, LOOKUP).map_err(|error| refuse(what, &error))?;
    let mut asked = TopicPartitionList::new();
    let time = Offset::Offset(to_millis(since).max(0));
    asked.add_partition_offset(topic, partition, time).map_err(|error| refuse(what, &error))?;
    let found = consumer.offsets_for_times(asked, LOOKUP).map_err(|error| refuse(what, &error))?;
    Ok(match found.find_partition(topic, partition).map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Offset::Offset(offset),
        _ => Offset::Offset(end),
    })
}
