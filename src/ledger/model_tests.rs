//! Random orders of everything that may be asked, put to both ledgers: SQLite, which does one thing after the other, is
//! the model that PostgreSQL has to agree with.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::Executor;
use uuid::Uuid;

use super::SqliteLedger;
use super::postgres::testing::Database;
use crate::clock::{ManualClock, from_millis};
use crate::contract::{Authority, DraftVersion, Effect, MessagesDetected, Mode, ReplySend, ReplyWithdraw};
use crate::saga::samples::{outcome, turn};
use crate::saga::state::Phase;
use crate::saga::*;

const PEERS: [&str; 2] = ["alice", "bob"];
const HOUR: Duration = Duration::from_secs(3600);
const QUOTA: u64 = 4;

/// A turn by its place: whose it is, its number, its revision.
type Which = (usize, u64, u32);

#[derive(Debug, Clone)]
enum Op {
    Record {
        turns: Vec<(Which, Mode)>,
        reserve: bool,
    },
    /// Each with changes, a lease (as many tokens behind the newest as this), and whether the one before is asked again instead.
    Transition(Vec<(Which, Vec<u8>, u64, bool)>),
    Tell(Vec<(Which, Effect)>),
    Decide {
        which: Which,
        version: u32,
        approve: bool,
    },
    Renew(Vec<Which>),
    TakeOver,
    TakeOverdue,
    Publish {
        mark: bool,
    },
    Pass(u64),
    Forget(usize),
    Prune,
}

fn which() -> impl Strategy<Value = Which> {
    (0..PEERS.len(), 0..3u64, 1..4u32)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let mode = prop_oneof![4 => Just(Mode::Auto), 1 => Just(Mode::Off)];
    let changes = prop_oneof![
        2 => Just(vec![0]),
        4 => Just(vec![1, 3]),
        3 => Just(vec![1, 2]),
        1 => Just(vec![0, 1, 3]),
        1 => Just(vec![0, 1, 4]),
        3 => proptest::collection::vec(0..7u8, 1..3),
    ];
    let transition = (which(), changes, prop_oneof![5 => Just(0u64), 1 => Just(1)], proptest::bool::weighted(0.2));
    let effect = proptest::sample::select(vec![
        Effect::Confirmed,
        Effect::Unverifiable,
        Effect::Refused,
        Effect::Superseded,
        Effect::NeedsAttention,
    ]);
    let pass = proptest::sample::select(vec![20, 60, 600, 3_900, 27 * 3_600]);
    let op = prop_oneof![
        6 => (proptest::collection::vec((which(), mode), 1..5), any::<bool>())
            .prop_map(|(turns, reserve)| Op::Record { turns, reserve }),
        8 => proptest::collection::vec(transition, 1..5).prop_map(Op::Transition),
        3 => proptest::collection::vec((which(), effect), 1..4).prop_map(one_word_a_turn),
        2 => (which(), 1..4u32, any::<bool>())
            .prop_map(|(which, version, approve)| Op::Decide { which, version, approve }),
        1 => proptest::collection::vec(which(), 1..3).prop_map(Op::Renew),
        2 => Just(Op::TakeOver),
        2 => Just(Op::TakeOverdue),
        2 => any::<bool>().prop_map(|mark| Op::Publish { mark }),
        3 => pass.prop_map(Op::Pass),
        1 => (0..PEERS.len()).prop_map(Op::Forget),
        1 => Just(Op::Prune),
    ];
    proptest::collection::vec(op, 1..30)
}

/// Outcomes of one turn that come in one batch are at the same moment for one ledger and not for the other: a batch says
/// one thing about a turn, if it likes several times.
fn one_word_a_turn(mut told: Vec<(Which, Effect)>) -> Op {
    let before = told.clone();
    told.retain(|one| before.iter().all(|other| (other.0.0, other.0.1) != (one.0.0, one.0.1) || other == one));
    Op::Tell(told)
}

fn detected((peer, number, revision): Which) -> MessagesDetected {
    turn(PEERS[peer], number, revision)
}

