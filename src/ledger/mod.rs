//! The ledger: what is answered, and how it ended.
