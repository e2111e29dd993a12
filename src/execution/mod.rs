//! The send: typed, read back, submitted, proven.
