//! What the rooms tell the metrics.

use crate::contract::Effect;
use crate::telemetry::metrics::Outcome;

#[cfg(feature = "desktop")]
mod desk;
#[cfg(feature = "worker")]
mod providers;
#[cfg(feature = "worker")]
mod work;

#[cfg(feature = "desktop")]
pub use desk::Executed;
#[cfg(feature = "worker")]
pub use providers::Providers;
#[cfg(feature = "worker")]
pub use work::{Guarded, LedgerFigures, SharedStore, Timed, lag};

/// The label of an effect: telemetry knows no word of the contract, so that no id of it can become a label.
pub fn outcome(effect: Effect) -> Outcome {
    match effect {
        Effect::Confirmed => Outcome::Confirmed,
        Effect::Unverifiable => Outcome::Unverifiable,
        Effect::Refused => Outcome::Refused,
        Effect::Failed => Outcome::Failed,
        Effect::Expired => Outcome::Expired,
        Effect::Superseded => Outcome::Superseded,
        Effect::HumanReplied => Outcome::HumanReplied,
        Effect::Off => Outcome::Off,
        Effect::Capped => Outcome::Capped,
        Effect::TooOld => Outcome::TooOld,
        Effect::Rejected => Outcome::Rejected,
        Effect::NotOwner => Outcome::NotOwner,
        Effect::NeedsAttention => Outcome::NeedsAttention,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Label as _;

    #[test]
    fn an_effect_has_the_same_name_everywhere() {
        assert_eq!(Outcome::ALL.len(), Effect::ALL.len());
        for effect in Effect::ALL {
            assert_eq!(outcome(effect).value(), effect.as_str());
        }
    }
}
