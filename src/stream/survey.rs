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

/// Records stand there, again and again the client gives nothing at all, and yet none of them comes for so long: it will
/// not find out by itself. Far more than a broker needs that is slow.
const STANDS_STILL: Duration = Duration::from_secs(30);
/// And at so many surveys at least: a process that was frozen has missed them, and has not looked in vain.
const LOOKS_IN_VAIN: u32 = 3;

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
    /// Where the client stands in partitions that hold more, and at how many surveys it had been idle since the last one.
    in_vain: HashMap<Place, (u64, i64, u32)>,
    cluster: Option<String>,
    unreachable: bool,
}

impl Memory {
    /// At how many surveys the client has stood at `position` although the log goes on behind it. Counted are those before
    /// which it was `idle`: it had nothing else to give.
    fn looked_in_vain(&mut self, standing: &Standing, position: i64, log: Log, idle: bool) -> u32 {
        if position >= log.end || standing.handed_ms.is_some() {
            self.in_vain.remove(&standing.place);
            return 0;
        }
        let seen = |kept: &&(u64, i64, u32)| (kept.0, kept.1) == (standing.epoch, position);
        let looks = self.in_vain.get(&standing.place).filter(seen).map_or(0, |kept| kept.2 + u32::from(idle));
        self.in_vain.insert(standing.place.clone(), (standing.epoch, position, looks));
        looks
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
        if self.renewed.is_cancelled() {
            return;
        }
        let standings = self.consumer.context().assignment().snapshot();
        let asked: Vec<_> = standings.iter().map(|standing| self.question(standing, memory)).collect();
        let logs = match self.look(&asked) {
            Ok(logs) => logs,
            Err(error) => {
                tracing::warn!(%error, "the broker could not be asked how far behind this is");
                memory.unreachable = true;
                memory.in_vain.clear();
                self.withdraw();
                return;
            }
        };
        // Taken anew: the look has found out where reading starts in partitions that are new.
        let fresh = self.consumer.context().assignment().snapshot();
        if !self.embedded && self.needs_another_client(memory, &fresh, &logs) {
            return self.withdraw();
        }
        let measured = |standing: &Standing| Some(measure(memory, standing, *logs.get(&standing.place)?));
        let partitions = fresh.iter().filter_map(measured).collect();
        if memory.unreachable && self.is_at(&logs) {
            memory.unreachable = false;
            if let Some(caught_up) = &self.caught_up {
                caught_up.send_replace(true);
            }
        }
        if let Some(told) = &self.lag {
            told.send_replace(Lag { partitions, rebalances: self.consumer.context().rebalances() });
        }
        let done = |standing: Standing| Some((standing.place, (standing.epoch, standing.done?)));
        memory.done = standings.into_iter().filter_map(done).collect();
    }

    /// Whether this client is of no use any more, in which case it has been told so. What is remembered stays: where the
    /// group could not be told, the next survey finds the same.
    fn needs_another_client(&self, memory: &mut Memory, fresh: &[Standing], logs: &HashMap<Place, Log>) -> bool {
        if self.is_another_cluster(memory, fresh) {
            self.leave_all(fresh);
            return true;
        }
        let anew = |standing: &Standing| {
            let log = *logs.get(&standing.place)?;
            is_another(before(memory, standing)?, log).then(|| (standing.place.clone(), log))
        };
        let anew: Vec<_> = fresh.iter().filter_map(anew).collect();
        if !anew.is_empty() {
            self.begin_again(&anew);
            return true;
        }
        self.stands_still(memory, fresh, logs)
    }

    /// Whether the cluster is another one than at the survey before.
    fn is_another_cluster(&self, memory: &mut Memory, standings: &[Standing]) -> bool {
        let Some(any) = standings.first() else { return false };
        let topic = self.consumer.context().names().physical(&any.place.0);
        // The client itself looks only every few minutes.
        if self.consumer.fetch_metadata(Some(&topic), LOOKUP).is_err() {
            return false;
        }
        let Some(id) = self.consumer.client().fetch_cluster_id(LOOKUP) else { return false };
        memory.cluster.replace(id.clone()).is_some_and(|before| before != id)
    }

    /// The cluster is another one: nothing that is known of partitions is true of it.
    fn leave_all(&self, standings: &[Standing]) {
        tracing::warn!("the cluster is another one; its topics are read anew");
        self.consumer.context().assignment().assign(standings.iter().map(|standing| standing.place.clone()));
        self.renewed.cancel();
    }

    /// Whether records stand somewhere and the client, which has time, gives none of them.
    fn stands_still(&self, memory: &mut Memory, fresh: &[Standing], logs: &HashMap<Place, Log>) -> bool {
        let idle = self.consumer.context().take_idle();
        let Ok(positions) = self.consumer.position() else { return false };
        let mut still = false;
        for standing in fresh {
            let Some(log) = logs.get(&standing.place).copied() else { continue };
            let position = self.at(&positions, &standing.place).or_else(|| standing.done.map(|done| done.next));
            let looks = memory.looked_in_vain(standing, position.unwrap_or(log.begin), log, idle);
            if looks >= LOOKS_IN_VAIN && self.every * looks >= STANDS_STILL {
                let (topic, partition) = &standing.place;
                tracing::warn!(topic, partition, "records stand there and none comes; a new client is to read them");
                still = true;
            }
        }
        if still {
            self.renewed.cancel();
        }
        still
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
    /// the new ones. Not before the group was told where they begin: its old offsets could be valid in them.
    fn begin_again(&self, anew: &[(Place, Log)]) {
        let watch = self.consumer.context();
        if self.grouped {
            let begins = anew.iter().map(|(place, log)| (place, log.begin));
            if let Err(error) = commit(&*self.consumer, watch.names(), begins, CommitMode::Sync) {
                tracing::warn!(%error, "the group could not be told where topics that were made anew begin; tried again");
                return;
            }
        }
        watch.assignment().assign(anew.iter().map(|(place, _)| place.clone()));
        for ((topic, partition), _) in anew {
            tracing::warn!(topic, partition, "the topic was made anew; it is read from its beginning");
        }
        self.renewed.cancel();
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

    #[test]
    fn only_looks_of_an_idle_client_at_the_same_place_are_in_vain() {
        let standing = Standing { place: ("t".to_owned(), 0), epoch: 1, done: None, handed_ms: None };
        let log = Log { begin: 0, end: 5, newer: None };
        let mut memory = Memory::default();
        let mut at = |standing: &Standing, position, idle| memory.looked_in_vain(standing, position, log, idle);
        assert_eq!(at(&standing, 3, true), 0, "it has time");
        assert_eq!(at(&standing, 3, true), 1);
        assert_eq!(at(&standing, 3, false), 1, "it was busy with others");
        assert_eq!(at(&standing, 3, true), 2);
        assert_eq!(at(&Standing { epoch: 2, ..standing.clone() }, 3, true), 0, "another assignment");
        assert_eq!(at(&standing, 3, true), 0);
        assert_eq!(at(&standing, 4, true), 0, "it reads on");
        assert_eq!(at(&standing, 4, true), 1);
        assert_eq!(at(&Standing { handed_ms: Some(1), ..standing.clone() }, 4, true), 0, "a record is in hand");
        assert_eq!(at(&standing, 4, true), 0);
        assert_eq!(at(&standing, 5, true), 0, "all is read");
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
