//! Who answers, requests to give a reply back, and turns that end without one.

use super::tests::{Desk, desktop, ended, line, passes, settings};
use super::*;
use crate::clock::from_millis;
use crate::contract::{
    Account, AccountOwner, Control, ConversationKind, DesktopGreeted, Notice, ReplySend, ReplyWithdraw, Scope,
    TurnEnded,
};
use crate::screen::pane::Cue;

impl Desk {
    fn account(&self) -> Account {
        Account::of(&self.conversation)
    }

    /// A worker's answer to a hello of `said_at`: this desk owns its account, or not, under this token.
    fn greeted(&self, owned: bool, token: u64, since: u64, inherit_ms: u64) -> DesktopGreeted {
        let account = self.account();
        let owner = DesktopId::try_from(if owned { "desk" } else { "other" }.to_owned()).unwrap();
        let told = AccountOwner { account, owned, owner, token, since, inherit_ms, why: String::new() };
        DesktopGreeted {
            desktop: desktop(),
            journal: self.journal.id(),
            instance: self.journal.instance(),
            hello_at: self.at(),
            hold_ms: 45_000,
            cloned: false,
            current: true,
            accounts: vec![told],
        }
    }

    async fn hear_of(&self, greeted: DesktopGreeted) {
        self.journal.hear(&Notice::Greeted(greeted), self.at()).await.unwrap();
    }

    /// A published turn with a reply that was issued under `token`.
    async fn queued_under(&mut self, text: &str, token: Option<u64>) -> MessagesDetected {
        self.hear(text).await;
        let turn = self.publish().await.pop().unwrap();
        self.accept(ReplySend { owner_token: token, ..self.reply(&turn, "an answer") }).await;
        turn
    }

    async fn withdraw(&self, turn: &MessagesDetected) {
        let withdraw = ReplyWithdraw {
            turn: turn.turn,
            revision: turn.revision,
            desktop: desktop(),
            conversation: self.conversation.id,
            reason: "second thoughts".into(),
        };
        self.journal.accept(Command::Withdraw(withdraw), self.at()).await.unwrap();
    }

    async fn end_notice(&self, turn: &MessagesDetected, effect: Effect) {
        let ended = TurnEnded {
            turn: turn.turn,
            revision: turn.revision,
            journal: self.journal.id(),
            desktop: desktop(),
            conversation: self.conversation.id,
            effect,
            reason: "no provider answered".into(),
        };
        self.journal.hear(&Notice::TurnEnded(ended), self.at()).await.unwrap();
    }
}

fn waits(verdict: &FenceVerdict) -> bool {
    matches!(verdict, FenceVerdict::Wait(_))
}

#[tokio::test]
async fn a_reply_with_a_token_waits_for_the_word_and_passes_under_that_very_token() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued_under("one", Some(2)).await;
    assert!(waits(&desk.intent(&turn).await), "no word yet");
    desk.hear_of(desk.greeted(true, 1, 1, 0)).await;
    assert!(waits(&desk.intent(&turn).await), "the word is an older one");
    desk.wait(10);
    desk.hear_of(desk.greeted(true, 2, 1, 0)).await;
    assert!(passes(&desk.intent(&turn).await));
    desk.wait(44_000);
    assert!(waits(&desk.submit(&turn).await), "it has lapsed on the desk's own clock");
    desk.hear_of(desk.greeted(true, 2, 1, 0)).await;
    assert!(passes(&desk.submit(&turn).await));
}

#[tokio::test]
async fn another_owner_ends_it_at_both_fences_and_an_older_workers_reply_too() {
    let mut desk = Desk::new(settings()).await;
    desk.hear_of(desk.greeted(true, 1, 1, 0)).await;
    let turn = desk.queued_under("one", Some(1)).await;
    assert!(passes(&desk.intent(&turn).await));
    desk.hear_of(desk.greeted(false, 2, 2, 0)).await;
    assert!(ended(&desk.submit(&turn).await, Effect::NotOwner));
    assert_eq!(desk.effect(&turn).await, Some(Effect::NotOwner));
    let turn = desk.queued_under("two", None).await;
    assert!(ended(&desk.intent(&turn).await, Effect::NotOwner));
    desk.hear_of(desk.greeted(true, 3, 3, 0)).await;
    let turn = desk.queued_under("three", Some(2)).await;
    assert!(ended(&desk.intent(&turn).await, Effect::NotOwner), "somebody else answered in between");
}

#[tokio::test]
async fn without_a_word_an_older_workers_reply_passes_as_before() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued_under("one", None).await;
    assert!(passes(&desk.intent(&turn).await) && passes(&desk.submit(&turn).await));
}

