//! Against a real Kafka: what the embedded broker cannot do.

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use uuid::Uuid;

use super::*;
use crate::testing::{Server, address};

/// A few topics of its own on the real broker.
pub(super) struct Real {
    pub(super) settings: Settings,
    pub(super) connection: Connection,
}

impl Real {
    /// Topics with so many partitions each; `None` and a word about it where there is no broker.
    pub(super) async fn with(test: &str, topics: &[(&str, i32)]) -> Option<Self> {
        let mut settings = settings();
        settings.brokers = address(Server::Kafka, test)?;
        settings.topic_prefix = format!("t-{}", Uuid::new_v4().simple());
        settings.session_timeout_ms = 6_000;
        settings.max_poll_interval_ms = 30_000;
        settings.survey_every_ms = 300;
        settings.client.insert("heartbeat.interval.ms".to_owned(), "500".to_owned());
        let this = Self { connection: Connection::open(&settings).unwrap(), settings };
        this.create(topics).await;
        Some(this)
    }

    pub(super) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.connection.admin_config().create().unwrap()
    }

    pub(super) async fn create(&self, topics: &[(&str, i32)]) {
        for (topic, partitions) in topics {
            let name = self.connection.names().physical(topic);
            let new = NewTopic::new(&name, *partitions, TopicReplication::Fixed(1));
            let new = new.set("message.timestamp.type", "LogAppendTime");
            for made in self.admin().create_topics([&new], &AdminOptions::new()).await.unwrap() {
                made.unwrap();
            }
        }
    }

    pub(super) async fn delete(&self, topics: &[&str]) {
        let names: Vec<String> = topics.iter().map(|topic| self.connection.names().physical(topic)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for gone in self.admin().delete_topics(&names, &AdminOptions::new()).await.unwrap() {
            gone.unwrap();
        }
    }

    /// What a group has committed of a topic.
    pub(super) fn committed(&self, name: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let asking: BaseConsumer = self.connection.consumer_config(&group(&self.connection, name)).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.connection.names().physical(topic), 0, partitions - 1);
        let committed = asking.committed_offsets(list, PATIENCE).unwrap();
        let known = committed.elements().into_iter().filter_map(|e| Some((e.partition(), e.offset().to_raw()?)));
        known.filter(|(_, offset)| *offset >= 0).collect()
    }
}

