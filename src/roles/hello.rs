//! Hellos: that this desktop runs, and for which accounts it would answer.

use std::time::Duration;

use jiff::Timestamp;

use super::relay::Shared;
use crate::clock::{from_millis, to_millis};
use crate::contract::codec::MAX_ACCOUNTS;
use crate::contract::{Account, DesktopHello, DesktopId};
use crate::journal::JournalError;

/// How often the journal is asked at most whether it reads other accounts than before.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last hello may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a desktop says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// How often, at least.
    pub every: Duration,
    /// The machine's name.
    pub host: String,
}

impl Default for Greeting {
    fn default() -> Self {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        Self { every: Duration::from_secs(10), host }
    }
}

/// Says hello at the start, whenever the accounts change, and from time to time; at the stop it lets go of the accounts,
/// after the journal has been told to let nothing more pass.
///
/// # Errors
/// Never: a journal or a broker that is away is tried again.
pub(super) async fn say(shared: Shared, desktop: DesktopId, greeting: Greeting) -> Result<(), JournalError> {
    let mut changed = shared.journal.changed();
    let started_at = whole(shared.clock.now());
    let mut said: Option<(Vec<Account>, tokio::time::Instant)> = None;
    while !shared.stop.is_cancelled() {
        match shared.journal.accounts().await {
            Ok(accounts) => {
                let due =
                    said.as_ref().is_none_or(|(before, at)| *before != accounts || at.elapsed() >= greeting.every);
                if due && greet(&shared, &desktop, &greeting, started_at, &accounts, false).await {
                    said = Some((accounts, tokio::time::Instant::now()));
                }
                tell_metrics(&shared);
            }
            Err(error) => tracing::warn!(%error, "the accounts are not known now; the next hello waits"),
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = wait(&mut changed, greeting.every.min(Duration::from_secs(5))) => {}
        }
    }
    shared.journal.leave();
    if let Some((accounts, _)) = said {
        let farewell = greet(&shared, &desktop, &greeting, started_at, &accounts, true);
        // Without it the accounts lapse by themselves.
        let _said = tokio::time::timeout(FAREWELL, farewell).await;
    }
    Ok(())
}

/// Until the journal changes, but not sooner than [`LOOK`] and not later than `most`.
async fn wait(changed: &mut tokio::sync::watch::Receiver<u64>, most: Duration) {
    tokio::time::sleep(LOOK.min(most)).await;
    // A journal that is gone changes no more; the stop is near.
    let _changed = tokio::time::timeout(most.saturating_sub(LOOK), changed.changed()).await;
}

/// Publishes a hello; whether the broker took it.
async fn greet(
    shared: &Shared,
    desktop: &DesktopId,
    greeting: &Greeting,
    started_at: Timestamp,
    accounts: &[Account],
    leaving: bool,
) -> bool {
    if accounts.len() > MAX_ACCOUNTS {
        let (accounts, most) = (accounts.len(), MAX_ACCOUNTS);
        tracing::error!(
            accounts,
            most,
            "this desktop reads more accounts than a hello names; the rest is not answered"
        );
    }
    let hello = DesktopHello {
        desktop: desktop.clone(),
        journal: shared.journal.id(),
        instance: shared.journal.instance(),
        started_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: greeting.host.chars().take(200).collect(),
        seat: shared.journal.seat().to_owned(),
        accounts: accounts.iter().take(MAX_ACCOUNTS).cloned().collect(),
        interval_ms: u64::try_from(greeting.every.as_millis()).unwrap_or(u64::MAX).max(1),
        leaving,
        at: whole(shared.clock.now()),
    };
    match shared.outbound.hello(&hello).await {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!(why, "the workers could not be greeted; tried again");
            false
        }
    }
}

fn tell_metrics(shared: &Shared) {
    let standing = shared.journal.standing_as_told();
    let now = shared.clock.now();
    let owned = standing.accounts.values().filter(|account| account.owned && account.holds(now)).count();
    shared.metrics.accounts_owned.set(owned as f64);
    shared.metrics.desk_cloned.set(if standing.cloned { 1.0 } else { 0.0 });
}

/// To the millisecond, as the ledger keeps it.
fn whole(at: Timestamp) -> Timestamp {
    from_millis(to_millis(at))
}
