//! How large a chaos run is.

use serde::{Deserialize, Serialize};

use super::schedule::{self, Outage};
use crate::model::{Behaviour, Latency, Script, Shares};
use crate::plan::{self, Bursts, Piece, Spread};

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What all chance is drawn from: the plan, the schedule, what models answer.
    pub seed: u64,
    /// About how many messages the other sides write.
    pub messages: u32,
    /// Conversations, each on one desk.
    pub conversations: u32,
    /// Desks.
    pub desks: u32,
    /// Processes that the desks are spread over.
    pub desk_processes: usize,
    /// Workers.
    pub workers: usize,
    /// Kafka's brokers, 1 or 3.
    pub brokers: u8,
    /// How long messages are written and things are broken, in seconds.
    pub seconds: u64,
    /// SIGKILLs of workers.
    pub worker_kills: usize,
    /// SIGKILLs of processes of desks.
    pub desk_kills: usize,
    /// What is done to servers.
    pub outages: Vec<Outage>,
    /// How long a server stays out, in seconds.
    pub out_seconds: u64,
    /// Rounds of the storm of rebalances.
    pub storms: usize,
    /// The share of model calls that fail.
    pub failing_calls: f64,
    /// How long a reply may wait on a desk to be typed, in seconds; everything that waits for it follows from this.
    pub command_ttl_seconds: u64,
    /// How long the run may take to come to rest, in seconds.
    pub rest_seconds: u64,
}

impl Scale {
    /// The run that the promises were made for.
    pub fn full() -> Self {
        use Outage::{BrokerKilled, KafkaWiped, PostgresRestarted, PostgresStopped, RedisFlushed, RedisStopped, Storm};
        Self {
            seed: 2_026,
            messages: 200_000,
            conversations: 1_000,
            desks: 100,
            desk_processes: 10,
            workers: 4,
            brokers: 3,
            seconds: 2_900,
            worker_kills: 20,
            desk_kills: 20,
            outages: vec![
                BrokerKilled,
                PostgresRestarted,
                PostgresStopped,
                RedisFlushed,
                RedisStopped,
                KafkaWiped,
                Storm,
            ],
            out_seconds: 20,
            storms: 6,
            failing_calls: 0.2,
            command_ttl_seconds: 60,
            rest_seconds: 900,
        }
    }

    /// The same in small: minutes instead of an hour.
    pub fn short() -> Self {
        Self {
            messages: 420,
            conversations: 20,
            desks: 5,
            desk_processes: 5,
            workers: 2,
            brokers: 1,
            seconds: 60,
            worker_kills: 4,
            desk_kills: 4,
            outages: vec![Outage::PostgresRestarted, Outage::RedisStopped, Outage::KafkaWiped],
            out_seconds: 2,
            storms: 0,
            command_ttl_seconds: 15,
            rest_seconds: 90,
            ..Self::full()
        }
    }

    /// Who writes when.
    pub fn plan(&self) -> plan::Shape {
        let rate = f64::from(self.messages) / self.seconds as f64;
        plan::Shape {
            seed: self.seed,
            pieces: vec![Piece { seconds: self.seconds as f64, from: rate, to: rate }],
            conversations: self.conversations,
            desks: self.desks,
            spread: Spread::Uniform,
            bursts: Some(Bursts { share: 0.05, messages: 3, gap_ms: 400 }),
        }
    }

    /// What is broken when.
    pub fn schedule(&self) -> schedule::Shape {
        schedule::Shape {
            seed: self.seed,
            lasts_ms: self.seconds * 1_000,
            workers: self.workers,
            desks: self.desk_processes,
            worker_kills: self.worker_kills,
            desk_kills: self.desk_kills,
            outages: self.outages.clone(),
            out_ms: self.out_seconds * 1_000,
            storms: self.storms,
            restart_ms: 3_000,
        }
    }

    /// How models behave: of the calls that fail, most fail at once, some hang or break off.
    pub fn script(&self) -> Script {
        let share = |part: f64| self.failing_calls * part;
        let shares = Shares {
            error_500: share(0.3),
            error_503: share(0.2),
            limited_short: share(0.1),
            disconnect: share(0.1),
            malformed: share(0.1),
            empty: share(0.1),
            hang: share(0.1),
            ..Shares::default()
        };
        let latency = Latency::LogNormal { median_ms: 40, sigma: 0.5 };
        Script { seed: self.seed, default: Behaviour { latency, shares, ..Behaviour::default() }, ..Script::default() }
    }
}
