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
    const JOURNAL: &str = "The journal is brought up to date when the desktop starts.\n";
    let settings: crate::ledger::Settings = context.layers.section("ledger")?;
    settings.check()?;
    if settings.is_postgres() {
        let password = super::worker::ledger_password(context, &settings)?;
        let migrated = crate::ledger::PostgresLedger::migrate(&settings, password.as_ref()).await;
        let migrated = migrated.map_err(|error| super::worker::ledger_problem(error, &settings.url))?;
        if context.json {
            return Ok(super::json(&serde_json::json!({ "made": migrated.made, "version": migrated.version })));
        }
        let made = match migrated.made.as_slice() {
            [] => "Nothing was missing".to_owned(),
            steps => format!("Made: {}", steps.join(", ")),
        };
        return Ok(format!("{made}. The ledger is of version {}. {JOURNAL}", migrated.version));
    }
    let (ledger, _) = super::worker::open_ledger(context, std::sync::Arc::new(crate::clock::SystemClock)).await?;
    ledger.close().await;
    if context.json {
        // A file is always brought to this version by whoever opens it.
        return Ok(super::json(&serde_json::json!({ "made": [], "version": null })));
    }
    Ok(format!("The ledger is of this version. {JOURNAL}"))
}

/// There is nothing to migrate in a program without the worker.
///
/// # Errors
/// None today.
#[cfg(not(feature = "worker"))]
pub async fn run(_context: &Context) -> Result<String, Problem> {
    Ok("This program has no worker, so there is no ledger to migrate.\n".to_owned())
}
