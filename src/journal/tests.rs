//! Scenarios, one for each rule, and random interleavings of everything that may happen.

mod interleavings;
mod publishing;
mod storage;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::clock::from_millis;
use crate::contract::{
    Authority, Control, ConversationKind, Direction, Extraction, ExtractionMethod, OutcomeRecorded, ReplySend, Scope,
    TurnRecorded,
};
use crate::screen::pane::Cue;

const START: i64 = 1_790_000_000_000;

pub(super) fn settings() -> TurnSettings {
    TurnSettings {
        quiet: Duration::from_millis(1500),
        quiet_max: Duration::from_secs(8),
        age_limit: Duration::from_secs(600),
        command_ttl: Duration::from_secs(120),
        detection_ttl: Duration::from_secs(600),
        acknowledge_within: Duration::from_secs(10),
        consecutive_cap: 3,
        hourly_cap: 20,
        mode: Mode::Auto,
        profile_modes: BTreeMap::new(),
        trusted_peers: vec!["*".into()],
        own_names: vec!["ann".into()],
        context_lines: 5,
    }
}

pub(super) fn desktop() -> DesktopId {
    DesktopId::try_from("desk".to_owned()).unwrap()
}

/// A desk with one peer; time moves only when told.
pub(super) struct Desk {
    pub(super) folder: tempfile::TempDir,
    pub(super) journal: Journal,
    pub(super) conversation: Conversation,
    pub(super) settings: TurnSettings,
    pub(super) now: i64,
    pub(super) digest: u64,
}

impl Desk {
    pub(super) async fn new(settings: TurnSettings) -> Self {
        Self::of(settings, ConversationKind::Direct).await
    }

