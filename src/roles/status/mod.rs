//! `autoreply status`: is it well, what hurts, and how everything stands, from any machine with the settings.
//!
//! The ledger tells of workers (each writes there that it runs), replies and desks; Kafka of the workers' group and of
//! what waits for it. On a single machine the ledger is a file, and the workers' own word stands for the embedded broker.

#[cfg(feature = "worker")]
pub(super) mod ledger;
#[cfg(test)]
pub(super) mod samples;
pub(super) mod sources;
pub(super) mod tell;
pub(super) mod verdict;
pub mod view;

use self::sources::Sources;
use super::paint::Paint;
use super::{Context, json};

/// How everything stands, and whether it is well.
pub async fn run(context: &Context) -> (String, bool) {
    let mut sources = Sources::new(context);
    let status = sources.look().await;
    sources.close().await;
    (if context.json { json(&status) } else { tell::tell(&status, Paint::of(context)) }, status.well)
}

#[cfg(test)]
#[cfg(feature = "worker")]
mod tests;
