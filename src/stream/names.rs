//! How the names of topics stand on the broker. Pure.

use std::sync::Arc;

/// What the logical names begin with.
const ROOT: &str = "autoreply.";

/// Translates between the logical names of topics (`autoreply.messages`) and those on the broker
/// (`<prefix>.messages`), so that several installations share a cluster. Nothing outside the stream sees the latter.
#[derive(Debug, Clone)]
pub(super) struct Names(Arc<str>);

impl Names {
    /// Names that begin with `prefix` and a dot on the broker.
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("{prefix}.").into())
    }

    /// The name on the broker. One that is not ours stays as it is.
    pub(super) fn physical(&self, logical: &str) -> String {
        logical.strip_prefix(ROOT).map_or_else(|| logical.to_owned(), |rest| format!("{}{rest}", self.0))
    }

    /// The name in this program.
    pub(super) fn logical(&self, physical: &str) -> String {
        physical.strip_prefix(&*self.0).map_or_else(|| physical.to_owned(), |rest| format!("{ROOT}{rest}"))
    }

    /// Whether a topic on the broker carries our prefix.
    pub(super) fn owns(&self, physical: &str) -> bool {
        physical.starts_with(&*self.0)
    }
}

/// Whether `prefix` may begin a topic's name, with room for the rest of it.
pub(super) fn is_prefix(prefix: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !prefix.is_empty() && prefix.len() <= 200 && prefix.chars().all(plain) && !prefix.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::wire::topic;

    #[test]
    fn names_are_translated_there_and_back() {
        let names = Names::new("team-a.test");
        assert_eq!(names.physical(topic::DEAD_LETTERS), "team-a.test.dead-letters");
        for logical in [topic::MESSAGES, topic::COMMANDS, topic::OUTCOMES, topic::CONTROLS, topic::DEAD_LETTERS] {
            assert_eq!(Names::new("autoreply").physical(logical), logical);
            assert!(names.owns(&names.physical(logical)) && !names.owns(logical));
            assert_eq!(names.logical(&names.physical(logical)), logical);
        }
        assert_eq!(names.logical("elsewhere"), "elsewhere");
    }

    #[test]
    fn a_prefix_is_what_a_topic_may_begin_with() {
        assert!(is_prefix("autoreply") && is_prefix("a_b-c.d"));
        assert!(
            !is_prefix("") && !is_prefix("ä") && !is_prefix(".a") && !is_prefix("a b") && !is_prefix(&"a".repeat(201))
        );
    }
}
