//! Against the embedded broker: librdkafka's real protocol on loopback. What a real Kafka does besides stands in `real`
//! and its neighbours; the cases that both must pass are run on both.

mod commits;
mod letters;
mod lookout;
mod real;
mod rebalancing;
mod renewed;
mod security;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::contract::wire::topic;

/// A place, and a change that makes the value there wrong.
type Spoil = (&'static str, fn(&mut Settings));

const PATIENCE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    let defaults: toml::Table = include_str!("../../../config.default.toml").parse().unwrap();
    let mut settings: Settings = defaults["stream"].clone().try_into().unwrap();
    settings.check().unwrap();
    settings.redeliver_initial_ms = 5;
    settings.redeliver_max_ms = 20;
    settings.pause_after_ms = 50;
    settings
}

fn open() -> Connection {
    Connection::open(&settings()).unwrap()
}

/// A group of its own for each test: on a real broker they share the coordinator.
fn group(connection: &Connection, name: &str) -> String {
    format!("{}-{name}", connection.settings().topic_prefix)
}

fn record(topic: &str, key: &str, number: usize) -> WireRecord {
    let headers = vec![("ce_type".to_owned(), b"t".to_vec()), ("raw".to_owned(), vec![0xff, 0])];
    WireRecord { topic: topic.to_owned(), key: key.into(), headers, payload: number.to_string().into_bytes() }
}

fn number(received: &Received) -> usize {
    String::from_utf8(received.record.payload.clone()).unwrap().parse().unwrap()
}

async fn publish(connection: &Connection, topic: &str, key: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        connection.producer().publish(record(topic, key, number)).await.unwrap();
    }
}

/// Takes records from `inbox` until `count` have come.
async fn take(inbox: &mut mpsc::UnboundedReceiver<Received>, count: usize) -> Vec<Received> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, inbox.recv()).await;
        taken.push(next.unwrap_or_else(|_| panic!("{} of {count} came", taken.len())).unwrap());
    }
    taken
}

struct Running {
    stop: CancellationToken,
    tasks: JoinSet<Result<(), StreamError>>,
    inbox: mpsc::UnboundedReceiver<Received>,
}

impl Running {
    fn consume(consumer: Consumer) -> Self {
        let (stop, mut tasks, (out, inbox)) = (CancellationToken::new(), JoinSet::new(), mpsc::unbounded_channel());
        tasks.spawn(consumer.run(stop.clone(), forward(out)));
        Self { stop, tasks, inbox }
    }

    fn read(reader: Reader) -> Self {
        let (stop, mut tasks, (out, inbox)) = (CancellationToken::new(), JoinSet::new(), mpsc::unbounded_channel());
        tasks.spawn(reader.run(stop.clone(), forward(out)));
        Self { stop, tasks, inbox }
    }

    async fn end(mut self) -> Result<(), StreamError> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }
}

fn forward(out: mpsc::UnboundedSender<Received>) -> impl FnMut(Batch) -> std::future::Ready<Result<(), NotDone>> {
    move |batch| {
        batch.iter().for_each(|received| out.send(received.clone()).unwrap());
        std::future::ready(Ok(()))
    }
}

fn sasl(settings: &mut Settings) -> &mut Settings {
    settings.brokers = "kafka:9093".to_owned();
    settings.security_protocol = "sasl_ssl".to_owned();
    settings.sasl_username = "autoreply".to_owned();
    settings.sasl_password_env = "KAFKA_PASSWORD".to_owned();
    settings
}

