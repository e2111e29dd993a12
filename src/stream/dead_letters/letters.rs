//! Dead letters to look at, to send on their way again, and to mark as dealt with.
//!
//! A letter's id is its place among the dead letters. What became of it is a record of its own in the same topic, a
//! marker with the same key, so that no other store is needed and it ends with the letters' retention.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use super::PREFIX;
use crate::contract::codec::REPLAYED_HEADER;
use crate::contract::wire::{WireRecord, topic};
use crate::error::Class;
use crate::stream::{Batch, Connection, Producer, PublishError, Received, StreamError};

/// The header of a marker: what became of the letter.
const RESOLVED: &str = "autoreply-dead-resolved";
/// The header of a marker: the letter's id.
const ID: &str = "autoreply-dead-id";
/// The header of a marker: who decided.
const BY: &str = "autoreply-dead-by";
/// The most letters that are looked at; older ones are passed over.
const MOST: usize = 10_000;
/// The most characters shown of a text that came with a record.
const SHOWN: usize = 120;

/// Where a letter lies among the dead letters; written `partition/offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (partition, offset) = text.split_once('/')?;
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        let valid = read().filter(|id| id.partition >= 0 && id.offset >= 0);
        valid.ok_or_else(|| format!("{text:?} is not the id of a dead letter; one looks like 3/17"))
    }
}

impl Serialize for LetterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It was sent on its way again.
    Replayed,
    /// A person has dealt with it.
    Parked,
}

impl Resolution {
    /// The word as it stands in the marker.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Parked => "parked",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Replayed, Self::Parked].into_iter().find(|resolution| resolution.as_str() == text)
    }
}

/// A dead letter without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Where it lies.
    pub id: LetterId,
    /// When it was put there, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The type that it says it has, if it says one.
    pub kind: String,
    /// Its key; a key that is not plain text in hexadecimal digits.
    pub key: String,
    /// Where it came from: topic, partition and offset.
    pub from: String,
    /// Why it could not be read.
    pub why: String,
    /// The bytes of its body.
    pub bytes: usize,
    /// What became of it.
    pub resolved: Option<Resolution>,
}

impl Letter {
    fn of(received: &Received) -> Self {
        let record = &received.record;
        let said = |name: &str| plain(record.header(name).unwrap_or_default().as_bytes());
        let dead = |name: &str| said(&format!("{PREFIX}{name}"));
        Self {
            id: id_of(received),
            at_ms: received.timestamp_ms,
            kind: said("ce_type"),
            key: plain(&record.key),
            from: format!("{}/{}/{}", dead("topic"), dead("partition"), dead("offset")),
            why: dead("why"),
            bytes: record.payload.len(),
            resolved: None,
        }
    }
}

fn id_of(received: &Received) -> LetterId {
    LetterId { partition: received.partition, offset: received.offset }
}

/// Printable ASCII as it is, anything else as hexadecimal digits: what strangers wrote must not move a terminal.
fn plain(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if printable => text.to_owned(),
        _ => bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect(),
    };
    text.chars().take(SHOWN).collect()
}

/// What a record among the dead letters says of another one, if it is a marker.
fn marker(record: &WireRecord) -> Option<(LetterId, Resolution)> {
    Some((record.header(ID)?.parse().ok()?, Resolution::read(record.header(RESOLVED)?)?))
}

fn mark(id: LetterId, key: Vec<u8>, resolution: Resolution, by: &str) -> WireRecord {
    let headers = [(RESOLVED, resolution.as_str().to_owned()), (ID, id.to_string()), (BY, by.to_owned())];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    WireRecord { topic: topic::DEAD_LETTERS.to_owned(), key, headers, payload: Vec::new() }
}

/// The record as it came to its topic, with a header that says it comes again; none if it does not say where it was.
fn revive(letter: &WireRecord) -> Option<WireRecord> {
    let home = letter.header(&format!("{PREFIX}topic"))?;
    let known = [topic::MESSAGES, topic::COMMANDS, topic::OUTCOMES, topic::CONTROLS];
    let home = known.into_iter().find(|topic| *topic == home)?;
    let own = |name: &str| name.starts_with(PREFIX) || name == REPLAYED_HEADER;
    let mut headers: Vec<_> = letter.headers.iter().filter(|(name, _)| !own(name)).cloned().collect();
    headers.push((REPLAYED_HEADER.to_owned(), b"1".to_vec()));
    Some(WireRecord { topic: home.to_owned(), key: letter.key.clone(), headers, payload: letter.payload.clone() })
}