    pub(super) async fn of(settings: TurnSettings, kind: ConversationKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("j.db"), desktop(), settings.clone()).await.unwrap();
        let conversation = Conversation::new("hexchat", "irc", "me", "bob", kind);
        let mut desk = Self { folder, journal, conversation, settings, now: START, digest: 0 };
        desk.look(vec![]).await;
        desk
    }

    /// As after SIGKILL: the file is all that is left.
    pub(super) async fn restart(&mut self) {
        self.journal.close().await;
        let elsewhere = self.folder.path().join("other.db");
        self.journal = Journal::open(&elsewhere, desktop(), self.settings.clone()).await.unwrap();
        self.journal = Journal::open(&self.folder.path().join("j.db"), desktop(), self.settings.clone()).await.unwrap();
    }

    pub(super) fn at(&self) -> Timestamp {
        from_millis(self.now)
    }

    pub(super) fn wait(&mut self, ms: i64) -> &mut Self {
        self.now += ms;
        self
    }

    pub(super) async fn look(&mut self, new: Vec<NewMessage>) {
        self.digest += 1;
        let look = LastLook {
            pane_digest: self.digest,
            aligned: true,
            at_bottom: true,
            transcript: "[]".into(),
            at: self.at(),
        };
        self.journal.record_look(&self.conversation, new, look, self.at()).await.unwrap();
    }

    pub(super) async fn hear(&mut self, text: &str) {
        self.look(vec![line(Cue::Other, text)]).await;
    }

    pub(super) async fn own(&mut self, text: &str) {
        self.look(vec![line(Cue::Own, text)]).await;
    }

    pub(super) async fn due(&self) -> Vec<MessagesDetected> {
        self.journal.turns_to_publish(self.at()).await.unwrap()
    }

    /// Everything due is published and acknowledged.
    pub(super) async fn publish(&mut self) -> Vec<MessagesDetected> {
        self.wait(2000);
        let due = self.due().await;
        for turn in &due {
            self.journal.turn_published(turn.turn, turn.revision, self.at()).await.unwrap();
            let record = TurnRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() };
            self.journal.accept(Command::TurnRecorded(record), self.at()).await.unwrap();
        }
        due
    }

    pub(super) fn reply(&self, turn: &MessagesDetected, text: &str) -> ReplySend {
        ReplySend {
            turn: turn.turn,
            revision: turn.revision,
            journal: self.journal.id(),
            desktop: desktop(),
            conversation: self.conversation.id,
            text: text.into(),
            authority: Authority::Auto,
            issued_at: self.at(),
            owner_token: None,
        }
    }

    pub(super) async fn accept(&self, send: ReplySend) {
        self.journal.accept(Command::Send(send), self.at()).await.unwrap();
    }

    /// One inbound message, published, with a reply queued for it.
    pub(super) async fn queued(&mut self, text: &str) -> MessagesDetected {
        self.hear(text).await;
        let turn = self.publish().await.pop().unwrap();
        self.accept(self.reply(&turn, &format!("an answer to {text}"))).await;
        turn
    }

    pub(super) async fn next(&self) -> Option<TurnId> {
        self.journal.next_send(&[], self.at()).await.unwrap().map(|order| order.send.turn)
    }

    pub(super) async fn intent(&self, turn: &MessagesDetected) -> FenceVerdict {
        self.journal.begin_intent(turn.turn, turn.revision, self.at()).await.unwrap()
    }

    pub(super) async fn submit(&self, turn: &MessagesDetected) -> FenceVerdict {
        self.journal.begin_submit(turn.turn, turn.revision, self.digest, self.at()).await.unwrap()
    }

    pub(super) async fn end(&self, turn: &MessagesDetected, effect: Effect) {
        self.journal.end(turn.turn, turn.revision, Ending::new(effect, "test"), self.at()).await.unwrap();
    }

    /// Types, enters, sees and confirms the reply to this turn.
    pub(super) async fn send(&mut self, turn: &MessagesDetected, text: &str) {
        assert!(passes(&self.intent(turn).await));
        assert!(passes(&self.submit(turn).await));
        self.own(text).await;
        self.end(turn, Effect::Confirmed).await;
    }

    pub(super) async fn outcomes(&self) -> Vec<(TurnId, u32, Effect)> {
        let due = self.journal.outcomes_to_publish(self.at()).await.unwrap();
        due.into_iter().map(|outcome| (outcome.turn, outcome.revision.0, outcome.effect)).collect()
    }

    /// The outcome of this turn that is due goes to Kafka.
    pub(super) async fn publish_outcome(&self, turn: &MessagesDetected) {
        let due = self.journal.outcomes_to_publish(self.at()).await.unwrap();
        let outcome = due.iter().find(|outcome| outcome.turn == turn.turn).unwrap();
        self.journal.outcome_published(outcome, self.at()).await.unwrap();
    }

    pub(super) async fn effect(&self, turn: &MessagesDetected) -> Option<Effect> {
        self.journal.turn_effect(turn.turn).await.unwrap().unwrap().1
    }

    /// Two overtaken replies froze the turn: newer text does not overtake it any more.
    pub(super) async fn is_frozen(&self, turn: &MessagesDetected) -> bool {
        let mut tx = self.journal.begin().await.unwrap();
        let row = rows::ConversationRow::load(&mut tx, self.conversation.id).await.unwrap().unwrap();
        row.turns.out.is_some_and(|out| out.number == turn.number && out.frozen_at.is_some())
    }

    pub(super) async fn control(&self, scope: Scope, control: Control, version: u64) {
        let record = ControlRecord { scope, control, version, by: "ann".into(), why: "test".into(), at: self.at() };
        self.journal.apply_control(&record, self.at()).await.unwrap();
    }
}

pub(super) fn line(cue: Cue, text: &str) -> NewMessage {
    let extraction = Extraction { method: ExtractionMethod::Accessibility, confidence: 1.0, doubtful: false };
    NewMessage { sender: "bob".into(), cue, text: text.into(), stamp: None, extraction, history: false }
}

pub(super) fn passes(verdict: &FenceVerdict) -> bool {
    matches!(verdict, FenceVerdict::Pass { .. })
}

pub(super) fn ended(verdict: &FenceVerdict, effect: Effect) -> bool {
    matches!(verdict, FenceVerdict::Ended(refusal) if refusal.effect == effect)
}

