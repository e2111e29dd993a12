//! The brokers: each address, the cluster, its topics and rights, its clock, the workers' group.

use std::time::Duration;

use super::super::{Finding, bounded};
use super::judge_skew;
use crate::clock::{Clock as _, SystemClock, to_millis};
use crate::contract::wire::topic;
use crate::roles::status::sources::Brokers;
use crate::stream::topics::plan::{Plan, Weight};
use crate::stream::{ClusterView, GroupStanding};

const CHECK: &str = "kafka";
/// How long one address is waited for.
const KNOCK: Duration = Duration::from_secs(3);
/// Desks say hello more often than this: a newest hello that is older, by the brokers' clock, tells of that clock.
const HELLOS_SECONDS: f64 = 60.0;

/// What is known from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// A desk was heard lately, so that there are fresh records.
    pub(super) desks_speak: bool,
    /// How many workers say that they run; `None` if nobody could be asked.
    pub(super) workers: Option<usize>,
}

pub(super) async fn examine(brokers: &Brokers, known: Known) -> Vec<Finding> {
    let mut findings = addresses(&brokers.addresses).await;
    let cluster = bounded(CHECK, async {
        match brokers.lookout.cluster(topic::DESKTOPS).await {
            Ok(view) => judge_cluster(&view, known),
            Err(error) => vec![failed(&error)],
        }
    });
    let topics = bounded("topics", async {
        match brokers.connection.plan_topics().await {
            Ok(plan) => judge_topics(&plan),
            Err(error) => vec![Finding::problem("topics", error.to_string(), "See the lines above")],
        }
    });
    let group = bounded("worker group", async {
        match brokers.standing().await {
            Ok(standing) => judge_group(&standing, &brokers.group, known.workers),
            Err(problem) => vec![Finding::problem(
                "worker group",
                problem.what,
                "See that the topics are there, and that this user may describe and read the group (ACLs)",
            )],
        }
    });
    let (cluster, topics, group) = tokio::join!(cluster, topics, group);
    findings.extend(cluster.into_iter().chain(topics).chain(group));
    findings
}

fn failed(error: &crate::stream::StreamError) -> Finding {
    let remedy = "Check stream.brokers, security_protocol, user and password; the brokers' log says why they refuse";
    Finding::problem(CHECK, error.to_string(), remedy)
}

/// Whether each address of the settings takes a connection.
async fn addresses(list: &str) -> Vec<Finding> {
    let knock = |address: &str| {
        let address = address.trim().to_owned();
        async move {
            let tried = tokio::time::timeout(KNOCK, tokio::net::TcpStream::connect(&address)).await;
            let why = match tried {
                Ok(Ok(_)) => return Finding::ok(CHECK, format!("{address} takes connections")),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", KNOCK.as_secs()),
            };
            let what = format!("{address} takes no connection ({why})");
            Finding::problem(CHECK, what, "See that the broker runs there, and that its name and port are right")
        }
    };
    futures::future::join_all(list.split(',').map(knock)).await
}

fn judge_cluster(view: &ClusterView, known: Known) -> Vec<Finding> {
    let what = format!("the cluster {} has {} brokers: {}", view.id, view.brokers.len(), view.brokers.join(", "));
    let mut findings = vec![Finding::ok(CHECK, what)];
    if !view.leaderless.is_empty() {
        let what = format!("nobody leads {}: nothing goes through them", few(&view.leaderless));
        findings.push(Finding::problem(CHECK, what, "Bring the brokers back that hold them"));
    }
    if !view.short_of_copies.is_empty() {
        let what = format!("copies of {} are away or behind", few(&view.short_of_copies));
        findings.push(Finding::note(
            CHECK,
            what,
            "Bring the broker back that holds them; one more loss may stop writes",
        ));
    }
    findings.extend(view.newest_ms.and_then(|newest| judge_clock(newest, to_millis(SystemClock.now()), known)));
    findings
}

/// What the newest record says of the brokers' clock: it cannot come from the future, and while desks speak it is young.
fn judge_clock(newest_ms: i64, now_ms: i64, known: Known) -> Option<Finding> {
    let age = (now_ms - newest_ms) as f64 / 1000.0;
    if age < 0.0 {
        return Some(judge_skew("kafka clock", "the brokers'", -age));
    }
    if known.desks_speak && age > HELLOS_SECONDS {
        return Some(judge_skew("kafka clock", "the brokers'", -age));
    }
    known.desks_speak.then(|| Finding::ok("kafka clock", format!("the newest hello is {age:.0} s old by it")))
}

