//! Whether the brokers of the settings let this process in, and have the topics.

use std::time::Duration;

use super::Finding;
use crate::error::Problem;
use crate::roles::Context;
use crate::roles::wiring::{open_stream, stream_problem};
use crate::stream::Settings;
use crate::stream::topics::plan::Plan;

/// How long the brokers may take: less than a check, so that the answer is theirs.
const PATIENCE: Duration = Duration::from_secs(4);

/// The embedded broker is there whenever it is needed: there is nothing to look at before.
pub(super) async fn examine(context: &Context) -> Vec<Finding> {
    const CHECK: &str = "kafka";
    let Ok(settings) = context.layers.section::<Settings>("stream") else { return Vec::new() };
    // What does not fit was told with the settings.
    if settings.is_embedded() || settings.check().is_err() {
        return Vec::new();
    }
    let looked = match open_stream(context) {
        Ok((connection, _)) => connection.plan_topics_within(PATIENCE).await.map_err(|error| stream_problem(&error)),
        Err(problem) => Err(problem),
    };
    vec![match looked {
        Ok(plan) => judge(&plan, &settings.brokers),
        Err(problem) => Finding::of(CHECK, Problem { place: settings.brokers, ..problem }),
    }]
}

fn judge(plan: &Plan, brokers: &str) -> Finding {
    const CHECK: &str = "kafka";
    let missing = plan.missing();
    if !missing.is_empty() {
        let what = format!("{brokers} answers, and lacks the topics {}", missing.join(", "));
        return Finding::problem(CHECK, what, "Run `autoreply topics apply` with these settings once");
    }
    if !plan.fits() {
        let what = format!("{brokers} answers, and its topics are not as they should be");
        return Finding::problem(CHECK, what, "`autoreply topics plan` says what differs");
    }
    Finding::ok(CHECK, format!("{brokers} answers, and its topics fit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::doctor::State;
    use crate::stream::topics::plan::Change;

    #[test]
    fn topics_that_are_missing_are_named() {
        let create =
            Change::Create { topic: "a.b".to_owned(), partitions: 1, replication: 1, config: Default::default() };
        let found = judge(&Plan { changes: vec![create], ..Plan::default() }, "k:1");
        assert_eq!(found.state, State::Problem);
        assert!(found.what.contains("a.b") && found.remedy.unwrap().contains("topics apply"));
        assert_eq!(judge(&Plan::default(), "k:1").state, State::Ok);
    }
}
