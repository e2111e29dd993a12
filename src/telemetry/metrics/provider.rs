//! Metrics of the providers of replies. They have one label more than the others: the provider's name. The names come
//! from the settings, so that there are as many as somebody wrote down, and are made known at the start.

use std::marker::PhantomData;

use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry};

use super::{Label, Metric, Metrics, values};

const PROVIDER: &str = "provider";

label! {
    /// How a call to a provider failed.
    ProviderErrorKind = "kind" {
        /// It has no answer to this request.
        Declined = "declined",
        /// It fails until somebody changes something.
        Permanent = "permanent",
        /// It may pass by itself.
        Transient = "transient",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// No answer in time.
        Timeout = "timeout",
        /// Something that is no reply.
        Malformed = "malformed",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

label! {
    /// Which way tokens went.
    TokenDirection = "direction" {
        /// To the provider.
        Input = "input",
        /// From the provider.
        Output = "output",
    }
}

label! {
    /// Why a turn went on to the next provider.
    FallbackReason = "reason" {
        /// It is left alone after failures.
        Resting = "resting",
        /// All its calls at once are taken.
        Full = "full",
        /// No time was left for it.
        NoTime = "no_time",
        /// It has no answer to this request.
        Declined = "declined",
        /// It failed.
        Failed = "failed",
        /// Its reply did not pass validation.
        Rejected = "rejected",
    }
}

label! {
    /// Why a reply did not pass validation.
    RejectionReason = "reason" {
        /// Nothing is left of it.
        Empty = "empty",
        /// Over the most characters or bytes.
        TooLong = "too_long",
        /// It holds characters that are no text.
        Control = "control",
        /// A line starts with a slash.
        Command = "command",
        /// It looks as if it held a key or a password.
        Secret = "secret",
        /// It has a link that nobody wrote in the chat.
        ForeignLink = "foreign_link",
        /// It repeats the instructions.
        LeakedInstructions = "leaked_instructions",
    }
}

/// A metric for each provider.
#[derive(Debug, Clone)]
pub struct PerProvider<V>(V);

impl PerProvider<CounterVec> {
    /// The counter of this provider.
    pub fn of(&self, provider: &str) -> Counter {
        self.0.with_label_values(&[provider])
    }
}

impl PerProvider<GaugeVec> {
    /// The gauge of this provider.
    pub fn of(&self, provider: &str) -> Gauge {
        self.0.with_label_values(&[provider])
    }
}

impl PerProvider<HistogramVec> {
    /// The histogram of this provider.
    pub fn of(&self, provider: &str) -> Histogram {
        self.0.with_label_values(&[provider])
    }
}

/// A counter for each provider and each value of one label.
#[derive(Debug, Clone)]
pub struct PerProviderBy<L> {
    vector: CounterVec,
    label: PhantomData<fn() -> L>,
}

impl<L: Label> PerProviderBy<L> {
    /// The counter of this provider and value.
    pub fn of(&self, provider: &str, value: L) -> Counter {
        self.vector.with_label_values(&[provider, value.value()])
    }

    fn introduce(&self, provider: &str) {
        L::ALL.iter().for_each(|value| drop(self.of(provider, *value)));
    }
}

impl Metric for PerProvider<CounterVec> {
    const KIND: &'static str = "counter";
    const BY_PROVIDER: bool = true;
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let vector = CounterVec::new(Opts::new(name, help), &[PROVIDER])?;
        registry.register(Box::new(vector.clone())).map(|()| Self(vector))
    }
}

impl Metric for PerProvider<GaugeVec> {
    const KIND: &'static str = "gauge";
    const BY_PROVIDER: bool = true;
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let vector = GaugeVec::new(Opts::new(name, help), &[PROVIDER])?;
        registry.register(Box::new(vector.clone())).map(|()| Self(vector))
    }
}

impl Metric for PerProvider<HistogramVec> {
    const KIND: &'static str = "histogram";
    const BY_PROVIDER: bool = true;
    fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Self> {
        let vector = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[PROVIDER])?;
        registry.register(Box::new(vector.clone())).map(|()| Self(vector))
    }
}

impl<L: Label> Metric for PerProviderBy<L> {
    const KIND: &'static str = "counter";
    const BY_PROVIDER: bool = true;
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        values::<L>()
    }
    fn register(registry: &Registry, name: &str, help: &str, _: &[f64]) -> prometheus::Result<Self> {
        let vector = CounterVec::new(Opts::new(name, help), &[PROVIDER, L::NAME])?;
        registry.register(Box::new(vector.clone())).map(|()| Self { vector, label: PhantomData })
    }
}

impl Metrics {
    /// Makes the providers known: from now on their metrics are there, at zero.
    pub fn introduce_providers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            drop(self.provider_seconds.of(name));
            self.provider_calls.of(name).set(0.0);
            self.provider_breaker.of(name).set(0.0);
            self.provider_errors.introduce(name);
            self.provider_tokens.introduce(name);
            drop(self.provider_cost.of(name));
            self.provider_fallbacks.introduce(name);
            self.provider_rejections.introduce(name);
        }
    }
}
