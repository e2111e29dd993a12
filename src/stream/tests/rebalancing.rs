//! Members that come and go, hang and die: nothing is lost, nothing is committed unseen.

#![allow(clippy::disallowed_methods, reason = "a process that is killed is told by its environment what to consume")]

use std::io::BufRead as _;
use std::process::{Command, Stdio};

use super::real::{Real, lag_of};
use super::*;

/// What a consumer was given: batches of partition, offset, number.
type Log = Arc<Mutex<Vec<Vec<(i32, i64, usize)>>>>;

fn member(real: &Real, name: &str, log: &Log, work: Duration) -> (CancellationToken, JoinSet<Result<(), StreamError>>) {
    let consumer = real.connection.consumer(&group(&real.connection, name), &[topic::MESSAGES]).unwrap();
    let (stop, mut tasks, log) = (CancellationToken::new(), JoinSet::new(), log.clone());
    tasks.spawn(consumer.run(stop.clone(), move |batch| {
        let log = log.clone();
        async move {
            tokio::time::sleep(work).await;
            log.lock().unwrap().push(batch.iter().map(|r| (r.partition, r.offset, number(r))).collect());
            Ok(())
        }
    }));
    (stop, tasks)
}

fn seen(log: &Log) -> BTreeSet<(i32, i64)> {
    log.lock().unwrap().iter().flatten().map(|(partition, offset, _)| (*partition, *offset)).collect()
}

