//! A load run: servers, model stub, workers, desks and a plan, watched from outside while it runs.
//!
//! ```text
//! scenario ─▶ plan.jsonl ─▶ desks ─▶ Kafka ─▶ workers ─▶ model stub
//!                             ▲                 │
//!                             └──── Kafka ◀─────┘        watched: /proc, committed offsets, apps/*.jsonl
//! ```

pub mod processes;
pub mod progress;
pub mod run;
pub mod sampler;
pub mod scenario;
pub mod servers;
pub mod workers;

pub use run::{Options, run};
pub use scenario::Scenario;
