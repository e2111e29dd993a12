//! A profile: how one chat application's windows are read and typed into. `profiles/template.toml` explains each key.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::contract::ConversationKind;
use crate::error::Problem;

/// The profiles that come with the program, by name.
const BUILT_IN: [(&str, &str); 2] = [
    ("hexchat", include_str!("../../profiles/hexchat.toml")),
    ("template", include_str!("../../profiles/template.toml")),
];

/// A profile that has been checked.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The window class it is for.
    pub application: Regex,
    /// The windows it knows, in the order in which they are tried.
    pub windows: Vec<WindowRule>,
    /// How a row is taken apart.
    pub rows: Rows,
    /// How the pixels are read.
    pub ocr: Ocr,
    /// How a reply is typed.
    pub send: Send,
}

/// One kind of window.
#[derive(Debug, Clone)]
pub struct WindowRule {
    /// The title, with the named groups `peer` and perhaps `network` and `account`.
    pub title: Regex,
    /// One peer, or a group.
    pub kind: ConversationKind,
    /// The network where the title names none.
    pub network: String,
    /// The chat pane.
    pub pane: Insets,
}

/// Distances from a window's edges, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insets {
    /// From the left edge.
    pub left: u32,
    /// From the top.
    pub top: u32,
    /// From the right edge.
    pub right: u32,
    /// From the bottom.
    pub bottom: u32,
}

/// How a row is taken apart.
#[derive(Debug, Clone)]
pub struct Rows {
    /// A vertical rule parts header and text.
    pub separator: bool,
    /// What stands before a text, with the named group `sender` and perhaps `stamp`.
    pub header: Regex,
    /// Senders that are the application itself.
    pub system_senders: Vec<String>,
    /// How many letters of a sender may be misread.
    pub sender_distance: usize,
}

/// How the pixels are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ocr {
    /// Tesseract's languages.
    pub language: String,
    /// Enlargement of the first look.
    pub scale: u32,
    /// Enlargement of the second.
    pub second_scale: u32,
    /// Ink for each step of distance from the background.
    pub gain: f32,
    /// Below it a line is doubtful.
    pub confidence_floor: f64,
}

/// By which way a reply gets into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Keys where the layout has every character, paste otherwise.
    Auto,
    /// Keys only.
    Keys,
    /// Paste only.
    Paste,
}

/// What becomes of a line feed in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Newline {
    /// It is typed as a blank.
    Blank,
    /// The reply is refused.
    Refuse,
}

/// How a reply is typed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Keys or paste.
    pub method: Method,
    /// The key that sends, by its X11 name.
    pub submit: String,
    /// What becomes of a line feed.
    pub newline: Newline,
    /// The longest reply, in characters.
    pub max_characters: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: String,
    application: String,
    windows: Vec<RawWindow>,
    rows: RawRows,
    ocr: Ocr,
    send: Send,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    title: String,
    kind: ConversationKind,
    #[serde(default)]
    network: String,
    pane: Insets,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRows {
    separator: bool,
    header: String,
    system_senders: Vec<String>,
    sender_distance: usize,
}

impl Profile {
    /// A built-in profile by its name, or one from a file.
    ///
    /// # Errors
    /// There is no such profile, or something in it is wrong: what, in which line, and what to write.
    pub fn load(name_or_path: &str) -> Result<Self, Problem> {
        if let Some(text) = built_in(name_or_path) {
            return Self::parse(text.as_bytes(), &format!("built-in profile {name_or_path}"));
        }
        let bytes = std::fs::read(Path::new(name_or_path)).map_err(|error| {
            let names: Vec<_> = built_in_names().collect();
            Problem::new(
                format!("there is no such profile ({error})"),
                name_or_path,
                format!("Name a file, or one of the built-in profiles: {}", names.join(", ")),
            )
        })?;
        Self::parse(&bytes, name_or_path)
    }

    /// A profile from the bytes of a file; `place` is named in errors.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            Problem::new(format!("byte {} is not UTF-8", error.valid_up_to()), place, "Save the profile as UTF-8 text")
        })?;
        let raw: RawProfile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Problem::new(
                error.message().to_owned(),
                format!("{place}, line {line}"),
                "`autoreply profile show template` explains every key",
            )
        })?;
        raw.check(place)
    }
}

/// The built-in profiles' names.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// A built-in profile's text.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}