#[tokio::test]
async fn a_message_becomes_a_turn_a_reply_and_a_confirmed_outcome() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("first").await;
    desk.wait(500).hear("second").await;
    assert!(desk.due().await.is_empty(), "not quiet yet");
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!((turn.revision, turn.number, turn.mode), (Revision(2), 1, Mode::Auto));
    assert_eq!(turn.messages.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert!(desk.publish().await.is_empty());
    desk.accept(desk.reply(&turn, "hello there bob")).await;
    let again = Command::Send(desk.reply(&turn, "hello there bob"));
    assert_eq!(desk.journal.accept(again, desk.at()).await.unwrap(), Accepted::Repeated);
    assert_eq!(desk.next().await, Some(turn.turn));
    assert_eq!(desk.intent(&turn).await, FenceVerdict::Pass { watermark: 2 });
    assert_eq!(desk.next().await, None, "one at a time in a conversation");
    assert_eq!(desk.submit(&turn).await, FenceVerdict::Pass { watermark: 2 });
    assert!(!passes(&desk.submit(&turn).await), "never twice");
    assert_eq!(desk.journal.own_line(turn.turn, turn.revision).await.unwrap(), None);
    desk.own("something that reads quite otherwise").await;
    let own = desk.journal.own_line(turn.turn, turn.revision).await.unwrap().unwrap();
    assert_eq!(own.seq, 3);
    desk.end(&turn, Effect::Confirmed).await;
    desk.end(&turn, Effect::Failed).await;
    assert_eq!(desk.outcomes().await, [(turn.turn, 2, Effect::Confirmed)]);
    desk.publish_outcome(&turn).await;
    assert!(desk.outcomes().await.is_empty());
    desk.wait(10_000);
    assert_eq!(desk.outcomes().await.len(), 1, "told again when nobody acknowledges");
    let record = OutcomeRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() };
    let record = Command::OutcomeRecorded(record);
    assert_eq!(desk.journal.accept(record.clone(), desk.at()).await.unwrap(), Accepted::OutcomeAcknowledged);
    assert_eq!(desk.journal.accept(record, desk.at()).await.unwrap(), Accepted::Noted, "no news");
    desk.wait(60_000);
    assert!(desk.outcomes().await.is_empty());
    // The reply's line is context of what follows, as ours.
    desk.hear("third").await;
    let next = desk.publish().await.pop().unwrap();
    assert_eq!((next.number, next.messages.len()), (2, 1));
    assert_eq!(next.context.last().unwrap().direction, Direction::OwnAutomatic);
}

#[tokio::test]
async fn a_newer_message_overtakes_a_queued_reply_and_the_turn_goes_on() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.hear("two").await;
    assert_eq!(desk.outcomes().await, [(turn.turn, 1, Effect::Superseded)]);
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, None));
    let again = desk.publish().await.pop().unwrap();
    assert_eq!((again.turn, again.revision, again.messages.len()), (turn.turn, Revision(2), 2));
    // A reply to the older revision comes late: refused, told once.
    desk.accept(desk.reply(&turn, "late")).await;
    assert!(ended(&desk.intent(&turn).await, Effect::Superseded));
}

#[tokio::test]
async fn a_late_send_for_an_older_revision_is_superseded() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let old = desk.publish().await.pop().unwrap();
    desk.hear("two").await;
    desk.accept(desk.reply(&old, "late")).await;
    assert_eq!(desk.outcomes().await, [(old.turn, 1, Effect::Superseded)]);
    assert_eq!(desk.next().await, None);
}

#[tokio::test]
async fn a_newer_message_before_enter_supersedes_and_is_answered_with_the_rest() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    assert!(passes(&desk.intent(&turn).await));
    desk.hear("two").await;
    assert!(ended(&desk.submit(&turn).await, Effect::Superseded));
    assert_eq!(desk.effect(&turn).await, Some(Effect::Superseded));
    let next = desk.publish().await.pop().unwrap();
    assert_eq!((next.number, next.messages.len()), (2, 2));
}

