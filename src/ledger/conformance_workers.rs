//! What every ledger must do about workers, and about how the replies stand.

use std::collections::BTreeMap;

use super::*;

fn word(instance: u128, name: &str, turns: u64) -> WorkerWord {
    let lag = TopicLag { partitions: 48, records: 7, seconds: 1.5 };
    WorkerWord {
        instance: Uuid::from_u128(instance),
        name: name.to_owned(),
        host: "office".to_owned(),
        version: "0.3.0".to_owned(),
        started_at: from_millis(900_000),
        interval: Duration::from_secs(2),
        figures: WorkerFigures {
            turns,
            breakers: BTreeMap::from([("model".to_owned(), true)]),
            lag: BTreeMap::from([("autoreply.messages".to_owned(), lag)]),
            ..WorkerFigures::default()
        },
    }
}

pub(super) async fn a_worker_is_seen_falls_silent_and_is_forgotten(site: &dyn Site) {
    let ledgers = [site.open(10).await, site.open(10).await];
    let ledger = &*ledgers[0];
    assert!(ledger.workers().await.unwrap().is_empty());
    for (at, word) in [(0, word(2, "two", 1)), (1, word(1, "one", 1)), (0, word(2, "two", 5))] {
        ledgers[at].say(&word).await.unwrap();
    }
    let seen = ledger.workers().await.unwrap();
    let words: Vec<_> = seen.iter().map(|seen| seen.word.clone()).collect();
    assert_eq!(words, [word(1, "one", 1), word(2, "two", 5)], "by name, each with its last word");
    assert!(seen.iter().all(WorkerSeen::is_fresh));

    site.pass(Duration::from_secs(10)).await;
    ledger.say(&word(2, "two", 6)).await.unwrap();
    let seen = ledger.workers().await.unwrap();
    assert_eq!(seen.iter().map(WorkerSeen::is_fresh).collect::<Vec<_>>(), [false, true]);
    assert!(seen[0].silent_for >= Duration::from_secs(10), "{:?}", seen[0]);

    let retention = Retention { rows: HOUR * 1000, text: HOUR * 1000 };
    ledger.prune(retention).await.unwrap();
    assert_eq!(ledger.workers().await.unwrap().len(), 2, "told as silent for a day");
    site.pass(FORGOTTEN_AFTER).await;
    ledger.say(&word(2, "two", 7)).await.unwrap();
    ledger.prune(retention).await.unwrap();
    let left: Vec<_> = ledger.workers().await.unwrap().into_iter().map(|seen| seen.word.name).collect();
    assert_eq!(left, ["two"]);
    ledger.leave(Uuid::from_u128(2)).await.unwrap();
    ledger.leave(Uuid::from_u128(2)).await.unwrap();
    assert!(ledger.workers().await.unwrap().is_empty());
}

pub(super) async fn how_the_replies_stand_is_told_with_their_age(site: &dyn Site) {
    let ledger = &*site.open(10).await;
    let empty = ledger.standing().await.unwrap();
    assert_eq!((empty.phases.len(), empty.overdue, empty.attention, empty.unpublished), (0, 0, 0, 0));
    recorded(ledger, &turn("alice", 1, 1)).await;
    site.pass(Duration::from_secs(100)).await;
    recorded(ledger, &turn("bob", 1, 1)).await;
    issued(ledger, &turn("carol", 1, 1)).await;
    let stand = ledger.standing().await.unwrap();
    let told: Vec<_> = stand.phases.iter().map(|s| (s.phase, s.count, s.oldest.as_secs() >= 100)).collect();
    assert_eq!(told, [(Phase::Recorded, 2, true), (Phase::Issued, 1, false)]);
    assert_eq!((stand.unpublished, stand.quota_taken, stand.overdue), (1, 1, 0));

    let (left, ended) = (turn("dave", 1, 1), turn("erin", 1, 1));
    recorded(ledger, &left).await;
    recorded(ledger, &ended).await;
    tell(ledger, &left, Effect::NeedsAttention).await;
    tell(ledger, &ended, Effect::HumanReplied).await;
    assert_eq!(ledger.standing().await.unwrap().attention, 1);
    site.pass(HOUR + OVERDUE_AFTER + Duration::from_secs(1)).await;
    // Two that nobody worked on, and one that nobody answered.
    assert_eq!(ledger.standing().await.unwrap().overdue, 3);
    site.pass(Duration::from_secs(86_400)).await;
    assert_eq!(ledger.standing().await.unwrap().attention, 0, "only the last day counts");
}
