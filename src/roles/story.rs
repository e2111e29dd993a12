//! The story of one reply: what the desk saw and did, and what the workers did, in one order of time.

use jiff::Timestamp;

use crate::contract::{MessagesDetected, Timings};
use crate::control::StoryEvent;
use crate::saga::{Detail, StoryLine};

/// Everything that is known of a reply, oldest first. The desk's steps carry the desk's time, the others the ledger's.
pub(super) fn tell(detail: &Detail) -> Vec<StoryEvent> {
    let desk = detail.summary.desktop.as_str();
    let mut events = detail.detected.as_ref().map(|detected| seen(desk, detected)).unwrap_or_default();
    for line in &detail.story {
        if let Some(times) = &line.times {
            // An outcome that was corrected tells its steps again.
            for step in typed(desk, times) {
                if !events.contains(&step) {
                    events.push(step);
                }
            }
        }
        events.push(step(line));
    }
    // Stable: what happened in the same millisecond stays in the order in which it was written.
    events.sort_by_key(|event| event.at);
    events
}

fn event(at: Timestamp, place: &str, event: &str, detail: impl Into<String>) -> StoryEvent {
    StoryEvent { at, place: place.to_owned(), event: event.to_owned(), detail: detail.into() }
}

fn seen(desk: &str, detected: &MessagesDetected) -> Vec<StoryEvent> {
    let count = detected.messages.len();
    let mut events: Vec<_> = detected
        .messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let (sure, doubt) = (message.extraction.confidence, message.extraction.doubtful);
            let doubt = if doubt { ", doubtful" } else { "" };
            let detail = format!("message {} of {count}, read with a confidence of {sure:.2}{doubt}", index + 1);
            event(message.detected_at, desk, "seen", detail)
        })
        .collect();
    let detail = format!("revision {}: {count} to answer, mode {}", detected.revision, detected.mode);
    events.push(event(detected.detected_at, desk, "turn", detail));
    events
}

fn typed(desk: &str, times: &Timings) -> Vec<StoryEvent> {
    [
        (times.received_at, "received", "the command reached the desk"),
        (times.typed_at, "typed", "the first key, or the paste"),
        (times.submitted_at, "submitted", "Enter was allowed"),
        (times.shown_at, "shown", "the own line was seen"),
    ]
    .into_iter()
    .filter_map(|(at, name, detail)| Some(event(at?, desk, name, detail)))
    .collect()
}

fn step(line: &StoryLine) -> StoryEvent {
    let from = line.from.as_ref().map_or_else(String::new, |from| format!("{from} -> "));
    let more = if line.detail.is_empty() { String::new() } else { format!(": {}", line.detail) };
    event(line.at, &line.who, &line.event, format!("revision {}, {from}{}{more}", line.revision, line.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_millis;
    use crate::contract::{Effect, Revision};
    use crate::saga::Summary;
    use crate::saga::samples::turn;
    use crate::saga::state::State;

    fn line(ms: i64, who: &str, event: &str, times: Option<Timings>) -> StoryLine {
        let (from, to) = (None, "x".to_owned());
        let (who, event, detail) = (who.to_owned(), event.to_owned(), String::new());
        StoryLine { at: from_millis(ms), who, revision: Revision(1), event, from, to, detail, times }
    }

    #[test]
    fn desk_and_worker_are_told_in_one_order_and_nothing_twice() {
        let detected = turn("alice", 1, 1);
        let times = Timings {
            detected_at: Some(from_millis(1_000_000)),
            quiet_at: None,
            received_at: Some(from_millis(1_000_300)),
            typed_at: Some(from_millis(1_000_400)),
            submitted_at: Some(from_millis(1_000_500)),
            shown_at: None,
        };
        let shown = Timings { shown_at: Some(from_millis(1_000_900)), ..times };
        let story = vec![
            line(1_000_100, "worker-1", "recorded", None),
            line(1_000_200, "worker-1", "issued", None),
            line(1_000_600, "desk", "outcome", Some(times)),
            line(1_001_000, "desk", "outcome", Some(shown)),
        ];
        let summary = Summary {
            turn: detected.turn,
            revision: Revision(1),
            state: State::Ended(Effect::Confirmed),
            conversation: detected.conversation.id,
            peer: "alice".to_owned(),
            desktop: detected.desktop.clone(),
            recorded_at: from_millis(1_000_100),
            updated_at: from_millis(1_001_000),
            draft: None,
        };
        let told = tell(&Detail { summary, detected: Some(detected), story });
        let names: Vec<_> = told.iter().map(|step| step.event.as_str()).collect();
        let expected =
            ["seen", "turn", "recorded", "issued", "received", "typed", "submitted", "outcome", "shown", "outcome"];
        assert_eq!(names, expected);
        assert_eq!((told[2].place.as_str(), told[4].place.as_str()), ("worker-1", "desk"));
        assert!(told.iter().all(|step| !step.detail.contains("secret")), "no chat text");
    }
}
