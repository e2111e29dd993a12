//! `autoreply settings show`.

use super::{Context, json};

/// The settings in force, or the defaults with their explanations.
pub fn show(context: &Context, defaults: bool) -> String {
    match (defaults, context.json) {
        (true, false) => crate::settings::DEFAULTS.to_owned(),
        (false, false) => context.layers.show(),
        (true, true) => json(&crate::settings::defaults()),
        (false, true) => json(&serde_json::json!({
            "settings": context.layers.values(),
            "set_by": context.layers.origins(),
        })),
    }
}
