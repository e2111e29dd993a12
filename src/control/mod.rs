//! The admin API of a running process (HTTP on a 0600 Unix socket) and its client.
//!
//! A role implements [`Admin`]; [`server`] puts it on the socket, [`client`] is what the command line speaks. Metrics
//! and health may also be served on a TCP address; what changes anything is on the socket only, where the file's
//! permissions say who may.

pub mod client;
pub mod server;
mod views;

use async_trait::async_trait;
use serde::Deserialize;

pub use views::{
    ControlInForce, ControlRequest, Decision, DeskView, Health, OwnedAccountView, Part, Rejection, SagaStory,
    SagaSummary, StoryEvent,
};

use crate::contract::{ControlRecord, TurnId};

/// The room's settings; each key is explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The path of the socket; empty means `autoreply.sock` in the runtime directory.
    pub socket: String,
    /// A TCP address for metrics and health; empty means none.
    pub listen: String,
}

/// Why an admin request was not done, as a sentence for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is not possible in the state that it is in.
    #[error("{0}")]
    Conflict(String),
    /// This role has no such part.
    #[error("{0}")]
    NotHere(String),
    /// A part that is needed did not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// What a running process can be asked for.
#[async_trait]
pub trait Admin: Send + Sync + 'static {
    /// The replies that are open, or all of the recent ones.
    async fn sagas(&self, all: bool) -> Result<Vec<SagaSummary>, AdminError>;
    /// The whole story of one reply.
    async fn saga(&self, turn: TurnId) -> Result<SagaStory, AdminError>;
    /// A person says yes to a draft; the reply is issued.
    async fn approve(&self, turn: TurnId, decision: Decision) -> Result<(), AdminError>;
    /// A person says no.
    async fn reject(&self, turn: TurnId, rejection: Rejection) -> Result<(), AdminError>;
    /// Every desk that the ledger knows, and the accounts that it answers for.
    async fn desks(&self) -> Result<Vec<DeskView>, AdminError>;
    /// The controls in force.
    async fn controls(&self) -> Result<Vec<ControlInForce>, AdminError>;
    /// Sets a control: in force here when this returns, also without a broker.
    async fn set_control(&self, request: ControlRequest) -> Result<ControlRecord, AdminError>;
    /// Removes every text and name of a peer; how many conversations there were.
    async fn forget(&self, peer: &str) -> Result<u64, AdminError>;
    /// Is it alive, is it ready, and what is not.
    async fn health(&self) -> Health;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

#[cfg(test)]
mod tests;
