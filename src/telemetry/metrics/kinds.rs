//! What a metric can be: a counter, a gauge or a histogram, by itself or for each value of a label.

use std::marker::PhantomData;

use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry};

use super::Label;

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

/// What a metric is before it has a value: it can be made from its name and help.
pub(super) trait Metric: Sized {
    /// What Prometheus calls its type.
    const KIND: &'static str;
    /// Whether it also has the label `provider`, whose values come from the settings.
    const BY_PROVIDER: bool = false;
    /// Its label and the label's values, if it has one.
    fn labels() -> Option<(&'static str, Vec<&'static str>)> {
        None
    }
    /// Puts it into `registry`; `buckets` count for histograms alone.
    fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Self>;
}

/// The label's name and values.
pub(super) fn values<L: Label>() -> Option<(&'static str, Vec<&'static str>)> {
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
