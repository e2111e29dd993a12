//! A reply to a turn: context, then a chain of providers, then validation.
//!
//! ```text
//! DraftRequest ─▶ chain ─▶ link ─▶ provider (canned | model | acknowledge) ─▶ validation ─▶ Draft
//!                   │       └ a breaker and a bulkhead a provider; what happens is told to the observer
//!                   └ one deadline a turn, retries only of what can succeed
//! ```
//! Chat text, names and memory are data everywhere here; the recipient never comes from a model.

pub mod breaker;
pub mod chain;
pub mod context;
pub mod link;
pub mod observer;
pub mod provider;
mod settings;
#[cfg(test)]
mod testing;
pub mod validation;

pub use chain::Chain;
pub use settings::{ProviderSettings, Settings, build, build_observed};

pub use crate::settings::SecretReference;
