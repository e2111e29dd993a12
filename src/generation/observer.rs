//! What this room tells those who watch it. It knows no metrics; `roles` joins the two.

use std::time::Duration;

use super::provider::ProviderError;
use super::provider::model::Usage;
use super::validation::Rejection;

/// How a call to a provider ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With a reply, which has yet to pass validation.
    Replied,
    /// With this kind of failure.
    Failed(ErrorKind),
    /// Whoever asked left before.
    Abandoned,
}

/// A [`ProviderError`] without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It has no answer to this request.
    Declined,
    /// It fails until somebody changes something.
    Permanent,
    /// It may pass by itself.
    Transient,
    /// Too many requests.
    RateLimited,
    /// No answer in time.
    Timeout,
    /// Something that is no reply.
    Malformed,
    /// Nobody knows.
    Unknown,
}

impl From<&ProviderError> for ErrorKind {
    fn from(error: &ProviderError) -> Self {
        match error {
            ProviderError::Declined(_) => Self::Declined,
            ProviderError::Permanent(_) => Self::Permanent,
            ProviderError::Transient(_) => Self::Transient,
            ProviderError::RateLimited { .. } => Self::RateLimited,
            ProviderError::Timeout => Self::Timeout,
            ProviderError::Malformed(_) => Self::Malformed,
            ProviderError::Unknown(_) => Self::Unknown,
        }
    }
}

/// Why a turn went on without a reply from a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It is left alone after failures.
    Resting,
    /// All its calls at once are taken.
    Full,
    /// No time was left for it.
    NoTime,
    /// It has no answer to this request.
    Declined,
    /// It failed.
    Failed,
    /// Its reply did not pass validation.
    Rejected,
}

/// Something that happened with one provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A call began.
    Began,
    /// A call ended; every one that began does.
    Ended {
        /// How long it took.
        took: Duration,
        /// How it ended.
        how: Ended,
    },
    /// A server counted the tokens of a call.
    Used {
        /// How many.
        usage: Usage,
        /// What they cost, in the currency of the settings.
        cost: f64,
    },
    /// Its breaker opened (`true`) or closed.
    Breaker(bool),
    /// A turn went on to the next provider.
    FellBack(Fallback),
    /// Its reply did not pass validation.
    Rejected(Rejection),
}

/// Is told everything that happens with the providers. It is called in the way of a turn, and must not wait.
pub trait Observer: Send + Sync + 'static {
    /// `provider` is a name from the settings.
    fn observe(&self, provider: &str, event: Event);
}

/// Nobody watches.
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _provider: &str, _event: Event) {}
}
