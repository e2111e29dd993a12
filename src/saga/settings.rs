//! The saga's settings; each is explained in `config.default.toml`.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Problem;

/// What a deadline must leave for the writes after it.
const MARGIN_MS: u64 = 5_000;

/// The section `[saga]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A turn's reply must be drafted within this.
    pub reply_deadline_ms: u64,
    /// A worker that says nothing for this long has lost its turns.
    pub lease_ms: u64,
    /// Turns worked on at the same time.
    pub permits: u32,
    /// How often recovery looks around.
    pub recovery_poll_ms: u64,
    /// How many sagas recovery takes at once.
    pub recovery_batch: u32,
    /// A turn that is neither issued nor waiting for a person after this has expired.
    pub finish_within_ms: u64,
    /// A draft waits this long for a person.
    pub approval_lifetime_ms: u64,
    /// An issued reply lives this long on the desktop.
    pub command_ttl_ms: u64,
    /// How long after that, and after a withdrawal, its outcome may take to arrive.
    pub outcome_grace_ms: u64,
    /// A desktop that says no hello for this long has lost its accounts to the others.
    pub account_hold_ms: u64,
    /// A turn that was taken over more often than this ends as failed.
    pub takeovers_max: u32,
    /// How often what is over age is removed.
    pub prune_every_ms: u64,
}

impl Settings {
    /// Holds the deadlines against each other.
    ///
    /// # Errors
    /// The first pair that does not fit.
    pub fn check(&self) -> Result<(), Problem> {
        let problem = |key: &str, what: String, remedy: &str| Err(Problem::new(what, format!("saga.{key}"), remedy));
        let (reply, lease) = (self.reply_deadline_ms, self.lease_ms);
        if reply == 0 || lease < reply.saturating_add(MARGIN_MS) {
            let what =
                format!("a lease of {lease} ms does not outlast a reply deadline of {reply} ms by {MARGIN_MS} ms");
            return problem("lease_ms", what, "Raise the lease or lower reply_deadline_ms");
        }
        if self.recovery_poll_ms == 0 || self.recovery_poll_ms > lease / 3 {
            let what = format!("looking every {} ms cannot renew a lease of {lease} ms in time", self.recovery_poll_ms);
            return problem("recovery_poll_ms", what, "Set it to at least 1 and at most a third of lease_ms");
        }
        if self.finish_within_ms < lease.saturating_add(reply) {
            let what = format!("{} ms leave no time for a second worker", self.finish_within_ms);
            return problem("finish_within_ms", what, "Set it to at least lease_ms and reply_deadline_ms together");
        }
        if self.approval_lifetime_ms == 0 || self.command_ttl_ms == 0 || self.outcome_grace_ms < MARGIN_MS {
            let what = format!("a lifetime is 0, or the grace is below {MARGIN_MS} ms");
            return problem("outcome_grace_ms", what, "Raise approval_lifetime_ms, command_ttl_ms or outcome_grace_ms");
        }
        if self.account_hold_ms < 4 * MARGIN_MS {
            let what = format!("desktops cannot keep accounts that they lose after {} ms", self.account_hold_ms);
            return problem("account_hold_ms", what, "Set it to 20000 or more, and to three hellos of every desktop");
        }
        if self.permits == 0 || self.recovery_batch == 0 || self.prune_every_ms == 0 {
            return problem(
                "permits",
                "a count is 0".to_owned(),
                "Set permits, recovery_batch and prune_every_ms to at least 1",
            );
        }
        Ok(())
    }

    /// How long a desktop answers for an account after a hello.
    pub fn account_hold(&self) -> Duration {
        Duration::from_millis(self.account_hold_ms)
    }

    /// When the outcome of an issued reply is overdue.
    pub fn answer_within(&self) -> Duration {
        Duration::from_millis(self.command_ttl_ms.saturating_add(self.outcome_grace_ms))
    }
}
