//! Answers a person wrote beforehand: patterns to answers, in a TOML file.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use tokio::time::Instant;
use toml::Spanned;

use super::office_hours::{Hours, OfficeHours, parse_day, parse_time};
use super::{Author, Provider, ProviderError, Reply, fill};
use crate::clock::Clock;
use crate::contract::Mode;
use crate::error::Problem;
use crate::generation::validation::is_forbidden;
use crate::saga::DraftRequest;

/// The rules that are used when no file is named; also the documentation of the format.
pub const DEFAULT_RULES: &str = include_str!("../../../canned.default.toml");

/// The largest rules file, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// The most rules in a file.
const MAX_RULES: usize = 500;
/// The most patterns in a rule.
const MAX_PATTERNS: usize = 50;
/// The most memory one compiled pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The most characters of an answer.
const MAX_ANSWER_CHARS: usize = 2_000;

/// `[generation.providers.NAME]` with `kind = "canned"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The rules file; empty for the embedded rules.
    #[serde(default)]
    pub rules_file: String,
    /// How far its replies may go.
    #[serde(default = "super::super::settings::auto")]
    pub ceiling: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    #[default]
    Always,
    Inside,
    Outside,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    office: Option<Spanned<RawOffice>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOffice {
    time_zone: String,
    hours: Vec<RawHours>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    days: Vec<String>,
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    patterns: Vec<String>,
    answer: String,
    #[serde(default = "yes")]
    ignore_case: bool,
    #[serde(default)]
    when: When,
}

fn yes() -> bool {
    true
}

struct Rule {
    patterns: Vec<Regex>,
    answer: String,
    when: When,
}

/// A checked rules file.
pub struct Rules {
    office: Option<OfficeHours>,
    rules: Vec<Rule>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} canned rules", self.rules.len())
    }
}

impl Rules {
    /// The rules of the file `file`, whose content is `bytes`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line or rule and a remedy.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let one = |what: String, place: String, remedy: &str| vec![Problem::new(what, place, remedy)];
        if bytes.len() > MAX_FILE_BYTES {
            return Err(one("the file is too large".into(), file.into(), "Keep it under 256 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = line_of(bytes, error.valid_up_to());
            one("the file is not UTF-8".into(), format!("{file}, line {line}"), "Save it as UTF-8")
        })?;
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let place = error
                .span()
                .map_or_else(|| file.to_owned(), |span| format!("{file}, line {}", line_of(bytes, span.start)));
            one(error.message().replace('\n', "; "), place, "The embedded canned.default.toml shows every key")
        })?;
        Self::check(file, bytes, raw)
    }

    fn check(file: &str, bytes: &[u8], raw: RawFile) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        let mut add =
            |place: String, (what, remedy): (String, String)| problems.push(Problem::new(what, place, remedy));
        let office = raw.office.and_then(|raw| {
            let place = format!("{file}, line {}, [office]", line_of(bytes, raw.span().start));
            check_office(raw.into_inner()).map_err(|fault| add(place, fault)).ok()
        });
        let has_office = office.is_some();
        if raw.rule.is_empty() || raw.rule.len() > MAX_RULES {
            let what = format!("the file has {} rules", raw.rule.len());
            add(file.to_owned(), (what, format!("Write 1 to {MAX_RULES} [[rule]] tables")));
        }
        for (index, raw) in raw.rule.into_iter().take(MAX_RULES).enumerate() {
            let place = format!("{file}, line {}, rule {}", line_of(bytes, raw.span().start), index + 1);
            match check_rule(raw.into_inner(), has_office) {
                Ok(rule) => rules.push(rule),
                Err(fault) => add(place, fault),
            }
        }
        if problems.is_empty() { Ok(Self { office, rules }) } else { Err(problems) }
    }

    /// The answer, with its placeholders, of the first rule that fits one of `messages` at `now`.
    pub fn answer<'a>(&self, messages: impl Iterator<Item = &'a str> + Clone, now: jiff::Timestamp) -> Option<&str> {
        let open = self.office.as_ref().is_some_and(|office| office.are_open(now));
        self.rules
            .iter()
            .filter(|rule| match rule.when {
                When::Always => true,
                When::Inside => open,
                When::Outside => !open,
            })
            .find(|rule| rule.patterns.iter().any(|pattern| messages.clone().any(|message| pattern.is_match(message))))
            .map(|rule| rule.answer.as_str())
    }
}

type Fault = (String, String);

fn check_office(raw: RawOffice) -> Result<OfficeHours, Fault> {
    let zone = match raw.time_zone.as_str() {
        "system" => TimeZone::system(),
        "UTC" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| {
            (
                format!("{name:?} is no known time zone"),
                "Write an IANA name such as Europe/Berlin, UTC, or system".into(),
            )
        })?,
    };
    let rows = raw.hours.into_iter().map(check_hours).collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        return Err(("there are no office hours".into(), "Add an [[office.hours]] table or remove [office]".into()));
    }
    Ok(OfficeHours { zone, rows })
}

