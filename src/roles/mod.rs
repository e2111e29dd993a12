//! One file a role: the only place that joins rooms.
