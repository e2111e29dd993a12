//! Logs and metrics. It serves every room and uses none.
