//! `autoreply settings show`.

use super::Context;

/// The settings in force, or the defaults with their explanations.
pub fn show(context: &Context, defaults: bool) -> String {
    if defaults { crate::settings::DEFAULTS.to_owned() } else { context.layers.show() }
}
