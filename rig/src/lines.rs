//! JSON lines between a helper process and the process that watches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes one report as a line to standard output, at once.
///
/// # Errors
/// When nobody reads any more.
pub fn report(event: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event).map_err(std::io::Error::other)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Everything a helper has reported so far, filled by a thread of its own.
#[derive(Debug)]
pub struct Collected<E> {
    shared: Arc<(Mutex<State<E>>, Condvar)>,
}

#[derive(Debug)]
struct State<E> {
    events: Vec<E>,
    over: Option<String>,
}

impl<E: DeserializeOwned + Clone + Send + 'static> Collected<E> {
    /// Starts to collect from a helper's output, until it ends or says what is not an event.
    pub fn from(output: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(State { events: Vec::new(), over: None }), Condvar::new()));
        let filled = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut over = "it ended its output".to_owned();
            for line in BufReader::new(output).lines() {
                match line.map(|line| serde_json::from_str::<E>(&line)) {
                    Ok(Ok(event)) => lock(&filled.0).events.push(event),
                    Ok(Err(error)) => over = format!("it wrote a line that is not an event: {error}"),
                    Err(error) => over = format!("its output broke: {error}"),
                }
                filled.1.notify_all();
                if !over.starts_with("it ended") {
                    break;
                }
            }
            lock(&filled.0).over = Some(over);
            filled.1.notify_all();
        });
        Self { shared }
    }

    /// A copy of all events so far, in the order in which they were reported.
    #[must_use]
    pub fn all(&self) -> Vec<E> {
        lock(&self.shared.0).events.clone()
    }

    /// Why there will be no more events, once that is so.
    #[must_use]
    pub fn over(&self) -> Option<String> {
        lock(&self.shared.0).over.clone()
    }

    /// Waits until `pick` finds what it looks for among the events; `None` when the time is over or the helper gone.
    pub fn wait<T>(&self, within: Duration, mut pick: impl FnMut(&[E]) -> Option<T>) -> Option<T> {
        let started = Instant::now();
        let mut state = lock(&self.shared.0);
        loop {
            if let Some(found) = pick(&state.events) {
                return Some(found);
            }
            let left = within.checked_sub(started.elapsed())?;
            if state.over.is_some() {
                return None;
            }
            let waited = self.shared.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A panic elsewhere leaves a list that is still whole, so it may be read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
