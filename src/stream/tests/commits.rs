//! What a group's coordinator refuses to remember.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_refused_is_told_again_though_nothing_new_comes() {
    let cluster = MockCluster::new(1).unwrap();
    let mut settings = settings();
    settings.brokers = cluster.bootstrap_servers();
    settings.commit_every_ms = 10;
    let connection = Connection::open(&settings).unwrap();
    let physical = connection.names().physical(topic::MESSAGES);
    cluster.create_topic(&physical, 1, 1).unwrap();
    // One that librdkafka does not try again by itself.
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refused]);

    let name = group(&connection, "refused");
    let mut running = Running::consume(connection.consumer(&name, &[topic::MESSAGES]).unwrap());
    publish(&connection, topic::MESSAGES, "k", 0..1).await;
    take(&mut running.inbox, 1).await;

    let asking: BaseConsumer = connection.consumer_config(&name).create().unwrap();
    let mut place = TopicPartitionList::new();
    place.add_partition(&physical, 0);
    let started = std::time::Instant::now();
    loop {
        let told = asking.committed_offsets(place.clone(), PATIENCE).unwrap();
        if told.elements()[0].offset().to_raw() == Some(1) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the group was not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.end().await.unwrap();
}
