//! The servers of a run, and a place of its own on each: topics with a prefix, a database, a prefix of keys.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

use autoreply::error::Problem;
use autoreply::stream::topics;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::services::{Addresses, Services};

/// The servers of a run.
#[derive(Debug)]
pub struct Servers {
    /// Kafka, as `host:port,...`.
    pub kafka: String,
    /// PostgreSQL, as a URL whose role may create databases.
    pub postgres: String,
    /// Redis, as a URL.
    pub redis: String,
    /// Those that this run has started; they end with it.
    _own: Option<Services>,
}

impl Servers {
    /// The servers that the environment names (`AUTOREPLY_TEST_KAFKA` and so on); where it does not name all three, own
    /// ones in `directory`.
    ///
    /// # Errors
    /// They cannot be started.
    pub async fn find(directory: &Path) -> Result<Self, Problem> {
        let environment = autoreply::settings::environment();
        let lines = environment.iter().map(|(name, value)| format!("{name}={value}\n"));
        match Self::of(&Addresses::parse(&lines.collect::<String>()), None) {
            Ok(named) => Ok(named),
            Err(_) => {
                let own = Services::up(directory, 1).await?;
                let addresses = own.addresses().clone();
                Self::of(&addresses, Some(own))
            }
        }
    }

    fn of(addresses: &Addresses, own: Option<Services>) -> Result<Self, Problem> {
        let Addresses { kafka: Some(kafka), postgres: Some(postgres), redis: Some(redis) } = addresses.clone() else {
            return Err(Problem::new("a server is missing", "AUTOREPLY_TEST_*", "Name all three, or none"));
        };
        Ok(Self { kafka, postgres, redis, _own: own })
    }

    /// The servers' names with the process that listens, where it runs on this machine.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let brokers = self.kafka.split(',').enumerate().map(|(number, broker)| match number {
            0 => ("kafka".to_owned(), address(broker)),
            more => (format!("kafka-{}", more + 1), address(broker)),
        });
        let others = [("postgres", &self.postgres), ("redis", &self.redis)];
        let others = others.map(|(name, url)| (name.to_owned(), address(authority(url))));
        let found = brokers.chain(others);
        found.filter_map(|(name, at)| Some((name, super::sampler::listener(at?)?))).collect()
    }
}

/// What stands between the scheme, with its user, and the path of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or(rest);
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

fn address(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}

/// A database of this run.
pub struct Database {
    /// Its URL.
    pub url: String,
    name: String,
    server: String,
}

impl Database {
    /// Makes it on the server of this URL.
    ///
    /// # Errors
    /// The server does not answer, or does not let this role.
    pub async fn create(server: &str, name: &str) -> Result<Self, Problem> {
        execute(server, &format!("create database {name}")).await?;
        let (base, query) = server.split_once('?').map_or((server, ""), |(base, query)| (base, query));
        let base = base.rsplit_once('/').map_or(base, |(base, _)| base);
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        Ok(Self { url: format!("{base}/{name}{query}"), name: name.to_owned(), server: server.to_owned() })
    }

    /// Removes it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn remove(&self) -> Result<(), Problem> {
        drop_database(&self.server, &self.name).await
    }
}

/// Removes this database from the server of this URL, with the connections to it. A vacuum of the server's own may be at
/// work in it, which only a superuser may end: it is waited for.
///
/// # Errors
/// The server does not answer, or the vacuum does not end.
pub async fn drop_database(server: &str, name: &str) -> Result<(), Problem> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (statement, began) = (format!("drop database if exists \"{name}\" with (force)"), Instant::now());
    loop {
        match execute(server, &statement).await {
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(500)).await,
            done => return done,
        }
    }
}

async fn execute(url: &str, statement: &str) -> Result<(), Problem> {
    let cannot = |error: sqlx::Error| Problem::new(error.to_string(), "PostgreSQL", "Check AUTOREPLY_TEST_POSTGRES");
    let mut connection = sqlx::PgConnection::connect(url).await.map_err(cannot)?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.map_err(cannot)?;
    connection.close().await.map_err(cannot)
}

/// The topics of this run: those of `topics/`, under a prefix of their own.
pub struct Topics {
    brokers: String,
    prefix: String,
}

impl Topics {
    /// Those with this prefix, on these brokers.
    pub fn new(brokers: &str, prefix: &str) -> Self {
        Self { brokers: brokers.to_owned(), prefix: prefix.to_owned() }
    }

    /// The name on the broker of a topic as the contract names it.
    pub fn physical(&self, logical: &str) -> String {
        let rest = logical.strip_prefix("autoreply").unwrap_or(logical);
        format!("{}{rest}", self.prefix)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Problem> {
        let client = ClientConfig::new().set("bootstrap.servers", &self.brokers).create();
        client.map_err(|error| Problem::new(error.to_string(), &self.brokers, "Check the brokers' addresses"))
    }

    /// Removes them.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub async fn remove(&self) -> Result<(), Problem> {
        let names: Vec<String> = topics::all()?.iter().map(|topic| self.physical(&topic.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let deleted = self.admin()?.delete_topics(&names, &AdminOptions::new()).await;
        deleted.map(drop).map_err(|error| Problem::new(error.to_string(), &self.brokers, "Check that Kafka runs"))
    }
}

/// Reads how far a group is behind, from the broker's own figures: end of each partition less what is committed.
pub struct Lag {
    consumer: BaseConsumer,
    topics: Vec<String>,
    partitions: Vec<i32>,
}

/// How long the broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(2);

impl Lag {
    /// Of `group` on these topics.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(brokers: &str, group: &str, topics: Vec<String>) -> Result<Self, Problem> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer =
            config.create().map_err(|error| Problem::new(error.to_string(), brokers, "Check the brokers"))?;
        let count = |topic: &String| {
            let metadata = consumer.fetch_metadata(Some(topic), ANSWER).ok()?;
            Some(metadata.topics().first()?.partitions().len() as i32)
        };
        let partitions = topics.iter().map(|topic| count(topic).unwrap_or(0)).collect();
        Ok(Self { consumer, topics, partitions })
    }

    /// The lag in records; blocks. `None` if the broker does not answer.
    pub fn read(&self) -> Option<i64> {
        let mut asked = TopicPartitionList::new();
        for (topic, count) in self.topics.iter().zip(&self.partitions) {
            asked.add_partition_range(topic, 0, (count - 1).max(0));
        }
        let committed = self.consumer.committed_offsets(asked, ANSWER).ok()?;
        let mut lag = 0;
        for element in committed.elements() {
            let (low, high) = self.consumer.fetch_watermarks(element.topic(), element.partition(), ANSWER).ok()?;
            let at = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => low,
            };
            lag += (high - at).max(0);
        }
        Some(lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_urls() {
        assert_eq!(authority("postgres://me@127.0.0.1:5432/base?sslmode=disable"), "127.0.0.1:5432");
        assert_eq!(authority("redis://localhost:6379"), "localhost:6379");
        assert_eq!(address("127.0.0.1:80").map(|at| at.port()), Some(80));
    }

    #[test]
    fn topics_of_a_run_have_its_prefix() {
        let topics = Topics::new("", "load-7");
        assert_eq!(topics.physical("autoreply.dead-letters"), "load-7.dead-letters");
    }
}