fn change(kind: u8, of: &MessagesDetected) -> Change {
    match kind {
        0 => Change::ReserveQuota,
        1 => Change::StoreDraft(Draft { text: "answer".to_owned(), provider: "fake".to_owned(), ceiling: Mode::Auto }),
        2 => Change::RequestApproval { lifetime: HOUR * 2 },
        3 => Change::Issue {
            send: ReplySend {
                turn: of.turn,
                revision: of.revision,
                journal: of.journal,
                desktop: of.desktop.clone(),
                conversation: of.conversation.id,
                text: "answer".to_owned(),
                authority: Authority::Auto,
                issued_at: from_millis(0),
                owner_token: None,
            },
            answer_within: Duration::from_secs(180),
        },
        4 => Change::Abandon { effect: Effect::Failed, reason: "no".to_owned() },
        5 => Change::Withdraw {
            withdraw: ReplyWithdraw {
                turn: of.turn,
                revision: of.revision,
                desktop: of.desktop.clone(),
                conversation: of.conversation.id,
                reason: "silence".to_owned(),
            },
            answer_within: HOUR,
        },
        _ => Change::HandOver { reason: "silence".to_owned() },
    }
}

/// What both are asked in one case; ids and leases are the case's, so that both hear the same.
#[derive(Default)]
struct Case {
    last: Option<Transition>,
}

/// A lease that a caller would hold: the newest, or an older one.
async fn lease(ledger: &dyn Ledger, of: &MessagesDetected, behind: u64) -> LeaseToken {
    let story = ledger.story(of.turn).await.unwrap();
    let leases = story
        .iter()
        .filter(|line| line.event == "recorded" || line.event == "revision_raised" || line.event == "taken_over");
    LeaseToken((leases.count() as u64).saturating_sub(behind))
}

impl Case {
    async fn transitions(&mut self, ledger: &dyn Ledger, asked: &[(Which, Vec<u8>, u64, bool)]) -> Vec<Transition> {
        let mut wanted = Vec::new();
        for (which, kinds, behind, repeat) in asked {
            let of = detected(*which);
            let changes = kinds.iter().map(|kind| change(*kind, &of)).collect();
            let lease = lease(ledger, &of, *behind).await;
            let (id, who) = (Uuid::now_v7(), "w".to_owned());
            let new = Transition { id, turn: of.turn, revision: of.revision, lease, who, traceparent: None, changes };
            // Asked again as it was, as after a commit that was not heard of.
            let asked = self.last.take().filter(|_| *repeat).unwrap_or(new);
            self.last = Some(asked.clone());
            wanted.push(asked);
        }
        wanted
    }
}

/// The answer of one ledger as text, without the places in its outbox, which are its own.
async fn answer(ledger: &dyn Ledger, op: &Op, transitions: &[Transition]) -> String {
    let request = LeaseRequest { worker: "w".to_owned(), hold: Duration::from_secs(45) };
    match op {
        Op::Record { turns, reserve } => {
            let mut records: Vec<_> = turns.iter().map(|(which, _)| detected(*which)).collect();
            records.iter_mut().zip(turns).for_each(|(record, (_, mode))| record.mode = *mode);
            let terms = Terms { lease: request, finish_within: HOUR, account_hold: HOUR, reserve_quota: *reserve };
            format!("{:?}", ledger.record_turns(&records, &terms).await)
        }
        Op::Transition(_) => {
            let mut done = ledger.transition(transitions).await.unwrap();
            for one in &mut done {
                if let Ok(Transitioned::Done { entry: Some(entry), .. }) = one {
                    *entry = EntryId(0);
                }
            }
            format!("{done:?}")
        }
        Op::Tell(told) => {
            let outcomes: Vec<_> = told.iter().map(|(which, effect)| outcome(&detected(*which), *effect)).collect();
            let mut applied = ledger.apply_outcomes(&outcomes).await.unwrap();
            for one in &mut applied {
                if let Ok(Applied::Ended { exchange: Some(exchange), .. }) = one {
                    exchange.at = from_millis(0);
                }
            }
            format!("{applied:?}")
        }
        Op::Decide { which, version, approve } => {
            let (turn, version) = (detected(*which).turn, DraftVersion(*version));
            let decision = Decision { turn, version, by: "eve".to_owned(), approve: *approve, answer_within: HOUR };
            match ledger.decide(&decision).await.unwrap() {
                Decided::Issued(pending) => format!("issued {}", text(&pending)),
                other => format!("{other:?}"),
            }
        }
        Op::Renew(turns) => {
            let mut leases = Vec::new();
            for which in turns {
                let of = detected(*which);
                leases.push((of.turn, lease(ledger, &of, 0).await));
            }
            format!("{:?}", ledger.renew(&leases, request.hold).await)
        }
        Op::TakeOver => sorted(ledger.take_over(&request, 100).await.unwrap()),
        Op::TakeOverdue => sorted(ledger.take_overdue(&request, 100).await.unwrap()),
        Op::Publish { mark } => {
            let pending = ledger.take_commands(Duration::from_secs(45), 100).await.unwrap();
            if *mark {
                let entries: Vec<_> = pending.iter().map(|one| one.entry).collect();
                ledger.mark_published(&entries).await.unwrap();
            }
            let mut texts: Vec<String> = pending.iter().map(text).collect();
            texts.sort();
            format!("{texts:?}")
        }
        Op::Forget(peer) => format!("{:?}", ledger.forget(PEERS[*peer]).await),
        Op::Prune => {
            let retention = Retention { rows: HOUR * 100, text: HOUR * 40 };
            format!("{:?}", ledger.prune(retention).await)
        }
        Op::Pass(_) => String::new(),
    }
}

