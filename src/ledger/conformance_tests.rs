//! What every ledger must do, as one suite over the port; each implementation runs it through a [`Site`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

#[path = "conformance_desks.rs"]
mod desks;
#[path = "conformance_figures.rs"]
mod figures;

use self::desks::{
    a_copied_journal_is_noticed_and_both_are_told, a_desk_that_says_no_hello_owns_by_its_turns,
    a_late_word_corrects_the_quota_and_its_times_are_kept, hellos_at_two_workers_give_an_account_to_one_desk,
    of_two_desks_on_one_account_exactly_one_answers, the_ownership_goes_with_the_turn_to_its_command,
};
use self::figures::{
    each_end_is_told_once_and_whether_it_was_in_time, what_stands_in_a_state_has_an_age_and_may_be_overdue,
};
#[path = "conformance_workers.rs"]
mod workers;

use self::workers::{a_worker_is_seen_falls_silent_and_is_forgotten, how_the_replies_stand_is_told_with_their_age};
use super::SqliteLedger;
use super::postgres::testing::Database;
use crate::clock::{ManualClock, from_millis};
use crate::contract::Authority;
use crate::contract::{Command, DraftVersion, Effect, MessagesDetected, Mode, ReplySend, ReplyWithdraw, Revision};
use crate::saga::samples::{outcome, turn};
use crate::saga::state::{End, Phase, State};
use crate::saga::*;

const HOUR: Duration = Duration::from_secs(3600);
const HOLD: Duration = Duration::from_secs(45);

/// One database that can be opened again and again, and whose time can pass.
#[async_trait]
trait Site: Send + Sync {
    /// Another worker's view of the same database, with this daily quota.
    async fn open(&self, quota: u64) -> Arc<dyn Ledger>;
    /// Lets time pass for it.
    async fn pass(&self, time: Duration);
}

struct SqliteSite {
    _directory: tempfile::TempDir,
    path: PathBuf,
    clock: Arc<ManualClock>,
}

fn sqlite() -> SqliteSite {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    SqliteSite { _directory: directory, path, clock: Arc::new(ManualClock::new(from_millis(1_000_000))) }
}

