//! Which commands were published is told to the ledger in groups, beside the way of a reply: until it is told, recovery
//! would at worst publish a command once more, and the desktop knows it by its turn and revision.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{EntryId, Ledger};

/// How long entries are gathered; far below the time after which recovery publishes a command again.
const GATHER: Duration = Duration::from_millis(50);
/// The most entries of one group.
const GROUP_MAX: usize = 1_024;

#[derive(Default)]
struct Queue {
    entries: Vec<EntryId>,
    being_told: bool,
}

/// Gathers published entries. Cheap to clone; the clones are one.
#[derive(Clone)]
pub(super) struct Publications {
    queue: Arc<Mutex<Queue>>,
    ledger: Arc<dyn Ledger>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Publications {
    /// Publications of this ledger; telling it is one of `tasks`, which gathers no longer once `stop` is cancelled.
    pub(super) fn new(ledger: Arc<dyn Ledger>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { queue: Arc::default(), ledger, tasks, stop }
    }

    /// Notes that this command was published; the ledger hears of it soon.
    pub(super) fn note(&self, entry: EntryId) {
        let first = {
            let mut queue = self.queue();
            queue.entries.push(entry);
            !std::mem::replace(&mut queue.being_told, true)
        };
        if first {
            let publications = self.clone();
            self.tasks.spawn(async move { publications.tell_all().await });
        }
    }

    async fn tell_all(&self) {
        let _end = Telling(self);
        loop {
            drop(tokio::time::timeout(GATHER, self.stop.cancelled()).await);
            let Some(group) = self.next() else { return };
            if let Err(error) = self.ledger.mark_published(&group).await {
                let commands = group.len();
                tracing::warn!(commands, %error, "commands were published and not marked; they go out once more");
            }
        }
    }

    /// The next group; `None` ends the telling, in the same breath, so that the next entry begins it again.
    fn next(&self) -> Option<Vec<EntryId>> {
        let mut queue = self.queue();
        queue.being_told = !queue.entries.is_empty();
        let many = queue.entries.len().min(GROUP_MAX);
        queue.being_told.then(|| queue.entries.drain(..many).collect())
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next entry begin the telling again, also if this one panicked.
struct Telling<'a>(&'a Publications);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.queue().being_told = false;
        }
    }
}
