//! `autoreply forget`: removes what is held of a peer, through the running process.

use super::{Context, json};
use crate::error::Problem;

/// Removes every text and name of `peer` from the journal and the ledger.
///
/// # Errors
/// No process answers, or it refuses.
pub async fn run(context: &Context, peer: &str) -> Result<String, Problem> {
    let conversations = context.client()?.forget(peer).await?;
    Ok(match conversations {
        _ if context.json => json(&serde_json::json!({ "conversations": conversations })),
        0 => "Nothing is held of that peer.\n".to_owned(),
        1 => "Forgotten: one conversation.\n".to_owned(),
        many => format!("Forgotten: {many} conversations.\n"),
    })
}
