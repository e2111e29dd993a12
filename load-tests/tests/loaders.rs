//! The checker's loaders against what really is there: a ledger's own tables, a journal's file, topics of a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use autoreply::clock::SystemClock;
use autoreply::contract::codec::{Codec, Envelope, Source};
use autoreply::contract::wire::{WireRecord, topic};
use autoreply::contract::{
    Authority, Command, Conversation, ConversationKind, DesktopId, Effect, JournalId, ReplyOutcome, ReplySend,
    Revision, Timings, TurnId,
};
use autoreply::journal::{self, Journal};
use autoreply::ledger::SqliteLedger;
use autoreply::saga::Ledger as _;
use autoreply::settings::Layers;
use autoreply::testing::{Server, address};
use autoreply_load_tests::checker::load::{Places, load};
use autoreply_load_tests::checker::{Allowed, Judgement, judge};
use autoreply_load_tests::facts::{APPS_DIRECTORY, AppLine, PLAN_FILE, Planned, Side, append, token};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

const DESK: &str = "desk-1";
const PEER: &str = "alice";

/// What a run with one answered message leaves in its directory.
fn run_directory(directory: &Path) {
    std::fs::create_dir(directory.join(APPS_DIRECTORY)).unwrap();
    let mut plan = std::fs::File::create(directory.join(PLAN_FILE)).unwrap();
    let planned = Planned { number: 0, token: token(0), desktop: DESK.into(), peer: PEER.into(), at_ms: 5 };
    append(&mut plan, &planned).unwrap();
    let mut app = std::fs::File::create(directory.join(APPS_DIRECTORY).join(format!("{DESK}.jsonl"))).unwrap();
    for (side, text) in [(Side::Peer, format!("news of {}?", token(0))), (Side::Own, format!("Noted: {}", token(0)))] {
        append(&mut app, &AppLine { at_ms: 6, peer: PEER.into(), side, text }).unwrap();
    }
}

fn turn() -> (Conversation, JournalId, TurnId) {
    let conversation = Conversation::new("hexchat", "irc", "me", PEER, ConversationKind::Direct);
    let journal = JournalId::draw();
    (conversation.clone(), journal, TurnId::derive(journal, conversation.id, 1))
}

/// The rows that the ledger holds of a turn that was confirmed, in the ledger's own tables.
async fn write_ledger(path: &Path, turn: TurnId, conversation: &Conversation) {
    SqliteLedger::open(path, 10, Arc::new(SystemClock)).await.unwrap().close().await;
    let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let body = serde_json::json!({ "messages": [{ "text": format!("news of {}?", token(0)) }] }).to_string();
    sqlx::query(
        "insert into sagas (turn, revision, state, effect, journal, desktop, conversation, peer, body, lease_token, \
         lease_owner, lease_until, deadline_at, recorded_at, updated_at) \
         values (?, 1, 'ended', 'confirmed', 'j', ?, ?, ?, ?, 1, 'w', 0, 0, 0, 0)",
    )
    .bind(turn.to_string())
    .bind(DESK)
    .bind(conversation.id.to_string())
    .bind(PEER)
    .bind(body)
    .execute(&mut db)
    .await
    .unwrap();
    let story =
        [("recorded", "recorded", ""), ("issued", "issued", ""), ("outcome", "ended(confirmed)", "confirmed: ok")];
    for (number, (event, state_to, detail)) in story.into_iter().enumerate() {
        sqlx::query(
            "insert into events (id, turn, revision, at, who, event, state_to, detail) values (?, ?, 1, 0, 'w', ?, ?, ?)",
        )
        .bind(number.to_string())
        .bind(turn.to_string())
        .bind(event)
        .bind(state_to)
        .bind(detail)
        .execute(&mut db)
        .await
        .unwrap();
    }
    let rest = [
        "insert into drafts (turn, version, revision, text, provider, ceiling, stored_at) values (?1, 1, 1, ?2, 'p', 'auto', 0)",
        "insert into outbox (event, turn, revision, kind, body, held_until, published_at) values ('1', ?1, 1, 'send', ?2, 0, 7)",
        "insert into quota (turn, revision, day, state) values (?1, 1, 3, 'used')",
        "insert into quota_days (day, taken) values (3, 1)",
    ];
    for statement in rest {
        let query = sqlx::query(statement);
        let query = if statement.contains("?1") { query.bind(turn.to_string()) } else { query };
        let query = if statement.contains("?2") { query.bind(format!("Noted: {}", token(0))) } else { query };
        query.execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_a_journal_and_a_run_are_read_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    run_directory(directory.path());
    let (ledger, journal) = (directory.path().join("ledger.sqlite"), directory.path().join("desk-1.db"));
    let (conversation, _, turn) = turn();
    write_ledger(&ledger, turn, &conversation).await;
    let desktop = DesktopId::try_from(DESK.to_owned()).unwrap();
    let settings: journal::Settings = Layers::load(None, []).unwrap().section("journal").unwrap();
    Journal::open(&journal, desktop, settings.turns()).await.unwrap().close().await;
    let places = Places {
        run: directory.path().to_owned(),
        ledger: ledger.display().to_string(),
        journals: vec![journal],
        ..Places::default()
    };
    let facts = load(&places).await.unwrap();
    let verdict = judge(&facts, &Allowed::default());
    assert!(verdict.clean, "{verdict}");
    assert_eq!((verdict.counts.replies, verdict.counts.answered, verdict.counts.turns), (1, 1, 1));
    assert_eq!(facts.journals[0].desktop, DESK);

    // The reader is no sieve that lets everything through.
    let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&ledger)).await.unwrap();
    sqlx::query("update quota_days set taken = 2").execute(&mut db).await.unwrap();
    sqlx::query("update outbox set published_at = null").execute(&mut db).await.unwrap();
    let verdict = judge(&load(&places).await.unwrap(), &Allowed::default());
    assert_eq!(verdict.faulty(), [Judgement::Quota, Judgement::Open]);
}

