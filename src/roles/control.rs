//! `autoreply control`: speaks to the running process.

use super::{Context, json, table};
use crate::contract::{Control, Scope};
use crate::control::ControlRequest;
use crate::error::Problem;

/// Sets a control in the running process and tells what is now in force.
///
/// # Errors
/// No process answers, or it refuses.
pub async fn set(context: &Context, scope: Scope, control: Control, why: String) -> Result<String, Problem> {
    let request = ControlRequest { scope, control, by: context.user(), why };
    let record = context.client()?.set_control(&request).await?;
    Ok(if context.json { json(&record) } else { format!("{}: {}\n", record.scope, describe(record.control)) })
}

/// The controls in force.
///
/// # Errors
/// No process answers, or it refuses.
pub async fn show(context: &Context) -> Result<String, Problem> {
    let records = context.client()?.controls().await?;
    if context.json {
        return Ok(json(&records));
    }
    if records.is_empty() {
        return Ok("No control is set: the modes are those of the settings.\n".to_owned());
    }
    let rows: Vec<_> =
        records.into_iter().map(|record| [record.scope.to_string(), record.standing, record.by, record.why]).collect();
    Ok(table(["SCOPE", "IN FORCE", "BY", "WHY"], &rows))
}

fn describe(control: Control) -> String {
    match control {
        Control::Mode(mode) => format!("mode {mode}"),
        Control::Pause => "paused".to_owned(),
        Control::Resume => "resumed".to_owned(),
        Control::Stop => "stopped".to_owned(),
        Control::Unset => "unset".to_owned(),
    }
}
