//! What every ledger must do about desks and the accounts that they answer for.

use super::*;
use crate::contract::{Account, DesktopGreeted, DesktopHello, DesktopId, InstanceId, JournalId, Timings, TurnId};

/// The turn as another desk saw it: its own journal, its own id, the same conversation.
fn seen_by(journal: u128, of: &MessagesDetected) -> MessagesDetected {
    let journal = JournalId(Uuid::from_u128(journal));
    let turn = TurnId::derive(journal, of.conversation.id, of.number);
    MessagesDetected { turn, journal, desktop: desk(journal), ..of.clone() }
}

fn desk(journal: JournalId) -> DesktopId {
    DesktopId::try_from(format!("desk-{}", journal.0.as_u128())).unwrap()
}

/// The `said`th hello of this process of this journal, for the account of the samples.
fn hello(journal: u128, instance: u128, said: i64) -> DesktopHello {
    let journal = JournalId(Uuid::from_u128(journal));
    DesktopHello {
        desktop: desk(journal),
        journal,
        instance: InstanceId(Uuid::from_u128(instance)),
        started_at: from_millis(instance as i64),
        version: "0.2.0".to_owned(),
        host: "office".to_owned(),
        seat: String::new(),
        accounts: vec![Account::of(&turn("alice", 1, 1).conversation)],
        interval_ms: 10_000,
        leaving: false,
        at: from_millis(1_000_000 + said),
    }
}

async fn greet(ledger: &dyn Ledger, hello: &DesktopHello) -> DesktopGreeted {
    ledger.greet(std::slice::from_ref(hello), HOLD).await.unwrap().remove(0).unwrap()
}

async fn owns(ledger: &dyn Ledger, hello: &DesktopHello) -> Option<u64> {
    let told = greet(ledger, hello).await.accounts.remove(0);
    told.owned.then_some(told.token)
}

