//! Records to bytes and back: JSON bodies with CloudEvents 1.0 headers (Kafka protocol binding, binary mode) and a
//! W3C `traceparent`. The only place that knows how a record looks on the wire.

mod auth;
mod check;
mod error;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use auth::{AuthKey, MAC_HEADER};
pub use check::{MAX_LINES, MAX_NAME_BYTES, MAX_TEXT_BYTES};
pub use error::{DecodeError, EncodeError, Fault};

use super::wire::{WireRecord, topic};
use super::{
    Command, ControlRecord, DesktopId, MessagesDetected, Mode, OutcomeRecorded, ReplyOutcome, ReplySend, ReplyWithdraw,
    TurnRecorded,
};

/// The most bytes of key, headers and body together; what is larger is neither written nor read. It lies under the
/// 1,000,000 that brokers and clients take by default.
pub const MAX_RECORD_BYTES: usize = 900_000;

/// The header of a record that a person sent on its way again. A turn that carries it is answered with a draft at most:
/// newer turns of its conversation may have been answered meanwhile, and none is overtaken.
pub const REPLAYED_HEADER: &str = "autoreply-replayed";

/// The types of records, with the topic each belongs to.
const TYPES: [(&str, &str); 7] = [
    ("messages.detected.v1", topic::MESSAGES),
    ("reply.send.v1", topic::COMMANDS),
    ("reply.withdraw.v1", topic::COMMANDS),
    ("turn.recorded.v1", topic::COMMANDS),
    ("outcome.recorded.v1", topic::COMMANDS),
    ("reply.outcome.v1", topic::OUTCOMES),
    ("control.set.v1", topic::CONTROLS),
];

/// Who writes a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A desktop.
    Desktop(DesktopId),
    /// A worker, by the name of its process.
    Worker(String),
    /// A person at the command line or the admin API, by the name of the machine.
    Control(String),
}

impl fmt::Display for Source {
    /// A URI reference, as CloudEvents wants it; what may not stand in one becomes `_`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Desktop(id) => ("desktop", id.as_str()),
            Self::Worker(name) => ("worker", name.as_str()),
            Self::Control(name) => ("control", name.as_str()),
        };
        write!(f, "/autoreply/{kind}/")?;
        name.chars().try_for_each(|c| {
            let plain = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            write!(f, "{}", if plain { c } else { '_' })
        })
    }
}

/// What a record says about itself beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who writes it.
    pub source: Source,
    /// When it is written, on the writer's clock.
    pub time: Timestamp,
    /// The W3C trace it belongs to; a value of another form is left out.
    pub traceparent: Option<String>,
}

/// Every record that travels, whichever way.
#[derive(Debug, Clone, PartialEq)]
enum Record {
    Messages(MessagesDetected),
    Send(ReplySend),
    Withdraw(ReplyWithdraw),
    TurnRecorded(TurnRecorded),
    OutcomeRecorded(OutcomeRecorded),
    Outcome(ReplyOutcome),
    Control(ControlRecord),
}

/// A record that was read, by topic.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// From `autoreply.messages`.
    Messages(MessagesDetected),
    /// From `autoreply.commands`.
    Command(Command),
    /// From `autoreply.outcomes`.
    Outcome(ReplyOutcome),
    /// From `autoreply.controls`.
    Control(ControlRecord),
}

/// The codec. With a key it signs what it writes and takes only what is signed.
#[derive(Debug, Clone, Default)]
pub struct Codec {
    auth: Option<AuthKey>,
}

impl Codec {
    /// A codec that signs and checks with `auth`, or does neither.
    pub fn new(auth: Option<AuthKey>) -> Self {
        Self { auth }
    }

    /// `messages.detected.v1`, keyed by conversation.
    ///
    /// # Errors
    /// When a field is out of range or the record too large: no reader would take it.
    pub fn encode_messages(&self, detected: &MessagesDetected, envelope: &Envelope) -> Result<WireRecord, EncodeError> {
        self.encode(&Record::Messages(detected.clone()), envelope)
    }

