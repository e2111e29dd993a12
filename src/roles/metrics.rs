//! `autoreply metrics`: the catalogue, for people and for programs.

use serde::Serialize;

use super::{json, table};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Row;

/// One metric, as programs read it.
#[derive(Serialize)]
struct MetricView {
    name: &'static str,
    kind: &'static str,
    help: String,
    /// The roles that count it; the others show it at zero.
    roles: &'static [&'static str],
    labels: Vec<LabelView>,
}

#[derive(Serialize)]
struct LabelView {
    name: &'static str,
    /// Null where the settings or the release decide.
    values: Option<Vec<&'static str>>,
}

/// Every metric that a role shows at `/metrics`: a table, or with `as_json` its rows.
pub fn list(as_json: bool) -> String {
    let rows = Metrics::catalogue();
    if as_json { json(&rows.into_iter().map(view).collect::<Vec<_>>()) } else { tell(&rows) }
}

fn view(row: Row) -> MetricView {
    let label = |(name, values): (_, Option<&[&'static str]>)| LabelView { name, values: values.map(<[_]>::to_vec) };
    let labels = row.all_labels().into_iter().map(label).collect();
    MetricView { name: row.name, kind: row.kind, roles: row.emitter.roles(), labels, help: row.help }
}

fn tell(rows: &[Row]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let labels: Vec<_> = row.all_labels().into_iter().map(|(name, _)| name).collect();
            [row.name.to_owned(), row.kind.to_owned(), labels.join(", "), row.emitter.roles().join(", ")]
        })
        .collect();
    table(["METRIC", "KIND", "LABELS", "COUNTED BY"], &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_told_to_people_and_to_programs() {
        let rows: serde_json::Value = serde_json::from_str(&list(true)).unwrap();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), Metrics::catalogue().len());
        let errors = rows.iter().find(|row| row["name"] == "autoreply_provider_errors_total").unwrap();
        assert_eq!(errors["kind"], "counter");
        assert_eq!(errors["roles"], serde_json::json!(["worker", "run"]));
        assert_eq!(errors["labels"][0], serde_json::json!({ "name": "provider", "values": null }));
        assert!(errors["labels"][1]["values"].as_array().unwrap().contains(&"timeout".into()));
        assert!(errors["help"].as_str().is_some_and(|help| help.ends_with('.')));

        let text = list(false);
        assert_eq!(text.lines().count(), rows.len() + 1);
        let line = text.lines().find(|line| line.starts_with("autoreply_provider_errors_total")).unwrap();
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        assert_eq!(words, ["counter", "provider,", "kind", "worker,", "run"], "{line}");
    }
}
