//! Every metric there is, in one typed catalogue: its doc comment is its help text, its labels are enums, so that a
//! label can only have values somebody wrote down. Units are base units (seconds, bytes). `docs/METRICS.md` is
//! generated from it.

use prometheus::{Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramVec, Registry, TextEncoder};

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value it can have.
    const ALL: &'static [Self];
    /// The value as text.
    fn value(self) -> &'static str;
}

/// Declares a label's values.
macro_rules! label {
    ($(#[$doc:meta])* $type:ident = $name:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)+ }

        impl Label for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn value(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
        }
    };
}

mod document;
mod kinds;
mod labels;
mod provider;
#[cfg(test)]
mod tests;

pub use document::{Emitter, Row};
pub use kinds::By;
use kinds::{Metric, values};
pub use labels::{
    Build, CompensationStep, Connection, ConsumedTopic, DeskState, ExecutorStep, GenerationFailure, Guard, LedgerWrite,
    Outcome, Place, PutBack, SagaState, WindowState,
};
pub use provider::{FallbackReason, PerProvider, PerProviderBy, ProviderErrorKind, RejectionReason, TokenDirection};

/// The bounds of what is done in groups.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// The bounds of what takes a person's seconds.
const SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The bounds of a reply's whole way; the goal of ten seconds is one of them.
const REPLY_SECONDS: &[f64] = &[0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 600.0];
/// The bounds of what happens at every look.
const FINE_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// The bounds of how sure a reading is; what lies below the first is doubtful.
const CONFIDENCES: &[f64] = &[0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0];

/// Declares [`Metrics`], its registration and its catalogue from one list.
macro_rules! catalogue {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $name:literal by $emitter:ident $([$buckets:expr])?;)+) => {
        /// Every metric of this process. Cheap to clone; clones count together.
        #[derive(Clone)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $type,)+
        }

        impl Metrics {
            fn register() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(let $field = {
                    let buckets: &[f64] = &[];
                    $(let buckets: &[f64] = { let _ = buckets; $buckets };)?
                    <$type as Metric>::register(&registry, $name, &help(&[$($help),+]), buckets)?
                };)+
                Ok(Self { registry, $($field,)+ })
            }

            /// Every metric, in the order of the declaration.
            pub fn catalogue() -> Vec<Row> {
                vec![$(Row {
                    field: stringify!($field),
                    name: $name,
                    kind: <$type as Metric>::KIND,
                    help: help(&[$($help),+]),
                    emitter: Emitter::$emitter,
                    by_provider: <$type as Metric>::BY_PROVIDER,
                    labels: <$type as Metric>::labels(),
                },)+]
            }
        }
    };
}

