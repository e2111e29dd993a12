use std::slice;

use uuid::Uuid;

use super::*;
use crate::clock::{ManualClock, from_millis};
use crate::contract::{Authority, DesktopId, DraftVersion, JournalId, Mode, ReplySend, ReplyWithdraw};
use crate::ledger::SqliteLedger;
use crate::saga::Draft;
use crate::saga::samples::{outcome as word, turn};

const MINUTE: Duration = Duration::from_secs(60);

/// A ledger that two workers share, each with its own figures.
struct Scene {
    _directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    workers: [Counted; 2],
}

impl Scene {
    async fn new(quota: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(from_millis(1_000_000)));
        let ledger = SqliteLedger::open(&directory.path().join("ledger"), quota, clock.clone()).await.unwrap();
        let worker = || Counted::new(Arc::new(ledger.clone()), Arc::new(Metrics::new()), clock.clone());
        Self { workers: [worker(), worker()], _directory: directory, clock }
    }

    /// What both workers have counted together.
    fn sum(&self, of: impl Fn(&Metrics) -> f64) -> f64 {
        self.workers.iter().map(|worker| of(&worker.metrics)).sum()
    }

    fn due_and_kept(&self) -> (f64, f64) {
        (self.sum(|metrics| metrics.turns_due.get()), self.sum(|metrics| metrics.turns_kept.get()))
    }

    fn ends(&self, effect: Effect) -> f64 {
        self.sum(|metrics| metrics.replies.of(outcome(effect)).get())
    }

    async fn record(&self, of: &MessagesDetected) -> Receipt {
        let lease = LeaseRequest { worker: "w".to_owned(), hold: MINUTE };
        let terms = Terms { lease, finish_within: MINUTE * 2, account_hold: MINUTE, reserve_quota: true };
        self.workers[0].record_turns(slice::from_ref(of), &terms).await.unwrap().remove(0).unwrap()
    }

    async fn lease(&self, of: &MessagesDetected) -> LeaseToken {
        match self.record(of).await {
            Receipt::New(taken) => taken.lease,
            other => panic!("{other:?}"),
        }
    }

    async fn change(&self, of: &MessagesDetected, lease: LeaseToken, changes: Vec<Change>) {
        let (id, who) = (Uuid::now_v7(), "w".to_owned());
        let wanted = Transition { id, turn: of.turn, revision: of.revision, lease, who, changes, traceparent: None };
        let done = self.workers[0].transition(&[wanted]).await.unwrap().remove(0).unwrap();
        assert!(matches!(done, Transitioned::Done { .. }), "{done:?}");
    }

    async fn issue(&self, of: &MessagesDetected) {
        let lease = self.lease(of).await;
        let send = ReplySend {
            turn: of.turn,
            revision: of.revision,
            journal: of.journal,
            desktop: of.desktop.clone(),
            conversation: of.conversation.id,
            text: "an answer".to_owned(),
            authority: Authority::Auto,
            issued_at: from_millis(0),
            owner_token: None,
        };
        self.change(of, lease, vec![draft(), Change::Issue { send, answer_within: MINUTE }]).await;
    }

    /// Both workers hear this outcome, as after a rebalance.
    async fn tell_both(&self, told: &ReplyOutcome) {
        for worker in &self.workers {
            worker.apply_outcomes(slice::from_ref(told)).await.unwrap();
        }
    }
}

fn draft() -> Change {
    Change::StoreDraft(Draft { text: "an answer".to_owned(), provider: "p".to_owned(), ceiling: Mode::Auto })
}

fn abandon(effect: Effect) -> Vec<Change> {
    vec![Change::Abandon { effect, reason: "a test".to_owned() }]
}

#[tokio::test]
async fn a_turn_is_due_once_however_many_workers_hear_of_its_end() {
    let scene = Scene::new(100).await;
    let (shown, refused) = (turn("alice", 1, 1), turn("alice", 2, 1));
    scene.issue(&shown).await;
    scene.issue(&refused).await;
    assert_eq!(scene.due_and_kept(), (0.0, 0.0), "nothing has ended");
    scene.tell_both(&word(&shown, Effect::Confirmed)).await;
    scene.tell_both(&word(&refused, Effect::Refused)).await;
    assert_eq!(scene.due_and_kept(), (2.0, 2.0));
    assert_eq!(scene.sum(|metrics| metrics.duplicates.of(Place::Worker).get()), 2.0);
    scene.record(&shown).await;
    assert_eq!(scene.sum(|metrics| metrics.duplicates.of(Place::Worker).get()), 3.0);
    scene.clock.advance(MINUTE);
    scene.record(&shown).await;
    assert_eq!(scene.sum(|metrics| metrics.duplicates.of(Place::Worker).get()), 3.0, "the desk asks after it");
    scene.tell_both(&word(&refused, Effect::Confirmed)).await;
    assert_eq!(scene.due_and_kept(), (2.0, 2.0), "better evidence is no other end");
    assert_eq!((scene.ends(Effect::Refused), scene.ends(Effect::Confirmed)), (1.0, 2.0));
}

