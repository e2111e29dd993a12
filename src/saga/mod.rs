//! The reply's life: states, steps, compensation, recovery. It owns the ports that others implement.

mod answer;
mod group;
mod handler;
mod ledger;
mod ports;
mod publications;
mod recovery;
mod settings;
pub mod state;

#[cfg(test)]
pub(crate) mod samples;

pub use handler::{Commands, CommandsError, Ports, Refused, Worker};
pub use ledger::{
    Applied, Change, Counts, Decided, Decision, Detail, Each, EntryId, Filter, Kept, LeaseRequest, LeaseToken, Ledger,
    LedgerError, OpenSaga, PendingCommand, PoolUse, Pruned, Receipt, Rejected, Retention, StoredDraft, StoryLine,
    Summary, Taken, Terms, Transition, Transitioned,
};
pub use ports::{
    Admission, Draft, DraftRequest, Exchange, GenerationError, Generator, Limits, LimitsError, Memory, MemoryError,
};
pub use recovery::Recovered;
pub use settings::Settings;
