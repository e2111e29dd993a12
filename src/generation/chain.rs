//! The providers one after another, under one deadline a turn.
//!
//! A provider is passed over at once while its breaker is open, and while all its calls at once are taken and another
//! model has room; if none has, the turn waits for a place within its share of the deadline. When a provider is to be
//! probed, the turn that happens to come does not pay for it: it waits [`HEAD_START`] for the probe and then goes on to
//! those after it, while the probe ends by itself. Only where nobody comes after, the turn waits as for any call.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::link::{Call, Link, Place};
use super::observer::{Event, Fallback};
use super::provider::{ProviderError, Reply};
use super::validation::{self, Facts, Rules};
use crate::error::{Class, Classified};
use crate::saga::{Draft, DraftRequest, GenerationError, Generator};

/// What is kept of the deadline for the providers that answer at once.
const INSTANT_RESERVE: Duration = Duration::from_millis(200);

/// How long a turn waits for a probe before it goes on without.
pub const HEAD_START: Duration = Duration::from_millis(100);

/// The most time a probe has; the provider's own limit for an attempt is usually shorter.
const PROBE_TIME: Duration = Duration::from_secs(60);

/// How often and how patiently one provider is tried in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The most attempts.
    pub attempts: u32,
    /// The first wait; each one is up to twice the one before.
    pub initial: Duration,
    /// The longest wait, of our own or asked for by the server; a longer one falls back at once.
    pub max: Duration,
}

/// The [`Generator`] that asks one provider after the other.
pub struct Chain {
    links: Vec<Arc<Link>>,
    rules: Rules,
    patience: Patience,
    person: String,
    /// At most one a provider, for its breaker lets no more through. They end with the chain.
    probes: Mutex<JoinSet<()>>,
}

/// Why a provider gave nothing this turn; its text goes into the error of the whole chain.
enum Miss {
    Resting(Duration),
    Probing,
    Full,
    NoTime,
    Failed { error: ProviderError, attempts: u32 },
    Rejected(validation::Rejection),
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resting(left) => write!(f, "is left alone for {} s more after failures", left.as_secs()),
            Self::Probing => f.write_str("is being probed after failures"),
            Self::Full => f.write_str("was not asked, all its calls at once are taken"),
            Self::NoTime => f.write_str("was not asked, no time was left"),
            Self::Failed { error, attempts: 1 } => error.fmt(f),
            Self::Failed { error, attempts } => write!(f, "{error} ({attempts} attempts)"),
            Self::Rejected(why) => write!(f, "its reply was rejected: {why}"),
        }
    }
}

impl Miss {
    fn fallback(&self) -> Fallback {
        match self {
            Self::Resting(_) | Self::Probing => Fallback::Resting,
            Self::Full => Fallback::Full,
            Self::NoTime => Fallback::NoTime,
            Self::Failed { error: ProviderError::Declined(_), .. } => Fallback::Declined,
            Self::Failed { .. } => Fallback::Failed,
            Self::Rejected(_) => Fallback::Rejected,
        }
    }
}

impl Chain {
    /// A chain that asks `links` in their order and holds replies against `rules`.
    pub fn new(links: Vec<Link>, rules: Rules, patience: Patience, person: String) -> Self {
        let links = links.into_iter().map(Arc::new).collect();
        Self { links, rules, patience, person, probes: Mutex::default() }
    }

    /// The names of the providers that are left alone at the moment, in the chain's order.
    pub fn resting(&self) -> Vec<&str> {
        self.links.iter().filter(|link| link.rest().is_some()).map(|link| link.provider().name()).collect()
    }

    fn after(&self, index: usize) -> &[Arc<Link>] {
        self.links.get(index + 1..).unwrap_or_default()
    }

    /// When the link at `index` has to be done, so that those after it still have their share.
    fn deadline_of(&self, index: usize, deadline: Instant) -> Instant {
        let (now, after) = (Instant::now(), self.after(index));
        let slow = after.iter().filter(|link| !link.is_instant() && link.rest().is_none()).count();
        let instant = after.iter().any(|link| link.is_instant());
        now + share(deadline.saturating_duration_since(now), slow, instant)
    }

    /// A place among the calls of the link at `index`.
    async fn place(&self, index: usize, link: &Link, deadline: Instant) -> Result<Place, Miss> {
        if let Some(place) = link.try_place() {
            return Ok(place);
        }
        if self.after(index).iter().any(|other| !other.is_instant() && other.has_room()) {
            return Err(Miss::Full);
        }
        link.wait_for_place(deadline).await.ok_or(Miss::Full)
    }

