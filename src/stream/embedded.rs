//! The broker in this process: librdkafka's mock cluster, spoken to over the real protocol on loopback.
//!
//! Its memory is volatile and bounded: past 5 MiB or 100,000 batches a partition the oldest records are dropped,
//! which a consumer notices and tells. Its rebalances take seconds, so here a group is one consumer that is assigned
//! every partition, and its position is kept in memory for as long as the connection lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::names::Names;
use super::positions::Place;
use super::{StreamError, topics};
use crate::error::Class;

/// The positions of one group; whoever holds the guard is its only consumer.
pub(super) type Positions = OwnedMutexGuard<HashMap<Place, i64>>;

type Kept = Arc<tokio::sync::Mutex<HashMap<Place, i64>>>;

/// A running embedded broker. It ends when the last user drops it.
pub(super) struct Embedded {
    // The cluster lives inside this client; the client itself sends nothing.
    host: BaseProducer,
    groups: Mutex<HashMap<String, Kept>>,
    id: String,
}

impl Embedded {
    /// Starts a broker with every topic of `topics/`.
    pub(super) fn start(names: &Names) -> Result<Self, StreamError> {
        let fail = |why: &dyn ToString| {
            StreamError::new("the embedded broker could not start", why.to_string(), Class::Permanent)
        };
        let host: BaseProducer =
            ClientConfig::new().set("test.mock.num.brokers", "1").create().map_err(|error| fail(&error))?;
        let this = Self { host, groups: Mutex::default(), id: format!("embedded-{}", Uuid::new_v4()) };
        for topic in topics::all().map_err(|problem| fail(&problem))? {
            let cluster = this.host.client().mock_cluster().ok_or_else(|| fail(&"it has no cluster"))?;
            cluster.create_topic(&names.physical(&topic.name), topic.partitions, 1).map_err(|error| fail(&error))?;
        }
        Ok(this)
    }

    /// Its address.
    pub(super) fn address(&self) -> Option<String> {
        self.host.client().mock_cluster().map(|cluster| cluster.bootstrap_servers())
    }

    /// Its id: another one at every start, since everything in it is new.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes the caller the only consumer of `group`; `None` if there is one already.
    pub(super) fn join(&self, group: &str) -> Option<Positions> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(group.to_owned()).or_default()).try_lock_owned().ok()
    }
}
