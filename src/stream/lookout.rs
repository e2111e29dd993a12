//! Looks at a group and its topics from outside, for those who watch: how far the group is behind, who its members are,
//! and how the cluster does. It joins no group, commits nothing, and keeps no record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::client::{LOOKUP, refuse};
use super::connection::Connection;
use super::names::Names;
use super::positions::Place;
use super::{StreamError, membership};
use crate::error::Class;

/// How long the oldest records that wait are asked for; those that have not come by then are told without their age.
const PEEK: Duration = Duration::from_millis(1500);
/// At most so many bytes are fetched to learn the age of the oldest record of a partition.
const PEEK_BYTES: &str = "65536";

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id in the group.
    pub id: String,
    /// What its client calls itself.
    pub client: String,
    /// The machine it comes from, as the broker sees it.
    pub host: String,
    /// How many partitions it has; `None` if it does not say so in a way that is known here.
    pub partitions: Option<usize>,
}

/// How far a group is behind in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStanding {
    /// The topic, by its logical name.
    pub topic: String,
    /// Its partitions.
    pub partitions: usize,
    /// Records that stand there and that the group has not committed.
    pub records: u64,
    /// When the broker took the oldest of them, in milliseconds since the epoch; `None` if there is none, or if it could
    /// not be read in time.
    pub oldest_ms: Option<i64>,
}

/// A group as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStanding {
    /// What the group does: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`; empty if nobody ever
    /// joined it.
    pub state: String,
    /// Its members.
    pub members: Vec<Member>,
    /// How far it is behind, in the order that was asked.
    pub topics: Vec<TopicStanding>,
}

/// The cluster as one of its brokers describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Its id; empty if it does not tell.
    pub id: String,
    /// Its brokers, as `host:port`.
    pub brokers: Vec<String>,
    /// Partitions of our topics that nobody leads: nothing can be written to them or read.
    pub leaderless: Vec<String>,
    /// Partitions of our topics with copies that lag behind or are away.
    pub short_of_copies: Vec<String>,
    /// When the brokers took the newest record of the topic that was asked for, in milliseconds since the epoch.
    pub newest_ms: Option<i64>,
}

/// A place to look from. Clones share its connection.
#[derive(Clone)]
pub struct Lookout {
    consumer: Arc<BaseConsumer>,
    names: Names,
    group: String,
    /// One look at a time: a look may assign partitions, and may go on after nobody waits for it any more.
    turn: Arc<Mutex<()>>,
}

impl Connection {
    /// A place to look at `group` from; on a real broker only.
    ///
    /// # Errors
    /// A client property does not fit.
    pub fn lookout(&self, group: &str) -> Result<Lookout, StreamError> {
        let mut config = self.consumer_config(group);
        config
            .set("max.partition.fetch.bytes", PEEK_BYTES)
            .set("queued.min.messages", "1")
            .set("fetch.wait.max.ms", "100")
            .set("enable.partition.eof", "false");
        let made = config.create_with_context(DefaultConsumerContext);
        let consumer: BaseConsumer = made.map_err(|error: KafkaError| {
            StreamError::new("a place to look from could not be made; check [stream]", error, Class::Permanent)
        })?;
        let (names, group) = (self.names().clone(), group.to_owned());
        Ok(Lookout { consumer: Arc::new(consumer), names, group, turn: Arc::default() })
    }
}

