//! What became of a turn, and the evidence for it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The one thing that became of a turn. Every turn ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The reply was shown in the right conversation, below the watermark. "Shown", not "delivered".
    Confirmed,
    /// Enter was pressed and no evidence was found; never typed again.
    Unverifiable,
    /// The desktop would not type: wrong or ambiguous window, a foreign grab, an input that cannot be read back.
    Refused,
    /// Nothing was sent because something broke.
    Failed,
    /// The reply's time to live ended before it could be typed.
    Expired,
    /// Newer inbound text made the reply stale; what it answered is part of the next turn.
    Superseded,
    /// The person answered first.
    HumanReplied,
    /// The mode is off, or a stop reached the reply.
    Off,
    /// The cap on automatic replies was reached.
    Capped,
    /// The message was over the age limit when it was first seen.
    TooOld,
    /// A person rejected the draft.
    Rejected,
    /// Another desktop owns this account.
    NotOwner,
    /// A human has to look: nothing more can be done automatically.
    NeedsAttention,
}

impl Effect {
    /// Every effect, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Confirmed,
        Self::Unverifiable,
        Self::Refused,
        Self::Failed,
        Self::Expired,
        Self::Superseded,
        Self::HumanReplied,
        Self::Off,
        Self::Capped,
        Self::TooOld,
        Self::Rejected,
        Self::NotOwner,
        Self::NeedsAttention,
    ];

    /// The name as it stands in records, databases and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unverifiable => "unverifiable",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::HumanReplied => "human_replied",
            Self::Off => "off",
            Self::Capped => "capped",
            Self::TooOld => "too_old",
            Self::Rejected => "rejected",
            Self::NotOwner => "not_owner",
            Self::NeedsAttention => "needs_attention",
        }
    }

    /// Whether Enter was pressed: the only effects in which something may have left the machine.
    pub fn may_have_sent(self) -> bool {
        matches!(self, Self::Confirmed | Self::Unverifiable)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Effect {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|effect| effect.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not the name of an effect"))
    }
}

/// Why `confirmed` may be claimed, or how near it came. It holds no chat text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The last message's sequence number in the journal when Enter was pressed: what is ours lies above it.
    pub watermark: u64,
    /// The sequence number of our own line on screen, if one was found.
    pub shown_as: Option<u64>,
    /// How much that line reads like the reply, 0 to 1.
    pub similarity: Option<f64>,
    /// Whether the input was read back as empty after Enter.
    pub input_empty: Option<bool>,
    /// Whether the text in the input was read back exactly before Enter.
    pub read_back_exact: bool,
}

/// When each step happened, on the desktop's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// The turn's last message was detected.
    pub detected_at: Option<Timestamp>,
    /// The conversation had been quiet for long enough after it: the turn was due to be published. Desks of release
    /// 0.1.0 leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_at: Option<Timestamp>,
    /// The command reached the desktop.
    pub received_at: Option<Timestamp>,
    /// The first key, or the paste.
    pub typed_at: Option<Timestamp>,
    /// Enter.
    pub submitted_at: Option<Timestamp>,
    /// Our own line was seen.
    pub shown_at: Option<Timestamp>,
}
