//! Every metric there is, in one typed catalogue: its doc comment is its help text, its labels are enums, so that a
//! label can only have values somebody wrote down. Units are base units (seconds, bytes). `docs/METRICS.md` is
//! generated from it.

use std::fmt::Write as _;
use std::marker::PhantomData;

use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder,
};

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

mod provider;

pub use provider::{FallbackReason, PerProvider, PerProviderBy, ProviderErrorKind, RejectionReason, TokenDirection};

label! {
    /// The states of a reply that has not ended.
    SagaState = "state" {
        /// In the ledger.
        Recorded = "recorded",
        /// Its quota is reserved.
        QuotaReserved = "quota_reserved",
        /// It has a draft.
        Drafted = "drafted",
        /// A person has to approve it.
        AwaitingApproval = "awaiting_approval",
        /// Its command is in the outbox.
        Issued = "issued",
        /// Its command was asked back.
        Withdrawing = "withdrawing",
    }
}

label! {
    /// What became of a turn; `roles` says which effect of the contract is which.
    Outcome = "effect" {
        /// Shown in the right conversation.
        Confirmed = "confirmed",
        /// Entered, and no evidence found.
        Unverifiable = "unverifiable",
        /// Not typed: the window or the input was not as it must be.
        Refused = "refused",
        /// Something broke.
        Failed = "failed",
        /// Its time to live ended.
        Expired = "expired",
        /// Newer text made it stale.
        Superseded = "superseded",
        /// The person answered first.
        HumanReplied = "human_replied",
        /// Switched off.
        Off = "off",
        /// A cap was reached.
        Capped = "capped",
        /// The message was over the age limit.
        TooOld = "too_old",
        /// A person rejected the draft.
        Rejected = "rejected",
        /// Another desktop owns the account.
        NotOwner = "not_owner",
        /// A person has to look.
        NeedsAttention = "needs_attention",
    }
}

label! {
    /// Why an attempt to type was put back.
    PutBack = "cause" {
        /// It gave way: to the person, to other programs, to a stop.
        Busy = "busy",
        /// Something was wrong; it counts as a failed attempt.
        Fault = "fault",
    }
}

label! {
    /// The topics that a group consumes.
    ConsumedTopic = "topic" {
        /// Turns.
        Messages = "messages",
        /// What became of them.
        Outcomes = "outcomes",
        /// Hellos of desks.
        Desktops = "desktops",
    }
}

label! {
    /// What is written to the ledger, in groups.
    LedgerWrite = "operation" {
        /// Turns are recorded.
        Record = "record",
        /// Replies go a step on.
        Transition = "transition",
        /// Outcomes are applied.
        Outcome = "outcome",
        /// Commands are marked as published.
        Publish = "publish",
    }
}

label! {
    /// What a connection to the ledger does.
    Connection = "state" {
        /// Somebody works with it.
        InUse = "in_use",
        /// It waits for work.
        Idle = "idle",
    }
}

label! {
    /// How a desk does, as the ledger hears it.
    DeskState = "state" {
        /// It says hello as often as it said.
        Fresh = "fresh",
        /// It is silent and did not say that it stops.
        Silent = "silent",
        /// It said that it stops.
        Stopped = "stopped",
        /// Two processes work with its journal.
        Cloned = "cloned",
    }
}

/// A counter, gauge or histogram for each value of one label; all of them are there from the start, at zero.
#[derive(Debug, Clone)]
pub struct By<V, L> {
    vector: V,
    label: PhantomData<fn() -> L>,
}

impl<L: Label> By<CounterVec, L> {
    /// The counter of this value.
    pub fn of(&self, value: L) -> Counter {
        self.vector.with_label_values(&[value.value()])
    }
}

impl<L: Label> By<GaugeVec, L> {
    /// The gauge of this value.
    pub fn of(&self, value: L) -> Gauge {
        self.vector.with_label_values(&[value.value()])
    }
}

