//! The section `[execution]` of the settings, and what a profile says about sending.

use std::time::Duration;

use serde::Deserialize;

use super::machine::Limits;
use crate::error::Problem;

/// The executor's settings; each is explained in `config.default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The person must not have touched anything for this long.
    pub idle_ms: u64,
    /// Longest wait for the person to pause, within one attempt.
    pub idle_wait_ms: u64,
    /// Longest wait for held keys, a foreign grab, or somebody's text in the input, within one attempt.
    pub clear_wait_ms: u64,
    /// How often an order is tried that fails before Enter.
    pub attempts: u32,
    /// Wait before a failed attempt is repeated.
    pub retry_delay_ms: u64,
    /// Wait before an attempt that the person interrupted is repeated.
    pub yield_delay_ms: u64,
    /// Longest wait until the input shows what was typed.
    pub read_back_ms: u64,
    /// Longest wait until the journal has seen the pane as it is now.
    pub fresh_look_ms: u64,
    /// Longest wait for the own line after Enter.
    pub verify_timeout_ms: u64,
    /// How long a submit in flight is still followed when autoreply is asked to stop.
    pub stop_grace_ms: u64,
    /// Wait between two looks at the same thing.
    pub poll_ms: u64,
    /// How often the journal is asked for the next order when there is none.
    pub next_ms: u64,
}

impl Settings {
    /// Whether the values fit each other.
    ///
    /// # Errors
    /// The first value that does not, with how to mend it.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("execution.{key}"), remedy));
        if self.attempts == 0 {
            return wrong("attempts", "no attempt is allowed, so nothing is ever sent", "Set it to 1 or more");
        }
        if self.poll_ms == 0 || self.next_ms == 0 {
            return wrong("poll_ms", "a wait of 0 ms keeps a processor busy", "Set poll_ms and next_ms to 10 or more");
        }
        if self.idle_wait_ms < self.idle_ms {
            return wrong(
                "idle_wait_ms",
                "it is shorter than idle_ms, so a pause of the person is never seen",
                "Set it to idle_ms or more",
            );
        }
        if self.verify_timeout_ms < 10 * self.poll_ms || self.read_back_ms < self.poll_ms {
            return wrong(
                "verify_timeout_ms",
                "it or read_back_ms leaves no time to look",
                "Set verify_timeout_ms to 10 times poll_ms or more, and read_back_ms to poll_ms or more",
            );
        }
        Ok(())
    }

    /// The part that decides.
    pub fn limits(&self) -> Limits {
        let ms = Duration::from_millis;
        Limits {
            attempts: self.attempts,
            idle_wait: ms(self.idle_wait_ms),
            clear_wait: ms(self.clear_wait_ms),
            read_back: ms(self.read_back_ms),
            fresh_look: ms(self.fresh_look_ms),
            verify: ms(self.verify_timeout_ms),
            stop_grace: ms(self.stop_grace_ms),
            retry_delay: ms(self.retry_delay_ms),
            yield_delay: ms(self.yield_delay_ms),
            poll: ms(self.poll_ms),
        }
    }
}

/// How text gets into an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Keys where the keyboard map has every character, else paste.
    #[default]
    Auto,
    /// Keys only; what the keyboard map does not have is refused.
    Keys,
    /// Always paste.
    Paste,
}

/// What becomes of a line break in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum NewlineRule {
    /// The reply is refused.
    Refuse,
    /// Each run of line breaks becomes one blank.
    #[default]
    Blank,
    /// Pasted as it is: only for an input that keeps it in one message.
    Keep,
}

/// What a profile says about sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendProfile {
    /// How text gets in.
    pub method: Method,
    /// The key that sends, as `Return` or `ctrl+Return`.
    pub submit: String,
    /// The keys that empty the input, in order, as `ctrl+a`, `Delete`.
    pub clear: Vec<String>,
    /// The key that pastes.
    pub paste: String,
    /// What becomes of line breaks.
    pub newline: NewlineRule,
    /// Longest text, in characters; longer is refused.
    pub max_characters: usize,
    /// Pause after each key, for applications that lose keys.
    pub pace: Duration,
}

impl Default for SendProfile {
    fn default() -> Self {
        Self {
            method: Method::Auto,
            submit: "Return".to_owned(),
            clear: vec!["ctrl+a".to_owned(), "Delete".to_owned()],
            paste: "ctrl+v".to_owned(),
            newline: NewlineRule::Blank,
            max_characters: 400,
            pace: Duration::ZERO,
        }
    }
}

impl SendProfile {
    /// The text as it goes into the input.
    ///
    /// # Errors
    /// Why it must not, as a sentence without chat text.
    pub fn prepare(&self, text: &str) -> Result<String, String> {
        let breaks = |c: char| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{b}' | '\u{c}' | '\u{85}');
        let text = match self.newline {
            NewlineRule::Refuse if text.contains(breaks) => {
                return Err("the reply has line breaks, which the profile refuses".to_owned());
            }
            NewlineRule::Blank => {
                text.split(breaks).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
            }
            NewlineRule::Refuse | NewlineRule::Keep => text.to_owned(),
        };
        if text.trim().is_empty() {
            return Err("the reply is empty".to_owned());
        }
        if text.chars().any(|c| c.is_control() && !(self.newline == NewlineRule::Keep && c == '\n')) {
            return Err("the reply has control characters".to_owned());
        }
        let length = text.chars().count();
        if length > self.max_characters {
            return Err(format!("the reply has {length} characters, the profile allows {}", self.max_characters));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The section as it is delivered.
    fn delivered() -> Settings {
        let whole: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
        whole["execution"].clone().try_into().unwrap()
    }

    #[test]
    fn the_delivered_section_fits() {
        let settings = delivered();
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.idle_ms, 2000);
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let wrong = Settings { idle_wait_ms: 10, ..delivered() };
        assert_eq!(wrong.check().unwrap_err().place, "execution.idle_wait_ms");
        assert!(Settings { attempts: 0, ..delivered() }.check().is_err());
        assert!(Settings { poll_ms: 0, ..delivered() }.check().is_err());
    }

    #[test]
    fn line_breaks_follow_the_rule() {
        let rule = |newline| SendProfile { newline, ..SendProfile::default() };
        assert_eq!(rule(NewlineRule::Blank).prepare("a\r\n\n b").unwrap(), "a b");
        assert!(rule(NewlineRule::Refuse).prepare("a\nb").is_err());
        assert_eq!(rule(NewlineRule::Keep).prepare("a\nb").unwrap(), "a\nb");
        assert!(rule(NewlineRule::Keep).prepare("a\x1bb").is_err());
        assert!(rule(NewlineRule::Blank).prepare(" \n ").is_err());
    }

    proptest! {
        #[test]
        fn prepared_text_cannot_send_itself(text in any::<String>()) {
            if let Ok(ready) = SendProfile::default().prepare(&text) {
                prop_assert!(!ready.chars().any(char::is_control));
                prop_assert!(ready.chars().count() <= 400 && !ready.trim().is_empty());
            }
        }
    }
}