fn judge_topics(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !plan.missing().is_empty() {
        let what = format!("missing: {}", plan.missing().join(", "));
        findings.push(Finding::problem("topics", what, "Create them: `autoreply topics apply`"));
    }
    let missing = plan.missing();
    for change in plan.changes.iter().filter(|change| !missing.contains(&change.topic())) {
        let what = format!("a setting differs: {change}");
        findings.push(Finding::problem("topics", what, "Change it: `autoreply topics apply`"));
    }
    for difference in &plan.differences {
        let what = format!("{}: {}", difference.topic, difference.what);
        findings.push(match difference.weight {
            Weight::Mend => Finding::problem("topics", what, difference.remedy.clone()),
            Weight::Left => Finding::note("topics", what, &difference.remedy),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok("topics", "they are as the files say, and this user may describe them"));
    }
    findings
}

fn judge_group(standing: &GroupStanding, name: &str, workers: Option<usize>) -> Vec<Finding> {
    const CHECK: &str = "worker group";
    let (members, state) = (standing.members.len(), &standing.state);
    let what =
        format!("{name} has {members} members ({})", if state.is_empty() { "never used" } else { state.as_str() });
    let remedy = "Start a worker; one that runs says in its log what keeps it from the brokers";
    let mut findings = vec![match (members, workers) {
        (0, _) => Finding::problem(CHECK, what, remedy),
        (members, Some(workers)) if members != workers => {
            let what = format!("{what}, and {workers} workers say that they run");
            Finding::note(CHECK, what, "A worker may be starting or have just died; look again in a minute")
        }
        _ if state != "Stable" => {
            Finding::note(CHECK, what, "It is sharing the partitions out; look again in a minute")
        }
        _ => Finding::ok(CHECK, what),
    }];
    let waiting: u64 = standing.topics.iter().map(|topic| topic.records).sum();
    if waiting > 0 {
        let lags: Vec<_> = standing
            .topics
            .iter()
            .filter(|topic| topic.records > 0)
            .map(|topic| format!("{} {}", topic.topic, topic.records))
            .collect();
        findings.push(Finding::note(
            CHECK,
            format!("records wait: {}", lags.join(", ")),
            "`autoreply top` shows how it goes on",
        ));
    }
    findings
}

fn few(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::super::super::State;
    use super::*;
    use crate::stream::{Member, TopicStanding};

    fn states(findings: &[Finding]) -> Vec<State> {
        findings.iter().map(|finding| finding.state).collect()
    }

    const SILENT: Known = Known { desks_speak: false, workers: None };

    #[test]
    fn a_cluster_with_lost_partitions_is_told() {
        let well = ClusterView {
            id: "c".to_owned(),
            brokers: vec!["k:1".to_owned()],
            leaderless: Vec::new(),
            short_of_copies: Vec::new(),
            newest_ms: None,
        };
        assert_eq!(states(&judge_cluster(&well, SILENT)), [State::Ok]);
        let names = |count| (0..count).map(|n| format!("autoreply.messages/{n}")).collect::<Vec<_>>();
        let broken = ClusterView { leaderless: names(1), short_of_copies: names(5), ..well };
        let found = judge_cluster(&broken, SILENT);
        assert_eq!(states(&found), [State::Ok, State::Problem, State::Note]);
        assert!(found[2].what.contains("and 2 more"), "{found:?}");
    }

    #[test]
    fn the_brokers_clock_is_judged_by_the_newest_record() {
        let speak = Known { desks_speak: true, workers: None };
        let judged = |newest, known| judge_clock(newest, 1_000_000, known).map(|finding| finding.state);
        assert_eq!(judged(990_000, speak), Some(State::Ok));
        assert_eq!(judged(990_000, SILENT), None);
        assert_eq!(judged(1_005_000, SILENT), Some(State::Note), "from the future");
        assert_eq!(judged(1_050_000, SILENT), Some(State::Problem));
        assert_eq!(judged(900_000, speak), Some(State::Problem), "desks speak, and their hellos look old");
    }

    #[test]
    fn the_group_is_held_against_the_workers() {
        let member =
            Member { id: "m".to_owned(), client: "autoreply".to_owned(), host: "h".to_owned(), partitions: Some(3) };
        let topic = TopicStanding { topic: "t".to_owned(), partitions: 3, records: 0, oldest_ms: None };
        let standing = GroupStanding { state: "Stable".to_owned(), members: vec![member], topics: vec![topic] };
        let judged = |standing: &GroupStanding, workers| states(&judge_group(standing, "g", workers));
        assert_eq!(judged(&standing, Some(1)), [State::Ok]);
        assert_eq!(judged(&standing, Some(2)), [State::Note]);
        let empty = GroupStanding { state: "Empty".to_owned(), members: Vec::new(), ..standing.clone() };
        assert_eq!(judged(&empty, Some(0)), [State::Problem]);
        let mut behind = standing;
        behind.topics[0].records = 7;
        assert_eq!(judged(&behind, None), [State::Ok, State::Note]);
    }

    #[tokio::test]
    async fn an_address_that_takes_no_connection_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap().to_string();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let found = addresses(&format!("{there}, {free}")).await;
        assert_eq!(states(&found), [State::Ok, State::Problem]);
        assert!(found[1].what.contains(&free) && found[1].remedy.is_some());
    }
}