impl<L: Label> By<HistogramVec, L> {
    /// The histogram of this value.
    pub fn of(&self, value: L) -> Histogram {
        self.vector.with_label_values(&[value.value()])
    }
}

/// The bounds of what is done in groups.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// The bounds of what takes a person's seconds.
const SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The bounds of what happens at every look.
const FINE_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A metric that can be made from its name and help.
trait Metric: Sized {
    /// What Prometheus calls its type.
    const KIND: &'static str;
    /// Whether it also has the label `provider`, whose values come from the settings.
    const BY_PROVIDER: bool = false;
    /// Its label and the label's values, if it has one.
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        None
    }
    fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Self>;
}

fn values<L: Label>() -> Option<(&'static str, Vec<&'static str>)> {
    Some((L::NAME, L::ALL.iter().map(|value| value.value()).collect()))
}

impl Metric for Counter {
    const KIND: &'static str = "counter";
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let metric = Self::new(name, help)?;
        registry.register(Box::new(metric.clone())).map(|()| metric)
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let metric = Self::new(name, help)?;
        registry.register(Box::new(metric.clone())).map(|()| metric)
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";
    fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Self> {
        let metric = Self::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        registry.register(Box::new(metric.clone())).map(|()| metric)
    }
}

impl<L: Label> Metric for By<CounterVec, L> {
    const KIND: &'static str = "counter";
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        values::<L>()
    }
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let vector = CounterVec::new(Opts::new(name, help), &[L::NAME])?;
        registry.register(Box::new(vector.clone()))?;
        let by = Self { vector, label: PhantomData };
        L::ALL.iter().for_each(|value| drop(by.of(*value)));
        Ok(by)
    }
}

impl<L: Label> Metric for By<GaugeVec, L> {
    const KIND: &'static str = "gauge";
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        values::<L>()
    }
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let vector = GaugeVec::new(Opts::new(name, help), &[L::NAME])?;
        registry.register(Box::new(vector.clone()))?;
        let by = Self { vector, label: PhantomData };
        L::ALL.iter().for_each(|value| drop(by.of(*value)));
        Ok(by)
    }
}

impl<L: Label> Metric for By<HistogramVec, L> {
    const KIND: &'static str = "histogram";
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        values::<L>()
    }
    fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Self> {
        let vector = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[L::NAME])?;
        registry.register(Box::new(vector.clone()))?;
        let by = Self { vector, label: PhantomData };
        L::ALL.iter().for_each(|value| drop(by.of(*value)));
        Ok(by)
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The metric's name.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Its help text: the doc comment.
    pub help: String,
    /// Whether it has the label `provider`.
    pub by_provider: bool,
    /// Its label with every value, if it has one.
    pub labels: Option<(&'static str, Vec<&'static str>)>,
}

/// Declares [`Metrics`], its registration and its catalogue from one list.
macro_rules! catalogue {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $name:literal $([$buckets:expr])?;)+) => {
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
                    name: $name,
                    kind: <$type as Metric>::KIND,
                    help: help(&[$($help),+]),
                    by_provider: <$type as Metric>::BY_PROVIDER,
                    labels: <$type as Metric>::labels(),
                },)+]
            }
        }
    };
}