impl RawProfile {
    fn check(self, place: &str) -> Result<Profile, Problem> {
        let wrong = |key: &str, what: String, remedy: &str| Problem::new(what, format!("{place}, key {key}"), remedy);
        let named = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !named {
            return Err(wrong("name", format!("{:?} is no profile name", self.name), "Use 1 to 64 of a-z 0-9 -"));
        }
        if self.windows.is_empty() {
            return Err(wrong(
                "windows",
                "there is no window".into(),
                "Add a [[windows]] table with a title and a pane",
            ));
        }
        for (key, value, from, to) in [
            ("ocr.scale", f64::from(self.ocr.scale), 1.0, 6.0),
            ("ocr.second_scale", f64::from(self.ocr.second_scale), 1.0, 6.0),
            ("ocr.gain", f64::from(self.ocr.gain), 0.5, 8.0),
            ("ocr.confidence_floor", self.ocr.confidence_floor, 0.0, 1.0),
            ("send.max_characters", self.send.max_characters as f64, 1.0, 100_000.0),
        ] {
            // Written so that NaN, which TOML can spell, does not pass.
            if !(from..=to).contains(&value) {
                return Err(wrong(key, format!("{value} is out of range"), &format!("Use {from} to {to}")));
            }
        }
        if self.ocr.scale == self.ocr.second_scale {
            return Err(wrong(
                "ocr.second_scale",
                "the second look is the first".into(),
                "Use another scale than ocr.scale",
            ));
        }
        let windows = self.windows.into_iter().enumerate();
        Ok(Profile {
            application: regex(&self.application, "application", &[], place)?,
            windows: windows.map(|(at, window)| window.check(at, &self.name, place)).collect::<Result<_, _>>()?,
            rows: Rows {
                separator: self.rows.separator,
                header: regex(&self.rows.header, "rows.header", &["sender"], place)?,
                system_senders: self.rows.system_senders,
                sender_distance: self.rows.sender_distance,
            },
            name: self.name,
            ocr: self.ocr,
            send: self.send,
        })
    }
}

impl RawWindow {
    fn check(self, at: usize, profile: &str, place: &str) -> Result<WindowRule, Problem> {
        let network = if self.network.is_empty() { profile.to_owned() } else { self.network };
        let title = regex(&self.title, &format!("windows[{at}].title"), &["peer"], place)?;
        Ok(WindowRule { title, kind: self.kind, network, pane: self.pane })
    }
}

fn regex(pattern: &str, key: &str, groups: &[&str], place: &str) -> Result<Regex, Problem> {
    let regex = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        Problem::new(
            format!("it is no regular expression ({})", error.to_string().replace('\n', " ")),
            format!("{place}, key {key}"),
            "Mend it; the syntax is that of the Rust crate regex",
        )
    })?;
    for group in groups {
        if !regex.capture_names().flatten().any(|name| name == *group) {
            return Err(Problem::new(
                format!("it does not name the group {group}"),
                format!("{place}, key {key}"),
                format!("Write (?<{group}>...) around the part that is the {group}"),
            ));
        }
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_built_in_profiles_are_sound() {
        for name in built_in_names() {
            Profile::load(name).unwrap();
        }
    }

    #[test]
    fn errors_name_the_place_and_the_remedy() {
        let text = built_in("hexchat").unwrap();
        let problem =
            |from: &str, to: &str| Profile::parse(text.replace(from, to).as_bytes(), "p.toml").unwrap_err().to_string();
        assert!(problem("scale = 3", "scale = 30").contains("p.toml, key ocr.scale"));
        assert!(problem("(?<sender>", "(?<who>").contains("(?<sender>...)"));
        assert!(problem("gain = 1.8", "gian = 1.8").contains("p.toml, line"));
        assert!(problem("gain = 1.8", "gain = nan").contains("out of range"));
        assert!(Profile::load("no/such/file").unwrap_err().to_string().contains("hexchat"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_profile_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Err(problem) = Profile::parse(&bytes, "p.toml") {
                prop_assert!(problem.to_string().contains("p.toml"));
            }
        }

        #[test]
        fn a_broken_profile_ends_in_a_profile_or_a_problem(at in 0usize..2000, with in "[\\PC\n]{0,3}") {
            let mut text = built_in("hexchat").unwrap().to_owned();
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.insert_str(at, &with);
            if let Err(problem) = Profile::parse(text.as_bytes(), "p.toml") {
                prop_assert!(problem.to_string().contains("p.toml"));
            }
        }
    }
}
