//! Secrets in a chat line, replaced before the line is kept: card numbers, IBANs, keys and tokens, and what stands
//! behind the word "password". Pure. What is not recognised stays; nothing that is replaced can be brought back.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Stands for a payment card's number.
const CARD: &str = "[card]";
/// Stands for a bank account's number.
const IBAN: &str = "[iban]";
/// Stands for a key or token.
const TOKEN: &str = "[token]";
/// Stands for a password.
const SECRET: &str = "[secret]";

#[allow(clippy::expect_used, reason = "the pattern is a constant, and a test builds it")]
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(pass(?:word|phrase|code|wd)|pwd|passwort|kennwort|contraseña|mot de passe|secret|api[ _-]?key|access[ _-]?token|token|pin|cvv|cvc)(\s*(?:[:=]|\bis\b|\bist\b)\s*)(\S+)",
    )
    .expect("a constant pattern")
});

#[allow(clippy::expect_used, reason = "the pattern is a constant, and a test builds it")]
static ACCOUNT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b").expect("a constant pattern"));

#[allow(clippy::expect_used, reason = "the pattern is a constant, and a test builds it")]
static KEY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:sk|pk|rk|ghp|gho|ghs|xox[abp]|AKIA|AIza|eyJ)[A-Za-z0-9_.+/=-]{16,}|[A-Za-z0-9_+/=-]{24,}")
        .expect("a constant pattern")
});

/// The text with its secrets replaced. Redacting twice is the same as redacting once.
pub fn redact(text: &str) -> String {
    // A marker is never part of a secret, and a replacement can bring two halves together only over a marker.
    let text = NAMED.replace_all(text, format!("${{1}}${{2}}{SECRET}"));
    let text = ACCOUNT.replace_all(&text, |found: &Captures<'_>| redact_account(&found[0]));
    let text = redact_cards(&text);
    KEY.replace_all(
        &text,
        |found: &Captures<'_>| {
            if is_random(&found[0]) { TOKEN.to_owned() } else { found[0].to_owned() }
        },
    )
    .into_owned()
}

/// Replaces the longest beginning whose check digits are right; words that follow may look like part of it.
fn redact_account(found: &str) -> String {
    (15..=found.len())
        .rev()
        .filter(|&end| found.is_char_boundary(end))
        .filter(|&end| !found[..end].ends_with(' '))
        .find(|&end| is_account(&found[..end]))
        .map_or_else(|| found.to_owned(), |end| format!("{IBAN}{}", &found[end..]))
}

/// ISO 13616: the first four characters go to the end, letters count from 10, and the rest of the division by 97 is 1.
fn is_account(text: &str) -> bool {
    let compact: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    (15..=34).contains(&compact.len())
        && compact[4..].iter().chain(&compact[..4]).fold(0_u32, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
        }) == 1
}

/// Replaces runs of 13 to 19 digits, in groups or not, that pass the check of ISO/IEC 7812 (Luhn).
fn redact_cards(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, run) = rest.split_at(start);
        out.push_str(before);
        let ends_word = before.chars().next_back().is_some_and(char::is_alphanumeric);
        if let Some(end) = card_end(run).filter(|_| !ends_word) {
            out.push_str(CARD);
            rest = &run[end..];
        } else {
            // On to the next group of digits: the card may begin there.
            let end = run.find(|c: char| !c.is_ascii_digit()).unwrap_or(run.len());
            out.push_str(&run[..end]);
            rest = &run[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where the longest card number that begins here ends.
fn card_end(run: &str) -> Option<usize> {
    let bytes = run.as_bytes();
    let (mut digits, mut found) = (Vec::new(), None);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits.push(u32::from(byte - b'0')),
            b' ' | b'-' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => continue,
            _ => break,
        }
        let ends = !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
        if ends && (13..=19).contains(&digits.len()) && is_card(&digits) {
            found = Some(at + 1);
        }
    }
    found
}

fn is_card(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// A word of a language or an address has few digits and few changes between letters and digits; a key has many.
fn is_random(word: &str) -> bool {
    let bytes = word.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let changes = bytes
        .windows(2)
        .filter(|two| two.iter().all(u8::is_ascii_alphanumeric) && two[0].is_ascii_digit() != two[1].is_ascii_digit())
        .count();
    digits >= 3 && letters >= 3 && changes >= 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let cases = [
            ("my card is 4111 1111 1111 1111 ok?", "my card is [card] ok?"),
            ("take 5 4111-1111-1111-1111", "take 5 [card]"),
            ("call me at 4111 1111 1111 1112", "call me at 4111 1111 1111 1112"),
            ("to DE89 3704 0044 0532 0130 00 please", "to [iban] please"),
            ("to GB82WEST12345698765432 AND THEN", "to [iban] AND THEN"),
            ("Password: hunter2, do not tell", "Password: [secret] do not tell"),
            ("das passwort ist Geheim99", "das passwort ist [secret]"),
            ("api_key=abc", "api_key=[secret]"),
            ("use ghp_a1b2c3d4e5f6g7h8i9j0k1l2m3n4", "use [token]"),
            (
                "see https://example.org/2024/05/a-rather-long-title-of-an-article",
                "see https://example.org/2024/05/a-rather-long-title-of-an-article",
            ),
            ("I forgot my password again", "I forgot my password again"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected);
        }
    }

    /// The last digit that makes a number pass Luhn's check.
    fn with_check_digit(mut digits: Vec<u32>) -> String {
        digits.push(0);
        let last = digits.len() - 1;
        while !is_card(&digits) {
            digits[last] += 1;
        }
        digits.iter().map(ToString::to_string).collect()
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_twice_is_once(text in "\\PC{0,200}") {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once);
        }

        #[test]
        fn no_card_number_survives(
            digits in proptest::collection::vec(1_u32..10, 12..18), before in "[a-z ]{0,10} ", after in " [a-z ?!]{0,10}",
        ) {
            let card = with_check_digit(digits);
            let redacted = redact(&format!("{before}{card}{after}"));
            prop_assert!(!redacted.contains(&card));
        }

        #[test]
        fn plain_words_are_left_alone(text in "([a-z]{1,9} ){0,12}") {
            prop_assume!(!NAMED.is_match(&text));
            prop_assert_eq!(redact(&text), text);
        }
    }
}
