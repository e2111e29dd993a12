//! Ranges that the types cannot express. The same checks hold when a record is written and when it is read.

use super::{Fault, Record};
use crate::contract::{Account, ConversationId, DesktopGreeted, DesktopHello, Evidence, MessagesDetected, Revision};

/// The most messages, and the most context lines, of one turn.
pub const MAX_LINES: usize = 2_000;
/// The most accounts of one desktop.
pub const MAX_ACCOUNTS: usize = 200;
/// The most bytes of one text: a message, a reply, a reason.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The most bytes of one name.
pub const MAX_NAME_BYTES: usize = 1024;

/// Checks every field of `record`.
pub(super) fn check(record: &Record) -> Result<(), Fault> {
    match record {
        Record::Messages(detected) => check_messages(detected),
        Record::Send(send) => {
            check_revision(send.revision)?;
            check_text("text", &send.text)?;
            if send.text.is_empty() {
                return Err(Fault::OutOfRange { field: "text", expected: "a reply of at least one character" });
            }
            Ok(())
        }
        Record::Withdraw(withdraw) => {
            check_revision(withdraw.revision)?;
            check_text("reason", &withdraw.reason)
        }
        Record::TurnRecorded(recorded) => check_revision(recorded.revision),
        Record::OutcomeRecorded(recorded) => check_revision(recorded.revision),
        Record::Outcome(outcome) => {
            check_revision(outcome.revision)?;
            check_text("reason", &outcome.reason)?;
            outcome.evidence.as_ref().map_or(Ok(()), check_evidence)
        }
        Record::Control(control) => {
            check_name("by", &control.by)?;
            check_text("why", &control.why)
        }
        Record::Hello(hello) => check_hello(hello),
        Record::Greeted(greeted) => check_greeted(greeted),
        Record::TurnEnded(ended) => {
            check_revision(ended.revision)?;
            check_text("reason", &ended.reason)
        }
    }
}

fn check_messages(detected: &MessagesDetected) -> Result<(), Fault> {
    check_revision(detected.revision)?;
    if detected.number == 0 {
        return Err(Fault::OutOfRange { field: "number", expected: "1 or more" });
    }
    let conversation = &detected.conversation;
    for (field, name) in [
        ("conversation.application", &conversation.application),
        ("conversation.network", &conversation.network),
        ("conversation.account", &conversation.account),
        ("conversation.peer", &conversation.peer),
    ] {
        check_name(field, name)?;
    }
    if conversation.id != ConversationId::derive(&conversation.network, &conversation.account, &conversation.peer) {
        let expected = "the id that is derived from its network, account and peer";
        return Err(Fault::OutOfRange { field: "conversation.id", expected });
    }
    if detected.messages.is_empty() || detected.messages.len() > MAX_LINES {
        return Err(Fault::OutOfRange { field: "messages", expected: "1 to 2000 messages" });
    }
    if detected.context.len() > MAX_LINES {
        return Err(Fault::OutOfRange { field: "context", expected: "at most 2000 lines" });
    }
    for message in &detected.messages {
        check_name("messages.sender", &message.sender)?;
        check_text("messages.text", &message.text)?;
        check_share("messages.extraction.confidence", message.extraction.confidence)?;
    }
    for line in &detected.context {
        check_name("context.sender", &line.sender)?;
        check_text("context.text", &line.text)?;
    }
    Ok(())
}

fn check_hello(hello: &DesktopHello) -> Result<(), Fault> {
    check_name("version", &hello.version)?;
    check_name("host", &hello.host)?;
    check_name("seat", &hello.seat)?;
    if hello.interval_ms == 0 {
        return Err(Fault::OutOfRange { field: "interval_ms", expected: "1 or more" });
    }
    check_count("accounts", hello.accounts.len())?;
    hello.accounts.iter().try_for_each(check_account)
}

fn check_greeted(greeted: &DesktopGreeted) -> Result<(), Fault> {
    if greeted.hold_ms == 0 {
        return Err(Fault::OutOfRange { field: "hold_ms", expected: "1 or more" });
    }
    check_count("accounts", greeted.accounts.len())?;
    greeted.accounts.iter().try_for_each(|told| {
        check_account(&told.account)?;
        check_text("accounts.why", &told.why)
    })
}

fn check_account(account: &Account) -> Result<(), Fault> {
    check_name("accounts.application", &account.application)?;
    check_name("accounts.network", &account.network)?;
    check_name("accounts.account", &account.account)
}

fn check_count(field: &'static str, count: usize) -> Result<(), Fault> {
    if count > MAX_ACCOUNTS {
        return Err(Fault::OutOfRange { field, expected: "at most 200 accounts" });
    }
    Ok(())
}

fn check_evidence(evidence: &Evidence) -> Result<(), Fault> {
    evidence.similarity.map_or(Ok(()), |similarity| check_share("evidence.similarity", similarity))
}

fn check_revision(revision: Revision) -> Result<(), Fault> {
    if revision < Revision::FIRST {
        return Err(Fault::OutOfRange { field: "revision", expected: "1 or more" });
    }
    Ok(())
}

fn check_share(field: &'static str, share: f64) -> Result<(), Fault> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(Fault::OutOfRange { field, expected: "from 0 to 1" }) }
}

fn check_text(field: &'static str, text: &str) -> Result<(), Fault> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Fault::OutOfRange { field, expected: "at most 65536 bytes" });
    }
    Ok(())
}

fn check_name(field: &'static str, name: &str) -> Result<(), Fault> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Fault::OutOfRange { field, expected: "at most 1024 bytes" });
    }
    Ok(())
}