#[tokio::test]
async fn a_human_reply_ends_what_is_open_and_resets_the_row() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.own("I am here").await;
    assert_eq!(desk.outcomes().await, [(turn.turn, 1, Effect::HumanReplied)]);
    assert_eq!(desk.next().await, None);
    // Under an intent: the executor learns it at the fence, and sees the line.
    let turn = desk.queued("two").await;
    assert!(passes(&desk.intent(&turn).await));
    desk.own("me again").await;
    assert_eq!(desk.journal.unfinished().await.unwrap().len(), 1, "text may stand in the input");
    assert!(desk.journal.own_line(turn.turn, turn.revision).await.unwrap().is_some());
    assert!(ended(&desk.submit(&turn).await, Effect::HumanReplied));
    // Before the ledger knew: the turn goes first, with the mode off, then the outcome.
    desk.hear("three").await;
    desk.own("and again").await;
    assert!(!desk.outcomes().await.iter().any(|(_, _, effect)| *effect != Effect::HumanReplied));
    let before = desk.outcomes().await.len();
    let told = desk.publish().await.pop().unwrap();
    assert_eq!((told.mode, told.messages[0].text.as_str()), (Mode::Off, "three"));
    assert_eq!(desk.outcomes().await.len(), before + 1);
}

#[tokio::test]
async fn a_turn_is_acknowledged_once_a_revision_be_it_by_its_reply() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.wait(2_000).due().await.remove(0);
    let accept = |command| desk.journal.accept(command, desk.at());
    let record = TurnRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() };
    assert_eq!(accept(Command::TurnRecorded(record.clone())).await.unwrap(), Accepted::TurnAcknowledged);
    assert_eq!(accept(Command::TurnRecorded(record)).await.unwrap(), Accepted::Noted);
    assert_eq!(accept(Command::Send(desk.reply(&turn, "an answer"))).await.unwrap(), Accepted::Noted);
    desk.hear("two").await;
    let newer = desk.wait(2_000).due().await.remove(0);
    assert_eq!(newer.revision, Revision(2));
    let accept = |command| desk.journal.accept(command, desk.at());
    assert_eq!(accept(Command::Send(desk.reply(&newer, "both"))).await.unwrap(), Accepted::TurnAcknowledged);
    let record = TurnRecorded { turn: newer.turn, revision: newer.revision, desktop: desktop() };
    assert_eq!(accept(Command::TurnRecorded(record)).await.unwrap(), Accepted::Noted, "its reply said so");
}

#[tokio::test]
async fn a_late_line_confirms_what_was_unverifiable_and_is_told_again() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.intent(&turn).await;
    desk.submit(&turn).await;
    desk.end(&turn, Effect::Failed).await;
    assert_eq!(desk.outcomes().await, [(turn.turn, 1, Effect::Unverifiable)], "Enter may have been pressed");
    desk.publish_outcome(&turn).await;
    desk.own("whatever it reads like").await;
    assert_eq!(desk.outcomes().await, [(turn.turn, 1, Effect::Confirmed)]);
    assert_eq!(desk.effect(&turn).await, Some(Effect::Confirmed));
    desk.publish_outcome(&turn).await;
    // The acknowledgement of the first text does not settle the second.
    let ack =
        || Command::OutcomeRecorded(OutcomeRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() });
    assert_eq!(desk.journal.accept(ack(), desk.at()).await.unwrap(), Accepted::Noted);
    desk.wait(10_000);
    assert_eq!(desk.outcomes().await.len(), 1);
    assert_eq!(desk.journal.accept(ack(), desk.at()).await.unwrap(), Accepted::OutcomeAcknowledged);
    desk.wait(10_000);
    assert!(desk.outcomes().await.is_empty());
    desk.own("now the person").await;
    assert_eq!(desk.effect(&turn).await, Some(Effect::Confirmed));
}

#[tokio::test]
async fn a_line_proves_the_reply_that_it_reads_like_and_no_earlier_one_that_was_never_shown() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let never_shown = desk.publish().await.pop().unwrap();
    desk.accept(desk.reply(&never_shown, "noted: parcel 17, invoice 4")).await;
    desk.intent(&never_shown).await;
    desk.submit(&never_shown).await;
    desk.end(&never_shown, Effect::Failed).await;
    assert_eq!(desk.effect(&never_shown).await, Some(Effect::Unverifiable));
    desk.hear("two").await;
    let shown = desk.publish().await.pop().unwrap();
    desk.accept(desk.reply(&shown, "noted: parcel 18, invoice 4")).await;
    assert!(passes(&desk.intent(&shown).await));
    assert!(passes(&desk.submit(&shown).await));
    desk.own("noted: parcel 18, invoice 4").await;
    assert_eq!(desk.effect(&never_shown).await, Some(Effect::Unverifiable), "that line is not its");
    assert!(desk.journal.own_line(shown.turn, shown.revision).await.unwrap().is_some());
}

