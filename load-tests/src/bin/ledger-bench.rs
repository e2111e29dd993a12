//! What the ledger costs a turn: the real worker with a model that answers at once, fed at a fixed rate, and every
//! write of the ledger timed. It counts from the planned arrival of each turn, so that a queue shows.
//!
//! ```text
//! ledger-bench --rate 1000 --seconds 20                                          # a SQLite file of its own
//! ledger-bench --rate 1000 --seconds 20 --url postgres://autoreply@127.0.0.1:5432/empty   # is migrated and filled
//! ```

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use autoreply::clock::{Clock as _, SystemClock};
use autoreply::contract::{
    Command, Conversation, ConversationId, ConversationKind, DesktopId, Direction, Effect, Extraction,
    ExtractionMethod, JournalId, MessagesDetected, Mode, Notice, ReplyOutcome, Revision, Timings, TurnId, TurnMessage,
};
use autoreply::ledger::{PostgresLedger, Settings, SqliteLedger};
use autoreply::roles::counted::Counted;
use autoreply::saga::{
    Admission, Commands, CommandsError, Draft, DraftRequest, Exchange, GenerationError, Generator, Ledger, Limits,
    LimitsError, Memory, MemoryError, Ports, Worker,
};
use autoreply::telemetry::Metrics;
use autoreply::telemetry::metrics::LedgerWrite;
use clap::Parser;
use hdrhistogram::Histogram;
use sqlx::Row as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Measures what the ledger costs a turn")]
struct Arguments {
    /// The PostgreSQL database to fill; without one, a SQLite file in a temporary directory.
    #[arg(long)]
    url: Option<String>,
    /// Turns a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// How long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often a batch is handed to the worker, as a poll of the broker would.
    #[arg(long, default_value_t = 5)]
    batch_ms: u64,
    /// How long the model takes.
    #[arg(long, default_value_t = 0)]
    model_ms: u64,
}

/// Everything that a worker needs beside its ledger, answering at once.
struct Rest {
    model: Duration,
    commands: mpsc::UnboundedSender<(TurnId, Instant)>,
}

#[async_trait]
impl Generator for Rest {
    async fn draft(&self, _: &DraftRequest, _: Instant) -> Result<Draft, GenerationError> {
        if !self.model.is_zero() {
            tokio::time::sleep(self.model).await;
        }
        let text = "We are open from nine to five, and yes, you may bring the dog.".to_owned();
        Ok(Draft { text, provider: "bench".to_owned(), ceiling: Mode::Auto })
    }
}

#[async_trait]
impl Limits for Rest {
    async fn admit(&self, _: ConversationId) -> Result<Admission, LimitsError> {
        Ok(Admission::Admitted)
    }
}

#[async_trait]
impl Memory for Rest {
    async fn recall(&self, _: ConversationId) -> Result<Vec<Exchange>, MemoryError> {
        Ok(Vec::new())
    }
    async fn remember(&self, _: ConversationId, _: Exchange) -> Result<(), MemoryError> {
        Ok(())
    }
    async fn forget(&self, _: ConversationId) -> Result<(), MemoryError> {
        Ok(())
    }
}

#[async_trait]
impl Commands for Rest {
    async fn publish(&self, command: &Command, _traceparent: Option<&str>) -> Result<(), CommandsError> {
        if let Command::Send(send) = command {
            self.commands.send((send.turn, Instant::now())).map_err(|error| CommandsError(error.to_string()))?;
        }
        Ok(())
    }
    async fn notify(&self, _: &Notice) -> Result<(), CommandsError> {
        Ok(())
    }
}