#[async_trait]
impl Site for SqliteSite {
    async fn open(&self, quota: u64) -> Arc<dyn Ledger> {
        Arc::new(SqliteLedger::open(&self.path, quota, self.clock.clone()).await.unwrap())
    }
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

fn lease(worker: &str) -> LeaseRequest {
    LeaseRequest { worker: worker.to_owned(), hold: Duration::from_secs(45) }
}

/// Terms without a quota: most cases reserve it as a step of its own, as after a take-over.
fn terms(worker: &str) -> Terms {
    Terms { lease: lease(worker), finish_within: HOUR, account_hold: HOLD, reserve_quota: false }
}

async fn record_on(ledger: &dyn Ledger, detected: &MessagesDetected, terms: &Terms) -> Receipt {
    ledger.record_turns(std::slice::from_ref(detected), terms).await.unwrap().remove(0).unwrap()
}

async fn record(ledger: &dyn Ledger, detected: &MessagesDetected) -> Receipt {
    record_on(ledger, detected, &terms("w")).await
}

async fn recorded(ledger: &dyn Ledger, detected: &MessagesDetected) -> LeaseToken {
    match record(ledger, detected).await {
        Receipt::New(taken) | Receipt::Newer(taken) => taken.lease,
        other => panic!("{other:?}"),
    }
}

fn wanted(of: &MessagesDetected, lease: LeaseToken, change: Change) -> Transition {
    Transition {
        id: Uuid::now_v7(),
        turn: of.turn,
        revision: of.revision,
        lease,
        who: "w".to_owned(),
        traceparent: None,
        changes: vec![change],
    }
}

async fn go(ledger: &dyn Ledger, of: &MessagesDetected, lease: LeaseToken, change: Change) -> Transitioned {
    ledger.transition(&[wanted(of, lease, change)]).await.unwrap().remove(0).unwrap()
}

fn draft() -> Change {
    Change::StoreDraft(Draft { text: "a-secret-answer".to_owned(), provider: "fake".to_owned(), ceiling: Mode::Auto })
}

fn issue(of: &MessagesDetected) -> Change {
    let send = ReplySend {
        turn: of.turn,
        revision: of.revision,
        journal: of.journal,
        desktop: of.desktop.clone(),
        conversation: of.conversation.id,
        text: "a-secret-answer".to_owned(),
        authority: Authority::Auto,
        issued_at: from_millis(0),
        owner_token: None,
    };
    Change::Issue { send, answer_within: Duration::from_secs(180) }
}

async fn drafted(ledger: &dyn Ledger, of: &MessagesDetected) -> LeaseToken {
    let token = recorded(ledger, of).await;
    for change in [Change::ReserveQuota, draft()] {
        assert!(matches!(go(ledger, of, token, change).await, Transitioned::Done { .. }));
    }
    token
}

async fn issued(ledger: &dyn Ledger, of: &MessagesDetected) -> (LeaseToken, EntryId) {
    let token = drafted(ledger, of).await;
    match go(ledger, of, token, issue(of)).await {
        Transitioned::Done { state: State::Open(Phase::Issued), entry: Some(entry), .. } => (token, entry),
        other => panic!("{other:?}"),
    }
}

async fn state(ledger: &dyn Ledger, of: &MessagesDetected) -> State {
    ledger.show(of.turn).await.unwrap().unwrap().summary.state
}

async fn tell(ledger: &dyn Ledger, of: &MessagesDetected, effect: Effect) -> Applied {
    ledger.apply_outcomes(&[outcome(of, effect)]).await.unwrap().remove(0).unwrap()
}

async fn quota(ledger: &dyn Ledger) -> u64 {
    ledger.counts().await.unwrap().quota_taken
}

async fn a_reply_goes_its_way_once(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let of = turn("alice", 1, 1);
    let (token, entry) = issued(ledger, &of).await;
    assert_eq!(record(ledger, &of).await, Receipt::Known);
    assert_eq!(go(ledger, &of, token, issue(&of)).await, Transitioned::Lost, "issued twice");
    ledger.mark_published(&[entry]).await.unwrap();
    ledger.mark_published(&[entry]).await.unwrap();
    site.pass(Duration::from_secs(60)).await;
    assert_eq!(ledger.take_commands(HOUR, 10).await.unwrap(), vec![]);
    let Applied::Ended { exchange: Some(exchange), end: End::InTime } = tell(ledger, &of, Effect::Confirmed).await
    else {
        panic!()
    };
    assert_eq!((exchange.inbound.as_str(), exchange.reply.as_str()), ("a-secret-question", "a-secret-answer"));
    assert_eq!(tell(ledger, &of, Effect::Confirmed).await, Applied::Repeated);
    assert_eq!(tell(ledger, &of, Effect::Refused).await, Applied::Kept);
    assert_eq!(tell(ledger, &of, Effect::Refused).await, Applied::Repeated);
    assert_eq!(state(ledger, &of).await, State::Ended(Effect::Confirmed));
    assert_eq!(record(ledger, &of).await, Receipt::Closed);
    assert_eq!(quota(ledger).await, 1);
    let story = ledger.story(of.turn).await.unwrap();
    let events: Vec<&str> = story.iter().map(|line| line.event.as_str()).collect();
    let expected = ["recorded", "quota_reserved", "draft_stored", "issued", "published", "outcome", "outcome_kept"];
    assert_eq!(events, expected, "a repeat is not told again");
    assert!(story.iter().all(|line| !line.detail.contains("secret")));
}

async fn the_place_in_the_trace_is_kept_for_whoever_goes_on(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let place = |span: u8| Some(format!("00-0af7651916cd43dd8448eb211c80319c-{span:016x}-01"));
    let (mut traced, mut grown, plain) = (turn("alice", 1, 1), turn("alice", 1, 2), turn("bob", 1, 1));
    (traced.traceparent, grown.traceparent) = (place(1), place(2));
    for of in [&traced, &plain] {
        issued(ledger, of).await;
    }
    let kept = |commands: Vec<PendingCommand>| {
        let mut kept: Vec<_> = commands.into_iter().map(|pending| pending.traceparent).collect();
        kept.sort();
        kept
    };
    site.pass(Duration::from_secs(11)).await;
    assert_eq!(kept(ledger.take_commands(HOUR, 10).await.unwrap()), [None, place(1)]);
    recorded(ledger, &grown).await;
    assert_eq!(kept(ledger.take_commands(HOUR, 10).await.unwrap()), [place(2)], "the withdrawal of what was issued");
    site.pass(Duration::from_secs(46)).await;
    let taken = ledger.take_over(&lease("b"), 10).await.unwrap();
    assert_eq!(taken.into_iter().map(|saga| saga.detected.traceparent).collect::<Vec<_>>(), [place(2)]);
}

async fn a_newer_revision_restarts_and_the_older_lease_is_worth_nothing(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (first, second) = (turn("alice", 1, 1), turn("alice", 1, 2));
    let (old, _) = issued(ledger, &first).await;
    let Receipt::Newer(Taken { lease: new, .. }) = record(ledger, &second).await else { panic!() };
    assert!(new > old);
    assert_eq!(quota(ledger).await, 0, "the older revision's quota is back");
    assert_eq!(go(ledger, &first, old, Change::ReserveQuota).await, Transitioned::Lost);
    assert_eq!(go(ledger, &second, old, Change::ReserveQuota).await, Transitioned::Lost);
    assert_eq!(record(ledger, &first).await, Receipt::Known);
    let commands = ledger.take_commands(HOUR, 10).await.unwrap();
    assert!(
        matches!(
            commands.as_slice(),
            [PendingCommand { command: Command::Withdraw(ReplyWithdraw { revision: Revision(1), .. }), .. }]
        ),
        "{commands:?}"
    );
    assert_eq!(tell(ledger, &first, Effect::Superseded).await, Applied::Kept);
    assert_eq!(state(ledger, &second).await, State::START);
    assert!(matches!(tell(ledger, &first, Effect::Confirmed).await, Applied::Ended { .. }), "sent is sent");
    assert_eq!(go(ledger, &second, new, Change::ReserveQuota).await, Transitioned::Lost);
    assert_eq!(record(ledger, &turn("alice", 1, 3)).await, Receipt::Closed);
}

async fn an_end_in_which_nothing_was_sent_is_restarted_by_a_newer_revision(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let first = turn("alice", 1, 1);
    drafted(ledger, &first).await;
    assert!(matches!(tell(ledger, &first, Effect::Superseded).await, Applied::Ended { exchange: None, .. }));
    assert_eq!(quota(ledger).await, 0);
    let second = turn("alice", 1, 2);
    drafted(ledger, &second).await;
    assert_eq!(quota(ledger).await, 1);
}

async fn an_unknown_commit_is_resolved_by_its_id(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let of = turn("alice", 1, 1);
    let token = drafted(ledger, &of).await;
    let again = [wanted(&of, token, issue(&of))];
    let first = ledger.transition(&again).await.unwrap();
    assert_eq!(
        ledger.transition(&again).await.unwrap(),
        first
            .iter()
            .map(|item| match item {
                Ok(Transitioned::Done { state, entry, .. }) =>
                    Ok(Transitioned::Done { state: *state, draft: Some(DraftVersion(1)), entry: *entry, end: None }),
                other => other.clone(),
            })
            .collect::<Vec<_>>()
    );
    assert_eq!(ledger.counts().await.unwrap().unpublished, 1);
}

fn both(of: &MessagesDetected, lease: LeaseToken, last: Change) -> Transition {
    Transition { changes: vec![draft(), last], ..wanted(of, lease, draft()) }
}

async fn a_turn_needs_two_writes_and_they_are_whole_or_nothing(site: &dyn Site) {
    let ledger = &*site.open(1).await;
    let (of, over) = (turn("alice", 1, 1), turn("bob", 1, 1));
    let mut off = turn("carol", 1, 1);
    off.mode = Mode::Off;
    let terms = Terms { reserve_quota: true, ..terms("w") };
    let Receipt::New(taken) = record_on(ledger, &of, &terms).await else { panic!() };
    assert_eq!(taken.quota, Kept::Reserved);
    assert_eq!(state(ledger, &of).await, State::Open(Phase::QuotaReserved));
    assert_eq!(record_on(ledger, &of, &terms).await, Receipt::Known);
    let Receipt::New(Taken { quota: Kept::NotAsked, .. }) = record_on(ledger, &off, &terms).await else { panic!() };
    let Receipt::New(Taken { quota: Kept::Exhausted, .. }) = record_on(ledger, &over, &terms).await else { panic!() };
    assert_eq!(state(ledger, &over).await, State::START);

    let hand_over = Change::HandOver { reason: "no".to_owned() };
    let half = both(&of, taken.lease, hand_over);
    assert_eq!(ledger.transition(&[half]).await.unwrap(), [Ok(Transitioned::Lost)], "the second may not follow");
    assert_eq!(state(ledger, &of).await, State::Open(Phase::QuotaReserved), "the first was not made either");
    let whole = [both(&of, taken.lease, issue(&of))];
    let first = ledger.transition(&whole).await.unwrap();
    let [Ok(Transitioned::Done { state: end, draft: Some(DraftVersion(1)), entry: Some(_), .. })] = first.as_slice()
    else {
        panic!("{first:?}")
    };
    assert_eq!(*end, State::Open(Phase::Issued));
    assert_eq!(ledger.transition(&whole).await.unwrap(), first, "asked again, it says what was done");
    let events: Vec<String> = ledger.story(of.turn).await.unwrap().into_iter().map(|line| line.event).collect();
    assert_eq!(events, ["recorded", "quota_reserved", "draft_stored", "issued"]);
    assert_eq!(ledger.counts().await.unwrap().unpublished, 1);
    tell(ledger, &of, Effect::Refused).await;
    assert_eq!(quota(ledger).await, 0);

    let newer = turn("alice", 1, 2);
    let Receipt::Newer(taken) = record_on(ledger, &newer, &terms).await else { panic!() };
    assert_eq!((taken.quota, quota(ledger).await), (Kept::Reserved, 1), "each revision has its own");
    let wait = both(&newer, taken.lease, Change::RequestApproval { lifetime: HOUR });
    let done = ledger.transition(&[wait]).await.unwrap().remove(0).unwrap();
    assert!(matches!(done, Transitioned::Done { draft: Some(DraftVersion(2)), entry: None, .. }), "{done:?}");
}

async fn a_bad_row_does_not_take_its_group_along(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let mut group: Vec<_> = (1..=9).map(|number| turn("alice", number, 1)).collect();
    group[4].revision = Revision(0);
    group[7].messages[0].text = "x".repeat(2 << 20);
    let receipts = ledger.record_turns(&group, &terms("w")).await.unwrap();
    let bad: Vec<usize> = (0..9).filter(|index| receipts[*index].is_err()).collect();
    assert_eq!(bad, [4, 7]);
    assert!(receipts[7].as_ref().unwrap_err().0.len() < 300, "the row's text is not in its error");
    assert_eq!(ledger.list(&Filter::default()).await.unwrap().len(), 7);
}

async fn a_quota_cannot_be_overdrawn_by_two(site: &dyn Site) {
    let ledgers = [site.open(10).await, site.open(10).await];
    let tries = (0..40u64).map(|number| {
        let ledger = ledgers[number as usize % 2].clone();
        async move {
            let of = turn("alice", number, 1);
            let token = recorded(&*ledger, &of).await;
            go(&*ledger, &of, token, Change::ReserveQuota).await
        }
    });
    let results = futures::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|one| matches!(one, Transitioned::Done { .. })).count(), 10);
    assert_eq!(results.iter().filter(|one| **one == Transitioned::QuotaExhausted).count(), 30);
    assert_eq!(quota(&*ledgers[0]).await, 10);
    site.pass(HOUR * 24).await;
    let next = turn("alice", 99, 1);
    let token = recorded(&*ledgers[1], &next).await;
    assert!(matches!(go(&*ledgers[1], &next, token, Change::ReserveQuota).await, Transitioned::Done { .. }));
}

