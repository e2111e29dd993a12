//! A status that is well, and one that hurts, for tests.

use std::collections::BTreeMap;

use super::view::*;
use crate::clock::from_millis;
use crate::control::{Health, Part};

pub(crate) fn worker(name: &str, turns: u64) -> WorkerView {
    WorkerView {
        instance: format!("00000000-0000-0000-0000-{:0>12}", turns),
        name: name.to_owned(),
        host: name.rsplit_once('-').map_or(name, |(host, _)| host).to_owned(),
        version: "0.3.0".to_owned(),
        state: "fresh",
        started_at: from_millis(1_000_000),
        last_seen: from_millis(9_000_000),
        silent_seconds: 1.2,
        in_flight: 3,
        permits: 4096,
        partitions: 51,
        turns,
        replies: BTreeMap::from([("confirmed".to_owned(), turns / 2), ("superseded".to_owned(), 3)]),
        limits_local: false,
    }
}

fn desk(name: &str, state: &str, silent_seconds: f64) -> DeskLine {
    DeskLine {
        desktop: name.to_owned(),
        host: format!("{name}.office"),
        version: "0.3.0".to_owned(),
        state: state.to_owned(),
        silent_seconds: Some(silent_seconds),
        accounts: vec!["hexchat irc/me".to_owned()],
    }
}

fn lag(topic: &str, records: u64, seconds: Option<f64>) -> LagView {
    LagView { topic: topic.to_owned(), partitions: 48, records, seconds }
}

fn member(id: &str) -> MemberView {
    MemberView { id: id.to_owned(), host: "10.0.0.7".to_owned(), partitions: Some(51) }
}

/// Two workers, two desks, nothing that hurts.
pub(crate) fn well() -> Status {
    Status {
        well: true,
        hurts: Vec::new(),
        at: from_millis(9_001_000),
        asked: Asked {
            ledger: Some("postgres://autoreply@db/autoreply".to_owned()),
            brokers: Some("kafka-1:9092".to_owned()),
            socket: Some("/run/user/1000/autoreply.sock".to_owned()),
        },
        workers: vec![worker("north-7", 4200), worker("south-9", 3900)],
        group: Some(GroupView {
            name: "autoreply-worker".to_owned(),
            state: "Stable".to_owned(),
            members: vec![member("a"), member("b")],
        }),
        lag: vec![lag("autoreply.messages", 4, Some(0.4)), lag("autoreply.outcomes", 0, None)],
        replies: Some(RepliesView {
            states: vec![
                StateView { state: "awaiting_approval", count: 2, oldest_seconds: 790.0 },
                StateView { state: "issued", count: 11, oldest_seconds: 6.0 },
            ],
            overdue: 0,
            unpublished: 1,
        }),
        breakers: vec![
            BreakerView { provider: "model".to_owned(), open_at: Vec::new(), workers: 2 },
            BreakerView { provider: "canned".to_owned(), open_at: Vec::new(), workers: 2 },
        ],
        desks: vec![desk("ann", "fresh", 4.0), desk("ben", "fresh", 9.0)],
        quota: Some(QuotaView { taken: 120, limit: 1000 }),
        person: PersonView { drafts: Some(2), needs_attention: Some(0), dead_letters: Some(0) },
        process: Some(Health {
            role: "worker".to_owned(),
            parts: vec![Part { name: "ledger".to_owned(), ready: true, detail: "1 commands wait".to_owned() }],
        }),
    }
}

/// The same on a bad day.
pub(crate) fn hurting() -> Status {
    let mut status = well();
    (status.workers[1].state, status.workers[1].silent_seconds) = ("silent", 95.0);
    status.breakers[0].open_at = vec!["north-7".to_owned()];
    status.lag[0] = lag("autoreply.messages", 1800, Some(95.0));
    status.desks[1] = desk("ben", "silent", 400.0);
    status.desks.push(desk("cleo", "cloned", 2.0));
    status.person = PersonView { drafts: Some(2), needs_attention: Some(1), dead_letters: Some(7) };
    if let Some(replies) = &mut status.replies {
        replies.overdue = 1;
    }
    status.hurts = super::verdict::judge(&status);
    status.well = false;
    status
}
