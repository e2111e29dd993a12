//! Logs to standard error: for people, or one JSON object a line. They carry ids, never chat text.

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::Problem;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line for people.
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

/// The settings of this room; `config.default.toml` says what each key does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The form of a log line.
    pub log_format: Format,
    /// What is logged, as directives: `info`, `warn,autoreply::saga=debug`.
    pub log_filter: String,
}

impl Settings {
    /// Whether the values can be used.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub fn check(&self) -> Result<(), Problem> {
        self.filter().map(|_| ())
    }

    fn filter(&self) -> Result<EnvFilter, Problem> {
        // The keyboard library logs each key at its lower levels, and keys are chat text.
        let filter = format!("{},enigo=off", self.log_filter);
        EnvFilter::builder().parse(&filter).map_err(|error| {
            let remedy = "Write a level (error, warn, info, debug, trace), or module=level, separated by commas";
            Problem::new(format!("the filter cannot be read: {error}"), "telemetry.log_filter", remedy)
        })
    }
}

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
        Format::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(settings.filter()?).with(layer))
}

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

    fn logged(log_format: Format, filter: &str) -> String {
        let lines = Lines::default();
        let settings = Settings { log_format, log_filter: filter.into() };
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone()).unwrap(), || {
            tracing::info!(turn = "t-1", "a turn was published");
            tracing::debug!("a detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_json_with_their_fields() {
        let text = logged(Format::Json, "info");
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["level"], &line["turn"]), (&"INFO".into(), &"t-1".into()));
        assert_eq!(line["message"], "a turn was published");
    }

    #[test]
    fn the_filter_decides_and_a_bad_one_is_told() {
        assert!(logged(Format::Human, "debug").contains("a detail"));
        assert!(!logged(Format::Human, "info").contains("a detail"));
        assert_eq!(logged(Format::Human, "autoreply=warn"), "");
        let bad = Settings { log_format: Format::Human, log_filter: "autoreply=loud".into() };
        assert!(bad.check().unwrap_err().to_string().starts_with("telemetry.log_filter: "));
    }

    #[test]
    fn the_defaults_fit() {
        let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        let settings: Settings = all["telemetry"].clone().try_into().unwrap();
        assert_eq!(settings.check(), Ok(()));
    }
}
