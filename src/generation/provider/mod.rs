//! What answers: the trait every provider implements, and the ways in which one can fail.

pub mod acknowledge;
pub mod canned;
pub mod chat_completions;
pub mod cohere_chat;
mod http;
pub mod model;
mod office_hours;
mod reach;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

pub use self::reach::Server;

use self::model::Usage;
use crate::contract::Conversation;
use crate::error::{Class, Classified};
use crate::saga::DraftRequest;

/// What a provider answered, before validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The text as it came.
    pub text: String,
    /// What it took, if a server counted.
    pub usage: Option<Usage>,
}

impl Reply {
    /// A reply that took nothing.
    pub fn free(text: String) -> Self {
        Self { text, usage: None }
    }
}

/// Who wrote a provider's answers; what a model wrote is checked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A person, in the settings or a rules file.
    Person,
    /// A language model.
    Model,
}

/// Why a provider gave no reply. The texts hold no chat text, no answer of a server and no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Nothing is wrong: it has no answer to this request.
    #[error("declined: {0}")]
    Declined(String),
    /// It will fail again until somebody changes something.
    #[error("failed for good: {0}")]
    Permanent(String),
    /// It may pass by itself.
    #[error("failed for now: {0}")]
    Transient(String),
    /// Too many requests.
    #[error("rate limited{}", .retry_after.map_or(String::new(), |wait| format!(", asked to wait {} s", wait.as_secs())))]
    RateLimited {
        /// How long the server asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer within its time.
    #[error("gave no answer in time")]
    Timeout,
    /// It answered something that is not a reply.
    #[error("answered something that is no reply: {0}")]
    Malformed(String),
    /// Nobody knows what happened; the request may have been carried out.
    #[error("failed in an unknown way: {0}")]
    Unknown(String),
}

impl ProviderError {
    /// Whether this says something about the provider, not only about this request.
    pub fn counts_against_provider(&self) -> bool {
        !matches!(self, Self::Declined(_))
    }
}

impl Classified for ProviderError {
    fn class(&self) -> Class {
        match self {
            Self::Transient(_) | Self::RateLimited { .. } => Class::Transient,
            Self::Declined(_) | Self::Permanent(_) | Self::Malformed(_) => Class::Permanent,
            Self::Timeout | Self::Unknown(_) => Class::Unknown,
        }
    }
}

/// One way to get a reply.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// Who writes its answers.
    fn author(&self) -> Author;

    /// Whether it answers from this process at once, so that no share of the deadline need be kept for it.
    fn is_instant(&self) -> bool;

    /// Its own instructions, which must not turn up in a reply.
    fn instructions(&self) -> Option<&str> {
        None
    }

    /// What this many tokens cost, in the currency of the settings.
    fn cost(&self, _usage: Usage) -> f64 {
        0.0
    }

    /// An answer to `request` before `deadline`. It makes one attempt; trying again is the chain's.
    ///
    /// # Errors
    /// A classified reason.
    async fn generate(&self, request: &DraftRequest, deadline: Instant) -> Result<Reply, ProviderError>;
}

/// A name that is fit to stand in a sentence: letters, digits, spaces and a few marks, at most 40 characters.
///
/// Names are chosen by strangers; one must not become a command, a link or a second line.
pub fn display_name(name: &str) -> String {
    let kept: String = name
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '\''))
        .take(40)
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `answer` with `{name}` and `{peer}` filled in; without a configured person's name the account's stands in.
fn fill(answer: &str, person: &str, conversation: &Conversation) -> String {
    let person = if person.is_empty() { &conversation.account } else { person };
    answer.replace("{name}", &display_name(person)).replace("{peer}", &display_name(&conversation.peer))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_keeps_its_letters_and_loses_its_tricks() {
        assert_eq!(display_name("Zoë O'Neil-1"), "Zoë O'Neil-1");
        assert_eq!(display_name("/quit http://evil.example\n{name}"), "quit httpevilexample name");
    }

    proptest! {
        #[test]
        fn a_name_is_never_a_command_a_link_or_two_lines(name in any::<String>()) {
            let shown = display_name(&name);
            let tricky = shown.contains(['/', '.', ':', '\n', '{', '@']);
            prop_assert!(!tricky && shown.chars().count() <= 40);
        }
    }
}
