//! The admin API of a running process (HTTP on a 0600 Unix socket) and its client.
