//! A look at a group from outside, on a real broker.

use super::real::Real;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_seen_from_outside_with_its_members_and_what_waits() {
    let topics = [(topic::MESSAGES, 3), (topic::OUTCOMES, 2)];
    let Some(real) = Real::with("a group is seen from outside", &topics).await else { return };
    let (connection, names) = (&real.connection, [topic::MESSAGES, topic::OUTCOMES]);
    publish(connection, topic::MESSAGES, "k", 0..4).await;
    let lookout = connection.lookout(&group(connection, "g")).unwrap();
    let before = lookout.group(&names).await.unwrap();
    let counts: Vec<_> =
        before.topics.iter().map(|seen| (seen.topic.as_str(), seen.partitions, seen.records)).collect();
    assert_eq!(counts, [(topic::MESSAGES, 3, 4), (topic::OUTCOMES, 2, 0)]);
    assert!(before.members.is_empty(), "{before:?}");
    let dated = before.topics[0].oldest_ms.unwrap();

    let mut running = Running::consume(connection.consumer(&group(connection, "g"), &names).unwrap());
    let taken = take(&mut running.inbox, 4).await;
    assert_eq!(taken.iter().map(|received| received.timestamp_ms).min(), Some(dated));
    let seen = loop {
        let seen = lookout.group(&names).await.unwrap();
        if seen.topics.iter().all(|topic| topic.records == 0) && seen.state == "Stable" {
            break seen;
        }
    };
    assert_eq!(seen.members.len(), 1);
    assert_eq!((seen.members[0].client.as_str(), seen.members[0].partitions), ("autoreply", Some(5)));
    assert!(seen.topics.iter().all(|topic| topic.oldest_ms.is_none()));
    running.end().await.unwrap();

    let cluster = lookout.cluster(topic::MESSAGES).await.unwrap();
    assert!(!cluster.id.is_empty() && !cluster.brokers.is_empty() && cluster.leaderless.is_empty(), "{cluster:?}");
    assert_eq!(cluster.newest_ms, taken.iter().map(|received| received.timestamp_ms).max());
    assert!(lookout.group(&[topic::CONTROLS]).await.is_err(), "a topic that is missing is no empty topic");
    real.delete(&names).await;
}
