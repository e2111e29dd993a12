//! Is it well? Pure: from what was seen to what hurts. `docs/cli.md` keeps these rules for people.

use super::view::{Asked, Hurt, LagView, Status};

/// A record that waits longer than this hurts: a reply has its deadline.
pub const LAG_SECONDS: f64 = 30.0;
/// A worker that has been silent for longer is not told about any more: it was replaced, or somebody knows.
pub const WORKER_SECONDS: f64 = 600.0;
/// The same for a desk.
pub const DESK_SECONDS: f64 = 86_400.0;

/// Everything that hurts, the worst first. What could not be asked was told by whoever asked.
pub(super) fn judge(status: &Status) -> Vec<Hurt> {
    let rules = [nobody, process, workers, redis, lag, overdue, breakers, quota, desks, dead_letters];
    rules.iter().flat_map(|rule| rule(status)).collect()
}

fn hurt(what: impl Into<String>, remedy: impl Into<String>) -> Hurt {
    Hurt { what: what.into(), remedy: remedy.into() }
}

/// One or several, as `1 desk` or `3 desks`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn named(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [first, second, third, _, ..] => format!("{first}, {second}, {third} and {} more", names.len() - 3),
        few => few.join(", "),
    }
}

fn be(names: &[&str]) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}

fn nobody(status: &Status) -> Vec<Hurt> {
    if status.asked != Asked::default() {
        return Vec::new();
    }
    let remedy = "Start one with `autoreply run`, or name the settings of the one that you mean with --config";
    vec![hurt("no autoreply runs here", remedy)]
}

fn process(status: &Status) -> Vec<Hurt> {
    let Some(health) = &status.process else { return Vec::new() };
    let waits = health.parts.iter().filter(|part| !part.ready);
    let told = waits.map(|part| {
        let what =
            format!("the autoreply ({}) on this machine is not ready: {}: {}", health.role, part.name, part.detail);
        hurt(what, "Look at its log; it says there what it waits for")
    });
    told.collect()
}

fn workers(status: &Status) -> Vec<Hurt> {
    let fresh = status.workers.iter().filter(|worker| worker.is_fresh()).count();
    let joined = status.group.as_ref().map(|group| group.members.len());
    let mut hurts = Vec::new();
    match (status.asked.ledger.is_some(), fresh, joined) {
        (true, 0, _) if status.replies.is_some() => {
            hurts.push(hurt("no worker runs", "Start one: `autoreply worker`, or `autoreply run` on a single machine"));
        }
        (false, _, Some(0)) => {
            hurts.push(hurt("no worker reads the records: their group has no member", "Start one: `autoreply worker`"));
        }
        (_, fresh, Some(0)) if fresh > 0 => hurts.push(hurt(
            "the workers run, and their group at the brokers has no member",
            "See in their logs what keeps them from the brokers; `autoreply doctor --cluster` looks at both",
        )),
        _ => {}
    }
    let silent = |seconds: f64| seconds < WORKER_SECONDS;
    let gone: Vec<_> =
        status.workers.iter().filter(|worker| !worker.is_fresh() && silent(worker.silent_seconds)).collect();
    if !gone.is_empty() {
        let names: Vec<_> = gone.iter().map(|worker| worker.name.as_str()).collect();
        let what = format!("{} {} silent and did not say goodbye", named(&names), be(&names));
        hurts
            .push(hurt(what, "See on its machine whether it died; the others take its turns over when its leases end"));
    }
    hurts
}

fn redis(status: &Status) -> Vec<Hurt> {
    let alone = status.workers.iter().filter(|worker| worker.is_fresh() && worker.limits_local).count() as u64;
    if alone == 0 {
        return Vec::new();
    }
    let what = format!("Redis is away: {} with limits of their own", count(alone, "worker"));
    vec![hurt(what, "Bring Redis back; until then rates are kept by each worker and nothing is remembered")]
}

fn lag(status: &Status) -> Vec<Hurt> {
    let late = |lag: &&LagView| lag.seconds.is_some_and(|seconds| seconds > LAG_SECONDS);
    let told = status.lag.iter().filter(late).map(|lag| {
        let waits = super::tell::span(lag.seconds.unwrap_or(0.0));
        let what = format!("{} of {} wait, the oldest for {waits}", count(lag.records, "record"), lag.topic);
        hurt(what, "Start more workers, or see in their logs what holds them up")
    });
    told.collect()
}

fn overdue(status: &Status) -> Vec<Hurt> {
    match status.replies.as_ref().map_or(0, |replies| replies.overdue) {
        0 => Vec::new(),
        many => vec![hurt(
            format!("{many} {} past the deadline and not ended", if many == 1 { "reply is" } else { "replies are" }),
            "`autoreply sagas list` shows where they stand; a worker ends them when it runs",
        )],
    }
}

