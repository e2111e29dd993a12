//! What carries a journal's rows to the stream and the stream's records into the journal: everything of a desktop but
//! its eyes and hands.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hello::{self, Greeting};
use super::traced;
use super::wiring::{Inbound, Outbound};
use crate::clock::Clock;
use crate::contract::codec::Incoming;
use crate::contract::wire::topic;
use crate::contract::{Command, DesktopId, MessagesDetected, Revision, TurnId};
use crate::journal::{Accepted, Journal, JournalError};
use crate::lifecycle::Supervisor;
use crate::stream::{Batch, Connection, NotDone, Received};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Place;
use crate::telemetry::traces::SpanContext;

/// How often the journal is asked what is due although nothing was said to have changed.
const PUBLISH_TICK: Duration = Duration::from_millis(200);
/// Changes that lie no further apart than this are looked at together when they are quiet.
const QUIET_STEP: Duration = Duration::from_millis(2);
/// The first wait after the broker did not take a record; it doubles up to the longest.
const PUBLISH_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What every task of a desktop is given.
#[derive(Clone)]
pub struct Shared {
    /// The desktop's authority.
    pub journal: Journal,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Writes its records.
    pub outbound: Outbound,
    /// Ends its tasks.
    pub stop: CancellationToken,
}

/// Starts the tasks that carry records for `desktop` under `supervisor`. Commands are read again from `longest` ago,
/// the longest time that one may live. Hellos are said as often as is usual.
pub fn start(
    shared: &Shared,
    connection: &Connection,
    supervisor: &mut Supervisor,
    desktop: &DesktopId,
    longest: Duration,
) {
    start_greeting(shared, connection, supervisor, desktop, longest, Greeting::default());
}

/// As [`start`], with this greeting.
pub fn start_greeting(
    shared: &Shared,
    connection: &Connection,
    supervisor: &mut Supervisor,
    desktop: &DesktopId,
    longest: Duration,
    greeting: Greeting,
) {
    let since = crate::clock::from_millis(crate::clock::to_millis(shared.clock.now()) - crate::clock::millis(longest));
    let inbound = Arc::new(Inbound::new(connection, shared.metrics.clone()));

    let commands = connection.reader(topic::COMMANDS, desktop.as_str().as_bytes(), since);
    let (taking, reading, own) = (shared.clone(), inbound.clone(), desktop.clone());
    supervisor.spawn("the desktop's commands", {
        let stop = shared.stop.clone();
        commands.run(stop, move |batch: Batch| {
            let (shared, inbound, own) = (taking.clone(), reading.clone(), own.clone());
            async move { take_commands(&shared, &inbound, &own, &batch).await }
        })
    });
    let notices = connection.reader(topic::NOTICES, desktop.as_str().as_bytes(), since);
    let (taking, reading, own) = (shared.clone(), inbound.clone(), desktop.clone());
    supervisor.spawn("the desktop's notices", {
        let stop = shared.stop.clone();
        notices.run(stop, move |batch: Batch| {
            let (shared, inbound, own) = (taking.clone(), reading.clone(), own.clone());
            async move { take_notices(&shared, &inbound, &own, &batch).await }
        })
    });
    let controls = connection.reader_all(topic::CONTROLS);
    let taking = shared.clone();
    supervisor.spawn("the desktop's controls", {
        let stop = shared.stop.clone();
        controls.run(stop, move |batch: Batch| {
            let (shared, inbound) = (taking.clone(), inbound.clone());
            async move { take_controls(&shared, &inbound, &batch).await }
        })
    });
    supervisor.spawn("the publisher", publish(shared.clone()));
    supervisor.spawn("the hellos", hello::say(shared.clone(), desktop.clone(), greeting));
    let (watched, connection) = (shared.clone(), connection.clone());
    supervisor.spawn("the cluster's identity", async move { watch_cluster(watched, connection).await });
}

/// A journal that cannot be written is no fault of the record: it comes again.
fn not_done(error: &JournalError) -> NotDone {
    NotDone::Retry(error.to_string())
}

