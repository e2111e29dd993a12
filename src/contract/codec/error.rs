//! Why a record could not be written or read: sentences without a word of its text.

use crate::error::{Class, Classified};

/// A record that cannot be read. It names the topic and the place in the record, never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the topic {topic:?} cannot be read: {fault}")]
pub struct DecodeError {
    /// The topic it came from.
    pub topic: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A record that must not be written, because no reader would take it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of type {ce_type} cannot be written: {fault}")]
pub struct EncodeError {
    /// Its type.
    pub ce_type: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Classified for DecodeError {
    fn class(&self) -> Class {
        Class::Permanent
    }
}

impl Classified for EncodeError {
    fn class(&self) -> Class {
        Class::Permanent
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No record of this topic has a meaning here.
    #[error("nothing is read from this topic; check which topics the consumer was given")]
    UnknownTopic,
    /// The record is larger than any this system writes.
    #[error("it has {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Bytes of key, headers and body.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// A key is set and the record does not carry the right proof.
    #[error("it carries no valid header autoreply-mac; it was not written by this process")]
    NotAuthentic,
    /// A header that every record must have is missing or is not UTF-8.
    #[error("the header {name} is missing or is not UTF-8")]
    MissingHeader {
        /// The header's name.
        name: &'static str,
    },
    /// A header has a value that is not allowed.
    #[error("the header {name} must be {expected}")]
    BadHeader {
        /// The header's name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The type is known, in an older version: this program is older than the writer.
    #[error("its type {known} has the newer version v{found}; upgrade this program before the writers")]
    NewerVersion {
        /// The type as this program knows it.
        known: &'static str,
        /// The version that was found.
        found: u32,
    },
    /// The type is not known in any version.
    #[error("the type in its header ce_type is not known")]
    UnknownType,
    /// The type belongs to another topic.
    #[error("the type {ce_type} does not belong to this topic")]
    WrongTopic {
        /// The type that was found.
        ce_type: &'static str,
    },
    /// The body is not UTF-8.
    #[error("its body is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The first byte that is wrong, from 0.
        at: usize,
    },
    /// The body is not JSON.
    #[error("its body is not JSON at line {line}, column {column}")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The body is JSON of another shape.
    #[error("its field {path:?} is missing, or has another type than the schema says")]
    WrongShape {
        /// The field, as a path of names from the schema.
        path: String,
    },
    /// A field has a value outside its range.
    #[error("its field {field} must be {expected}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The key is not the one that the body demands, so the record's order is not the promised one.
    #[error("its key must be {expected}")]
    WrongKey {
        /// What the key must be.
        expected: &'static str,
    },
}
