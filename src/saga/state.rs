//! The life of one reply, pure: one table says which event may happen in which state, and what undoing costs.
//!
//! The table is also in `docs/saga.md`, which a test holds against it.

use std::fmt;
use std::str::FromStr;

use crate::contract::Effect;

/// Where a reply stands, without the effect it ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The ledger has the turn.
    Recorded,
    /// One reply of the day's quota is kept for it.
    QuotaReserved,
    /// A draft is stored.
    Drafted,
    /// A person has to approve the draft.
    AwaitingApproval,
    /// The command to type it is written; from here only the executor knows what became of it.
    Issued,
    /// Issued, unanswered for too long, and asked back.
    Withdrawing,
    /// It has its effect.
    Ended,
}

impl Phase {
    /// Every phase, in the order of a reply's life.
    pub const ALL: [Self; 7] = [
        Self::Recorded,
        Self::QuotaReserved,
        Self::Drafted,
        Self::AwaitingApproval,
        Self::Issued,
        Self::Withdrawing,
        Self::Ended,
    ];

    /// The name as it stands in databases and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::QuotaReserved => "quota_reserved",
            Self::Drafted => "drafted",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Issued => "issued",
            Self::Withdrawing => "withdrawing",
            Self::Ended => "ended",
        }
    }

    /// Whether a worker has to do something now; a lease guards it.
    pub fn is_working(self) -> bool {
        matches!(self, Self::Recorded | Self::QuotaReserved | Self::Drafted)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not the name of a saga's state"))
    }
}

/// Where a reply stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not ended; never [`Phase::Ended`].
    Open(Phase),
    /// Ended in this effect.
    Ended(Effect),
}

impl State {
    /// Where every reply begins.
    pub const START: Self = Self::Open(Phase::Recorded);

    /// The phase of this state.
    pub fn phase(self) -> Phase {
        match self {
            Self::Open(phase) => phase,
            Self::Ended(_) => Phase::Ended,
        }
    }

    /// The effect, if it has ended.
    pub fn effect(self) -> Option<Effect> {
        match self {
            Self::Open(_) => None,
            Self::Ended(effect) => Some(effect),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(phase) => phase.fmt(f),
            Self::Ended(effect) => write!(f, "ended({effect})"),
        }
    }
}

/// How a reply came to its end, for the promise that every turn ends within its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// With an effect, before its deadline.
    InTime,
    /// With an effect, too late.
    Late,
    /// It had ended before; better evidence replaced its effect.
    Corrected,
}

impl End {
    /// What the step from one state to another is as an end; `None` if it is none. `is_overdue` says that the deadline
    /// in the state before is over. What was asked back is late, since its own deadline was over by then; a draft that
    /// waits for a person ends in time whenever it ends, since the wait is theirs.
    pub fn of(from: State, to: State, is_overdue: bool) -> Option<Self> {
        to.effect()?;
        Some(match from.phase() {
            Phase::Ended => Self::Corrected,
            Phase::Withdrawing => Self::Late,
            Phase::AwaitingApproval => Self::InTime,
            _ if is_overdue => Self::Late,
            _ => Self::InTime,
        })
    }
}

/// What can happen to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The desktop saw more text: a newer revision of the turn.
    RevisionRaised,
    /// One reply of the quota is kept.
    QuotaReserved,
    /// A draft was stored.
    DraftStored,
    /// The draft waits for a person.
    ApprovalRequested,
    /// The command was written, on the authority of the mode `auto`.
    Issued,
    /// The command was written, on the authority of a person.
    Approved,
    /// A person rejected the draft.
    Rejected,
    /// The worker ends it before anything was issued.
    Abandoned(Effect),
    /// An issued reply is asked back.
    WithdrawalRequested,
    /// Nobody answered the withdrawal either: a person has to look.
    HandedOver,
    /// The executor says what became of it.
    Outcome(Effect),
}

impl Event {
    /// The name as it stands in the story and in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RevisionRaised => "revision_raised",
            Self::QuotaReserved => "quota_reserved",
            Self::DraftStored => "draft_stored",
            Self::ApprovalRequested => "approval_requested",
            Self::Issued => "issued",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Abandoned(_) => "abandoned",
            Self::WithdrawalRequested => "withdrawal_requested",
            Self::HandedOver => "handed_over",
            Self::Outcome(_) => "outcome",
        }
    }
}

