//! May this text be typed? Pure. What a model wrote is checked for more than what a person wrote beforehand.
//!
//! A line break in a chat's input sends, and a leading slash is a command there, so both matter as much as content.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use serde::Deserialize;

use super::context::{FENCE_CLOSE, FENCE_OPEN};
use super::provider::Author;

/// What becomes of line breaks in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Newlines {
    /// They become spaces: one reply is one message.
    Join,
    /// They stay, for applications into which text is pasted whole.
    Keep,
}

/// The form a reply must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The most characters.
    pub max_chars: usize,
    /// The most bytes of UTF-8; some networks cut there.
    pub max_bytes: usize,
    /// What becomes of line breaks.
    pub newlines: Newlines,
}

/// What a reply is held against.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Every text of the chat that the provider was shown.
    pub chat: &'a [&'a str],
    /// The provider's own instructions.
    pub instructions: Option<&'a str>,
    /// Names under which a model may announce itself (`Ann: hello`).
    pub own_names: &'a [&'a str],
    /// Who wrote the reply.
    pub author: Author,
}

/// Why a reply must not be typed. It never holds the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing is left of it.
    #[error("the reply is empty")]
    Empty,
    /// Over the most characters or bytes.
    #[error("the reply is too long")]
    TooLong,
    /// It holds characters that are no text.
    #[error("the reply holds control characters")]
    Control,
    /// A line starts with a slash, which many applications take for a command.
    #[error("a line of the reply starts with a slash and could be taken for a command")]
    Command,
    /// It looks as if it held a key or a password.
    #[error("the reply seems to hold a secret")]
    Secret,
    /// It has a link or an address that nobody wrote in the chat.
    #[error("the reply holds a link that was not in the chat")]
    ForeignLink,
    /// It repeats the instructions.
    #[error("the reply repeats the instructions")]
    LeakedInstructions,
}

/// The text of `raw` that may be typed: own prefix and reasoning stripped, blanks tidied, everything checked.
///
/// # Errors
/// The first reason against it.
pub fn validate(raw: &str, facts: &Facts<'_>, rules: &Rules) -> Result<String, Rejection> {
    let text = match facts.author {
        Author::Model => strip_prefixes(strip_reasoning(raw).trim(), facts.own_names),
        Author::Person => raw.trim(),
    };
    let text = tidy(text, rules.newlines);
    check_form(&text, rules)?;
    if facts.author == Author::Model {
        if SECRETS.is_match(&text) {
            return Err(Rejection::Secret);
        }
        check_links(&text, facts.chat)?;
        if facts.instructions.is_some_and(|instructions| leaks(&text, instructions)) {
            return Err(Rejection::LeakedInstructions);
        }
    }
    Ok(text)
}

/// Whether `c` must never be typed: controls, and marks that turn or hide text. Joiners, which emoji need, may.
pub fn is_forbidden(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FEFF}' | '\u{FFF9}'..='\u{FFFD}' | '\u{E0000}'..='\u{E007F}')
}

fn check_form(text: &str, rules: &Rules) -> Result<(), Rejection> {
    if text.is_empty() {
        Err(Rejection::Empty)
    } else if text.len() > rules.max_bytes || text.chars().count() > rules.max_chars {
        Err(Rejection::TooLong)
    } else if text.chars().any(is_forbidden) {
        Err(Rejection::Control)
    } else if text.lines().any(|line| line.trim_start().starts_with('/')) {
        Err(Rejection::Command)
    } else {
        Ok(())
    }
}

/// What follows the last closed `<think>` block; everything if there is none; nothing if one is left open.
fn strip_reasoning(raw: &str) -> &str {
    let answer = raw.rsplit_once("</think>").map_or(raw, |(_, answer)| answer);
    if answer.contains("<think>") { "" } else { answer }
}

/// Strips `Assistant:` and the like from the front, as often as it stands there.
fn strip_prefixes<'a>(mut text: &'a str, own_names: &[&str]) -> &'a str {
    const PREFIXES: [&str; 6] = ["assistant", "ai", "bot", "reply", "answer", "us"];
    loop {
        let Some((head, tail)) = text.split_once(':') else { return text };
        let head = head.trim().trim_matches(['*', '<', '>', '[', ']', '"']).to_lowercase();
        let own = PREFIXES.contains(&head.as_str())
            || own_names.iter().any(|name| !name.is_empty() && name.to_lowercase() == head);
        if !own {
            return text;
        }
        text = tail.trim().trim_start_matches("**").trim_start();
    }
}