fn check_hours(raw: RawHours) -> Result<Hours, Fault> {
    let time = |text: &str| {
        parse_time(text).ok_or_else(|| (format!("{text:?} is no time"), "Write HH:MM, from 00:00 to 23:59".into()))
    };
    let days = raw
        .days
        .iter()
        .map(|day| {
            parse_day(day)
                .ok_or_else(|| (format!("{day:?} is no weekday"), "Write mon, tue, wed, thu, fri, sat or sun".into()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if days.is_empty() {
        return Err(("the hours hold on no day".into(), "Name at least one weekday in days".into()));
    }
    Ok(Hours { days, from: time(&raw.from)?, to: time(&raw.to)? })
}

fn check_rule(raw: RawRule, has_office: bool) -> Result<Rule, Fault> {
    if raw.patterns.is_empty() || raw.patterns.len() > MAX_PATTERNS {
        return Err((format!("it has {} patterns", raw.patterns.len()), format!("Write 1 to {MAX_PATTERNS}")));
    }
    if raw.when != When::Always && !has_office {
        return Err(("it depends on office hours and there are none".into(), "Add an [office] table".into()));
    }
    check_answer(&raw.answer)?;
    let patterns = raw
        .patterns
        .iter()
        .enumerate()
        .map(|(index, pattern)| {
            compile(pattern, raw.ignore_case).map_err(|(what, fix)| (format!("pattern {}: {what}", index + 1), fix))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Rule { patterns, answer: raw.answer, when: raw.when })
}

fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, Fault> {
    let regex =
        RegexBuilder::new(pattern).case_insensitive(ignore_case).size_limit(MAX_PATTERN_BYTES).build().map_err(
            |error| {
                let text = error.to_string();
                let reason =
                    text.lines().last().unwrap_or("it cannot be compiled").trim_start_matches("error: ").to_owned();
                (reason, "Write a regular expression in the syntax of Rust's regex crate".into())
            },
        )?;
    if regex.is_match("") {
        return Err(("it fits every message, even an empty one".into(), "Write \".\" if that is meant".into()));
    }
    Ok(regex)
}

/// Whether an answer can be typed: not blank, not a command, one line, known placeholders.
///
/// # Errors
/// What is wrong, and the remedy.
pub(super) fn check_answer(answer: &str) -> Result<(), (String, String)> {
    let fault = |what: &str, remedy: &str| Err((what.to_owned(), remedy.to_owned()));
    if answer.trim().is_empty() {
        return fault("the answer is empty", "Write what is to be typed");
    }
    if answer.chars().count() > MAX_ANSWER_CHARS {
        return fault("the answer is too long", "Keep it under 2,000 characters");
    }
    if answer.chars().any(|c| is_forbidden(c) || c == '\n') {
        return fault("the answer holds a line break or a control character", "Write it on one line");
    }
    if answer.trim_start().starts_with('/') {
        return fault(
            "the answer starts with a slash, which chat applications take for a command",
            "Start it with a word",
        );
    }
    let rest = answer.replace("{name}", "").replace("{peer}", "");
    if rest.contains(['{', '}']) {
        return fault("the answer has a brace that is no placeholder", "The placeholders are {name} and {peer}");
    }
    Ok(())
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The provider.
pub struct Canned {
    name: String,
    rules: Rules,
    person: String,
    clock: Arc<dyn Clock>,
}

impl Canned {
    /// The provider `name`, speaking for `person`.
    pub fn new(name: &str, rules: Rules, person: &str, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.to_owned(), rules, person: person.to_owned(), clock }
    }
}

#[async_trait]
impl Provider for Canned {
    fn name(&self) -> &str {
        &self.name
    }

    fn author(&self) -> Author {
        Author::Person
    }

    fn is_instant(&self) -> bool {
        true
    }

    async fn generate(&self, request: &DraftRequest, _deadline: Instant) -> Result<Reply, ProviderError> {
        let messages = request.messages.iter().map(|message| message.text.as_str());
        let answer = self
            .rules
            .answer(messages, self.clock.now())
            .ok_or_else(|| ProviderError::Declined("no rule fits".into()))?;
        Ok(Reply::free(fill(answer, &self.person, &request.conversation)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::generation::testing::{at, request};

    const MONDAY_NOON: &str = "2026-03-02T12:00:00Z";
    const SUNDAY: &str = "2026-03-01T12:00:00Z";

    fn problem(text: &str) -> String {
        Rules::parse("rules.toml", text.as_bytes())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    async fn ask(rules: &str, messages: &[&str], when: &str) -> Result<String, ProviderError> {
        let rules = Rules::parse("rules.toml", rules.as_bytes()).unwrap();
        let canned = Canned::new("canned", rules, "Ann", Arc::new(ManualClock::new(at(when))));
        canned.generate(&request(messages), Instant::now()).await.map(|reply| reply.text)
    }

    #[tokio::test]
    async fn the_default_rules_answer_common_questions_and_decline_the_rest() {
        let utc = DEFAULT_RULES.replace("\"system\"", "\"UTC\"");
        let hello = ask(&utc, &["Hello!"], SUNDAY).await;
        assert_eq!(hello.as_deref(), Ok("Hello bob, what can Ann do for you?"));
        assert!(ask(&utc, &["are you there?"], SUNDAY).await.unwrap().contains("away"));
        assert!(ask(&utc, &["are you there?"], MONDAY_NOON).await.unwrap().contains("around"));
        assert!(ask(&utc, &["hi", "what are your opening hours?"], SUNDAY).await.unwrap().contains("17:30"));
        assert!(ask(&utc, &["is this a bot"], SUNDAY).await.unwrap().contains("automatic"));
        let open = ask(&utc, &["what does the blue one cost?"], SUNDAY).await;
        assert_eq!(open, Err(ProviderError::Declined("no rule fits".into())));
    }

    #[tokio::test]
    async fn case_matters_where_the_rule_says_so_and_names_cannot_add_placeholders() {
        let rules = "[[rule]]\npatterns = ['PING']\nignore_case = false\nanswer = '{peer} pong'\n";
        assert!(ask(rules, &["ping"], SUNDAY).await.is_err());
        assert_eq!(ask(rules, &["ping", "PING"], SUNDAY).await.as_deref(), Ok("bob pong"));
    }

    #[test]
    fn what_is_wrong_is_told_with_line_rule_and_remedy() {
        for (text, parts) in [
            ("", vec!["rules.toml: the file has 0 rules"]),
            ("[[rule]]\npatterns = ['a']\nanswer = 'b'\nextra = 1\n", vec!["line 4", "unknown field"]),
            (
                "[[rule]]\npatterns = ['a']\nanswer = 'b'\n[[rule]]\npatterns = ['a(']\nanswer = 'b'\n",
                vec!["line 4, rule 2", "pattern 1: unclosed group", "regular expression"],
            ),
            ("[[rule]]\npatterns = ['x*']\nanswer = 'b'\n", vec!["rule 1", "fits every message"]),
            ("[[rule]]\npatterns = ['(a{1000}){1000}']\nanswer = 'b'\n", vec!["rule 1", "size limit"]),
            ("[[rule]]\npatterns = []\nanswer = 'b'\n", vec!["0 patterns"]),
            ("[[rule]]\npatterns = ['a']\nanswer = ' '\n", vec!["the answer is empty"]),
            ("[[rule]]\npatterns = ['a']\nanswer = '/quit'\n", vec!["command"]),
            ("[[rule]]\npatterns = ['a']\nanswer = \"a\\nb\"\n", vec!["line break"]),
            ("[[rule]]\npatterns = ['a']\nanswer = '{nmae}'\n", vec!["placeholders are {name} and {peer}"]),
            ("[[rule]]\npatterns = ['a']\nanswer = 'b'\nwhen = 'inside'\n", vec!["Add an [office] table"]),
            (
                "[office]\ntime_zone = 'Mars/Base'\nhours = []\n[[rule]]\npatterns = ['a']\nanswer = 'b'\n",
                vec!["[office]", "Mars/Base"],
            ),
            (
                "[office]\ntime_zone = 'UTC'\nhours = [{days=['mon'],from='9',to='10:00'}]\n[[rule]]\npatterns = ['a']\nanswer = 'b'\n",
                vec!["\"9\" is no time", "HH:MM"],
            ),
        ] {
            let told = problem(text);
            for part in parts {
                assert!(told.contains(part), "{part:?} is not in {told:?}");
            }
        }
        assert!(Rules::parse("r", b"a = '\n\xff'").unwrap_err()[0].place.contains("line 2"));
        assert!(Rules::parse("r", &vec![b'#'; MAX_FILE_BYTES + 1]).is_err());
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let two = "[[rule]]\npatterns = ['(']\nanswer = 'b'\n[[rule]]\npatterns = ['a']\nanswer = ''\n";
        assert_eq!(Rules::parse("r", two.as_bytes()).unwrap_err().len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_rules_or_problems(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Err(problems) = Rules::parse("r", &bytes) {
                prop_assert!(!problems.is_empty());
            }
        }

        #[test]
        fn any_pattern_and_answer_are_a_rule_or_a_problem(pattern in any::<String>(), answer in any::<String>(), text in any::<String>()) {
            let (pattern, quoted) = (toml::Value::String(pattern), toml::Value::String(answer.clone()));
            let file = format!("[[rule]]\npatterns = [{pattern}]\nanswer = {quoted}\n");
            match Rules::parse("r", file.as_bytes()) {
                Ok(rules) => {
                    let given = rules.answer(std::iter::once(text.as_str()), at(SUNDAY));
                    prop_assert!(given.is_none_or(|given| given == answer));
                }
                Err(problems) => prop_assert!(!problems.is_empty()),
            }
        }

        #[test]
        fn a_damaged_default_file_never_panics(cut in 0..DEFAULT_RULES.len(), byte in any::<u8>()) {
            let mut bytes = DEFAULT_RULES.as_bytes().to_vec();
            bytes[cut] = byte;
            let _ = Rules::parse("r", &bytes);
            let _ = Rules::parse("r", &bytes[..cut]);
        }
    }
}