async fn take_commands(shared: &Shared, inbound: &Inbound, own: &DesktopId, batch: &Batch) -> Result<(), NotDone> {
    for received in batch.iter() {
        match inbound.read(received).await? {
            Some(Incoming::Command(command)) => {
                let desktop = match &command {
                    Command::Send(send) => &send.desktop,
                    Command::Withdraw(withdraw) => &withdraw.desktop,
                    Command::TurnRecorded(recorded) => &recorded.desktop,
                    Command::OutcomeRecorded(recorded) => &recorded.desktop,
                };
                // Several desktops share a partition.
                if desktop == own {
                    accept(shared, received, command).await.map_err(|error| not_done(&error))?;
                }
            }
            Some(_) => inbound.bury(received, "a record of this type does not belong to this topic").await?,
            None => {}
        }
    }
    Ok(())
}

async fn accept(shared: &Shared, received: &Received, command: Command) -> Result<(), JournalError> {
    let span = match &command {
        Command::Send(send) => Some(traced::accepting(shared.outbound.traces(), received, send)),
        Command::Withdraw(_) | Command::TurnRecorded(_) | Command::OutcomeRecorded(_) => None,
    };
    let accepted = shared.journal.accept(command, shared.clock.now()).await;
    if let Some(span) = span.filter(|_| matches!(accepted, Ok(Accepted::Repeated) | Err(_))) {
        span.forget();
    }
    count_accepted(&shared.metrics, accepted?);
    Ok(())
}

fn count_accepted(metrics: &Metrics, accepted: Accepted) {
    match accepted {
        Accepted::Noted => {}
        Accepted::Repeated => metrics.duplicates.of(Place::Desk).inc(),
        Accepted::TurnAcknowledged => metrics.turns_acknowledged.inc(),
        Accepted::OutcomeAcknowledged => metrics.outcomes_acknowledged.inc(),
    }
}

async fn take_notices(shared: &Shared, inbound: &Inbound, own: &DesktopId, batch: &Batch) -> Result<(), NotDone> {
    for received in batch.iter() {
        match inbound.read(received).await? {
            Some(Incoming::Notice(notice)) if notice.desktop() == own => {
                let accepted = shared.journal.hear(&notice, shared.clock.now()).await;
                count_accepted(&shared.metrics, accepted.map_err(|error| not_done(&error))?);
            }
            Some(Incoming::Notice(_)) | None => {}
            Some(_) => inbound.bury(received, "a record of this type does not belong to this topic").await?,
        }
    }
    Ok(())
}

async fn take_controls(shared: &Shared, inbound: &Inbound, batch: &Batch) -> Result<(), NotDone> {
    for received in batch.iter() {
        match inbound.read(received).await? {
            Some(Incoming::Control(record)) => {
                shared.journal.apply_control(&record, shared.clock.now()).await.map_err(|error| not_done(&error))?;
            }
            Some(_) => inbound.bury(received, "a record of this type does not belong to this topic").await?,
            None => {}
        }
    }
    Ok(())
}

/// Moves what is due from the journal to the stream, until the stop. A broker or a disk that is away is waited for:
/// the rows stay where they are.
async fn publish(shared: Shared) -> Result<(), JournalError> {
    let mut changed = shared.journal.changed();
    let (mut wait, mut quiet, mut waits) = (PUBLISH_TICK, Quiet::default(), Waits::default());
    while !shared.stop.is_cancelled() {
        let now = Instant::now();
        match publish_due(&shared, &mut waits).await {
            Ok(()) => wait = PUBLISH_TICK,
            Err(why) => {
                wait = if wait < PUBLISH_RETRY.0 { PUBLISH_RETRY.0 } else { (wait * 2).min(PUBLISH_RETRY.1) };
                tracing::warn!(why, wait_ms = wait.as_millis() as u64, "what is due stays in the journal for now");
            }
        }
        let may_hurry = wait == PUBLISH_TICK;
        let next = if may_hurry { quiet.next(now).unwrap_or(now + wait).min(now + wait) } else { now + wait };
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep_until(next) => {}
            gone = changed.changed(), if may_hurry => {
                if gone.is_err() { break }
                quiet.note(Instant::now() + shared.journal.quiet());
            }
        }
    }
    if let Err(why) = publish_due(&shared, &mut waits).await {
        tracing::warn!(why, "what is due stays in the journal until the next start");
    }
    shared.outbound.flush(Duration::from_secs(2)).await;
    Ok(())
}