#[tokio::test]
async fn what_is_overdue_is_due_and_not_kept_whoever_ends_it() {
    let scene = Scene::new(100).await;
    let (late, asked_back, slow) = (turn("alice", 1, 1), turn("alice", 2, 1), turn("alice", 3, 1));
    scene.issue(&late).await;
    scene.issue(&asked_back).await;
    let lease = scene.lease(&slow).await;
    scene.clock.advance(MINUTE * 3);
    scene.tell_both(&word(&late, Effect::Confirmed)).await;
    scene.change(&slow, lease, abandon(Effect::Expired)).await;
    assert_eq!(scene.due_and_kept(), (2.0, 0.0));

    let request = LeaseRequest { worker: "x".to_owned(), hold: MINUTE };
    let taken = scene.workers[1].take_overdue(&request, 9).await.unwrap().remove(0);
    let withdraw = ReplyWithdraw {
        turn: asked_back.turn,
        revision: asked_back.revision,
        desktop: asked_back.desktop.clone(),
        conversation: asked_back.conversation.id,
        reason: "silence".to_owned(),
    };
    scene.change(&asked_back, taken.lease, vec![Change::Withdraw { withdraw, answer_within: MINUTE }]).await;
    assert_eq!(scene.due_and_kept(), (2.0, 0.0), "it has not ended");
    scene.change(&asked_back, taken.lease, vec![Change::HandOver { reason: "silence".to_owned() }]).await;
    scene.tell_both(&word(&asked_back, Effect::Confirmed)).await;
    assert_eq!(scene.due_and_kept(), (3.0, 0.0));
    let steps = [CompensationStep::Abandon, CompensationStep::Withdraw, CompensationStep::HandOver];
    assert_eq!(steps.map(|step| scene.sum(|metrics| metrics.compensations.of(step).get())), [1.0, 1.0, 1.0]);
}

#[tokio::test]
async fn what_ends_without_a_desk_is_counted_and_so_is_the_guard_that_did_it() {
    let scene = Scene::new(1).await;
    let (first, over) = (turn("alice", 1, 1), turn("alice", 2, 1));
    let off = MessagesDetected { mode: Mode::Off, ..turn("alice", 3, 1) };
    let lease = scene.lease(&first).await;
    scene.change(&first, lease, vec![draft(), Change::RequestApproval { lifetime: MINUTE }]).await;
    let lease = scene.lease(&over).await;
    scene.change(&over, lease, abandon(Effect::Capped)).await;
    let lease = scene.lease(&off).await;
    scene.change(&off, lease, abandon(Effect::Off)).await;
    let (turn, by) = (first.turn, "eve".to_owned());
    let no = Decision { turn, version: DraftVersion(1), by, approve: false, answer_within: MINUTE };
    scene.workers[1].decide(&no).await.unwrap();
    assert_eq!(scene.due_and_kept(), (3.0, 3.0));
    assert_eq!([Effect::Capped, Effect::Off, Effect::Rejected].map(|effect| scene.ends(effect)), [1.0, 1.0, 1.0]);
    let guards = [Guard::Quota, Guard::Mode, Guard::Owner];
    assert_eq!(guards.map(|guard| scene.sum(|metrics| metrics.guards.of(guard).get())), [1.0, 1.0, 0.0]);
    assert_eq!(
        scene.sum(|metrics| metrics.compensations.of(CompensationStep::Abandon).get()),
        1.0,
        "off undoes nothing"
    );
}

#[tokio::test]
async fn a_desk_that_does_not_answer_for_the_account_is_held_back() {
    let scene = Scene::new(9).await;
    let of = turn("alice", 1, 1);
    scene.record(&of).await;
    let journal = JournalId(Uuid::from_u128(99));
    let turn = TurnId::derive(journal, of.conversation.id, 1);
    let desktop = DesktopId::try_from("other".to_owned()).unwrap();
    let stranger = MessagesDetected { turn, journal, desktop, ..of };
    assert!(matches!(scene.record(&stranger).await, Receipt::NotOwner(_)));
    assert_eq!(scene.sum(|metrics| metrics.guards.of(Guard::Owner).get()), 1.0);
    assert_eq!((scene.ends(Effect::NotOwner), scene.due_and_kept()), (1.0, (1.0, 1.0)));
}

#[tokio::test]
async fn a_reply_is_timed_from_its_message_and_from_the_end_of_the_quiet() {
    let scene = Scene::new(9).await;
    let (shown, refused) = (turn("alice", 1, 1), turn("alice", 2, 1));
    scene.issue(&shown).await;
    scene.issue(&refused).await;
    let at = |ms: i64| Some(from_millis(1_000_000 + ms));
    let timings = Timings { detected_at: at(0), quiet_at: at(1_500), shown_at: at(4_000), ..Timings::default() };
    scene.clock.advance(Duration::from_secs(5));
    scene.tell_both(&ReplyOutcome { timings, ..word(&shown, Effect::Confirmed) }).await;
    scene.tell_both(&ReplyOutcome { timings, ..word(&refused, Effect::Refused) }).await;
    let text = scene.workers[0].metrics.render().unwrap();
    for line in [
        "autoreply_reply_seconds_sum{effect=\"confirmed\"} 5",
        "autoreply_reply_seconds_count{effect=\"refused\"} 1",
        "autoreply_reply_after_quiet_seconds_sum 2.5",
        "autoreply_reply_after_quiet_seconds_count 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    let older = Timings { quiet_at: None, ..timings };
    assert_eq!((after_quiet(&older), after_quiet(&Timings::default())), (Some(4.0), None));
    assert_eq!(seconds(from_millis(9), from_millis(1)), 0.0, "clocks differ");
}
