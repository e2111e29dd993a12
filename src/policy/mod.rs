//! Rules that both halves keep: modes, the fence, caps, age, redaction. Pure: no I/O, no clock.

pub mod age;
pub mod caps;
pub mod fence;
pub mod mention;
pub mod mode;
pub mod ownership;
pub mod redaction;
pub mod turn;
