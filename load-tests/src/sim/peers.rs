//! The other sides: each writes at its planned time, whatever the desk is doing. After a restart they have written
//! what was planned meanwhile, and it has stood there since then.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use autoreply::clock::{Clock, to_millis};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::application::Application;
use crate::facts::{self, Planned};
use crate::plan;

/// How often the plan is looked for that is not there yet.
const LOOK_FOR_PLAN: Duration = Duration::from_millis(50);
/// A message that is shown so long after its time was missed: the desk was dead or starting.
const MISSED_MS: i64 = 1000;

/// Everybody who writes to the desks of a process.
pub struct Peers {
    plan: PathBuf,
    applications: BTreeMap<String, Application>,
    clock: Arc<dyn Clock>,
}

impl Peers {
    /// Those who write to the applications, by desktop.
    pub fn new(config: &Config, applications: BTreeMap<String, Application>, clock: Arc<dyn Clock>) -> Self {
        Self { plan: config.directory.join(facts::PLAN_FILE), applications, clock }
    }

    /// Waits for the plan's file, then writes each line of it at its time, until `stop`.
    ///
    /// # Errors
    /// The plan cannot be read, or an application's file cannot be written.
    pub async fn run(self, stop: CancellationToken) -> std::io::Result<()> {
        while !self.plan.exists() {
            tokio::select! { () = stop.cancelled() => return Ok(()), () = tokio::time::sleep(LOOK_FOR_PLAN) => {} }
        }
        let mut plan = self.remaining()?;
        tracing::info!(messages = plan.len(), "the other sides begin");
        let mut answers: BTreeSet<(i64, String, String)> = BTreeSet::new();
        while !stop.is_cancelled() {
            let now = to_millis(self.clock.now());
            while let Some(planned) = plan.pop_front_if(|planned| planned.at_ms <= now) {
                answers.extend(self.write(&planned, now)?);
            }
            while let Some((at_ms, desktop, peer)) = answers.pop_first() {
                if at_ms > now {
                    answers.insert((at_ms, desktop, peer));
                    break;
                }
                if let Some(application) = self.applications.get(&desktop) {
                    application.person_writes(&peer)?;
                }
            }
            let next = plan.front().map(|planned| planned.at_ms).into_iter().chain(answers.first().map(|a| a.0)).min();
            let wait = next.map_or(Duration::from_secs(3600), |at| Duration::from_millis((at - now).max(0) as u64));
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(wait) => {} }
        }
        Ok(())
    }

    /// What is planned for these desks and not shown yet.
    fn remaining(&self) -> std::io::Result<VecDeque<Planned>> {
        let shown: HashMap<_, _> =
            self.applications.iter().map(|(desktop, application)| (desktop, application.shown_tokens())).collect();
        let mut plan = facts::read::<Planned>(&self.plan)?;
        plan.retain(|planned| shown.get(&planned.desktop).is_some_and(|tokens| !tokens.contains(&planned.token)));
        Ok(plan.into())
    }

    /// Writes a line; gives when and where the person answers it by hand, if they do.
    fn write(&self, planned: &Planned, now_ms: i64) -> std::io::Result<Option<(i64, String, String)>> {
        let Planned { desktop, peer, at_ms, .. } = planned;
        let Some(application) = self.applications.get(desktop) else { return Ok(None) };
        let missed = now_ms - at_ms > MISSED_MS;
        application.peer_writes(peer, &plan::text(planned), missed.then_some(*at_ms))?;
        if missed {
            return Ok(None);
        }
        let after = application.person_answers(peer);
        Ok(after.map(|after| (now_ms + autoreply::clock::millis(after), desktop.clone(), peer.clone())))
    }
}
