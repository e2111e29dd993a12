//! Spans of turns, sent to a collector over OTLP. A trace has the id of its turn, so that every process, and the same
//! process after a crash, goes on with the same one.
//!
//! A span holds numbers, ids, words of this program and names from the settings: an [`Attribute`] cannot be made of
//! anything else, so that chat text has no way in. Making a span never waits; one that finds no room is counted.

mod export;
mod otlp;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

pub use export::Endpoint;

use super::{Metrics, Settings};
use crate::clock::Clock;
use crate::error::Problem;
use export::Exporter;

/// A place in a trace, as it travels from process to process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl SpanContext {
    /// The trace.
    pub fn trace(self) -> u128 {
        self.trace
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The same place, recorded if `other` is.
    #[must_use]
    pub fn sampled_as(self, other: Self) -> Self {
        Self { sampled: other.sampled, ..self }
    }

    /// The place of this trace that `label` and `number` name: the same one wherever and whenever it is asked for.
    pub fn place(self, label: &'static str, number: u32) -> Self {
        Self { span: derived(self.trace, label, number), ..self }
    }
}

/// As a W3C `traceparent` of version 00.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent of version 00")]
pub struct NoTraceparent;

impl FromStr for SpanContext {
    type Err = NoTraceparent;

    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit()));
            part.ok_or(NoTraceparent)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NoTraceparent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| NoTraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTraceparent)?;
        if version != "00" || parts.next().is_some() || trace == 0 || span == 0 {
            return Err(NoTraceparent);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

fn derived(trace: u128, label: &str, number: u32) -> u64 {
    folded(Uuid::new_v5(&Uuid::from_u128(trace), format!("{label}/{number}").as_bytes()))
}

/// A span's id must not be zero, and a UUID's fixed bits must not make ids alike.
fn folded(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    (high ^ low).max(1)
}

/// Whether a trace belongs to the share `ratio`. Every process decides alike, and a greater share holds every trace of
/// a smaller one: the last seven bytes of the id are what is random in it.
fn belongs(trace: u128, ratio: f64) -> bool {
    // Of the 56 bits the upper 53, which is what a float holds exactly.
    const SPACE: u64 = 1 << 53;
    let drawn = u64::try_from((trace >> 3) & u128::from(SPACE - 1)).unwrap_or(0);
    (drawn as f64) < ratio * SPACE as f64
}

/// What a span is about, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step inside a process.
    Internal,
    /// A call that waits for another service.
    Client,
    /// A record that is handed over.
    Producer,
    /// A record that is taken.
    Consumer,
}

