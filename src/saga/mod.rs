//! The reply's life: states, steps, compensation, recovery. It owns the ports that others implement.

mod ports;

pub use ports::{
    Admission, Draft, DraftRequest, Exchange, GenerationError, Generator, Limits, LimitsError, Memory, MemoryError,
};
