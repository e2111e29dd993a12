//! `autoreply doctor --cluster`: the servers that workers and desks share, from where this runs. It writes nothing, and
//! spends no call of a model.

mod kafka;
#[cfg(feature = "worker")]
mod postgres;

use super::{Finding, Findings, blocking, bounded, machine, sections};
use crate::roles::Context;
#[cfg(feature = "worker")]
use crate::roles::status::ledger::{Book, Page};
use crate::roles::status::sources::Brokers;

/// How far two clocks may be apart before it is worth a word, and before deadlines go wrong, in seconds.
const SKEW_NOTE: f64 = 2.0;
const SKEW_PROBLEM: f64 = 10.0;

/// Looks at the settings, this machine, the brokers, the ledger, Redis, the models' servers, workers and desks.
pub async fn examine(context: &Context) -> Findings {
    let mut findings = sections::examine(context);
    findings.extend(bounded("this machine", blocking(context, machine::examine)).await);
    findings.extend(bounded("running process", machine::running(context)).await);
    #[cfg(feature = "worker")]
    {
        let page = bounded_page(context).await;
        let (kafka, postgres, limits, providers) = tokio::join!(
            brokers(context, page.as_ref().ok()),
            bounded("ledger", postgres::examine(context, page.as_ref().ok())),
            bounded("limits", sections::limits(context)),
            providers(context),
        );
        findings.extend(kafka.into_iter().chain(postgres).chain(limits).chain(providers));
        findings.extend(match &page {
            Ok(page) => people(page),
            Err(finding) => vec![finding.clone()],
        });
    }
    #[cfg(not(feature = "worker"))]
    findings.extend(brokers(context).await);
    Findings { findings }
}

#[cfg(feature = "worker")]
async fn brokers(context: &Context, page: Option<&Page>) -> Vec<Finding> {
    let desks_speak = page.is_some_and(|page| page.desks.iter().any(|desk| desk.state == "fresh"));
    let fresh = page.map(|page| page.workers.iter().filter(|worker| worker.is_fresh()).count());
    look_at_brokers(context, kafka::Known { desks_speak, workers: fresh }).await
}

#[cfg(not(feature = "worker"))]
async fn brokers(context: &Context) -> Vec<Finding> {
    look_at_brokers(context, kafka::Known { desks_speak: false, workers: None }).await
}

async fn look_at_brokers(context: &Context, known: kafka::Known) -> Vec<Finding> {
    match Brokers::open(context) {
        // What does not fit was told with the settings.
        Err(_) if context.layers.section::<crate::stream::Settings>("stream").is_err() => Vec::new(),
        Err(problem) => vec![Finding::of("kafka", problem)],
        Ok(None) => vec![Finding::note(
            "kafka",
            "the broker is embedded: this is a single machine, and there is no cluster to look at",
            "For a cluster set stream.brokers to your Kafka's addresses",
        )],
        Ok(Some(brokers)) => kafka::examine(&brokers, known).await,
    }
}

/// What the ledger says, or the finding that it says nothing.
#[cfg(feature = "worker")]
async fn bounded_page(context: &Context) -> Result<Page, Finding> {
    const CHECK: &str = "workers";
    let read = async {
        match Book::open(context).await {
            Ok(Some(book)) => {
                let page = book.read().await;
                book.close().await;
                page.map_err(|problem| Finding::of(CHECK, problem))
            }
            Ok(None) => Err(Finding::note(CHECK, "there is no ledger here that knows them", "Set ledger.url")),
            Err(problem) => Err(Finding::of(CHECK, problem)),
        }
    };
    tokio::time::timeout(super::LIMIT, read).await.unwrap_or_else(|_| Err(super::unanswered(CHECK)))
}