impl Lookout {
    /// How the group stands in these topics.
    ///
    /// # Errors
    /// The broker does not answer, a topic is missing, or a right is.
    pub async fn group(&self, topics: &[&str]) -> Result<GroupStanding, StreamError> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.off_thread(move |this| this.look_at_group(&topics)).await
    }

    /// How the cluster does, and when it took the newest record of `topic`.
    ///
    /// # Errors
    /// As for [`Self::group`].
    pub async fn cluster(&self, topic: &str) -> Result<ClusterView, StreamError> {
        let topic = topic.to_owned();
        self.off_thread(move |this| this.look_at_cluster(&topic)).await
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let (this, what) = (self.clone(), format!("the group {} could not be looked at", self.group));
        let in_turn = move || {
            let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            look(&this)
        };
        let looked = tokio::task::spawn_blocking(in_turn).await;
        match looked {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(error)) => Err(refuse(&what, &error)),
            Err(error) => Err(StreamError::new(what, error, Class::Permanent)),
        }
    }

    fn look_at_group(&self, topics: &[String]) -> KafkaResult<GroupStanding> {
        let listed = self.consumer.fetch_group_list(Some(&self.group), LOOKUP)?;
        let (mut state, mut members) = (String::new(), Vec::new());
        if let Some(group) = listed.groups().iter().find(|group| group.name() == self.group) {
            state = group.state().to_owned();
            members = group
                .members()
                .iter()
                .map(|member| Member {
                    id: member.id().to_owned(),
                    client: member.client_id().to_owned(),
                    host: member.client_host().trim_start_matches('/').to_owned(),
                    partitions: member.assignment().and_then(membership::partitions),
                })
                .collect();
        }
        let mut waiting = Vec::new();
        for topic in topics {
            waiting.extend(self.waiting(topic)?);
        }
        let behind: Vec<(Place, i64)> =
            waiting.iter().filter(|w| w.end > w.next).map(|w| (w.place.clone(), w.next)).collect();
        let dates = self.dates(&behind)?;
        let standing = |topic: &String| {
            let own = || waiting.iter().filter(|w| w.place.0 == *topic);
            TopicStanding {
                topic: topic.clone(),
                partitions: own().count(),
                records: own().map(|w| u64::try_from(w.end - w.next).unwrap_or(0)).sum(),
                oldest_ms: dates.iter().filter(|(place, _)| place.0 == *topic).map(|(_, date)| *date).min(),
            }
        };
        Ok(GroupStanding { state, members, topics: topics.iter().map(standing).collect() })
    }

    /// What lies before the group in each partition of a topic.
    fn waiting(&self, topic: &str) -> KafkaResult<Vec<Waiting>> {
        let list = self.partitions(topic)?;
        let committed = offsets(&self.names, &self.consumer.committed_offsets(list.clone(), LOOKUP)?);
        let (begins, ends) = (self.ask(&list, Offset::Beginning)?, self.ask(&list, Offset::End)?);
        let of = |(place, end): (Place, i64)| {
            let begin = begins.get(&place).copied().unwrap_or(0);
            // What is not committed is read from the beginning.
            let next = committed.get(&place).copied().unwrap_or(begin).clamp(begin, end.max(begin));
            Waiting { place, next, end }
        };
        Ok(ends.into_iter().map(of).collect())
    }

    fn partitions(&self, topic: &str) -> KafkaResult<TopicPartitionList> {
        let physical = self.names.physical(topic);
        let metadata = self.consumer.fetch_metadata(Some(&physical), LOOKUP)?;
        let mut list = TopicPartitionList::new();
        for found in metadata.topics() {
            if let Some(error) = found.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            for partition in found.partitions() {
                list.add_partition(&physical, partition.id());
            }
        }
        Ok(list)
    }

    /// The first or the last offset of each; librdkafka hands these through as times that the broker knows.
    fn ask(&self, list: &TopicPartitionList, at: Offset) -> KafkaResult<HashMap<Place, i64>> {
        let mut asked = list.clone();
        asked.set_all_offsets(at)?;
        if asked.count() == 0 {
            return Ok(HashMap::new());
        }
        Ok(offsets(&self.names, &self.consumer.offsets_for_times(asked, LOOKUP)?))
    }

    /// When the broker took the record at each of these places, of those that can be read in time. Their text is not
    /// looked at.
    fn dates(&self, places: &[(Place, i64)]) -> KafkaResult<HashMap<Place, i64>> {
        let mut dates = HashMap::new();
        if places.is_empty() {
            return Ok(dates);
        }
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in places {
            list.add_partition_offset(&self.names.physical(topic), *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list)?;
        let began = Instant::now();
        while dates.len() < places.len() {
            let Some(left) = PEEK.checked_sub(began.elapsed()) else { break };
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let place = (self.names.logical(message.topic()), message.partition());
                    let date = message.timestamp().to_millis().unwrap_or(0);
                    dates.entry(place).or_insert(date);
                }
                // The records that do come still tell.
                Some(Err(error)) => tracing::debug!(%error, "a record could not be looked at"),
                None => break,
            }
        }
        self.consumer.unassign()?;
        Ok(dates)
    }

    fn look_at_cluster(&self, topic: &str) -> KafkaResult<ClusterView> {
        let metadata = self.consumer.fetch_metadata(None, LOOKUP)?;
        let (mut leaderless, mut short_of_copies) = (Vec::new(), Vec::new());
        for found in metadata.topics().iter().filter(|found| self.names.owns(found.name())) {
            for partition in found.partitions() {
                let place = || format!("{}/{}", found.name(), partition.id());
                if partition.leader() < 0 {
                    leaderless.push(place());
                } else if partition.isr().len() < partition.replicas().len() {
                    short_of_copies.push(place());
                }
            }
        }
        let brokers = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
        let id = self.consumer.client().fetch_cluster_id(LOOKUP).unwrap_or_default();
        Ok(ClusterView { id, brokers, leaderless, short_of_copies, newest_ms: self.newest(topic)? })
    }

    fn newest(&self, topic: &str) -> KafkaResult<Option<i64>> {
        // A topic that is missing is told where the topics are compared.
        let Ok(list) = self.partitions(topic) else { return Ok(None) };
        let (begins, ends) = (self.ask(&list, Offset::Beginning)?, self.ask(&list, Offset::End)?);
        let last = |(place, end): (Place, i64)| {
            let begin = begins.get(&place).copied()?;
            (end > begin).then_some((place, end - 1))
        };
        let last: Vec<_> = ends.into_iter().filter_map(last).collect();
        Ok(self.dates(&last)?.into_values().max())
    }
}

/// A partition before a group.
struct Waiting {
    place: Place,
    next: i64,
    end: i64,
}

fn offsets(names: &Names, list: &TopicPartitionList) -> HashMap<Place, i64> {
    let offset = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) if offset >= 0 => Some(((names.logical(element.topic()), element.partition()), offset)),
        _ => None,
    };
    list.elements().into_iter().filter_map(offset).collect()
}
