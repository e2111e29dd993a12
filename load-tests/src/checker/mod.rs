//! The checker: judges from outside what came of a run. It reads the run's own files, the topics, the ledger, the
//! journals and the logs, and knows nothing of the program's own counters.
//!
//! [`judge`] is pure, over the plain data of [`material`]; [`load`] fetches that data. What each judgement means:
//!
//! - **Lost**: a message that was shown and that no visible reply names must be covered by a turn that ended for a
//!   reason. `superseded` alone is no reason, unless the person wrote by hand after it: what such a turn asked belongs
//!   to the next one. A turn whose reply is visible must have named every message it covers. A turn that is open is
//!   judged by *Open*. Lines by hand are no replies.
//! - **Order**: within a window, a line answers only messages that were shown before it, and only such that lie below
//!   every message that an earlier line answered. A line may answer several (what was superseded is answered by what
//!   comes after). Messages that an earlier line has answered already are left to *Duplicates*, and those of other
//!   windows to *Misdelivered*.
//! - **Claims**: a `confirmed` turn has a line whose text is a draft of it; a line belongs to a turn that ended
//!   `confirmed` or `unverifiable`, or was handed over to a person after it was issued (counted as unproven).

pub mod load;
pub mod material;
pub mod verdict;

mod books;
mod index;
mod lines;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use material::{Allowed, Facts};
pub use verdict::{Counts, Finding, Judgement, Verdict};

use index::Index;

/// Judges a run. The same facts give the same verdict.
pub fn judge(facts: &Facts, allowed: &Allowed) -> Verdict {
    let index = Index::of(facts, allowed);
    let mut counts = index.counts();
    let findings = Judgement::ALL
        .into_iter()
        .map(|judgement| {
            let offenders = match judgement {
                Judgement::Plan => lines::plan(&index),
                Judgement::Lost => lines::lost(&index, &mut counts),
                Judgement::Duplicates => lines::duplicates(&index),
                Judgement::Unknown => lines::unknown(&index),
                Judgement::Misdelivered => lines::misdelivered(&index),
                Judgement::Order => lines::order(&index),
                Judgement::Ends => books::ends(&index),
                Judgement::Claims => books::claims(&index, &mut counts),
                Judgement::Quota => books::quota(&index),
                Judgement::Open => books::open(&index),
                Judgement::DeadLetters => books::dead_letters(&index),
                Judgement::Records => books::records(&index),
                Judgement::Hygiene => {
                    facts.leaks.iter().map(|leak| format!("{} holds {}", leak.place, leak.token)).collect()
                }
            };
            Finding::of(judgement, offenders)
        })
        .collect();
    Verdict::new(counts, findings)
}
