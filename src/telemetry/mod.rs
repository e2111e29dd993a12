//! Logs, metrics and traces. It serves every room and uses none.

pub mod logs;
pub mod metrics;
mod settings;
pub mod traces;

pub use metrics::Metrics;
pub use settings::{Format, Settings};
pub use traces::Traces;