/// Letters and markers as they are read.
#[derive(Default)]
struct Pile {
    letters: BTreeMap<(i64, LetterId), Letter>,
    resolved: HashMap<LetterId, Resolution>,
}

impl Pile {
    fn take(&mut self, received: &Received) {
        if let Some((id, resolution)) = marker(&received.record) {
            self.resolved.insert(id, resolution);
            return;
        }
        let letter = Letter::of(received);
        self.letters.insert((letter.at_ms, letter.id), letter);
        if self.letters.len() > MOST {
            self.letters.pop_first();
        }
    }

    /// The newest first; without `all` only those that nobody has dealt with.
    fn list(self, all: bool, limit: usize) -> Vec<Letter> {
        let resolved = self.resolved;
        let letters = self.letters.into_values().rev().map(|mut letter| {
            letter.resolved = resolved.get(&letter.id).copied();
            letter
        });
        letters.filter(|letter| all || letter.resolved.is_none()).take(limit).collect()
    }
}

/// Why a letter was not sent on its way or marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// No letter has this id.
    #[error("there is no dead letter {0}")]
    Unknown(LetterId),
    /// Somebody was faster.
    #[error("the dead letter {0} was {how} already", how = .1.as_str())]
    Resolved(LetterId, Resolution),
    /// It does not say which topic it came from.
    #[error("the dead letter {0} does not say which topic it came from")]
    Homeless(LetterId),
    /// The broker did not answer.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The broker did not take a record.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The dead letters of a cluster.
pub struct Letters {
    connection: Connection,
    producer: Producer,
    patience: Duration,
}

impl Letters {
    /// Those that `connection` reaches, asked for at most `patience`.
    pub fn new(connection: &Connection, patience: Duration) -> Self {
        Self { connection: connection.clone(), producer: connection.producer(), patience }
    }

