//! `autoreply watchdog`: a process of its own that releases keys when the executor dies.

use super::Environment;
use crate::error::Problem;

/// Watches the executor over standard input until it ends.
///
/// # Errors
/// The display cannot be reached.
pub fn run(environment: &Environment) -> Result<(), Problem> {
    crate::execution::watchdog::run(std::io::stdin(), environment.get("DISPLAY"))
}
