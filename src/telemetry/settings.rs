//! The section `[telemetry]`; each key is explained in `config.default.toml`.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::traces::Endpoint;
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The form of a log line.
    pub log_format: Format,
    /// What is logged, as directives: `info`, `warn,autoreply::saga=debug`.
    pub log_filter: String,
    /// Where spans go, as `http://host:4318`; empty means that none are made.
    pub otlp_endpoint: String,
    /// The share of turns that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// The name of the service in traces; empty means `autoreply-` and the role.
    pub service_name: String,
    /// The name of this process in traces; empty means the machine's name and the process's number.
    pub service_instance: String,
    /// The deployment in traces, as `production`; empty says nothing.
    pub deployment_environment: String,
}

impl Settings {
    /// Whether the values can be used.
    ///
    /// # Errors
    /// A filter or an address that cannot be read, or a share that is none.
    pub fn check(&self) -> Result<(), Problem> {
        self.filter()?;
        self.endpoint()?;
        if !(0.0..=1.0).contains(&self.trace_ratio) {
            return Err(Problem::new(
                format!("{} is no share of turns", self.trace_ratio),
                "telemetry.trace_ratio",
                "Write a number from 0 (none) to 1 (every turn)",
            ));
        }
        Ok(())
    }

    /// Whether turns are traced at all.
    pub fn is_traced(&self) -> bool {
        !self.otlp_endpoint.is_empty()
    }

    /// Where spans go; `None` when there are to be none.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, Problem> {
        self.is_traced().then(|| Endpoint::parse(&self.otlp_endpoint)).transpose()
    }

    pub(super) fn filter(&self) -> Result<EnvFilter, Problem> {
        // The keyboard library logs each key at its lower levels, and keys are chat text.
        let filter = format!("{},enigo=off", self.log_filter);
        EnvFilter::builder().parse(&filter).map_err(|error| {
            let remedy = "Write a level (error, warn, info, debug, trace), or module=level, separated by commas";
            Problem::new(format!("the filter cannot be read: {error}"), "telemetry.log_filter", remedy)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Settings {
        let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        all["telemetry"].clone().try_into().unwrap()
    }

    #[test]
    fn the_defaults_fit_and_trace_nothing() {
        assert_eq!(defaults().check(), Ok(()));
        assert!(!defaults().is_traced());
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_key() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = defaults();
            change(&mut settings);
            settings.check().map_err(|problem| problem.to_string())
        };
        for (refused, key) in [
            (with(|s| s.trace_ratio = 1.5), "telemetry.trace_ratio: "),
            (with(|s| s.trace_ratio = f64::NAN), "telemetry.trace_ratio: "),
            (with(|s| s.otlp_endpoint = "https://collector:4318".into()), "telemetry.otlp_endpoint: "),
            (with(|s| s.otlp_endpoint = "collector".into()), "telemetry.otlp_endpoint: "),
            (with(|s| s.log_filter = "autoreply=loud".into()), "telemetry.log_filter: "),
        ] {
            assert!(refused.as_ref().is_err_and(|said| said.starts_with(key)), "{refused:?} is not about {key}");
        }
        assert_eq!(with(|s| s.otlp_endpoint = "http://127.0.0.1:4318/".into()), Ok(()));
        assert_eq!(with(|s| s.otlp_endpoint = "http://[::1]:4318/prefix".into()), Ok(()));
    }
}
