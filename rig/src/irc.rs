//! As much of IRC (RFC 2812) as the desk needs: lines apart, lines together. Pure.

use crate::Fault;

/// The most bytes of text that always fit a line of 512 with any prefix the server adds.
pub const MAX_TEXT_BYTES: usize = 400;

/// One line from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who sent it: the nick before "!", or the server's name; empty when the line has no prefix.
    pub from: &'a str,
    /// The command or the three digits.
    pub command: &'a str,
    /// What follows, the last one without its colon.
    pub params: Vec<&'a str>,
}

/// Takes a line apart; nothing that arrives is refused, a missing part is empty.
#[must_use]
pub fn parse(line: &str) -> Line<'_> {
    let (prefix, rest) = match line.strip_prefix(':') {
        Some(prefixed) => prefixed.split_once(' ').unwrap_or((prefixed, "")),
        None => ("", line),
    };
    let from = prefix.split_once('!').map_or(prefix, |(nick, _)| nick);
    let (middle, trailing) = match rest.split_once(" :") {
        Some((middle, trailing)) => (middle, Some(trailing)),
        None => (rest, None),
    };
    let mut words = middle.split(' ').filter(|word| !word.is_empty());
    let command = words.next().unwrap_or("");
    Line { from, command, params: words.chain(trailing).collect() }
}

/// The line that says `text` to `to`, with its line end.
///
/// # Errors
/// When the text cannot travel as one line: it is empty, holds a line end or NUL, or is too long.
pub fn say(to: &str, text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::Unsayable("it is empty"));
    }
    if text.contains(['\r', '\n', '\0']) || to.is_empty() || to.contains([' ', '\r', '\n', '\0', ',', ':']) {
        return Err(Fault::Unsayable("the text holds a line end or NUL, or the target is not one name"));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(Fault::Unsayable("it is longer than 400 bytes and would be cut on the way"));
    }
    Ok(format!("PRIVMSG {to} :{text}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_message_comes_apart() {
        let line = parse(":bob!~b@127.0.0.1 PRIVMSG alice :hi: é 你好 :)");
        let Line { from, command, params } = line;
        assert_eq!((from, command, params), ("bob", "PRIVMSG", vec!["alice", "hi: é 你好 :)"]));
        assert_eq!(parse("PING :x y").params, ["x y"]);
        assert_eq!(parse(":s 303 me :").params, ["me", ""]);
        assert_eq!(parse("").command, "");
    }

    #[test]
    fn what_is_said_comes_back_whole() {
        let said = say("alice", "two  words :and é").unwrap();
        assert_eq!(parse(said.trim_end_matches("\r\n")).params, ["alice", "two  words :and é"]);
    }

    #[test]
    fn what_a_line_cannot_carry_is_refused() {
        for (to, text) in [("a", ""), ("a", "x\r\nQUIT"), ("a b", "x"), ("", "x"), ("a", &"x".repeat(401))] {
            assert!(say(to, text).is_err(), "{to:?} {text:?}");
        }
    }
}