    /// A command or an acknowledgement, keyed by desktop.
    ///
    /// # Errors
    /// As [`Codec::encode_messages`].
    pub fn encode_command(&self, command: &Command, envelope: &Envelope) -> Result<WireRecord, EncodeError> {
        let record = match command.clone() {
            Command::Send(send) => Record::Send(send),
            Command::Withdraw(withdraw) => Record::Withdraw(withdraw),
            Command::TurnRecorded(recorded) => Record::TurnRecorded(recorded),
            Command::OutcomeRecorded(recorded) => Record::OutcomeRecorded(recorded),
        };
        self.encode(&record, envelope)
    }

    /// `reply.outcome.v1`, keyed by conversation.
    ///
    /// # Errors
    /// As [`Codec::encode_messages`].
    pub fn encode_outcome(&self, outcome: &ReplyOutcome, envelope: &Envelope) -> Result<WireRecord, EncodeError> {
        self.encode(&Record::Outcome(outcome.clone()), envelope)
    }

    /// `control.set.v1`, keyed by scope.
    ///
    /// # Errors
    /// As [`Codec::encode_messages`].
    pub fn encode_control(&self, control: &ControlRecord, envelope: &Envelope) -> Result<WireRecord, EncodeError> {
        self.encode(&Record::Control(control.clone()), envelope)
    }

    fn encode(&self, record: &Record, envelope: &Envelope) -> Result<WireRecord, EncodeError> {
        let ce_type = record.ce_type();
        let refuse = |fault| EncodeError { ce_type, fault };
        check::check(record).map_err(refuse)?;
        let payload =
            record.to_json().map_err(|error| refuse(Fault::NotJson { line: error.line(), column: error.column() }))?;
        let mut wire = WireRecord {
            topic: record.topic().to_owned(),
            key: record.key().into_bytes(),
            headers: headers(record, envelope),
            payload,
        };
        if let Some(key) = &self.auth {
            key.sign(&mut wire);
        }
        check_size(&wire).map_err(refuse)?;
        Ok(wire)
    }

    /// Reads a record. Unknown fields and headers are ignored.
    ///
    /// # Errors
    /// A sentence that names the topic and the place in the record, and holds nothing of its text.
    pub fn decode(&self, wire: &WireRecord) -> Result<Incoming, DecodeError> {
        self.decode_record(wire)
            .map(Incoming::from)
            .map_err(|fault| DecodeError { topic: wire.topic.chars().take(100).collect(), fault })
    }

    fn decode_record(&self, wire: &WireRecord) -> Result<Record, Fault> {
        if !TYPES.iter().any(|(_, topic)| *topic == wire.topic) {
            return Err(Fault::UnknownTopic);
        }
        check_size(wire)?;
        if self.auth.as_ref().is_some_and(|key| !key.accepts(wire)) {
            return Err(Fault::NotAuthentic);
        }
        let ce_type = check_headers(wire)?;
        let body = std::str::from_utf8(&wire.payload).map_err(|error| Fault::NotUtf8 { at: error.valid_up_to() })?;
        let mut record = Record::from_json(ce_type, body)?;
        check::check(&record)?;
        if wire.key != record.key().into_bytes() {
            return Err(Fault::WrongKey { expected: record.key_name() });
        }
        if let Record::Messages(detected) = &mut record
            && wire.headers.iter().any(|(name, _)| name == REPLAYED_HEADER)
        {
            detected.mode = detected.mode.min(Mode::Draft);
        }
        Ok(record)
    }
}

/// The W3C `traceparent` of a record, if it carries one of the right form.
pub fn traceparent(wire: &WireRecord) -> Option<&str> {
    wire.header("traceparent").filter(|value| is_traceparent(value))
}

/// Whether `value` has the form of version 00: `00-<32 hex>-<16 hex>-<2 hex>`, ids not all zero.
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return false };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    *version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && !zero(trace) && !zero(span)
}

