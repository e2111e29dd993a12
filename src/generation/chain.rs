//! The providers one after another, under one deadline a turn.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::breaker::{self, Breaker};
use super::provider::{Provider, ProviderError, Reply};
use super::validation::{self, Facts, Rules};
use crate::contract::Mode;
use crate::error::{Class, Classified};
use crate::saga::{Draft, DraftRequest, GenerationError, Generator};

/// What is kept of the deadline for the providers that answer at once.
const INSTANT_RESERVE: Duration = Duration::from_millis(200);

/// A provider that was given less and did not answer has not failed: the turn came too late.
const FAIR_TIME: Duration = Duration::from_millis(500);

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

/// One provider of the chain with its breaker and its ceiling.
pub struct Link {
    provider: Box<dyn Provider>,
    ceiling: Mode,
    breaker: Mutex<Breaker>,
}

impl Link {
    /// A link whose breaker is closed.
    pub fn new(provider: Box<dyn Provider>, ceiling: Mode, limits: breaker::Limits) -> Self {
        Self { provider, ceiling, breaker: Mutex::new(Breaker::new(limits)) }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The [`Generator`] that asks one provider after the other.
pub struct Chain {
    links: Vec<Link>,
    rules: Rules,
    patience: Patience,
    person: String,
}

/// Why a provider gave nothing this turn; its text goes into the error of the whole chain.
enum Miss {
    Resting(Duration),
    NoTime,
    Failed { error: ProviderError, attempts: u32 },
    Rejected(validation::Rejection),
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resting(left) => write!(f, "is left alone for {} s more after failures", left.as_secs()),
            Self::NoTime => f.write_str("was not asked, no time was left"),
            Self::Failed { error, attempts: 1 } => error.fmt(f),
            Self::Failed { error, attempts } => write!(f, "{error} ({attempts} attempts)"),
            Self::Rejected(why) => write!(f, "its reply was rejected: {why}"),
        }
    }
}

impl Chain {
    /// A chain that asks `links` in their order and holds replies against `rules`.
    pub fn new(links: Vec<Link>, rules: Rules, patience: Patience, person: String) -> Self {
        Self { links, rules, patience, person }
    }

    /// The names of the providers that are left alone at the moment, in the chain's order.
    pub fn resting(&self) -> Vec<&str> {
        let now = Instant::now();
        self.links.iter().filter(|link| link.breaker().is_open(now)).map(|link| link.provider.name()).collect()
    }

    /// When the link at `index` has to be done, so that those after it still have their share.
    fn deadline_of(&self, index: usize, deadline: Instant) -> Instant {
        let now = Instant::now();
        let after = self.links.get(index + 1..).unwrap_or_default();
        let slow = after.iter().filter(|l| !l.provider.is_instant() && !l.breaker().is_open(now)).count();
        let instant = after.iter().any(|link| link.provider.is_instant());
        now + share(deadline.saturating_duration_since(now), slow, instant)
    }

