//! What the ledger knows of workers, replies and desks: PostgreSQL from any machine, the SQLite file on its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::view::{BreakerView, DeskLine, LagView, QuotaView, RepliesView, StateView, WorkerView};
use crate::clock::SystemClock;
use crate::error::Problem;
use crate::ledger::{PostgresLedger, Settings, SqliteLedger};
use crate::roles::{Context, desks, worker};
use crate::saga::state::Phase;
use crate::saga::{Desk, Ledger, Standing, WorkerSeen};
use crate::telemetry::metrics::Label as _;

/// A look needs few connections, and leaves the others to the workers.
const CONNECTIONS: u32 = 2;
/// A look waits no longer for one: whoever looks wants to know that it is away.
const CONNECT_MS: u64 = 3_000;

/// A ledger to look at.
pub(in crate::roles) struct Book {
    ledger: Arc<dyn Ledger>,
    /// Its address or its file.
    pub(in crate::roles) place: String,
    daily_quota: u64,
    account_hold: Duration,
}

/// What the ledger says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::roles) struct Page {
    /// Who runs.
    pub(in crate::roles) workers: Vec<WorkerView>,
    /// How the replies stand.
    pub(in crate::roles) replies: RepliesView,
    /// How the workers find their providers.
    pub(in crate::roles) breakers: Vec<BreakerView>,
    /// The lag by the workers' own word.
    pub(in crate::roles) lag: Vec<LagView>,
    /// Who sits where.
    pub(in crate::roles) desks: Vec<DeskLine>,
    /// Today's quota.
    pub(in crate::roles) quota: QuotaView,
    /// Drafts that wait for a person.
    pub(in crate::roles) drafts: u64,
    /// Replies that a person has to look at.
    pub(in crate::roles) attention: u64,
    /// Records that could not be read since the workers started, by their own word.
    pub(in crate::roles) dead_letters: u64,
}

impl Book {
    /// The ledger of the settings; none where it would be a SQLite file that is not there.
    ///
    /// # Errors
    /// The section does not fit, or the ledger cannot be opened.
    pub(in crate::roles) async fn open(context: &Context) -> Result<Option<Self>, Problem> {
        let settings: Settings = context.layers.section("ledger")?;
        settings.check()?;
        let saga: crate::saga::Settings = context.layers.section("saga")?;
        let (account_hold, daily_quota) = (saga.account_hold(), settings.daily_quota);
        if settings.is_postgres() {
            let password = worker::ledger_password(context, &settings)?;
            let connect_timeout_ms = settings.connect_timeout_ms.min(CONNECT_MS);
            let few = Settings { pool_max: CONNECTIONS, connect_timeout_ms, ..settings };
            let ledger = PostgresLedger::open(&few, password.as_ref()).await;
            let ledger: Arc<dyn Ledger> = Arc::new(ledger.map_err(|error| worker::ledger_problem(error, &few.url))?);
            return Ok(Some(Self { ledger, place: few.url, daily_quota, account_hold }));
        }
        let path = worker::ledger_path(context, &settings)?;
        if !path.exists() {
            return Ok(None);
        }
        let place = path.display().to_string();
        let ledger = SqliteLedger::open(&path, daily_quota, Arc::new(SystemClock)).await;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger.map_err(|error| worker::ledger_problem(error, &place))?);
        Ok(Some(Self { ledger, place, daily_quota, account_hold }))
    }

    /// What it says now.
    ///
    /// # Errors
    /// It does not answer.
    pub(in crate::roles) async fn read(&self) -> Result<Page, Problem> {
        let asked = tokio::join!(self.ledger.workers(), self.ledger.standing(), self.ledger.desks(self.account_hold));
        let failed = |error| worker::ledger_problem(error, &self.place);
        let (seen, standing) = (asked.0.map_err(failed)?, asked.1.map_err(failed)?);
        let desks = asked.2.map_err(failed)?;
        let fresh = || seen.iter().filter(|worker| worker.is_fresh());
        // Nobody but the workers knows which quota they keep to.
        let limit = fresh().map(|worker| worker.word.figures.daily_quota).max().unwrap_or(self.daily_quota);
        let phase = |wanted: Phase| standing.phases.iter().find(|s| s.phase == wanted).map_or(0, |s| s.count);
        Ok(Page {
            workers: seen.iter().map(worker_view).collect(),
            breakers: breakers(&seen),
            lag: lag(&seen),
            quota: QuotaView { taken: standing.quota_taken, limit },
            drafts: phase(Phase::AwaitingApproval),
            attention: standing.attention,
            dead_letters: fresh().map(|worker| worker.word.figures.dead_letters).sum(),
            replies: replies(&standing),
            desks: desks.iter().map(desk_line).collect(),
        })
    }

    /// Gives its connections back.
    pub(in crate::roles) async fn close(&self) {
        self.ledger.close().await;
    }
}

