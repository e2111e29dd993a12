//! Logs and metrics. It serves every room and uses none.

pub mod logs;
pub mod metrics;

pub use logs::{Format, Settings};
pub use metrics::Metrics;
