//! Earlier exchanges, for all workers.
//!
//! Each exchange is a key of its own that Redis ends by itself when its time is over, whatever becomes of the workers;
//! an index a conversation holds their names, which tell no text.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Script;
use serde::{Deserialize, Serialize};

use super::{Away, Link, Repeat};
use crate::clock::{Clock, elapsed, from_millis, millis, to_millis};
use crate::contract::ConversationId;
use crate::limits::Settings;
use crate::saga::{Exchange, Memory, MemoryError};

/// An exchange as it lies in Redis.
#[derive(Serialize, Deserialize)]
struct Stored {
    inbound: String,
    reply: String,
    at_ms: i64,
}

/// A [`Memory`] in Redis; while that is away nothing is remembered, which is no error to a turn.
pub struct SharedMemory {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    keep: Duration,
    exchanges: usize,
    chars: usize,
    remember: Script,
    recall: Script,
    forget: Script,
}

impl SharedMemory {
    /// The memory of `settings` over `link`.
    pub fn new(link: Arc<Link>, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            link,
            clock,
            keep: settings.memory_keep(),
            exchanges: settings.memory_exchanges,
            chars: settings.memory_chars,
            remember: Script::new(include_str!("remember.lua")),
            recall: Script::new(include_str!("recall.lua")),
            forget: Script::new(include_str!("forget.lua")),
        }
    }

    /// The newest time that is over.
    fn over_ms(&self, now: Timestamp) -> i64 {
        to_millis(now).saturating_sub(millis(self.keep))
    }
}

/// The text of an exchange, and a name for it: the same exchange has the same name.
fn store(exchange: &Exchange, chars: usize) -> Result<(String, String), MemoryError> {
    let cut = |text: &str| text.chars().take(chars).collect::<String>();
    let at_ms = to_millis(exchange.at);
    let stored = Stored { inbound: cut(&exchange.inbound), reply: cut(&exchange.reply), at_ms };
    let text = serde_json::to_string(&stored).map_err(|error| MemoryError(error.to_string()))?;
    let name = format!("{at_ms}-{}", &blake3::hash(text.as_bytes()).to_hex()[..16]);
    Ok((name, text))
}

/// The exchange of a stored text; `None` for one that another version wrote in another way.
fn read(text: &str) -> Option<Exchange> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    Some(Exchange { inbound: stored.inbound, reply: stored.reply, at: from_millis(stored.at_ms) })
}

#[async_trait]
impl Memory for SharedMemory {
    async fn recall(&self, conversation: ConversationId) -> Result<Vec<Exchange>, MemoryError> {
        if self.exchanges == 0 {
            return Ok(Vec::new());
        }
        let index = self.link.key("memory", conversation);
        let mut call = self.recall.prepare_invoke();
        call.key(&index).arg(self.over_ms(self.clock.now())).arg(format!("{index}:"));
        let found: Vec<String> = self.link.call(&call, Repeat::Once).await.unwrap_or_else(|_away| Vec::new());
        Ok(found.iter().filter_map(|text| read(text)).collect())
    }

    async fn remember(&self, conversation: ConversationId, exchange: Exchange) -> Result<(), MemoryError> {
        let now = self.clock.now();
        let left = self.keep.saturating_sub(elapsed(exchange.at, now));
        if self.exchanges == 0 || left.is_zero() {
            return Ok(());
        }
        let (name, text) = store(&exchange, self.chars)?;
        let index = self.link.key("memory", conversation);
        let mut call = self.remember.prepare_invoke();
        call.key(&index).key(format!("{index}:{name}"));
        call.arg(name).arg(to_millis(exchange.at)).arg(text).arg(millis(left));
        call.arg(self.over_ms(now)).arg(self.exchanges).arg(format!("{index}:"));
        match self.link.call::<()>(&call, Repeat::Once).await {
            Ok(()) | Err(Away) => Ok(()),
        }
    }

    /// # Errors
    /// Redis is away: what is remembered there stays until its time is over.
    async fn forget(&self, conversation: ConversationId) -> Result<(), MemoryError> {
        let index = self.link.key("memory", conversation);
        let mut call = self.forget.prepare_invoke();
        call.key(&index).arg(format!("{index}:"));
        self.link.call::<()>(&call, Repeat::Once).await.map_err(|away| MemoryError(away.to_string()))
    }
}