#[tokio::test]
async fn what_was_issued_to_the_process_before_is_inherited_when_that_one_cannot_type_any_more() {
    let mut desk = Desk::new(settings()).await;
    desk.hear_of(desk.greeted(true, 1, 1, 0)).await;
    let turn = desk.queued_under("one", Some(1)).await;
    let before = desk.greeted(true, 1, 1, 0);
    desk.restart().await;
    desk.look(vec![]).await;
    desk.hear_of(before).await;
    assert!(waits(&desk.intent(&turn).await), "what the process before was told is not this one's");
    desk.hear_of(desk.greeted(true, 2, 1, 20_000)).await;
    assert!(waits(&desk.intent(&turn).await));
    desk.wait(20_000);
    assert!(passes(&desk.intent(&turn).await));
}

#[tokio::test]
async fn only_the_newest_process_of_a_copied_journal_types_and_both_say_so() {
    let mut old = Desk::new(settings()).await;
    old.hear_of(old.greeted(true, 1, 1, 0)).await;
    let turn = old.queued_under("one", Some(1)).await;
    let fresh = old.queued_copy().await;
    let told = |desk: &Desk, current| DesktopGreeted { cloned: true, current, ..desk.greeted(current, 2, 1, 45_000) };
    old.hear_of(told(&old, false)).await;
    fresh.hear_of(told(&fresh, true)).await;
    assert!(old.journal.standing_as_told().replaced && old.journal.standing_as_told().cloned);
    assert!(fresh.journal.standing_as_told().cloned && !fresh.journal.standing_as_told().replaced);
    assert!(waits(&old.intent(&turn).await), "it ends nothing either: the other one may answer");
    assert!(waits(&fresh.intent(&turn).await), "what was issued to the old one may still be in its hands");
    let send = ReplySend { owner_token: Some(2), revision: turn.revision, ..old.reply(&turn, "again") };
    for desk in [&old, &fresh] {
        desk.accept(send.clone()).await;
    }
    assert!(waits(&old.intent(&turn).await));
}

impl Desk {
    /// A second desk with a copy of this one's file, as of a cloned machine.
    async fn queued_copy(&self) -> Self {
        let copy = Desk::new(self.settings.clone()).await;
        let (from, to) = (self.folder.path().join("j.db"), copy.folder.path().join("copy.db"));
        for ending in ["", "-wal"] {
            let name = |path: &std::path::Path| format!("{}{ending}", path.display());
            std::fs::copy(name(&from), name(&to)).unwrap();
        }
        let journal = Journal::open(&to, desktop(), self.settings.clone()).await.unwrap();
        assert_eq!(journal.id(), self.journal.id());
        assert_ne!(journal.instance(), self.journal.instance());
        let mut copy = Desk { journal, now: self.now, digest: self.digest, ..copy };
        copy.look(vec![]).await;
        copy
    }
}

#[tokio::test]
async fn a_process_that_leaves_types_nothing_more() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.journal.leave();
    assert!(waits(&desk.intent(&turn).await));
}

#[tokio::test]
async fn a_withdrawal_is_a_request_at_every_stage() {
    let mut desk = Desk::new(settings()).await;
    let queued = desk.queued("one").await;
    desk.withdraw(&queued).await;
    assert_eq!((desk.next().await, desk.effect(&queued).await), (None, Some(Effect::Superseded)));
    assert_eq!(desk.outcomes().await.len(), 1, "the answer is an outcome");

    let typing = desk.queued("two").await;
    assert!(passes(&desk.intent(&typing).await));
    desk.withdraw(&typing).await;
    assert_eq!(desk.effect(&typing).await, None, "keys were pressed: the executor ends it");
    assert!(ended(&desk.submit(&typing).await, Effect::Superseded), "it could still be stopped");

    let entered = desk.queued("three").await;
    assert!(passes(&desk.intent(&entered).await) && passes(&desk.submit(&entered).await));
    desk.withdraw(&entered).await;
    desk.own("an answer to three").await;
    desk.end(&entered, Effect::Confirmed).await;
    assert_eq!(desk.effect(&entered).await, Some(Effect::Confirmed), "too late: what is sent is sent");

    let told = desk.outcomes().await.into_iter().filter(|(turn, ..)| *turn == entered.turn).count();
    let ack = crate::contract::OutcomeRecorded { turn: entered.turn, revision: entered.revision, desktop: desktop() };
    desk.publish_outcome(&entered).await;
    desk.journal.accept(Command::OutcomeRecorded(ack), desk.at()).await.unwrap();
    let gone = desk.outcomes().await.into_iter().filter(|(turn, ..)| *turn == entered.turn).count();
    desk.withdraw(&entered).await;
    let again = desk.outcomes().await.into_iter().filter(|(turn, ..)| *turn == entered.turn).count();
    assert_eq!((told, gone, again), (1, 0, 1), "whoever asks has not heard it");
}

