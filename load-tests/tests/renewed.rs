//! Topics that are made anew on a Kafka whose brokers have changed places before.
//!
//! Partitions there had a leader's epoch above 0, and the new ones begin at 0 again. librdkafka ignores an epoch that is
//! lower than the one it knows and is refused for ever (its issue 4898), whatever it seeks: only a new client reads on.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use autoreply::contract::wire::{WireRecord, topic};
use autoreply::stream::{Batch, Connection, NotDone, Settings, StreamError};
use autoreply_load_tests::services::{Kind, Services};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;

fn settings(brokers: &str) -> Settings {
    let defaults: toml::Table = include_str!("../../config.default.toml").parse().unwrap();
    let mut settings: Settings = defaults["stream"].clone().try_into().unwrap();
    settings.brokers = brokers.to_owned();
    settings.survey_every_ms = 300;
    settings.session_timeout_ms = 6_000;
    settings
}

struct Broker {
    services: Services,
    connection: Connection,
}

impl Broker {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let brokers = self.services.addresses().kafka.clone().unwrap();
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
    }

    /// Makes the topic, for which an empty broker may need a moment, and begins it with `numbers`.
    async fn begin(&self, numbers: std::ops::Range<usize>) {
        let new = NewTopic::new(topic::COMMANDS, PARTITIONS, TopicReplication::Fixed(1));
        let new = new.set("message.timestamp.type", "LogAppendTime");
        let made = async {
            loop {
                let made = self.admin().create_topics([&new], &AdminOptions::new()).await;
                if made.is_ok_and(|each| each.iter().all(Result::is_ok)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, made).await.unwrap();
        self.publish(numbers).await;
    }

    async fn delete(&self) {
        for gone in self.admin().delete_topics(&[topic::COMMANDS], &AdminOptions::new()).await.unwrap() {
            gone.unwrap();
        }
    }

    async fn publish(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let record = WireRecord {
                topic: topic::COMMANDS.to_owned(),
                key: b"desk-1".to_vec(),
                headers: Vec::new(),
                payload: number.to_string().into_bytes(),
            };
            self.connection.producer().publish(record).await.unwrap();
        }
    }
}

/// Somebody who reads, and the numbers that have come.
struct Reading {
    who: &'static str,
    inbox: UnboundedReceiver<usize>,
}

impl Reading {
    /// Waits until all of `numbers` have come; others may come again.
    async fn expect(&mut self, numbers: std::ops::Range<usize>) {
        let mut missing: BTreeSet<usize> = numbers.collect();
        while !missing.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
            let Ok(next) = next else { panic!("the {} waits for {missing:?}", self.who) };
            missing.remove(&next.unwrap());
        }
    }
}

/// Each of them gets all of `numbers`.
async fn expect(all: &mut [Reading], numbers: std::ops::Range<usize>) {
    for reading in all {
        reading.expect(numbers.clone()).await;
    }
}

fn forward(out: UnboundedSender<usize>) -> impl FnMut(Batch) -> std::future::Ready<Result<(), NotDone>> {
    move |batch| {
        for received in batch.iter() {
            let number = String::from_utf8_lossy(&received.record.payload).parse().unwrap();
            out.send(number).unwrap();
        }
        std::future::ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_members_of_a_group_outlive_new_topics_and_a_lost_disk_of_brokers_that_were_restarted() {
    let directory = tempfile::Builder::new().prefix("renewed-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let services = Services::up_only(directory.path().join("services"), 1, &[Kind::Kafka]).await.unwrap();
    let connection = Connection::open(&settings(services.addresses().kafka.as_ref().unwrap())).unwrap();
    let broker = Broker { services, connection };
    broker.begin(0..8).await;

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::<Result<(), StreamError>>::new());
    let (out, inbox) = unbounded_channel();
    let reader = broker.connection.reader(topic::COMMANDS, b"desk-1", jiff::Timestamp::UNIX_EPOCH);
    tasks.spawn(reader.run(stop.clone(), forward(out)));
    let reader = Reading { who: "reader", inbox };
    let (out, inbox) = unbounded_channel();
    let consumer = broker.connection.consumer("g", &[topic::COMMANDS]).unwrap();
    tasks.spawn(consumer.run(stop.clone(), forward(out)));
    let mut all = [reader, Reading { who: "member", inbox }];
    expect(&mut all, 0..8).await;

    // A restart elects leaders again: the partitions' epoch rises, and the clients hear of it.
    broker.services.restart("kafka").await.unwrap();
    broker.publish(8..10).await;
    expect(&mut all, 8..10).await;
    // Long enough for surveys to see how far all is read.
    tokio::time::sleep(Duration::from_secs(1)).await;

    broker.delete().await;
    broker.begin(100..103).await;
    expect(&mut all, 100..103).await;

    broker.services.restart("kafka").await.unwrap();
    broker.publish(103..105).await;
    expect(&mut all, 103..105).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    broker.services.wipe("kafka").await.unwrap();
    broker.services.start("kafka").await.unwrap();
    // More than were read before: the old positions are valid ones.
    broker.begin(200..240).await;
    expect(&mut all, 200..240).await;
    broker.publish(240..241).await;
    expect(&mut all, 240..241).await;
    stop.cancel();
    for ended in tasks.join_all().await {
        ended.unwrap();
    }
    broker.services.remove().await.unwrap();
}
