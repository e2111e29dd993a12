//! Ids that are derived, never drawn: the same facts give the same id on every machine and after every crash.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of every id derived here; made once for this project, never to be changed.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_2b0c_4f5e_5a8a_9c3e_0d7b_51a4_e2f7);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One peer on one account of one application network, wherever it is seen.
    ConversationId
}
uuid_id! {
    /// One turn of a conversation in one journal. It is the saga id and the idempotency key of everything about it.
    TurnId
}
uuid_id! {
    /// One journal file, drawn when the file is made: a lost journal is a new journal, and nothing old can collide.
    JournalId
}

uuid_id! {
    /// One run of a desktop's process, drawn when it starts: two at a time that use one journal are a copied desk.
    InstanceId
}

impl InstanceId {
    /// A fresh id for a process that has just started.
    pub fn draw() -> Self {
        Self(Uuid::new_v4())
    }
}

impl ConversationId {
    /// The id of the conversation with `peer` by `account` on `network`.
    pub fn derive(network: &str, account: &str, peer: &str) -> Self {
        Self(derive("conversation", &[network.as_bytes(), account.as_bytes(), peer.as_bytes()]))
    }
}

impl JournalId {
    /// A fresh id for a journal file that has just been made.
    pub fn draw() -> Self {
        Self(Uuid::new_v4())
    }
}

impl TurnId {
    /// The id of turn `number` of `conversation` in `journal`.
    pub fn derive(journal: JournalId, conversation: ConversationId, number: u64) -> Self {
        Self(derive("turn", &[journal.0.as_bytes(), conversation.0.as_bytes(), &number.to_be_bytes()]))
    }
}

/// A version 5 UUID over length-prefixed fields, so that no two lists of fields give the same bytes.
fn derive(kind: &str, fields: &[&[u8]]) -> Uuid {
    let mut name = Vec::new();
    for field in std::iter::once(kind.as_bytes()).chain(fields.iter().copied()) {
        name.extend_from_slice(&(field.len() as u64).to_be_bytes());
        name.extend_from_slice(field);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

/// How often a turn has grown since it was opened; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
#[serde(transparent)]
pub struct Revision(pub u32);

impl Revision {
    /// The revision of a turn that has just been opened.
    pub const FIRST: Self = Self(1);

    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which text of a draft a person saw when they approved it; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DraftVersion(pub u32);

impl fmt::Display for DraftVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a desktop: 1 to 64 of `A-Z a-z 0-9 . _ -`. It keys the commands topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DesktopId(String);

/// A desktop's name that is empty, too long, or holds another character.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the desktop name {0:?} is not 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct InvalidDesktopId(pub String);

impl DesktopId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DesktopId {
    type Error = InvalidDesktopId;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if fits { Ok(Self(name)) } else { Err(InvalidDesktopId(name)) }
    }
}

impl From<DesktopId> for String {
    fn from(id: DesktopId) -> Self {
        id.0
    }
}

impl fmt::Display for DesktopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_for_the_same_facts_and_fields_do_not_run_together() {
        let one = ConversationId::derive("irc", "me", "alice");
        assert_eq!(one, ConversationId::derive("irc", "me", "alice"));
        assert_ne!(one, ConversationId::derive("irc", "mea", "lice"));
        assert_ne!(one, ConversationId::derive("ircm", "e", "alice"));
        let journal = JournalId::draw();
        assert_ne!(TurnId::derive(journal, one, 1), TurnId::derive(journal, one, 2));
        assert_ne!(TurnId::derive(journal, one, 1), TurnId::derive(JournalId::draw(), one, 1));
    }

    #[test]
    fn a_derived_id_is_pinned() {
        // A change here would make every conversation a new one on every desk.
        insta::assert_snapshot!(ConversationId::derive("irc.example", "me", "alice"), @"b7557383-5863-5506-9171-23332418f2d6");
    }

    #[test]
    fn desktop_names_are_checked() {
        assert!(DesktopId::try_from("desk-1.office_2".to_owned()).is_ok());
        assert!(DesktopId::try_from(String::new()).is_err());
        assert!(DesktopId::try_from("a b".to_owned()).is_err());
        assert!(DesktopId::try_from("a".repeat(65)).is_err());
    }
}
