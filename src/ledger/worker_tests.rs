//! The worker with fakes and the real ledger; here and not in `saga`, which must not know this room.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{ManualClock, from_millis};
use crate::contract::*;
use crate::ledger::SqliteLedger;
use crate::saga::samples::{outcome, turn};
use crate::saga::state::{Phase, State};
use crate::saga::*;

#[derive(Default)]
struct Fake {
    published: Mutex<Vec<Command>>,
    told: Mutex<Vec<Notice>>,
    remembered: Mutex<Vec<Exchange>>,
    drafts: AtomicU32,
    offline: AtomicBool,
    hang: AtomicBool,
    exhausted: AtomicBool,
    limits_gone: AtomicBool,
    ceiling_draft: AtomicBool,
    release: Notify,
    /// Publications begin and do not end.
    stuck: AtomicBool,
    under_way: AtomicU32,
}

#[async_trait]
impl Commands for Fake {
    async fn publish(&self, command: &Command, _traceparent: Option<&str>) -> Result<(), CommandsError> {
        if self.offline.load(Ordering::SeqCst) {
            return Err(CommandsError("no broker".to_owned()));
        }
        if self.stuck.load(Ordering::SeqCst) {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.published.lock().unwrap().push(command.clone());
        Ok(())
    }
    async fn notify(&self, notice: &Notice) -> Result<(), CommandsError> {
        self.told.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

#[async_trait]
impl Generator for Fake {
    async fn draft(&self, request: &DraftRequest, _: Instant) -> Result<Draft, GenerationError> {
        let count = self.drafts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.exhausted.load(Ordering::SeqCst) {
            return Err(GenerationError::Exhausted { attempts: vec!["fake: 500".to_owned()] });
        }
        if self.hang.load(Ordering::SeqCst) {
            self.release.notified().await;
        }
        let ceiling = if self.ceiling_draft.load(Ordering::SeqCst) { Mode::Draft } else { Mode::Auto };
        let text = format!("answer {count} to {} lines", request.messages.len());
        Ok(Draft { text, provider: "fake".to_owned(), ceiling })
    }
}

#[async_trait]
impl Limits for Fake {
    async fn admit(&self, _: ConversationId) -> Result<Admission, LimitsError> {
        if self.limits_gone.load(Ordering::SeqCst) {
            Err(LimitsError("gone".to_owned()))
        } else {
            Ok(Admission::Admitted)
        }
    }
}

#[async_trait]
impl Memory for Fake {
    async fn recall(&self, _: ConversationId) -> Result<Vec<Exchange>, MemoryError> {
        Err(MemoryError("gone".to_owned()))
    }
    async fn remember(&self, _: ConversationId, exchange: Exchange) -> Result<(), MemoryError> {
        self.remembered.lock().unwrap().push(exchange);
        Ok(())
    }
    async fn forget(&self, _: ConversationId) -> Result<(), MemoryError> {
        Ok(())
    }
}

fn settings() -> Settings {
    let file: toml::Table = include_str!("../../config.default.toml").parse().unwrap();
    let settings: Settings = file["saga"].clone().try_into().unwrap();
    settings.check().unwrap();
    let ledger: crate::ledger::Settings = file["ledger"].clone().try_into().unwrap();
    ledger.check().unwrap();
    settings
}

struct Scene {
    _directory: tempfile::TempDir,
    fake: Arc<Fake>,
    clock: Arc<ManualClock>,
    ledger: SqliteLedger,
    ports: Ports,
}

impl Scene {
    async fn new(quota: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(from_millis(1_000_000)));
        let ledger = SqliteLedger::open(&directory.path().join("l.sqlite"), quota, clock.clone()).await.unwrap();
        let fake = Arc::new(Fake::default());
        let ports = Ports {
            ledger: Arc::new(ledger.clone()),
            generator: fake.clone(),
            limits: fake.clone(),
            memory: fake.clone(),
            commands: fake.clone(),
            clock: clock.clone(),
        };
        Self { _directory: directory, fake, clock, ledger, ports }
    }

    fn worker(&self, name: &str) -> Worker {
        Worker::new(name, self.ports.clone(), settings())
    }

    async fn state(&self, of: &MessagesDetected) -> State {
        self.ledger.show(of.turn).await.unwrap().unwrap().summary.state
    }

    async fn until(&self, of: &MessagesDetected, wanted: State) {
        for _ in 0..500 {
            if self.state(of).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} instead of {wanted}", self.state(of).await);
    }

    async fn until_published(&self, count: usize) -> Vec<Command> {
        for _ in 0..500 {
            let published = self.fake.published.lock().unwrap().clone();
            if published.len() >= count {
                return published;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.fake.published.lock().unwrap());
    }

    fn sends(&self) -> Vec<ReplySend> {
        let published = self.fake.published.lock().unwrap();
        published
            .iter()
            .filter_map(|command| if let Command::Send(send) = command { Some(send.clone()) } else { None })
            .collect()
    }
}

const ISSUED: State = State::Open(Phase::Issued);
const AWAITING: State = State::Open(Phase::AwaitingApproval);

#[tokio::test]
async fn a_turn_is_acknowledged_answered_once_and_remembered_once_confirmed() {
    let scene = Scene::new(10).await;
    let (worker, of) = (scene.worker("w"), turn("alice", 1, 1));
    worker.on_messages(vec![of.clone()]).await.unwrap();
    worker.on_messages(vec![of.clone()]).await.unwrap();
    scene.until_published(3).await;
    scene.until(&of, ISSUED).await;
    worker.on_outcomes(vec![outcome(&of, Effect::Confirmed), outcome(&of, Effect::Confirmed)]).await.unwrap();
    worker.drain(Duration::from_secs(5)).await;
    let published = scene.until_published(5).await;
    let count = |wanted: fn(&Command) -> bool| published.iter().filter(|command| wanted(command)).count();
    assert_eq!(count(|command| matches!(command, Command::TurnRecorded(_))), 2);
    assert_eq!(count(|command| matches!(command, Command::OutcomeRecorded(_))), 2);
    assert_eq!(scene.sends().len(), 1);
    assert_eq!(scene.sends()[0].authority, Authority::Auto);
    assert_eq!(scene.fake.remembered.lock().unwrap().len(), 1);
    assert_eq!(worker.in_flight(), 0);
}

#[tokio::test]
async fn the_smaller_of_mode_and_ceiling_decides_and_a_person_approves() {
    let scene = Scene::new(10).await;
    let worker = scene.worker("w");
    let (mut draft, mut off) = (turn("alice", 1, 1), turn("bob", 1, 1));
    (draft.mode, off.mode) = (Mode::Draft, Mode::Off);
    worker.on_messages(vec![draft.clone(), off.clone()]).await.unwrap();
    scene.until(&draft, AWAITING).await;
    scene.until(&off, State::Ended(Effect::Off)).await;
    scene.fake.ceiling_draft.store(true, Ordering::SeqCst);
    let capped = turn("carol", 1, 1);
    worker.on_messages(vec![capped.clone()]).await.unwrap();
    scene.until(&capped, AWAITING).await;
    scene.fake.ceiling_draft.store(false, Ordering::SeqCst);
    scene.fake.limits_gone.store(true, Ordering::SeqCst);
    let unlimited = turn("dave", 1, 1);
    worker.on_messages(vec![unlimited.clone()]).await.unwrap();
    scene.until(&unlimited, AWAITING).await;
    assert_eq!(scene.sends(), vec![]);

    let version = DraftVersion(1);
    assert!(matches!(worker.approve(draft.turn, DraftVersion(2), "eve").await.unwrap(), Decided::OtherVersion(_)));
    assert!(matches!(worker.approve(draft.turn, version, "eve").await.unwrap(), Decided::Issued(_)));
    assert!(matches!(worker.approve(draft.turn, version, "eve").await.unwrap(), Decided::NotAwaiting(_)));
    assert_eq!(worker.reject(capped.turn, version, "eve").await.unwrap(), Decided::Rejected);
    assert_eq!(scene.sends().len(), 1);
    assert_eq!(scene.sends()[0].authority, Authority::ApprovedBy { by: "eve".to_owned() });
    scene.clock.advance(Duration::from_millis(settings().approval_lifetime_ms + 1));
    worker.recover_once().await.unwrap();
    scene.until(&unlimited, State::Ended(Effect::Expired)).await;
}

#[tokio::test]
async fn a_newer_revision_replaces_the_task_of_the_older() {
    let scene = Scene::new(10).await;
    let worker = scene.worker("w");
    scene.fake.hang.store(true, Ordering::SeqCst);
    worker.on_messages(vec![turn("alice", 1, 1)]).await.unwrap();
    scene.until(&turn("alice", 1, 1), State::Open(Phase::QuotaReserved)).await;
    while scene.fake.drafts.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    scene.fake.hang.store(false, Ordering::SeqCst);
    worker.on_messages(vec![turn("alice", 1, 2)]).await.unwrap();
    scene.until(&turn("alice", 1, 2), ISSUED).await;
    scene.fake.release.notify_waiters();
    worker.drain(Duration::from_secs(5)).await;
    let sends = scene.sends();
    assert_eq!(sends.iter().map(|send| send.revision).collect::<Vec<_>>(), [Revision(2)]);
}

#[tokio::test]
async fn failures_are_compensated_with_their_effect() {
    let scene = Scene::new(1).await;
    let worker = scene.worker("w");
    scene.fake.exhausted.store(true, Ordering::SeqCst);
    let lost = turn("alice", 1, 1);
    worker.on_messages(vec![lost.clone()]).await.unwrap();
    scene.until(&lost, State::Ended(Effect::NeedsAttention)).await;
    assert_eq!(scene.ledger.counts().await.unwrap().quota_taken, 0);
    scene.fake.exhausted.store(false, Ordering::SeqCst);
    let good = turn("bob", 1, 1);
    worker.on_messages(vec![good.clone()]).await.unwrap();
    scene.until(&good, ISSUED).await;
    let over = turn("carol", 1, 1);
    worker.on_messages(vec![over.clone()]).await.unwrap();
    scene.until(&over, State::Ended(Effect::Capped)).await;
}

#[tokio::test]
async fn a_desk_that_did_not_hear_of_an_end_asks_and_is_told() {
    let scene = Scene::new(1).await;
    let worker = scene.worker("w");
    scene.fake.exhausted.store(true, Ordering::SeqCst);
    let lost = turn("alice", 1, 1);
    worker.on_messages(vec![lost.clone()]).await.unwrap();
    scene.until(&lost, State::Ended(Effect::NeedsAttention)).await;
    worker.drain(Duration::from_secs(5)).await;
    scene.fake.told.lock().unwrap().clear();

    let other = scene.worker("other");
    other.on_messages(vec![lost.clone()]).await.unwrap();
    other.drain(Duration::from_secs(5)).await;
    let told = scene.fake.told.lock().unwrap().clone();
    let [Notice::TurnEnded(ended)] = told.as_slice() else { panic!("one notice, not {told:?}") };
    assert_eq!((ended.turn, ended.revision, ended.effect), (lost.turn, lost.revision, Effect::NeedsAttention));

    scene.fake.exhausted.store(false, Ordering::SeqCst);
    let (third, sent) = (scene.worker("third"), turn("bob", 1, 1));
    third.on_messages(vec![sent.clone()]).await.unwrap();
    scene.until(&sent, ISSUED).await;
    third.on_outcomes(vec![outcome(&sent, Effect::Confirmed)]).await.unwrap();
    third.drain(Duration::from_secs(5)).await;
    // A journal that was put back counts turns again: of what was sent before it hears that, whatever it asks after.
    let fourth = scene.worker("fourth");
    fourth.on_messages(vec![sent.clone(), turn("bob", 1, 3)]).await.unwrap();
    fourth.drain(Duration::from_secs(5)).await;
    let told = scene.fake.told.lock().unwrap().split_off(1);
    let heard: Vec<_> = told
        .iter()
        .map(|notice| match notice {
            Notice::TurnEnded(ended) => (ended.turn, ended.revision, ended.effect),
            Notice::Greeted(_) => panic!("{told:?}"),
        })
        .collect();
    let of = |revision| (sent.turn, Revision(revision), Effect::Confirmed);
    assert_eq!(heard, [of(1), of(3)]);
}

#[tokio::test]
async fn a_desk_that_asks_after_what_it_has_ended_itself_is_sent_to_a_person() {
    let scene = Scene::new(10).await;
    let (worker, grown) = (scene.worker("w"), turn("alice", 1, 3));
    worker.on_messages(vec![grown.clone()]).await.unwrap();
    scene.until(&grown, ISSUED).await;
    worker.on_outcomes(vec![outcome(&grown, Effect::HumanReplied)]).await.unwrap();
    worker.on_messages(vec![turn("alice", 1, 1), grown]).await.unwrap();
    worker.drain(Duration::from_secs(5)).await;
    let told = scene.fake.told.lock().unwrap().clone();
    let [Notice::TurnEnded(older), Notice::TurnEnded(same)] = told.as_slice() else { panic!("two, not {told:?}") };
    assert_eq!((older.revision, same.revision), (Revision(1), Revision(3)));
    for ended in [older, same] {
        assert_eq!(ended.effect, Effect::NeedsAttention);
        assert_eq!(ended.reason, "the ledger has ended revision 3 of it, as human_replied");
    }
}

#[tokio::test]
async fn a_worker_that_dies_while_drafting_is_replaced_when_its_lease_ends() {
    let scene = Scene::new(10).await;
    let (dying, of) = (scene.worker("dying"), turn("alice", 1, 1));
    scene.fake.hang.store(true, Ordering::SeqCst);
    dying.on_messages(vec![of.clone()]).await.unwrap();
    scene.until(&of, State::Open(Phase::QuotaReserved)).await;
    scene.fake.hang.store(false, Ordering::SeqCst);
    let other = scene.worker("other");
    assert_eq!(other.recover_once().await.unwrap().taken_over, 0);
    scene.clock.advance(Duration::from_secs(46));
    assert_eq!(other.recover_once().await.unwrap().taken_over, 1);
    scene.until(&of, ISSUED).await;
    scene.fake.release.notify_one();
    dying.drain(Duration::from_secs(5)).await;
    other.drain(Duration::from_secs(5)).await;
    assert_eq!(scene.sends().len(), 1);
}

#[tokio::test]
async fn a_drain_gives_leases_back_at_once() {
    let scene = Scene::new(10).await;
    let (stopping, of) = (scene.worker("stopping"), turn("alice", 1, 1));
    scene.fake.hang.store(true, Ordering::SeqCst);
    stopping.on_messages(vec![of.clone()]).await.unwrap();
    scene.until(&of, State::Open(Phase::QuotaReserved)).await;
    stopping.drain(Duration::from_millis(20)).await;
    scene.fake.hang.store(false, Ordering::SeqCst);
    assert_eq!(scene.worker("next").recover_once().await.unwrap().taken_over, 1);
    scene.until(&of, ISSUED).await;
}

#[tokio::test]
async fn a_drain_that_outlasts_a_lease_keeps_it() {
    let scene = Scene::new(10).await;
    let (dying, other, of) = (scene.worker("dying"), scene.worker("other"), turn("alice", 1, 1));
    scene.fake.hang.store(true, Ordering::SeqCst);
    dying.on_messages(vec![of.clone()]).await.unwrap();
    let look = async {
        for _ in 0..3 {
            // Longer than a lease in all; each time the one that drains has a moment to say that it is there.
            scene.clock.advance(Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(other.recover_once().await.unwrap().taken_over, 0);
        }
        scene.fake.release.notify_one();
        scene.until(&of, ISSUED).await;
    };
    tokio::join!(dying.drain(Duration::from_secs(60)), look);
    assert_eq!(scene.sends().len(), 1);
}

#[tokio::test]
async fn what_was_not_published_is_published_by_recovery() {
    let scene = Scene::new(10).await;
    let (worker, of) = (scene.worker("w"), turn("alice", 1, 1));
    scene.fake.offline.store(true, Ordering::SeqCst);
    worker.on_messages(vec![of.clone()]).await.unwrap();
    scene.until(&of, ISSUED).await;
    scene.fake.offline.store(false, Ordering::SeqCst);
    scene.clock.advance(Duration::from_secs(15));
    assert_eq!(scene.worker("other").recover_once().await.unwrap().published, 1);
    assert_eq!(scene.worker("other").recover_once().await.unwrap().published, 0);
    assert_eq!(scene.sends().len(), 1);
}

#[tokio::test]
async fn recovery_publishes_turns_beside_each_other_and_a_stop_breaks_it_off() {
    let scene = Scene::new(10).await;
    let (worker, both) = (scene.worker("w"), [turn("alice", 1, 1), turn("bob", 1, 1)]);
    scene.fake.offline.store(true, Ordering::SeqCst);
    worker.on_messages(both.to_vec()).await.unwrap();
    for of in &both {
        scene.until(of, ISSUED).await;
    }
    scene.fake.offline.store(false, Ordering::SeqCst);
    scene.clock.advance(Duration::from_secs(15));

    // One after the other, the second would never begin; and only the stop ends this look.
    scene.fake.stuck.store(true, Ordering::SeqCst);
    let (stop, never) = (CancellationToken::new(), Duration::from_secs(1 << 30));
    let other = scene.worker("other");
    let stopping = async {
        while scene.fake.under_way.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let retention = Retention { rows: never, text: never };
    let stopped = async { tokio::join!(other.recover(retention, stop.clone()), stopping) };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("two begin, and a stop is heard meanwhile");
    assert_eq!(scene.sends(), vec![]);

    scene.fake.stuck.store(false, Ordering::SeqCst);
    scene.clock.advance(Duration::from_mins(1));
    assert_eq!(scene.worker("next").recover_once().await.unwrap().published, 2, "what was broken off is still there");
    assert_eq!(scene.sends().len(), 2);
}

#[tokio::test]
async fn silence_after_issuing_is_withdrawn_then_handed_over_and_a_late_outcome_wins() {
    let scene = Scene::new(10).await;
    let (worker, of) = (scene.worker("w"), turn("alice", 1, 1));
    worker.on_messages(vec![of.clone()]).await.unwrap();
    scene.until(&of, ISSUED).await;
    scene.clock.advance(settings().answer_within() + Duration::from_secs(1));
    worker.recover_once().await.unwrap();
    assert_eq!(scene.state(&of).await, State::Open(Phase::Withdrawing));
    scene.clock.advance(Duration::from_millis(settings().outcome_grace_ms + 1));
    worker.recover_once().await.unwrap();
    assert_eq!(scene.state(&of).await, State::Ended(Effect::NeedsAttention));
    worker.on_outcomes(vec![outcome(&of, Effect::Confirmed)]).await.unwrap();
    assert_eq!(scene.state(&of).await, State::Ended(Effect::Confirmed));
    assert!(scene.fake.published.lock().unwrap().iter().any(|command| matches!(command, Command::Withdraw(_))));
}

#[tokio::test]
async fn a_ledger_that_is_away_stops_the_batch_and_acknowledges_nothing() {
    let scene = Scene::new(10).await;
    let worker = scene.worker("w");
    scene.ledger.close().await;
    assert!(matches!(worker.on_messages(vec![turn("alice", 1, 1)]).await, Err(LedgerError::Unavailable(_))));
    let told = worker.on_outcomes(vec![outcome(&turn("alice", 1, 1), Effect::Confirmed)]).await;
    assert!(matches!(told, Err(LedgerError::Unavailable(_))));
    worker.drain(Duration::from_secs(1)).await;
    assert_eq!(*scene.fake.published.lock().unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_turns_is_answered_once_each() {
    let scene = Scene::new(1_000).await;
    let worker = scene.worker("w");
    let batch: Vec<_> = (0..400).map(|number| turn("alice", number, 1)).collect();
    worker.on_messages(batch.clone()).await.unwrap();
    worker.drain(Duration::from_secs(30)).await;
    let mut sent: Vec<TurnId> = scene.sends().into_iter().map(|send| send.turn).collect();
    sent.sort();
    sent.dedup();
    assert_eq!((sent.len(), scene.sends().len()), (400, 400));
    assert_eq!(scene.ledger.counts().await.unwrap().by_state, [(ISSUED, 400)]);
}

#[test]
fn deadlines_that_do_not_fit_are_refused() {
    let breaks: [fn(&mut Settings); 5] = [
        |settings| settings.lease_ms = settings.reply_deadline_ms,
        |settings| settings.recovery_poll_ms = settings.lease_ms,
        |settings| settings.finish_within_ms = settings.lease_ms,
        |settings| settings.permits = 0,
        |settings| settings.outcome_grace_ms = 0,
    ];
    for make_bad in breaks {
        let mut bad = settings();
        make_bad(&mut bad);
        assert!(bad.check().is_err(), "{bad:?}");
    }
}