fn token(receipt: &Receipt) -> Option<u64> {
    match receipt {
        Receipt::New(taken) | Receipt::Newer(taken) => taken.owner_token,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn of_two_desks_on_one_account_exactly_one_answers(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (mine, theirs) = (seen_by(1, &turn("alice", 1, 1)), seen_by(2, &turn("alice", 1, 1)));
    assert_eq!(owns(ledger, &hello(1, 10, 0)).await, Some(1));
    assert_eq!(owns(ledger, &hello(2, 20, 0)).await, None);
    assert_eq!(record(ledger, &theirs).await, Receipt::NotOwner(mine.desktop.clone()));
    assert_eq!(state(ledger, &theirs).await, State::Ended(Effect::NotOwner));
    let story = ledger.story(theirs.turn).await.unwrap();
    assert!(story.last().unwrap().detail.contains("desk-1"), "{story:?}");
    assert_eq!(token(&record(ledger, &mine).await), Some(1));
    assert_eq!(record(ledger, &theirs).await, Receipt::Closed, "a repeat changes nothing");
    let grown = MessagesDetected { revision: Revision(2), ..theirs.clone() };
    assert_eq!(record(ledger, &grown).await, Receipt::NotOwner(mine.desktop.clone()));
    let silent = MessagesDetected { mode: Mode::Off, ..seen_by(2, &turn("alice", 2, 1)) };
    assert_eq!(token(&record(ledger, &silent).await), None, "what comes only to be recorded has its own reason");

    site.pass(HOLD).await;
    assert_eq!(owns(ledger, &hello(2, 20, 45_000)).await, Some(2), "the token rises with the owner");
    assert_eq!(owns(ledger, &hello(1, 10, 46_000)).await, None, "who comes back is told");
    let next = turn("alice", 3, 1);
    assert_eq!(record(ledger, &seen_by(1, &next)).await, Receipt::NotOwner(theirs.desktop.clone()));
    assert_eq!(token(&record(ledger, &seen_by(2, &next)).await), Some(2));
    let gone = DesktopHello { leaving: true, ..hello(2, 20, 47_000) };
    assert_eq!(owns(ledger, &gone).await, None);
    assert_eq!(owns(ledger, &hello(1, 10, 48_000)).await, Some(3), "who leaves gives way at once");
}

pub(super) async fn the_ownership_goes_with_the_turn_to_its_command(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (first, second) = (seen_by(1, &turn("alice", 1, 1)), seen_by(1, &turn("bob", 1, 1)));
    assert_eq!(owns(ledger, &hello(1, 10, 0)).await, Some(1));
    assert_eq!(owns(ledger, &hello(1, 11, 1)).await, Some(2), "a new process of the same desk");
    record(ledger, &first).await;
    site.pass(Duration::from_secs(46)).await;
    let taken = ledger.take_over(&lease("b"), 10).await.unwrap();
    assert_eq!(taken.iter().map(|saga| saga.owner_token).collect::<Vec<_>>(), [Some(2)], "whoever takes it over knows");

    let lease = recorded(ledger, &second).await;
    for change in [Change::ReserveQuota, draft(), Change::RequestApproval { lifetime: HOUR }] {
        go(ledger, &second, lease, change).await;
    }
    let (turn, version, by) = (second.turn, DraftVersion(1), "eve".to_owned());
    let decision = Decision { turn, version, by, approve: true, answer_within: HOUR };
    let Decided::Issued(pending) = ledger.decide(&decision).await.unwrap() else { panic!() };
    let Command::Send(send) = pending.command else { panic!() };
    assert_eq!(send.owner_token, Some(2), "an approved one too");
}

pub(super) async fn a_desk_that_says_no_hello_owns_by_its_turns(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let at = |journal, number| seen_by(journal, &turn("alice", number, 1));
    assert_eq!(token(&record(ledger, &at(1, 1)).await), None, "it could not check a token");
    assert_eq!(record(ledger, &at(2, 1)).await, Receipt::NotOwner(at(1, 1).desktop));
    site.pass(Duration::from_secs(40)).await;
    record(ledger, &at(1, 2)).await;
    site.pass(Duration::from_secs(40)).await;
    assert_eq!(record(ledger, &at(2, 2)).await, Receipt::NotOwner(at(1, 1).desktop), "its turns keep it");
    assert_eq!(owns(ledger, &hello(2, 20, 0)).await, None, "against hellos too");
    site.pass(Duration::from_secs(6)).await;
    assert_eq!(owns(ledger, &hello(2, 20, 1)).await, Some(2));
    assert_eq!(record(ledger, &at(1, 3)).await, Receipt::NotOwner(at(2, 1).desktop));
    let known = ledger.desks(HOLD).await.unwrap();
    let names: Vec<_> = known.iter().map(|desk| (desk.desktop.as_str(), desk.accounts.len())).collect();
    assert_eq!(names, [("desk-2", 1)]);
}

pub(super) async fn a_copied_journal_is_noticed_and_both_are_told(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    assert_eq!(owns(ledger, &hello(1, 10, 0)).await, Some(1));
    let copy = greet(ledger, &hello(1, 11, 10_000)).await;
    assert!(!copy.cloned && copy.current && copy.accounts[0].owned, "so far it may be a restart");
    let wait = copy.accounts[0].inherit_ms;
    assert!((40_000..=45_000).contains(&wait), "what was issued to the one before waits {wait} ms");
    assert!(!greet(ledger, &hello(1, 10, 0)).await.cloned, "the same hello once more is no sign of life");
    let first = greet(ledger, &hello(1, 10, 11_000)).await;
    assert!(first.cloned && !first.current && !first.accounts[0].owned);
    let second = greet(ledger, &hello(1, 11, 20_000)).await;
    assert!(second.cloned && second.current && second.accounts[0].owned);
    let desks = ledger.desks(HOLD).await.unwrap();
    assert!(
        matches!(desks.as_slice(), [desk] if desk.cloned && desk.is_fresh() && desk.accounts[0].token == 2),
        "{desks:?}"
    );
    site.pass(HOLD * 2).await;
    let desks = ledger.desks(HOLD).await.unwrap();
    assert!(
        matches!(desks.as_slice(), [desk] if !desk.cloned && !desk.is_fresh() && desk.accounts[0].lapsed),
        "{desks:?}"
    );
}

pub(super) async fn hellos_at_two_workers_give_an_account_to_one_desk(site: &dyn Site) {
    let ledgers = [site.open(10).await, site.open(10).await];
    for round in 0..10_u128 {
        let (one, two) = (hello(100 + round, 1, 0), hello(200 + round, 1, 0));
        let (one, two) = tokio::join!(owns(&*ledgers[0], &one), owns(&*ledgers[1], &two));
        assert!(one.is_some() != two.is_some(), "{one:?} {two:?}");
        assert_eq!(one.or(two), Some(round as u64 + 1));
        site.pass(HOLD).await;
    }
    let turns = |journal| -> Vec<_> { (1..20).map(|n| seen_by(journal, &turn("carol", n, 1))).collect() };
    let (mine, theirs, terms) = (turns(7), turns(8), terms("w"));
    let (one, two) = tokio::join!(ledgers[0].record_turns(&mine, &terms), ledgers[1].record_turns(&theirs, &terms));
    for (one, two) in one.unwrap().into_iter().zip(two.unwrap()) {
        let both = [one.unwrap(), two.unwrap()];
        assert_eq!(both.iter().filter(|receipt| matches!(receipt, Receipt::NotOwner(_))).count(), 1, "{both:?}");
    }
}

pub(super) async fn a_late_word_corrects_the_quota_and_its_times_are_kept(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let (asked, sent) = (turn("alice", 1, 1), turn("bob", 1, 1));
    issued(ledger, &asked).await;
    site.pass(Duration::from_secs(181)).await;
    let saga = ledger.take_overdue(&lease("w"), 10).await.unwrap().remove(0);
    let withdraw = ReplyWithdraw {
        turn: asked.turn,
        revision: asked.revision,
        desktop: asked.desktop.clone(),
        conversation: asked.conversation.id,
        reason: "silence".to_owned(),
    };
    go(ledger, &asked, saga.lease, Change::Withdraw { withdraw, answer_within: HOUR }).await;
    go(ledger, &asked, saga.lease, Change::HandOver { reason: "silence".to_owned() }).await;
    assert_eq!((state(ledger, &asked).await, quota(ledger).await), (State::Ended(Effect::NeedsAttention), 1));
    tell(ledger, &asked, Effect::Superseded).await;
    assert_eq!((state(ledger, &asked).await, quota(ledger).await), (State::Ended(Effect::Superseded), 0));
    tell(ledger, &asked, Effect::Confirmed).await;
    assert_eq!((state(ledger, &asked).await, quota(ledger).await), (State::Ended(Effect::Confirmed), 1));

    issued(ledger, &sent).await;
    let newer = MessagesDetected { revision: Revision(2), ..sent.clone() };
    let lease = recorded(ledger, &newer).await;
    go(ledger, &newer, lease, Change::Abandon { effect: Effect::Expired, reason: "late".to_owned() }).await;
    assert_eq!(quota(ledger).await, 1, "both revisions' are back");
    let times = Timings { shown_at: Some(from_millis(5)), ..Timings::default() };
    let late = crate::contract::ReplyOutcome { timings: times, ..outcome(&sent, Effect::Confirmed) };
    ledger.apply_outcomes(std::slice::from_ref(&late)).await.unwrap();
    ledger.apply_outcomes(&[late]).await.unwrap();
    assert_eq!((state(ledger, &newer).await, quota(ledger).await), (State::Ended(Effect::Confirmed), 2));
    let story = ledger.story(sent.turn).await.unwrap();
    let told: Vec<Timings> = story.iter().filter_map(|line| line.times).collect();
    assert!(!told.is_empty() && told.iter().all(|one| *one == times), "{told:?}");
}
