//! Asks a real Kafka what topics it has, and carries plans out.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;

use super::plan::{Change, Cluster, Found, Plan, plan};
use crate::error::Class;
use crate::stream::names::Names;
use crate::stream::{Connection, StreamError};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often, and how long apart, the cluster is asked whether it knows what was created.
const LOOKS: u32 = 150;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

type Admin = AdminClient<DefaultClientContext>;

fn failed(what: &str, why: impl ToString) -> StreamError {
    StreamError::new(what, why, Class::Transient)
}

impl Connection {
    /// Compares the topics of this version with what the cluster has. The embedded broker has them all.
    ///
    /// # Errors
    /// When the brokers do not answer, or turn this process away.
    pub async fn plan_topics(&self) -> Result<Plan, StreamError> {
        self.plan_topics_within(PATIENCE).await
    }

    /// The same for somebody who does not wait longer than `patience` for the brokers to answer.
    ///
    /// # Errors
    /// As [`Connection::plan_topics`].
    pub async fn plan_topics_within(&self, patience: Duration) -> Result<Plan, StreamError> {
        if self.is_embedded() {
            return Ok(Plan::default());
        }
        let admin = self.admin()?;
        self.plan_with(&admin, patience).await
    }

    async fn plan_with(&self, admin: &Admin, patience: Duration) -> Result<Plan, StreamError> {
        let what = "the topics could not be looked at";
        let desired: Vec<_> = super::all()
            .map_err(|problem| failed(what, problem))?
            .into_iter()
            .map(|topic| (self.names().physical(&topic.name), topic))
            .collect();
        let names = self.names().clone();
        let listed = self.metadata(patience, move |metadata| listed(metadata, &names)).await;
        let listed = listed.map_err(|error| self.heard().failed(what, error))?;
        let cluster = describe(admin, listed, patience).await.map_err(|error| failed(what, error))?;
        Ok(plan(&desired, self.settings().replication_factor, &cluster))
    }

    /// Carries `plan` out and waits until the cluster knows it. What a person has to decide stays as it is.
    ///
    /// # Errors
    /// The first step that the cluster refused; those before it have been taken.
    pub async fn apply_topics(&self, plan: &Plan) -> Result<(), StreamError> {
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        for change in &plan.changes {
            match change {
                Change::Create { .. } => create(&admin, &options, change).await?,
                Change::Set { topic, key, to, .. } => set(&admin, &options, topic, key, to).await?,
            }
        }
        // Brokers tell each other of a new topic one after the other; until then one of them may not know it at all.
        let mut seen = "the brokers do not show it yet; look again with `autoreply topics plan`".to_owned();
        for _ in 0..LOOKS {
            match self.plan_with(&admin, PATIENCE).await {
                Ok(plan) if plan.changes.is_empty() => return Ok(()),
                Ok(_) => {}
                Err(error) => seen = error.to_string(),
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(failed("the topics were changed", seen))
    }

    fn admin(&self) -> Result<Admin, StreamError> {
        self.admin_config().create().map_err(|error: KafkaError| {
            StreamError::new("the topics cannot be looked at; check [stream]", error, Class::Permanent)
        })
    }
}

/// Adds their settings to the topics.
async fn describe(admin: &Admin, cluster: Cluster, patience: Duration) -> KafkaResult<Cluster> {
    let Cluster { brokers, mut topics } = cluster;
    let wanted: Vec<_> = topics.keys().cloned().collect();
    let asked: Vec<_> = wanted.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    if asked.is_empty() {
        return Ok(Cluster { brokers, topics });
    }
    let options = AdminOptions::new().request_timeout(Some(patience));
    for described in admin.describe_configs(&asked, &options).await? {
        let resource = described.map_err(KafkaError::AdminOp)?;
        if let OwnedResourceSpecifier::Topic(name) = &resource.specifier
            && let Some(found) = topics.get_mut(name)
        {
            let entries = resource.entries.into_iter();
            found.config = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
        }
    }
    Ok(Cluster { brokers, topics })
}

/// What the cluster has under our prefix, as yet without settings. A name with a further dot belongs to somebody else,
/// or is a `.v2`.
fn listed(metadata: &Metadata, names: &Names) -> Cluster {
    let ours = metadata.topics().iter().filter(|topic| {
        let further_dot = names.logical(topic.name()).matches('.').count() > 1;
        topic.error().is_none() && names.owns(topic.name()) && !further_dot
    });
    let found = ours.map(|topic| {
        let partitions = topic.partitions();
        let replication = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        (topic.name().to_owned(), Found { partitions: count, replication, config: BTreeMap::new() })
    });
    Cluster { brokers: metadata.brokers().len(), topics: found.collect() }
}

async fn create(admin: &Admin, options: &AdminOptions, change: &Change) -> Result<(), StreamError> {
    let Change::Create { topic, partitions, replication, config } = change else { return Ok(()) };
    let what = format!("the topic {topic} could not be created");
    let copies = i32::try_from(*replication).unwrap_or(1);
    let new = NewTopic::new(topic, *partitions, TopicReplication::Fixed(copies));
    let new = config.iter().fold(new, |new, (key, value)| new.set(key, value));
    let results = admin.create_topics([&new], options).await.map_err(|error| failed(&what, error))?;
    results.into_iter().try_for_each(|result| match result {
        // Somebody else was faster; what they made is compared afterwards.
        Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((_, code)) => Err(failed(&what, code)),
    })
}

/// Sets one setting. The request at hand replaces all that is set on the topic, so what is set there is read first and
/// sent along. Two people who do so at the same moment may undo each other; the look afterwards shows it.
async fn set(admin: &Admin, options: &AdminOptions, topic: &str, key: &str, value: &str) -> Result<(), StreamError> {
    let what = format!("{key} of the topic {topic} could not be set");
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], options).await;
    let mut kept = BTreeMap::new();
    for resource in described.map_err(|error| failed(&what, error))? {
        let entries = resource.map_err(|code| failed(&what, code))?.entries.into_iter();
        let own = entries.filter(|entry| entry.source == ConfigSource::DynamicTopic);
        kept.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
    }
    kept.insert(key.to_owned(), value.to_owned());
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let alter = kept.iter().fold(alter, |alter, (key, value)| alter.set(key, value));
    let results = admin.alter_configs([&alter], options).await.map_err(|error| failed(&what, error))?;
    results.into_iter().try_for_each(|result| result.map(|_| ()).map_err(|(_, code)| failed(&what, code)))
}
