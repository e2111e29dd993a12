//! One provider of the chain: its breaker, its bulkhead, and the calls that are made to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::{self, Breaker};
use super::observer::{Ended, Event, Observer};
use super::provider::{Provider, ProviderError, Reply};
use crate::contract::Mode;
use crate::saga::DraftRequest;

/// A provider that its turn gave less and that did not answer has not failed: the turn came too late.
const FAIR_TIME: Duration = Duration::from_millis(500);

/// One provider of the chain with its breaker, its bulkhead and its ceiling.
pub struct Link {
    provider: Box<dyn Provider>,
    ceiling: Mode,
    breaker: Mutex<Breaker>,
    places: Arc<Semaphore>,
    /// Wakes those who wait for a place when the breaker opens.
    opened: Notify,
    observer: Arc<dyn Observer>,
}

/// A place among a provider's calls at once; given back when dropped.
pub type Place = OwnedSemaphorePermit;

impl Link {
    /// A link whose breaker is closed, for at most `max_in_flight` calls at once.
    pub fn new(
        provider: Box<dyn Provider>,
        ceiling: Mode,
        limits: breaker::Limits,
        max_in_flight: usize,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            provider,
            ceiling,
            breaker: Mutex::new(Breaker::new(limits)),
            places: Arc::new(Semaphore::new(max_in_flight.min(Semaphore::MAX_PERMITS))),
            opened: Notify::new(),
            observer,
        }
    }

    /// The provider.
    pub fn provider(&self) -> &dyn Provider {
        self.provider.as_ref()
    }

    /// How far its replies may go.
    pub fn ceiling(&self) -> Mode {
        self.ceiling
    }

    /// Whether it answers from this process, at once.
    pub fn is_instant(&self) -> bool {
        self.provider.is_instant()
    }

    /// How long it is still left alone after failures, if it is.
    pub fn rest(&self) -> Option<Duration> {
        self.breaker().rest(Instant::now())
    }

    /// Whether a call could begin now.
    pub fn has_room(&self) -> bool {
        self.places.available_permits() > 0 && self.rest().is_none()
    }

    /// Tells the observer.
    pub fn observe(&self, event: Event) {
        self.observer.observe(self.provider.name(), event);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if one is free.
    pub fn try_place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place as soon as one is free, first come, first served; `None` if the breaker opens or `deadline` comes before.
    pub async fn wait_for_place(&self, deadline: Instant) -> Option<Place> {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        // From here on an opening is not missed, and one from before is seen.
        opened.as_mut().enable();
        if self.rest().is_some() {
            return None;
        }
        tokio::select! {
            biased;
            () = opened => None,
            place = Arc::clone(&self.places).acquire_owned() => place.ok(),
            () = tokio::time::sleep_until(deadline) => None,
        }
    }

    /// Leave to make one call.
    ///
    /// # Errors
    /// How long to leave the provider alone.
    pub fn begin(self: &Arc<Self>) -> Result<Call, Duration> {
        let began = Instant::now();
        let permit = self.breaker().ask(began)?;
        self.observe(Event::Began);
        Ok(Call { link: Arc::clone(self), permit, began, how: Ended::Abandoned })
    }

    /// Tells the breaker what happened. A wait longer than we are ready to make opens it, so that the turns after this
    /// one honour it too.
    fn settle(&self, permit: breaker::Permit, verdict: Verdict) {
        let mut breaker = self.breaker();
        let (before, now) = (breaker.is_tripped(), Instant::now());
        match verdict {
            Verdict::Well => breaker.succeeded(permit),
            Verdict::Failed => breaker.failed(permit, now),
            Verdict::ToldToWait(wait) => breaker.told_to_wait(permit, now, wait),
            Verdict::Nothing => breaker.abandoned(permit),
        }
        let after = breaker.is_tripped();
        if before != after {
            // Told under the lock: two that were told the other way round would leave the wrong one standing.
            self.observe(Event::Breaker(after));
            let provider = self.provider.name();
            if after {
                self.opened.notify_waiters();
                tracing::warn!(provider, "a provider is left alone after failures");
            } else {
                tracing::info!(provider, "a provider is well again");
            }
        }
    }
}

/// What a call says about its provider.
enum Verdict {
    Well,
    Failed,
    ToldToWait(Duration),
    Nothing,
}

/// A call that may be made. Dropped before its end, as when its turn was superseded, it says nothing about the provider.
pub struct Call {
    link: Arc<Link>,
    permit: breaker::Permit,
    began: Instant,
    how: Ended,
}

impl Call {
    /// Whether the call shall find out if the provider is well again.
    pub fn is_probe(&self) -> bool {
        self.permit.is_probe()
    }

    /// Makes the call. `patience` is the longest wait that a provider may ask for before it is left alone.
    ///
    /// # Errors
    /// The provider's.
    pub async fn make(
        mut self,
        request: &DraftRequest,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Reply, ProviderError> {
        // A provider that ignores its deadline must not take the time of those after it.
        let answer = tokio::time::timeout_at(deadline, self.link.provider.generate(request, deadline)).await;
        let result = answer.unwrap_or(Err(ProviderError::Timeout));
        let verdict = match &result {
            Ok(_) => Verdict::Well,
            // One that ended by the provider's own limit had all the time it was to have.
            Err(ProviderError::Timeout) if self.began.elapsed() < FAIR_TIME && Instant::now() >= deadline => {
                Verdict::Nothing
            }
            Err(ProviderError::RateLimited { retry_after: Some(wait) }) if *wait > patience => {
                Verdict::ToldToWait(*wait)
            }
            Err(error) if error.counts_against_provider() => Verdict::Failed,
            Err(_) => Verdict::Well,
        };
        self.link.settle(self.permit, verdict);
        self.how = result.as_ref().map_or_else(|error| Ended::Failed(error.into()), |_| Ended::Replied);
        if let Some(usage) = result.as_ref().ok().and_then(|reply| reply.usage) {
            self.link.observe(Event::Used { usage, cost: self.link.provider.cost(usage) });
        }
        result
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.how == Ended::Abandoned {
            self.link.settle(self.permit, Verdict::Nothing);
        }
        self.link.observe(Event::Ended { took: self.began.elapsed(), how: self.how });
    }
}
