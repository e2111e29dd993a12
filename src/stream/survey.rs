//! Looks from time to time at what lies before a consumer or reader: how far it is behind, and whether the log under
//! it is still the one it has read.
//!
//! The lag is computed from the broker's ends and our own positions, because librdkafka's statistic stands still while
//! partitions are paused. A topic that was deleted and made again, or a cluster whose disk was lost, begins again at
//! offset 0; librdkafka notices that only when the old position lies beyond the new end, else it would silently skip
//! what stands before. Here it shows in the times, which rise with the offsets (`LogAppendTime`): in the log that was
//! read, the first record that is newer than all that were read stands behind them.
//!
//! Such a log needs a new client. librdkafka keeps what it knows of a partition by the topic's name, its leader's epoch
//! among it, and ignores one that is lower: after brokers had changed places in the old cluster, a client that only
//! seeks asks the new one with the old epoch for ever, and is refused (librdkafka's issue 4898; the full chaos run left
//! a third of the desks deaf).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, LOOKUP, commit};
use super::connection::Connection;
use super::positions::{Done, Place, Standing};
use crate::clock::to_millis;

/// Records have been standing there for so long, the client gives nothing at all, and yet none of them comes: it will
/// not find out by itself. Far more than a broker needs that is slow.
const STANDS_STILL: Duration = Duration::from_secs(30);

/// How far a consumer is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// Each assigned partition.
    pub partitions: Vec<PartitionLag>,
    /// How often the group has given this member partitions.
    pub rebalances: u64,
}

/// How far a partition is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic, by its logical name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Records that stand there and are not done.
    pub records: u64,
    /// When the broker took the oldest record in hand, in milliseconds since the epoch, if one is.
    pub oldest_ms: Option<i64>,
    /// For how long at least records have been standing there without one of them being in hand.
    pub waited: Duration,
}

impl PartitionLag {
    /// For how long the oldest record that is not done has been waiting; 0 if there is none.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let in_hand = self.oldest_ms.map_or(0, |oldest| to_millis(now).saturating_sub(oldest).max(0));
        (in_hand as f64 / 1000.0).max(self.waited.as_secs_f64())
    }
}

/// What the broker says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Log {
    begin: i64,
    end: i64,
    /// The first record that is newer than all that were done at the last survey.
    newer: Option<i64>,
}

/// Whether the log is another one than that in which `before` was done.
fn is_another(before: Done, log: Log) -> bool {
    let begins_again = |newer: i64| newer == log.begin && newer < before.next;
    log.end < before.next || (before.newest_ms > 0 && log.newer.is_some_and(begins_again))
}

/// What one survey keeps for the next.
#[derive(Default)]
struct Memory {
    done: HashMap<Place, (u64, Done)>,
    behind_since: HashMap<Place, Instant>,
    /// Where the client stands in partitions that hold more, and since when.
    standing: HashMap<Place, (u64, i64, Instant)>,
    cluster: Option<String>,
    unreachable: bool,
}

impl Memory {
    /// Whether the client has stood at `position` for [`STANDS_STILL`] although the log goes on behind it, and had
    /// nothing else to give: at `idle` it gave nothing.
    fn stands_still(&mut self, standing: &Standing, position: i64, log: Log, idle: Option<Instant>) -> bool {
        if position >= log.end || standing.handed_ms.is_some() {
            self.standing.remove(&standing.place);
            return false;
        }
        let now = (standing.epoch, position, Instant::now());
        let kept = self.standing.entry(standing.place.clone()).or_insert(now);
        if (kept.0, kept.1) != (now.0, now.1) {
            *kept = now;
        }
        idle.is_some_and(|idle| idle >= kept.2 + STANDS_STILL)
    }
}

/// Surveys a client's partitions. Clones share what is remembered.
#[derive(Clone)]
pub(super) struct Surveyor {
    consumer: Arc<Client>,
    every: Duration,
    grouped: bool,
    embedded: bool,
    memory: Arc<Mutex<Memory>>,
    /// Cancelled when a log is another one: the client is to be made anew.
    renewed: CancellationToken,
    /// Where the lag is told.
    pub(super) lag: Option<watch::Sender<Lag>>,
    /// What is withdrawn while the broker does not answer or a log begins anew.
    pub(super) caught_up: Option<watch::Sender<bool>>,
}