    /// At most `limit` letters, the newest first; without `all` only those that nobody has dealt with.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub async fn list(&self, all: bool, limit: usize) -> Result<Vec<Letter>, StreamError> {
        let mut pile = Pile::default();
        self.read(|received| pile.take(received)).await?;
        Ok(pile.list(all, limit))
    }

    /// A letter whole, and what became of it.
    ///
    /// # Errors
    /// There is none, or the broker does not answer in time.
    pub async fn find(&self, id: LetterId) -> Result<(Received, Option<Resolution>), LetterError> {
        let (mut found, mut resolved) = (None, None);
        self.read(|received| {
            match marker(&received.record) {
                Some((marked, resolution)) if marked == id => resolved = Some(resolution),
                None if id_of(received) == id => found = Some(received.clone()),
                _ => {}
            };
        })
        .await?;
        found.map(|received| (received, resolved)).ok_or(LetterError::Unknown(id))
    }

    /// Publishes a letter to its topic again, and remembers that. Whoever reads it knows that it comes again: a turn
    /// is then answered with a draft at most.
    ///
    /// # Errors
    /// It is unknown or dealt with, or the broker refuses.
    pub async fn replay(&self, id: LetterId, by: &str) -> Result<String, LetterError> {
        let letter = self.open(id).await?;
        let record = revive(&letter.record).ok_or(LetterError::Homeless(id))?;
        let home = record.topic.clone();
        self.producer.publish(record).await?;
        self.producer.publish(mark(id, letter.record.key, Resolution::Replayed, by)).await?;
        Ok(home)
    }

    /// Remembers that a letter was dealt with.
    ///
    /// # Errors
    /// It is unknown or dealt with, or the broker refuses.
    pub async fn park(&self, id: LetterId, by: &str) -> Result<(), LetterError> {
        let letter = self.open(id).await?;
        self.producer.publish(mark(id, letter.record.key, Resolution::Parked, by)).await?;
        Ok(())
    }

    async fn open(&self, id: LetterId) -> Result<Received, LetterError> {
        match self.find(id).await? {
            (letter, None) => Ok(letter),
            (_, Some(resolution)) => Err(LetterError::Resolved(id, resolution)),
        }
    }

    /// Reads everything that stands among the dead letters now.
    async fn read(&self, mut each: impl FnMut(&Received)) -> Result<(), StreamError> {
        let reader = self.connection.reader_all(topic::DEAD_LETTERS);
        let (mut caught_up, stop) = (reader.caught_up(), CancellationToken::new());
        let reading = reader.run(stop.clone(), |batch: Batch| {
            batch.iter().for_each(&mut each);
            std::future::ready(Ok(()))
        });
        let ending = async {
            let told = tokio::time::timeout(self.patience, caught_up.wait_for(|told| *told)).await.is_ok();
            stop.cancel();
            told
        };
        let (read, told) = tokio::join!(reading, ending);
        read?;
        let slow =
            || StreamError::new("reading the dead letters", "the broker did not answer in time", Class::Transient);
        told.then_some(()).ok_or_else(slow)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bury;
    use super::*;

    fn received(partition: i32, offset: i64, timestamp_ms: i64, record: WireRecord) -> Received {
        Received { record, partition, offset, timestamp_ms }
    }

    proptest! {
        #[test]
        fn what_was_buried_comes_back_as_it_came_and_says_so(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
            headers in proptest::collection::vec(("[a-z_-]{1,12}", proptest::collection::vec(any::<u8>(), 0..9)), 0..5),
        ) {
            let record = WireRecord { topic: topic::MESSAGES.to_owned(), key, headers, payload };
            let once = revive(&bury(&received(3, 9, 5, record.clone()), "why", 1)).unwrap();
            let mut expected = record;
            expected.headers.push((REPLAYED_HEADER.to_owned(), b"1".to_vec()));
            prop_assert_eq!(&once, &expected);
            let twice = revive(&bury(&received(3, 9, 5, once), "again", 1)).unwrap();
            prop_assert_eq!(twice, expected);
        }

        #[test]
        fn an_id_is_read_as_it_is_written(partition in 0i32.., offset in 0i64..) {
            let id = LetterId { partition, offset };
            prop_assert_eq!(id.to_string().parse::<LetterId>(), Ok(id));
        }
    }

    #[test]
    fn nothing_comes_back_to_a_topic_that_is_not_ours() {
        let elsewhere = WireRecord { topic: "other".to_owned(), ..WireRecord::default() };
        assert_eq!(revive(&bury(&received(0, 0, 0, elsewhere), "why", 1)), None);
        assert!("3".parse::<LetterId>().is_err() && "3/-1".parse::<LetterId>().is_err());
    }

    #[test]
    fn the_list_is_newest_first_bounded_and_without_what_was_dealt_with() {
        let mut pile = Pile::default();
        let garbage = WireRecord {
            topic: topic::MESSAGES.to_owned(),
            key: b"\x1b[2Jk".to_vec(),
            headers: vec![("ce_type".to_owned(), b"messages.detected.v1".to_vec())],
            payload: b"secret words".to_vec(),
        };
        for offset in 0..5 {
            let letter = bury(&received(7, 40 + offset, 0, garbage.clone()), "its body is not JSON", 1);
            pile.take(&received(0, offset, 100 + offset, letter));
        }
        let id = LetterId { partition: 0, offset: 3 };
        pile.take(&received(0, 5, 200, mark(id, garbage.key.clone(), Resolution::Parked, "me")));
        let offsets = |letters: &[Letter]| letters.iter().map(|letter| letter.id.offset).collect::<Vec<_>>();
        let all = Pile { letters: pile.letters.clone(), resolved: pile.resolved.clone() }.list(true, 9);
        assert_eq!(offsets(&all), [4, 3, 2, 1, 0]);
        assert_eq!(all[1].resolved, Some(Resolution::Parked));
        let open = pile.list(false, 3);
        assert_eq!(offsets(&open), [4, 2, 1]);
        assert_eq!(open[0].key, "1b5b324a6b", "no control character reaches a terminal");
        assert_eq!((open[0].from.as_str(), open[0].bytes), ("autoreply.messages/7/44", 12));
        assert!(!serde_json::to_string(&open).unwrap().contains("secret"));
    }
}