/// The value of an attribute; nothing that somebody wrote in a chat can become one.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A word of this program.
    Word(&'static str),
    /// Words of this program.
    Words(Vec<&'static str>),
    /// An id.
    Id(Uuid),
    /// A name from the settings: of a desktop, of a provider, of a topic.
    Name(String),
    /// A count.
    Count(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Attribute {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<Uuid> for Attribute {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<i64> for Attribute {
    fn from(count: i64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Attribute {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
struct Ended {
    context: SpanContext,
    parent: Option<SpanContext>,
    name: String,
    kind: Kind,
    begin: Timestamp,
    end: Timestamp,
    attributes: Vec<(&'static str, Attribute)>,
    links: Vec<SpanContext>,
    /// What went wrong, as a word.
    failed: Option<&'static str>,
}

/// Makes spans. Cheap to clone; the clones are one. Without an endpoint it makes none, and costs nothing.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    clock: Arc<dyn Clock>,
    ratio: f64,
    exporter: Exporter,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("on", &self.is_on()).finish()
    }
}

impl Traces {
    /// The traces of the settings, from this `role`; must be called on a runtime, which the sending goes on with.
    ///
    /// # Errors
    /// The endpoint cannot be used.
    pub fn start(
        settings: &Settings,
        role: &'static str,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Problem> {
        let Some(endpoint) = settings.endpoint()? else { return Ok(Self::default()) };
        let exporter = Exporter::start(endpoint, otlp::resource(settings, role), metrics);
        Ok(Self(Some(Arc::new(Recorder { clock, ratio: settings.trace_ratio, exporter }))))
    }

    /// Whether spans are made at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Where the trace of this id begins; the share of the settings decides whether it is recorded. `None` when spans
    /// are not made.
    pub fn root(&self, trace: Uuid) -> Option<SpanContext> {
        let recorder = self.0.as_ref()?;
        let trace = trace.as_u128();
        let sampled = belongs(trace, recorder.ratio);
        Some(SpanContext { trace, span: derived(trace, "root", 0), sampled })
    }

    /// A span beginning now, below `parent`.
    pub fn child(&self, name: impl Into<String>, kind: Kind, parent: Option<SpanContext>) -> Span {
        let own = parent.map(|parent| SpanContext { span: folded(Uuid::new_v4()), ..parent });
        self.begin(name, kind, own, parent)
    }

    /// A span beginning now that is the first of this trace here, because nobody said where it comes from.
    pub fn first(&self, name: impl Into<String>, kind: Kind, trace: Uuid) -> Span {
        let own = self.root(trace).map(|root| SpanContext { span: folded(Uuid::new_v4()), ..root });
        self.begin(name, kind, own, None)
    }

    /// A span beginning now that stands at `own`, a place that others derive too.
    pub fn at(
        &self,
        name: impl Into<String>,
        kind: Kind,
        own: Option<SpanContext>,
        parent: Option<SpanContext>,
    ) -> Span {
        self.begin(name, kind, own, parent)
    }

    /// A span beginning now for what several traces share: a trace of its own, recorded if one of them is.
    pub fn shared(&self, name: impl Into<String>, kind: Kind, among: &[SpanContext]) -> Span {
        let sampled = among.iter().any(|context| context.sampled);
        let (trace, span) = (Uuid::new_v4().as_u128(), folded(Uuid::new_v4()));
        let mut shared = self.begin(name, kind, Some(SpanContext { trace, span, sampled }), None);
        among.iter().filter(|context| context.sampled).for_each(|context| shared.link(*context));
        shared
    }

    fn begin(
        &self,
        name: impl Into<String>,
        kind: Kind,
        own: Option<SpanContext>,
        parent: Option<SpanContext>,
    ) -> Span {
        let recorded = self.0.as_ref().zip(own).filter(|(_, own)| own.sampled);
        let open = recorded.map(|(recorder, context)| {
            let begin = recorder.clock.now();
            let span = Ended {
                context,
                parent,
                name: name.into(),
                kind,
                begin,
                end: begin,
                attributes: Vec::new(),
                links: Vec::new(),
                failed: None,
            };
            (Arc::clone(recorder), Box::new(span))
        });
        // Where nothing is recorded the context is handed on as it came.
        let context = if open.is_some() { own } else { parent.or(own) };
        Span { context, open, end: None }
    }

    /// Sends what is left, but not for longer than `within`; spans that end later are lost.
    pub async fn finish(&self, within: Duration) {
        if let Some(recorder) = &self.0 {
            recorder.exporter.finish(within).await;
        }
    }
}

/// The most links of a span; what is over is not linked.
const LINKS_MAX: usize = 128;

/// A span that has not ended; it ends when it is dropped.
pub struct Span {
    context: Option<SpanContext>,
    open: Option<(Arc<Recorder>, Box<Ended>)>,
    end: Option<Timestamp>,
}

impl Span {
    /// Its place, to be handed on; `None` where there is no trace.
    pub fn context(&self) -> Option<SpanContext> {
        self.context
    }

    /// Whether anything that is set is kept.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Says something more about it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Attribute>) -> Self {
        self.set(key, value);
        self
    }

    /// As [`Self::with`].
    pub fn set(&mut self, key: &'static str, value: impl Into<Attribute>) {
        if let Some((_, span)) = &mut self.open {
            span.attributes.push((key, value.into()));
        }
    }

    /// Says something more if it is recorded; `value` is not made otherwise.
    #[must_use]
    pub fn with_name(mut self, key: &'static str, value: impl FnOnce() -> String) -> Self {
        if self.is_recorded() {
            self.set(key, Attribute::Name(value()));
        }
        self
    }

    /// Points to another place that it has to do with.
    pub fn link(&mut self, other: SpanContext) {
        if let Some((_, span)) = &mut self.open
            && span.links.len() < LINKS_MAX
        {
            span.links.push(other);
        }
    }

    /// It began earlier.
    #[must_use]
    pub fn since(mut self, begin: Timestamp) -> Self {
        if let Some((_, span)) = &mut self.open {
            span.begin = begin;
        }
        self
    }

    /// It began this long ago.
    #[must_use]
    pub fn took(self, took: Duration) -> Self {
        let Some(now) = self.open.as_ref().map(|(recorder, _)| recorder.clock.now()) else { return self };
        let begin = now.checked_sub(took).unwrap_or(now);
        self.since(begin)
    }

    /// It ended then, and not when it is dropped.
    pub fn until(mut self, end: Timestamp) {
        self.end = Some(end);
    }

    /// It went wrong; the word says how.
    pub fn fail(&mut self, word: &'static str) {
        if let Some((_, span)) = &mut self.open {
            span.failed = Some(word);
        }
    }

    /// It ends now.
    pub fn end(self) {}

    /// It was not worth a span after all.
    pub fn forget(mut self) {
        self.open = None;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some((recorder, mut span)) = self.open.take() else { return };
        let end = self.end.unwrap_or_else(|| recorder.clock.now());
        // A clock that was turned back makes no span that ends before it begins.
        span.end = end.max(span.begin);
        recorder.exporter.take(span);
    }
}
