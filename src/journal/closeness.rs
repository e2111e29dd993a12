//! Whether a line that was read reads like a reply that was sent.

/// From here on a line counts as ours.
const CLOSE: f64 = 0.8;
/// A part of a reply, as an application splits it, must have this many letters to be recognised.
const PART: usize = 12;

/// How much `line` reads like `reply`, 0 to 1: normalised edit distance over letters and digits in lower case.
pub(super) fn similarity(line: &str, reply: &str) -> f64 {
    strsim::normalized_levenshtein(&essence(line), &essence(reply))
}

/// Whether `line` is `reply` as it may be read back, or a part of it.
pub(super) fn is_close(line: &str, reply: &str) -> bool {
    let (line, reply) = (essence(line), essence(reply));
    if line.is_empty() || reply.is_empty() {
        return false;
    }
    strsim::normalized_levenshtein(&line, &reply) >= CLOSE
        || (line.chars().count() >= PART && reply.contains(line.as_str()))
}

/// Letters and digits in lower case; a text without any stands for itself without blanks.
fn essence(text: &str) -> String {
    let letters: String = text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    if letters.is_empty() { text.split_whitespace().collect() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_close_and_another_text_is_not() {
        let reply = "Thanks, I will be back at 5 pm.";
        assert!(is_close("thanks I wi1l be back at 5pm", reply));
        assert!(is_close("I will be back at 5 pm.", reply));
        assert!(is_close("👍", "👍"));
        assert!(!is_close("👍", "👎"));
        assert!(!is_close("Are you there?", reply));
        assert!(!is_close("back", reply));
        assert!(!is_close("", ""));
        assert!(similarity(reply, reply) > 0.99 && similarity("Are you there?", reply) < 0.5);
    }
}
