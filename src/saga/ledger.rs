//! The port of the ledger: what is answered, and what became of it. It is the authority; implementations live in the
//! room `ledger`.
//!
//! Every method that writes takes a slice, is one transaction a group, and answers for each item. An item that the
//! database rejects is answered with [`Rejected`]; the others of its group are written. Leases, deadlines and days are
//! measured by the ledger's own clock (a server's on a server).

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::state::{End, Event, Phase, State, step};
use super::{Desks, Draft, Exchange, Workers};
use crate::contract::{
    Command, ConversationId, DesktopId, DraftVersion, Effect, MessagesDetected, ReplyOutcome, ReplySend, ReplyWithdraw,
    Revision, Timings, TurnId,
};
use crate::error::{Class, Classified, Problem};

/// Fences a worker's writes: each lease of a saga has a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseToken(pub u64);

/// Who asks for a lease, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The worker's name.
    pub worker: String,
    /// How long it holds unless renewed.
    pub hold: Duration,
}

/// An item that the database will never take, as a sentence without chat text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot take this row: {0}")]
pub struct Rejected(pub String);

/// On which terms turns are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who takes their leases, and for how long.
    pub lease: LeaseRequest,
    /// How long each turn has to be issued or ended.
    pub finish_within: Duration,
    /// How long a desk that says no hello owns an account by sending a turn.
    pub account_hold: Duration,
    /// Whether one reply of the day's quota is kept, in the same transaction, for each turn whose mode allows one.
    pub reserve_quota: bool,
}

/// Whether a reply of the day's quota was kept when the turn was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nobody asked for it, or the turn's mode is off.
    NotAsked,
    /// It is reserved: the saga stands at [`Phase::QuotaReserved`].
    Reserved,
    /// The day's quota is used up: the saga stands at [`Phase::Recorded`].
    Exhausted,
}

/// A recorded turn that is the caller's to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lease under which it may be changed.
    pub lease: LeaseToken,
    /// Its place in the day's quota.
    pub quota: Kept,
    /// The ownership of the account that its reply has to name; none for a desk that says no hello.
    pub owner_token: Option<u64>,
}

/// What recording a turn came to. Every one of them is to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The turn was not known; the caller holds its lease.
    New(Taken),
    /// A newer revision restarted the saga; the caller holds its lease, whoever held it before.
    Newer(Taken),
    /// This desktop answers for the account, so the turn was recorded and has ended.
    NotOwner(DesktopId),
    /// This revision or a newer one was there already.
    Known,
    /// The turn has ended, so there is nothing to do.
    Closed,
}

/// A draft as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDraft {
    /// The revision it answers.
    pub revision: Revision,
    /// Which of the turn's drafts it is.
    pub version: DraftVersion,
    /// The draft.
    pub draft: Draft,
}

/// A saga with all that is needed to go on with it.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSaga {
    /// The turn as it was recorded.
    pub detected: MessagesDetected,
    /// Where it stands.
    pub phase: Phase,
    /// The lease under which it may be changed.
    pub lease: LeaseToken,
    /// The draft of this revision, if there is one.
    pub draft: Option<StoredDraft>,
    /// How often it has been taken over.
    pub takeovers: u32,
    /// As in [`Taken`].
    pub owner_token: Option<u64>,
}

/// A change of one saga. It carries what must be written in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Keep one reply of the day's quota.
    ReserveQuota,
    /// Store this draft.
    StoreDraft(Draft),
    /// Let the draft wait for a person this long; the lease ends.
    RequestApproval {
        /// How long it may wait.
        lifetime: Duration,
    },
    /// Write the command to type it; the lease ends.
    Issue {
        /// The command.
        send: ReplySend,
        /// When an answer is overdue.
        answer_within: Duration,
    },
    /// End it before anything was issued.
    Abandon {
        /// In this effect.
        effect: Effect,
        /// Why, without chat text.
        reason: String,
    },
    /// Ask an issued reply back.
    Withdraw {
        /// The request.
        withdraw: ReplyWithdraw,
        /// When an answer is overdue.
        answer_within: Duration,
    },
    /// Nobody answered the withdrawal: a person has to look.
    HandOver {
        /// Why, without chat text.
        reason: String,
    },
}

impl Change {
    /// The event of this change.
    pub fn event(&self) -> Event {
        match self {
            Self::ReserveQuota => Event::QuotaReserved,
            Self::StoreDraft(_) => Event::DraftStored,
            Self::RequestApproval { .. } => Event::ApprovalRequested,
            Self::Issue { .. } => Event::Issued,
            Self::Abandon { effect, .. } => Event::Abandoned(*effect),
            Self::Withdraw { .. } => Event::WithdrawalRequested,
            Self::HandOver { .. } => Event::HandedOver,
        }
    }

