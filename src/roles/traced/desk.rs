//! The steps on a desk.

use std::time::Duration;

use super::{About, messaging, origin, received_as};
use crate::contract::wire::topic;
use crate::contract::{ConversationId, Effect, MessagesDetected, ReplyOutcome, ReplySend, Revision, Timings};
use crate::execution::ports::{Attempted, Observer, Stage};
use crate::journal::{Grown, SendOrder};
use crate::stream::Received;
use crate::telemetry::Traces;
use crate::telemetry::traces::{Kind, Span, SpanContext};

/// A command is taken into the journal; what is typed for it stands below.
const ACCEPTED: &str = "accepted";
/// A reply is executed to its end; its outcome stands below.
const EXECUTED: &str = "executed";

/// A look, from the changed pixels to the journal, that opened a turn or made it longer. The one that opened it is the
/// trace's first span.
pub fn looked(traces: &Traces, conversation: ConversationId, grown: Grown, took: Duration) {
    let root = traces.root(grown.turn.0);
    let span = if grown.revision == Revision::FIRST {
        traces.at("look", Kind::Internal, root, None)
    } else {
        traces.child("look", Kind::Internal, root)
    };
    About { turn: grown.turn, revision: grown.revision, conversation: Some(conversation) }.mark(span).took(took).end();
}

/// A turn waited in the journal until its conversation was quiet; the place below which it is published.
pub fn waited(traces: &Traces, turn: &MessagesDetected) -> Option<SpanContext> {
    let span = traces.child("wait for quiet", Kind::Internal, traces.root(turn.turn.0)).since(turn.detected_at);
    let span = About::from(turn).mark(span).with("autoreply.messages", i64::try_from(turn.messages.len()).unwrap_or(0));
    span.context()
}

/// Where the span of an outcome stands: below what the executor did, if it did anything.
pub fn below_which_it_ended(traces: &Traces, outcome: &ReplyOutcome) -> Option<SpanContext> {
    let root = traces.root(outcome.turn.0)?;
    let executed = outcome.timings.typed_at.is_some() || outcome.evidence.is_some();
    Some(if executed { root.place(EXECUTED, outcome.revision.0) } else { root })
}

/// The span of taking a command into the journal. Whether the command was known is known only afterwards: the span of
/// one that was is not kept, because it has been made before.
pub fn accepting(traces: &Traces, received: &Received, send: &ReplySend) -> Span {
    let about = About::from(send);
    let root = traces.root(send.turn.0);
    // The desk that saw the first pixel has decided whether the trace is recorded; the worker went by its word.
    let above = origin(&received.record, send.turn).zip(root).map(|(origin, root)| origin.sampled_as(root)).or(root);
    let own = root.map(|root| root.place(ACCEPTED, send.revision.0));
    let span = traces.at(format!("process {}", topic::COMMANDS), Kind::Consumer, own, above);
    received_as(about.mark(messaging(span, topic::COMMANDS, "process")), received)
}

/// Makes spans of what the executor did, and tells another observer the rest.
pub struct TracedExecutor<O> {
    inner: O,
    traces: Traces,
}

impl<O> TracedExecutor<O> {
    /// Told to `traces` and `inner`.
    pub fn new(inner: O, traces: Traces) -> Self {
        Self { inner, traces }
    }

    fn typed(&self, about: About, below: Option<SpanContext>, attempt: &Attempted) {
        let Timings { typed_at, submitted_at, shown_at, .. } = attempt.timings;
        // The times of an earlier attempt were told with it.
        let Some(typed_at) = typed_at.filter(|at| *at >= attempt.began_at) else { return };
        let typing = about.mark(self.traces.child("type", Kind::Internal, below)).since(typed_at);
        let Some(submitted_at) = submitted_at else { return typing.end() };
        typing.until(submitted_at);
        let verifying = about.mark(self.traces.child("verify", Kind::Internal, below)).since(submitted_at);
        verifying.with("autoreply.shown", shown_at.is_some()).end();
    }
}

impl<O: Observer> Observer for TracedExecutor<O> {
    fn on_stage(&self, stage: Stage, took: Duration) {
        self.inner.on_stage(stage, took);
    }

    fn on_submit_gap(&self, gap: Duration) {
        self.inner.on_submit_gap(gap);
    }

    fn on_end(&self, effect: Effect, entered: bool) {
        self.inner.on_end(effect, entered);
    }

    fn on_attempt(&self, order: &SendOrder, attempt: &Attempted) {
        self.inner.on_attempt(order, attempt);
        let send = &order.send;
        let Some(root) = self.traces.root(send.turn.0) else { return };
        let about = About::from(send);
        let above = root.place(ACCEPTED, send.revision.0);
        let span = if attempt.effect.is_some() {
            self.traces.at("execute", Kind::Internal, Some(root.place(EXECUTED, send.revision.0)), Some(above))
        } else {
            self.traces.child("execute", Kind::Internal, Some(above))
        };
        let mut span = about.mark(span).since(attempt.began_at);
        span.set("autoreply.effect", attempt.effect.map_or("put_back", Effect::as_str));
        self.typed(about, span.context(), attempt);
    }

    fn on_abandon(&self, fault: bool) {
        self.inner.on_abandon(fault);
    }
}