catalogue! {
    /// Chat messages that were seen for the first time.
    messages_detected: Counter = "autoreply_messages_detected_total" by Desk;
    /// Turns, in any revision, that were handed to the worker.
    turns_published: Counter = "autoreply_turns_published_total" by Desk;
    /// Turns, in any revision, of which the desk heard that they are recorded; each once.
    turns_acknowledged: Counter = "autoreply_turns_acknowledged_total" by Desk;
    /// Outcomes that were handed to the worker.
    outcomes_published: Counter = "autoreply_outcomes_published_total" by Desk;
    /// Outcomes of which the desk heard that they are recorded; each once.
    outcomes_acknowledged: Counter = "autoreply_outcomes_acknowledged_total" by Desk;
    /// Records that were delivered again and recognised: turns and outcomes by the worker, replies by the desk. A desk
    /// that starts reads the last minutes again, and recognises them. A turn that a desk asks after, because it has waited
    /// for a minute, is not counted.
    duplicates: By<CounterVec, Place> = "autoreply_duplicates_suppressed_total" by All;
    /// Turns that ended, by what became of them, counted where the ledger wrote it down. One whose effect better
    /// evidence replaces is counted under both.
    replies: By<CounterVec, Outcome> = "autoreply_replies_total" by Worker;
    /// Turns whose time has come: each that ended, counted once, by the one worker whose write to the ledger ended it,
    /// be it with the desk's outcome, by a decision of its own, or as recovery, once it was overdue. One that newer text
    /// opens again has a new deadline, and counts again.
    turns_due: Counter = "autoreply_turns_due_total" by Worker;
    /// Those of them that ended with a recorded effect within their deadline in the ledger, and were not asked back. A
    /// draft that waited for a person is kept whenever it ends: the wait was theirs.
    turns_kept: Counter = "autoreply_turns_kept_total" by Worker;
    /// Time from the last message of a turn, as the desk saw it, to the ledger's writing down of the desk's outcome, by
    /// effect. The desk's clock and the worker's take part.
    reply: By<HistogramVec, Outcome> = "autoreply_reply_seconds" by Worker [REPLY_SECONDS];
    /// Time from the end of a conversation's quiet time to the own line on the screen, of replies that were confirmed.
    /// The desk's clock alone.
    reply_after_quiet: Histogram = "autoreply_reply_after_quiet_seconds" by Worker [REPLY_SECONDS];
    /// Steps that undid a reply. A turn that came only to be recorded needs none.
    compensations: By<CounterVec, CompensationStep> = "autoreply_compensations_total" by Worker;
    /// Times something held a reply back or left it to a person, by what. A reply that waits for its conversation's
    /// rate may be held back several times.
    guards: By<CounterVec, Guard> = "autoreply_guards_total" by Worker;
    /// Turns that this worker has in hand now.
    turns_in_flight: Gauge = "autoreply_turns_in_flight_open" by Worker;
    /// Time from the beginning of a draft to its reply or to the end of the provider chain.
    generation: Histogram = "autoreply_generation_seconds" by Worker [SECONDS];
    /// Drafts that no provider gave, by why.
    generation_errors: By<CounterVec, GenerationFailure> = "autoreply_generation_errors_total" by Worker;
    /// Time of one call to a provider, until its end or until nobody waits for it any more.
    provider_seconds: PerProvider<HistogramVec> = "autoreply_provider_seconds" by Worker [SECONDS];
    /// Calls to a provider that are being made now.
    provider_calls: PerProvider<GaugeVec> = "autoreply_provider_calls_open" by Worker;
    /// 1 while a provider is left alone after failures, else 0.
    provider_breaker: PerProvider<GaugeVec> = "autoreply_provider_breaker_open" by Worker;
    /// Calls to a provider that failed, by kind.
    provider_errors: PerProviderBy<ProviderErrorKind> = "autoreply_provider_errors_total" by Worker;
    /// Tokens that a provider counted, by direction.
    provider_tokens: PerProviderBy<TokenDirection> = "autoreply_provider_tokens_total" by Worker;
    /// What these tokens cost by the prices of the settings, in the settings' currency.
    provider_cost: PerProvider<CounterVec> = "autoreply_provider_cost_total" by Worker;
    /// Times a turn went on to the next provider, by reason.
    provider_fallbacks: PerProviderBy<FallbackReason> = "autoreply_provider_fallbacks_total" by Worker;
    /// Replies of a provider that did not pass validation, by reason.
    provider_rejections: PerProviderBy<RejectionReason> = "autoreply_provider_rejections_total" by Worker;
    /// Replies that have not ended, by state. Of the ledger.
    sagas_open: By<GaugeVec, SagaState> = "autoreply_sagas_open" by Worker;
    /// Time for which the reply that has stood longest in a state has stood in it, by state; 0 where there is none. Of
    /// the ledger.
    sagas_oldest: By<GaugeVec, SagaState> = "autoreply_sagas_oldest_seconds" by Worker;
    /// Replies that have not ended although their deadline is over. Of the ledger.
    sagas_overdue: Gauge = "autoreply_sagas_overdue_open" by Worker;
    /// Commands that wait in the ledger to be published. Of the ledger.
    commands_unpublished: Gauge = "autoreply_commands_unpublished_open" by Worker;
    /// How much of today's quota of replies is reserved or used, 0 to 1. Of the ledger.
    quota_used: Gauge = "autoreply_quota_used_ratio" by Worker;
    /// Time since the ledger last answered, once it does not; 0 while it does.
    ledger_unavailable: Gauge = "autoreply_ledger_unavailable_seconds" by Worker;
    /// Time to write one group to the ledger, by what is written.
    ledger_write: By<HistogramVec, LedgerWrite> = "autoreply_ledger_write_seconds" by Worker [FINE_SECONDS];
    /// How many rows of a kind one group writes to the ledger.
    ledger_group: By<HistogramVec, LedgerWrite> = "autoreply_ledger_group_size" by Worker [SIZES];
    /// Connections of this process to the ledger's database, by what they do.
    ledger_connections: By<GaugeVec, Connection> = "autoreply_ledger_connections" by Worker;
    /// Replies that the executor ended without pressing the submit key, by what became of them.
    executor_refusals: By<CounterVec, Outcome> = "autoreply_executor_refusals_total" by Desk;
    /// Attempts to type a reply that were put back, by cause.
    executor_put_back: By<CounterVec, PutBack> = "autoreply_executor_put_back_total" by Desk;
    /// Time that the executor spends in one step, its waits included.
    executor_step: By<HistogramVec, ExecutorStep> = "autoreply_executor_step_seconds" by Desk [SECONDS];
    /// Time between the last proof of the window and the submit key, which X11 leaves unguarded.
    submit_gap: Histogram = "autoreply_submit_gap_seconds" by Desk [FINE_SECONDS];
    /// Chat windows that fit a profile, by what becomes of them.
    chat_windows: By<GaugeVec, WindowState> = "autoreply_chat_windows_open" by Desk;
    /// Time for one look at a window: pixels, comparison, text, alignment.
    capture_look: Histogram = "autoreply_capture_look_seconds" by Desk [FINE_SECONDS];
    /// Looks at a window that failed; each is tried again.
    capture_errors: Counter = "autoreply_capture_errors_total" by Desk;
    /// Time to recognise the text of the changed rows.
    ocr: Histogram = "autoreply_ocr_seconds" by Desk [FINE_SECONDS];
    /// How sure the reading of each new line was, 0 to 1.
    ocr_confidence: Histogram = "autoreply_ocr_confidence_ratio" by Desk [CONFIDENCES];
    /// Size of the journal's files on disk.
    journal: Gauge = "autoreply_journal_bytes" by Desk;
    /// Turns in this desk's journal that have not ended.
    journal_turns: Gauge = "autoreply_journal_turns_open" by Desk;
    /// Turns that this desk leaves to a person.
    attention: Gauge = "autoreply_attention_open" by Desk;
    /// 1 while a Redis that was set is away and this worker keeps its own limits, otherwise 0.
    limits_local: Gauge = "autoreply_limits_local" by Worker;
    /// Questions to Redis, about rates or memory, that this worker had to answer by itself.
    limits_fallbacks: Counter = "autoreply_limits_fallbacks_total" by Worker;
    /// Desks that say hello, by how they do; one that is cloned counts only as that. Of the ledger.
    desks: By<GaugeVec, DeskState> = "autoreply_desks_open" by Worker;
    /// Time since the hello of that desk which has been silent longest, among those that did not say that they stop. Of
    /// the ledger.
    desks_silent: Gauge = "autoreply_desks_silent_seconds" by Worker;
    /// Accounts that this desktop answers for now.
    accounts_owned: Gauge = "autoreply_account_leases_open" by Desk;
    /// 1 while another process works with a copy of this desktop's journal.
    desk_cloned: Gauge = "autoreply_desk_cloned_info" by Desk;
    /// Records that could not be read and were put aside.
    dead_letters: Counter = "autoreply_dead_letters_total" by All;
    /// Records that stand in this worker's partitions and are not done.
    lag_records: By<GaugeVec, ConsumedTopic> = "autoreply_consumer_lag_records" by Worker;
    /// Time for which the oldest record of this worker's partitions that is not done has been waiting.
    lag_seconds: By<GaugeVec, ConsumedTopic> = "autoreply_consumer_lag_seconds" by Worker;
    /// Times the group gave this worker its partitions anew.
    rebalances: Counter = "autoreply_consumer_rebalances_total" by Worker;
    /// Spans that the collector has taken.
    spans_exported: Counter = "autoreply_spans_exported_total" by All;
    /// Spans that were lost: no room was left for them, or the collector refused them.
    spans_dropped: Counter = "autoreply_spans_dropped_total" by All;
    /// Free space on the disk of the data directory.
    disk_free: Gauge = "autoreply_disk_free_bytes" by All;
    /// Size of the disk of the data directory.
    disk_size: Gauge = "autoreply_disk_size_bytes" by All;
    /// 1 while this process is ready, as `/readyz` says it, else 0.
    health: Gauge = "autoreply_health_ok" by All;
    /// Always 1; the label says which version runs.
    build_info: By<GaugeVec, Build> = "autoreply_build_info" by All;
}

fn help(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    ///
    /// # Panics
    /// Never: the catalogue is constant, and registering it is tested.
    #[allow(clippy::expect_used, reason = "names, labels and buckets are constants that every test registers")]
    pub fn new() -> Self {
        let metrics = Self::register().expect("the catalogue is valid");
        metrics.build_info.of(Build).set(1.0);
        metrics
    }

    /// Also reports this process itself: processor time, memory, open files (`process_*`).
    pub fn with_process(self) -> Self {
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            if let Err(error) = self.registry.register(Box::new(process)) {
                tracing::debug!(%error, "the process is reported already");
            }
        }
        self
    }

    /// The text exposition format, version 0.0.4, for `/metrics`.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut bytes = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut bytes)?;
        String::from_utf8(bytes).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}
