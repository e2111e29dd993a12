//! A reply to a turn: context, then a chain of providers, then validation.
//!
//! ```text
//! DraftRequest ─▶ chain ─▶ provider (canned | chat completions | acknowledge) ─▶ validation ─▶ Draft
//!                   └ one deadline a turn, a breaker a provider, retries only of what can succeed
//! ```
//! Chat text, names and memory are data everywhere here; the recipient never comes from a model.

pub mod breaker;
pub mod chain;
pub mod context;
pub mod provider;
mod settings;
#[cfg(test)]
mod testing;
pub mod validation;

pub use chain::Chain;
pub use settings::{ProviderSettings, Settings, build};

pub use crate::settings::SecretReference;
