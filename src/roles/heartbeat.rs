//! What a worker says of itself to the ledger, every few seconds, so that `autoreply status` sees it from any machine.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::ledger;
use crate::saga::{Ledger, TopicLag, Worker, WorkerFigures, WorkerWord};
use crate::stream::Lag;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Label as _, LedgerWrite, Outcome};

/// How long the last word may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a worker says of itself that stays the same.
pub struct Nature {
    /// Its name, as in the stories of replies.
    pub name: String,
    /// The providers of its chain.
    pub providers: Vec<String>,
    /// How many turns it may work on at once.
    pub permits: u64,
    /// Replies a day.
    pub daily_quota: u64,
    /// How often it says that it runs.
    pub every: Duration,
}

impl Nature {
    /// What these settings make of a worker.
    pub fn of(name: String, providers: Vec<String>, permits: u64, ledger: &ledger::Settings) -> Self {
        // On a single machine each word is a sync of its disk.
        let every = Duration::from_secs(if ledger.is_postgres() { 2 } else { 5 });
        Self { name, providers, permits, daily_quota: ledger.daily_quota, every }
    }
}

/// Says from time to time that a worker runs.
pub struct Heart {
    nature: Nature,
    ledger: Arc<dyn Ledger>,
    worker: Worker,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    lag: watch::Receiver<Lag>,
}

impl Heart {
    /// A heart that does not beat yet: of this worker, told to this ledger, with what it counts and how far it is behind.
    pub fn new(
        nature: Nature,
        (ledger, worker, metrics, clock): (&Arc<dyn Ledger>, &Worker, &Arc<Metrics>, &Arc<dyn Clock>),
        lag: watch::Receiver<Lag>,
    ) -> Self {
        let (ledger, worker) = (ledger.clone(), worker.clone());
        Self { nature, ledger, worker, metrics: metrics.clone(), clock: clock.clone(), lag }
    }

    /// Beats until `stop`; at the stop the worker's row is taken away. A ledger that is away is told again the next time.
    ///
    /// # Errors
    /// Never.
    pub async fn beat(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (instance, started_at) = (Uuid::new_v4(), self.clock.now());
        while !stop.is_cancelled() {
            let word = self.word(instance, started_at);
            if let Err(error) = self.ledger.say(&word).await {
                tracing::debug!(%error, "the ledger was not told that this worker runs");
            }
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(self.nature.every) => {} }
        }
        // Without it the row is told as silent, and forgotten after a day.
        let _left = tokio::time::timeout(FAREWELL, self.ledger.leave(instance)).await;
        Ok(())
    }

    fn word(&self, instance: Uuid, started_at: Timestamp) -> WorkerWord {
        WorkerWord {
            instance,
            name: self.nature.name.clone(),
            host: host(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            interval: self.nature.every,
            figures: WorkerFigures {
                in_flight: self.worker.in_flight() as u64,
                permits: self.nature.permits,
                daily_quota: self.nature.daily_quota,
                lag: by_topic(&self.lag.borrow(), self.clock.now()),
                ..counted(&self.metrics, &self.nature.providers)
            },
        }
    }
}

/// This machine's name; in a container the container's.
pub fn host() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

/// What the metrics have counted.
fn counted(metrics: &Metrics, providers: &[String]) -> WorkerFigures {
    let replies =
        Outcome::ALL.iter().map(|effect| (effect.value().to_owned(), metrics.replies.of(*effect).get() as u64));
    let breaker = |name: &String| (name.clone(), metrics.provider_breaker.of(name).get() > 0.0);
    WorkerFigures {
        turns: metrics.ledger_group.of(LedgerWrite::Record).get_sample_sum() as u64,
        replies: replies.filter(|(_, count)| *count > 0).collect(),
        dead_letters: metrics.dead_letters.get() as u64,
        breakers: providers.iter().map(breaker).collect(),
        limits_local: metrics.limits_local.get() > 0.0,
        ..WorkerFigures::default()
    }
}

/// The lag of each topic: records together, seconds of the partition that waits longest.
fn by_topic(lag: &Lag, now: Timestamp) -> BTreeMap<String, TopicLag> {
    let mut topics = BTreeMap::<String, TopicLag>::new();
    for partition in &lag.partitions {
        let topic = topics.entry(partition.topic.clone()).or_default();
        topic.partitions += 1;
        topic.records += partition.records;
        topic.seconds = topic.seconds.max(partition.seconds(now));
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::PartitionLag;

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Metrics::new();
        metrics.introduce_providers(["model", "canned"]);
        metrics.provider_breaker.of("model").set(1.0);
        metrics.replies.of(Outcome::Confirmed).inc_by(3.0);
        metrics.ledger_group.of(LedgerWrite::Record).observe(4.0);
        metrics.ledger_group.of(LedgerWrite::Record).observe(1.0);
        let told = counted(&metrics, &["model".to_owned(), "canned".to_owned()]);
        assert_eq!(told.turns, 5);
        assert_eq!(told.replies, BTreeMap::from([("confirmed".to_owned(), 3)]));
        assert_eq!(told.breakers, BTreeMap::from([("model".to_owned(), true), ("canned".to_owned(), false)]));
    }

    #[test]
    fn the_partitions_of_a_topic_are_told_together() {
        let at = |topic: &str, partition, records, oldest_ms| PartitionLag {
            topic: topic.to_owned(),
            partition,
            records,
            oldest_ms,
            waited: Duration::ZERO,
        };
        let partitions = vec![at("a", 0, 2, Some(8_000)), at("a", 1, 3, Some(5_000)), at("b", 0, 0, None)];
        let told = by_topic(&Lag { partitions, rebalances: 1 }, crate::clock::from_millis(10_000));
        assert_eq!(told["a"], TopicLag { partitions: 2, records: 5, seconds: 5.0 });
        assert_eq!(told["b"], TopicLag { partitions: 1, records: 0, seconds: 0.0 });
    }
}
