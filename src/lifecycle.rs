//! Start, supervise, stop.
//!
//! A [`Supervisor`] owns the tasks of a role. A task that ends before the stop was asked for has died: the role is
//! told which one, stops the others, and leaves with an error. On a stop every task is given the same time to end.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a role ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Died {
    /// A task returned an error.
    #[error("{task} failed: {why}")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// Its error, as a sentence.
        why: String,
    },
    /// A task ended although nobody had asked for it.
    #[error("{task} ended although nobody had asked it to")]
    Ended {
        /// The task's name.
        task: &'static str,
    },
    /// A task panicked.
    #[error("{task} panicked; this is a bug in autoreply")]
    Panicked {
        /// The task's name, or "a task" when the runtime could not tell.
        task: &'static str,
    },
    /// Tasks were still running when the time to stop was over.
    #[error("{count} of the tasks did not stop within {within_ms} ms")]
    Stuck {
        /// How many.
        count: usize,
        /// The time they had.
        within_ms: u128,
    },
}

type TaskEnd = (&'static str, Result<(), String>);

/// The tasks of one role, and the token that asks them to stop.
#[derive(Debug, Default)]
pub struct Supervisor {
    stop: CancellationToken,
    tasks: JoinSet<TaskEnd>,
}

impl Supervisor {
    /// A supervisor whose tasks stop when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new() }
    }

    /// The token to hand to a task.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `task` until it ends; it must end soon after the stop token is cancelled.
    pub fn spawn<E, F>(&mut self, name: &'static str, task: F)
    where
        E: std::fmt::Display,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.tasks.spawn(async move { (name, task.await.map_err(|error| error.to_string())) });
    }

    /// Runs `task` on a thread of its own, for code that blocks.
    pub fn spawn_blocking<E, F>(&mut self, name: &'static str, task: F)
    where
        E: std::fmt::Display,
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.tasks.spawn_blocking(move || (name, task().map_err(|error| error.to_string())));
    }

    /// Waits for the stop or for the first task that dies, then stops the others, each within `grace`.
    ///
    /// # Errors
    /// The first death, or the tasks that did not stop in time.
    pub async fn run(mut self, grace: Duration) -> Result<(), Died> {
        let mut first = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            Some(end) = self.tasks.join_next() => {
                first = Some(match end {
                    Ok((task, Ok(()))) if self.stop.is_cancelled() => { let _ = task; None }
                    Ok((task, Ok(()))) => Some(Died::Ended { task }),
                    Ok((task, Err(why))) => Some(Died::Failed { task, why }),
                    Err(_) => Some(Died::Panicked { task: "a task" }),
                });
            }
        }
        let mut death = first.flatten();
        if let Some(died) = &death {
            tracing::error!(error = %died, "stopping because a part died");
        }
        self.stop.cancel();
        let drained = tokio::time::timeout(grace, async {
            while let Some(end) = self.tasks.join_next().await {
                let died = match end {
                    Ok((_, Ok(()))) => None,
                    Ok((task, Err(why))) => Some(Died::Failed { task, why }),
                    Err(_) => Some(Died::Panicked { task: "a task" }),
                };
                death = death.take().or(died);
            }
        })
        .await;
        if drained.is_err() {
            death = death.or(Some(Died::Stuck { count: self.tasks.len(), within_ms: grace.as_millis() }));
        }
        death.map_or(Ok(()), Err)
    }
}

/// Completes on SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened to.
pub async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_outside_a_stop_is_a_death_and_stops_the_others() {
        let mut supervisor = Supervisor::default();
        let stop = supervisor.stop_token();
        supervisor.spawn("patient", async move {
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        supervisor.spawn("hasty", async { Ok::<(), String>(()) });
        assert_eq!(supervisor.run(Duration::from_secs(5)).await, Err(Died::Ended { task: "hasty" }));
    }

    #[tokio::test]
    async fn a_stop_that_is_obeyed_is_no_death_and_one_that_is_not_is_told() {
        let supervisor = Supervisor::default();
        supervisor.stop_token().cancel();
        assert_eq!(supervisor.run(Duration::from_secs(1)).await, Ok(()));

        let mut deaf = Supervisor::default();
        deaf.spawn("deaf", std::future::pending::<Result<(), String>>());
        deaf.stop_token().cancel();
        assert_eq!(deaf.run(Duration::from_millis(20)).await, Err(Died::Stuck { count: 1, within_ms: 20 }));
    }
}
