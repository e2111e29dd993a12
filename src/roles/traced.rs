//! The steps of a turn as spans of one trace, from the changed pixel to the applied outcome. `docs/TRACES.md` has the
//! picture.
//!
//! A trace has the id of its turn. On the desk the places of its first and its executing span follow from the turn and
//! its revision, so that they need not be kept: a turn that is published again after a crash, and a reply that is typed
//! after one, find them again. Between processes a place travels in the header `traceparent`.

#[cfg(feature = "desktop")]
mod desk;
#[cfg(feature = "worker")]
mod work;

#[cfg(feature = "desktop")]
pub use desk::{TracedExecutor, accepting, below_which_it_ended, looked, waited};
#[cfg(feature = "worker")]
pub use work::{Drafting, Processing, TracedProviders, Written, of_command, written};

use crate::contract::wire::WireRecord;
use crate::contract::{ConversationId, MessagesDetected, ReplyOutcome, ReplySend, Revision, TurnId, codec};
use crate::stream::Received;
use crate::telemetry::Traces;
use crate::telemetry::traces::{Kind, Span, SpanContext};

/// Which turn a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The turn.
    pub turn: TurnId,
    /// Its revision.
    pub revision: Revision,
    /// The conversation, where it is known.
    pub conversation: Option<ConversationId>,
}

impl From<&MessagesDetected> for About {
    fn from(detected: &MessagesDetected) -> Self {
        Self { turn: detected.turn, revision: detected.revision, conversation: Some(detected.conversation.id) }
    }
}

impl From<&ReplySend> for About {
    fn from(send: &ReplySend) -> Self {
        Self { turn: send.turn, revision: send.revision, conversation: Some(send.conversation) }
    }
}

impl From<&ReplyOutcome> for About {
    fn from(outcome: &ReplyOutcome) -> Self {
        Self { turn: outcome.turn, revision: outcome.revision, conversation: Some(outcome.conversation) }
    }
}

impl About {
    /// Says so.
    pub fn mark(self, span: Span) -> Span {
        let span = span.with("autoreply.turn", self.turn.0).with("autoreply.revision", self.revision.0);
        match self.conversation {
            Some(conversation) => span.with("autoreply.conversation", conversation.0),
            None => span,
        }
    }
}

/// The place that a `traceparent` names.
pub fn place(traceparent: Option<&str>) -> Option<SpanContext> {
    traceparent.and_then(|text| text.parse().ok())
}

/// The place from which this record comes, if it is one of its turn's trace: another trace is not continued.
fn origin(record: &WireRecord, turn: TurnId) -> Option<SpanContext> {
    place(codec::traceparent(record)).filter(|origin| origin.trace() == turn.0.as_u128())
}

/// The span of handing a record to the stream; its place goes into the record's header.
pub fn sending(traces: &Traces, topic: &'static str, about: About, below: Option<SpanContext>) -> Span {
    let span = traces.child(format!("send {topic}"), Kind::Producer, below);
    about.mark(messaging(span, topic, "send"))
}

/// The span of working on a record of this turn that came off the stream.
#[cfg(feature = "worker")]
pub fn processing(traces: &Traces, received: &Received, topic: &'static str, about: About) -> Span {
    let name = format!("process {topic}");
    let span = match origin(&received.record, about.turn) {
        Some(origin) => traces.child(name, Kind::Consumer, Some(origin)),
        None => traces.first(name, Kind::Consumer, about.turn.0),
    };
    received_as(about.mark(messaging(span, topic, "process")), received)
}

fn messaging(span: Span, topic: &'static str, operation: &'static str) -> Span {
    span.with("messaging.system", "kafka")
        .with("messaging.operation.name", operation)
        .with("messaging.operation.type", operation)
        .with("messaging.destination.name", topic)
}

fn received_as(span: Span, received: &Received) -> Span {
    span.with_name("messaging.destination.partition.id", || received.partition.to_string())
        .with("messaging.kafka.offset", received.offset)
}