fn headers(record: &Record, envelope: &Envelope) -> Vec<(String, Vec<u8>)> {
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", record.ce_id()),
        ("ce_type", record.ce_type().to_owned()),
        ("ce_source", envelope.source.to_string()),
        ("ce_time", envelope.time.to_string()),
        ("ce_subject", record.subject()),
        ("content-type", "application/json".to_owned()),
    ];
    if let Some(parent) = envelope.traceparent.as_deref().filter(|value| is_traceparent(value)) {
        headers.push(("traceparent", parent.to_owned()));
    }
    headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect()
}

fn check_size(wire: &WireRecord) -> Result<(), Fault> {
    let headers: usize = wire.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = wire.key.len() + headers + wire.payload.len();
    if bytes > MAX_RECORD_BYTES {
        return Err(Fault::TooLarge { bytes, limit: MAX_RECORD_BYTES });
    }
    Ok(())
}

/// Checks the CloudEvents headers and gives the record's type, as this program spells it.
fn check_headers(wire: &WireRecord) -> Result<&'static str, Fault> {
    let need = |name: &'static str| wire.header(name).ok_or(Fault::MissingHeader { name });
    if need("ce_specversion")? != "1.0" {
        return Err(Fault::BadHeader { name: "ce_specversion", expected: "1.0" });
    }
    for name in ["ce_id", "ce_source"] {
        if need(name)?.is_empty() {
            return Err(Fault::BadHeader { name, expected: "a text that is not empty" });
        }
    }
    if need("ce_time")?.parse::<Timestamp>().is_err() {
        return Err(Fault::BadHeader { name: "ce_time", expected: "a time of RFC 3339" });
    }
    if need("content-type")?.split(';').next().is_none_or(|kind| kind.trim() != "application/json") {
        return Err(Fault::BadHeader { name: "content-type", expected: "application/json" });
    }
    let (ce_type, home) = known_type(need("ce_type")?)?;
    if home != wire.topic {
        return Err(Fault::WrongTopic { ce_type });
    }
    Ok(ce_type)
}

fn known_type(found: &str) -> Result<(&'static str, &'static str), Fault> {
    if let Some(known) = TYPES.into_iter().find(|(ce_type, _)| *ce_type == found) {
        return Ok(known);
    }
    let (base, version) = split_version(found).ok_or(Fault::UnknownType)?;
    match TYPES
        .into_iter()
        .find_map(|(ce_type, _)| split_version(ce_type).filter(|known| known.0 == base).zip(Some(ce_type)))
    {
        Some(((_, known), ce_type)) if version > known => Err(Fault::NewerVersion { known: ce_type, found: version }),
        _ => Err(Fault::UnknownType),
    }
}

/// `reply.send.v1` as `("reply.send", 1)`.
fn split_version(ce_type: &str) -> Option<(&str, u32)> {
    let (base, version) = ce_type.rsplit_once(".v")?;
    Some((base, version.parse().ok()?))
}

/// Reads a body, keeping from an error only what cannot hold text: a path of schema names, or a line and a column.
fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_str(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let inner = error.inner();
        // Only a data error lies in a field of the schema; the path of a syntax error may hold a stranger's names.
        if inner.is_data() {
            Fault::WrongShape { path: error.path().to_string() }
        } else {
            Fault::NotJson { line: inner.line(), column: inner.column() }
        }
    })?;
    json.end().map_err(|error| Fault::NotJson { line: error.line(), column: error.column() })?;
    Ok(value)
}

