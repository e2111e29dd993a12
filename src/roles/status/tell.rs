//! The status for a person: a verdict in one line, what hurts and what to do about it, then the figures. Colour only
//! underlines what the words say.

use super::verdict::count;
use super::view::{BreakerView, DeskLine, LagView, RepliesView, Status, WorkerView};
use crate::roles::paint::Paint;
use crate::roles::table;

/// The most rows of a list: the rest is counted.
const ROWS: usize = 12;

/// A span of time in its largest unit, as `3 s`, `12 min`, `5 h` or `9 d`.
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).floor();
    match whole {
        ..60.0 => format!("{whole} s"),
        ..3600.0 => format!("{} min", (whole / 60.0).floor()),
        ..86_400.0 => format!("{} h", (whole / 3600.0).floor()),
        _ => format!("{} d", (whole / 86_400.0).floor()),
    }
}

/// The verdict: whether it is well, and if not, the worst of what hurts.
pub fn verdict(status: &Status) -> String {
    match status.hurts.as_slice() {
        [] => {
            let fresh = status.workers.iter().filter(|worker| worker.is_fresh()).count() as u64;
            let desks = status.desks.iter().filter(|desk| desk.state == "fresh").count() as u64;
            format!("Well: {} and {} at work.", count(fresh, "worker"), count(desks, "desk"))
        }
        [only] => format!("HURTS: {}.", only.what),
        [first, rest @ ..] => format!("HURTS: {}; and {} more.", first.what, count(rest.len() as u64, "thing")),
    }
}

/// The whole status.
pub(super) fn tell(status: &Status, paint: Paint) -> String {
    let mut text = if status.well { paint.good(&verdict(status)) } else { paint.bad(&verdict(status)) } + "\n";
    for hurt in &status.hurts {
        text.push_str(&format!("  - {}.\n    -> {}.\n", hurt.what, hurt.remedy));
    }
    text.push_str(&person(status));
    let sections = [
        workers(&status.workers, paint),
        lag(status, paint),
        status.replies.as_ref().map_or_else(String::new, |replies| self::replies(replies, status)),
        breakers(&status.breakers, paint),
        desks(&status.desks, paint),
    ];
    sections.iter().filter(|section| !section.is_empty()).for_each(|section| text.push_str(&format!("\n{section}")));
    text.push_str(&format!("\n{}\n", paint.faint(&asked(status))));
    text
}

/// What waits for a person, where something does.
pub fn person(status: &Status) -> String {
    let person = &status.person;
    let mut waits = Vec::new();
    let mut wait = |number: Option<u64>, one: &str, many: &str, hint: &str| match number {
        None | Some(0) => {}
        Some(1) => waits.push(format!("1 {one} ({hint})")),
        Some(number) => waits.push(format!("{number} {many} ({hint})")),
    };
    wait(person.drafts, "draft", "drafts", "autoreply sagas list");
    let (one, many) = ("reply of unknown effect", "replies of unknown effect");
    wait(person.needs_attention, one, many, "last 24 h, autoreply sagas list --all");
    wait(person.dead_letters, "dead letter", "dead letters", "autoreply dead-letters list");
    let text = waits.join(", ");
    if text.is_empty() { text } else { format!("Waits for a person: {text}.\n") }
}

/// Rows of a table with its title, those that are not well painted.
fn section<const N: usize>(
    title: &str,
    head: [&str; N],
    rows: &[([String; N], bool)],
    more: &str,
    paint: Paint,
) -> String {
    let shown: Vec<[String; N]> = rows.iter().take(ROWS).map(|(row, _)| row.clone()).collect();
    let lines = table(head, &shown);
    let mut text = format!("{title}\n");
    for (index, line) in lines.lines().enumerate() {
        let bad = index > 0 && rows.get(index - 1).is_some_and(|(_, bad)| *bad);
        let line = if bad { paint.bad(line) } else { line.to_owned() };
        text.push_str(&format!("  {line}\n"));
    }
    if rows.len() > ROWS {
        text.push_str(&format!("  and {} more ({more})\n", rows.len() - ROWS));
    }
    text
}

fn workers(workers: &[WorkerView], paint: Paint) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let row = |worker: &WorkerView| {
        let cells = [
            worker.name.clone(),
            worker.host.clone(),
            worker.version.clone(),
            worker.state.to_owned(),
            span(worker.silent_seconds) + " ago",
            format!("{} of {}", worker.in_flight, worker.permits),
            worker.partitions.to_string(),
            worker.turns.to_string(),
        ];
        (cells, !worker.is_fresh())
    };
    let rows: Vec<_> = workers.iter().map(row).collect();
    let head = ["NAME", "MACHINE", "VERSION", "STATE", "HEARD", "IN FLIGHT", "PARTITIONS", "TURNS"];
    section("Workers", head, &rows, "autoreply status --json", paint)
}

