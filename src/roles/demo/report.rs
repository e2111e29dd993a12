//! The report: one page without scripts, its pictures beside it.

use super::act::{Act, Totals};
use super::cast::differences;

/// What the page is made of.
pub struct Report<'a> {
    /// The scenes as they were played.
    pub acts: &'a [Act],
    /// The numbers.
    pub totals: &'a Totals,
    /// What went wrong beside the scenes, as sentences.
    pub faults: &'a [String],
    /// The picture of the whole screen, if there is one.
    pub whole: Option<&'a str>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } code { font-size: .9em; overflow-wrap: anywhere }
img { max-width: 100%; border: 1px solid var(--line); border-radius: 6px } .good { color: var(--good) } .bad { color: var(--bad) }
.wide { overflow-x: auto } p.sum { font-size: 1.1rem; font-weight: 600 }
";

/// The page as text.
#[must_use]
pub fn write(report: &Report) -> String {
    let scenes: String = report.acts.iter().enumerate().map(|(number, act)| scene(number + 1, act)).collect();
    let rows: String = report.acts.iter().enumerate().map(|(number, act)| row(number + 1, act)).collect();
    let whole = report.whole.map_or_else(String::new, |file| picture(file, "The whole screen at the end"));
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>autoreply: what the demo showed</title><style>{STYLE}</style>\n\
         <h1>What the demo showed</h1>\n<p class=\"sum\">{}</p>\n{}\
         <p>A real HexChat on a private display, a private IRC server, and a peer in a process of its own for each \
         conversation. What the peers received is the only measure. <em>Detect</em> is the time from a peer's sending its \
         last line to autoreply's having read it from the screen; <em>reply</em> the time from that line to the reply at the peer, \
         which includes the 1500 ms in which nothing new may come. The reply that a person had to approve is not in the \
         median. The one setting that is not the default and touches time: the person must have left the keyboard alone for \
         {} ms, not 2000.</p>\n\
         <div class=\"wide\"><table><tr><th>Scene<th>Sent<th>Expected<th>Received from autoreply<th>Effect<th>Detect<th>Reply<th></tr>\n\
         {rows}</table></div>\n{whole}\n{scenes}</html>\n",
        escape(&report.totals.sentence()),
        list(report.faults),
        super::IDLE_MS
    )
}

fn row(number: usize, act: &Act) -> String {
    let sent: Vec<String> = act.scene.lines.iter().flat_map(|turn| turn.iter()).map(|line| escape(line)).collect();
    let by_person = |text: &str| act.scene.by_person == Some(text);
    let heard: Vec<String> =
        act.heard.iter().filter(|heard| !by_person(&heard.text)).map(|heard| escape(&heard.text)).collect();
    let heard = if heard.is_empty() { "nothing".to_owned() } else { heard.join("<br>") };
    let effects: Vec<&str> = act.turns.iter().map(|turn| turn.effect.as_deref().unwrap_or("none")).collect();
    let ok = differences(act).is_empty();
    format!(
        "<tr><td>{number}. {}<td>{}<td>{}<td>{heard}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"{}\">{}</tr>\n",
        escape(act.scene.title),
        sent.join("<br>"),
        escape(act.scene.expected),
        effects.join("<br>"),
        times(&act.detection_times()),
        times(&act.reply_times()),
        if ok { "good" } else { "bad" },
        if ok { "as expected" } else { "differs" },
    )
}

fn times(values: &[i64]) -> String {
    values.iter().map(|value| format!("{value} ms")).collect::<Vec<_>>().join("<br>")
}

fn scene(number: usize, act: &Act) -> String {
    let mut moments = act.moments.clone();
    moments.sort_by_key(|moment| moment.at_ms);
    let rows: String = moments
        .iter()
        .map(|moment| {
            let (after, what, detail) = (moment.at_ms - act.began_ms, escape(&moment.what), escape(&moment.detail));
            format!("<tr><td class=\"n\">{after:+} ms<td>{what}<td>{detail}</tr>\n")
        })
        .collect();
    let shown = act.picture.as_deref().map_or_else(String::new, |file| picture(file, act.scene.title));
    format!(
        "<h2>{number}. {} ({})</h2>\n<p>{}</p>\n{}<div class=\"wide\"><table>{rows}</table></div>\n{shown}\n",
        escape(act.scene.title),
        escape(act.scene.nick),
        escape(act.scene.expected),
        list(&differences(act)),
    )
}

fn list(faults: &[String]) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let items: String = faults.iter().map(|fault| format!("<li>{}</li>", escape(fault))).collect();
    format!("<ul class=\"bad\">{items}</ul>\n")
}

fn picture(file: &str, what: &str) -> String {
    format!("<p><img src=\"{}\" alt=\"{}\"></p>", escape(file), escape(what))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::cast::SCENES;
    use super::*;

    #[test]
    fn every_scene_is_there_and_no_text_becomes_markup() {
        let mut acts: Vec<Act> = SCENES.iter().map(|scene| Act::new(*scene)).collect();
        acts[0].faults.push("a <b>bold</b> & \"odd\" fault".to_owned());
        let totals = Totals::count(&acts);
        let page = write(&Report { acts: &acts, totals: &totals, faults: &[], whole: None });
        assert!(SCENES.iter().all(|scene| page.contains(scene.title) && page.contains(scene.expected)));
        assert!(page.contains("a &lt;b&gt;bold&lt;/b&gt; &amp; &quot;odd&quot; fault") && !page.contains("<b>"));
        assert!(page.contains("differs") && !page.contains("as expected"));
    }
}
