//! `autoreply sagas`: looks at replies and decides about drafts, through the running process.

use super::{Context, json, table};
use crate::contract::{DraftVersion, TurnId};
use crate::control::{Decision, Rejection, SagaStory};
use crate::error::Problem;

/// The replies that are open, or all recent ones.
///
/// # Errors
/// No process answers, or it refuses; so for all functions here.
pub async fn list(context: &Context, all: bool) -> Result<String, Problem> {
    let sagas = context.client()?.sagas(all).await?;
    if context.json {
        return Ok(json(&sagas));
    }
    if sagas.is_empty() {
        return Ok(if all { "There are no replies yet.\n" } else { "No reply is open.\n" }.to_owned());
    }
    let rows: Vec<_> = sagas
        .into_iter()
        .map(|saga| {
            [
                saga.turn.to_string(),
                saga.conversation,
                saga.state,
                format!("{:.0}", saga.updated_at),
                saga.draft.unwrap_or_default(),
            ]
        })
        .collect();
    Ok(table(["TURN", "CONVERSATION", "STATE", "CHANGED", "DRAFT"], &rows))
}

/// The whole story of one reply.
///
/// # Errors
/// As for [`list`].
pub async fn show(context: &Context, turn: TurnId) -> Result<String, Problem> {
    let story = context.client()?.saga(turn).await?;
    Ok(if context.json { json(&story) } else { tell(&story) })
}

fn tell(story: &SagaStory) -> String {
    let head = &story.summary;
    let mut text = format!("{}\n{}, revision {}: {}\n\n", head.turn, head.conversation, head.revision, head.state);
    for line in &story.inbound {
        text.push_str(&format!("  < {line}\n"));
    }
    if let (Some(draft), Some(version)) = (&head.draft, head.draft_version) {
        text.push_str(&format!("  > {draft}   (draft {version})\n"));
    }
    text.push('\n');
    let rows: Vec<_> = story
        .events
        .iter()
        .map(|step| [format!("{:.3}", step.at), step.place.clone(), step.event.clone(), step.detail.clone()])
        .collect();
    text + &table(["WHEN", "WHERE", "WHAT", "DETAIL"], &rows)
}

/// Sends a draft.
///
/// # Errors
/// As for [`list`].
pub async fn approve(context: &Context, turn: TurnId, version: Option<u32>) -> Result<String, Problem> {
    let decision = Decision { by: context.user(), draft_version: version.map(DraftVersion) };
    context.client()?.approve(turn, &decision).await?;
    let text = format!("Approved: {turn}. `autoreply sagas show {turn}` tells how it goes on.\n");
    Ok(decided(context, turn, "approved", text))
}

/// Does not send a draft.
///
/// # Errors
/// As for [`list`].
pub async fn reject(context: &Context, turn: TurnId, why: String) -> Result<String, Problem> {
    context.client()?.reject(turn, &Rejection { by: context.user(), why }).await?;
    Ok(decided(context, turn, "rejected", format!("Rejected: {turn}. Nothing will be sent for it.\n")))
}

fn decided(context: &Context, turn: TurnId, decision: &str, text: String) -> String {
    if context.json { json(&serde_json::json!({ "turn": turn, "decision": decision })) } else { text }
}
