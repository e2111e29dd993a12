//! The whole of it, from outside: the real program beside the real HexChat on a display of its own, judged by what a
//! peer's process received on the wire.
#![cfg(all(feature = "desktop", feature = "worker"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing"
)]

mod cluster;
mod crash;
mod end_to_end;
mod harness;
mod sentinel;
mod traces;
mod watching;