async fn two_workers_record_the_same_turns_and_each_is_new_once(site: &dyn Site) {
    let ledgers = [site.open(10).await, site.open(10).await];
    let batch: Vec<_> = (0..50).map(|number| turn("alice", number, 1)).collect();
    let (request, other) = (terms("a"), terms("b"));
    let (one, two) = tokio::join!(ledgers[0].record_turns(&batch, &request), ledgers[1].record_turns(&batch, &other));
    for (one, two) in one.unwrap().into_iter().zip(two.unwrap()) {
        let both = [one.unwrap(), two.unwrap()];
        assert_eq!(both.iter().filter(|receipt| matches!(receipt, Receipt::New(_))).count(), 1, "{both:?}");
        assert!(both.contains(&Receipt::Known));
    }
}

async fn an_expired_lease_is_taken_over_once_with_the_stored_draft(site: &dyn Site) {
    let (one, two) = (site.open(10).await, site.open(10).await);
    let of = turn("alice", 1, 1);
    let token = drafted(&*one, &of).await;
    assert_eq!(two.take_over(&lease("b"), 10).await.unwrap(), vec![], "the lease holds");
    assert_eq!(one.renew(&[(of.turn, token)], Duration::from_secs(90)).await.unwrap(), [true]);
    site.pass(Duration::from_secs(60)).await;
    assert_eq!(two.take_over(&lease("b"), 10).await.unwrap(), vec![], "the lease was renewed");
    site.pass(Duration::from_secs(60)).await;
    let (request, other) = (lease("b"), lease("c"));
    let (b, c) = tokio::join!(two.take_over(&request, 10), one.take_over(&other, 10));
    let taken: Vec<OpenSaga> = b.unwrap().into_iter().chain(c.unwrap()).collect();
    let [saga] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!((saga.phase, saga.takeovers), (Phase::Drafted, 1));
    assert_eq!(saga.draft.as_ref().unwrap().draft.text, "a-secret-answer");
    assert_eq!(go(&*one, &of, token, issue(&of)).await, Transitioned::Lost, "the dead one came back");
    assert_eq!(one.renew(&[(of.turn, token)], HOUR).await.unwrap(), [false]);
    assert!(matches!(go(&*two, &of, saga.lease, issue(&of)).await, Transitioned::Done { .. }));
}

