//! A private desktop for the demo and the end-to-end tests.
//!
//! A [`Desk`] is a virtual display with a window manager, a session bus with accessibility, an IRC server on loopback
//! and the real HexChat, all in a directory of its own. A [`peer`] is another process that holds the other end of
//! the conversation and is the only judge of what arrived; a [`sentinel`] is a window beside HexChat that records
//! every key it gets; a [`Person`] types as the human at the desk would. Everything ends with the value that owns
//! it, and also when the process that owns it is killed.

pub mod child;
mod config;
mod desk;
mod fault;
pub mod irc;
pub mod lines;
pub mod peer;
pub mod person;
pub mod sentinel;
mod tools;
pub mod windows;

pub use desk::{Desk, DeskPlan, UNSET};
pub use fault::Fault;
pub use peer::{PeerHandle, Received};
pub use person::Person;
pub use sentinel::SentinelHandle;
pub use tools::{Tool, missing_tools};
pub use windows::Picture;

/// Milliseconds since 1970 on this machine's clock: what every report of a peer or a sentinel carries.
#[must_use]
pub fn now_ms() -> u64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "the rig judges from outside: its times are the machine's, on purpose"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