impl Surveyor {
    pub(super) fn new(
        consumer: Arc<Client>,
        connection: &Connection,
        grouped: bool,
        renewed: CancellationToken,
    ) -> Self {
        let every = Duration::from_millis(connection.settings().survey_every_ms);
        let embedded = connection.is_embedded();
        Self { consumer, every, grouped, embedded, memory: Arc::default(), renewed, lag: None, caught_up: None }
    }

    /// Surveys for ever.
    pub(super) async fn run(self) -> Infallible {
        loop {
            tokio::time::sleep(self.every).await;
            let (this, mut memory) = (self.clone(), Arc::clone(&self.memory).lock_owned().await);
            // The thread keeps the guard: whoever rests waits for it.
            let surveyed = tokio::task::spawn_blocking(move || this.survey(&mut memory)).await;
            if let Err(error) = surveyed {
                tracing::warn!(%error, "a survey of the lag did not end in order");
            }
        }
    }

    /// Waits until no survey is under way.
    pub(super) async fn rest(&self) {
        drop(self.memory.lock().await);
    }

    fn survey(&self, memory: &mut Memory) {
        let standings = self.consumer.context().assignment().snapshot();
        let asked: Vec<_> = standings.iter().map(|standing| self.question(standing, memory)).collect();
        let logs = match self.look(&asked) {
            Ok(logs) => logs,
            Err(error) => {
                tracing::warn!(%error, "the broker could not be asked how far behind this is");
                memory.unreachable = true;
                self.withdraw();
                return;
            }
        };
        // Taken anew: the look has found out where reading starts in partitions that are new.
        let fresh = self.consumer.context().assignment().snapshot();
        let mut lag = Lag { partitions: Vec::new(), rebalances: self.consumer.context().rebalances() };
        if !self.embedded && self.is_another_cluster(memory, &fresh) {
            return self.leave_all(&fresh);
        }
        let (mut anew, mut still) = (Vec::new(), Vec::new());
        let positions = self.consumer.position().unwrap_or_default();
        let idle = self.consumer.context().idle();
        for standing in &fresh {
            let Some(log) = logs.get(&standing.place).copied() else { continue };
            let position = self.at(&positions, &standing.place).or_else(|| standing.done.map(|done| done.next));
            if !self.embedded && memory.stands_still(standing, position.unwrap_or(log.begin), log, idle) {
                still.push(&standing.place);
            }
            match before(memory, standing) {
                Some(before) if !self.embedded && is_another(before, log) => anew.push((standing.place.clone(), log)),
                _ => lag.partitions.push(measure(memory, standing, log)),
            }
        }
        let kept = |standing: Standing| Some((standing.place, (standing.epoch, standing.done?)));
        let mut done: HashMap<_, _> = standings.into_iter().filter_map(kept).collect();
        if !self.begin_again(&anew) {
            // What was known before shows it at the next survey, too.
            let found = anew.into_iter().filter_map(|(place, _)| memory.done.remove_entry(&place));
            done.extend(found.collect::<Vec<_>>());
        }
        memory.done = done;
        self.wake(&still);
        if memory.unreachable && self.is_at(&logs) {
            memory.unreachable = false;
            if let Some(caught_up) = &self.caught_up {
                caught_up.send_replace(true);
            }
        }
        if let Some(told) = &self.lag {
            told.send_replace(lag);
        }
    }

    /// Whether the cluster is another one than at the survey before.
    fn is_another_cluster(&self, memory: &mut Memory, standings: &[Standing]) -> bool {
        let Some(any) = standings.first() else { return false };
        let topic = self.consumer.context().names().physical(&any.place.0);
        // The client itself looks only every few minutes.
        let asked = self.consumer.fetch_metadata(Some(&topic), LOOKUP).is_ok();
        let Some(id) = self.consumer.client().fetch_cluster_id(LOOKUP).filter(|_| asked) else { return false };
        memory.cluster.replace(id.clone()).is_some_and(|before| before != id)
    }

    /// The cluster is another one: nothing that is known of partitions is true of it.
    fn leave_all(&self, standings: &[Standing]) {
        tracing::warn!("the cluster is another one; its topics are read anew");
        self.withdraw();
        self.consumer.context().assignment().assign(standings.iter().map(|standing| standing.place.clone()));
        self.renewed.cancel();
    }

    /// Asks for a new client where this one stands still.
    fn wake(&self, still: &[&Place]) {
        for (topic, partition) in still {
            tracing::warn!(topic, partition, "records stand there and none comes; a new client is to read them");
        }
        if !still.is_empty() {
            self.withdraw();
            self.renewed.cancel();
        }
    }