    /// What the story says beside the event's name.
    pub fn detail(&self) -> String {
        match self {
            Self::StoreDraft(draft) => format!("by {}", draft.provider),
            Self::Abandon { reason, .. } | Self::HandOver { reason } => reason.clone(),
            Self::Withdraw { withdraw, .. } => withdraw.reason.clone(),
            Self::ReserveQuota | Self::RequestApproval { .. } | Self::Issue { .. } => String::new(),
        }
    }
}

/// Changes of one saga that are made together or not at all, conditional on revision, lease and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Drawn once by the caller: asking again after an unknown commit is answered with what was done.
    pub id: Uuid,
    /// The saga.
    pub turn: TurnId,
    /// The revision it must be at.
    pub revision: Revision,
    /// The lease that must still hold.
    pub lease: LeaseToken,
    /// Who asks, for the story.
    pub who: String,
    /// Where its turn stands in its trace, for who watches; it is not kept.
    pub traceparent: Option<String>,
    /// What is to change, in this order; each must be legal in the state that the one before leads to.
    pub changes: Vec<Change>,
}

impl Transition {
    /// The id of the event of the change at `index`; the first one's is the transition's own.
    pub fn event_id(&self, index: usize) -> Uuid {
        Uuid::from_u128(self.id.as_u128().wrapping_add(index as u128))
    }

    /// Whether the table allows every change, one after the other, from `state`.
    pub fn is_legal_from(&self, state: State) -> bool {
        self.changes.iter().try_fold(state, |state, change| step(state, change.event())).is_ok()
    }
}

/// What a transition came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transitioned {
    /// It is written; a draft has this version, a command this entry.
    Done {
        /// The new state.
        state: State,
        /// The version of the draft that was stored.
        draft: Option<DraftVersion>,
        /// The outbox's entry of the command that was written.
        entry: Option<EntryId>,
        /// How it ended, if this ended it; not known of one that was done by an earlier call.
        end: Option<End>,
    },
    /// The revision, the lease or the state is another one: somebody else goes on with it.
    Lost,
    /// The day's quota is used up; nothing was written.
    QuotaExhausted,
}

/// The place of a command in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub i64);

/// A command that waits to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCommand {
    /// Its place.
    pub entry: EntryId,
    /// The command.
    pub command: Command,
    /// Where its turn stands in its trace, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// A person's word about a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The saga.
    pub turn: TurnId,
    /// The version they saw.
    pub version: DraftVersion,
    /// Who.
    pub by: String,
    /// Approve (`true`) or reject.
    pub approve: bool,
    /// When an answer to the command is overdue.
    pub answer_within: Duration,
}

/// What a decision came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// The command is written.
    Issued(PendingCommand),
    /// The saga has ended as rejected.
    Rejected,
    /// There is no such turn.
    Unknown,
    /// It does not wait for approval.
    NotAwaiting(State),
    /// The draft has changed since.
    OtherVersion(DraftVersion),
}

/// What an outcome came to. Every one of them is to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It ended the saga, or replaced a weaker effect.
    Ended {
        /// Set when this made it confirmed: what is to be remembered.
        exchange: Option<Exchange>,
        /// How it ended.
        end: End,
    },
    /// It changed nothing: a weaker word, or one about an older revision.
    Kept,
    /// The ledger had been told this very word.
    Repeated,
    /// No such turn yet: kept, and applied when the turn is recorded.
    Orphan,
}

/// One line of a saga's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryLine {
    /// When, by the ledger's clock.
    pub at: Timestamp,
    /// Who: a worker, a person, a desktop.
    pub who: String,
    /// The revision it is about.
    pub revision: Revision,
    /// The event's name.
    pub event: String,
    /// The state before; `None` for the first line.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// More, without chat text.
    pub detail: String,
    /// Of an outcome: when each step happened on the desk, by the desk's clock.
    pub times: Option<Timings>,
}

/// Which sagas to list; the newest come first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this phase.
    pub phase: Option<Phase>,
    /// Only those that ended in this effect.
    pub effect: Option<Effect>,
    /// Only those of this conversation.
    pub conversation: Option<ConversationId>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// A saga as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The saga.
    pub turn: TurnId,
    /// Its revision.
    pub revision: Revision,
    /// Where it stands.
    pub state: State,
    /// The conversation.
    pub conversation: ConversationId,
    /// The other side's name; empty once forgotten.
    pub peer: String,
    /// Where it is typed.
    pub desktop: DesktopId,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The draft to approve or the reply sent, if its text is still held.
    pub draft: Option<StoredDraft>,
}

