//! The reply's life: states, steps, compensation, recovery. It owns the ports that others implement.

mod answer;
mod desks;
mod group;
mod handler;
mod ledger;
mod notices;
pub mod ownership;
mod ports;
mod publications;
mod recovery;
mod settings;
pub mod state;
mod told;
mod workers;

#[cfg(test)]
pub(crate) mod samples;

pub use desks::{Desk, Desks, OwnedAccount};
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
pub use workers::{
    FORGOTTEN_AFTER, OVERDUE_AFTER, PhaseStanding, Standing, TopicLag, WorkerFigures, WorkerSeen, WorkerWord, Workers,
};