/// Nothing that was not handed to somebody lies below what is committed.
fn commits_follow(real: &Real, name: &str, log: &Log, partitions: i32) {
    let committed = real.committed(name, topic::MESSAGES, partitions);
    let seen = seen(log);
    for (partition, next) in committed {
        let unseen: Vec<_> = (0..next).filter(|offset| !seen.contains(&(partition, *offset))).collect();
        assert!(unseen.is_empty(), "partition {partition} is committed to {next} without {unseen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_rebalances_loses_nothing_and_commits_nothing_unseen() {
    const PARTITIONS: i32 = 6;
    const RECORDS: usize = 1_200;
    let Some(real) = Real::with("a storm of rebalances", &[(topic::MESSAGES, PARTITIONS)]).await else { return };
    let log = Log::default();
    let storm = async {
        // A fixed seed: the numbers of a linear congruential generator (Knuth's MMIX).
        let mut seed = 7_u64;
        let mut members: [Option<(CancellationToken, JoinSet<_>)>; 2] = [None, None];
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let which = usize::from(seed >> 40 & 1 == 1);
            match members[which].take() {
                None => members[which] = Some(member(&real, "g", &log, Duration::from_millis(60))),
                Some((stop, mut tasks)) => {
                    stop.cancel();
                    tasks.join_next().await.unwrap().unwrap().unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(300 + (seed >> 33) % 900)).await;
            commits_follow(&real, "g", &log, PARTITIONS);
        }
        for (stop, mut tasks) in members.into_iter().flatten() {
            stop.cancel();
            tasks.join_next().await.unwrap().unwrap().unwrap();
        }
    };
    let publishing = async {
        for n in 0..RECORDS {
            publish_one(&real, &format!("k{}", n % 23), n).await;
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    };
    tokio::join!(storm, publishing);
    let (stop, mut tasks) = member(&real, "g", &log, Duration::ZERO);
    let finished = async {
        while log.lock().unwrap().iter().flatten().map(|(_, _, n)| *n).collect::<BTreeSet<_>>().len() < RECORDS {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, finished).await.expect("every record is handed to somebody");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    commits_follow(&real, "g", &log, PARTITIONS);
    assert_eq!(real.committed("g", topic::MESSAGES, PARTITIONS).values().sum::<i64>(), RECORDS as i64);
    for batch in log.lock().unwrap().iter() {
        for partition in 0..PARTITIONS {
            let offsets: Vec<_> =
                batch.iter().filter(|(p, ..)| *p == partition).map(|(_, offset, _)| *offset).collect();
            assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "a batch keeps the order: {offsets:?}");
        }
    }
    real.delete(&[topic::MESSAGES]).await;
}

async fn publish_one(real: &Real, key: &str, number: usize) {
    publish(&real.connection, topic::MESSAGES, key, number..number + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_batch_keeps_its_member_in_the_group() {
    let Some(mut real) = Real::with("a slow batch keeps its member", &[(topic::MESSAGES, 2)]).await else { return };
    real.settings.max_poll_interval_ms = 6_000;
    real.connection = Connection::open(&real.settings).unwrap();
    let log = Log::default();
    publish(&real.connection, topic::MESSAGES, "k", 0..3).await;
    let consumer = real.connection.consumer(&group(&real.connection, "g"), &[topic::MESSAGES]).unwrap();
    let (mut lag, stop, mut tasks, seen) = (consumer.lag(), CancellationToken::new(), JoinSet::new(), log.clone());
    tasks.spawn(consumer.run(stop.clone(), move |batch| {
        let seen = seen.clone();
        async move {
            // Longer than the group waits for a member that does not poll.
            tokio::time::sleep(Duration::from_secs(8)).await;
            seen.lock().unwrap().push(batch.iter().map(|r| (r.partition, r.offset, number(r))).collect());
            Ok(())
        }
    }));
    let done = |lag: &Lag| lag.partitions.len() == 2 && lag.partitions.iter().all(|p| p.records == 0);
    let told = lag_of(&mut lag, |lag| done(lag) && !log.lock().unwrap().is_empty()).await;
    assert_eq!(told.rebalances, 1, "the group has not taken its partitions away");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(log.lock().unwrap().iter().flatten().count(), 3, "each was handed over once");
    assert_eq!(real.committed("g", topic::MESSAGES, 2).values().sum::<i64>(), 3);
    real.delete(&[topic::MESSAGES]).await;
}

/// Does nothing by itself: the test below starts it in a process of its own and kills that.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_consumes_until_it_is_killed() {
    let Ok(told) = std::env::var("AUTOREPLY_TEST_CHILD") else { return };
    let (brokers, prefix) = told.split_once(' ').unwrap();
    let real = Settings {
        brokers: brokers.to_owned(),
        topic_prefix: prefix.to_owned(),
        session_timeout_ms: 6_000,
        batch_max_records: 10,
        ..settings()
    };
    let connection = Connection::open(&real).unwrap();
    let consumer = connection.consumer(&group(&connection, "g"), &[topic::MESSAGES]).unwrap();
    let handle = |batch: Batch| async move {
        for received in batch.iter() {
            println!("handled {} {}", received.partition, received.offset);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(())
    };
    consumer.run(CancellationToken::new(), handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_had_not_done_comes_to_another() {
    const RECORDS: usize = 400;
    let Some(real) = Real::with("a killed member", &[(topic::MESSAGES, 4)]).await else { return };
    for n in 0..RECORDS {
        publish_one(&real, &format!("k{}", n % 11), n).await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "stream::tests::rebalancing::child_that_consumes_until_it_is_killed"])
        .env("AUTOREPLY_TEST_CHILD", format!("{} {}", real.settings.brokers, real.settings.topic_prefix))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let log = Log::default();
    for line in lines.map_while(Result::ok).filter(|line| line.contains("handled ")) {
        let mut fields = line.split("handled ").nth(1).unwrap().split(' ');
        let mut field = || fields.next().unwrap().trim().parse::<i64>().unwrap();
        let (partition, offset) = (i32::try_from(field()).unwrap(), field());
        log.lock().unwrap().push(vec![(partition, offset, 0)]);
        if seen(&log).len() == 95 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen(&log).len() >= 95 && seen(&log).len() < RECORDS, "{} were handled", seen(&log).len());
    commits_follow(&real, "g", &log, 4);
    let (stop, mut tasks) = member(&real, "g", &log, Duration::ZERO);
    let finished = async {
        while seen(&log).len() < RECORDS {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, finished).await.expect("another member takes what was left");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(real.committed("g", topic::MESSAGES, 4).values().sum::<i64>(), RECORDS as i64);
    real.delete(&[topic::MESSAGES]).await;
}