impl Record {
    fn ce_type(&self) -> &'static str {
        match self {
            Self::Messages(_) => TYPES[0].0,
            Self::Send(_) => TYPES[1].0,
            Self::Withdraw(_) => TYPES[2].0,
            Self::TurnRecorded(_) => TYPES[3].0,
            Self::OutcomeRecorded(_) => TYPES[4].0,
            Self::Outcome(_) => TYPES[5].0,
            Self::Control(_) => TYPES[6].0,
        }
    }

    fn topic(&self) -> &'static str {
        match self {
            Self::Messages(_) => topic::MESSAGES,
            Self::Send(_) | Self::Withdraw(_) | Self::TurnRecorded(_) | Self::OutcomeRecorded(_) => topic::COMMANDS,
            Self::Outcome(_) => topic::OUTCOMES,
            Self::Control(_) => topic::CONTROLS,
        }
    }

    /// The key, which decides the order: conversation, desktop or scope.
    fn key(&self) -> String {
        match self {
            Self::Messages(record) => record.conversation.id.to_string(),
            Self::Send(record) => record.desktop.to_string(),
            Self::Withdraw(record) => record.desktop.to_string(),
            Self::TurnRecorded(record) => record.desktop.to_string(),
            Self::OutcomeRecorded(record) => record.desktop.to_string(),
            Self::Outcome(record) => record.conversation.to_string(),
            Self::Control(record) => record.scope.to_string(),
        }
    }

    fn key_name(&self) -> &'static str {
        match self.topic() {
            topic::COMMANDS => "the desktop of its body",
            topic::CONTROLS => "the scope of its body",
            _ => "the conversation id of its body",
        }
    }

    /// The turn, or the scope of a control.
    fn subject(&self) -> String {
        match self {
            Self::Messages(record) => record.turn.to_string(),
            Self::Send(record) => record.turn.to_string(),
            Self::Withdraw(record) => record.turn.to_string(),
            Self::TurnRecorded(record) => record.turn.to_string(),
            Self::OutcomeRecorded(record) => record.turn.to_string(),
            Self::Outcome(record) => record.turn.to_string(),
            Self::Control(record) => record.scope.to_string(),
        }
    }

    /// The same for the same fact, however often it is published.
    fn ce_id(&self) -> String {
        let place = match self {
            Self::Messages(record) => record.revision.to_string(),
            Self::Send(record) => record.revision.to_string(),
            Self::Withdraw(record) => record.revision.to_string(),
            Self::TurnRecorded(record) => record.revision.to_string(),
            Self::OutcomeRecorded(record) => record.revision.to_string(),
            // An effect may be corrected by evidence: that is another fact.
            Self::Outcome(record) => format!("{}/{}", record.revision, record.effect),
            Self::Control(record) => record.version.to_string(),
        };
        format!("{}/{}/{place}", self.ce_type(), self.subject())
    }

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        fn write(body: &impl Serialize) -> serde_json::Result<Vec<u8>> {
            serde_json::to_vec(body)
        }
        match self {
            Self::Messages(record) => write(record),
            Self::Send(record) => write(record),
            Self::Withdraw(record) => write(record),
            Self::TurnRecorded(record) => write(record),
            Self::OutcomeRecorded(record) => write(record),
            Self::Outcome(record) => write(record),
            Self::Control(record) => write(record),
        }
    }

    fn from_json(ce_type: &str, body: &str) -> Result<Self, Fault> {
        match ce_type {
            "messages.detected.v1" => parse(body).map(Self::Messages),
            "reply.send.v1" => parse(body).map(Self::Send),
            "reply.withdraw.v1" => parse(body).map(Self::Withdraw),
            "turn.recorded.v1" => parse(body).map(Self::TurnRecorded),
            "outcome.recorded.v1" => parse(body).map(Self::OutcomeRecorded),
            "reply.outcome.v1" => parse(body).map(Self::Outcome),
            "control.set.v1" => parse(body).map(Self::Control),
            _ => Err(Fault::UnknownType),
        }
    }
}

impl From<Record> for Incoming {
    fn from(record: Record) -> Self {
        match record {
            Record::Messages(record) => Self::Messages(record),
            Record::Send(record) => Self::Command(Command::Send(record)),
            Record::Withdraw(record) => Self::Command(Command::Withdraw(record)),
            Record::TurnRecorded(record) => Self::Command(Command::TurnRecorded(record)),
            Record::OutcomeRecorded(record) => Self::Command(Command::OutcomeRecorded(record)),
            Record::Outcome(record) => Self::Outcome(record),
            Record::Control(record) => Self::Control(record),
        }
    }
}