pub(super) async fn lag_of(lag: &mut tokio::sync::watch::Receiver<Lag>, fits: impl Fn(&Lag) -> bool) -> Lag {
    let told = tokio::time::timeout(PATIENCE, lag.wait_for(fits)).await;
    told.unwrap_or_else(|_| panic!("the lag was not told")).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_embedded_broker_does_the_real_one_does_too() {
    let all = [(topic::MESSAGES, 5), (topic::OUTCOMES, 3), (topic::COMMANDS, 7), (topic::CONTROLS, 1)];
    for case in 0..5 {
        let Some(real) = Real::with("the embedded cases on a real broker", &all).await else { return };
        match case {
            0 => records_travel(&real.connection).await,
            1 => a_batch_comes_again(&real.connection).await,
            2 => groups_and_readers(&real.connection).await,
            3 => our_partition_of_a_key(&real.connection, 7).await,
            _ => a_reader_tells(&real.connection).await,
        }
        real.delete(&all.map(|(topic, _)| topic)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_gets_no_partition_is_let_in_too() {
    let Some(real) = Real::with("a member without a partition", &[(topic::MESSAGES, 1)]).await else { return };
    let mut members = Vec::new();
    for _ in 0..2 {
        let consumer = real.connection.consumer(&group(&real.connection, "spare"), &[topic::MESSAGES]).unwrap();
        let mut joined = consumer.joined();
        members.push(Running::consume(consumer));
        tokio::time::timeout(PATIENCE, joined.wait_for(|joined| *joined)).await.unwrap().unwrap();
    }
    for member in members {
        member.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_applied_once_and_what_was_set_by_others_stays() {
    let Some(real) = Real::with("topics are applied once", &[]).await else { return };
    let connection = &real.connection;
    let first = connection.plan_topics().await.unwrap();
    assert_eq!(first.missing().len(), topic::ALL.len());
    connection.apply_topics(&first).await.unwrap();
    let again = connection.plan_topics().await.unwrap();
    assert!(again.fits() && again.changes.is_empty() && again.differences.is_empty(), "{again:?}");

    let messages = connection.names().physical(topic::MESSAGES);
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&messages))
        .set("retention.ms", "60000")
        .set("max.message.bytes", "3000000")
        .set("retention.bytes", "123456789")
        .set("cleanup.policy", "delete")
        .set("segment.ms", "3600000")
        .set("message.timestamp.type", "LogAppendTime");
    real.admin().alter_configs([&alter], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    let changed = loop {
        // The brokers take a moment to show it.
        let plan = connection.plan_topics().await.unwrap();
        if !plan.changes.is_empty() && !plan.differences.is_empty() {
            break plan;
        }
    };
    assert_eq!(changed.changes.len(), 1, "{changed:?}");
    assert!(changed.changes[0].to_string().ends_with("retention.ms = 60000 -> 604800000"));
    assert!(changed.differences[0].what.contains("max.message.bytes is 3000000"));
    connection.apply_topics(&changed).await.unwrap();
    let described = real.admin().describe_configs(&[ResourceSpecifier::Topic(&messages)], &AdminOptions::new()).await;
    let entries = described.unwrap().remove(0).unwrap();
    let value = |key: &str| entries.get(key).and_then(|entry| entry.value.clone()).unwrap();
    assert_eq!((value("retention.bytes").as_str(), value("max.message.bytes").as_str()), ("123456789", "3000000"));
    assert_eq!(value("retention.ms"), "604800000");
    let topics = topic::ALL;
    real.delete(&topics).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_waited_for() {
    let Some(real) = Real::with("a missing topic is waited for", &[]).await else { return };
    let mut consumer =
        Running::consume(real.connection.consumer(&group(&real.connection, "g"), &[topic::MESSAGES]).unwrap());
    let mut reader = Running::read(real.connection.reader_all(topic::MESSAGES));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(consumer.tasks.try_join_next().is_none() && reader.tasks.try_join_next().is_none(), "both wait");
    real.create(&[(topic::MESSAGES, 2)]).await;
    publish(&real.connection, topic::MESSAGES, "k", 0..3).await;
    for running in [&mut consumer, &mut reader] {
        let numbers: Vec<_> = take(&mut running.inbox, 3).await.iter().map(number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
    consumer.end().await.unwrap();
    reader.end().await.unwrap();
    real.delete(&[topic::MESSAGES]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_begins_at_a_time_and_misses_nothing_after_it() {
    let Some(real) = Real::with("a reader begins at a time", &[(topic::COMMANDS, 4)]).await else { return };
    let connection = &real.connection;
    publish(connection, topic::COMMANDS, "desk-1", 0..5).await;
    let mut all = Running::read(connection.reader_all(topic::COMMANDS));
    let old = take(&mut all.inbox, 5).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    publish(connection, topic::COMMANDS, "desk-1", 5..8).await;
    let fresh = take(&mut all.inbox, 3).await;
    all.end().await.unwrap();
    assert!(old[4].timestamp_ms < fresh[0].timestamp_ms);

    let at = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap();
    let between = at(fresh[0].timestamp_ms - 1);
    for (since, expected) in [(between, 5..9), (at(0), 0..9), (at(fresh[2].timestamp_ms + 3_600_000), 8..9)] {
        let reader = connection.reader(topic::COMMANDS, b"desk-1", since);
        let mut caught_up = reader.caught_up();
        let mut running = Running::read(reader);
        tokio::time::timeout(PATIENCE, caught_up.wait_for(|told| *told)).await.unwrap().unwrap();
        if expected.start == 5 {
            publish(connection, topic::COMMANDS, "desk-1", 8..9).await;
        } else if expected.start == 8 {
            // Nothing is that young: it starts at the end, fixed before anything more is published.
            publish(connection, topic::COMMANDS, "desk-1", 8..9).await;
        }
        let numbers: Vec<_> = take(&mut running.inbox, expected.len()).await.iter().map(number).collect();
        assert_eq!(numbers, expected.collect::<Vec<_>>());
        running.end().await.unwrap();
    }
    real.delete(&[topic::COMMANDS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_told_in_records_and_seconds_also_while_paused() {
    let Some(real) = Real::with("the lag is told", &[(topic::MESSAGES, 3)]).await else { return };
    let connection = &real.connection;
    publish(connection, topic::MESSAGES, "k", 0..4).await;
    let consumer = connection.consumer(&group(connection, "g"), &[topic::MESSAGES]).unwrap();
    let mut lag = consumer.lag();
    let (gate, stop) = (Arc::new(tokio::sync::Semaphore::new(0)), CancellationToken::new());
    let (waiting, mut tasks) = (gate.clone(), JoinSet::new());
    tasks.spawn(consumer.run(stop.clone(), move |_| {
        let waiting = waiting.clone();
        async move {
            waiting.acquire().await.unwrap().forget();
            Ok(())
        }
    }));
    let total = |lag: &Lag| lag.partitions.iter().map(|partition| partition.records).sum::<u64>();
    let held = lag_of(&mut lag, |lag| total(lag) == 4 && lag.partitions.iter().any(|p| p.oldest_ms.is_some())).await;
    assert_eq!((held.partitions.len(), held.rebalances), (3, 1));
    // More comes while the partitions are paused: the numbers go on.
    publish(connection, topic::MESSAGES, "k", 4..9).await;
    let more = lag_of(&mut lag, |lag| total(lag) == 9).await;
    let oldest = more.partitions.iter().find_map(|partition| partition.oldest_ms.map(|at| (partition, at))).unwrap();
    let now = jiff::Timestamp::from_millisecond(oldest.1 + 7_000).unwrap();
    assert_eq!((oldest.0.records, oldest.0.seconds(now)), (9, 7.0));
    gate.add_permits(100);
    let done = lag_of(&mut lag, |lag| total(lag) == 0).await;
    assert!(done.partitions.iter().all(|partition| partition.oldest_ms.is_none() && partition.waited.is_zero()));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(real.committed("g", topic::MESSAGES, 3).values().sum::<i64>(), 9, "committed at the end");

    // Somebody else goes on: what nobody has in hand counts from what is committed.
    publish(connection, topic::MESSAGES, "k", 9..11).await;
    let refusing = connection.consumer(&group(connection, "g"), &[topic::MESSAGES]).unwrap();
    let (mut lag, stop) = (refusing.lag(), CancellationToken::new());
    tasks.spawn(refusing.run(stop.clone(), async |_| Err(NotDone::Retry("not yet".to_owned()))));
    assert_eq!(total(&lag_of(&mut lag, |lag| lag.partitions.len() == 3 && total(lag) > 0).await), 2);
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    real.delete(&[topic::MESSAGES]).await;
}
