//! What only a server can do to a ledger: end its connections, keep it waiting, hold a schema of another release.

use std::time::Duration;

use sqlx::Executor;

use super::testing::Database;
use super::{PostgresLedger, group, record};
use crate::contract::{Effect, MessagesDetected, Mode};
use crate::ledger::Settings;
use crate::saga::samples::{outcome, turn};
use crate::saga::state::{Phase, State};
use crate::saga::*;

const HOUR: Duration = Duration::from_secs(3600);

fn terms() -> Terms {
    let lease = LeaseRequest { worker: "w".to_owned(), hold: Duration::from_secs(45) };
    Terms { lease, finish_within: HOUR, account_hold: HOUR, reserve_quota: true }
}

async fn recorded(ledger: &PostgresLedger, of: &MessagesDetected) -> LeaseToken {
    let receipt = ledger.record_turns(std::slice::from_ref(of), &terms()).await.unwrap().remove(0);
    let Ok(Receipt::New(taken)) = receipt else { panic!("{receipt:?}") };
    taken.lease
}

fn draft(of: &MessagesDetected, lease: LeaseToken) -> Transition {
    let draft = Draft { text: "a-secret-answer".to_owned(), provider: "fake".to_owned(), ceiling: Mode::Auto };
    let changes = vec![Change::StoreDraft(draft), Change::RequestApproval { lifetime: HOUR }];
    Transition {
        id: uuid::Uuid::now_v7(),
        turn: of.turn,
        revision: of.revision,
        lease,
        who: "w".to_owned(),
        traceparent: None,
        changes,
    }
}

