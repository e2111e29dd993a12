//! Rules that both halves keep: modes, the fence, caps, age, redaction. Pure: no I/O, no clock.

pub mod redaction;
pub mod turn;
