//! Many tasks, few syncs of the disk: transitions asked for while a group is being written make the next group. Nobody
//! waits for a group to fill; it is as large as what came in during the write before it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{Ledger, LedgerError, Rejected, Transition, Transitioned};

/// The most transitions of one group.
const GROUP_MAX: usize = 512;

type Answer = Result<Result<Transitioned, Rejected>, LedgerError>;

struct Waiting {
    transition: Transition,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    being_written: bool,
}

/// Collects transitions into groups. Cheap to clone; the clones are one.
#[derive(Clone)]
pub(super) struct Groups {
    queue: Arc<Mutex<Queue>>,
    ledger: Arc<dyn Ledger>,
    tasks: TaskTracker,
}

impl Groups {
    /// Groups for this ledger; what is being written is one of `tasks`.
    pub(super) fn new(ledger: Arc<dyn Ledger>, tasks: TaskTracker) -> Self {
        Self { queue: Arc::default(), ledger, tasks }
    }

    /// Makes one transition, with others in its group. Whoever is cancelled while it waits hears no answer; what is
    /// written is written, and asking again with the same id says what that was.
    pub(super) async fn transition(&self, transition: Transition) -> Answer {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut queue = self.queue();
            queue.waiting.push(Waiting { transition, answer: sender });
            !std::mem::replace(&mut queue.being_written, true)
        };
        if first {
            let groups = self.clone();
            self.tasks.spawn(async move { groups.write_all().await });
        }
        answer.await.unwrap_or_else(|_| Err(LedgerError::Unavailable("the group was given up".to_owned())))
    }

    /// Writes group after group until nobody waits.
    async fn write_all(&self) {
        let _end = Writing(self);
        while let Some(group) = self.next() {
            self.write(group).await;
        }
    }

    /// The next group; `None` ends the writing, in the same breath, so that the next to ask begins it again.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        queue.being_written = !queue.waiting.is_empty();
        let many = queue.waiting.len().min(GROUP_MAX);
        queue.being_written.then(|| queue.waiting.drain(..many).collect())
    }

    async fn write(&self, group: Vec<Waiting>) {
        let (transitions, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.transition, waiting.answer)).unzip();
        // Whoever asked may be gone by now: then its answer is dropped.
        match self.ledger.transition(&transitions).await {
            Ok(each) => answers.into_iter().zip(each).for_each(|(answer, done)| drop(answer.send(Ok(done)))),
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets others go on if the writer panics: those who wait hear that their group was given up.
struct Writing<'a>(&'a Groups);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.being_written = false;
            queue.waiting.clear();
        }
    }
}
