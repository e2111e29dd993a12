//! How the server finds the rows of the hot statements, on a ledger that has lived: by keys and by the indexes of what
//! is open, never by reading a table. `docs/ledger-plans.md` keeps the plans, and this holds it to what the server does.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use super::book::{Book, Page, Stamp};
use super::desks::OWNERS;
use super::leases::{MARK_PUBLISHED, RENEW, TAKE_COMMANDS, TAKE_OVER, TAKE_OVERDUE};
use super::retention::{OVER_AGE, TEXT_OVER_AGE};
use super::rows::{HOLD, Saga};
use super::testing::Database;
use super::write::statement;
use crate::contract::{Command, Effect, Mode, ReplySend};
use crate::saga::samples::turn;
use crate::saga::state::{Event, Phase, State};
use crate::saga::{Draft, LeaseToken};

/// A ledger of 20,000 replies, nearly all of which have ended.
const LIVED: &str = "
    insert into sagas (turn, revision, state, effect, lease_token, lease_owner, lease_until, deadline_at, takeovers,
                       drafts, quota_day, text_held, updated_at)
    select gen_random_uuid(), 1, state, case when state = 'ended' then 'confirmed' end, 1, 'w', n * 1000, n * 2000, 0,
           1, null, n % 3 = 0, n * 1000
    from (select n, case when n % 200 > 3 then 'ended'
                         else (array['recorded', 'quota_reserved', 'awaiting_approval', 'issued'])[1 + n % 200] end as state
          from generate_series(1, 20000) as n) as made;
    insert into turns (turn, journal, desktop, conversation, peer, body, recorded_at)
    select turn, gen_random_uuid(), 'desk', gen_random_uuid(), 'peer ' || (lease_until / 20000), repeat('x', 600),
           lease_until from sagas;
    insert into drafts (turn, version, revision, text, provider, ceiling, stored_at)
    select turn, 1, 1, repeat('x', 100), 'fake', 'auto', updated_at from sagas;
    insert into events (id, turn, revision, at, who, event, state_to, detail)
    select gen_random_uuid(), turn, 1, updated_at, 'w', 'recorded', 'recorded', ''
    from sagas, generate_series(1, 6);
    insert into outbox (event, turn, revision, kind, body, held_until, published_at)
    select gen_random_uuid(), turn, 1, 'send', '{}', updated_at, case when state = 'ended' then updated_at end
    from sagas;
    insert into quota (turn, revision, day, state) select turn, 1, updated_at / 86400000, 'used' from sagas;
    insert into quota_days (day, taken) select n, 100 from generate_series(1, 400) as n;
    insert into owners (application, network, account, desktop, journal, instance, seat, token, since, until,
                        former_until)
    select 'hexchat', 'irc', 'account ' || n, 'desk', gen_random_uuid(), gen_random_uuid(), '', 1, 1, n, n
    from generate_series(1, 5000) as n;
    insert into orphans (turn, revision, effect, body, at)
    select gen_random_uuid(), 1, 'refused', '{}', n from generate_series(1, 1000) as n;
    analyze;";

fn saga() -> Saga {
    let of = turn("alice", 1, 1);
    Saga {
        turn: of.turn,
        revision: of.revision,
        state: State::Open(Phase::QuotaReserved),
        lease: LeaseToken(1),
        lease_owner: "w".to_owned(),
        lease_until: 0,
        deadline_at: 0,
        takeovers: 0,
        drafts: 0,
        quota_day: Some(0),
        updated_at: 0,
    }
}

/// The text of the statement that writes such a page.
fn writing(page: impl FnOnce(&mut Page)) -> String {
    let mut book = Book::new(0, Some(super::book::Today { taken: 0, limit: 9 }));
    book.item(|blank| {
        page(blank);
        Ok(())
    })
    .unwrap();
    let (now, writes) = book.close();
    statement("", writes, now).sql().as_str().to_owned()
}

fn recording() -> String {
    writing(|page| {
        let mut saga = Saga { state: State::START, quota_day: None, ..saga() };
        page.take_quota(&mut saga);
        page.advance(Stamp::new("w"), &mut saga, Event::QuotaReserved, "");
        page.writes.new.push(saga);
    })
}

fn issuing() -> String {
    writing(|page| {
        let (mut saga, of) = (saga(), turn("alice", 1, 1));
        let draft = Draft { text: String::new(), provider: String::new(), ceiling: Mode::Auto };
        page.advance(Stamp::new("w"), &mut saga, Event::DraftStored, "");
        page.store_draft(&mut saga, &draft);
        page.advance(Stamp::new("w"), &mut saga, Event::Issued, "");
        let send = ReplySend {
            turn: of.turn,
            revision: of.revision,
            journal: of.journal,
            desktop: of.desktop,
            conversation: of.conversation.id,
            text: String::new(),
            authority: crate::contract::Authority::Auto,
            issued_at: crate::clock::from_millis(0),
            owner_token: None,
        };
        page.write_command(uuid::Uuid::nil(), &Command::Send(send), 0).unwrap();
        page.writes.changed.push(saga);
    })
}