async fn approval_names_the_version_and_is_heard_once(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (first, second) = (turn("alice", 1, 1), turn("alice", 1, 2));
    let wait = || Change::RequestApproval { lifetime: HOUR };
    let token = drafted(ledger, &first).await;
    go(ledger, &first, token, wait()).await;
    let token = drafted(ledger, &second).await;
    go(ledger, &second, token, wait()).await;
    let decision = |version, approve| Decision {
        turn: first.turn,
        version: DraftVersion(version),
        by: "eve".to_owned(),
        approve,
        answer_within: HOUR,
    };
    assert_eq!(ledger.decide(&decision(1, true)).await.unwrap(), Decided::OtherVersion(DraftVersion(2)));
    let (approved, rejected) = (decision(2, true), decision(2, false));
    let Decided::Issued(pending) = ledger.decide(&approved).await.unwrap() else { panic!() };
    let Command::Send(send) = pending.command else { panic!() };
    assert_eq!((send.revision, send.authority), (Revision(2), Authority::ApprovedBy { by: "eve".to_owned() }));
    assert_eq!(ledger.decide(&rejected).await.unwrap(), Decided::NotAwaiting(State::Open(Phase::Issued)));
    let unknown = Decision { turn: turn("bob", 9, 1).turn, ..decision(1, true) };
    assert_eq!(ledger.decide(&unknown).await.unwrap(), Decided::Unknown);
}