catalogue! {
    /// Chat messages that were seen for the first time.
    messages_detected: Counter = "autoreply_messages_detected_total";
    /// Turns, in any revision, that were handed to the worker.
    turns_published: Counter = "autoreply_turns_published_total";
    /// Turns that ended, by what became of them.
    replies: By<CounterVec, Outcome> = "autoreply_replies_total";
    /// Time from the beginning of a draft to its reply or to the end of the provider chain.
    generation: Histogram = "autoreply_generation_seconds" [SECONDS];
    /// Time of one call to a provider, until its end or until nobody waits for it any more.
    provider_seconds: PerProvider<HistogramVec> = "autoreply_provider_seconds" [SECONDS];
    /// Calls to a provider that are being made now.
    provider_calls: PerProvider<GaugeVec> = "autoreply_provider_calls_open";
    /// 1 while a provider is left alone after failures, else 0.
    provider_breaker: PerProvider<GaugeVec> = "autoreply_provider_breaker_open";
    /// Calls to a provider that failed, by kind.
    provider_errors: PerProviderBy<ProviderErrorKind> = "autoreply_provider_errors_total";
    /// Tokens that a provider counted, by direction.
    provider_tokens: PerProviderBy<TokenDirection> = "autoreply_provider_tokens_total";
    /// What these tokens cost by the prices of the settings, in the settings' currency.
    provider_cost: PerProvider<CounterVec> = "autoreply_provider_cost_total";
    /// Times a turn went on to the next provider, by reason.
    provider_fallbacks: PerProviderBy<FallbackReason> = "autoreply_provider_fallbacks_total";
    /// Replies of a provider that did not pass validation, by reason.
    provider_rejections: PerProviderBy<RejectionReason> = "autoreply_provider_rejections_total";
    /// Replies that have not ended, by state.
    sagas_open: By<GaugeVec, SagaState> = "autoreply_sagas_open";
    /// Time to write one group to the ledger, by what is written.
    ledger_write: By<HistogramVec, LedgerWrite> = "autoreply_ledger_write_seconds" [FINE_SECONDS];
    /// How many rows of a kind one group writes to the ledger.
    ledger_group: By<HistogramVec, LedgerWrite> = "autoreply_ledger_group_size" [SIZES];
    /// Connections of this process to the ledger's database, by what they do.
    ledger_connections: By<GaugeVec, Connection> = "autoreply_ledger_connections";
    /// Replies that the executor ended without pressing the submit key, by what became of them.
    executor_refusals: By<CounterVec, Outcome> = "autoreply_executor_refusals_total";
    /// Attempts to type a reply that were put back, by cause.
    executor_put_back: By<CounterVec, PutBack> = "autoreply_executor_put_back_total";
    /// Time between the last proof of the window and the submit key, which X11 leaves unguarded.
    submit_gap: Histogram = "autoreply_submit_gap_seconds" [FINE_SECONDS];
    /// Time for one look at a window: pixels, comparison, text, alignment.
    capture_look: Histogram = "autoreply_capture_look_seconds" [FINE_SECONDS];
    /// Time to recognise the text of the changed rows.
    ocr: Histogram = "autoreply_ocr_seconds" [FINE_SECONDS];
    /// Size of the journal's files on disk.
    journal: Gauge = "autoreply_journal_bytes";
    /// 1 while a Redis that was set is away and this worker keeps its own limits, otherwise 0.
    limits_local: Gauge = "autoreply_limits_local";
    /// Questions to Redis, about rates or memory, that this worker had to answer by itself.
    limits_fallbacks: Counter = "autoreply_limits_fallbacks_total";
    /// Desks that say hello, by how they do; one that is cloned counts only as that.
    desks: By<GaugeVec, DeskState> = "autoreply_desks_open";
    /// Accounts that this desktop answers for now.
    accounts_owned: Gauge = "autoreply_account_leases_open";
    /// 1 while another process works with a copy of this desktop's journal.
    desk_cloned: Gauge = "autoreply_desk_cloned_info";
    /// Records that could not be read and were put aside.
    dead_letters: Counter = "autoreply_dead_letters_total";
    /// Records that stand in this worker's partitions and are not done.
    lag_records: By<GaugeVec, ConsumedTopic> = "autoreply_consumer_lag_records";
    /// Time for which the oldest record of this worker's partitions that is not done has been waiting.
    lag_seconds: By<GaugeVec, ConsumedTopic> = "autoreply_consumer_lag_seconds";
    /// Times the group gave this worker its partitions anew.
    rebalances: Counter = "autoreply_consumer_rebalances_total";
    /// Spans that the collector has taken.
    spans_exported: Counter = "autoreply_spans_exported_total";
    /// Spans that were lost: no room was left for them, or the collector refused them.
    spans_dropped: Counter = "autoreply_spans_dropped_total";
    /// Always 1; the label says which version runs.
    build_info: By<GaugeVec, Build> = "autoreply_build_info";
}

