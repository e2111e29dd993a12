//! `autoreply profile`: what a profile sees, and the profiles that come with the program.

use std::path::Path;

use serde::Serialize;

use super::desktop::{Settings, session};
use super::{Context, json, table};
use crate::error::Problem;
use crate::screen::check::{self, Seen, Sight};
use crate::screen::profile::{Profile, built_in, built_in_names};
use crate::screen::text::ocr::Tesseract;
use crate::screen::window::{ScreenError, WindowInfo};
use crate::screen::x11::X11;

/// Looks at the open windows through a profile (a built-in one's name, or a file), writes `picture`, and returns a
/// table of what was read.
///
/// # Errors
/// The profile or the settings do not fit, the language data is missing, the display cannot be read, or the picture
/// cannot be written.
pub fn check(context: &Context, profile: &str, picture: &Path) -> Result<String, Problem> {
    let settings: Settings = context.layers.section("desktop")?;
    let profile = Profile::load(profile)?;
    let mut ocr = Tesseract::start_in(context.environment.get("TESSDATA_PREFIX"), &profile.ocr.language)?;
    let mut system = X11::connect(&session(context)).map_err(|error| match error {
        ScreenError::Unavailable(problem) => problem,
        other => Problem::new(other.to_string(), "the display", "See `autoreply doctor`"),
    })?;
    let sight = check::look(&mut system, &profile, &settings.own_names, &mut ocr)?;
    check::save(&sight.picture(), picture)?;
    let picture = picture.display().to_string();
    Ok(if context.json { json(&Answer::of(&sight, picture)) } else { text(&profile, &sight, &picture) })
}

/// A built-in profile and the windows that it is for.
#[derive(Serialize)]
struct Listed {
    profile: String,
    application: String,
    titles: Vec<String>,
}

/// The names of the built-in profiles, one a line, with the windows each is for.
pub fn list(as_json: bool) -> String {
    let listed = built_in_names().filter_map(|name| Profile::load(name).ok()).map(|profile| Listed {
        profile: profile.name.clone(),
        application: profile.application.to_string(),
        titles: profile.windows.iter().map(|window| window.title.as_str().to_owned()).collect(),
    });
    if as_json {
        return json(&listed.collect::<Vec<_>>());
    }
    let rows: Vec<_> = listed.map(|one| [one.profile, one.application, one.titles.join("  or  ")]).collect();
    table(["profile", "application", "titles"], &rows)
}

/// A built-in profile's text.
///
/// # Errors
/// There is none of that name.
pub fn show(name: &str, as_json: bool) -> Result<String, Problem> {
    let text = built_in(name).ok_or_else(|| {
        let names: Vec<_> = built_in_names().collect();
        Problem::new("there is no built-in profile of this name", name, format!("Name one of: {}", names.join(", ")))
    })?;
    Ok(if as_json { json(&serde_json::json!({ "profile": name, "text": text })) } else { text.to_owned() })
}

fn text(profile: &Profile, sight: &Sight, picture: &str) -> String {
    let mut out: String = sight.seen.iter().map(seen_text).collect();
    if !sight.refused.is_empty() {
        out.push_str("Refused:\n");
        for (window, reason) in &sight.refused {
            out.push_str(&format!("  {:?}: {reason}.\n", window.title));
        }
        out.push('\n');
    }
    if sight.seen.is_empty() {
        out.push_str(&nothing_text(profile, sight));
    }
    out.push_str(&format!("The picture is {picture}\n"));
    out
}

fn seen_text(seen: &Seen) -> String {
    let conversation = &seen.matched.conversation;
    let mut out = format!(
        "{:?}: {} > {} on {}\n",
        seen.matched.window.title, conversation.account, conversation.peer, conversation.network
    );
    if !seen.has_rule() {
        out.push_str(
            "Nothing was read: the vertical rule between names and text was not found in the pane. Mend the pane's \
             insets, or set rows.separator = false.\n",
        );
    } else if seen.view.lines.is_empty() {
        out.push_str("No line was found in the pane. If there are some, mend the pane's insets or rows.header.\n");
    } else {
        let rows: Vec<_> = seen.view.lines.iter().enumerate().map(|(at, line)| line_cells(at + 1, line)).collect();
        out.push_str(&table(["line", "stamp", "sender", "cue", "confidence", "doubt", "text"], &rows));
    }
    out.push('\n');
    out
}

fn line_cells(number: usize, line: &crate::screen::pane::PaneLine) -> [String; 7] {
    [
        number.to_string(),
        line.stamp.clone().unwrap_or_default(),
        line.sender.clone().unwrap_or_default(),
        check::cue_word(line.cue).to_owned(),
        format!("{:.0}%", line.confidence * 100.0),
        if line.doubtful { "doubtful" } else { "" }.to_owned(),
        line.text.clone(),
    ]
}

