//! Rates and session memory, in this process.
