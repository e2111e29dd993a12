//! The chaos run: the whole cluster under load while its parts are killed, stopped and wiped, and the checker's word
//! about what came of it.

pub mod schedule;
