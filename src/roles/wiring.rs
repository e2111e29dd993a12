//! What several roles join in the same way: the stream's ends, and records that cannot be read.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Mutex;

use super::{Context, traced};
use crate::clock::Clock;
#[cfg(feature = "worker")]
use crate::contract::Command;
use crate::contract::ControlRecord;
#[cfg(feature = "worker")]
use crate::contract::Notice;
use crate::contract::codec::{Codec, Envelope, Incoming, Source};
use crate::contract::wire::{WireRecord, topic};
#[cfg(feature = "desktop")]
use crate::contract::{DesktopHello, MessagesDetected, ReplyOutcome};
use crate::error::Problem;
use crate::retry::{self, Schedule};
use crate::stream::{self, Connection, Gate, GateLimits, NotDone, PasswordReference, Producer, Received, Verdict};
use crate::telemetry::Traces;
use crate::telemetry::traces::Span;
#[cfg(feature = "desktop")]
use crate::telemetry::traces::SpanContext;

/// How long a record that could not be buried is tried again before the batch is handed over again.
const BURIAL: Schedule = Schedule {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(2),
    give_up_after: Some(Duration::from_secs(20)),
};

/// Writes records to the stream, with this process named as their source.
#[derive(Clone)]
pub struct Outbound {
    codec: Codec,
    producer: Producer,
    #[cfg(feature = "worker")]
    acknowledging: Producer,
    source: Source,
    clock: Arc<dyn Clock>,
    traces: Traces,
}

impl Outbound {
    /// A writer for `source` on this connection.
    pub fn new(connection: &Connection, source: Source, clock: Arc<dyn Clock>) -> Self {
        let (codec, producer) = (connection.codec(), connection.producer());
        Self {
            codec,
            #[cfg(feature = "worker")]
            acknowledging: producer.clone(),
            producer,
            source,
            clock,
            traces: Traces::default(),
        }
    }

    /// The same, gathering acknowledgements: nobody waits for them, and a request for each would be two of the three
    /// that a turn costs its worker.
    ///
    /// # Errors
    /// The client that gathers cannot be made.
    #[cfg(feature = "worker")]
    pub fn gathering(self, connection: &Connection) -> Result<Self, Problem> {
        let acknowledging = connection.gathering_producer().map_err(|error| stream_problem(&error))?;
        Ok(Self { acknowledging, ..self })
    }

    /// The same, with a span for each turn, command and outcome that it hands over.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Where its spans go.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    fn envelope(&self) -> Envelope {
        Envelope { source: self.source.clone(), time: self.clock.now(), traceparent: None }
    }

    fn envelope_of(&self, span: &Span) -> Envelope {
        Envelope { traceparent: span.context().map(|place| place.to_string()), ..self.envelope() }
    }

    async fn send_in<E: std::fmt::Display>(&self, mut span: Span, record: Result<WireRecord, E>) -> Result<(), String> {
        let sent = self.send(record).await;
        if sent.is_err() {
            span.fail("not_taken");
        }
        sent
    }

    async fn send<E: std::fmt::Display>(&self, record: Result<WireRecord, E>) -> Result<(), String> {
        send_by(&self.producer, record).await
    }

    /// Publishes a turn, from this place in its trace.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    #[cfg(feature = "desktop")]
    pub async fn turn(&self, turn: &MessagesDetected, below: Option<SpanContext>) -> Result<(), String> {
        let span = traced::sending(&self.traces, topic::MESSAGES, turn.into(), below);
        let record = self.codec.encode_messages(turn, &self.envelope_of(&span));
        self.send_in(span, record).await
    }

    /// Publishes an outcome.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    #[cfg(feature = "desktop")]
    pub async fn outcome(&self, outcome: &ReplyOutcome) -> Result<(), String> {
        let below = traced::below_which_it_ended(&self.traces, outcome);
        let span = traced::sending(&self.traces, topic::OUTCOMES, outcome.into(), below);
        let record = self.codec.encode_outcome(outcome, &self.envelope_of(&span));
        self.send_in(span, record).await
    }

    /// Publishes a hello.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    #[cfg(feature = "desktop")]
    pub async fn hello(&self, hello: &DesktopHello) -> Result<(), String> {
        self.send(self.codec.encode_hello(hello, &self.envelope())).await
    }

    /// Publishes a notice.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    #[cfg(feature = "worker")]
    pub async fn notice(&self, notice: &Notice) -> Result<(), String> {
        self.send(self.codec.encode_notice(notice, &self.envelope())).await
    }

    /// Publishes a command, from this place in its turn's trace.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    #[cfg(feature = "worker")]
    pub async fn command(&self, command: &Command, traceparent: Option<&str>) -> Result<(), String> {
        let by = match command {
            Command::TurnRecorded(_) | Command::OutcomeRecorded(_) => &self.acknowledging,
            Command::Send(_) | Command::Withdraw(_) => &self.producer,
        };
        let Some((about, below)) = traced::of_command(command).zip(traced::place(traceparent)) else {
            return send_by(by, self.codec.encode_command(command, &self.envelope())).await;
        };
        let span = traced::sending(&self.traces, topic::COMMANDS, about, Some(below));
        let record = self.codec.encode_command(command, &self.envelope_of(&span));
        self.send_in(span, record).await
    }

    /// Publishes a control.
    ///
    /// # Errors
    /// Why the broker did not take it, as a sentence.
    pub async fn control(&self, control: &ControlRecord) -> Result<(), String> {
        self.send(self.codec.encode_control(control, &self.envelope())).await
    }

    /// Waits until everything that was published is with the broker.
    #[cfg(feature = "desktop")]
    pub async fn flush(&self, within: Duration) {
        if let Err(error) = self.producer.flush(within).await {
            tracing::warn!(%error, "records were still on their way at the end; they will be published again");
        }
    }
}

