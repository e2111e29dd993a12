//! The shape of a record on the wire: topic, key, CloudEvents headers, JSON body.

/// The topics.
pub mod topic {
    /// Turns as desktops saw them, keyed by conversation.
    pub const MESSAGES: &str = "autoreply.messages";
    /// Commands and acknowledgements, keyed by desktop.
    pub const COMMANDS: &str = "autoreply.commands";
    /// What became of turns, keyed by conversation.
    pub const OUTCOMES: &str = "autoreply.outcomes";
    /// Hellos of desktops, keyed by desktop.
    pub const DESKTOPS: &str = "autoreply.desktops";
    /// What workers tell desktops beside commands, keyed by desktop. Types that an older desktop could not read.
    pub const NOTICES: &str = "autoreply.notices";
    /// Modes, pauses and stops, keyed by scope, compacted.
    pub const CONTROLS: &str = "autoreply.controls";
    /// What could not be read, as it came.
    pub const DEAD_LETTERS: &str = "autoreply.dead-letters";
    /// All of them.
    pub const ALL: [&str; 7] = [MESSAGES, COMMANDS, OUTCOMES, DESKTOPS, NOTICES, CONTROLS, DEAD_LETTERS];
}

/// A record ready for Kafka, or as it came from there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WireRecord {
    /// The topic.
    pub topic: String,
    /// The key, which decides the partition and so the order.
    pub key: Vec<u8>,
    /// Headers in the order in which they came; names are ASCII.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The JSON body.
    pub payload: Vec<u8>,
}

impl WireRecord {
    /// The value of the last header of this name, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .rev()
            .find(|(header, _)| header == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}