/// The target of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This phase.
    To(Phase),
    /// Ended in this effect.
    End(Effect),
    /// Ended in the effect that the event carries.
    EndAsTold,
}

/// What else must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Always,
    /// The event's effect does not claim that something was sent.
    ClaimsNoSending,
    /// The effect it ended in does not say that something was sent.
    NothingWasSent,
    /// The event's effect is stronger evidence than the one it ended in.
    Stronger,
}

impl Guard {
    fn as_str(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::ClaimsNoSending => "the effect claims no sending",
            Self::NothingWasSent => "it ended without anything sent",
            Self::Stronger => "the evidence is stronger than what it ended in",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// In this phase
    pub from: Phase,
    /// this event (by its name)
    pub event: &'static str,
    /// leads there
    pub to: Target,
    /// if this holds.
    pub guard: Guard,
}

const fn rule(from: Phase, event: &'static str, to: Target, guard: Guard) -> Rule {
    Rule { from, event, to, guard }
}

/// Everything that may happen. What is not here is illegal.
pub const TABLE: &[Rule] = {
    use Guard::{Always, ClaimsNoSending, NothingWasSent, Stronger};
    use Phase::{AwaitingApproval, Drafted, Ended, Issued, QuotaReserved, Recorded, Withdrawing};
    use Target::{End, EndAsTold, To};
    &[
        rule(Recorded, "quota_reserved", To(QuotaReserved), Always),
        rule(Recorded, "abandoned", EndAsTold, ClaimsNoSending),
        rule(Recorded, "outcome", EndAsTold, Always),
        rule(Recorded, "revision_raised", To(Recorded), Always),
        rule(QuotaReserved, "draft_stored", To(Drafted), Always),
        rule(QuotaReserved, "abandoned", EndAsTold, ClaimsNoSending),
        rule(QuotaReserved, "outcome", EndAsTold, Always),
        rule(QuotaReserved, "revision_raised", To(Recorded), Always),
        rule(Drafted, "approval_requested", To(AwaitingApproval), Always),
        rule(Drafted, "issued", To(Issued), Always),
        rule(Drafted, "abandoned", EndAsTold, ClaimsNoSending),
        rule(Drafted, "outcome", EndAsTold, Always),
        rule(Drafted, "revision_raised", To(Recorded), Always),
        rule(AwaitingApproval, "approved", To(Issued), Always),
        rule(AwaitingApproval, "rejected", End(Effect::Rejected), Always),
        rule(AwaitingApproval, "abandoned", EndAsTold, ClaimsNoSending),
        rule(AwaitingApproval, "outcome", EndAsTold, Always),
        rule(AwaitingApproval, "revision_raised", To(Recorded), Always),
        rule(Issued, "withdrawal_requested", To(Withdrawing), Always),
        rule(Issued, "outcome", EndAsTold, Always),
        rule(Issued, "revision_raised", To(Recorded), Always),
        rule(Withdrawing, "handed_over", End(Effect::NeedsAttention), Always),
        rule(Withdrawing, "outcome", EndAsTold, Always),
        rule(Withdrawing, "revision_raised", To(Recorded), Always),
        rule(Ended, "outcome", EndAsTold, Stronger),
        rule(Ended, "revision_raised", To(Recorded), NothingWasSent),
    ]
};

/// The event may not happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event {} may not happen to a reply that is {state}", event.as_str())]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// How much an effect proves: a guess by the worker, a reason from the desktop, Enter pressed, shown.
fn strength(effect: Effect) -> u8 {
    match effect {
        Effect::Confirmed => 3,
        Effect::Unverifiable => 2,
        // `off` is also what the worker says of a turn that the desktop sent only to be recorded: its own reason follows.
        Effect::NeedsAttention | Effect::Off => 0,
        _ => 1,
    }
}

/// The state after `event`.
///
/// # Errors
/// [`Illegal`] if the table has no such line or its guard does not hold.
pub fn step(state: State, event: Event) -> Result<State, Illegal> {
    let illegal = Illegal { state, event };
    let rule = TABLE
        .iter()
        .find(|rule| rule.from == state.phase() && rule.event == event.as_str())
        .filter(|rule| holds(rule.guard, state, event))
        .ok_or(illegal)?;
    match (rule.to, event) {
        (Target::To(phase), _) => Ok(State::Open(phase)),
        (Target::End(effect), _) | (Target::EndAsTold, Event::Abandoned(effect) | Event::Outcome(effect)) => {
            Ok(State::Ended(effect))
        }
        (Target::EndAsTold, _) => Err(illegal),
    }
}

fn holds(guard: Guard, state: State, event: Event) -> bool {
    let told = match event {
        Event::Abandoned(effect) | Event::Outcome(effect) => Some(effect),
        _ => None,
    };
    match guard {
        Guard::Always => true,
        Guard::ClaimsNoSending => told.is_some_and(|effect| !effect.may_have_sent()),
        Guard::NothingWasSent => state.effect().is_some_and(|effect| !effect.may_have_sent()),
        Guard::Stronger => {
            matches!((told, state.effect()), (Some(new), Some(old)) if strength(new) > strength(old))
        }
    }
}

/// What becomes of the reserved quota of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// It counts: a reply was sent, or may have been.
    Used,
    /// It goes back into the day.
    Released,
}