fn lag(status: &Status, paint: Paint) -> String {
    if status.lag.is_empty() {
        return String::new();
    }
    let oldest = |lag: &LagView| match (lag.records, lag.seconds) {
        (0, _) => "-".to_owned(),
        (_, None) => "not known".to_owned(),
        (_, Some(seconds)) => span(seconds),
    };
    let row = |lag: &LagView| {
        let bad = lag.seconds.is_some_and(|seconds| seconds > super::verdict::LAG_SECONDS);
        ([lag.topic.clone(), lag.partitions.to_string(), lag.records.to_string(), oldest(lag)], bad)
    };
    let rows: Vec<_> = status.lag.iter().map(row).collect();
    let title = status.group.as_ref().map_or_else(
        || "Records that wait for the workers".to_owned(),
        |group| {
            let (state, members) = (&group.state, count(group.members.len() as u64, "member"));
            let state = if state.is_empty() { "not known to the brokers" } else { state.as_str() };
            format!("Records that wait for the workers (group {}: {state}, {members})", group.name)
        },
    );
    section(&title, ["TOPIC", "PARTITIONS", "RECORDS", "OLDEST"], &rows, "", paint)
}

fn replies(replies: &RepliesView, status: &Status) -> String {
    let mut text = if replies.states.is_empty() {
        "Replies: none is open\n".to_owned()
    } else {
        let rows: Vec<_> = replies
            .states
            .iter()
            .map(|state| ([state.state.to_owned(), state.count.to_string(), span(state.oldest_seconds)], false))
            .collect();
        section("Replies that are open", ["STATE", "COUNT", "OLDEST"], &rows, "", Paint::plain())
    };
    let quota = status.quota.map_or_else(String::new, |quota| {
        format!(", {} of {} replies of today's quota taken", quota.taken, quota.limit)
    });
    text.push_str(&format!(
        "  {} overdue, {} to publish{quota}\n",
        replies.overdue,
        count(replies.unpublished, "command")
    ));
    text
}

fn breakers(breakers: &[BreakerView], paint: Paint) -> String {
    if breakers.is_empty() {
        return String::new();
    }
    let row = |breaker: &BreakerView| {
        let open = !breaker.open_at.is_empty();
        let state = if open { format!("OPEN at {}", breaker.open_at.join(", ")) } else { "closed".to_owned() };
        ([breaker.provider.clone(), state], open)
    };
    let rows: Vec<_> = breakers.iter().map(row).collect();
    section("Providers", ["PROVIDER", "BREAKER"], &rows, "", paint)
}

fn desks(desks: &[DeskLine], paint: Paint) -> String {
    if desks.is_empty() {
        return String::new();
    }
    let row = |desk: &DeskLine| {
        let heard = desk.silent_seconds.map_or_else(|| "never".to_owned(), |seconds| span(seconds) + " ago");
        let bad = matches!(desk.state.as_str(), "silent" | "cloned");
        let accounts = count(desk.accounts.len() as u64, "account");
        ([desk.desktop.clone(), desk.host.clone(), desk.version.clone(), desk.state.clone(), heard, accounts], bad)
    };
    let mut rows: Vec<_> = desks.iter().map(row).collect();
    // Those that are not well come first: a list is cut.
    rows.sort_by_key(|(_, bad)| !bad);
    let head = ["DESK", "MACHINE", "VERSION", "STATE", "HEARD", "ANSWERS FOR"];
    section("Desks", head, &rows, "autoreply desks", paint)
}

fn asked(status: &Status) -> String {
    let asked = &status.asked;
    let of = |what: &str, place: &Option<String>| place.as_ref().map(|place| format!("{what} {place}"));
    let parts = [of("ledger", &asked.ledger), of("brokers", &asked.brokers), of("process", &asked.socket)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "Nobody was there to ask.".to_owned() } else { format!("Asked: {}.", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{hurting, well};
    use super::*;

    #[test]
    fn a_status_without_colour_says_everything_in_words() {
        insta::assert_snapshot!("well", tell(&well(), Paint::plain()));
        insta::assert_snapshot!("hurting", tell(&hurting(), Paint::plain()));
        assert!(!tell(&hurting(), Paint::plain()).contains('\x1b'));
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let painted = tell(&hurting(), Paint::coloured());
        assert!(painted.contains('\x1b'));
        let bare = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap().replace_all(&painted, "").into_owned();
        assert_eq!(bare, tell(&hurting(), Paint::plain()));
    }

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        for (seconds, told) in [(-1.0, "0 s"), (59.9, "59 s"), (60.0, "1 min"), (7300.0, "2 h"), (200_000.0, "2 d")] {
            assert_eq!(span(seconds), told);
        }
    }

    #[test]
    fn a_long_list_is_cut_and_the_unwell_are_shown_first() {
        let mut status = well();
        let desk = status.desks[0].clone();
        status.desks = (0..20).map(|n| DeskLine { desktop: format!("desk-{n:02}"), ..desk.clone() }).collect();
        status.desks[19].state = "silent".to_owned();
        let text = tell(&status, Paint::plain());
        assert!(text.contains("desk-19") && !text.contains("desk-15") && text.contains("and 8 more"), "{text}");
    }
}
