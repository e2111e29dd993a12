//! `autoreply topics`: what a real Kafka lacks of the topics that were decided, and making it so.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use super::wiring::{open_stream, stream_problem};
use super::{Context, json};
use crate::error::Problem;
use crate::stream::Connection;
use crate::stream::topics::plan::{Plan, Weight};

/// What differs, and whether nothing has to be done.
///
/// # Errors
/// The broker is embedded, or does not answer; so for all functions here.
pub async fn plan(context: &Context) -> Result<(String, bool), Problem> {
    let (_, plan) = look(context).await?;
    Ok((if context.json { json(&plan) } else { tell(&plan) }, plan.fits()))
}

/// Shows what differs, asks, and makes it so. Without a terminal it wants `yes` beforehand.
///
/// # Errors
/// Nobody agreed, or the cluster refused a step.
pub async fn apply(context: &Context, yes: bool) -> Result<String, Problem> {
    let (connection, plan) = look(context).await?;
    let shown = tell(&plan);
    let answer =
        |text: String, applied: bool| if context.json { json(&Applied { plan: &plan, applied }) } else { text };
    if plan.changes.is_empty() {
        return Ok(answer(shown, true));
    }
    if !yes && !agreed(&shown).await? {
        return Ok(answer("Nothing was changed.\n".to_owned(), false));
    }
    connection.apply_topics(&plan).await.map_err(|error| stream_problem(&error))?;
    Ok(answer(format!("{shown}{} done.\n", count(plan.changes.len(), "change")), true))
}

/// A plan, and whether the cluster is now as it says.
#[derive(Serialize)]
struct Applied<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    applied: bool,
}

async fn look(context: &Context) -> Result<(Connection, Plan), Problem> {
    let (connection, settings) = open_stream(context)?;
    if settings.is_embedded() {
        return Err(Problem::new(
            "the embedded broker has every topic from its start",
            "stream.brokers",
            "Set it to your Kafka's addresses",
        ));
    }
    let plan = connection.plan_topics().await.map_err(|error| stream_problem(&error))?;
    Ok((connection, plan))
}

async fn agreed(shown: &str) -> Result<bool, Problem> {
    if !std::io::stdin().is_terminal() {
        return Err(Problem::new(
            "nobody is there to agree",
            "autoreply topics apply",
            "Look with `autoreply topics plan`, then add --yes",
        ));
    }
    let question = format!("{shown}Carry this out? [y/N] ");
    let asked = tokio::task::spawn_blocking(move || {
        // Standard output is for the answer alone.
        let mut out = std::io::stderr();
        out.write_all(question.as_bytes()).and_then(|()| out.flush())?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = asked.await.ok().and_then(Result::ok).unwrap_or_default();
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn tell(plan: &Plan) -> String {
    if plan.changes.is_empty() && plan.differences.is_empty() {
        return "The topics are as they should be.\n".to_owned();
    }
    let lines = plan.changes.iter().map(ToString::to_string).chain(plan.differences.iter().map(ToString::to_string));
    let mut text: String = lines.map(|line| line + "\n").collect();
    let mend = plan.differences.iter().filter(|difference| difference.weight == Weight::Mend).count();
    text.push_str(&format!("{} to make, {mend} to mend by hand.\n", count(plan.changes.len(), "change")));
    text
}

/// Says at the start of a role what differs on a real Kafka. A topic that is missing is waited for: whoever reads or
/// writes it tries again.
pub async fn warn(connection: &Connection) {
    let plan = match connection.plan_topics().await {
        Ok(plan) => plan,
        Err(error) => {
            tracing::warn!(%error, "whether the topics are right is not known");
            return;
        }
    };
    let missing = plan.missing();
    if !missing.is_empty() {
        tracing::error!(?missing, "topics are missing and waited for; create them: autoreply topics apply");
    }
    for change in plan.changes.iter().filter(|change| !missing.contains(&change.topic())) {
        tracing::warn!(%change, "a topic differs from what was decided; change it: autoreply topics apply");
    }
    for difference in &plan.differences {
        match difference.weight {
            Weight::Mend => tracing::warn!(%difference, "a topic differs in a way that a person has to mend"),
            Weight::Left => tracing::info!(%difference, "a topic differs, which may stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::Environment;

    #[tokio::test]
    async fn the_embedded_broker_has_nothing_to_apply() {
        let context = Context::gather(None, None, false, Environment::default()).unwrap();
        let problem = apply(&context, true).await.unwrap_err();
        assert_eq!(problem.place, "stream.brokers");
        assert_eq!(tell(&Plan::default()), "The topics are as they should be.\n");
    }
}