/// Waits until a connection of the ledger waits for a lock.
async fn until_waiting(database: &Database) {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                   and application_name = 'autoreply' and wait_event_type = 'Lock'";
    for _ in 0..500 {
        if database.number(waiting).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_in_the_middle_is_replaced_and_nothing_is_made_twice() {
    let Some(database) = Database::new("a_connection_that_ends_in_the_middle").await else { return };
    let ledger = database.open(10).await;
    let of = turn("alice", 1, 1);
    let lease = recorded(&ledger, &of).await;
    let mut blocker = database.pool.begin().await.unwrap();
    blocker.execute("select from sagas for update").await.unwrap();
    let wanted = [draft(&of, lease)];
    let asking = ledger.transition(&wanted);
    let ending = async {
        until_waiting(&database).await;
        assert!(database.end_connections().await > 0);
        blocker.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(asking, ending);
    assert!(matches!(done.unwrap()[0], Ok(Transitioned::Done { .. })));
    database.end_connections().await;
    let again = ledger.transition(&wanted).await.unwrap();
    assert!(matches!(again[0], Ok(Transitioned::Done { state: State::Open(Phase::AwaitingApproval), .. })));
    let events: Vec<String> = ledger.story(of.turn).await.unwrap().into_iter().map(|line| line.event).collect();
    assert_eq!(events, ["recorded", "quota_reserved", "draft_stored", "approval_requested"]);
    assert_eq!(database.number("select count(*) from drafts").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_finds_its_way_back_after_its_connections_were_ended() {
    let Some(database) = Database::new("every_call_finds_its_way_back").await else { return };
    let ledger = database.open(10).await;
    for round in 0..3 {
        let of = turn("alice", round, 1);
        let lease = recorded(&ledger, &of).await;
        database.end_connections().await;
        assert_eq!(ledger.renew(&[(of.turn, lease)], HOUR).await.unwrap(), [true]);
        database.end_connections().await;
        assert!(ledger.take_commands(HOUR, 10).await.unwrap().is_empty());
        database.end_connections().await;
        assert!(ledger.show(of.turn).await.unwrap().is_some());
        database.end_connections().await;
        let told = outcome(&of, crate::contract::Effect::HumanReplied);
        assert!(matches!(ledger.apply_outcomes(&[told]).await.unwrap()[0], Ok(Applied::Ended { .. })));
        database.end_connections().await;
        ledger.prune(Retention { rows: HOUR, text: HOUR }).await.unwrap();
        database.end_connections().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_commit_was_not_heard_of_is_still_the_workers_own() {
    let Some(database) = Database::new("a_record_whose_commit_was_not_heard_of").await else { return };
    let ledger = database.open(2).await;
    let batch = [turn("alice", 1, 1), turn("bob", 1, 1), turn("carol", 1, 1)];
    let terms = terms();
    let (work, items) = record::work(&ledger, &batch, &terms);
    let first = group::transaction(&ledger, &work, &items, false).await.unwrap();
    let again = group::transaction(&ledger, &work, &items, true).await.unwrap();
    assert_eq!(again, first);
    assert!(matches!(first[2], Ok(Receipt::New(Taken { quota: Kept::Exhausted, .. }))));
    let others = ledger.record_turns(&batch, &terms).await.unwrap();
    assert_eq!(others, vec![Ok(Receipt::Known); 3], "another call is not told that it holds them");
    assert_eq!(ledger.counts().await.unwrap().quota_taken, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_an_outage_and_not_a_wait() {
    let Some(database) = Database::new("a_lock_that_is_held_too_long").await else { return };
    let of = turn("alice", 1, 1);
    let lease = recorded(&database.open(10).await, &of).await;
    for (statement, lock) in [(50, 10_000), (10_000, 50)] {
        let settings = Settings { statement_timeout_ms: statement, lock_timeout_ms: lock, ..database.settings.clone() };
        let ledger = PostgresLedger::open(&settings, None).await.unwrap();
        let mut blocker = database.pool.begin().await.unwrap();
        blocker.execute("select from sagas for update").await.unwrap();
        let refused = ledger.transition(&[draft(&of, lease)]).await;
        assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
        blocker.rollback().await.unwrap();
        assert_eq!(ledger.renew(&[(of.turn, lease)], HOUR).await.unwrap(), [true]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_beginning_failed_is_not_used_again() {
    let Some(database) = Database::new("a_connection_on_which_beginning_failed").await else { return };
    let of = turn("alice", 1, 1);
    let lease = recorded(&database.open(10).await, &of).await;
    // One connection: whoever comes next would get the broken one.
    let settings = Settings { pool_max: 1, lock_timeout_ms: 50, ..database.settings.clone() };
    let ledger = PostgresLedger::open(&settings, None).await.unwrap();
    let mut recording = database.pool.begin().await.unwrap();
    recording.execute("select pg_advisory_xact_lock_shared(706133, 1)").await.unwrap();
    // An outcome without its turn waits for those who record.
    let refused = ledger.apply_outcomes(&[outcome(&turn("bob", 1, 1), Effect::Failed)]).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    recording.rollback().await.unwrap();
    assert_eq!(ledger.renew(&[(of.turn, lease)], HOUR).await.unwrap(), [true]);
    assert!(ledger.transition(&[draft(&of, lease)]).await.unwrap()[0].is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nul_is_refused_for_its_own_row() {
    let Some(database) = Database::new("a_nul_is_refused_for_its_own_row").await else { return };
    let ledger = database.open(10).await;
    let (mut named, mut said, fine) = (turn("alice", 1, 1), turn("bob", 1, 1), turn("carol", 1, 1));
    named.conversation.peer = "al\0ice".to_owned();
    said.messages[0].text = "be\0fore".to_owned();
    let receipts = ledger.record_turns(&[named, said.clone(), fine.clone()], &terms()).await.unwrap();
    assert!(receipts[0].is_err() && receipts[1].is_ok() && receipts[2].is_ok(), "{receipts:?}");
    let shown = ledger.show(said.turn).await.unwrap().unwrap().detected.unwrap();
    assert_eq!(shown.messages[0].text, "be\0fore", "inside a record it is kept as it came");
    let mut wanted = [draft(&said, LeaseToken(1)), draft(&fine, LeaseToken(1))];
    if let Change::StoreDraft(draft) = &mut wanted[0].changes[0] {
        draft.text.push('\0');
    }
    let done = ledger.transition(&wanted).await.unwrap();
    assert!(done[0].is_err() && matches!(done[1], Ok(Transitioned::Done { .. })), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_only_the_database_refuses_is_cut_out_of_its_group() {
    let Some(database) = Database::new("a_row_that_only_the_database_refuses").await else { return };
    let ledger = database.open(10).await;
    database.pool.execute("alter table turns add check (peer <> 'mallory')").await.unwrap();
    let batch: Vec<_> = ["alice", "bob", "mallory", "carol", "dave"].map(|peer| turn(peer, 1, 1)).to_vec();
    let receipts = ledger.record_turns(&batch, &terms()).await.unwrap();
    let bad: Vec<usize> = (0..5).filter(|index| receipts[*index].is_err()).collect();
    assert_eq!(bad, [2]);
    assert!(receipts[2].as_ref().unwrap_err().0.contains("23514"));
    assert_eq!(ledger.counts().await.unwrap().quota_taken, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_once_by_many_and_a_worker_says_what_it_lacks() {
    let Some(database) = Database::bare("a_schema_is_made_once_by_many").await else { return };
    let refused = PostgresLedger::open(&database.settings, None).await.err().unwrap();
    assert!(refused.to_string().contains("autoreply migrate"), "{refused}");
    let all = (0..4).map(|_| PostgresLedger::migrate(&database.settings, None));
    let made: Vec<_> = futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|migrated| !migrated.made.is_empty()).count(), 1, "{made:?}");
    let ledger = database.open(10).await;
    let of = turn("alice", 1, 1);
    let lease = recorded(&ledger, &of).await;
    assert!(matches!(ledger.transition(&[draft(&of, lease)]).await.unwrap()[0], Ok(Transitioned::Done { .. })));

    // A newer release has added a table and a column; this one goes on beside it.
    database
        .pool
        .execute(
            "insert into ledger_schema (version, name, works_from) values (90, 'more', 1);
             alter table sagas add column moon text; alter table turns add column moon text default 'new';
             alter table events add column moon bigint; create table moons (moon text)",
        )
        .await
        .unwrap();
    let beside = database.open(10).await;
    let of = turn("bob", 1, 1);
    let lease = recorded(&beside, &of).await;
    assert!(matches!(beside.transition(&[draft(&of, lease)]).await.unwrap()[0], Ok(Transitioned::Done { .. })));
    assert_eq!(PostgresLedger::migrate(&database.settings, None).await.unwrap().version, 90);
    // One that was there before goes on as well, with the statements that it had prepared.
    for number in 2..6 {
        let of = turn("alice", number, 1);
        let lease = recorded(&ledger, &of).await;
        assert!(matches!(ledger.transition(&[draft(&of, lease)]).await.unwrap()[0], Ok(Transitioned::Done { .. })));
        assert_eq!(ledger.renew(&[(of.turn, lease)], HOUR).await.unwrap(), [false], "it waits for a person");
    }

    database
        .pool
        .execute("insert into ledger_schema (version, name, works_from) values (91, 'less', 91)")
        .await
        .unwrap();
    let refused = PostgresLedger::open(&database.settings, None).await.err().unwrap();
    assert!(refused.to_string().contains("newer release"), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage() {
    let Some(database) = Database::bare("a_server_that_is_not_there").await else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("postgres://autoreply@{address}/nothing");
    let settings = Settings { url, connect_timeout_ms: 200, ..database.settings.clone() };
    let refused = PostgresLedger::open(&settings, None).await.err().unwrap();
    assert!(matches!(refused, LedgerError::Unavailable(_)), "{refused}");
}
