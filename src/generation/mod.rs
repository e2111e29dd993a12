//! Context, provider chain, validation.