async fn send_by<E: std::fmt::Display>(producer: &Producer, record: Result<WireRecord, E>) -> Result<(), String> {
    let record = record.map_err(|error| error.to_string())?;
    producer.publish(record).await.map(|_| ()).map_err(|error| error.to_string())
}

/// Reads records off the stream; what cannot be read is kept as a dead letter, within limits.
pub struct Inbound {
    codec: Codec,
    producer: Producer,
    gate: Mutex<Gate>,
    metrics: Arc<crate::telemetry::Metrics>,
}

impl Inbound {
    /// A reader on this connection.
    pub fn new(connection: &Connection, metrics: Arc<crate::telemetry::Metrics>) -> Self {
        let gate = Mutex::new(Gate::new(GateLimits::default()));
        Self { codec: connection.codec(), producer: connection.producer(), gate, metrics }
    }

    /// The record, or `None` if it could not be read and lies with the dead letters now.
    ///
    /// # Errors
    /// Too many cannot be read, which looks like a bad release and not like bad records; or the dead letter could not
    /// be written, so that the record must come again.
    pub async fn read(&self, received: &Received) -> Result<Option<Incoming>, NotDone> {
        let decoded = self.decode(received);
        self.settle(received, decoded.as_ref().err().map(String::as_str)).await?;
        Ok(decoded.ok())
    }

    /// The record, or why it cannot be read; tell [`Inbound::settle`] when the rest of its batch is done.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn decode(&self, received: &Received) -> Result<Incoming, String> {
        self.codec.decode(&received.record).map_err(|error| error.to_string())
    }

    /// Counts a record, and keeps one that could not be read with the dead letters. Once for each record: a batch that
    /// comes again because a database is away must not count, or be kept, again.
    ///
    /// # Errors
    /// As [`Inbound::read`].
    pub async fn settle(&self, received: &Received, unread: Option<&str>) -> Result<(), NotDone> {
        let Some(why) = unread else {
            self.gate.lock().await.good();
            return Ok(());
        };
        let Verdict::Bury = self.gate.lock().await.bad() else {
            return Err(NotDone::Stop(format!("too many records cannot be read, the last because {why}")));
        };
        self.bury(received, why).await
    }

    /// Keeps a record as it came with the dead letters.
    ///
    /// # Errors
    /// It could not be written; the record must come again.
    pub async fn bury(&self, received: &Received, why: &str) -> Result<(), NotDone> {
        let letter = stream::bury(received, why, 1);
        retry::retry(BURIAL, || self.producer.publish(letter.clone()))
            .await
            .map_err(|error| NotDone::Retry(format!("a dead letter could not be written: {error}")))?;
        self.metrics.dead_letters.inc();
        let (partition, offset) = (received.partition, received.offset);
        tracing::warn!(topic = received.record.topic, partition, offset, why, "a record was put to the dead letters");
        Ok(())
    }
}

/// The way to the broker of the settings, with its password from where they say, and the settings.
///
/// # Errors
/// The `[stream]` section does not fit, the password is not where it says, or the broker's client does not start.
pub fn open_stream(context: &Context) -> Result<(Connection, stream::Settings), Problem> {
    let settings: stream::Settings = context.layers.section("stream")?;
    settings.check()?;
    let password = settings.password().map(|reference| password(context, reference)).transpose()?;
    let connection = Connection::open_with(&settings, password).map_err(|error| stream_problem(&error))?;
    Ok((connection, settings))
}

fn password(context: &Context, reference: PasswordReference) -> Result<SecretString, Problem> {
    match reference {
        PasswordReference::Environment(name) => {
            context.environment.get(&name).map(SecretString::from).ok_or_else(|| {
                let what = "the password for Kafka is not in the environment";
                Problem::new(
                    what,
                    format!("environment variable {name}"),
                    "Set it, or name another in sasl_password_env",
                )
            })
        }
        PasswordReference::File(path) => {
            std::fs::read_to_string(&path).map(|text| SecretString::from(text.trim())).map_err(|error| {
                let what = format!("the password for Kafka cannot be read ({error})");
                Problem::new(what, path, "Write the password into that file, readable by you alone")
            })
        }
    }
}

/// A stream error for the person who started the role.
pub fn stream_problem(error: &stream::StreamError) -> Problem {
    Problem::new(error.to_string(), "the stream", error.remedy)
}
