//! Whether every room's section of the settings fits.

use serde::de::DeserializeOwned;

use super::Finding;
use crate::error::Problem;
use crate::roles::Context;

pub(super) fn examine(context: &Context) -> Vec<Finding> {
    let mut wrong = Vec::new();
    {
        let mut look = |outcome: Result<(), Problem>| wrong.extend(outcome.err());
        look(fits(context, "control", |_: &crate::control::Settings| Ok(())));
        look(fits(context, "telemetry", crate::telemetry::Settings::check));
        look(fits(context, "stream", crate::stream::Settings::check));
        #[cfg(feature = "desktop")]
        {
            look(fits(context, "desktop", |_: &crate::roles::desktop::Settings| Ok(())));
            look(fits(context, "capture", crate::capture::Settings::check));
            look(fits(context, "journal", crate::journal::Settings::check));
            look(fits(context, "execution", crate::execution::Settings::check));
        }
        #[cfg(feature = "worker")]
        {
            look(fits(context, "saga", crate::saga::Settings::check));
            look(fits(context, "ledger", crate::ledger::Settings::check));
            look(fits(context, "limits", crate::limits::Settings::check));
        }
    }
    // Only sections that fit by themselves can be held against each other.
    if wrong.is_empty() {
        wrong.extend(crate::roles::consistency::check(context).err());
    }
    let mut findings: Vec<_> = wrong.into_iter().map(|problem| Finding::of("settings", problem)).collect();
    if findings.is_empty() {
        let from = context.config.as_ref().map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
        findings.push(Finding::ok("settings", format!("every section fits (from {from})")));
    }
    findings
}

fn fits<T: DeserializeOwned>(
    context: &Context,
    section: &str,
    check: impl Fn(&T) -> Result<(), Problem>,
) -> Result<(), Problem> {
    check(&context.layers.section::<T>(section)?)
}

/// The providers' settings, their rules and their keys; the keys themselves are not shown.
#[cfg(feature = "worker")]
pub(super) fn generation(context: &Context) -> Vec<Finding> {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use secrecy::SecretString;

    use crate::generation::{Settings, build};
    use crate::settings::SecretReference;

    let settings: Settings = match context.layers.section("generation") {
        Ok(settings) => settings,
        Err(problem) => return vec![Finding::of("generation", problem)],
    };
    let (mut keys, mut findings) = (BTreeMap::new(), Vec::new());
    for (provider, reference) in settings.secrets() {
        let (place, key) = match &reference {
            SecretReference::Environment(name) => {
                (reference.to_string(), context.environment.get(name).map(str::to_owned))
            }
            SecretReference::File(path) => (reference.to_string(), std::fs::read_to_string(path).ok()),
        };
        match key.filter(|key| !key.trim().is_empty()) {
            Some(key) => _ = keys.insert(provider, SecretString::from(key.trim().to_owned())),
            None => {
                findings.push(Finding::problem(
                    "generation",
                    format!("the key of the provider {provider} is not in {place}"),
                    format!("Put the key there, or take {provider} out of generation.chain"),
                ));
                // So that the rest of this provider is looked at all the same.
                keys.insert(provider, SecretString::from("absent".to_owned()));
            }
        }
    }
    let clock: Arc<dyn crate::clock::Clock> = Arc::new(crate::clock::SystemClock);
    if let Err(problems) = build(&settings, &keys, &clock) {
        findings.extend(problems.into_iter().map(|problem| Finding::of("generation", problem)));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("generation", format!("the chain is {}", settings.chain.join(", "))));
    }
    findings
}

/// Whether the Redis of the settings can be used.
#[cfg(feature = "worker")]
pub(super) async fn limits(context: &Context) -> Vec<Finding> {
    const CHECK: &str = "limits";
    // One that does not fit is told with the other sections.
    let Ok(settings) = context.layers.section::<crate::limits::Settings>("limits") else { return Vec::new() };
    if settings.check().is_err() {
        return Vec::new();
    }
    if settings.redis_url.is_empty() {
        return vec![Finding::ok(CHECK, "rates and memory are kept in each worker")];
    }
    let password = match crate::roles::worker::redis_password(context, &settings) {
        Ok(password) => password,
        Err(problem) => return vec![Finding::of(CHECK, problem)],
    };
    match crate::limits::examine(&settings, password.as_ref()).await {
        Ok(server) => vec![judge_redis(&server)],
        Err(problem) => vec![Finding::of(CHECK, problem)],
    }
}

/// A Redis that throws keys away when it is full lets rates begin anew, and loses track of text it was to forget.
#[cfg(feature = "worker")]
fn judge_redis(server: &crate::limits::Server) -> Finding {
    let what = format!("Redis {} answers and runs scripts", server.version);
    if server.eviction == "noeviction" || server.eviction.is_empty() {
        return Finding::ok("limits", what);
    }
    let what = format!("{what}, and throws keys away when it is full ({})", server.eviction);
    Finding::note("limits", what, "Set its maxmemory-policy to noeviction")
}

#[cfg(all(test, feature = "worker"))]
mod tests {
    use super::*;
    use crate::limits::Server;
    use crate::roles::doctor::State;

    #[test]
    fn a_redis_that_throws_keys_away_is_worth_a_note() {
        let of = |eviction: &str| judge_redis(&Server { version: "7.0.15".into(), eviction: eviction.into() }).state;
        assert_eq!(of("noeviction"), State::Ok);
        assert_eq!(of("allkeys-lru"), State::Note);
    }
}
