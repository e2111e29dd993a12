//! Earlier exchanges, in this process: for a day, and bounded in every direction.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Settings;
use crate::clock::{Clock, elapsed};
use crate::contract::ConversationId;
use crate::saga::{Exchange, Memory, MemoryError};

type Sessions = HashMap<ConversationId, VecDeque<Exchange>>;

/// A [`Memory`] that only this process has, and that ends with it.
pub struct InProcessMemory {
    keep: Duration,
    conversations: usize,
    exchanges: usize,
    chars: usize,
    clock: Arc<dyn Clock>,
    sessions: Mutex<Sessions>,
}

impl InProcessMemory {
    /// An empty memory.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            keep: settings.memory_keep(),
            conversations: settings.memory_conversations,
            exchanges: settings.memory_exchanges,
            chars: settings.memory_chars,
            clock,
            sessions: Mutex::default(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_kept(&self, exchange: &Exchange, now: Timestamp) -> bool {
        elapsed(exchange.at, now) < self.keep
    }

    /// Makes room for one more conversation: what is over its time goes, then the one that was quiet longest.
    fn make_room(&self, sessions: &mut Sessions, now: Timestamp) {
        if sessions.len() < self.conversations {
            return;
        }
        sessions.retain(|_, session| session.back().is_some_and(|newest| self.is_kept(newest, now)));
        while sessions.len() >= self.conversations {
            let quietest = sessions.iter().min_by_key(|(_, session)| session.back().map(|newest| newest.at));
            let Some(id) = quietest.map(|(id, _)| *id) else { return };
            sessions.remove(&id);
        }
    }
}

#[async_trait]
impl Memory for InProcessMemory {
    async fn recall(&self, conversation: ConversationId) -> Result<Vec<Exchange>, MemoryError> {
        let now = self.clock.now();
        let mut sessions = self.sessions();
        let Some(session) = sessions.get_mut(&conversation) else { return Ok(Vec::new()) };
        session.retain(|exchange| self.is_kept(exchange, now));
        let remembered: Vec<Exchange> = session.iter().cloned().collect();
        if remembered.is_empty() {
            sessions.remove(&conversation);
        }
        Ok(remembered)
    }

    async fn remember(&self, conversation: ConversationId, exchange: Exchange) -> Result<(), MemoryError> {
        let now = self.clock.now();
        if self.exchanges == 0 || !self.is_kept(&exchange, now) {
            return Ok(());
        }
        let cut = |text: &str| text.chars().take(self.chars).collect::<String>();
        let exchange = Exchange { inbound: cut(&exchange.inbound), reply: cut(&exchange.reply), at: exchange.at };
        let mut sessions = self.sessions();
        if !sessions.contains_key(&conversation) {
            self.make_room(&mut sessions, now);
        }
        let session = sessions.entry(conversation).or_default();
        // An outcome may come twice, and late.
        if session.contains(&exchange) {
            return Ok(());
        }
        let place = session.partition_point(|other| other.at <= exchange.at);
        session.insert(place, exchange);
        while session.len() > self.exchanges {
            session.pop_front();
        }
        Ok(())
    }

    async fn forget(&self, conversation: ConversationId) -> Result<(), MemoryError> {
        self.sessions().remove(&conversation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::limits::conformance;

    fn settings() -> Settings {
        Settings { memory_conversations: 3, memory_exchanges: 4, memory_chars: 10, ..Settings::sample() }
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new("2026-03-02T10:00:00Z".parse().unwrap()))
    }

    #[tokio::test]
    async fn it_conforms() {
        let clock = clock();
        let memory = InProcessMemory::new(&settings(), Arc::clone(&clock) as Arc<dyn Clock>);
        conformance::memory(&memory, clock.now(), 4, |by| clock.advance(by)).await;
    }

    #[tokio::test]
    async fn it_is_bounded_in_conversations_and_in_text() {
        let clock = clock();
        let memory = InProcessMemory::new(&settings(), Arc::clone(&clock) as Arc<dyn Clock>);
        let ids: Vec<_> = (0..5).map(|n| ConversationId::derive("n", "a", &n.to_string())).collect();
        for id in &ids {
            let exchange = Exchange { inbound: "é".repeat(50), reply: "y".into(), at: clock.now() };
            memory.remember(*id, exchange).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(memory.sessions().len(), 3);
        assert!(memory.recall(ids[1]).await.unwrap().is_empty(), "the quietest went first");
        assert_eq!(memory.recall(ids[4]).await.unwrap()[0].inbound, "é".repeat(10));
        clock.advance(Duration::from_secs(86_400));
        assert!(memory.recall(ids[4]).await.unwrap().is_empty());
        assert_eq!(memory.sessions().len(), 2, "what is empty is dropped");
    }
}
