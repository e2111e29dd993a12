//! Many tasks, few syncs of the disk: transitions asked for while a group is being written make the next group.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::{Ledger, LedgerError, Rejected, Transition, Transitioned};

/// The most transitions of one group.
const GROUP_MAX: usize = 256;

type Answer = Result<Result<Transitioned, Rejected>, LedgerError>;

struct Waiting {
    transition: Transition,
    answer: oneshot::Sender<Answer>,
}

/// Collects transitions into groups. Whoever comes first writes for all that wait.
#[derive(Default)]
pub(super) struct Groups {
    queue: Mutex<Vec<Waiting>>,
    writer: tokio::sync::Mutex<()>,
}

impl Groups {
    /// Makes one transition, with others in its group. If the task that wrote the group was cancelled, the answer is
    /// that the ledger was not available: asking again, with the same id, says what was written.
    pub(super) async fn transition(&self, ledger: &dyn Ledger, transition: Transition) -> Answer {
        let (sender, mut answer) = oneshot::channel();
        self.queue().push(Waiting { transition, answer: sender });
        let _writer = self.writer.lock().await;
        loop {
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Closed) => return Err(LedgerError::Unavailable("the group was given up".to_owned())),
                Err(TryRecvError::Empty) => self.write(ledger).await,
            }
        }
    }

    async fn write(&self, ledger: &dyn Ledger) {
        let mut group: Vec<Waiting> = {
            let mut queue = self.queue();
            let many = queue.len().min(GROUP_MAX);
            queue.drain(..many).collect()
        };
        group.retain(|waiting| !waiting.answer.is_closed());
        let transitions: Vec<Transition> = group.iter().map(|waiting| waiting.transition.clone()).collect();
        match ledger.transition(&transitions).await {
            Ok(each) => {
                for (waiting, done) in group.into_iter().zip(each) {
                    // Whoever asked may be gone; what is written is written.
                    drop(waiting.answer.send(Ok(done)));
                }
            }
            Err(error) => {
                for waiting in group {
                    drop(waiting.answer.send(Err(error.clone())));
                }
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
