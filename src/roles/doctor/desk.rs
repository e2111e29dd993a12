//! The desktop's half: recognition, display, windows, accessibility.

use std::collections::BTreeSet;

use super::Finding;
use crate::roles::Context;
use crate::roles::desktop::{Settings, session};
use crate::screen::matching;
use crate::screen::profile::Profile;
use crate::screen::text::accessibility::Accessibility;
use crate::screen::text::ocr::Tesseract;
use crate::screen::window::{ScreenError, WindowInfo, WindowSystem as _};
use crate::screen::x11::X11;

/// The profiles in use that can be read, and what is wrong with the others.
fn profiles(context: &Context) -> (Vec<Profile>, Vec<Finding>) {
    let settings: Settings = match context.layers.section("desktop") {
        Ok(settings) => settings,
        // Told where the sections are looked at.
        Err(_) => return Default::default(),
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for name in &settings.profiles {
        match Profile::load(name) {
            Ok(profile) => good.push(profile),
            Err(problem) => bad.push(Finding::of("profiles", problem)),
        }
    }
    if settings.profiles.is_empty() {
        bad.push(Finding::problem("profiles", "none is in use", "Name one in desktop.profiles, as [\"hexchat\"]"));
    }
    (good, bad)
}

/// Profiles, language data, and the engine's threads.
pub(super) fn recognition(context: &Context) -> Vec<Finding> {
    let (profiles, mut findings) = profiles(context);
    let languages: BTreeSet<&str> = profiles.iter().map(|profile| profile.ocr.language.as_str()).collect();
    for language in languages {
        findings.push(match Tesseract::start_in(context.environment.get("TESSDATA_PREFIX"), language) {
            Ok(_) => Finding::ok("language data", format!("{language} is there")),
            Err(problem) => Finding::of("language data", problem),
        });
    }
    findings.push(match context.environment.get("OMP_THREAD_LIMIT") {
        None | Some("1") => Finding::ok("recognition threads", "one for each recognition"),
        Some(other) => Finding::problem(
            "recognition threads",
            format!("OMP_THREAD_LIMIT is {other}: on a busy machine a line then takes seconds to read"),
            "Set OMP_THREAD_LIMIT=1 in the environment, or unset it: autoreply then sets it itself",
        ),
    });
    findings
}

/// The display, and the chat windows on it.
pub(super) fn display(context: &Context) -> Vec<Finding> {
    let names = context.layers.section::<Settings>("desktop").map(|settings| settings.own_names).unwrap_or_default();
    let mut findings = vec![own_names(&names)];
    let session = session(context);
    let windows = X11::connect(&session).and_then(|mut display| display.windows());
    match windows {
        Ok(windows) => {
            let shown = session.display.unwrap_or_default();
            findings.push(Finding::ok("display", format!("X11 on {shown}, with what is needed and a window manager")));
            findings.extend(chat_windows(&windows, &profiles(context).0, &names));
        }
        Err(ScreenError::Unavailable(problem)) => findings.push(Finding::of("display", problem)),
        Err(other) => findings.push(Finding::problem(
            "display",
            other.to_string(),
            "See whether the X server still answers (xdpyinfo), and log in again if not",
        )),
    }
    findings
}

fn own_names(names: &[String]) -> Finding {
    if names.is_empty() {
        return Finding::problem(
            "own names",
            "desktop.own_names is empty: own lines cannot be told from the other side's where a title names no account",
            "Set own_names = [\"your nick\"] below [desktop] in the settings file",
        );
    }
    Finding::ok("own names", names.join(", "))
}

/// What can be said of the windows of the profiles' applications.
fn chat_windows(windows: &[WindowInfo], profiles: &[Profile], names: &[String]) -> Vec<Finding> {
    const CHECK: &str = "chat windows";
    let found = matching::find(windows, profiles, names);
    let mut findings: Vec<_> = found
        .refused
        .iter()
        .map(|refusal| {
            let title =
                windows.iter().find(|window| window.id == refusal.window).map_or("", |window| window.title.as_str());
            let what = format!("{title:?} is not used: {}", refusal.reason);
            Finding::problem(CHECK, what, "Mend that, or close the window; `autoreply profile check` shows more")
        })
        .collect();
    let titles: Vec<_> = found.matched.iter().map(|matched| format!("{:?}", matched.window.title)).collect();
    if !titles.is_empty() {
        findings.push(Finding::ok(CHECK, titles.join(", ")));
    } else if findings.is_empty() {
        let remedy =
            "Open a conversation in a window of its own; `autoreply profile check` says which windows are there";
        findings.push(Finding::note(CHECK, "no window of the profiles in use is open", remedy));
    }
    findings
}

/// The session bus, the accessibility bus on it, and who is there.
pub(super) async fn accessibility(context: &Context) -> Vec<Finding> {
    const CHECK: &str = "accessibility";
    if !has_session_bus(context) {
        return vec![Finding::problem(
            CHECK,
            "there is no session bus, so the input box cannot be read back before Enter",
            "Start autoreply in the desktop's session (DBUS_SESSION_BUS_ADDRESS set), or under dbus-run-session with \
             the chat application",
        )];
    }
    let names = match Accessibility::connect().await {
        Ok(bus) => bus.applications().await,
        Err(problem) => return vec![Finding::of(CHECK, problem)],
    };
    match names {
        Ok(names) => vec![judge_applications(&names)],
        Err(problem) => vec![Finding::of(CHECK, problem)],
    }
}

fn judge_applications(names: &[String]) -> Finding {
    const CHECK: &str = "accessibility";
    let named: BTreeSet<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    if named.is_empty() {
        return Finding::problem(
            CHECK,
            "no application is on the accessibility bus",
            "Install libatk-adaptor and libgail-common, and restart the chat application in this session (GTK 2 needs \
             GTK_MODULES=gail:atk-bridge, Qt needs QT_LINUX_ACCESSIBILITY_ALWAYS_ON=1)",
        );
    }
    Finding::ok(CHECK, format!("on the bus: {}", named.into_iter().collect::<Vec<_>>().join(", ")))
}

/// Whether the environment names a bus, or systemd's usual one is there.
fn has_session_bus(context: &Context) -> bool {
    let usual = context.environment.get("XDG_RUNTIME_DIR").map(|directory| std::path::Path::new(directory).join("bus"));
    context.environment.get("DBUS_SESSION_BUS_ADDRESS").is_some() || usual.is_some_and(|bus| bus.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::doctor::State;
    use crate::screen::geometry::Rect;
    use crate::screen::window::WindowId;

    fn window(id: u32, title: &str) -> WindowInfo {
        let rect = Rect { x: 0, y: 0, width: 760, height: 560 };
        WindowInfo {
            id: WindowId(id),
            application: "Hexchat".into(),
            title: title.into(),
            pid: None,
            rect,
            hidden: false,
        }
    }

    #[test]
    fn windows_are_found_missed_or_ambiguous() {
        let profiles = [Profile::load("hexchat").unwrap()];
        let look = |windows: &[WindowInfo]| chat_windows(windows, &profiles, &["me".to_owned()]);
        let alice = "Dialog with alice @ Net - HexChat";
        assert_eq!(look(&[window(1, alice)])[0].state, State::Ok);
        assert_eq!(look(&[window(1, "Preferences")])[0].state, State::Note);
        let both = look(&[window(1, alice), window(2, alice)]);
        assert!(both.len() == 2 && both.iter().all(|finding| finding.state == State::Problem), "{both:?}");
        let nameless = chat_windows(&[window(1, alice)], &profiles, &[]);
        assert!(nameless[0].what.contains("own_names"), "{nameless:?}");
    }

    #[test]
    fn an_empty_accessibility_bus_is_a_problem() {
        assert_eq!(judge_applications(&[String::new()]).state, State::Problem);
        assert_eq!(judge_applications(&["hexchat".to_owned()]).state, State::Ok);
    }
}
