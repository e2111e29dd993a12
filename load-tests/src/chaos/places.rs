//! What a run makes on servers that it may share with others: a database and topics, and how it takes them away again.

use std::path::Path;
use std::time::Duration;

use autoreply::error::Problem;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::cluster::{Cluster, Programs, command};
use crate::load::servers::drop_database;

/// How often the topics are tried to be made.
const TOPIC_TRIES: u32 = 5;
/// How long Kafka may take to tell of its topics, and to delete some.
const PATIENCE: Duration = Duration::from_secs(30);

/// A new database in Postgres.
pub(super) async fn ledger_place(addresses: &crate::services::Addresses, name: &str) -> Result<String, Problem> {
    let server = addresses.postgres.as_deref().unwrap_or_default();
    carry_out(server, format!("create database \"{name}\"")).await.map_err(|error| {
        Problem::new(
            format!("no database can be made ({error})"),
            "Postgres",
            "Give its role the right to make databases",
        )
    })?;
    let (base, _) = server.rsplit_once('/').unwrap_or((server, ""));
    Ok(format!("{base}/{name}"))
}

async fn carry_out(server: &str, statement: String) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(server).await?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Makes the topics that are not there, as an operator does: `autoreply topics apply`.
///
/// # Errors
/// A broker refuses.
pub async fn apply_topics(programs: &Programs, directory: &Path) -> Result<(), Problem> {
    let mut said = String::new();
    // A cluster that has just come up, and one whose brokers have just learnt of each other, is asked again.
    for _ in 0..TOPIC_TRIES {
        let ended = command(programs.newest(), directory, &["topics", "apply", "--yes"]).await?;
        if ended.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(Problem::new(
        format!("the topics cannot be made: {said}"),
        directory.display().to_string(),
        "See the brokers' logs",
    ))
}

impl Cluster {
    /// Takes its topics and its database away from servers that others go on with. Its processes must have ended, and
    /// what is judged must have been read.
    ///
    /// # Errors
    /// A server refuses.
    pub async fn leave_nothing(&self) -> Result<(), Problem> {
        let kept = |place: &str, why: &dyn std::fmt::Display| {
            Problem::new(format!("what the run made there stays ({why})"), place, "Delete it by hand")
        };
        delete_topics(&self.brokers(), self.prefix()).await.map_err(|why| kept("Kafka", &why))?;
        let (_, database) = self.ledger().rsplit_once('/').unwrap_or_default();
        drop_database(self.postgres(), database).await.map_err(|why| kept("Postgres", &why))
    }
}

/// Deletes every topic that begins with `prefix` and a dot.
async fn delete_topics(brokers: &str, prefix: &str) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(|error| error.to_string())?;
    let begins = format!("{prefix}.");
    let (admin, names) = tokio::task::spawn_blocking(move || {
        let names = admin.inner().fetch_metadata(None, PATIENCE).map(|metadata| {
            let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
            names.filter(|name| name.starts_with(&begins)).collect::<Vec<_>>()
        });
        (admin, names)
    })
    .await
    .map_err(|error| error.to_string())?;
    let names = names.map_err(|error| error.to_string())?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let deleted = admin.delete_topics(&names, &options).await.map_err(|error| error.to_string())?;
    deleted.into_iter().try_for_each(|one| one.map(drop).map_err(|(name, code)| format!("{name}: {code}")))
}
