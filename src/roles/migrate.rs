//! `autoreply migrate`: brings the databases to this version, without starting anything.

use super::Context;
use crate::error::Problem;

/// Brings the ledger to this version and says so. (The journal migrates itself when its desktop starts: nobody else
/// may open it.)
///
/// # Errors
/// The ledger cannot be opened or brought up to date.
#[cfg(feature = "worker")]
pub async fn run(context: &Context) -> Result<String, Problem> {
    let (ledger, _) = super::worker::open_ledger(context, std::sync::Arc::new(crate::clock::SystemClock)).await?;
    ledger.close().await;
    Ok("The ledger is of this version. The journal is brought up to date when the desktop starts.\n".to_owned())
}

/// There is nothing to migrate in a program without the worker.
///
/// # Errors
/// None today.
#[cfg(not(feature = "worker"))]
pub async fn run(_context: &Context) -> Result<String, Problem> {
    Ok("This program has no worker, so there is no ledger to migrate.\n".to_owned())
}