fn worker_view(seen: &WorkerSeen) -> WorkerView {
    let (word, figures) = (&seen.word, &seen.word.figures);
    WorkerView {
        instance: word.instance.to_string(),
        name: word.name.clone(),
        host: word.host.clone(),
        version: word.version.clone(),
        state: if seen.is_fresh() { "fresh" } else { "silent" },
        started_at: word.started_at,
        last_seen: seen.last_seen,
        silent_seconds: seen.silent_for.as_secs_f64(),
        in_flight: figures.in_flight,
        permits: figures.permits,
        partitions: figures.lag.values().map(|lag| lag.partitions).sum(),
        turns: figures.turns,
        replies: figures.replies.clone(),
        limits_local: figures.limits_local,
    }
}

fn breakers(seen: &[WorkerSeen]) -> Vec<BreakerView> {
    let mut found = BTreeMap::<&str, BreakerView>::new();
    for worker in seen.iter().filter(|worker| worker.is_fresh()) {
        for (provider, open) in &worker.word.figures.breakers {
            let view = found.entry(provider).or_insert_with(|| BreakerView {
                provider: provider.clone(),
                open_at: Vec::new(),
                workers: 0,
            });
            view.workers += 1;
            if *open {
                view.open_at.push(worker.word.name.clone());
            }
        }
    }
    found.into_values().collect()
}

/// The lag as the workers tell it, for a broker that nobody else can ask.
fn lag(seen: &[WorkerSeen]) -> Vec<LagView> {
    let mut topics = BTreeMap::<&str, LagView>::new();
    for (topic, lag) in seen.iter().filter(|worker| worker.is_fresh()).flat_map(|worker| &worker.word.figures.lag) {
        let nothing = || LagView { topic: topic.clone(), partitions: 0, records: 0, seconds: Some(0.0) };
        let view = topics.entry(topic).or_insert_with(nothing);
        view.partitions += lag.partitions;
        view.records += lag.records;
        view.seconds = view.seconds.map(|seconds| seconds.max(lag.seconds));
    }
    topics.into_values().collect()
}

fn replies(standing: &Standing) -> RepliesView {
    let states = standing.phases.iter().map(|phase| StateView {
        state: phase.phase.as_str(),
        count: phase.count,
        oldest_seconds: phase.oldest.as_secs_f64(),
    });
    RepliesView { states: states.collect(), overdue: standing.overdue, unpublished: standing.unpublished }
}

fn desk_line(desk: &Desk) -> DeskLine {
    DeskLine {
        desktop: desk.desktop.to_string(),
        host: desk.host.clone(),
        version: desk.version.clone(),
        state: desks::state_of(desk).map_or("no hello", |state| state.value()).to_owned(),
        silent_seconds: desk.last_seen.map(|_| desk.silent_for.as_secs_f64()),
        accounts: desk.accounts.iter().map(|owned| owned.account.to_string()).collect(),
    }
}
