//! The catalogue, written down: `docs/METRICS.md`, and the rows for `autoreply metrics`.

use std::fmt::Write as _;

use super::Metrics;

/// Which processes count a metric. All of them show it; where it is not counted it stays at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitter {
    /// Where windows are read and replies typed.
    Desk,
    /// Where replies are written.
    Worker,
    /// Everywhere.
    All,
}

impl Emitter {
    /// The roles, as they are called at the command line.
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Desk => &["desktop", "run"],
            Self::Worker => &["worker", "run"],
            Self::All => &["desktop", "worker", "run"],
        }
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The name of the field of [`Metrics`] that holds it.
    pub field: &'static str,
    /// The metric's name.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Its help text: the doc comment.
    pub help: String,
    /// Who counts it.
    pub emitter: Emitter,
    /// Whether it has the label `provider`.
    pub by_provider: bool,
    /// Its label with every value, if it has one.
    pub labels: Option<(&'static str, Vec<&'static str>)>,
}

impl Row {
    /// Every label with its values; `None` for values that come from the settings or change with each release.
    pub fn all_labels(&self) -> Vec<(&'static str, Option<&[&'static str]>)> {
        let provider = self.by_provider.then_some(("provider", None));
        let own = self.labels.as_ref().map(|(name, values)| (*name, (*name != "version").then_some(values.as_slice())));
        provider.into_iter().chain(own).collect()
    }
}

const BEGINNING: &str = "# Metrics\n\nEvery metric of every role, at `/metrics`. Generated from \
    `src/telemetry/metrics.rs`, where the doc comments are the help texts;\na test holds this file equal to it, and \
    another one finds the place where each is counted. Units are base units.\n\n\
    `counted by` says which process counts it: a desk is `autoreply desktop`, a worker `autoreply worker`, and \
    `autoreply run` is both. The\nothers show it too, at zero. The values of `provider` are the names of the providers \
    in the settings. `autoreply metrics --json` prints this\ncatalogue for programs.\n\n\
    What is said to be of the ledger is the same in every worker: take the greatest of them, not their sum.\n\n\
    | name | kind | label | counted by | meaning |\n|---|---|---|---|---|\n";

impl Metrics {
    /// `docs/METRICS.md`.
    pub fn document() -> String {
        let mut text = BEGINNING.to_owned();
        for row in Self::catalogue() {
            let labels: Vec<_> = row
                .all_labels()
                .into_iter()
                .map(|(name, values)| match values {
                    Some(values) => format!("`{name}`: {}", values.join(", ")),
                    None => format!("`{name}`"),
                })
                .collect();
            let emitter = match row.emitter {
                Emitter::Desk => "desk",
                Emitter::Worker => "worker",
                Emitter::All => "all",
            };
            let labels = labels.join("; ");
            let _ = writeln!(text, "| `{}` | {} | {labels} | {emitter} | {} |", row.name, row.kind, row.help);
        }
        text
    }
}