fn ending() -> String {
    writing(|page| {
        let mut saga = Saga { state: State::Open(Phase::Issued), ..saga() };
        page.advance(Stamp::new("desk"), &mut saga, Event::Outcome(Effect::Refused), "");
        page.writes.changed.push(saga);
    })
}

/// Each hot statement, with the indexes that it must use.
fn hot() -> Vec<(&'static str, String, &'static [&'static str])> {
    vec![
        ("every group: lock and read its replies", HOLD.to_owned(), &["sagas_pkey", "orphans_pkey"]),
        ("record: who answers for the accounts", OWNERS.to_owned(), &["owners_pkey"]),
        ("record: write", recording(), &["quota_days_pkey"]),
        ("draft and issue: write", issuing(), &["sagas_pkey"]),
        ("outcome: write", ending(), &["sagas_pkey", "outbox_turn", "drafts_pkey", "quota_pkey"]),
        ("mark as published", MARK_PUBLISHED.to_owned(), &["outbox_pkey", "sagas_pkey"]),
        ("renew leases", RENEW.to_owned(), &["sagas_pkey"]),
        ("take over", TAKE_OVER.to_owned(), &["sagas_lease", "sagas_pkey", "turns_pkey", "drafts_pkey"]),
        ("take what is overdue", TAKE_OVERDUE.to_owned(), &["sagas_deadline", "sagas_pkey", "turns_pkey"]),
        ("take commands", TAKE_COMMANDS.to_owned(), &["outbox_pending", "outbox_pkey"]),
        ("prune rows", OVER_AGE.to_owned(), &["sagas_ended", "sagas_pkey"]),
        ("prune texts", TEXT_OVER_AGE.to_owned(), &["sagas_ended", "sagas_pkey"]),
    ]
}

/// The plan that a worker's connection keeps for this statement.
async fn plan(connection: &mut PgConnection, statement: &str) -> String {
    let parameters = (1..100).take_while(|number| statement.contains(&format!("${number}"))).count();
    let nulls = vec!["null"; parameters].join(", ");
    connection.execute(AssertSqlSafe(format!("prepare hot as {statement}"))).await.unwrap();
    let explain = AssertSqlSafe(format!("explain (costs off) execute hot ({nulls})"));
    let rows = connection.fetch_all(explain).await.unwrap();
    connection.execute("deallocate hot").await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

/// How the rows are found, without the rest of the plan: that may change with the server's version.
fn scans(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("-> ").trim());
    let mut scans: Vec<String> =
        lines.filter(|line| line.contains("Scan") && line.contains(" on ")).map(str::to_owned).collect();
    scans.sort();
    scans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hot_statements_find_their_rows_by_keys_and_the_document_says_how() {
    let Some(database) = Database::new("the_hot_statements_find_their_rows_by_keys").await else { return };
    // As in a real database, where the clock is not turned.
    database
        .pool
        .execute(
            "drop table test_clock; create or replace function ledger_now() returns bigint language sql
        volatile as $$ select floor(extract(epoch from clock_timestamp()) * 1000)::bigint $$",
        )
        .await
        .unwrap();
    database.pool.execute(LIVED).await.unwrap();
    let ledger = database.open(10).await;
    let mut connection = ledger.pool.acquire().await.unwrap();
    let mut document = String::from(
        "# How the ledger's hot statements find their rows\n\nPlans of PostgreSQL 15 on 20,000 replies, as a worker's \
         connection keeps them (`src/ledger/postgres/plans.rs` makes this\nfile and checks that the server still reads \
         these indexes and no whole table). Sets of rows come in as arrays (`unnest`).\n",
    );
    let mut plans = Vec::new();
    for (name, statement, indexes) in hot() {
        let plan = plan(&mut connection, &statement).await;
        for table in ["sagas", "turns", "drafts", "events", "outbox", "quota", "quota_days", "orphans", "owners"] {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{name} reads all of {table}:\n{plan}");
        }
        assert!(!plan.contains("Materialize") && !plan.contains("Memoize"), "{name} goes over rows again:\n{plan}");
        for index in indexes {
            assert!(
                plan.contains(&format!("using {index} ")) || plan.contains(&format!("on {index}\n")),
                "{name} does not use {index}:\n{plan}"
            );
        }
        writeln!(document, "\n## {name}\n\n```\n{plan}\n```").unwrap();
        plans.push((name, scans(&plan)));
    }
    let kept =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger-plans.md")).unwrap_or_default();
    for (name, scans_now) in plans {
        let section = kept.split("\n## ").find(|section| section.starts_with(name)).unwrap_or_default();
        assert_eq!(scans(section), scans_now, "docs/ledger-plans.md is to be:\n{document}");
    }
}