#[tokio::test]
async fn own_text_is_never_answered_whatever_it_looks_like() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.send(&turn, "an answer to one").await;
    desk.hear("an answer to 0ne").await;
    desk.look(vec![line(Cue::Unknown, "An answer to one."), line(Cue::System, "bob has left")]).await;
    assert!(desk.publish().await.is_empty());
    // Seen again as an own line: it is no person's reply either.
    desk.hear("two").await;
    desk.own("an answer to one").await;
    let next = desk.publish().await.pop().unwrap();
    assert_eq!((next.mode, desk.effect(&next).await), (Mode::Auto, None));
}

#[tokio::test]
async fn history_is_context_and_a_gap_asks_for_a_person() {
    let mut desk = Desk::new(settings()).await;
    let old = |text: &str| NewMessage { history: true, ..line(Cue::Other, text) };
    desk.look(vec![old("a"), old("b")]).await;
    assert!(desk.publish().await.is_empty());
    desk.hear("c").await;
    desk.look(vec![old("d")]).await;
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!((turn.mode, turn.messages.len(), turn.context.len()), (Mode::Draft, 1, 2));
}

#[tokio::test]
async fn nothing_is_acted_on_before_it_was_aligned_in_this_session() {
    let mut desk = Desk::new(settings()).await;
    let id = desk.journal.id();
    let turn = desk.queued("one").await;
    desk.hear("two").await;
    desk.restart().await;
    assert_eq!(desk.journal.id(), id);
    desk.wait(5000);
    assert!(desk.due().await.is_empty());
    desk.look(vec![]).await;
    assert_eq!(desk.due().await[0].turn, turn.turn);
}

#[tokio::test]
async fn doubt_and_new_peers_never_exceed_draft_and_approval_makes_trust() {
    let mut desk = Desk::new(TurnSettings { trusted_peers: vec![], ..settings() }).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!(turn.mode, Mode::Draft);
    desk.accept(desk.reply(&turn, "auto is not allowed")).await;
    assert_eq!(desk.next().await, None);
    assert_eq!(desk.effect(&turn).await, Some(Effect::Off));
    desk.hear("two").await;
    let turn = desk.publish().await.pop().unwrap();
    let by = Authority::ApprovedBy { by: "ann".into() };
    desk.accept(ReplySend { authority: by, ..desk.reply(&turn, "approved answer") }).await;
    desk.send(&turn, "approved answer").await;
    desk.hear("three").await;
    assert_eq!(desk.publish().await[0].mode, Mode::Auto);
    let mut doubtful = line(Cue::Other, "f0ur");
    doubtful.extraction.doubtful = true;
    desk.look(vec![doubtful]).await;
    assert_eq!(desk.publish().await[0].mode, Mode::Draft);
}

#[tokio::test]
async fn a_stop_ends_a_pause_waits_and_the_greater_version_wins() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.control(Scope::Desktop(desktop()), Control::Pause, 5).await;
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, None));
    assert!(matches!(desk.intent(&turn).await, FenceVerdict::Wait(_)));
    desk.control(Scope::Desktop(desktop()), Control::Stop, 4).await;
    assert_eq!(desk.effect(&turn).await, None, "an older control");
    desk.control(Scope::Desktop(desktop()), Control::Resume, 6).await;
    assert!(passes(&desk.intent(&turn).await));
    desk.control(Scope::Profile("hexchat".into()), Control::Stop, 1).await;
    assert_eq!(desk.effect(&turn).await, None, "only the executor ends what it types");
    assert!(ended(&desk.submit(&turn).await, Effect::Off));
    desk.hear("two").await;
    let told = desk.publish().await;
    assert_eq!((told.len(), told[0].mode), (1, Mode::Off), "recorded, and ended as off");
    desk.restart().await;
    desk.look(vec![]).await;
    assert_eq!(desk.journal.controls().await.unwrap().len(), 2, "controls are durable");
    desk.control(Scope::Profile("hexchat".into()), Control::Resume, 2).await;
    let turn = desk.queued("three").await;
    assert_eq!(desk.next().await, Some(turn.turn));
    desk.control(Scope::All, Control::Stop, 1).await;
    assert_eq!(desk.effect(&turn).await, Some(Effect::Off));
    assert!(desk.outcomes().await.contains(&(turn.turn, 1, Effect::Off)));
}