async fn overdue_replies_are_withdrawn_then_handed_over_and_a_late_word_wins(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let of = turn("alice", 1, 1);
    let (token, _) = issued(ledger, &of).await;
    let hand_over = || Change::HandOver { reason: "silence".to_owned() };
    assert_eq!(go(ledger, &of, token, hand_over()).await, Transitioned::Lost, "not before it was asked back");
    let abandon = Change::Abandon { effect: Effect::Failed, reason: "no".to_owned() };
    assert_eq!(go(ledger, &of, token, abandon).await, Transitioned::Lost, "only the executor ends it");
    assert_eq!(ledger.take_overdue(&lease("w"), 10).await.unwrap(), vec![]);
    site.pass(Duration::from_secs(181)).await;
    let saga = ledger.take_overdue(&lease("w"), 10).await.unwrap().remove(0);
    assert_eq!(ledger.take_overdue(&lease("x"), 10).await.unwrap(), vec![], "taken once");
    let withdraw = ReplyWithdraw {
        turn: of.turn,
        revision: of.revision,
        desktop: of.desktop.clone(),
        conversation: of.conversation.id,
        reason: "silence".to_owned(),
    };
    go(ledger, &of, saga.lease, Change::Withdraw { withdraw, answer_within: Duration::from_secs(60) }).await;
    site.pass(Duration::from_secs(61)).await;
    let saga = ledger.take_overdue(&lease("w"), 10).await.unwrap().remove(0);
    assert_eq!(saga.phase, Phase::Withdrawing);
    go(ledger, &of, saga.lease, hand_over()).await;
    assert_eq!(state(ledger, &of).await, State::Ended(Effect::NeedsAttention));
    assert_eq!(quota(ledger).await, 1, "nobody knows, so it counts");
    tell(ledger, &of, Effect::Unverifiable).await;
    tell(ledger, &of, Effect::Confirmed).await;
    tell(ledger, &of, Effect::Refused).await;
    assert_eq!(state(ledger, &of).await, State::Ended(Effect::Confirmed));
    assert_eq!(quota(ledger).await, 1);
}