#[test]
fn settings_that_cannot_work_are_named() {
    let spoil: [Spoil; 17] = [
        ("stream.brokers", |s| s.brokers = "nowhere".to_owned()),
        ("stream.compression", |s| s.compression = "zip".to_owned()),
        ("stream.redeliver_max_ms", |s| s.redeliver_max_ms = 1),
        ("stream.max_poll_interval_ms", |s| s.max_poll_interval_ms = 1000),
        ("stream.pause_after_ms", |s| s.pause_after_ms = 290_000),
        ("stream.topic_prefix", |s| s.topic_prefix = "a b".to_owned()),
        ("stream.survey_every_ms", |s| s.survey_every_ms = 0),
        ("stream.security_protocol", |s| s.security_protocol = "tls".to_owned()),
        ("stream.security_protocol", |s| s.security_protocol = "ssl".to_owned()),
        ("stream.ca_file", |s| s.ca_file = "ca.pem".to_owned()),
        ("stream.sasl_username", |s| s.sasl_username = "me".to_owned()),
        ("stream.sasl_mechanism", |s| sasl(s).sasl_mechanism = "GSSAPI".to_owned()),
        ("stream.sasl_password_file and stream.sasl_password_env", |s| sasl(s).sasl_password_file = "p".to_owned()),
        ("stream.certificate_file and stream.key_file", |s| sasl(s).key_file = "k.pem".to_owned()),
        ("stream.client.sasl.password", |s| drop(s.client.insert("sasl.password".to_owned(), "x".to_owned()))),
        ("stream.client.security.protocol", |s| drop(s.client.insert("security.protocol".to_owned(), "x".to_owned()))),
        ("stream.client.acks", |s| drop(s.client.insert("acks".to_owned(), "0".to_owned()))),
    ];
    for (place, change) in spoil {
        let mut bad = settings();
        change(&mut bad);
        assert_eq!(bad.check().unwrap_err().place, place);
    }
    let mut secured = settings();
    assert_eq!(sasl(&mut secured).check(), Ok(()));
    assert_eq!(secured.password(), Some(PasswordReference::Environment("KAFKA_PASSWORD".to_owned())));
    let real = Settings { brokers: "a:9092, b:9093".to_owned(), ..settings() };
    assert_eq!(real.check(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_travel_unchanged_and_keys_keep_their_order() {
    records_travel(&open()).await;
}

async fn records_travel(connection: &Connection) {
    let mut running =
        Running::consume(connection.consumer(&group(connection, "g"), &[topic::MESSAGES, topic::OUTCOMES]).unwrap());
    for round in 0..40 {
        for key in ["a", "b", "c"] {
            publish(connection, topic::MESSAGES, key, round..round + 1).await;
        }
    }
    publish(connection, topic::OUTCOMES, "o", 7..8).await;
    let mut order: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for received in take(&mut running.inbox, 121).await {
        let key = String::from_utf8(received.record.key.clone()).unwrap();
        assert_eq!(received.record, record(&received.record.topic, &key, number(&received)));
        assert!(received.timestamp_ms > 0);
        order.entry(received.record.key.clone()).or_default().push(number(&received));
    }
    for key in ["a", "b", "c"] {
        assert_eq!(order[key.as_bytes()], (0..40).collect::<Vec<_>>());
    }
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn our_partition_of_a_key_is_where_the_producer_puts_it() {
    our_partition_of_a_key(&open(), 48).await;
}

async fn our_partition_of_a_key(connection: &Connection, partitions: i32) {
    for length in 1..40 {
        let key = "käy-0123456789-abcdefghijklmnopqrstuvwxyz-xyz".chars().take(length).collect::<String>();
        let delivered = connection.producer().publish(record(topic::COMMANDS, &key, 0)).await.unwrap();
        assert_eq!(Some(delivered.partition), partition_of(key.as_bytes(), partitions), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_done_comes_again_whole_and_nothing_is_skipped() {
    a_batch_comes_again(&open()).await;
}

async fn a_batch_comes_again(connection: &Connection) {
    publish(connection, topic::MESSAGES, "k", 0..30).await;
    let seen = Arc::new(Mutex::new(Vec::<Vec<usize>>::new()));
    let (stop, log) = (CancellationToken::new(), Arc::clone(&seen));
    let ended = stop.clone();
    let handle = move |batch: Batch| {
        let mut seen = log.lock().unwrap();
        seen.push(batch.iter().map(number).collect());
        // Long enough for the pause to come between.
        let refuse = seen.len() < 12;
        if !refuse && batch.iter().any(|r| number(r) == 59) {
            ended.cancel();
        }
        std::future::ready(if refuse { Err(NotDone::Retry("not yet".to_owned())) } else { Ok(()) })
    };
    let consumer = connection.consumer(&group(connection, "g"), &[topic::MESSAGES]).unwrap();
    let more = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        publish(connection, topic::MESSAGES, "k", 30..60).await;
    };
    let (run, ()) = tokio::join!(tokio::time::timeout(PATIENCE, consumer.run(stop, handle)), more);
    run.unwrap().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[..12].windows(2).all(|pair| pair[0] == pair[1]), "the same batch again");
    assert_eq!(seen[11..].concat(), (0..60).collect::<Vec<_>>(), "and then everything once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_is_kept_behind_what_is_done_and_only_that() {
    let connection = open();
    publish(&connection, topic::MESSAGES, "k", 0..5).await;
    let mut first = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    take(&mut first.inbox, 5).await;
    assert!(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).is_err(), "one consumer a group");
    first.end().await.unwrap();

    publish(&connection, topic::MESSAGES, "k", 5..8).await;
    let refusing = connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap();
    let stopped = refusing.run(CancellationToken::new(), async |_| Err(NotDone::Stop("too many are bad".to_owned())));
    let error = tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap_err();
    assert_eq!((error.why.as_str(), error.class), ("too many are bad", Class::Permanent));

    let mut third = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    let numbers: Vec<_> = take(&mut third.inbox, 3).await.iter().map(number).collect();
    assert_eq!(numbers, [5, 6, 7]);
    third.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_readers_do_not_disturb_each_other() {
    groups_and_readers(&open()).await;
}

async fn groups_and_readers(connection: &Connection) {
    publish(connection, topic::COMMANDS, "desk-1", 0..3).await;
    publish(connection, topic::COMMANDS, "desk-2", 3..5).await;
    let mut one = Running::consume(connection.consumer(&group(connection, "one"), &[topic::COMMANDS]).unwrap());
    let mut two = Running::consume(connection.consumer(&group(connection, "two"), &[topic::COMMANDS]).unwrap());
    let mut desk = Running::read(connection.reader(topic::COMMANDS, b"desk-1", jiff::Timestamp::UNIX_EPOCH));
    for running in [&mut one, &mut two] {
        let numbers: BTreeSet<_> = take(&mut running.inbox, 5).await.iter().map(number).collect();
        assert_eq!(numbers, (0..5).collect());
    }
    publish(connection, topic::COMMANDS, "desk-1", 5..6).await;
    let numbers: Vec<_> = take(&mut desk.inbox, 4).await.iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 5], "only its own key, from the beginning, and on");
    for running in [one, two, desk] {
        running.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_tells_when_it_has_its_partitions() {
    let consumer = open().consumer("joined", &[topic::MESSAGES]).unwrap();
    let mut joined = consumer.joined();
    assert!(!*joined.borrow(), "nobody has asked for them yet");
    let running = Running::consume(consumer);
    tokio::time::timeout(PATIENCE, joined.wait_for(|joined| *joined)).await.unwrap().unwrap();
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_tells_when_it_has_caught_up_also_with_nothing() {
    a_reader_tells(&open()).await;
}

async fn a_reader_tells(connection: &Connection) {
    for count in [0_usize, 3] {
        publish(connection, topic::CONTROLS, "all", 0..count).await;
        let reader = connection.reader_all(topic::CONTROLS);
        let mut caught_up = reader.caught_up();
        let mut running = Running::read(reader);
        tokio::time::timeout(PATIENCE, caught_up.wait_for(|told| *told)).await.unwrap().unwrap();
        let mut handed = 0;
        while running.inbox.try_recv().is_ok() {
            handed += 1;
        }
        assert_eq!(handed, count, "all of it was done before it was told");
        running.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_call_that_runs_and_not_for_one_that_will_be_tried_again() {
    let mut slow = settings();
    slow.redeliver_initial_ms = 60_000;
    slow.redeliver_max_ms = 60_000;
    let connection = Connection::open(&slow).unwrap();
    publish(&connection, topic::MESSAGES, "k", 0..1).await;
    for (outcome, left) in [(Err(NotDone::Retry("away".to_owned())), 1), (Ok(()), 0)] {
        let (stop, began) = (CancellationToken::new(), CancellationToken::new());
        let consumer = connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap();
        let (tell, result) = (began.clone(), outcome.clone());
        let run = consumer.run(stop.clone(), move |_| {
            let (tell, result) = (tell.clone(), result.clone());
            async move {
                tell.cancel();
                tokio::time::sleep(Duration::from_millis(100)).await;
                result
            }
        });
        let stopper = async {
            began.cancelled().await;
            stop.cancel();
        };
        let (run, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), run), stopper);
        run.unwrap().unwrap();
        let positions = connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap();
        let mut again = Running::consume(positions);
        let more = tokio::time::timeout(Duration::from_millis(500), again.inbox.recv()).await;
        assert_eq!(usize::from(more.is_ok()), left);
        again.end().await.unwrap();
        if left == 1 {
            // That look has moved the position: the next round needs a record of its own.
            publish(&connection, topic::MESSAGES, "k", 1..2).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_through_to_the_dead_letters_as_it_came() {
    let connection = open();
    let garbage = WireRecord {
        topic: topic::MESSAGES.to_owned(),
        key: vec![0xff, 0],
        headers: vec![("ce_type".to_owned(), vec![0xfe])],
        payload: vec![1, 2, 0xff],
    };
    connection.producer().publish(garbage.clone()).await.unwrap();
    let mut running = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    let received = take(&mut running.inbox, 1).await.remove(0);
    assert_eq!(received.record, garbage);
    let error = connection.codec().decode(&received.record).unwrap_err();
    connection.producer().publish(bury(&received, &error.to_string(), 1)).await.unwrap();
    let mut graves = Running::read(connection.reader_all(topic::DEAD_LETTERS));
    let letter = take(&mut graves.inbox, 1).await.remove(0).record;
    assert_eq!(
        (letter.payload.as_slice(), letter.key.as_slice()),
        (garbage.payload.as_slice(), garbage.key.as_slice())
    );
    assert!(letter.header("autoreply-dead-why").unwrap().contains("autoreply-mac"));
    running.end().await.unwrap();
    graves.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_records_arrive_once_each() {
    let connection = open();
    let mut running = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    let producer = connection.producer();
    let sent = futures::future::join_all(
        (0..20_000).map(|n| producer.publish(record(topic::MESSAGES, &format!("k{}", n % 97), n))),
    );
    assert!(sent.await.iter().all(Result::is_ok));
    let numbers: BTreeSet<_> = take(&mut running.inbox, 20_000).await.iter().map(number).collect();
    assert_eq!(numbers.len(), 20_000);
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_embedded_broker_has_an_id_of_its_own_and_errors_are_classified() {
    let (one, two) = (open(), open());
    assert_ne!(one.cluster_id(PATIENCE).await, two.cluster_id(PATIENCE).await);
    assert_eq!(one.cluster_id(PATIENCE).await, one.cluster_id(PATIENCE).await);
    let huge = WireRecord { payload: vec![b'x'; 3_000_000], ..record(topic::MESSAGES, "k", 0) };
    assert_eq!(one.producer().publish(huge).await.unwrap_err().class(), Class::Permanent);
    one.producer().flush(PATIENCE).await.unwrap();
    let away = Settings { brokers: "127.0.0.1:1".to_owned(), publish_timeout_ms: 300, linger_ms: 0, ..settings() };
    let away = Connection::open(&away).unwrap();
    let lost = away.producer().publish(record(topic::MESSAGES, "k", 0)).await.unwrap_err();
    assert_eq!(lost.class(), Class::Transient);
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_over_the_embedded_broker_is_measured() {
    let connection = open();
    let mut running =
        Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES, topic::OUTCOMES]).unwrap());
    publish(&connection, topic::MESSAGES, "k", 0..1).await;
    take(&mut running.inbox, 1).await;
    let mut taken = Vec::new();
    for number in 1..101 {
        let began = std::time::Instant::now();
        publish(&connection, topic::MESSAGES, "k", number..number + 1).await;
        take(&mut running.inbox, 1).await;
        taken.push(began.elapsed());
    }
    taken.sort();
    println!("embedded broker, published to handed over: median {:?}, p99 {:?}", taken[50], taken[98]);
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_of_a_real_broker_commits_to_the_group_and_goes_on_behind_it() {
    let broker = open();
    let mut real = Settings { brokers: broker.address().to_owned(), session_timeout_ms: 6_000, ..settings() };
    // The embedded broker knows the eager protocol only; a real one is spoken to cooperatively.
    real.client.insert("partition.assignment.strategy".to_owned(), "range".to_owned());
    let connection = Connection::open(&real).unwrap();
    publish(&connection, topic::MESSAGES, "k", 0..4).await;
    let mut first = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    take(&mut first.inbox, 4).await;
    first.end().await.unwrap();
    publish(&connection, topic::MESSAGES, "k", 4..6).await;
    let mut second = Running::consume(connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap());
    let numbers: Vec<_> = take(&mut second.inbox, 2).await.iter().map(number).collect();
    assert_eq!(numbers, [4, 5]);
    second.end().await.unwrap();
}
