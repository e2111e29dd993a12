//! autoreply answers chat messages from the desktop: it sees the window, gets a reply, types it, and proves on
//! screen that it was sent.
//!
//! The way of a message, which is also the order of the rooms:
//!
//! ```text
//! screen ─pixels, text─▶ capture ─messages, turns─▶ journal ─▶ stream (Kafka)
//!                                                               │
//!        ledger ◀─ saga ─▶ generation            ◀─────────────┘
//!                    │ commands
//! screen ◀─keys─ execution ◀─fence─ journal ◀─ stream ◀┘
//! ```
//!
//! Data crosses a boundary only as a type of [`contract`]. Which room may import which is held by
//! `tests/architecture.rs`; the reasons are in `docs/ARCHITECTURE.md`.

pub mod clock;
pub mod contract;
pub mod error;
pub mod failpoint;
pub mod lifecycle;
pub mod policy;
pub mod retry;
pub mod settings;
pub mod stream;
pub mod telemetry;

#[cfg(feature = "desktop")]
pub mod capture;
#[cfg(feature = "desktop")]
pub mod execution;
#[cfg(feature = "desktop")]
pub mod journal;
#[cfg(feature = "desktop")]
pub mod screen;

#[cfg(feature = "worker")]
pub mod generation;
#[cfg(feature = "worker")]
pub mod ledger;
#[cfg(feature = "worker")]
pub mod limits;
#[cfg(feature = "worker")]
pub mod saga;

pub mod control;
pub mod roles;

pub mod cli;

#[cfg(any(test, feature = "failpoints"))]
pub mod testing;
