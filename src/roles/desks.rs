//! `autoreply desks`: asks the running process; and how desks do, for the metrics.

use super::{Context, json, table};
use crate::control::{DeskView, OwnedAccountView};
use crate::error::Problem;
#[cfg(feature = "worker")]
use crate::saga::Desk;
#[cfg(feature = "worker")]
use crate::telemetry::Metrics;
#[cfg(feature = "worker")]
use crate::telemetry::metrics::{DeskState, Label as _};

/// Every desk that the ledger knows.
///
/// # Errors
/// No process answers, or it has no ledger.
pub async fn list(context: &Context) -> Result<String, Problem> {
    let desks = context.client()?.desks().await?;
    if context.json {
        return Ok(json(&desks));
    }
    Ok(if desks.is_empty() { "No desk has been heard yet.\n".to_owned() } else { tell(desks) })
}

fn tell(desks: Vec<DeskView>) -> String {
    let rows: Vec<_> = desks
        .into_iter()
        .map(|desk| {
            [
                desk.desktop,
                desk.state,
                desk.last_seen.map_or_else(String::new, |at| format!("{at:.0}")),
                desk.version,
                desk.host,
                desk.accounts.iter().map(account).collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    table(["DESK", "STATE", "LAST HEARD", "VERSION", "MACHINE", "ANSWERS FOR"], &rows)
}

fn account(owned: &OwnedAccountView) -> String {
    let lapsed = if owned.lapsed { ", lapsed" } else { "" };
    format!("{} (token {}{lapsed})", owned.account, owned.token)
}

/// How a desk does. One that owns an account and never said hello is of release 0.1.0, and nothing is known of it.
#[cfg(feature = "worker")]
pub(super) fn state_of(desk: &Desk) -> Option<DeskState> {
    desk.last_seen?;
    Some(match desk {
        _ if desk.cloned => DeskState::Cloned,
        _ if desk.stopped => DeskState::Stopped,
        _ if desk.is_fresh() => DeskState::Fresh,
        _ => DeskState::Silent,
    })
}

/// Puts how the desks do into the gauges.
#[cfg(feature = "worker")]
pub(super) fn count(metrics: &Metrics, desks: &[Desk]) {
    for state in DeskState::ALL {
        let many = desks.iter().filter(|desk| state_of(desk) == Some(*state)).count();
        metrics.desks.of(*state).set(many as f64);
    }
    let listening = desks.iter().filter(|desk| desk.last_seen.is_some() && !desk.stopped);
    metrics.desks_silent.set(listening.map(|desk| desk.silent_for.as_secs_f64()).fold(0.0, f64::max));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_is_a_line_with_its_accounts() {
        let owned = |token, lapsed| OwnedAccountView { account: "hexchat irc/me".to_owned(), token, lapsed };
        let desk = DeskView {
            desktop: "desk-1".to_owned(),
            journal: "j".to_owned(),
            host: "office".to_owned(),
            version: "0.2.0".to_owned(),
            last_seen: Some("2026-03-01T10:00:00.5Z".parse().unwrap()),
            state: "cloned".to_owned(),
            accounts: vec![owned(2, false), owned(1, true)],
        };
        let text = tell(vec![desk]);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("desk-1  cloned  2026-03-01T10:00:00Z"), "{line}");
        assert!(line.ends_with("hexchat irc/me (token 2), hexchat irc/me (token 1, lapsed)"), "{line}");
    }
    #[cfg(feature = "worker")]
    #[test]
    fn the_longest_silence_is_that_of_a_desk_which_did_not_say_that_it_stops() {
        use std::time::Duration;

        let heard = |name: &str, seconds: u64, stopped: bool| {
            let desktop = crate::contract::DesktopId::try_from(name.to_owned()).unwrap();
            let unheard = Desk::silent(desktop, crate::contract::JournalId(uuid::Uuid::nil()));
            let last_seen = Some(crate::clock::from_millis(0));
            let (interval, silent_for) = (Duration::from_secs(10), Duration::from_secs(seconds));
            Desk { last_seen, interval, silent_for, stopped, ..unheard }
        };
        let metrics = Metrics::new();
        let older = Desk { last_seen: None, ..heard("d", 9_999, false) };
        count(&metrics, &[heard("a", 5, false), heard("b", 70, false), heard("c", 900, true), older]);
        assert_eq!(metrics.desks_silent.get(), 70.0);
        assert_eq!(DeskState::ALL.iter().map(|state| metrics.desks.of(*state).get()).sum::<f64>(), 3.0);
        count(&metrics, &[]);
        assert_eq!(metrics.desks_silent.get(), 0.0);
    }
}
