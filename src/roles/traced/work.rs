//! The steps of a worker.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{About, place};
use crate::contract::{Command, TurnId};
use crate::generation::observer::{Ended, ErrorKind, Event, Observer};
use crate::generation::provider::model::Usage;
use crate::saga::{Draft, DraftRequest, GenerationError, Generator};
use crate::telemetry::Traces;
use crate::telemetry::traces::{Attribute, Kind, Span, SpanContext};

tokio::task_local! {
    /// The draft that this task is at: what is called for it stands below.
    static DRAFT: Drafted;
}

struct Drafted {
    place: SpanContext,
    turn: TurnId,
    /// What a server counted for the call that is about to end.
    usage: Cell<Option<Usage>>,
}

/// A generator whose drafts are spans, with the calls to models below them.
pub struct Drafting<G> {
    inner: G,
    traces: Traces,
}

impl<G> Drafting<G> {
    /// Traces the drafts of `inner`.
    pub fn new(inner: G, traces: Traces) -> Self {
        Self { inner, traces }
    }
}

#[async_trait]
impl<G: Generator> Generator for Drafting<G> {
    async fn draft(&self, request: &DraftRequest, deadline: Instant) -> Result<Draft, GenerationError> {
        let above = if self.traces.is_on() { place(request.traceparent.as_deref()) } else { None };
        let span = self.traces.child("draft", Kind::Internal, above);
        let Some(own) = span.context().filter(|_| span.is_recorded()) else {
            return self.inner.draft(request, deadline).await;
        };
        let mut span = span
            .with("autoreply.turn", request.turn.0)
            .with("autoreply.conversation", request.conversation.id.0)
            .with("autoreply.memory", i64::try_from(request.memory.len()).unwrap_or(0));
        let scope = Drafted { place: own, turn: request.turn, usage: Cell::new(None) };
        let drafted = DRAFT.scope(scope, self.inner.draft(request, deadline)).await;
        match &drafted {
            Ok(draft) => span.set("autoreply.provider", Attribute::Name(draft.provider.clone())),
            Err(GenerationError::Exhausted { .. }) => span.fail("exhausted"),
            Err(GenerationError::Deadline { .. }) => span.fail("deadline"),
        }
        drafted
    }
}

/// Makes a span of each call to a provider, and tells another observer everything.
pub struct TracedProviders {
    inner: Arc<dyn Observer>,
    traces: Traces,
}

impl TracedProviders {
    /// Told to `traces` and `inner`.
    pub fn new(inner: Arc<dyn Observer>, traces: Traces) -> Self {
        Self { inner, traces }
    }

    fn called(&self, drafted: &Drafted, provider: &str, took: Duration, how: Ended) {
        let span = self.traces.child("chat", Kind::Client, Some(drafted.place)).took(took);
        let mut span = span
            .with("autoreply.turn", drafted.turn.0)
            .with("gen_ai.operation.name", "chat")
            .with_name("gen_ai.provider.name", || provider.to_owned());
        if let Some(usage) = drafted.usage.take() {
            let count = |tokens| Attribute::Count(i64::try_from(tokens).unwrap_or(i64::MAX));
            span.set("gen_ai.usage.input_tokens", count(usage.input_tokens));
            span.set("gen_ai.usage.output_tokens", count(usage.output_tokens));
        }
        match how {
            Ended::Replied => {}
            Ended::Failed(kind) => span.fail(word(kind)),
            Ended::Abandoned => span.fail("abandoned"),
        }
    }
}

impl Observer for TracedProviders {
    fn observe(&self, provider: &str, event: Event) {
        self.inner.observe(provider, event);
        // Whoever calls a model for no draft of a trace is not traced.
        let _untraced = DRAFT.try_with(|drafted| match event {
            Event::Used { usage, .. } => drafted.usage.set(Some(usage)),
            Event::Ended { took, how } => self.called(drafted, provider, took, how),
            Event::Began | Event::Breaker(_) | Event::FellBack(_) | Event::Rejected(_) => {}
        });
    }
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Declined => "declined",
        ErrorKind::Permanent => "permanent",
        ErrorKind::Transient => "transient",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Malformed => "malformed",
        ErrorKind::Unknown => "unknown",
    }
}

/// What the span of a command is about; acknowledgements are not traced.
pub fn of_command(command: &Command) -> Option<About> {
    match command {
        Command::Send(send) => Some(send.into()),
        Command::Withdraw(asked) => {
            Some(About { turn: asked.turn, revision: asked.revision, conversation: Some(asked.conversation) })
        }
        Command::TurnRecorded(_) | Command::OutcomeRecorded(_) => None,
    }
}

/// The spans of a batch that is worked on; they end with it.
#[derive(Default)]
pub struct Processing(Vec<(usize, Span)>);

impl Processing {
    /// The record at `place` of the batch is worked on.
    pub fn begin(&mut self, place: usize, span: Span) {
        self.0.push((place, span));
    }

    /// The ledger will never take the record at `place`.
    pub fn refuse(&mut self, place: usize) {
        self.0.iter_mut().filter(|(known, _)| *known == place).for_each(|(_, span)| span.fail("refused"));
    }

    /// Nothing came of the batch: it comes again.
    pub fn put_back(&mut self) {
        self.0.iter_mut().for_each(|(_, span)| span.fail("put_back"));
    }
}

/// One of a group that was written to the ledger in one transaction.
pub struct Written<'a> {
    /// What it is about.
    pub about: About,
    /// Where its turn stands in its trace.
    pub traceparent: Option<&'a str>,
    /// What happened to it.
    pub events: Vec<&'static str>,
}

/// A group was written to the ledger, which took so long: a span for each of it below its own turn, and where there are
/// several one for the group, which points to all of them.
pub fn written<'a>(
    traces: &Traces,
    system: &'static str,
    name: &'static str,
    took: Duration,
    group: impl Iterator<Item = Written<'a>>,
) {
    if !traces.is_on() {
        return;
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut size = 0_i64;
    for one in group {
        size += 1;
        let span = traces.child(name, Kind::Client, place(one.traceparent)).took(took);
        if span.is_recorded() {
            spans.push(one.about.mark(span).with("autoreply.events", Attribute::Words(one.events)));
        }
    }
    let mark = |span: Span| span.with("db.system.name", system).with("db.operation.batch.size", size);
    if size > 1 {
        let places: Vec<SpanContext> = spans.iter().filter_map(Span::context).collect();
        mark(traces.shared(format!("{name} group"), Kind::Client, &places)).took(took).end();
    }
    spans.into_iter().for_each(|span| mark(span).end());
}