/// When turns may have become quiet: the journal does not tell what becomes due by time alone, and the tick would make
/// each turn a hundred milliseconds older on average.
#[derive(Debug, Default)]
struct Quiet(VecDeque<Instant>);

impl Quiet {
    /// Something changed that is quiet at `at`. Times come in their order.
    fn note(&mut self, at: Instant) {
        if self.0.back().is_none_or(|last| *last < at) {
            self.0.push_back(at + QUIET_STEP);
        }
    }

    /// The next such time after `now`; those before it are over.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        while self.0.pop_front_if(|at| *at <= now).is_some() {}
        self.0.front().copied()
    }
}

/// The most waits that are remembered.
const WAITS_MAX: usize = 4_096;

/// Where the waits of published turns stand in their traces: what is published again waited once.
#[derive(Default)]
struct Waits(HashMap<(TurnId, Revision), Option<SpanContext>>);

impl Waits {
    fn of(&mut self, shared: &Shared, turn: &MessagesDetected) -> Option<SpanContext> {
        let traces = shared.outbound.traces();
        if !traces.is_on() {
            return None;
        }
        if self.0.len() >= WAITS_MAX {
            self.0.clear();
        }
        *self.0.entry((turn.turn, turn.revision)).or_insert_with(|| traced::waited(traces, turn))
    }
}

async fn publish_due(shared: &Shared, waits: &mut Waits) -> Result<(), String> {
    let said = |error: JournalError| error.to_string();
    let now = shared.clock.now();
    for turn in shared.journal.turns_to_publish(now).await.map_err(said)? {
        shared.outbound.turn(&turn, waits.of(shared, &turn)).await?;
        shared.journal.turn_published(turn.turn, turn.revision, shared.clock.now()).await.map_err(said)?;
        shared.metrics.turns_published.inc();
        tracing::info!(turn = %turn.turn, revision = turn.revision.0, conversation = %turn.conversation.id, "turn published");
    }
    for outcome in shared.journal.outcomes_to_publish(now).await.map_err(said)? {
        shared.outbound.outcome(&outcome).await?;
        shared.journal.outcome_published(&outcome, shared.clock.now()).await.map_err(said)?;
        shared.metrics.outcomes_published.inc();
        let (times, ms) = (&outcome.timings, |at: Option<jiff::Timestamp>| at.map(crate::clock::to_millis));
        tracing::info!(
            turn = %outcome.turn,
            revision = outcome.revision.0,
            effect = %outcome.effect,
            reason = outcome.reason,
            detected_ms = ms(times.detected_at),
            received_ms = ms(times.received_at),
            typed_ms = ms(times.typed_at),
            submitted_ms = ms(times.submitted_at),
            shown_ms = ms(times.shown_at),
            "outcome published"
        );
    }
    Ok(())
}

/// Publishes everything open again when the cluster has become another one: its disk was lost.
async fn watch_cluster(shared: Shared, connection: Connection) -> Result<(), JournalError> {
    let mut known: Option<String> = None;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
        let now = connection.cluster_id(Duration::from_secs(5)).await;
        if let (Some(before), Some(after)) = (&known, &now)
            && before != after
        {
            tracing::warn!(before, after, "this is another cluster; everything open is published again");
            shared.journal.publish_again().await?;
        }
        known = now.or(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_looked_at_again_when_it_is_quiet_and_not_much_later() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut quiet = Quiet::default();
        let changes = [100, 101, 102, 103, 150, 151, 400];
        changes.iter().for_each(|ms| quiet.note(at(*ms)));
        let (mut wakes, mut now) = (Vec::new(), begin);
        while let Some(next) = quiet.next(now) {
            wakes.push(next);
            now = next;
        }
        assert_eq!(wakes.len(), 4, "changes close to each other share a look");
        for change in changes.map(at) {
            assert!(wakes.iter().any(|wake| *wake >= change && *wake <= change + QUIET_STEP));
        }
        assert_eq!(quiet.next(at(500)), None);
    }
}