fn text(pending: &PendingCommand) -> String {
    match &pending.command {
        crate::contract::Command::Send(send) => {
            format!("send {} {} {} {:?}", send.turn, send.revision, send.text, send.authority)
        }
        other => format!("{other:?}"),
    }
}

fn sorted(mut sagas: Vec<OpenSaga>) -> String {
    sagas.sort_by_key(|saga| saga.detected.turn);
    format!("{sagas:?}")
}

/// Everything that can be seen of a ledger but its times.
async fn seen(ledger: &dyn Ledger) -> String {
    let mut out = String::new();
    for place in (0..PEERS.len()).flat_map(|peer| (0..3).map(move |number| (peer, number, 1))) {
        let turn = detected(place).turn;
        match ledger.show(turn).await.unwrap() {
            None => out.push_str(&format!("{turn}: nothing\n")),
            Some(Detail { summary, detected, story }) => {
                out.push_str(&format!("{turn}: {} {:?} {:?}\n", summary.revision, summary.state, summary.peer));
                out.push_str(&format!("  {:?} {}\n", summary.draft, detected.is_some()));
                for line in story {
                    let (from, to) = (line.from.unwrap_or_default(), line.to);
                    out.push_str(&format!(
                        "  {} {} {} {from}->{to} {}\n",
                        line.revision, line.who, line.event, line.detail
                    ));
                }
            }
        }
    }
    let counts = ledger.counts().await.unwrap();
    let mut open: Vec<String> = counts
        .by_state
        .iter()
        .filter(|(state, _)| state.phase() != Phase::Ended)
        .map(|(state, many)| format!("{state}: {many}"))
        .collect();
    open.sort();
    let mut standing: Vec<_> = counts.oldest_in.iter().map(|(phase, _)| *phase).collect();
    standing.sort();
    out += &format!("{standing:?} ");
    out + &format!("{open:?} {} {} {}", counts.oldest_open.is_some(), counts.unpublished, counts.quota_taken)
}

async fn compare(database: &Database, server: &dyn Ledger, ops: &[Op]) {
    database
        .pool
        .execute(
            "truncate sagas, turns, drafts, events, outbox, quota, quota_days, orphans;
             update test_clock set ahead = 0",
        )
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let now = database.number("select ledger_now()").await;
    let clock = Arc::new(ManualClock::new(from_millis(now)));
    let model = SqliteLedger::open(&directory.path().join("model"), QUOTA, clock.clone()).await.unwrap();
    let mut case = Case::default();
    for (place, op) in ops.iter().enumerate() {
        // The server's clock goes on by itself.
        clock.advance(Duration::from_millis(1));
        if let Op::Pass(seconds) = op {
            clock.advance(Duration::from_secs(*seconds));
            database.pass(Duration::from_secs(*seconds)).await;
        }
        let transitions = match op {
            Op::Transition(asked) => case.transitions(&model, asked).await,
            _ => Vec::new(),
        };
        let (expected, given) = (answer(&model, op, &transitions).await, answer(server, op, &transitions).await);
        assert_eq!(given, expected, "answer {place}, to {op:?}");
    }
    assert_eq!(seen(server).await, seen(&model).await);
    let balance = "select coalesce(sum(taken), 0)::bigint - (select count(*) from quota where state <> 'released')
                   from quota_days";
    let pruned = ops.iter().any(|op| matches!(op, Op::Prune));
    assert!(pruned || database.number(balance).await == 0, "the days do not add up to their rows");
    model.close().await;
}

#[test]
fn both_databases_give_the_same_answers_to_anything_in_any_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(database) = runtime.block_on(Database::new("both_databases_give_the_same_answers")) else { return };
    let server = runtime.block_on(database.open(QUOTA));
    let config = Config { cases: 48, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&ops(), |ops| {
        runtime.block_on(compare(&database, &server, &ops));
        Ok(())
    });
    runtime.block_on(server.close());
    drop(database);
    outcome.unwrap();
}
