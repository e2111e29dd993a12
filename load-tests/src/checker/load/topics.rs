//! The topics, from beginning to end, through the program's own codec: it is the contract that is read, not a count.

use std::time::Duration;

use autoreply::contract::Command;
use autoreply::contract::codec::{Codec, Incoming};
use autoreply::contract::wire::{WireRecord, topic};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::Unread;
use crate::checker::material::{Outcome, Send, Topics};

const PATIENCE: Duration = Duration::from_secs(30);
/// The logical name of the topic of desktops' heartbeats, which older releases do not have.
const DESKTOPS: &str = "autoreply.desktops";

/// Reads the topics whose names begin with `prefix` at these brokers. A topic that is not there is empty.
///
/// # Errors
/// The brokers do not answer, or stop answering.
pub fn load(brokers: &str, prefix: &str) -> Result<Topics, Unread> {
    let fault = |why: rdkafka::error::KafkaError| Unread::new("Kafka", why);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{prefix}-checker"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create()
        .map_err(fault)?;
    let mut topics = Topics::default();
    for logical in [topic::MESSAGES, topic::COMMANDS, topic::OUTCOMES, topic::CONTROLS, DESKTOPS, topic::DEAD_LETTERS] {
        let name = logical.replacen("autoreply", prefix, 1);
        each(&consumer, &name, |message| take(&mut topics, logical, message)).map_err(fault)?;
    }
    Ok(topics)
}

/// Hands over every record that a topic holds now.
fn each(
    consumer: &BaseConsumer,
    name: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> rdkafka::error::KafkaResult<()> {
    let metadata = consumer.fetch_metadata(Some(name), PATIENCE)?;
    let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
    let mut list = TopicPartitionList::new();
    let mut waiting = 0;
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(name, partition.id(), PATIENCE)?;
        if low < high {
            list.add_partition_offset(name, partition.id(), Offset::Offset(low))?;
            waiting += 1;
        }
    }
    if waiting == 0 {
        return Ok(());
    }
    consumer.assign(&list)?;
    while waiting > 0 {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => take(&message),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => waiting -= 1,
            Some(Err(error)) => return Err(error),
            None => {
                let code = rdkafka::types::RDKafkaErrorCode::OperationTimedOut;
                return Err(rdkafka::error::KafkaError::MessageConsumption(code));
            }
        }
    }
    consumer.unassign()
}

fn take(topics: &mut Topics, logical: &str, message: &BorrowedMessage<'_>) {
    let place = format!("{} {}/{}", message.topic(), message.partition(), message.offset());
    if logical == topic::DEAD_LETTERS {
        let why = header(message, "why").unwrap_or_else(|| "it does not say why".to_owned());
        topics.dead_letters.push(format!("{place}: {why}"));
        return;
    }
    if logical == DESKTOPS {
        topics.others += 1;
        return;
    }
    match Codec::default().decode(&wire(logical, message)) {
        Ok(Incoming::Messages(detected)) => topics.turns.push(detected.turn.to_string()),
        Ok(Incoming::Command(Command::Send(send))) => {
            topics.sends.push(Send { turn: send.turn.to_string(), revision: send.revision.0, text: send.text });
        }
        Ok(Incoming::Outcome(outcome)) => {
            let effect = outcome.effect.as_str().to_owned();
            topics.outcomes.push(Outcome { turn: outcome.turn.to_string(), effect });
        }
        Ok(_) => topics.others += 1,
        // A control that was taken back is a record without a body.
        Err(_) if logical == topic::CONTROLS && message.payload().is_none() => topics.others += 1,
        Err(why) => topics.unreadable.push(format!("{place}: {why}")),
    }
}

fn wire(logical: &str, message: &BorrowedMessage<'_>) -> WireRecord {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    WireRecord {
        topic: logical.to_owned(),
        key: message.key().unwrap_or_default().to_vec(),
        headers: headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}

/// The last header whose name ends so: what dead letters say is under names of the program's own.
fn header(message: &BorrowedMessage<'_>, end: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().filter(|header| header.key.ends_with(end)).last()?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}