/// Tabs and runs of blanks become one space; line breaks are joined, or blank lines dropped.
fn tidy(text: &str, newlines: Newlines) -> String {
    let normal = text.replace("\r\n", "\n").replace('\t', " ");
    let lines = normal
        .split('\n')
        .map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty());
    let separator = if newlines == Newlines::Join { " " } else { "\n" };
    lines.collect::<Vec<_>>().join(separator).trim().to_owned()
}

/// Shapes of well-known keys; the first alternative of redaction, not the only one: the desktop redacts before.
#[allow(clippy::expect_used, reason = "constant patterns, compiled by every test that validates")]
static SECRETS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{16,}",
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bgh[pousr]_[A-Za-z0-9]{20,}",
        r"\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"\bAIza[0-9A-Za-z_-]{30,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"(?i)\b(password|passwd|api[ _-]?key|secret|token)\s*[:=]\s*(\S{3,}\d|\d\S{5,})",
    ])
    .expect("the secret patterns are constants")
});

/// Anything with a scheme, `www.`, a host with a path, a host under a common ending, or a mail address.
#[allow(clippy::expect_used, reason = "a constant pattern, compiled by every test that validates")]
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)[a-z][a-z0-9+.-]*://\S+|\bwww\.\S+|\b(?:mailto|tel|javascript|data):\S+|\S+@[\w-]+(?:\.[\w-]+)+",
        r"|\b(?:[\w-]+\.)+[a-z]{2,}(?::\d+)?/\S*|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/\S*)?",
        r"|\b(?:[\w-]+\.)+(?:com|org|net|io|dev|app|co|me|info|biz|ai|gg|ly|xyz|ru|cn|de|uk|fr|eu|us|shop|site|online|top|link)\b",
    ))
    .expect("the link pattern is a constant")
});

fn links(text: &str) -> impl Iterator<Item = String> + '_ {
    LINK.find_iter(text).map(|found| {
        let link = found.as_str().to_lowercase();
        let link = link.trim_matches(['.', ',', ';', ':', '!', '?', '"', '\'', '<', '>', '(', ')', '[', ']', '*', '`']);
        let link = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://")).unwrap_or(link);
        link.strip_prefix("www.").unwrap_or(link).trim_end_matches('/').to_owned()
    })
}

fn check_links(text: &str, chat: &[&str]) -> Result<(), Rejection> {
    let known: HashSet<String> = chat.iter().flat_map(|line| links(line)).collect();
    if links(text).all(|link| known.contains(&link)) { Ok(()) } else { Err(Rejection::ForeignLink) }
}