#[tokio::test]
async fn a_command_dies_of_age_and_of_a_clock_turned_back() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.wait(120_001);
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, Some(Effect::Expired)));
    let turn = desk.queued("two").await;
    assert_eq!(turn.messages.len(), 2, "what expired is answered by what comes after");
    desk.wait(-3_600_000);
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, Some(Effect::Expired)));
    // A turn that was opened before the clock went back is not held until it has caught up.
    desk.wait(3_600_000).hear("three").await;
    desk.wait(-3_600_000);
    assert_eq!(desk.due().await.len(), 1);
}

#[tokio::test]
async fn detection_has_a_lifetime_of_its_own() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.wait(600_000);
    desk.accept(desk.reply(&turn, "late approval")).await;
    assert_eq!((desk.next().await, desk.effect(&turn).await), (None, Some(Effect::Expired)));
}

#[tokio::test]
async fn caps_are_counted_before_enter_and_survive_a_restart() {
    let mut desk = Desk::new(settings()).await;
    for text in ["one", "two", "three"] {
        let turn = desk.queued(text).await;
        desk.send(&turn, &format!("an answer to {text}")).await;
    }
    desk.restart().await;
    desk.look(vec![]).await;
    desk.hear("four").await;
    let told = desk.publish().await.pop().unwrap();
    assert_eq!((told.mode, desk.effect(&told).await), (Mode::Off, Some(Effect::Capped)));
    assert!(desk.outcomes().await.contains(&(told.turn, 1, Effect::Capped)));
    desk.own("a person at last").await;
    let turn = desk.queued("five").await;
    assert_eq!(desk.next().await, Some(turn.turn));

    let mut desk = Desk::new(TurnSettings { hourly_cap: 1, ..settings() }).await;
    let turn = desk.queued("one").await;
    desk.send(&turn, "an answer to one").await;
    desk.own("a person").await;
    desk.hear("two").await;
    assert_eq!(desk.publish().await[0].mode, Mode::Off);
    desk.wait(3_600_000).hear("three").await;
    assert_eq!(desk.publish().await.last().unwrap().mode, Mode::Auto);
}

#[tokio::test]
async fn old_messages_after_a_pause_are_recorded_and_not_answered() {
    let mut desk = Desk::new(settings()).await;
    desk.wait(4 * 3_600_000).restart().await;
    let hour_ago = from_millis(desk.now - 3_600_000).to_zoned(jiff::tz::TimeZone::system());
    let stamp = Some(hour_ago.strftime("%Y-%m-%d %H:%M").to_string());
    desk.look(vec![NewMessage { stamp, ..line(Cue::Other, "long ago") }]).await;
    let told = desk.publish().await.pop().unwrap();
    assert_eq!((told.mode, desk.effect(&told).await), (Mode::Off, Some(Effect::TooOld)));
    assert_eq!(told.messages[0].text, "long ago");
    desk.hear("now").await;
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!((turn.mode, turn.messages.len(), turn.number), (Mode::Auto, 1, 2));
    // Nothing tells how old it is: a person decides.
    desk.wait(4 * 3_600_000).restart().await;
    desk.hear("when was this").await;
    assert_eq!(desk.publish().await.last().unwrap().mode, Mode::Draft);
}

#[tokio::test]
async fn groups_are_answered_only_when_they_mention_us() {
    let mut desk = Desk::of(settings(), ConversationKind::Group).await;
    desk.hear("anything new, annual report?").await;
    assert!(desk.publish().await.is_empty());
    desk.hear("Ann: are you there").await;
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!((turn.messages.len(), turn.context.len()), (1, 1));
}

