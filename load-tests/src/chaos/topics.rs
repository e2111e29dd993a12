//! The topics of a run, made as the program's own description of them says.

use autoreply::error::Problem;
use autoreply::stream::topics;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

/// Makes the topics that are not there.
pub(super) async fn apply(brokers: &str, replicas: u8) -> Result<(), Problem> {
    let fault = |why: String| Problem::new(why, brokers.to_owned(), "See the brokers' logs");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(|error| fault(error.to_string()))?;
    let known = topics::all()?;
    let new: Vec<NewTopic<'_>> = known
        .iter()
        .map(|topic| NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(i32::from(replicas))))
        .collect();
    let made = admin.create_topics(&new, &AdminOptions::new()).await.map_err(|error| fault(error.to_string()))?;
    for result in made {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(fault(format!("the topic {name} cannot be made ({code})"))),
        }
    }
    Ok(())
}
