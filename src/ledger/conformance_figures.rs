//! What every ledger must tell those who count: how each reply came to its end, and what stands for how long.

use super::*;

fn ended(transitioned: Transitioned) -> Option<End> {
    match transitioned {
        Transitioned::Done { end, .. } => end,
        other => panic!("{other:?}"),
    }
}

async fn told(ledger: &dyn Ledger, of: &MessagesDetected, effect: Effect) -> End {
    match tell(ledger, of, effect).await {
        Applied::Ended { end, .. } => end,
        other => panic!("{other:?}"),
    }
}

fn withdraw(of: &MessagesDetected) -> Change {
    let withdraw = ReplyWithdraw {
        turn: of.turn,
        revision: of.revision,
        desktop: of.desktop.clone(),
        conversation: of.conversation.id,
        reason: "silence".to_owned(),
    };
    Change::Withdraw { withdraw, answer_within: HOUR }
}

fn abandon(effect: Effect) -> Change {
    Change::Abandon { effect, reason: "a test".to_owned() }
}

pub(super) async fn each_end_is_told_once_and_whether_it_was_in_time(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let turns: Vec<_> = (1..=6).map(|number| turn("alice", number, 1)).collect();
    let [shown, asked_back, slow, waiting, late, silent] = turns.as_slice() else { panic!() };
    let abandoned = turn("alice", 7, 1);
    let token = recorded(ledger, &abandoned).await;
    assert_eq!(ended(go(ledger, &abandoned, token, Change::ReserveQuota).await), None, "no end");
    assert_eq!(ended(go(ledger, &abandoned, token, abandon(Effect::Capped)).await), Some(End::InTime));
    assert_eq!(told(ledger, &abandoned, Effect::Confirmed).await, End::Corrected);
    assert_eq!(tell(ledger, &abandoned, Effect::Confirmed).await, Applied::Repeated);

    for of in [shown, late] {
        issued(ledger, of).await;
    }
    let (asked, _) = issued(ledger, asked_back).await;
    let (unheard, _) = issued(ledger, silent).await;
    assert_eq!(told(ledger, shown, Effect::Confirmed).await, End::InTime);
    let token = drafted(ledger, waiting).await;
    assert_eq!(ended(go(ledger, waiting, token, Change::RequestApproval { lifetime: HOUR }).await), None);
    let slow_lease = recorded(ledger, slow).await;

    // Past the deadlines of everything: of what is issued, of what waits for a person, and of what is being answered.
    site.pass(HOUR * 2).await;
    assert_eq!(told(ledger, late, Effect::Confirmed).await, End::Late);
    assert_eq!(ended(go(ledger, slow, slow_lease, abandon(Effect::Failed)).await), Some(End::Late));
    let person = Decision {
        turn: waiting.turn,
        version: DraftVersion(1),
        by: "eve".to_owned(),
        approve: false,
        answer_within: HOUR,
    };
    assert_eq!(ledger.decide(&person).await.unwrap(), Decided::Rejected);
    let overdue = ledger.take_overdue(&lease("w"), 10).await.unwrap();
    let taken = |of: &MessagesDetected| overdue.iter().find(|saga| saga.detected.turn == of.turn).unwrap().lease;
    assert!(taken(asked_back) > asked && taken(silent) > unheard);
    for of in [asked_back, silent] {
        assert_eq!(ended(go(ledger, of, taken(of), withdraw(of)).await), None);
    }
    assert_eq!(told(ledger, asked_back, Effect::Superseded).await, End::Late, "though it has a new deadline");
    let hand_over = Change::HandOver { reason: "silence".to_owned() };
    assert_eq!(ended(go(ledger, silent, taken(silent), hand_over).await), Some(End::Late));
}

pub(super) async fn what_stands_in_a_state_has_an_age_and_may_be_overdue(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    assert_eq!(ledger.counts().await.unwrap(), Counts::default());
    let (first, second, done) = (turn("alice", 1, 1), turn("alice", 2, 1), turn("alice", 3, 1));
    recorded(ledger, &first).await;
    site.pass(Duration::from_secs(100)).await;
    recorded(ledger, &second).await;
    issued(ledger, &done).await;
    tell(ledger, &done, Effect::Confirmed).await;
    let waiting = turn("bob", 1, 1);
    issued(ledger, &waiting).await;
    site.pass(Duration::from_secs(20)).await;

    let counts = ledger.counts().await.unwrap();
    let age = |counts: &Counts, of: Phase| {
        let found = counts.oldest_in.iter().find(|(phase, _)| *phase == of);
        found.map(|(_, age)| age.as_secs())
    };
    let near = |age: Option<u64>, seconds: u64| age.is_some_and(|age| (seconds..seconds + 15).contains(&age));
    assert!(near(age(&counts, Phase::Recorded), 120), "the oldest of two: {counts:?}");
    assert!(near(age(&counts, Phase::Issued), 20), "since it stands there, not since it was recorded: {counts:?}");
    assert_eq!((age(&counts, Phase::Ended), counts.oldest_in.len()), (None, 2));
    assert_eq!(counts.overdue, 0);

    // The command's time is over, that of the turns which are being answered is not.
    site.pass(Duration::from_secs(200)).await;
    assert_eq!(ledger.counts().await.unwrap().overdue, 1);
    site.pass(HOUR).await;
    assert_eq!(ledger.counts().await.unwrap().overdue, 3);
}