/// What becomes of the quota when `event` leads from `from` to `to`; `None` if none is held or it is kept.
/// A hand-over after issuing counts as used, since nobody knows whether it was sent.
pub fn settle(from: State, to: State) -> Option<Settlement> {
    let issued = matches!(from.phase(), Phase::Issued | Phase::Withdrawing);
    match (from.phase(), to) {
        (Phase::Recorded | Phase::Ended, _) => None,
        (_, State::Ended(effect)) if effect.may_have_sent() => Some(Settlement::Used),
        (_, State::Ended(Effect::NeedsAttention)) if issued => Some(Settlement::Used),
        (_, State::Ended(_) | State::Open(Phase::Recorded)) => Some(Settlement::Released),
        (_, State::Open(_)) => None,
    }
}

/// How a quota that was settled with a guess is corrected when a late word leads from one end to another: what was sent
/// counts after all, and what a person was asked about counts no more once the desktop says that nothing was sent.
pub fn correct(from: State, to: State) -> Option<Settlement> {
    match (from, to) {
        (State::Ended(guess), State::Ended(effect)) if effect.may_have_sent() && !guess.may_have_sent() => {
            Some(Settlement::Used)
        }
        (State::Ended(Effect::NeedsAttention), State::Ended(effect)) if !effect.may_have_sent() => {
            Some(Settlement::Released)
        }
        _ => None,
    }
}

/// One step of taking back what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undo {
    /// Ask the desktop not to type it; a request, never a fact.
    Withdraw,
    /// The draft may not be approved or issued any more.
    DiscardDraft,
    /// The quota goes back into the day.
    ReleaseQuota,
    /// A person is told.
    HandOver,
}

/// What must be undone, in order, when the worker has to end a reply that stands at `state` in `effect`.
///
/// Before issuing, the steps are the reverse of what was done. After it nothing can be undone, only asked for: the
/// draft and the quota stay until the executor has answered, and a person is told if it never does.
pub fn compensation(state: State, effect: Effect) -> &'static [Undo] {
    use Undo::{DiscardDraft, HandOver, ReleaseQuota, Withdraw};
    let hand_over = effect == Effect::NeedsAttention;
    match (state.phase(), hand_over) {
        (Phase::Ended, _) | (Phase::Recorded, false) => &[],
        (Phase::Recorded, true) | (Phase::Withdrawing, _) => &[HandOver],
        (Phase::QuotaReserved, false) => &[ReleaseQuota],
        (Phase::QuotaReserved, true) => &[ReleaseQuota, HandOver],
        (Phase::Drafted | Phase::AwaitingApproval, false) => &[DiscardDraft, ReleaseQuota],
        (Phase::Drafted | Phase::AwaitingApproval, true) => &[DiscardDraft, ReleaseQuota, HandOver],
        (Phase::Issued, _) => &[Withdraw, HandOver],
    }
}

/// The table as Markdown, for `docs/saga.md`.
pub fn table_as_markdown() -> String {
    let mut text = String::from("| in state | event | leads to | if |\n|---|---|---|---|\n");
    text.push_str("| (none) | recorded | recorded | |\n");
    for rule in TABLE {
        let to = match rule.to {
            Target::To(phase) => phase.to_string(),
            Target::End(effect) => format!("ended({effect})"),
            Target::EndAsTold => "ended(the event's effect)".to_owned(),
        };
        let guard = match rule.guard.as_str() {
            "" => " ".to_owned(),
            words => format!(" {words} "),
        };
        text.push_str(&format!("| {} | {} | {to} |{guard}|\n", rule.from, rule.event));
    }
    text
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
