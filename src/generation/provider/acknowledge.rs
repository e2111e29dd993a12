//! The last resort before a person: one polite sentence, once a conversation in an outage.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Author, Provider, ProviderError, Reply, fill};
use crate::contract::{ConversationId, Direction, Mode, TurnId};
use crate::error::Problem;
use crate::saga::DraftRequest;

/// The most conversations that are kept in mind; then the half heard of least recently goes.
const MAX_CONVERSATIONS: usize = 100_000;

/// `[generation.providers.NAME]` with `kind = "acknowledge"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is said; `{peer}` and `{name}` are filled in.
    pub text: String,
    /// An outage is over for a conversation that has not needed an acknowledgement for this long.
    pub window_s: u64,
    /// How far its replies may go.
    #[serde(default = "super::super::settings::auto")]
    pub ceiling: Mode,
}

impl Settings {
    /// Whether the text can be said.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, place: &str) -> Result<(), Problem> {
        super::canned::check_answer(&self.text)
            .map_err(|(what, remedy)| Problem::new(what, format!("{place}.text"), remedy))
    }
}

struct Said {
    turn: TurnId,
    asked_last: Instant,
}

/// The provider.
pub struct Acknowledge {
    name: String,
    text: String,
    person: String,
    window: Duration,
    said: Mutex<HashMap<ConversationId, Said>>,
}

impl Acknowledge {
    /// The provider `name`, speaking for `person`.
    pub fn new(name: &str, settings: &Settings, person: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: settings.text.clone(),
            person: person.to_owned(),
            window: Duration::from_secs(settings.window_s),
            said: Mutex::default(),
        }
    }

    /// Whether this turn may be acknowledged. The same turn may be asked about again: its first answer may never
    /// have been sent. Another turn may not until the window has been quiet.
    fn may_say(&self, request: &DraftRequest, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = said.get_mut(&request.conversation.id)
            && now.saturating_duration_since(before.asked_last) < self.window
        {
            before.asked_last = now;
            return before.turn == request.turn;
        }
        if said.len() >= MAX_CONVERSATIONS {
            forget_older_half(&mut said);
        }
        said.insert(request.conversation.id, Said { turn: request.turn, asked_last: now });
        true
    }
}

/// Half at once: in an outage every turn comes here, and none may pay for a search through all.
fn forget_older_half(said: &mut HashMap<ConversationId, Said>) {
    let mut times: Vec<Instant> = said.values().map(|before| before.asked_last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    said.retain(|_, before| before.asked_last > median);
}

/// Whether the last thing this side said, as far as the screen shows, is already this sentence. It holds across a
/// restart, when this process has forgotten.
fn stands_on_screen(request: &DraftRequest, text: &str) -> bool {
    let last = request.context.iter().rev().find(|line| line.direction.is_own());
    last.is_some_and(|line| line.direction == Direction::OwnAutomatic && line.text.trim() == text)
}

#[async_trait]
impl Provider for Acknowledge {
    fn name(&self) -> &str {
        &self.name
    }

    fn author(&self) -> Author {
        Author::Person
    }

    fn is_instant(&self) -> bool {
        true
    }

    async fn generate(&self, request: &DraftRequest, _deadline: Instant) -> Result<Reply, ProviderError> {
        let text = fill(&self.text, &self.person, &request.conversation);
        if stands_on_screen(request, &text) || !self.may_say(request, Instant::now()) {
            return Err(ProviderError::Declined("this conversation has its acknowledgement already".into()));
        }
        Ok(Reply::free(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ContextLine;
    use crate::generation::testing::request;

    fn provider(window_s: u64) -> Acknowledge {
        let settings = Settings { text: "Thanks {peer}, {name} will answer.".into(), window_s, ceiling: Mode::Auto };
        Acknowledge::new("acknowledge", &settings, "Ann")
    }

    #[tokio::test]
    async fn once_a_conversation_but_again_for_the_same_turn() {
        let provider = provider(3600);
        let (first, second) = (request(&["a"]), request(&["b"]));
        let deadline = Instant::now() + Duration::from_secs(1);
        let reply = provider.generate(&first, deadline).await;
        assert_eq!(reply, Ok(Reply::free("Thanks bob, Ann will answer.".into())));
        assert_eq!(provider.generate(&first, deadline).await, reply);
        assert!(matches!(provider.generate(&second, deadline).await, Err(ProviderError::Declined(_))));
    }

    #[test]
    fn the_window_moves_with_every_question_and_ends_when_it_was_quiet() {
        let (provider, now) = (provider(100), Instant::now());
        let after = |seconds| provider.may_say(&request(&["x"]), now + Duration::from_secs(seconds));
        assert_eq!([0, 60, 120, 180, 280].map(after), [true, false, false, false, true]);
    }

    #[tokio::test]
    async fn what_stands_on_the_screen_is_not_said_again_after_a_restart() {
        let mut request = request(&["still there?"]);
        request.context = vec![ContextLine {
            sender: "ann".into(),
            direction: Direction::OwnAutomatic,
            text: "Thanks bob, Ann will answer.".into(),
        }];
        assert!(provider(10).generate(&request, Instant::now()).await.is_err());
        request.context[0].text = "Something else.".into();
        assert!(provider(10).generate(&request, Instant::now()).await.is_ok());
    }

    #[test]
    fn it_forgets_the_older_half_rather_than_grow() {
        let (provider, now) = (provider(3600), Instant::now());
        let ask = |asked: &mut DraftRequest, number: usize| {
            asked.conversation.id = ConversationId::derive("irc", "ann", &number.to_string());
            provider.may_say(asked, now + Duration::from_millis(number as u64))
        };
        let mut first = request(&["x"]);
        assert!((0..=MAX_CONVERSATIONS).all(|number| ask(&mut first, number)));
        let held = provider.said.lock().unwrap().len();
        assert!((MAX_CONVERSATIONS / 3..=MAX_CONVERSATIONS / 2 + 1).contains(&held), "{held}");
        assert!(!ask(&mut request(&["y"]), MAX_CONVERSATIONS - 1), "the newer ones are kept in mind");
    }
}
