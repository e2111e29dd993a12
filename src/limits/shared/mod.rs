//! Rates and session memory in Redis, shared by all workers; without Redis, each worker by itself.
//!
//! ```text
//! admit, recall, ... ─▶ Link ─ there ─▶ one script on one conversation's keys
//!                        └─ away ─▶ in-process rate, nothing remembered
//!                        Upkeep: looks after the connection, tries again, brings it back
//! ```
//! A turn pays for a lost Redis once, at most with the command timeout; from then on the link says "away" at once.

mod link;
mod rate;
mod sessions;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(super) use link::{Away, Link, Repeat};
pub use link::{Server, Upkeep};
pub(super) use rate::SharedLimits;
pub(super) use sessions::SharedMemory;
