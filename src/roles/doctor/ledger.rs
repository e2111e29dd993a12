//! Whether the ledger's database answers, and has the tables that this program works with.

use super::Finding;
use crate::ledger::{PostgresLedger, Settings};
use crate::roles::{Context, worker};
use crate::saga::Ledger as _;

/// A SQLite file is made when it is first needed: there is nothing to look at before.
pub(super) async fn examine(context: &Context) -> Vec<Finding> {
    const CHECK: &str = "ledger";
    let Ok(settings) = context.layers.section::<Settings>("ledger") else { return Vec::new() };
    // What does not fit was told with the settings.
    if !settings.is_postgres() || settings.check().is_err() {
        return Vec::new();
    }
    let password = match worker::ledger_password(context, &settings) {
        Ok(password) => password,
        Err(problem) => return vec![Finding::of(CHECK, problem)],
    };
    match PostgresLedger::open(&settings, password.as_ref()).await {
        Ok(ledger) => {
            ledger.close().await;
            vec![Finding::ok(CHECK, format!("{} answers, and its tables fit", settings.url))]
        }
        Err(error) => vec![Finding::of(CHECK, worker::ledger_problem(error, &settings.url))],
    }
}