async fn an_outcome_before_its_turn_is_kept_and_applied(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let of = turn("alice", 1, 2);
    assert_eq!(tell(ledger, &of, Effect::HumanReplied).await, Applied::Orphan);
    assert_eq!(tell(ledger, &of, Effect::HumanReplied).await, Applied::Orphan);
    assert!(matches!(record(ledger, &turn("alice", 1, 1)).await, Receipt::Closed));
    assert_eq!(record(ledger, &of).await, Receipt::Closed, "the revision that ended is not new");
    assert_eq!(state(ledger, &of).await, State::Ended(Effect::HumanReplied));
    assert!(ledger.take_over(&lease("w"), 10).await.unwrap().is_empty());
}

async fn what_was_written_is_there_after_a_reopening_and_unpublished_commands_come_back(site: &dyn Site) {
    let of = turn("alice", 1, 1);
    issued(&*site.open(10).await, &of).await;
    let ledger = site.open(10).await;
    assert_eq!(ledger.take_commands(HOUR, 10).await.unwrap(), vec![], "its writer still has time");
    site.pass(Duration::from_secs(15)).await;
    assert_eq!(ledger.take_commands(HOUR, 10).await.unwrap().len(), 1);
    assert_eq!(ledger.take_commands(HOUR, 10).await.unwrap(), vec![], "somebody has it");
    tell(&*ledger, &of, Effect::HumanReplied).await;
    site.pass(HOUR * 2).await;
    assert_eq!(ledger.take_commands(HOUR, 10).await.unwrap(), vec![], "an ended reply is not published");
}

async fn text_goes_before_rows_and_a_forgotten_peer_leaves_only_ids(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (old, open, live) = (turn("alice", 1, 1), turn("bob", 1, 1), turn("bob", 2, 1));
    issued(ledger, &old).await;
    tell(ledger, &old, Effect::Confirmed).await;
    let days = |count: u32| HOUR * 24 * count;
    let retention = Retention { rows: days(30), text: days(7) };
    assert_eq!(ledger.prune(retention).await.unwrap(), Pruned::default());
    site.pass(days(8)).await;
    assert_eq!(ledger.prune(retention).await.unwrap(), Pruned { rows: 0, texts: 1 });
    let bare = ledger.show(old.turn).await.unwrap().unwrap();
    assert!(bare.detected.is_none() && bare.summary.draft.is_none() && !bare.story.is_empty());
    site.pass(days(30)).await;
    assert_eq!(ledger.prune(retention).await.unwrap(), Pruned { rows: 1, texts: 0 });
    assert!(ledger.show(old.turn).await.unwrap().is_none());
    assert!(ledger.story(old.turn).await.unwrap().is_empty());

    drafted(ledger, &open).await;
    issued(ledger, &live).await;
    assert_eq!(ledger.forget("bob").await.unwrap(), [open.conversation.id]);
    assert_eq!(state(ledger, &open).await, State::Ended(Effect::Off));
    assert_eq!(record(ledger, &open).await, Receipt::Closed, "it is not taken for a new turn");
    for of in [&open, &live] {
        let left = format!("{:?}", ledger.show(of.turn).await.unwrap());
        assert!(!left.contains("secret") && !left.contains("bob"), "{left}");
    }
    site.pass(HOUR).await;
    assert_eq!(ledger.take_overdue(&lease("w"), 10).await.unwrap().len(), 1, "the issued one is still followed");
}

