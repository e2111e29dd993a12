//! The rate of a conversation, over all workers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use governor::clock::DefaultClock;
use redis::Script;

use super::{Link, Repeat};
use crate::contract::ConversationId;
use crate::limits::{InProcessLimits, Settings};
use crate::saga::{Admission, Limits, LimitsError};

/// [`Limits`] by GCRA on Redis's clock; while Redis is away, by this process alone.
///
/// A conversation's records reach one worker at a time, so the local rate is nearly the shared one. It has a burst of
/// one: a conversation that moves to another worker gets one reply more there, not a burst. It is also told of what
/// Redis admitted, so that going local is no fresh start.
pub struct SharedLimits {
    link: Arc<Link>,
    script: Script,
    interval_us: u64,
    burst: u32,
    local: InProcessLimits<DefaultClock>,
}

impl SharedLimits {
    /// The rate of `settings` over `link`.
    pub fn new(link: Arc<Link>, settings: &Settings) -> Self {
        let local = InProcessLimits::with_clock(settings.replies_per_minute, NonZeroU32::MIN, DefaultClock::default());
        let interval_us = 60_000_000 / u64::from(settings.replies_per_minute.get());
        let (script, burst) = (Script::new(include_str!("rate.lua")), settings.burst.get());
        Self { link, script, interval_us, burst, local }
    }
}

#[async_trait]
impl Limits for SharedLimits {
    async fn admit(&self, conversation: ConversationId) -> Result<Admission, LimitsError> {
        let key = self.link.key("rate", conversation);
        let mut call = self.script.prepare_invoke();
        call.key(key).arg(self.interval_us).arg(self.burst);
        // Taken twice would be a reply too few; never repeated.
        match self.link.call::<u64>(&call, Repeat::Never).await {
            Ok(0) => {
                let _also_known_here = self.local.admit(conversation).await;
                Ok(Admission::Admitted)
            }
            Ok(wait_us) => Ok(Admission::After(Duration::from_micros(wait_us))),
            Err(_away) => self.local.admit(conversation).await,
        }
    }
}