fn turn(journal: JournalId, number: u64, now: jiff::Timestamp) -> Result<MessagesDetected, Failure> {
    let peer = format!("peer-{}", number % 1_000);
    let conversation = Conversation::new("bench", "network", "me", &peer, ConversationKind::Direct);
    let extraction = Extraction { method: ExtractionMethod::Ocr, confidence: 0.9, doubtful: false };
    let message = TurnMessage {
        seq: number,
        sender: peer,
        direction: Direction::Inbound,
        text: "Hello! When are you open on Sundays, and may I bring my dog along? ".repeat(4),
        detected_at: now,
        extraction,
    };
    Ok(MessagesDetected {
        turn: TurnId::derive(journal, conversation.id, number),
        revision: Revision::FIRST,
        number,
        journal,
        desktop: DesktopId::try_from(format!("desk-{}", number % 100))?,
        conversation,
        messages: vec![message],
        context: Vec::new(),
        mode: Mode::Auto,
        detected_at: now,
        traceparent: None,
    })
}

fn outcome(of: &MessagesDetected) -> ReplyOutcome {
    ReplyOutcome {
        turn: of.turn,
        revision: of.revision,
        desktop: of.desktop.clone(),
        conversation: of.conversation.id,
        effect: Effect::Confirmed,
        reason: "shown".to_owned(),
        evidence: None,
        timings: Timings::default(),
    }
}

async fn open(arguments: &Arguments, directory: &std::path::Path) -> Result<Arc<dyn Ledger>, Failure> {
    let defaults: toml::Table = include_str!("../../../config.default.toml").parse()?;
    let mut settings: Settings = defaults["ledger"].clone().try_into()?;
    settings.daily_quota = 1_000_000_000;
    settings.path = PathBuf::from(directory).join("ledger.sqlite");
    let Some(url) = &arguments.url else {
        let ledger = SqliteLedger::open(&settings.path, settings.daily_quota, Arc::new(SystemClock)).await?;
        return Ok(Arc::new(ledger));
    };
    settings.url.clone_from(url);
    settings.check()?;
    PostgresLedger::migrate(&settings, None).await?;
    Ok(Arc::new(PostgresLedger::open(&settings, None).await?))
}

/// Transactions that the database has committed so far.
async fn commits(url: &Option<String>) -> Result<Option<i64>, Failure> {
    let Some(url) = url else { return Ok(None) };
    let pool = sqlx::PgPool::connect(url).await?;
    // The server reports a connection's figures when it has been idle for a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let row = sqlx::query("select xact_commit from pg_stat_database where datname = current_database()")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    Ok(Some(row.try_get(0)?))
}

#[derive(Default)]
struct Seen {
    /// From the planned arrival of a turn to its command, in microseconds.
    latencies: Vec<u64>,
    turns: HashMap<TurnId, (Instant, MessagesDetected)>,
}