    async fn ask(
        &self,
        index: usize,
        link: &Arc<Link>,
        request: &DraftRequest,
        deadline: Instant,
    ) -> Result<String, Miss> {
        if let Some(left) = link.rest() {
            // Places are for those who may call.
            return Err(Miss::Resting(left));
        }
        let place = self.place(index, link, deadline).await?;
        let mut attempts = 0;
        loop {
            if Instant::now() >= deadline {
                return Err(Miss::NoTime);
            }
            let call = link.begin().map_err(Miss::Resting)?;
            attempts += 1;
            if call.is_probe() && !link.is_instant() && !self.after(index).is_empty() {
                let result = self.probe(call, place, request, deadline).await.ok_or(Miss::Probing)?;
                let reply = result.map_err(|error| Miss::Failed { error, attempts })?;
                return self.validate(link, request, &reply);
            }
            let error = match call.make(request, deadline, self.patience.max).await {
                Ok(reply) => return self.validate(link, request, &reply),
                Err(error) => error,
            };
            match self.wait(request, &error, attempts) {
                Some(wait) if attempts < self.patience.attempts && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(Miss::Failed { error, attempts }),
            }
        }
    }

    /// Makes a call that goes on without this turn; its result, if it comes within the head start.
    async fn probe(
        &self,
        call: Call,
        place: Place,
        request: &DraftRequest,
        deadline: Instant,
    ) -> Option<Result<Reply, ProviderError>> {
        let (tell, told) = oneshot::channel();
        let (request, patience) = (request.clone(), self.patience.max);
        {
            let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
            while probes.try_join_next().is_some() {}
            probes.spawn(async move {
                let result = call.make(&request, Instant::now() + PROBE_TIME, patience).await;
                drop(place);
                // The turn has gone on, most likely.
                let _ = tell.send(result);
            });
        }
        let until = deadline.min(Instant::now() + HEAD_START);
        tokio::time::timeout_at(until, told).await.ok()?.ok()
    }

    /// How long to wait before the next attempt; `None` if there must be none.
    fn wait(&self, request: &DraftRequest, error: &ProviderError, attempts: u32) -> Option<Duration> {
        if error.class() != Class::Transient {
            return None;
        }
        let own = backoff_wait(self.patience, attempts, jitter_seed(request, attempts));
        match error {
            ProviderError::RateLimited { retry_after: Some(asked) } => {
                (*asked <= self.patience.max).then(|| own.max(*asked))
            }
            _ => Some(own),
        }
    }

    fn validate(&self, link: &Link, request: &DraftRequest, reply: &Reply) -> Result<String, Miss> {
        let messages = request.messages.iter().map(|message| message.text.as_str());
        let context = request.context.iter().map(|line| line.text.as_str());
        let memory = request.memory.iter().flat_map(|exchange| [exchange.inbound.as_str(), exchange.reply.as_str()]);
        let chat: Vec<&str> = messages.chain(context).chain(memory).collect();
        let facts = Facts {
            chat: &chat,
            instructions: link.provider().instructions(),
            own_names: &[&self.person, &request.conversation.account],
            author: link.provider().author(),
        };
        validation::validate(&reply.text, &facts, &self.rules).map_err(|why| {
            link.observe(Event::Rejected(why));
            Miss::Rejected(why)
        })
    }
}

/// The part of `left` that one provider may use when `slow` others come after it, and whether instant ones do.
fn share(left: Duration, slow: usize, instant: bool) -> Duration {
    let reserve = if instant { INSTANT_RESERVE.min(left / 4) } else { Duration::ZERO };
    let parties = u32::try_from(slow).unwrap_or(u32::MAX).saturating_add(1);
    (left - reserve) / parties
}

/// Exponential backoff with "equal jitter": half of the step is fixed, half is drawn from `seed` (M. Brooker,
/// "Exponential Backoff and Jitter", 2015).
fn backoff_wait(patience: Patience, attempts: u32, seed: u64) -> Duration {
    let step = patience.initial.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(patience.max);
    let drawn = u32::try_from(seed % 1000).unwrap_or(0);
    step / 2 + step / 2 * drawn / 1000
}

/// A number that differs between turns and attempts, so that turns do not try again in step.
fn jitter_seed(request: &DraftRequest, attempts: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (request.turn, attempts).hash(&mut hasher);
    hasher.finish()
}

#[async_trait]
impl Generator for Chain {
    async fn draft(&self, request: &DraftRequest, deadline: Instant) -> Result<Draft, GenerationError> {
        let mut attempts = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            let name = link.provider().name();
            if Instant::now() >= deadline {
                return Err(GenerationError::Deadline { attempts });
            }
            match self.ask(index, link, request, self.deadline_of(index, deadline)).await {
                Ok(text) => {
                    tracing::debug!(turn = %request.turn, provider = name, "a reply was drafted");
                    return Ok(Draft { text, provider: name.to_owned(), ceiling: link.ceiling() });
                }
                Err(miss) => {
                    let fallback = miss.fallback();
                    if matches!(fallback, Fallback::Failed | Fallback::Rejected) {
                        tracing::info!(turn = %request.turn, provider = name, why = %miss, "no reply from this provider");
                    }
                    link.observe(Event::FellBack(fallback));
                    attempts.push(format!("{name} {miss}"));
                }
            }
        }
        if Instant::now() >= deadline {
            return Err(GenerationError::Deadline { attempts });
        }
        Err(GenerationError::Exhausted { attempts })
    }
}

#[cfg(test)]
mod tests;
