//! The journal, called from a thread that blocks.

use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::ports::Authority;
use crate::contract::ConversationId;
use crate::journal::{Ending, FenceVerdict, Journal, JournalError, OwnLine, SendOrder, Unfinished};

/// The journal on a runtime; must not be called from a thread of that runtime.
#[derive(Debug, Clone)]
pub struct JournalAuthority {
    journal: Journal,
    handle: Handle,
}

impl JournalAuthority {
    /// The journal, whose futures run on `handle`.
    pub fn new(journal: Journal, handle: Handle) -> Self {
        Self { journal, handle }
    }
}

impl Authority for JournalAuthority {
    fn next_send(&mut self, blocked: &[ConversationId], now: Timestamp) -> Result<Option<SendOrder>, JournalError> {
        self.handle.block_on(self.journal.next_send(blocked, now))
    }
    fn begin_intent(&mut self, order: &SendOrder, now: Timestamp) -> Result<FenceVerdict, JournalError> {
        self.handle.block_on(self.journal.begin_intent(order.send.turn, order.send.revision, now))
    }
    fn begin_submit(&mut self, order: &SendOrder, pane: u64, now: Timestamp) -> Result<FenceVerdict, JournalError> {
        self.handle.block_on(self.journal.begin_submit(order.send.turn, order.send.revision, pane, now))
    }
    fn abandon(&mut self, order: &SendOrder, after: Duration, now: Timestamp) -> Result<(), JournalError> {
        self.handle.block_on(self.journal.abandon_intent(order.send.turn, order.send.revision, after, now))
    }
    fn own_line(&mut self, order: &SendOrder) -> Result<Option<OwnLine>, JournalError> {
        self.handle.block_on(self.journal.own_line(order.send.turn, order.send.revision))
    }
    fn aligned_since(&mut self, conversation: ConversationId, since: Timestamp) -> Result<bool, JournalError> {
        let look = self.handle.block_on(self.journal.last_look(conversation))?;
        Ok(look.is_some_and(|look| look.aligned && look.at >= since))
    }
    fn end(&mut self, order: &SendOrder, ending: Ending, now: Timestamp) -> Result<(), JournalError> {
        self.handle.block_on(self.journal.end(order.send.turn, order.send.revision, ending, now))
    }
    fn unfinished(&mut self) -> Result<Vec<Unfinished>, JournalError> {
        self.handle.block_on(self.journal.unfinished())
    }
}
