//! `autoreply dead-letters`: looks at records that could not be read, sends them on their way again, or lays them down.

use std::time::Duration;

use serde::Serialize;

use super::wiring::open_stream;
use super::{Context, json, table};
use crate::error::Problem;
use crate::stream::{Letter, LetterError, LetterId, Letters, Received, Resolution};

/// How long the broker is given to hand over all dead letters.
const PATIENCE: Duration = Duration::from_secs(60);

fn letters(context: &Context) -> Result<Letters, Problem> {
    let (connection, settings) = open_stream(context)?;
    if settings.is_embedded() {
        return Err(Problem::new(
            "the dead letters of the embedded broker end with its process; they are told in its log",
            "stream.brokers",
            "Set it to your Kafka's addresses",
        ));
    }
    Ok(Letters::new(&connection, PATIENCE))
}

fn problem(error: &LetterError) -> Problem {
    Problem::new(error.to_string(), "the dead letters", "See `autoreply dead-letters list --all`")
}

/// The newest letters that nobody has dealt with, or all of them. No chat text.
///
/// # Errors
/// The broker is embedded, or does not answer; so for all functions here.
pub async fn list(context: &Context, all: bool, limit: usize) -> Result<String, Problem> {
    let found = letters(context)?.list(all, limit).await.map_err(|error| problem(&error.into()))?;
    if context.json {
        return Ok(json(&found));
    }
    if found.is_empty() {
        return Ok(if all { "There are no dead letters.\n" } else { "No dead letter is open.\n" }.to_owned());
    }
    let row = |letter: Letter| {
        let resolved = letter.resolved.map_or("", Resolution::as_str).to_owned();
        [letter.id.to_string(), time(letter.at_ms), letter.kind, letter.key, letter.from, letter.why, resolved]
    };
    let rows: Vec<_> = found.into_iter().map(row).collect();
    Ok(table(["ID", "WHEN", "TYPE", "KEY", "FROM", "WHY", "DEALT WITH"], &rows))
}

fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

/// A letter's headers and, if `text` asks for them, its body, which may be chat text.
#[derive(Serialize)]
struct Shown {
    id: LetterId,
    at: String,
    resolved: Option<Resolution>,
    headers: Vec<(String, String)>,
    bytes: usize,
    body: Option<String>,
}

/// One letter whole; its body only if `text` asks for it.
///
/// # Errors
/// There is none of this id.
pub async fn show(context: &Context, id: LetterId, text: bool) -> Result<String, Problem> {
    let (Received { record, timestamp_ms, .. }, resolved) =
        letters(context)?.find(id).await.map_err(|error| problem(&error))?;
    // A body that is no text is shown as well as it can be, and moves no terminal.
    let readable = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let shown = Shown {
        id,
        at: time(timestamp_ms),
        resolved,
        headers: record.headers.iter().map(|(name, value)| (readable(name.as_bytes()), readable(value))).collect(),
        bytes: record.payload.len(),
        body: text.then(|| readable(&record.payload)),
    };
    if context.json {
        return Ok(json(&shown));
    }
    let mut told = format!("{} of {}, {} bytes\n", shown.id, shown.at, shown.bytes);
    if let Some(resolution) = shown.resolved {
        told.push_str(&format!("dealt with: {}\n", resolution.as_str()));
    }
    shown.headers.iter().for_each(|(name, value)| told.push_str(&format!("  {name}: {value}\n")));
    if let Some(body) = shown.body {
        told.push_str(&format!("\n{body}\n"));
    }
    Ok(told)
}

/// Sends letters on their way again.
///
/// # Errors
/// The first that is unknown or dealt with; those before it are on their way.
pub async fn replay(context: &Context, ids: &[LetterId]) -> Result<String, Problem> {
    let (letters, mut done) = (letters(context)?, Vec::new());
    for id in ids {
        let home = letters.replay(*id, &context.user()).await.map_err(|error| problem(&error))?;
        done.push(Done { id: *id, resolved: Resolution::Replayed, topic: Some(home) });
    }
    Ok(tell(context, &done))
}

/// What became of a letter.
#[derive(Serialize)]
struct Done {
    id: LetterId,
    resolved: Resolution,
    /// Where it is on its way to.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
}

fn tell(context: &Context, done: &[Done]) -> String {
    if context.json {
        return json(&done);
    }
    let line = |Done { id, topic, .. }: &Done| match topic {
        Some(home) => format!("{id} is on its way to {home} again; a turn becomes a draft at most.\n"),
        None => format!("{id} is laid down.\n"),
    };
    done.iter().map(line).collect()
}

/// Marks letters as dealt with.
///
/// # Errors
/// The first that is unknown or dealt with already; those before it are marked.
pub async fn park(context: &Context, ids: &[LetterId]) -> Result<String, Problem> {
    let (letters, mut done) = (letters(context)?, Vec::new());
    for id in ids {
        letters.park(*id, &context.user()).await.map_err(|error| problem(&error))?;
        done.push(Done { id: *id, resolved: Resolution::Parked, topic: None });
    }
    Ok(tell(context, &done))
}
