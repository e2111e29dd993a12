//! `autoreply doctor`: what is missing on this machine, and how to mend it.
//!
//! Every check is bounded in time and stands alone: what one misses does not hide what the next has to say.

mod cluster;
#[cfg(feature = "desktop")]
mod desk;
mod kafka;
#[cfg(feature = "worker")]
mod ledger;
mod machine;
mod sections;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;

pub use self::cluster::examine as examine_cluster;
use super::paint::Paint;
use super::{Context, json};
use crate::error::Problem;

/// How long one check may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; it hinders nothing.
    Note,
    /// To be mended.
    Problem,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, as `language data`.
    pub check: String,
    /// How it ended.
    pub state: State,
    /// What was found, as a sentence without its full stop.
    pub what: String,
    /// How to mend it, where there is something to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: &str, what: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: State::Ok, what: what.into(), remedy: None }
    }

    fn note(check: &str, what: impl Into<String>, remedy: &str) -> Self {
        let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
        Self { check: check.to_owned(), state: State::Note, what: what.into(), remedy }
    }

    fn problem(check: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: State::Problem, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn of(check: &str, problem: Problem) -> Self {
        Self::problem(check, format!("{}: {}", problem.place, problem.what), problem.remedy)
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// One or more for each check, in the order in which they are to be mended.
    pub findings: Vec<Finding>,
}

impl Findings {
    /// Whether nothing has to be mended.
    pub fn well(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Problem)
    }

    /// The findings for a person, or as JSON.
    pub fn text(&self, as_json: bool) -> String {
        if as_json {
            return json(&serde_json::json!({ "well": self.well(), "findings": self.findings }));
        }
        self.told(Paint::plain())
    }

    /// The findings as the person or the program that asked wants them.
    pub fn shown(&self, context: &Context) -> String {
        if context.json { self.text(true) } else { self.told(Paint::of(context)) }
    }

    fn told(&self, paint: Paint) -> String {
        let width = self.findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => paint.good("ok     "),
                State::Note => paint.warn("note   "),
                State::Problem => paint.bad("PROBLEM"),
            };
            out.push_str(&format!("{mark}  {:<width$}  {}.\n", finding.check, finding.what));
            if let Some(remedy) = &finding.remedy {
                out.push_str(&format!("         {:<width$}  -> {remedy}.\n", ""));
            }
        }
        let problems = self.findings.iter().filter(|finding| finding.state == State::Problem).count();
        out.push_str(&match problems {
            0 => "Nothing has to be mended.\n".to_owned(),
            1 => "1 thing has to be mended.\n".to_owned(),
            more => format!("{more} things have to be mended.\n"),
        });
        out
    }
}

/// One half of autoreply, where only that is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// What sits on a desk.
    Desktop,
    /// What writes replies.
    Worker,
}

/// Looks at everything that autoreply needs on this machine, or that one half of it does.
pub async fn examine(context: &Context, half: Option<Half>) -> Findings {
    #[cfg(feature = "worker")]
    let worker = half != Some(Half::Desktop);
    #[cfg(feature = "desktop")]
    let desktop = half != Some(Half::Worker);
    // A program that has one half only has nothing to leave out.
    let _ = half;
    let mut findings = sections::examine(context);
    #[cfg(feature = "worker")]
    if worker {
        findings.extend(sections::generation(context));
        findings.extend(bounded("limits", sections::limits(context)).await);
    }
    findings.extend(bounded("this machine", blocking(context, machine::examine)).await);
    findings.extend(bounded("running process", machine::running(context)).await);
    findings.extend(bounded("kafka", kafka::examine(context)).await);
    #[cfg(feature = "worker")]
    if worker {
        findings.extend(bounded("ledger", ledger::examine(context)).await);
    }
    #[cfg(feature = "desktop")]
    if desktop {
        findings.extend(bounded("language data", blocking(context, desk::recognition)).await);
        findings.extend(bounded("display", blocking(context, desk::display)).await);
        findings.extend(bounded("accessibility", desk::accessibility(context)).await);
    }
    Findings { findings }
}

/// What `check` finds, or that it did not end in time.
async fn bounded(name: &str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(LIMIT, check).await.unwrap_or_else(|_| vec![unanswered(name)])
}

fn unanswered(name: &str) -> Finding {
    Finding::problem(
        name,
        format!("there was no answer within {} s", LIMIT.as_secs()),
        "See whether the session, the disk or the display hangs, and run this again",
    )
}

/// A check that may block, on a thread of its own: one that hangs there hangs nobody else.
async fn blocking(context: &Context, check: fn(&Context) -> Vec<Finding>) -> Vec<Finding> {
    let context = context.clone();
    match tokio::task::spawn_blocking(move || check(&context)).await {
        Ok(found) => found,
        Err(error) => vec![Finding::problem("doctor", format!("a check broke ({error})"), "Report this as a bug")],
    }
}

#[cfg(test)]
mod tests;