#[tokio::test]
async fn foreign_commands_are_refused_and_told_where_one_can_be_addressed() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    desk.accept(ReplySend { journal: JournalId::draw(), ..desk.reply(&turn, "x") }).await;
    let stranger = TurnId::derive(desk.journal.id(), desk.conversation.id, 99);
    desk.accept(ReplySend { turn: stranger, ..desk.reply(&turn, "x") }).await;
    desk.accept(ReplySend { revision: Revision(9), ..desk.reply(&turn, "x") }).await;
    let other = DesktopId::try_from("elsewhere".to_owned()).unwrap();
    desk.accept(ReplySend { desktop: other, ..desk.reply(&turn, "x") }).await;
    assert_eq!(desk.next().await, None);
    let told = desk.outcomes().await;
    assert!(told.contains(&(stranger, 1, Effect::Refused)), "{told:?}");
    assert_eq!(desk.effect(&turn).await, None);
}

#[tokio::test]
async fn enter_needs_a_fresh_look() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.intent(&turn).await;
    let stale = desk.journal.begin_submit(turn.turn, turn.revision, 999, desk.at()).await.unwrap();
    assert!(matches!(stale, FenceVerdict::Wait(_)));
    let look = LastLook { pane_digest: 7, aligned: true, at_bottom: false, transcript: String::new(), at: desk.at() };
    for (aligned, at_bottom, pass) in [(true, false, false), (false, true, false), (true, true, true)] {
        let look = LastLook { aligned, at_bottom, ..look.clone() };
        desk.journal.record_look(&desk.conversation, vec![], look, desk.at()).await.unwrap();
        desk.digest = 7;
        assert_eq!(passes(&desk.submit(&turn).await), pass);
    }
}

#[tokio::test]
async fn an_abandoned_intent_waits_and_lets_others_pass() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.intent(&turn).await;
    desk.journal.abandon_intent(turn.turn, turn.revision, Duration::from_secs(5), desk.at()).await.unwrap();
    assert_eq!(desk.next().await, None);
    let carol = Conversation::new("hexchat", "irc", "me", "carol", ConversationKind::Direct);
    let bob = std::mem::replace(&mut desk.conversation, carol.clone());
    desk.look(vec![]).await;
    let other = desk.queued("hello").await;
    assert_eq!(desk.next().await, Some(other.turn));
    assert_eq!(desk.journal.next_send(&[carol.id], desk.at()).await.unwrap(), None);
    desk.wait(5000);
    let order = desk.journal.next_send(&[carol.id], desk.at()).await.unwrap().unwrap();
    assert_eq!((order.send.turn, order.attempts, order.conversation), (turn.turn, 1, bob));
    // After Enter was allowed nothing is tried again.
    desk.intent(&other).await;
    assert!(passes(&desk.submit(&other).await));
    desk.journal.abandon_intent(other.turn, other.revision, Duration::ZERO, desk.at()).await.unwrap();
    assert_eq!(desk.effect(&other).await, Some(Effect::Failed));
    assert!(ended(&desk.intent(&other).await, Effect::Failed));
}

#[tokio::test]
async fn a_killed_executor_finds_its_intents_again() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.intent(&turn).await;
    desk.restart().await;
    desk.look(vec![]).await;
    let left = desk.journal.unfinished().await.unwrap();
    assert_eq!((left.len(), left[0].state, left[0].watermark), (1, IntentState::Intent, 1));
    assert!(!passes(&desk.intent(&turn).await) && desk.next().await.is_none());
    desk.journal.abandon_intent(turn.turn, turn.revision, Duration::ZERO, desk.at()).await.unwrap();
    desk.intent(&turn).await;
    assert!(passes(&desk.submit(&turn).await));
    desk.restart().await;
    desk.own("an answer to one").await;
    let left = desk.journal.unfinished().await.unwrap();
    assert_eq!(left[0].state, IntentState::Submitting);
    assert!(!passes(&desk.submit(&turn).await));
    assert!(desk.journal.own_line(turn.turn, turn.revision).await.unwrap().is_some());
    desk.end(&turn, Effect::Confirmed).await;
    assert!(desk.journal.unfinished().await.unwrap().is_empty());
}