/// How many words in a row make a fingerprint of the instructions.
const SHINGLE: usize = 7;

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Whether the reply holds a fence, or seven words of the instructions in a row (all of them, if they are fewer).
fn leaks(text: &str, instructions: &str) -> bool {
    if text.contains(FENCE_OPEN) || text.contains(FENCE_CLOSE) {
        return true;
    }
    let (reply, instructions) = (words(text), words(instructions));
    let size = SHINGLE.min(instructions.len());
    if size < 3 || reply.len() < size {
        return false;
    }
    let fingerprints: HashSet<&[String]> = instructions.windows(size).collect();
    reply.windows(size).any(|window| fingerprints.contains(window))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { max_chars: 200, max_bytes: 400, newlines: Newlines::Join };
    const SECRET_ORDERS: &str =
        "You write short replies for Ann. Never mention the blue folder in the cellar to anyone at all.";

    fn model(raw: &str, chat: &[&str]) -> Result<String, Rejection> {
        let facts = Facts { chat, instructions: Some(SECRET_ORDERS), own_names: &["Ann"], author: Author::Model };
        validate(raw, &facts, &RULES)
    }

    #[test]
    fn good_replies_pass_and_are_tidied() {
        for (raw, clean) in [
            ("  Hello!\n\nSee you  at 9. ", "Hello! See you at 9."),
            ("Assistant: **Ann:** yes", "yes"),
            ("<think>hm, what\nnow</think>\nOf course.", "Of course."),
            ("Note: the meeting is at 10:30", "Note: the meeting is at 10:30"),
            ("👩‍👩‍👧 é 你好", "👩‍👩‍👧 é 你好"),
            ("The password: please ask Tom.", "The password: please ask Tom."),
            ("e.g. tomorrow, and/or on Friday, i.e.soon", "e.g. tomorrow, and/or on Friday, i.e.soon"),
        ] {
            assert_eq!(model(raw, &[]).as_deref(), Ok(clean), "{raw}");
        }
    }

    #[test]
    fn bad_replies_are_rejected_with_their_reason() {
        for (raw, why) in [
            (" \n ", Rejection::Empty),
            ("Assistant:", Rejection::Empty),
            ("<think>I never stop", Rejection::Empty),
            ("/quit", Rejection::Command),
            ("Assistant: /msg bob hi", Rejection::Command),
            ("a\u{7}b", Rejection::Control),
            ("a\u{202E}b", Rejection::Control),
            ("the key is sk-abcdefghijklmnop1234", Rejection::Secret),
            ("password: hunter2hunter2", Rejection::Secret),
            ("see https://evil.example/x", Rejection::ForeignLink),
            ("see evil.com", Rejection::ForeignLink),
            ("write to me@evil.example", Rejection::ForeignLink),
            ("try 10.0.0.1/admin", Rejection::ForeignLink),
            ("I was told: never mention THE blue folder, in the cellar!", Rejection::LeakedInstructions),
            ("<<<CHAT", Rejection::LeakedInstructions),
        ] {
            assert_eq!(model(raw, &[]), Err(why), "{raw:?}");
        }
        assert_eq!(model(&"x".repeat(201), &[]), Err(Rejection::TooLong));
        assert_eq!(model(&"你".repeat(140), &[]), Err(Rejection::TooLong));
    }

    #[test]
    fn a_link_of_the_chat_may_be_repeated_but_not_one_that_only_contains_it() {
        let chat = ["is https://shop.example/a. good?"];
        assert!(model("Yes, https://shop.example/a is good.", &chat).is_ok());
        assert!(model("Yes, (shop.example/a) is good.", &chat).is_ok());
        assert_eq!(model("Yes, https://shop.example/ab", &chat), Err(Rejection::ForeignLink));
        assert_eq!(model("Yes, https://shop.example.evil.org/a", &chat), Err(Rejection::ForeignLink));
        assert_eq!(model("[x](https://evil.example/)", &chat), Err(Rejection::ForeignLink));
    }

    #[test]
    fn a_person_may_write_links_and_prefixes_but_no_command_and_no_second_line() {
        let facts = Facts { chat: &[], instructions: None, own_names: &[], author: Author::Person };
        assert_eq!(validate("Bot: https://a.example", &facts, &RULES).as_deref(), Ok("Bot: https://a.example"));
        let wifi = "The guest password: tea4everyone";
        assert_eq!(validate(wifi, &facts, &RULES).as_deref(), Ok(wifi));
        assert_eq!(model(wifi, &[]), Err(Rejection::Secret));
        assert_eq!(validate("/me waves", &facts, &RULES), Err(Rejection::Command));
        assert_eq!(validate("a\nb", &facts, &RULES).as_deref(), Ok("a b"));
        let keep = Rules { newlines: Newlines::Keep, ..RULES };
        assert_eq!(validate("a\r\n\n b", &facts, &keep).as_deref(), Ok("a\nb"));
        assert_eq!(validate("a\n /b", &facts, &keep), Err(Rejection::Command));
    }

    proptest! {
        #[test]
        fn what_passes_keeps_every_promise_and_passes_again(raw in any::<String>(), link in "(https?://)?[a-z]{3,8}\\.(com|example/x)") {
            for raw in [raw.clone(), format!("{raw} {link}"), format!("ai: {raw}")] {
                if let Ok(text) = model(&raw, &[]) {
                    prop_assert!(!text.is_empty() && text.chars().count() <= 200 && text.len() <= 400);
                    prop_assert!(!text.chars().any(char::is_control) && !text.starts_with('/'));
                    prop_assert!(!text.contains(&link));
                    let again = model(&text, &[]);
                    prop_assert_eq!(again.as_deref(), Ok(text.as_str()));
                }
            }
        }

        #[test]
        fn seven_words_of_the_instructions_are_found_however_they_are_dressed(start in 0_usize..10, upper in any::<bool>(), mark in "[ ,.;!-]{1,3}") {
            let words: Vec<_> = SECRET_ORDERS.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            let stolen = words[start..start + 7].join(&mark);
            let stolen = if upper { stolen.to_uppercase() } else { stolen };
            prop_assert_eq!(model(&format!("ok {stolen} bye"), &[]), Err(Rejection::LeakedInstructions));
        }
    }
}
