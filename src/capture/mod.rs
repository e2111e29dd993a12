//! Change on the screen becomes lines, lines become messages, messages become turns.

mod likeness;
mod overlap;
pub mod transcript;
