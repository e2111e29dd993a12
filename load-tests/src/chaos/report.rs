//! What a chaos run leaves for people: one HTML page and the same as JSON. It holds ids and numbers, no chat text.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::run::Ran;
use super::scale::Scale;
use crate::checker::Verdict;
use crate::facts::{self, APPS_DIRECTORY, AppLine, FAULTS_FILE, FaultLine, Side};

#[derive(Serialize)]
struct Document<'a> {
    scale: &'a Scale,
    rested: bool,
    took_seconds: u64,
    model_calls: &'a serde_json::Value,
    verdict: &'a Verdict,
    faults: &'a [FaultLine],
}

/// Writes `report.json` and `report.html` into `directory`, whose `run` is the run's own directory.
///
/// # Errors
/// The run's files cannot be read or the report cannot be written.
pub fn write(directory: &Path, scale: &Scale, ran: &Ran) -> std::io::Result<()> {
    let run = directory.join("run");
    let faults: Vec<FaultLine> = facts::read(&run.join(FAULTS_FILE))?;
    let document = Document {
        scale,
        rested: ran.rested,
        took_seconds: ran.took.as_secs(),
        model_calls: &ran.model_calls,
        verdict: &ran.verdict,
        faults: &faults,
    };
    std::fs::write(directory.join("report.json"), serde_json::to_string_pretty(&document)?)?;
    let (mut asked, mut replied) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(run.join(APPS_DIRECTORY))? {
        for line in facts::read::<AppLine>(&entry?.path())? {
            if line.side == Side::Peer { asked.push(line.at_ms) } else { replied.push(line.at_ms) }
        }
    }
    std::fs::write(directory.join("report.html"), page(&document, &asked, &replied))
}

fn page(document: &Document<'_>, asked: &[i64], replied: &[i64]) -> String {
    let Document { scale, verdict, faults, .. } = document;
    let word = if verdict.clean && document.rested { "Every promise was kept" } else { "Promises were broken" };
    let mut html = format!(
        "<!doctype html><meta charset=utf-8><title>autoreply under chaos</title><style>body{{font:15px sans-serif;\
         margin:2em auto;max-width:64em}}td,th{{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}}\
         .bad{{color:#b00}}</style><h1>{word}</h1><p>{} conversations on {} desks in {} processes, {} workers, {} \
         broker(s), seed {}; disturbed for {} s, {} s in all.</p>",
        scale.conversations,
        scale.desks,
        scale.desk_processes,
        scale.workers,
        scale.brokers,
        scale.seed,
        scale.seconds,
        document.took_seconds
    );
    html.push_str(&timeline(asked, replied, faults));
    html.push_str("<h2>Judgements</h2><table>");
    for finding in &verdict.findings {
        let (class, word) = match finding.faults {
            0 => ("", "ok".to_owned()),
            faults => ("bad", format!("{faults} faults")),
        };
        let offenders: String = finding.offenders.iter().map(|text| format!("<br>{}", escaped(text))).collect();
        let _ = write!(html, "<tr class=\"{class}\"><td>{}<td>{word}{offenders}", finding.judgement.title());
    }
    html.push_str("</table><h2>Figures</h2><pre>");
    html.push_str(&escaped(&serde_json::to_string_pretty(&verdict.counts).unwrap_or_default()));
    html.push_str("</pre><h2>Model calls</h2><pre>");
    html.push_str(&escaped(&serde_json::to_string_pretty(document.model_calls).unwrap_or_default()));
    html.push_str("</pre><h2>What was broken when</h2><table>");
    let start = asked.iter().min().copied().unwrap_or_default();
    for fault in *faults {
        let seconds = (fault.at_ms - start) as f64 / 1000.0;
        let _ = write!(html, "<tr><td>{seconds:.1} s<td>{}", escaped(&fault.what));
    }
    html.push_str("</table>");
    html
}

/// Messages and replies a second over time, with a mark for each fault.
fn timeline(asked: &[i64], replied: &[i64], faults: &[FaultLine]) -> String {
    const WIDTH: f64 = 1000.0;
    const HEIGHT: f64 = 220.0;
    let start = asked.iter().min().copied().unwrap_or_default();
    let end = asked.iter().chain(replied).max().copied().unwrap_or(start + 1).max(start + 1);
    let x = |at: i64| (at - start) as f64 / (end - start) as f64 * WIDTH;
    let step = ((end - start) / 200).max(1000);
    let counts = |times: &[i64]| {
        let mut buckets = vec![0_u32; usize::try_from((end - start) / step + 1).unwrap_or(1)];
        for at in times {
            buckets[usize::try_from((at - start) / step).unwrap_or_default()] += 1;
        }
        buckets
    };
    let (asked, replied) = (counts(asked), counts(replied));
    let most = f64::from(asked.iter().chain(&replied).max().copied().unwrap_or(1).max(1));
    let line = |counts: &[u32], color: &str| {
        let points: Vec<String> = (0..)
            .zip(counts)
            .map(|(place, count)| {
                format!("{:.1},{:.1}", x(start + place * step), HEIGHT - f64::from(*count) / most * (HEIGHT - 20.0))
            })
            .collect();
        format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\"/>", points.join(" "))
    };
    let marks: String = faults
        .iter()
        .map(|fault| {
            let (at, color) = (x(fault.at_ms), if fault.what.starts_with("break") { "#b00" } else { "#ccc" });
            let what = escaped(&fault.what);
            format!("<line x1={at:.1} x2={at:.1} y1=0 y2={HEIGHT} stroke=\"{color}\"><title>{what}</title></line>")
        })
        .collect();
    format!(
        "<h2>Messages and replies</h2><p>Blue: messages in {} s; green: replies. Each grey line is a kill or a start, \
         each red one the outage of a server.</p><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\">{marks}{}{}</svg>",
        step as f64 / 1000.0,
        line(&asked, "#06c"),
        line(&replied, "#080")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_fault_and_holds_no_markup_of_others() {
        let faults = [FaultLine { at_ms: 2_500, what: "break <postgres>".to_owned() }];
        let svg = timeline(&[0, 1_000, 5_000], &[1_500, 6_000], &faults);
        assert!(svg.contains("&lt;postgres&gt;") && !svg.contains("<postgres>"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(timeline(&[], &[], &[]).contains("<svg"), "an empty run has a page as well");
    }
}