fn breakers(status: &Status) -> Vec<Hurt> {
    let open = status.breakers.iter().filter(|breaker| !breaker.open_at.is_empty());
    let told = open.map(|breaker| {
        let (at, of) = (breaker.open_at.len(), breaker.workers);
        let what = format!("the provider {} is left alone after failures, at {at} of {of} workers", breaker.provider);
        hurt(what, "`autoreply doctor --cluster` tries its address; the workers' logs say how it failed")
    });
    told.collect()
}

fn quota(status: &Status) -> Vec<Hurt> {
    match status.quota {
        Some(quota) if quota.taken >= quota.limit => vec![hurt(
            format!("today's quota of {} is spent: nothing more is answered until midnight UTC", quota.limit),
            "Raise ledger.daily_quota and restart the workers, or wait",
        )],
        _ => Vec::new(),
    }
}

fn desks(status: &Status) -> Vec<Hurt> {
    let of = |state: &str, within: f64| -> Vec<&str> {
        let fits = |seconds: Option<f64>| seconds.is_none_or(|seconds| seconds < within);
        let desks = status.desks.iter().filter(|desk| desk.state == state && fits(desk.silent_seconds));
        desks.map(|desk| desk.desktop.as_str()).collect()
    };
    let mut hurts = Vec::new();
    let cloned = of("cloned", f64::INFINITY);
    if !cloned.is_empty() {
        let what = format!("two processes work with the journal of {}", named(&cloned));
        hurts.push(hurt(what, "End one of them; only the one that was started last types"));
    }
    let silent = of("silent", DESK_SECONDS);
    if !silent.is_empty() {
        let what = format!("{} {} silent and did not say that it stops", named(&silent), be(&silent));
        hurts.push(hurt(what, "See on the desk whether it runs: `autoreply doctor`"));
    }
    hurts
}

fn dead_letters(status: &Status) -> Vec<Hurt> {
    match status.person.dead_letters {
        None | Some(0) => Vec::new(),
        Some(many) => vec![hurt(
            format!("{} could not be read", count(many, "record")),
            "`autoreply dead-letters list` shows them; replay or park each",
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{hurting, well};
    use super::*;

    fn told(change: impl FnOnce(&mut Status)) -> Vec<String> {
        let mut status = well();
        change(&mut status);
        judge(&status).into_iter().map(|hurt| hurt.what).collect()
    }

    fn one(change: impl FnOnce(&mut Status), words: &str) {
        let told = told(change);
        assert!(told.len() == 1 && told[0].contains(words), "{words}: {told:?}");
    }

    #[test]
    fn nothing_hurts_when_it_is_well() {
        assert!(told(|_| ()).is_empty());
    }

    #[test]
    fn each_thing_that_hurts_is_told_once() {
        one(|s| s.asked = Asked::default(), "no autoreply runs here");
        one(|s| s.workers.clear(), "no worker runs");
        one(|s| s.workers[0].state = "silent", "is silent");
        one(|s| s.group.as_mut().unwrap().members.clear(), "has no member");
        one(|s| s.workers[0].limits_local = true, "Redis is away");
        one(|s| s.lag[0].seconds = Some(31.0), "the oldest for 31 s");
        one(|s| s.replies.as_mut().unwrap().overdue = 2, "2 replies are past");
        one(|s| s.breakers[0].open_at = vec!["a".into()], "the provider model");
        one(|s| s.quota.as_mut().unwrap().taken = 1000, "quota of 1000");
        one(|s| s.desks[0].state = "silent".into(), "is silent");
        one(|s| s.desks[0].state = "cloned".into(), "two processes");
        one(|s| s.person.dead_letters = Some(1), "1 record could not be read");
        one(|s| s.process.as_mut().unwrap().parts[0].ready = false, "not ready");
        assert!(judge(&hurting()).len() > 5);
    }

    #[test]
    fn what_is_long_past_or_may_wait_does_not_hurt() {
        let old = |s: &mut Status| {
            let mut worker = s.workers[0].clone();
            (worker.state, worker.silent_seconds) = ("silent", WORKER_SECONDS + 1.0);
            s.workers.push(worker);
            s.desks[0].state = "silent".into();
            s.desks[0].silent_seconds = Some(DESK_SECONDS + 1.0);
            s.person.drafts = Some(9);
            s.person.needs_attention = Some(9);
            s.lag[0] = LagView { records: 5000, seconds: None, ..s.lag[0].clone() };
        };
        assert!(told(old).is_empty());
        assert!(told(|s| s.desks[0].state = "stopped".into()).is_empty());
    }

    #[test]
    fn many_names_are_few_words() {
        assert_eq!(named(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
        assert_eq!(named(&["a", "b", "c"]), "a, b, c");
    }
}