/// Two workers make the same groups of changes, in different orders, while a third records newer revisions.
async fn overlapping_groups_of_two_workers_are_made_once_each_and_nobody_waits_in_a_circle(site: &dyn Site) {
    let ledgers = [site.open(1_000).await, site.open(1_000).await, site.open(1_000).await];
    let batch: Vec<_> = (0..60).map(|number| turn("alice", number, 1)).collect();
    let terms = Terms { reserve_quota: true, ..terms("w") };
    let receipts = ledgers[0].record_turns(&batch, &terms).await.unwrap();
    let lease = |index: usize| match receipts[index] {
        Ok(Receipt::New(taken)) => taken.lease,
        ref other => panic!("{other:?}"),
    };
    let group =
        || -> Vec<_> { batch.iter().enumerate().map(|(index, of)| both(of, lease(index), issue(of))).collect() };
    let (forward, mut backward) = (group(), group());
    backward.reverse();
    let chunks = |all: Vec<Transition>| all.chunks(20).map(<[_]>::to_vec).collect::<Vec<_>>();
    let write = |ledger: Arc<dyn Ledger>, groups: Vec<Vec<Transition>>| async move {
        let mut done = Vec::new();
        for group in groups {
            for (wanted, answer) in group.iter().zip(ledger.transition(&group).await.unwrap()) {
                if matches!(answer.unwrap(), Transitioned::Done { .. }) {
                    done.push(wanted.turn);
                }
            }
        }
        done
    };
    let newer: Vec<_> = (0..20u64).rev().map(|number| turn("alice", number * 3, 2)).collect();
    let (mut one, two, raised) = tokio::join!(
        write(ledgers[0].clone(), chunks(forward)),
        write(ledgers[1].clone(), chunks(backward)),
        ledgers[2].record_turns(&newer, &terms),
    );
    assert!(raised.unwrap().iter().all(|receipt| matches!(receipt, Ok(Receipt::Newer(_)))));
    one.extend(two);
    let many = one.len();
    one.sort();
    one.dedup();
    assert_eq!(many, one.len(), "a change was made twice");
    for (index, of) in batch.iter().enumerate() {
        let story = ledgers[0].story(of.turn).await.unwrap();
        let issued = story.iter().filter(|line| line.event == "issued").count();
        assert_eq!(issued, usize::from(one.contains(&of.turn)), "{story:?}");
        assert!(issued == 1 || index % 3 == 0, "it was neither issued nor overtaken");
    }
    assert_eq!(quota(&*ledgers[0]).await, 60, "each newest revision holds one");
}

async fn a_quota_cannot_be_overdrawn_by_four_that_take_and_give_back(site: &dyn Site) {
    let ledgers = futures::future::join_all((0..4).map(|_| site.open(25))).await;
    let terms = Terms { reserve_quota: true, ..terms("w") };
    let work = |worker: u64| {
        let (ledger, terms) = (ledgers[worker as usize].clone(), terms.clone());
        async move {
            let (mut kept, mut given_back) = (0, 0);
            for round in 0..6 {
                let batch: Vec<_> = (0..5).map(|number| turn("alice", worker * 100 + round * 5 + number, 1)).collect();
                for (of, receipt) in batch.iter().zip(ledger.record_turns(&batch, &terms).await.unwrap()) {
                    let Receipt::New(Taken { quota, .. }) = receipt.unwrap() else { panic!("recorded twice") };
                    if quota == Kept::Reserved && of.number % 2 == 0 {
                        tell(&*ledger, of, Effect::Failed).await;
                        given_back += 1;
                    } else if quota == Kept::Reserved {
                        kept += 1;
                    }
                }
                assert!(ledger.counts().await.unwrap().quota_taken <= 25, "overdrawn");
            }
            (kept, given_back)
        }
    };
    let each = futures::future::join_all((0..4).map(work)).await;
    let kept: u64 = each.iter().map(|(kept, _)| kept).sum();
    assert_eq!((quota(&*ledgers[0]).await, kept), (25, 25));
    assert!(each.iter().map(|(_, back)| back).sum::<u64>() > 0);
}