/// A saga whole, for `sagas show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// The summary.
    pub summary: Summary,
    /// The turn as recorded; `None` once its text is over age or forgotten.
    pub detected: Option<MessagesDetected>,
    /// Everything that happened, oldest first.
    pub story: Vec<StoryLine>,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Ended sagas and their stories.
    pub rows: Duration,
    /// Chat text of ended sagas.
    pub text: Duration,
}

/// What pruning took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Sagas removed.
    pub rows: u64,
    /// Sagas whose text was removed.
    pub texts: u64,
}

/// What the ledger holds, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many sagas stand in each state; what has ended is counted only where that costs nothing.
    pub by_state: Vec<(State, u64)>,
    /// The age of the oldest saga that has not ended.
    pub oldest_open: Option<Duration>,
    /// For how long the one that stands longest in each phase has stood there; only phases in which one stands.
    pub oldest_in: Vec<(Phase, Duration)>,
    /// Sagas that have not ended although their deadline is over.
    pub overdue: u64,
    /// Commands that wait to be published.
    pub unpublished: u64,
    /// Replies of today's quota that are reserved or used.
    pub quota_taken: u64,
}

/// The connections of a ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that somebody works with.
    pub in_use: u32,
    /// Connections that wait for work.
    pub idle: u32,
}

/// Why the ledger did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be reached or is busy; every method may be called again with the same arguments.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// A person has to mend it.
    #[error("{0}")]
    Storage(Problem),
}

impl Classified for LedgerError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) => Class::Transient,
            Self::Storage(_) => Class::Permanent,
        }
    }
}

/// The result of a method that answers for each item.
pub type Each<T> = Result<Vec<Result<T, Rejected>>, LedgerError>;

/// The authority about what is answered.
#[async_trait]
pub trait Ledger: Desks + Workers {
    /// Records turns on these terms.
    async fn record_turns(&self, turns: &[MessagesDetected], terms: &Terms) -> Each<Receipt>;

    /// Makes these transitions, each whole with its events, draft, quota and command, or not at all.
    async fn transition(&self, transitions: &[Transition]) -> Each<Transitioned>;

    /// Applies a person's word.
    async fn decide(&self, decision: &Decision) -> Result<Decided, LedgerError>;

    /// Applies what executors say.
    async fn apply_outcomes(&self, outcomes: &[ReplyOutcome]) -> Each<Applied>;

    /// Prolongs leases that still hold to `hold` from now (zero gives them back); `false` where one was lost.
    async fn renew(&self, leases: &[(TurnId, LeaseToken)], hold: Duration) -> Result<Vec<bool>, LedgerError>;

    /// Takes over sagas that wait for a worker, whose lease has ended and whose deadline has not.
    async fn take_over(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError>;

    /// Takes sagas whose deadline has passed, to be compensated.
    async fn take_overdue(&self, lease: &LeaseRequest, limit: u32) -> Result<Vec<OpenSaga>, LedgerError>;

    /// Takes commands that were written and not published, whose writer has had its time; nobody else is given them for
    /// `hold`.
    async fn take_commands(&self, hold: Duration, limit: u32) -> Result<Vec<PendingCommand>, LedgerError>;

    /// These commands were published.
    async fn mark_published(&self, entries: &[EntryId]) -> Result<(), LedgerError>;

    /// One saga whole.
    async fn show(&self, turn: TurnId) -> Result<Option<Detail>, LedgerError>;

    /// What happened to a saga, oldest first; empty if it is not known.
    async fn story(&self, turn: TurnId) -> Result<Vec<StoryLine>, LedgerError>;

    /// The sagas that match.
    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LedgerError>;

    /// Removes what is over age, in bounded bites; call it again until it takes nothing.
    async fn prune(&self, retention: Retention) -> Result<Pruned, LedgerError>;

    /// Removes everything written and every name in conversations with `peer`, and ends what is not issued as `off`.
    /// What remains is a bare id, so that a redelivered record is not taken for a new turn.
    async fn forget(&self, peer: &str) -> Result<Vec<ConversationId>, LedgerError>;

    /// What it holds.
    async fn counts(&self) -> Result<Counts, LedgerError>;

    /// Its connections at this moment.
    fn pool(&self) -> PoolUse;

    /// Waits for what is being written and closes it; everything that is asked after that is answered with an error.
    async fn close(&self);
}
