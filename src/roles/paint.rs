//! Colour for a terminal, which never says anything that the words do not say too.

use std::io::IsTerminal as _;

use super::Context;

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colour.
    pub fn plain() -> Self {
        Self { on: false }
    }

    /// Colour, whatever the output is.
    #[cfg(test)]
    pub fn coloured() -> Self {
        Self { on: true }
    }

    /// Colour where a person looks at a terminal that has it, and did not set NO_COLOR.
    pub fn of(context: &Context) -> Self {
        let refused = context.environment.get("NO_COLOR").is_some() || context.environment.get("TERM") == Some("dumb");
        Self { on: !context.json && !refused && std::io::stdout().is_terminal() }
    }

    /// Whether there is colour.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// What is as it should be.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What hurts.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What is worth knowing.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::roles::Environment;

    #[test]
    fn there_is_no_colour_where_nobody_wants_it() {
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "xterm")] {
            let environment = Environment(BTreeMap::from([(name.to_owned(), value.to_owned())]));
            let context = Context::gather(None, None, false, environment).unwrap();
            // A test's output is no terminal, so that the last case is plain too.
            let captured = !std::io::stdout().is_terminal();
            assert!(!Paint::of(&context).is_on() || (!captured && value == "xterm"), "{name}={value}");
        }
        assert_eq!(Paint::plain().bad("x"), "x");
        assert_eq!(Paint::coloured().bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}
