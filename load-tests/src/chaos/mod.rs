//! The chaos run: the whole cluster under load while its parts are killed, stopped and wiped, and the checker's word
//! about what came of it.

pub mod cluster;
pub mod places;
pub mod report;
pub mod run;
pub mod scale;
pub mod schedule;

pub use cluster::{Cluster, Programs};
pub use places::apply_topics;
pub use run::{Ran, run};
pub use scale::Scale;