/// Whether the models' servers can be reached.
#[cfg(feature = "worker")]
async fn providers(context: &Context) -> Vec<Finding> {
    let Ok(settings) = context.layers.section::<crate::generation::Settings>("generation") else { return Vec::new() };
    let proxied = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"]
        .into_iter()
        .find(|name| context.environment.get(name).is_some());
    let asked = settings.servers().into_iter().map(|(name, server)| async move {
        let check = format!("provider {name}");
        if let Some(proxy) = proxied.filter(|_| !server.is_loopback()) {
            let what = format!("{} is reached through the proxy of {proxy}, which is not tried", server.place());
            return Finding::note(&check, what, "");
        }
        let remedy = "Check base_url, the name's address, and what stands between; calls fall back until it answers";
        match server.reach(super::LIMIT / 2).await {
            Ok(reached) => Finding::ok(&check, reached),
            Err(why) => Finding::problem(&check, why, remedy),
        }
    });
    futures::future::join_all(asked).await
}

/// Workers and desks.
#[cfg(feature = "worker")]
fn people(page: &Page) -> Vec<Finding> {
    use crate::roles::status::verdict::{DESK_SECONDS, WORKER_SECONDS};
    let mut findings = Vec::new();
    let fresh: Vec<_> = page.workers.iter().filter(|worker| worker.is_fresh()).collect();
    let silent: Vec<_> = page.workers.iter().filter(|worker| !worker.is_fresh()).collect();
    if fresh.is_empty() {
        findings.push(Finding::problem("workers", "none runs", "Start one: `autoreply worker`"));
    } else {
        let mut versions: Vec<_> = fresh.iter().map(|worker| worker.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        let what = format!("{} run, of version {}", fresh.len(), versions.join(" and "));
        findings.push(match versions.len() {
            1 => Finding::ok("workers", what),
            _ => Finding::note("workers", what, "Finish the upgrade: both work side by side, for a while"),
        });
    }
    for worker in silent.iter().filter(|worker| worker.silent_seconds < WORKER_SECONDS) {
        let what = format!("{} is silent for {:.0} s and did not say goodbye", worker.name, worker.silent_seconds);
        findings.push(Finding::problem("workers", what, "See on its machine whether it died"));
    }
    for breaker in page.breakers.iter().filter(|breaker| !breaker.open_at.is_empty()) {
        let what = format!("{} is left alone after failures at {}", breaker.provider, breaker.open_at.join(", "));
        findings.push(Finding::problem("breakers", what, "See in those workers' logs how it failed"));
    }
    let of = |state: &str| page.desks.iter().filter(|desk| desk.state == state).count();
    let what = format!("{} known, {} heard now, {} stopped", page.desks.len(), of("fresh"), of("stopped"));
    findings.push(match page.desks.is_empty() {
        true => Finding::note("desks", "none has been heard yet", "Start one: `autoreply desktop`"),
        false => Finding::ok("desks", what),
    });
    for desk in &page.desks {
        let late = desk.silent_seconds.is_none_or(|seconds| seconds < DESK_SECONDS);
        match desk.state.as_str() {
            "cloned" => findings.push(Finding::problem(
                "desks",
                format!("two processes work with the journal of {}", desk.desktop),
                "End one of them; only the one that was started last types",
            )),
            "silent" if late => findings.push(Finding::problem(
                "desks",
                format!("{} is silent and did not say that it stops", desk.desktop),
                "See on the desk whether it runs: `autoreply doctor`",
            )),
            _ => {}
        }
    }
    findings
}

/// What a difference of clocks means; positive when `whose` is ahead.
fn judge_skew(check: &str, whose: &str, seconds: f64) -> Finding {
    let (apart, way) = (seconds.abs(), if seconds > 0.0 { "ahead of" } else { "behind" });
    let what = format!("{whose} clock is {apart:.1} s {way} this machine's");
    let remedy = "Set both clocks, best by NTP: deadlines, ages and the order of stories go by them";
    if apart >= SKEW_PROBLEM {
        Finding::problem(check, what, remedy)
    } else if apart >= SKEW_NOTE {
        Finding::note(check, what, remedy)
    } else {
        Finding::ok(check, format!("{whose} clock and this machine's are less than {SKEW_NOTE} s apart"))
    }
}

#[cfg(test)]
#[cfg(feature = "worker")]
mod tests;