async fn an_outcome_and_its_turn_at_the_same_moment_find_each_other(site: &dyn Site) {
    let ledgers = [site.open(100).await, site.open(100).await];
    for number in 0..20 {
        let of = turn("alice", number, 1);
        let (group, told) = ([of.clone()], [outcome(&of, Effect::HumanReplied)]);
        let terms = terms("w");
        let (recorded, applied) =
            tokio::join!(ledgers[0].record_turns(&group, &terms), ledgers[1].apply_outcomes(&told));
        assert!(recorded.unwrap()[0].is_ok() && applied.unwrap()[0].is_ok());
        assert_eq!(state(&*ledgers[0], &of).await, State::Ended(Effect::HumanReplied));
    }
}

struct PostgresSite(Database);

async fn postgres(test: &str) -> Option<PostgresSite> {
    Database::new(test).await.map(PostgresSite)
}

#[async_trait]
impl Site for PostgresSite {
    async fn open(&self, quota: u64) -> Arc<dyn Ledger> {
        Arc::new(self.0.open(quota).await)
    }
    async fn pass(&self, time: Duration) {
        self.0.pass(time).await;
    }
}

macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(site) = super::postgres(stringify!($name)).await {
                    super::$name(&site).await;
                }
            })+
        }
    };
}

suite!(
    a_reply_goes_its_way_once,
    a_newer_revision_restarts_and_the_older_lease_is_worth_nothing,
    an_end_in_which_nothing_was_sent_is_restarted_by_a_newer_revision,
    an_unknown_commit_is_resolved_by_its_id,
    the_place_in_the_trace_is_kept_for_whoever_goes_on,
    a_turn_needs_two_writes_and_they_are_whole_or_nothing,
    a_bad_row_does_not_take_its_group_along,
    a_quota_cannot_be_overdrawn_by_two,
    a_quota_cannot_be_overdrawn_by_four_that_take_and_give_back,
    two_workers_record_the_same_turns_and_each_is_new_once,
    overlapping_groups_of_two_workers_are_made_once_each_and_nobody_waits_in_a_circle,
    an_expired_lease_is_taken_over_once_with_the_stored_draft,
    approval_names_the_version_and_is_heard_once,
    overdue_replies_are_withdrawn_then_handed_over_and_a_late_word_wins,
    an_outcome_before_its_turn_is_kept_and_applied,
    an_outcome_and_its_turn_at_the_same_moment_find_each_other,
    what_was_written_is_there_after_a_reopening_and_unpublished_commands_come_back,
    of_two_desks_on_one_account_exactly_one_answers,
    the_ownership_goes_with_the_turn_to_its_command,
    a_desk_that_says_no_hello_owns_by_its_turns,
    a_copied_journal_is_noticed_and_both_are_told,
    hellos_at_two_workers_give_an_account_to_one_desk,
    a_late_word_corrects_the_quota_and_its_times_are_kept,
    a_worker_is_seen_falls_silent_and_is_forgotten,
    how_the_replies_stand_is_told_with_their_age,
    text_goes_before_rows_and_a_forgotten_peer_leaves_only_ids,
    each_end_is_told_once_and_whether_it_was_in_time,
    what_stands_in_a_state_has_an_age_and_may_be_overdue,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_open_a_new_file_at_once_and_a_newer_one_is_refused() {
    let site = sqlite();
    futures::future::join_all((0..8).map(|_| site.open(10))).await;
    for file in std::fs::read_dir(site.path.parent().unwrap()).unwrap().map(Result::unwrap) {
        use std::os::unix::fs::PermissionsExt;
        let private = file.metadata().unwrap().permissions().mode() & 0o077 == 0;
        assert!(private || file.file_name().to_string_lossy().ends_with("-lock"), "{file:?}");
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&site.path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("pragma user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    let refused = SqliteLedger::open(&site.path, 10, site.clock.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("newer release"), "{refused}");
}
