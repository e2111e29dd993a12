//! What capture is on a real desktop: looks at windows that changed and records the looks. Alignment is perfect here;
//! what capture makes of pixels is tested elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use autoreply::clock::Clock;
use autoreply::contract::{Conversation, Extraction, ExtractionMethod};
use autoreply::journal::{Journal, JournalError, LastLook, NewMessage};
use autoreply::screen::pane::Cue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::application::{Application, Line, Seen};
use crate::facts::Side;

/// Windows are also asked for without a notice: late lines, and windows that come back, give none.
const SAFETY: Duration = Duration::from_millis(25);
/// Wait before a look is recorded again that the journal did not take.
const AGAIN: Duration = Duration::from_millis(100);

/// The eyes of one desk.
pub struct Eyes {
    application: Application,
    journal: Journal,
    clock: Arc<dyn Clock>,
    conversations: BTreeMap<String, Conversation>,
    seen: HashMap<String, Seen>,
}

impl Eyes {
    /// Eyes for the windows of these conversations, by peer.
    pub fn new(
        application: Application,
        journal: Journal,
        clock: Arc<dyn Clock>,
        conversations: BTreeMap<String, Conversation>,
    ) -> Self {
        Self { application, journal, clock, conversations, seen: HashMap::new() }
    }

    /// Looks until `stop`, each time `delay` after a change; tells `watching` when it has seen every window once.
    ///
    /// # Errors
    /// The journal can be used no more.
    pub async fn run(
        mut self,
        delay: Duration,
        watching: mpsc::Sender<()>,
        stop: CancellationToken,
    ) -> Result<(), JournalError> {
        let mut watching = Some(watching);
        while !stop.is_cancelled() {
            for peer in self.application.take_changed() {
                self.look_or_wait(&peer).await?;
            }
            if self.seen.len() == self.conversations.len()
                && let Some(watching) = watching.take()
            {
                let _gone = watching.send(()).await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.application.wait_change() => if !delay.is_zero() { tokio::time::sleep(delay).await },
                () = tokio::time::sleep(SAFETY) => {}
            }
        }
        Ok(())
    }

    async fn look_or_wait(&mut self, peer: &str) -> Result<(), JournalError> {
        match self.look(peer).await {
            Err(JournalError::Busy(why)) => {
                tracing::warn!(why, "a look is recorded again");
                self.seen.remove(peer);
                self.application.look_again(peer);
                tokio::time::sleep(AGAIN).await;
                Ok(())
            }
            other => other,
        }
    }

    /// One look. What stands there at the first look ever is history.
    async fn look(&mut self, peer: &str) -> Result<(), JournalError> {
        let Some(conversation) = self.conversations.get(peer) else { return Ok(()) };
        let (mut seen, history) = match self.seen.get(peer) {
            Some(seen) => (seen.clone(), false),
            None => match self.journal.last_look(conversation.id).await? {
                Some(look) => (serde_json::from_str(&look.transcript).unwrap_or_default(), false),
                None => (Seen::default(), true),
            },
        };
        let Some(view) = self.application.view(peer, &seen) else {
            self.application.look_again(peer);
            return Ok(());
        };
        view.new.iter().for_each(|line| seen.add(line.place));
        let now = self.clock.now();
        let look = LastLook {
            pane_digest: view.digest,
            aligned: true,
            at_bottom: true,
            transcript: serde_json::to_string(&seen).unwrap_or_default(),
            at: now,
        };
        let new = view.new.into_iter().map(|line| message(line, conversation, history)).collect();
        self.journal.record_look(conversation, new, look, now).await?;
        self.seen.insert(peer.to_owned(), seen);
        Ok(())
    }
}

fn message(line: Line, conversation: &Conversation, history: bool) -> NewMessage {
    let (cue, sender) = match line.side {
        Side::Peer => (Cue::Other, &conversation.peer),
        Side::Own => (Cue::Own, &conversation.account),
    };
    NewMessage {
        sender: sender.clone(),
        cue,
        text: line.text,
        stamp: None,
        extraction: Extraction { method: ExtractionMethod::Accessibility, confidence: 1.0, doubtful: false },
        history,
    }
}
