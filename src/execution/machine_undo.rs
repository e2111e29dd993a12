//! The part of the machine that takes our text out of the input again, and nobody else's.

use super::machine::{Context, Finish, Look, Machine, Proof, Seen, Step, Then, Undo};
use crate::contract::Effect;

/// How often clearing is tried before a person has to look.
const CLEAR_TRIES: u32 = 3;
/// The input counts as empty when it was read so this often in a row: keys may still be on their way.
const EMPTY_READS: u32 = 3;

impl Machine {
    pub(super) fn on_undo(&mut self, undo: Undo, seen: Seen, context: Context) {
        match seen {
            Seen::Look(look) if !undo.clearing => self.on_undo_look(undo, &look, context),
            _ if undo.clearing => {
                let tries = undo.tries + 1;
                self.step = Step::Undo(Undo { clearing: false, tries, empties: 0, ..undo });
            }
            _ => self.wait(context, self.limits.clear_wait, |m| m.leave_behind(undo.then)),
        }
    }

    fn on_undo_look(&mut self, undo: Undo, look: &Look, context: Context) {
        let ours = |text: &str| !text.is_empty() && self.text.starts_with(text);
        match (look.proof, look.text.as_deref()) {
            // Gone, and our text with it.
            (Proof::Absent, _) => self.on_empty(undo),
            (Proof::Right, Some("")) => self.on_empty(undo),
            (Proof::Right, Some(text)) if ours(text) && undo.tries < CLEAR_TRIES => {
                self.step = Step::Undo(Undo { clearing: true, ..undo });
            }
            (Proof::Right, Some(text)) if !ours(text) && self.entered => self.finish_then(undo.then),
            _ => self.wait(context, self.limits.clear_wait, |m| m.leave_behind(undo.then)),
        }
    }

    fn on_empty(&mut self, undo: Undo) {
        let empties = undo.empties + 1;
        if empties >= EMPTY_READS {
            return self.finish_then(undo.then);
        }
        self.step = Step::Undo(Undo { empties, ..undo });
        self.pausing = true;
    }

    /// The input holds text that is not (only) ours, or cannot be read or emptied: a person has to look.
    fn leave_behind(&mut self, then: Then) {
        // A recovered intent is put back: the next attempt types only into an empty input.
        if self.entered || self.recovered {
            return self.finish_then(then);
        }
        if then == Then::Left {
            return self.done(Finish::Left);
        }
        let reason =
            "text of ours may still stand in the input: it could not be told from the person's, or not be emptied";
        self.done(Finish::End { effect: Effect::NeedsAttention, reason: reason.to_owned() });
    }
}
