//! The one place that tries again.
//!
//! What is tried again is decided by the error's [`Class`]: only what is transient. How often, by a [`Schedule`]:
//! exponential backoff with jitter, bounded by a deadline. The crate `backoff` is unmaintained; it is used nowhere
//! else, and `docs/adr/0005-backoff.md` names the way out.

use std::future::Future;
use std::time::Duration;

use crate::error::{Class, Classified};

/// How long to wait between tries, and for how long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The first wait; each one is up to twice the one before, with jitter.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// When to give up, counted from the first try; `None` tries for ever.
    pub give_up_after: Option<Duration>,
}

/// Calls `operation` until it succeeds, fails with an error that is not [`Class::Transient`], or the schedule ends.
///
/// # Errors
/// The last error of `operation`.
#[allow(clippy::disallowed_methods, reason = "this file is the one place that tries again")]
pub async fn retry<T, E, F, Fut>(schedule: Schedule, mut operation: F) -> Result<T, E>
where
    E: Classified,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let policy = backoff::ExponentialBackoffBuilder::new()
        .with_initial_interval(schedule.initial)
        .with_max_interval(schedule.max)
        .with_multiplier(2.0)
        .with_max_elapsed_time(schedule.give_up_after)
        .build();
    backoff::future::retry(policy, || {
        let attempt = operation();
        async move {
            attempt.await.map_err(|error| match error.class() {
                Class::Transient => backoff::Error::transient(error),
                Class::Permanent | Class::Unknown => backoff::Error::permanent(error),
            })
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Fails(Class);
    impl Classified for Fails {
        fn class(&self) -> Class {
            self.0
        }
    }

    const QUICK: Schedule = Schedule {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(2),
        give_up_after: Some(Duration::from_secs(5)),
    };

    async fn tries(class: Class, succeed_at: u32) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let result = retry(QUICK, || async {
            if count.fetch_add(1, Ordering::Relaxed) + 1 >= succeed_at { Ok(()) } else { Err(Fails(class)) }
        })
        .await;
        (count.into_inner(), result.is_ok())
    }

    #[tokio::test]
    async fn only_what_is_transient_is_tried_again() {
        assert_eq!(tries(Class::Transient, 3).await, (3, true));
        assert_eq!(tries(Class::Permanent, 3).await, (1, false));
        assert_eq!(tries(Class::Unknown, 3).await, (1, false));
    }
}
