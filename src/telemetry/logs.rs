//! Logs to standard error: for people, or one JSON object a line. They carry ids, never chat text. A line about a turn
//! names its trace, which has the turn's id.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

use super::{Format, Settings};
use crate::error::Problem;

/// Starts logging for the whole process; call it once, first.
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init(settings: &Settings) -> Result<(), Problem> {
    subscriber(settings, std::io::stderr)?
        .try_init()
        .map_err(|_| Problem::new("logging was started twice", "this process", "Report this as a bug"))
}

/// The subscriber of `settings` that writes to `writer`.
fn subscriber<W>(settings: &Settings, writer: W) -> Result<impl Subscriber + Send + Sync, Problem>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match settings.log_format {
        Format::Human => layer.boxed(),
        Format::Json => layer.event_format(JsonLines { traced: settings.is_traced() }).boxed(),
    };
    Ok(tracing_subscriber::registry().with(settings.filter()?).with(layer))
}

/// One JSON object a line: time, level, the fields as they were given, where it was said, and the trace of its turn.
struct JsonLines {
    traced: bool,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Line(Map::new());
        line.put("timestamp", time.into());
        line.put("level", event.metadata().level().as_str().into());
        event.record(&mut line);
        line.put("target", event.metadata().target().into());
        if self.traced
            && let Some(turn) = line.0.get("turn").and_then(Value::as_str).and_then(|turn| Uuid::parse_str(turn).ok())
        {
            line.put("trace_id", turn.simple().to_string().into());
        }
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

struct Line(Map<String, Value>);

impl Line {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod document_tests;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged_with(change: impl FnOnce(&mut Settings), log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        let mut settings: Settings = all["telemetry"].clone().try_into().unwrap();
        change(&mut settings);
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone()).unwrap(), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn logged(log_format: Format, filter: &str) -> String {
        let change = |settings: &mut Settings| {
            settings.log_format = log_format;
            settings.log_filter = filter.to_owned();
        };
        logged_with(change, || {
            tracing::info!(turn = "t-1", revision = 2, open = true, "a turn was published");
            tracing::debug!("a detail");
        })
    }

    #[test]
    fn json_lines_are_json_with_their_fields() {
        let text = logged(Format::Json, "info");
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["level"], &line["turn"]), (&"INFO".into(), &"t-1".into()));
        assert_eq!((&line["revision"], &line["open"]), (&2.into(), &true.into()));
        assert_eq!(line["message"], "a turn was published");
        assert_eq!(line["target"], "autoreply::telemetry::logs::tests");
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(line.get("trace_id"), None);
    }

    #[test]
    fn a_json_line_about_a_turn_names_its_trace_where_turns_are_traced() {
        let turn = Uuid::from_u128(0x1234_5678_9abc_5def_8123_4567_89ab_cdef);
        let line = |endpoint: &str| -> Value {
            let traced = |settings: &mut Settings| {
                settings.log_format = Format::Json;
                settings.otlp_endpoint = endpoint.to_owned();
            };
            let text = logged_with(traced, || tracing::info!(%turn, error = "it said \"no\"\nand left", "ended"));
            assert_eq!(text.lines().count(), 1, "{text}");
            serde_json::from_str(text.trim()).unwrap()
        };
        assert_eq!(line("http://127.0.0.1:4318")["trace_id"], "123456789abc5def8123456789abcdef");
        assert_eq!(line("http://127.0.0.1:4318")["error"], "it said \"no\"\nand left");
        assert_eq!(line("").get("trace_id"), None);
    }

    #[test]
    fn the_filter_decides() {
        assert!(logged(Format::Human, "debug").contains("a detail"));
        assert!(!logged(Format::Human, "info").contains("a detail"));
        assert_eq!(logged(Format::Human, "autoreply=warn"), "");
    }
}
