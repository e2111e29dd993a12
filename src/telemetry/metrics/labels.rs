//! The labels and their values. Those of the providers stand with the providers.

use super::Label;

label! {
    /// The states of a reply that has not ended.
    SagaState = "state" {
        /// In the ledger.
        Recorded = "recorded",
        /// Its quota is reserved.
        QuotaReserved = "quota_reserved",
        /// It has a draft.
        Drafted = "drafted",
        /// A person has to approve it.
        AwaitingApproval = "awaiting_approval",
        /// Its command is in the outbox.
        Issued = "issued",
        /// Its command was asked back.
        Withdrawing = "withdrawing",
    }
}

label! {
    /// What became of a turn; `roles` says which effect of the contract is which.
    Outcome = "effect" {
        /// Shown in the right conversation.
        Confirmed = "confirmed",
        /// Entered, and no evidence found.
        Unverifiable = "unverifiable",
        /// Not typed: the window or the input was not as it must be.
        Refused = "refused",
        /// Something broke.
        Failed = "failed",
        /// Its time to live ended.
        Expired = "expired",
        /// Newer text made it stale.
        Superseded = "superseded",
        /// The person answered first.
        HumanReplied = "human_replied",
        /// Switched off.
        Off = "off",
        /// A cap was reached.
        Capped = "capped",
        /// The message was over the age limit.
        TooOld = "too_old",
        /// A person rejected the draft.
        Rejected = "rejected",
        /// Another desktop owns the account.
        NotOwner = "not_owner",
        /// A person has to look.
        NeedsAttention = "needs_attention",
    }
}

label! {
    /// Why an attempt to type was put back.
    PutBack = "cause" {
        /// It gave way: to the person, to other programs, to a stop.
        Busy = "busy",
        /// Something was wrong; it counts as a failed attempt.
        Fault = "fault",
    }
}

label! {
    /// The topics that a group consumes.
    ConsumedTopic = "topic" {
        /// Turns.
        Messages = "messages",
        /// What became of them.
        Outcomes = "outcomes",
        /// Hellos of desks.
        Desktops = "desktops",
    }
}

label! {
    /// What is written to the ledger, in groups.
    LedgerWrite = "operation" {
        /// Turns are recorded.
        Record = "record",
        /// Replies go a step on.
        Transition = "transition",
        /// Outcomes are applied.
        Outcome = "outcome",
        /// Commands are marked as published.
        Publish = "publish",
    }
}

label! {
    /// What a connection to the ledger does.
    Connection = "state" {
        /// Somebody works with it.
        InUse = "in_use",
        /// It waits for work.
        Idle = "idle",
    }
}

label! {
    /// How a desk does, as the ledger hears it.
    DeskState = "state" {
        /// It says hello as often as it said.
        Fresh = "fresh",
        /// It is silent and did not say that it stops.
        Silent = "silent",
        /// It said that it stops.
        Stopped = "stopped",
        /// Two processes work with its journal.
        Cloned = "cloned",
    }
}

label! {
    /// Which part recognised what came again.
    Place = "at" {
        /// A worker: a turn or an outcome that the ledger had been told.
        Worker = "worker",
        /// A desk: a reply that its journal had.
        Desk = "desk",
    }
}

label! {
    /// How a reply that cannot go on is undone.
    CompensationStep = "step" {
        /// Ended before anything was issued: draft and quota are given back.
        Abandon = "abandon",
        /// Issued, and asked back.
        Withdraw = "withdraw",
        /// Nobody answered that: left to a person.
        HandOver = "hand_over",
    }
}

label! {
    /// Why there is no draft.
    GenerationFailure = "kind" {
        /// Every provider of the chain failed, declined or was skipped.
        Exhausted = "exhausted",
        /// The turn's deadline ended first.
        Deadline = "deadline",
    }
}

label! {
    /// What holds a reply back, or leaves it to a person.
    Guard = "guard" {
        /// A provider's reply did not pass validation.
        Validation = "validation",
        /// The conversation's rate.
        Rate = "rate",
        /// The rates could not be asked: a person has to approve.
        LimitsAway = "limits_away",
        /// The day's quota.
        Quota = "quota",
        /// Another desk answers for the account.
        Owner = "owner",
        /// The mode is off.
        Mode = "mode",
    }
}

label! {
    /// What becomes of a chat window that fits a profile.
    WindowState = "state" {
        /// It is read.
        Read = "read",
        /// It is left alone: it may be taken for another one.
        Refused = "refused",
    }
}

label! {
    /// What the executor does.
    ExecutorStep = "step" {
        /// Asks the journal whether it may begin.
        Fence = "fence",
        /// Finds the window and proves it, brings it to the front, looks at the input.
        Window = "window",
        /// Waits for keys that are held, and for other programs that hold the keyboard.
        Keys = "keys",
        /// Waits for the person to pause.
        Idle = "idle",
        /// Focuses the input.
        Focus = "focus",
        /// Types or pastes.
        Type = "type",
        /// Reads the input back.
        ReadBack = "read_back",
        /// Asks the journal, proves the window again, presses the submit key.
        Submit = "submit",
        /// Waits for the input to empty and for the own line.
        Verify = "verify",
        /// Gives focus and clipboard back.
        GiveBack = "give_back",
        /// Waits until capture has seen the conversation.
        Align = "align",
        /// Finds out what a dead executor left.
        Reconcile = "reconcile",
        /// Takes back what was typed.
        Undo = "undo",
    }
}

/// The one version that runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build;

impl Label for Build {
    const NAME: &'static str = "version";
    const ALL: &'static [Self] = &[Self];
    fn value(self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