/// Takes commands as they come, and gives their outcomes back in batches.
async fn follow(
    worker: Worker,
    seen: Arc<Mutex<Seen>>,
    mut commands: mpsc::UnboundedReceiver<(TurnId, Instant)>,
    done: Arc<AtomicU64>,
) {
    let mut group = Vec::with_capacity(1_000);
    while commands.recv_many(&mut group, 1_000).await > 0 {
        let outcomes: Vec<ReplyOutcome> = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            group
                .drain(..)
                .filter_map(|(turn, published)| {
                    let (planned, of) = seen.turns.remove(&turn)?;
                    let micros = published.saturating_duration_since(planned).as_micros();
                    seen.latencies.push(u64::try_from(micros).unwrap_or(u64::MAX));
                    Some(outcome(&of))
                })
                .collect()
        };
        done.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
        if let Err(error) = worker.on_outcomes(outcomes).await {
            let _ = writeln!(std::io::stderr(), "ledger-bench: outcomes were not applied: {error}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn table(out: &mut impl Write, metrics: &Metrics, turns: u64) -> std::io::Result<()> {
    writeln!(
        out,
        "\n{:<12} {:>8} {:>12} {:>10} {:>14}",
        "group", "groups", "rows/group", "mean ms", "groups/1k turns"
    )?;
    for (name, operation) in [
        ("record", LedgerWrite::Record),
        ("transition", LedgerWrite::Transition),
        ("outcome", LedgerWrite::Outcome),
        ("publish", LedgerWrite::Publish),
    ] {
        let (time, size) = (metrics.ledger_write.of(operation), metrics.ledger_group.of(operation));
        let groups = time.get_sample_count().max(1) as f64;
        writeln!(
            out,
            "{name:<12} {groups:>8} {:>12.1} {:>10.2} {:>14.1}",
            size.get_sample_sum() / groups,
            time.get_sample_sum() / groups * 1_000.0,
            groups / turns as f64 * 1_000.0,
        )?;
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let metrics = Arc::new(Metrics::new());
    let ledger = open(&arguments, directory.path()).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(Counted::new(ledger, metrics.clone(), Arc::new(SystemClock)));
    let (sender, receiver) = mpsc::unbounded_channel();
    let rest = Arc::new(Rest { model: Duration::from_millis(arguments.model_ms), commands: sender });
    let defaults: toml::Table = include_str!("../../../config.default.toml").parse()?;
    let ports = Ports {
        ledger: ledger.clone(),
        generator: rest.clone(),
        limits: rest.clone(),
        memory: rest.clone(),
        commands: rest,
        clock: Arc::new(SystemClock),
    };
    let worker = Worker::new("bench", ports, defaults["saga"].clone().try_into()?);
    let (seen, done) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(follow(worker.clone(), seen.clone(), receiver, done.clone()));

    let before = commits(&arguments.url).await?;
    let (total, journal, began) = (arguments.rate * arguments.seconds, JournalId::draw(), Instant::now());
    let (mut next, tick) = (0, Duration::from_millis(arguments.batch_ms));
    while next < total {
        tokio::time::sleep(tick).await;
        let due = total.min(u64::try_from(began.elapsed().as_micros())? * arguments.rate / 1_000_000);
        let mut batch = Vec::with_capacity(usize::try_from(due - next)?);
        for number in next..due {
            let planned = began + Duration::from_micros(number * 1_000_000 / arguments.rate);
            let of = turn(journal, number, SystemClock.now())?;
            seen.lock().unwrap_or_else(PoisonError::into_inner).turns.insert(of.turn, (planned, of.clone()));
            batch.push(of);
        }
        next = due;
        if !batch.is_empty() {
            worker.on_messages(batch).await?;
        }
    }
    while done.load(Ordering::Relaxed) < total && began.elapsed() < Duration::from_secs(arguments.seconds * 4 + 30) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed();
    worker.drain(Duration::from_secs(10)).await;
    let mut out = std::io::stdout().lock();
    report(&mut out, &arguments, &seen, total, took)?;
    table(&mut out, &metrics, total)?;
    drop(out);
    ledger.close().await;
    if let (Some(before), Some(after)) = (before, commits(&arguments.url).await?) {
        writeln!(std::io::stdout(), "commits a 1,000 turns: {:.0}", (after - before) as f64 / total as f64 * 1_000.0)?;
    }
    tasks.abort_all();
    Ok(())
}

fn report(
    out: &mut impl Write,
    arguments: &Arguments,
    seen: &Mutex<Seen>,
    total: u64,
    took: Duration,
) -> Result<(), Failure> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut histogram = Histogram::<u64>::new(3)?;
    for micros in &seen.latencies {
        histogram.record(*micros)?;
    }
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0 - arguments.model_ms as f64;
    writeln!(
        out,
        "{} turns of {total} in {:.1} s, {} not answered",
        seen.latencies.len(),
        took.as_secs_f64(),
        seen.turns.len()
    )?;
    writeln!(out, "{:.0} turns/s", seen.latencies.len() as f64 / took.as_secs_f64())?;
    writeln!(
        out,
        "planned arrival to command, model taken off: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(1.0)
    )?;
    Ok(())
}