    fn question(&self, standing: &Standing, memory: &Memory) -> (Place, i64) {
        let newest = before(memory, standing).map_or(0, |done| done.newest_ms.max(0));
        (standing.place.clone(), newest.saturating_add(1))
    }

    /// Asks for the beginning, the end, and the first record not older than the time given with each partition, and
    /// for what the group has committed where nothing was done yet.
    fn look(&self, asked: &[(Place, i64)]) -> KafkaResult<HashMap<Place, Log>> {
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        let (ends, begins) = (self.ask(asked, |_| Offset::End)?, self.ask(asked, |_| Offset::Beginning)?);
        let newer = if self.embedded { HashMap::new() } else { self.ask(asked, Offset::Offset)? };
        let log = |(place, end): (Place, i64)| {
            let begin = begins.get(&place).copied()?;
            let newer = newer.get(&place).copied();
            Some((place, Log { begin, end, newer }))
        };
        let logs: HashMap<_, _> = ends.into_iter().filter_map(log).collect();
        self.start_unknown(&logs)?;
        Ok(logs)
    }

    /// Offsets by time; librdkafka hands the logical ones (end, beginning) through to the broker, which knows them as
    /// times of their own.
    fn ask(&self, asked: &[(Place, i64)], time: impl Fn(i64) -> Offset) -> KafkaResult<HashMap<Place, i64>> {
        let names = self.consumer.context().names();
        let mut list = TopicPartitionList::new();
        for ((topic, partition), newest) in asked {
            list.add_partition_offset(&names.physical(topic), *partition, time(*newest))?;
        }
        let found = self.consumer.offsets_for_times(list, LOOKUP)?;
        let taken = found.elements().into_iter().filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some(((names.logical(element.topic()), element.partition()), offset)),
            _ => None,
        });
        Ok(taken.collect())
    }

    /// Where reading starts in partitions of which nothing is done yet: at what is committed, else at the beginning.
    fn start_unknown(&self, logs: &HashMap<Place, Log>) -> KafkaResult<()> {
        let watch = self.consumer.context();
        let unknown: Vec<Place> =
            watch.assignment().snapshot().into_iter().filter(|s| s.done.is_none()).map(|s| s.place).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &unknown {
            list.add_partition(&watch.names().physical(topic), *partition);
        }
        let committed = if self.grouped { self.consumer.committed_offsets(list, LOOKUP)? } else { list };
        let mut assignment = watch.assignment();
        for element in committed.elements() {
            let place = (watch.names().logical(element.topic()), element.partition());
            match (element.offset(), logs.get(&place)) {
                (Offset::Offset(next), Some(log)) => assignment.start(&place, next.clamp(log.begin, log.end), -1),
                (_, Some(log)) => assignment.start(&place, log.begin, -1),
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks for a new client, which reads `anew` from the beginning; what is in hand of the old logs is not committed into
    /// the new ones. False if the group could not be told where they begin: its old offsets could be valid in them.
    fn begin_again(&self, anew: &[(Place, Log)]) -> bool {
        if anew.is_empty() {
            return true;
        }
        self.withdraw();
        let watch = self.consumer.context();
        if self.grouped {
            let begins = anew.iter().map(|(place, log)| (place, log.begin));
            if let Err(error) = commit(&*self.consumer, watch.names(), begins, CommitMode::Sync) {
                tracing::warn!(%error, "the group could not be told where topics that were made anew begin; tried again");
                return false;
            }
        }
        watch.assignment().assign(anew.iter().map(|(place, _)| place.clone()));
        for ((topic, partition), _) in anew {
            tracing::warn!(topic, partition, "the topic was made anew; it is read from its beginning");
        }
        self.renewed.cancel();
        true
    }

    /// Where the client stands in a partition, behind the last record that it gave.
    fn at(&self, positions: &TopicPartitionList, (topic, partition): &Place) -> Option<i64> {
        let physical = self.consumer.context().names().physical(topic);
        match positions.find_partition(&physical, *partition)?.offset() {
            Offset::Offset(next) => Some(next),
            _ => None,
        }
    }

    fn withdraw(&self) {
        if let Some(caught_up) = &self.caught_up {
            caught_up.send_if_modified(|told| std::mem::replace(told, false));
        }
    }

    /// Whether everything that stands there has been taken and nothing is in hand.
    fn is_at(&self, logs: &HashMap<Place, Log>) -> bool {
        let watch = self.consumer.context();
        let Ok(positions) = self.consumer.position() else { return false };
        let taken =
            |standing: &Standing| self.at(&positions, &standing.place).or_else(|| standing.done.map(|done| done.next));
        let at = |standing: &Standing| {
            standing.handed_ms.is_none()
                && logs.get(&standing.place).zip(taken(standing)).is_some_and(|(log, next)| next >= log.end)
        };
        watch.assignment().snapshot().iter().all(at)
    }
}

/// How far the partition was done at the survey before, in the same assignment.
fn before(memory: &Memory, standing: &Standing) -> Option<Done> {
    memory.done.get(&standing.place).filter(|(epoch, _)| *epoch == standing.epoch).map(|(_, done)| *done)
}

fn measure(memory: &mut Memory, standing: &Standing, log: Log) -> PartitionLag {
    let next = standing.done.map_or(log.begin, |done| done.next.max(log.begin));
    let records = u64::try_from(log.end.saturating_sub(next)).unwrap_or(0);
    let waited = if records > 0 && standing.handed_ms.is_none() {
        memory.behind_since.entry(standing.place.clone()).or_insert_with(Instant::now).elapsed()
    } else {
        memory.behind_since.remove(&standing.place);
        Duration::ZERO
    };
    let (topic, partition) = standing.place.clone();
    PartitionLag { topic, partition, records, oldest_ms: standing.handed_ms.filter(|_| records > 0), waited }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_log_that_grows_or_is_trimmed_is_the_same_and_one_made_anew_is_another(
            steps in proptest::collection::vec(0i64..50, 1..40),
            read in 1usize..40,
            trimmed in 0usize..40,
            fresh in 0usize..60,
        ) {
            // Times that never fall with the offset, as LogAppendTime gives them.
            let times: Vec<i64> = steps.iter().scan(1_000, |now, step| { *now += step; Some(*now) }).collect();
            let (read, trimmed) = (read.min(times.len()), trimmed.min(times.len()));
            let before = Done { next: read as i64, newest_ms: times[read - 1] };
            let newer = times.iter().enumerate().skip(trimmed).find(|(_, at)| **at > before.newest_ms);
            let same = Log { begin: trimmed as i64, end: times.len() as i64, newer: newer.map(|(at, _)| at as i64) };
            prop_assert!(!is_another(before, same));
            // Every record of a new log is newer.
            let another = Log { begin: 0, end: fresh as i64, newer: (fresh > 0).then_some(0) };
            prop_assert!(is_another(before, another));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_gives_nothing_of_what_stands_there_stands_still() {
        let standing = Standing { place: ("t".to_owned(), 0), epoch: 1, done: None, handed_ms: None };
        let log = Log { begin: 0, end: 5, newer: None };
        let mut memory = Memory::default();
        let mut at = |standing: &Standing, position, idle| memory.stands_still(standing, position, log, idle);
        let now = || Some(Instant::now());
        assert!(!at(&standing, 3, now()), "it has time");
        tokio::time::advance(STANDS_STILL).await;
        assert!(!at(&standing, 3, None), "it was never idle");
        assert!(!at(&standing, 3, Some(Instant::now() - STANDS_STILL)), "it was busy with others");
        assert!(at(&standing, 3, now()));
        assert!(!at(&Standing { epoch: 2, ..standing.clone() }, 3, now()), "another assignment");
        assert!(!at(&standing, 4, now()), "it reads on");
        tokio::time::advance(STANDS_STILL).await;
        assert!(!at(&Standing { handed_ms: Some(1), ..standing.clone() }, 4, now()), "a record is in hand");
        assert!(!at(&standing, 5, now()), "all is read");
        assert!(!at(&standing, 4, now()), "time counts anew");
    }

    #[test]
    fn the_oldest_record_counts_whether_in_hand_or_not() {
        let lag = PartitionLag {
            topic: "t".to_owned(),
            partition: 0,
            records: 3,
            oldest_ms: Some(4_000),
            waited: Duration::from_millis(500),
        };
        let now = Timestamp::from_millisecond(6_500).unwrap();
        assert_eq!(lag.seconds(now), 2.5);
        assert_eq!(PartitionLag { oldest_ms: None, ..lag.clone() }.seconds(now), 0.5);
        assert_eq!(PartitionLag { oldest_ms: Some(9_000), waited: Duration::ZERO, ..lag }.seconds(now), 0.0);
    }
}
