//! The report as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::{DEFINITIONS, Report};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .9em .25em 0;border-bottom:1px solid #ddd;text-align:left;\
vertical-align:top;white-space:pre-wrap}h1{margin-bottom:0}svg{max-width:100%;height:auto}dt{font-weight:600}";

/// The page.
pub fn page(report: &Report, plots: &[(String, String)]) -> String {
    let mut body = String::new();
    let conditions = &report.conditions;
    let form = if conditions.short { " (short form)" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(body, "<h1>{}{form}</h1><p>{}</p>", escape(&report.scenario), escape(&report.about));
    let _ = write!(
        body,
        "<p>{} worker(s), {} desks; {}, {} MB, Linux {}; load average before the run {}. All servers, the stub and the \
         generator on the same machine.</p>",
        conditions.workers,
        escape(&conditions.desks),
        escape(&conditions.processor),
        conditions.memory_mb,
        escape(&conditions.kernel),
        escape(&conditions.load_before)
    );
    body.push_str("<table>");
    for (name, value) in report.rows() {
        let _ = write!(body, "<tr><th>{}</th><td>{}</td></tr>", escape(&name), escape(&value));
    }
    body.push_str("</table><h2>By piece of the plan</h2><table><tr><th>planned/s</th><th>answered/s</th><th>p50 ms</th><th>p99 ms</th><th>lag</th><th>held</th></tr>");
    for step in &report.steps {
        let _ = write!(
            body,
            "<tr><td>{:.0}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{}</td><td>{}</td></tr>",
            step.rate,
            step.held,
            step.overhead.p50_ms,
            step.overhead.p99_ms,
            step.lag,
            if step.is_held { "yes" } else { "no" }
        );
    }
    body.push_str("</table>");
    for (title, svg) in plots {
        let _ = write!(body, "<h2>{}</h2>{svg}", escape(title));
    }
    body.push_str("<h2>What the figures mean</h2><dl>");
    for (name, meaning) in DEFINITIONS {
        let _ = write!(body, "<dt>{name}</dt><dd>{}</dd>", escape(meaning));
    }
    let title = escape(&report.scenario);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>autoreply under load: {title}</title>\
         <style>{STYLE}</style><body>{body}</dl></body></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