    async fn ask(&self, link: &Link, request: &DraftRequest, deadline: Instant) -> Result<String, Miss> {
        let mut attempts = 0;
        loop {
            if Instant::now() >= deadline {
                return Err(Miss::NoTime);
            }
            let start = Instant::now();
            let permit = link.breaker().ask(start).map_err(Miss::Resting)?;
            attempts += 1;
            // A provider that ignores its deadline must not take the time of those after it.
            let result = tokio::time::timeout_at(deadline, link.provider.generate(request, deadline)).await;
            let error = match result.unwrap_or(Err(ProviderError::Timeout)) {
                Ok(reply) => {
                    link.breaker().succeeded(permit);
                    return self.validate(link, request, &reply).map_err(Miss::Rejected);
                }
                Err(error) => error,
            };
            let wait = self.wait(request, &error, attempts);
            if error != ProviderError::Timeout || start.elapsed() >= FAIR_TIME {
                record(link, permit, &error, self.patience.max);
            }
            match wait {
                Some(wait) if attempts < self.patience.attempts && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(Miss::Failed { error, attempts }),
            }
        }
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

    fn validate(&self, link: &Link, request: &DraftRequest, reply: &Reply) -> Result<String, validation::Rejection> {
        let messages = request.messages.iter().map(|message| message.text.as_str());
        let context = request.context.iter().map(|line| line.text.as_str());
        let memory = request.memory.iter().flat_map(|exchange| [exchange.inbound.as_str(), exchange.reply.as_str()]);
        let chat: Vec<&str> = messages.chain(context).chain(memory).collect();
        let facts = Facts {
            chat: &chat,
            instructions: link.provider.instructions(),
            own_names: &[&self.person, &request.conversation.account],
            author: link.provider.author(),
        };
        validation::validate(&reply.text, &facts, &self.rules)
    }
}

/// Tells the breaker what happened. A wait longer than we are ready to make opens it, so that the turns after this
/// one honour it too.
fn record(link: &Link, permit: breaker::Permit, error: &ProviderError, patience: Duration) {
    let (mut breaker, now) = (link.breaker(), Instant::now());
    match error {
        ProviderError::RateLimited { retry_after: Some(wait) } if *wait > patience => {
            breaker.told_to_wait(permit, now, *wait);
        }
        error if error.counts_against_provider() => breaker.failed(permit, now),
        _ => breaker.succeeded(permit),
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
            let name = link.provider.name();
            if Instant::now() >= deadline {
                return Err(GenerationError::Deadline { attempts });
            }
            match self.ask(link, request, self.deadline_of(index, deadline)).await {
                Ok(text) => {
                    tracing::debug!(turn = %request.turn, provider = name, "a reply was drafted");
                    return Ok(Draft { text, provider: name.to_owned(), ceiling: link.ceiling });
                }
                Err(miss) => {
                    tracing::info!(turn = %request.turn, provider = name, why = %miss, "no reply from this provider");
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
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::generation::provider::Author;
    use crate::generation::testing::request;
    use crate::generation::validation::Newlines;

    type Calls = Arc<Mutex<Vec<&'static str>>>;

    /// Answers from a list; an empty list hangs. What it was asked is written down.
    struct Scripted {
        name: &'static str,
        answers: Mutex<VecDeque<Result<&'static str, ProviderError>>>,
        calls: Calls,
        instant: bool,
    }

    #[async_trait]
    impl Provider for Scripted {
        fn name(&self) -> &str {
            self.name
        }
        fn author(&self) -> Author {
            Author::Model
        }
        fn is_instant(&self) -> bool {
            self.instant
        }
        async fn generate(&self, _: &DraftRequest, _: Instant) -> Result<Reply, ProviderError> {
            self.calls.lock().unwrap().push(self.name);
            let next = self.answers.lock().unwrap().pop_front();
            match next {
                Some(answer) => answer.map(|text| Reply { text: text.to_owned() }),
                None => std::future::pending().await,
            }
        }
    }

    type Script = (&'static str, bool, Vec<Result<&'static str, ProviderError>>);

    fn chain(scripts: Vec<Script>) -> (Chain, Calls) {
        let calls = Calls::default();
        let links = scripts
            .into_iter()
            .map(|(name, instant, answers)| {
                let provider =
                    Scripted { name, answers: Mutex::new(answers.into()), calls: Arc::clone(&calls), instant };
                let limits = breaker::Limits { failures: 3, cool_down: Duration::from_secs(60) };
                Link::new(Box::new(provider), if instant { Mode::Auto } else { Mode::Draft }, limits)
            })
            .collect();
        let rules = Rules { max_chars: 100, max_bytes: 100, newlines: Newlines::Join };
        let patience = Patience { attempts: 3, initial: Duration::from_millis(4), max: Duration::from_millis(50) };
        (Chain::new(links, rules, patience, "Ann".into()), calls)
    }

    fn within(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    fn transient() -> Result<&'static str, ProviderError> {
        Err(ProviderError::Transient("503".into()))
    }

    #[tokio::test]
    async fn what_is_transient_is_tried_again_and_the_first_reply_wins() {
        let (chain, calls) =
            chain(vec![("a", false, vec![transient(), transient(), Ok("yes")]), ("b", true, vec![Ok("no")])]);
        let draft = chain.draft(&request(&["?"]), within(2000)).await.unwrap();
        assert_eq!(draft, Draft { text: "yes".into(), provider: "a".into(), ceiling: Mode::Draft });
        assert_eq!(*calls.lock().unwrap(), ["a", "a", "a"]);
    }

    #[tokio::test]
    async fn every_other_failure_goes_on_at_once_in_the_order_of_the_chain() {
        for error in [
            ProviderError::Unknown("x".into()),
            ProviderError::Permanent("x".into()),
            ProviderError::Malformed("x".into()),
            ProviderError::Declined("x".into()),
            ProviderError::Timeout,
            ProviderError::RateLimited { retry_after: Some(Duration::from_secs(30)) },
        ] {
            let (chain, calls) = chain(vec![
                ("a", false, vec![Err(error)]),
                ("b", false, vec![Ok("/quit")]),
                ("c", true, vec![Ok("fine")]),
            ]);
            let draft = chain.draft(&request(&["?"]), within(2000)).await.unwrap();
            assert_eq!((draft.text.as_str(), draft.ceiling), ("fine", Mode::Auto));
            assert_eq!(*calls.lock().unwrap(), ["a", "b", "c"]);
        }
    }

    #[tokio::test]
    async fn a_short_retry_after_is_kept_and_a_long_one_also_by_the_turns_after() {
        let limited = |ms| Err(ProviderError::RateLimited { retry_after: Some(Duration::from_millis(ms)) });
        let (short, calls) = chain(vec![("a", false, vec![limited(40), Ok("yes")])]);
        let start = Instant::now();
        assert!(short.draft(&request(&["?"]), within(2000)).await.is_ok());
        assert!(start.elapsed() >= Duration::from_millis(40) && calls.lock().unwrap().len() == 2);

        let (long, calls) = chain(vec![("a", false, vec![limited(30_000), Ok("yes")])]);
        for _ in 0..2 {
            assert!(matches!(long.draft(&request(&["?"]), within(500)).await, Err(GenerationError::Exhausted { .. })));
        }
        assert_eq!(calls.lock().unwrap().len(), 1);
        assert_eq!(long.resting(), ["a"]);
    }

    #[tokio::test]
    async fn a_hanging_provider_leaves_the_others_their_share() {
        let (chain, calls) = chain(vec![("a", false, vec![]), ("b", false, vec![]), ("c", true, vec![Ok("here")])]);
        let start = Instant::now();
        let draft = chain.draft(&request(&["?"]), within(3000)).await.unwrap();
        assert_eq!(draft.provider, "c");
        assert!(start.elapsed() < Duration::from_millis(3000));
        assert_eq!(*calls.lock().unwrap(), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn the_end_tells_whether_it_was_time_or_providers() {
        let (hangs, _) = chain(vec![("a", false, vec![])]);
        let error = hangs.draft(&request(&["my secret"]), within(50)).await.unwrap_err();
        assert!(matches!(&error, GenerationError::Deadline { .. }) && !error.to_string().contains("secret"));
        let (fails, _) =
            chain(vec![("a", false, vec![Err(ProviderError::Permanent("no key".into()))]), ("b", true, vec![Ok("")])]);
        let error = fails.draft(&request(&["?"]), within(500)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no provider gave a reply: a failed for good: no key; b its reply was rejected: the reply is empty"
        );
        assert!(matches!(fails.draft(&request(&["?"]), Instant::now()).await, Err(GenerationError::Deadline { .. })));
    }

    #[tokio::test]
    async fn the_breaker_opens_for_a_single_provider_too_but_not_for_what_it_declines() {
        let (failing, calls) = chain(vec![("a", false, vec![transient(), transient(), transient(), Ok("late")])]);
        for _ in 0..3 {
            assert!(failing.draft(&request(&["?"]), within(500)).await.is_err());
        }
        assert_eq!(calls.lock().unwrap().len(), 3);
        let declined = || Err(ProviderError::Declined("no".into()));
        let (declining, calls) = chain(vec![("a", true, (0..9).map(|_| declined()).collect())]);
        for _ in 0..9 {
            assert!(declining.draft(&request(&["?"]), within(500)).await.is_err());
        }
        assert_eq!(calls.lock().unwrap().len(), 9);
    }

    #[tokio::test]
    async fn a_turn_that_comes_too_late_is_not_held_against_the_provider() {
        let (hangs, calls) = chain(vec![("a", false, vec![])]);
        for _ in 0..4 {
            assert!(hangs.draft(&request(&["?"]), within(10)).await.is_err());
        }
        assert_eq!((calls.lock().unwrap().len(), hangs.resting()), (4, vec![]));
        for _ in 0..3 {
            assert!(hangs.draft(&request(&["?"]), within(510)).await.is_err());
        }
        assert_eq!(hangs.resting(), ["a"]);
    }

    proptest! {
        #[test]
        fn shares_leave_something_for_everyone(ms in 1_u64..100_000, slow in 0_usize..10, instant: bool) {
            let left = Duration::from_millis(ms);
            let mine = share(left, slow, instant);
            prop_assert!(mine > Duration::ZERO && mine * (slow as u32 + 1) <= left);
            prop_assert!(!instant || mine < left);
        }

        #[test]
        fn waits_grow_within_their_bounds(attempts in 1_u32..100, seed: u64) {
            let patience = Patience { attempts: 3, initial: Duration::from_millis(100), max: Duration::from_secs(2) };
            let wait = backoff_wait(patience, attempts, seed);
            prop_assert!(wait >= patience.initial / 2 && wait <= patience.max);
        }
    }
}
