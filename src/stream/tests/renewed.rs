//! Topics that are deleted and made again under those who use them.

use super::real::Real;
use super::*;

/// The hard case: the new topic holds more than was read of the old one, so the old position is a valid one in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_is_read_from_its_beginning() {
    let Some(real) = Real::with("a topic that is made anew", &[(topic::COMMANDS, 2)]).await else { return };
    let connection = &real.connection;
    publish(connection, topic::COMMANDS, "desk-1", 0..4).await;
    let reader = connection.reader(topic::COMMANDS, b"desk-1", jiff::Timestamp::UNIX_EPOCH);
    let mut caught_up = reader.caught_up();
    let mut reading = Running::read(reader);
    let mut consuming = Running::consume(connection.consumer(&group(connection, "g"), &[topic::COMMANDS]).unwrap());
    for running in [&mut reading, &mut consuming] {
        assert_eq!(take(&mut running.inbox, 4).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
    tokio::time::timeout(PATIENCE, caught_up.wait_for(|told| *told)).await.unwrap().unwrap();
    // Two surveys see how far it is done.
    tokio::time::sleep(Duration::from_millis(1_000)).await;

    real.delete(&[topic::COMMANDS]).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    real.create(&[(topic::COMMANDS, 2)]).await;
    publish(connection, topic::COMMANDS, "desk-1", 100..120).await;
    for (who, running) in [("reader", &mut reading), ("consumer", &mut consuming)] {
        let mut fresh = BTreeSet::new();
        while fresh.len() < 20 {
            let next = tokio::time::timeout(PATIENCE, running.inbox.recv()).await;
            let Ok(next) = next else { panic!("the {who} has {fresh:?} of the new topic") };
            fresh.insert(number(&next.unwrap()));
        }
        assert_eq!(fresh, (100..120).collect(), "the {who}");
    }
    tokio::time::timeout(PATIENCE, caught_up.wait_for(|told| *told)).await.unwrap().unwrap();
    publish(connection, topic::COMMANDS, "desk-1", 120..121).await;
    for running in [&mut reading, &mut consuming] {
        while number(&take(&mut running.inbox, 1).await[0]) != 120 {}
    }
    consuming.end().await.unwrap();
    reading.end().await.unwrap();
    assert_eq!(real.committed("g", topic::COMMANDS, 2).values().sum::<i64>(), 21, "committed in the new topic");
    real.delete(&[topic::COMMANDS]).await;
}