fn nothing_text(profile: &Profile, sight: &Sight) -> String {
    if !sight.refused.is_empty() {
        return "No window was read: every one that the profile is for was refused.\n".to_owned();
    }
    let mut out = format!(
        "No window was read: none has a class that matches application = '{}' and a title that matches one of the \
         profile's windows.\n",
        profile.application
    );
    if sight.others.is_empty() {
        out.push_str("There is no window on the display at all: open the chat window.\n");
        return out;
    }
    let row = |window: &WindowInfo| {
        let fits = if profile.application.is_match(&window.application) { "yes" } else { "no" };
        [window.application.clone(), fits.to_owned(), window.title.clone()]
    };
    let rows: Vec<_> = sight.others.iter().map(row).collect();
    out.push_str("These windows are there:\n");
    out.push_str(&table(["class", "class matches", "title"], &rows));
    out.push_str(
        "Write a profile for one of them: `autoreply profile show template > mine.toml` is a start, and \
         `autoreply profile check mine.toml` tries it.\n",
    );
    out
}

#[derive(Serialize)]
struct Answer {
    picture: String,
    windows: Vec<WindowAnswer>,
    refused: Vec<OtherAnswer>,
    others: Vec<OtherAnswer>,
}

#[derive(Serialize)]
struct WindowAnswer {
    title: String,
    network: String,
    account: String,
    peer: String,
    lines: Vec<LineAnswer>,
}

#[derive(Serialize)]
struct LineAnswer {
    stamp: Option<String>,
    sender: Option<String>,
    cue: &'static str,
    confidence: f64,
    doubtful: bool,
    text: String,
}

#[derive(Serialize)]
struct OtherAnswer {
    class: String,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Answer {
    fn of(sight: &Sight, picture: String) -> Self {
        let other = |window: &WindowInfo, reason: Option<&String>| OtherAnswer {
            class: window.application.clone(),
            title: window.title.clone(),
            reason: reason.cloned(),
        };
        Self {
            picture,
            windows: sight.seen.iter().map(WindowAnswer::of).collect(),
            refused: sight.refused.iter().map(|(window, reason)| other(window, Some(reason))).collect(),
            others: sight.others.iter().map(|window| other(window, None)).collect(),
        }
    }
}

impl WindowAnswer {
    fn of(seen: &Seen) -> Self {
        let lines = seen.view.lines.iter().map(|line| LineAnswer {
            stamp: line.stamp.clone(),
            sender: line.sender.clone(),
            cue: check::cue_word(line.cue),
            confidence: line.confidence,
            doubtful: line.doubtful,
            text: line.text.clone(),
        });
        let conversation = &seen.matched.conversation;
        Self {
            title: seen.matched.window.title.clone(),
            network: conversation.network.to_string(),
            account: conversation.account.to_string(),
            peer: conversation.peer.to_string(),
            lines: lines.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::roles::Environment;
    use crate::screen::geometry::Rect;
    use crate::screen::window::WindowId;

    fn window(application: &str, title: &str) -> WindowInfo {
        let rect = Rect { x: 0, y: 0, width: 760, height: 560 };
        WindowInfo {
            id: WindowId(1),
            application: application.into(),
            title: title.into(),
            pid: None,
            rect,
            hidden: false,
        }
    }

    fn answer(refused: Vec<(WindowInfo, String)>, others: Vec<WindowInfo>) -> String {
        text(&Profile::load("hexchat").unwrap(), &Sight { seen: Vec::new(), refused, others }, "p.png")
    }

    #[test]
    fn when_nothing_matches_the_windows_are_named() {
        let told = answer(Vec::new(), vec![window("Hexchat", "HexChat: Network List"), window("Firefox", "News")]);
        assert!(told.contains("Hexchat  yes            HexChat: Network List"), "{told}");
        assert!(told.contains("Firefox  no             News") && told.contains("profile show template"), "{told}");
        assert!(answer(Vec::new(), Vec::new()).contains("no window on the display at all"));
    }

    #[test]
    fn a_refused_window_is_told_with_its_reason() {
        let told = answer(vec![(window("Hexchat", "Dialog"), "it is minimised".to_owned())], Vec::new());
        assert!(told.contains("\"Dialog\": it is minimised.") && told.contains("was refused"), "{told}");
    }

    #[test]
    fn profiles_are_listed_and_shown() {
        assert!(list(false).lines().any(|line| line.starts_with("hexchat ")));
        assert!(Profile::parse(show("template", false).unwrap().as_bytes(), "template").is_ok());
        assert!(show("nothing", false).unwrap_err().to_string().contains("hexchat"));
        let listed: serde_json::Value = serde_json::from_str(&list(true)).unwrap();
        assert!(listed.as_array().unwrap().iter().any(|one| one["profile"] == "hexchat" && one["titles"].is_array()));
        let shown: serde_json::Value = serde_json::from_str(&show("template", true).unwrap()).unwrap();
        assert_eq!(shown["text"], show("template", false).unwrap());
    }

    #[test]
    fn without_a_display_it_says_so() {
        let context = Context::gather(None, None, false, Environment(BTreeMap::new())).unwrap();
        let problem = check(&context, "hexchat", Path::new("p.png")).unwrap_err();
        assert!(problem.to_string().contains("there is no display"));
    }
}