#[tokio::test]
async fn the_topics_of_a_real_kafka_are_read_from_beginning_to_end() {
    let test = "the_topics_of_a_real_kafka_are_read_from_beginning_to_end";
    let Some(brokers) = address(Server::Kafka, test) else { return };
    let prefix = format!("check-{}", uuid::Uuid::new_v4().simple());
    let names = ["messages", "commands", "outcomes", "controls", "dead-letters"].map(|name| format!("{prefix}.{name}"));
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topics: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1))).collect();
    admin.create_topics(&topics, &AdminOptions::new()).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    run_directory(directory.path());
    let ledger = directory.path().join("ledger.sqlite");
    let (conversation, journal, turn) = turn();
    write_ledger(&ledger, turn, &conversation).await;
    let places = Places {
        run: directory.path().to_owned(),
        ledger: ledger.display().to_string(),
        brokers: Some(brokers.clone()),
        topic_prefix: prefix.clone(),
        ..Places::default()
    };
    let desktop = DesktopId::try_from(DESK.to_owned()).unwrap();
    let envelope =
        Envelope { source: Source::Worker("w".into()), time: jiff::Timestamp::UNIX_EPOCH, traceparent: None };
    let send = |text: String| {
        let command = Command::Send(ReplySend {
            turn,
            revision: Revision::FIRST,
            journal,
            desktop: desktop.clone(),
            conversation: conversation.id,
            text,
            authority: Authority::Auto,
            issued_at: jiff::Timestamp::UNIX_EPOCH,
            owner_token: None,
        });
        Codec::default().encode_command(&command, &envelope).unwrap()
    };
    let outcome = ReplyOutcome {
        turn,
        revision: Revision::FIRST,
        desktop: desktop.clone(),
        conversation: conversation.id,
        effect: Effect::Confirmed,
        reason: "shown".into(),
        evidence: None,
        timings: Timings::default(),
    };
    let outcome = Codec::default().encode_outcome(&outcome, &envelope).unwrap();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    publish(&producer, &prefix, &send(format!("Noted: {}", token(0)))).await;
    publish(&producer, &prefix, &outcome).await;
    let verdict = judge(&load(&places).await.unwrap(), &Allowed::default());
    assert!(verdict.clean, "{verdict}");
    assert_eq!(verdict.counts.records, 2);

    publish(&producer, &prefix, &send("something else".into())).await;
    publish(&producer, &prefix, &WireRecord { topic: topic::DEAD_LETTERS.into(), ..outcome }).await;
    let verdict = judge(&load(&places).await.unwrap(), &Allowed::default());
    assert_eq!(verdict.faulty(), [Judgement::DeadLetters, Judgement::Records]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    admin.delete_topics(&names, &AdminOptions::new()).await.unwrap();
}

async fn publish(producer: &FutureProducer, prefix: &str, record: &WireRecord) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let name = record.topic.replacen("autoreply", prefix, 1);
    let sent = FutureRecord::to(&name).key(&record.key).payload(&record.payload).headers(headers);
    producer.send(sent, Duration::from_secs(30)).await.unwrap();
}