#[tokio::test]
async fn a_withdrawal_that_overtakes_its_reply_keeps_it_from_being_typed() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.withdraw(&turn).await;
    desk.accept(desk.reply(&turn, "too late")).await;
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, Some(Effect::Superseded)));
}

#[tokio::test]
async fn a_turn_that_no_reply_will_come_for_is_closed_and_a_person_is_told() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.wait(10).end_notice(&turn, Effect::NeedsAttention).await;
    assert_eq!(desk.effect(&turn).await, Some(Effect::NeedsAttention));
    assert_eq!(desk.outcomes().await, vec![], "the ledger knows it already");
    let [left] = &desk.journal.attention().await.unwrap()[..] else { panic!() };
    assert_eq!((left.turn, left.peer.as_str(), left.reason.as_str()), (turn.turn, "bob", "no provider answered"));
    desk.wait(1_000).look(vec![line(Cue::Own, "I am here")]).await;
    assert_eq!(desk.journal.attention().await.unwrap(), vec![], "the person answered");
    desk.hear("two").await;
    let next = desk.publish().await.pop().unwrap();
    assert_ne!(next.turn, turn.turn, "what comes after is a turn of its own");
}

#[tokio::test]
async fn a_closed_turn_is_answered_by_what_comes_after_and_a_command_in_hand_is_not_closed() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.end_notice(&turn, Effect::NotOwner).await;
    desk.hear("two").await;
    let next = desk.publish().await.pop().unwrap();
    let texts: Vec<_> = next.messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["one", "two"]);
    desk.accept(desk.reply(&next, "both")).await;
    desk.end_notice(&next, Effect::NeedsAttention).await;
    assert_eq!(desk.effect(&next).await, None, "the executor's outcome decides");
    desk.send(&next, "both").await;
    assert_eq!(desk.effect(&next).await, Some(Effect::Confirmed));
}

#[tokio::test]
async fn a_turn_whose_number_the_ledger_has_seen_answered_is_a_persons() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.accept(ReplySend { revision: Revision(2), ..desk.reply(&turn, "of the journal's other life") }).await;
    desk.hear("more").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.end_notice(&turn, Effect::Confirmed).await;
    assert_eq!(desk.effect(&turn).await, Some(Effect::NeedsAttention), "a worker cannot claim a sending");
    let [left] = &desk.journal.attention().await.unwrap()[..] else { panic!() };
    assert!(left.reason.contains("put back or copied"), "{}", left.reason);
    assert_eq!(desk.outcomes().await, vec![], "the ledger knows better");
    // What this journal has sent it knows itself.
    desk.hear("two").await;
    let next = desk.publish().await.pop().unwrap();
    desk.accept(desk.reply(&next, "both")).await;
    desk.end_notice(&next, Effect::Confirmed).await;
    assert_eq!(desk.effect(&next).await, None, "its command is in hand");
    desk.send(&next, "both").await;
    desk.end_notice(&next, Effect::Unverifiable).await;
    assert_eq!(desk.effect(&next).await, Some(Effect::Confirmed));
}

#[tokio::test]
async fn an_older_revisions_end_and_a_strangers_are_not_heeded() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.hear("two").await;
    desk.end_notice(&turn, Effect::Failed).await;
    let grown = MessagesDetected { revision: Revision(2), ..turn.clone() };
    assert_eq!(desk.effect(&turn).await, None);
    let stranger = TurnEnded {
        turn: turn.turn,
        revision: grown.revision,
        journal: JournalId::draw(),
        desktop: desktop(),
        conversation: desk.conversation.id,
        effect: Effect::Failed,
        reason: "x".into(),
    };
    desk.journal.hear(&Notice::TurnEnded(stranger), desk.at()).await.unwrap();
    assert_eq!(desk.effect(&turn).await, None);
}

#[tokio::test]
async fn a_desk_asks_only_for_accounts_that_it_reads_now_and_that_are_not_off() {
    let mut desk = Desk::new(settings()).await;
    assert_eq!(desk.journal.accounts().await.unwrap(), [desk.account()]);
    let elsewhere = Conversation::new("hexchat", "other-net", "me", "carol", ConversationKind::Direct);
    let look =
        LastLook { pane_digest: 9, aligned: true, at_bottom: true, transcript: "[]".into(), at: from_millis(desk.now) };
    desk.journal.record_look(&elsewhere, vec![], look, desk.at()).await.unwrap();
    assert_eq!(desk.journal.accounts().await.unwrap().len(), 2);
    desk.control(Scope::Conversation(elsewhere.id), Control::Mode(Mode::Off), 1).await;
    assert_eq!(desk.journal.accounts().await.unwrap(), [desk.account()]);
    desk.restart().await;
    assert_eq!(desk.journal.accounts().await.unwrap(), [], "nothing is read yet");
}