/// The one version that runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build;

impl Label for Build {
    const NAME: &'static str = "version";
    const ALL: &'static [Self] = &[Self];
    fn value(self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
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

    /// `docs/METRICS.md`.
    pub fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\nEvery metric of every role, at `/metrics`. Generated from `src/telemetry/metrics.rs`, where \
             the doc comments are the help texts;\na test holds this file equal to it. Units are base units.\n\n\
             The values of `provider` are the names of the providers in the settings.\n\n\
             | name | kind | label | meaning |\n|---|---|---|---|\n",
        );
        for row in Self::catalogue() {
            let label = match &row.labels {
                // The version changes with every release, this file should not.
                Some(("version", _)) => "`version`".to_owned(),
                Some((name, values)) => format!("`{name}`: {}", values.join(", ")),
                None => String::new(),
            };
            let separator = if label.is_empty() { "" } else { "; " };
            let label = if row.by_provider { format!("`provider`{separator}{label}") } else { label };
            let _ = writeln!(text, "| `{}` | {} | {label} | {} |", row.name, row.kind, row.help);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_has_help_a_unit_and_a_name_of_its_own() {
        let rows = Metrics::catalogue();
        let names: HashSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len(), "names are unique");
        for Row { name, kind, help, labels, .. } in &rows {
            assert!(help.len() > 10 && help.ends_with('.'), "{name} has no sentence of help");
            assert!(
                name.strip_prefix("autoreply_")
                    .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            );
            let fits = match *kind {
                "counter" => name.ends_with("_total"),
                "histogram" => ["_seconds", "_bytes", "_size"].iter().any(|unit| name.ends_with(unit)),
                _ => ["_bytes", "_seconds", "_info", "_open", "_local", "_records", "_connections"]
                    .iter()
                    .any(|unit| name.ends_with(unit)),
            };
            assert!(fits, "{name} is a {kind} without its unit");
            if let Some((_, values)) = labels {
                assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
                assert!(!values.is_empty() && values.len() <= 20, "{name} has too many values");
            }
        }
    }

    #[test]
    fn every_metric_is_exposed_from_the_start_and_counts() {
        let metrics = Metrics::new();
        metrics.clone().replies.of(Outcome::Confirmed).inc();
        metrics.generation.observe(0.3);
        metrics.introduce_providers(["p"]);
        metrics.provider_tokens.of("p", TokenDirection::Output).inc_by(3.0);
        let text = metrics.with_process().render().unwrap();
        for row in Metrics::catalogue() {
            assert!(text.contains(&format!("# HELP {} {}\n", row.name, row.help)), "{}", row.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", row.name, row.kind)));
            for value in
                row.labels.iter().flat_map(|(label, values)| values.iter().map(move |v| format!("{label}=\"{v}\"")))
            {
                let part = if row.kind == "histogram" { "_count" } else { "" };
                let series = format!("{}{part}{{", row.name);
                let shown = text.lines().any(|line| line.starts_with(&series) && line.contains(&value));
                assert!(shown, "{} {value}", row.name);
            }
            let named = text.lines().any(|line| line.starts_with(row.name) && line.contains("provider=\"p\""));
            assert_eq!(named, row.by_provider, "{}", row.name);
        }
        assert!(text.contains("autoreply_provider_tokens_total{direction=\"output\",provider=\"p\"} 3\n"));
        assert!(text.contains("autoreply_replies_total{effect=\"confirmed\"} 1\n"));
        assert!(text.contains("autoreply_generation_seconds_bucket{le=\"0.5\"} 1\n"));
        assert!(text.contains("autoreply_generation_seconds_bucket{le=\"0.25\"} 0\n"));
        #[cfg(target_os = "linux")]
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[test]
    fn the_document_is_the_catalogue() {
        let written = include_str!("../../docs/METRICS.md");
        assert!(written == Metrics::document(), "docs/METRICS.md must be:\n{}", Metrics::document());
    }
}
