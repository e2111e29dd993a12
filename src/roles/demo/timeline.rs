//! What happens, for people who watch: one line an event, with its time since the scene began.

use std::io::Write as _;

/// Writes the timeline to standard output. A reader that has gone is no error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeline;

impl Timeline {
    /// A line by itself.
    pub fn say(self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _gone = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// One event, `after_ms` milliseconds since the scene began.
    pub fn event(self, after_ms: i64, what: &str, detail: &str) {
        self.say(format!("  {after_ms:>+7} ms  {what:<9} {detail}").trim_end());
    }
}

/// The middle of some values, the lower one where there are two; `None` of nothing.
#[must_use]
pub fn median(values: &[i64]) -> Option<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7]), Some(7));
        assert_eq!(median(&[900, 1, 5]), Some(5));
        assert_eq!(median(&[4, 3, 2, 1]), Some(2));
    }
}
