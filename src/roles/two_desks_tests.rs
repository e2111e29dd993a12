//! Two desks on one account, a worker, one ledger: real journals, the real worker with canned answers, and a chat that
//! shows every desk what any of them typed. Only Kafka and the screen are missing.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, ManualClock, from_millis};
use crate::contract::*;
use crate::journal::{Ending, FenceVerdict, Journal, LastLook, NewMessage};
use crate::ledger::SqliteLedger;
use crate::limits::{InProcessLimits, InProcessMemory};
use crate::saga::state::State;
use crate::saga::{self, Commands, CommandsError, Desks as _, Ledger as _, Ports, Worker};
use crate::screen::pane::Cue;

const START: i64 = 1_790_000_000_000;

fn section<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let all: toml::Table = toml::from_str(include_str!("../../config.default.toml")).unwrap();
    all[name].clone().try_into().unwrap()
}

/// What Kafka would carry to the desks.
#[derive(Default)]
struct Bus {
    commands: Mutex<Vec<Command>>,
    notices: Mutex<Vec<Notice>>,
}

#[async_trait]
impl Commands for Bus {
    async fn publish(&self, command: &Command, _traceparent: Option<&str>) -> Result<(), CommandsError> {
        self.commands.lock().unwrap().push(command.clone());
        Ok(())
    }
    async fn notify(&self, notice: &Notice) -> Result<(), CommandsError> {
        self.notices.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

struct Cluster {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ledger: SqliteLedger,
    worker: Worker,
    bus: Arc<Bus>,
}

impl Cluster {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(from_millis(START)));
        let shared: Arc<dyn Clock> = clock.clone();
        let ledger = SqliteLedger::open(&folder.path().join("ledger"), 100, shared.clone()).await.unwrap();
        let generation: crate::generation::Settings = section("generation");
        let chain = crate::generation::build(&generation, &std::collections::BTreeMap::new(), &shared).unwrap();
        let mut limits: crate::limits::Settings = section("limits");
        limits.burst = std::num::NonZeroU32::new(100).unwrap();
        let bus = Arc::new(Bus::default());
        let ports = Ports {
            ledger: Arc::new(ledger.clone()),
            generator: Arc::new(chain),
            limits: Arc::new(InProcessLimits::new(&limits)),
            memory: Arc::new(InProcessMemory::new(&limits, shared.clone())),
            commands: bus.clone(),
            clock: shared,
        };
        let worker = Worker::new("worker-1", ports, section::<saga::Settings>("saga"));
        Self { _folder: folder, clock, ledger, worker, bus }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn settle(&self) {
        let (mut quiet, mut before) = (0, 0);
        while quiet < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let seen = self.bus.commands.lock().unwrap().len() + self.bus.notices.lock().unwrap().len();
            quiet = if self.worker.in_flight() == 0 && seen == before { quiet + 1 } else { 0 };
            before = seen;
        }
    }

    /// Carries everything that was published to these desks; the others lose nothing, it is carried again.
    async fn deliver(&self, desks: &[&Desk]) {
        self.settle().await;
        let commands = self.bus.commands.lock().unwrap().clone();
        let notices = self.bus.notices.lock().unwrap().clone();
        for desk in desks {
            for notice in notices.iter().filter(|notice| *notice.desktop() == desk.id) {
                desk.journal.hear(notice, self.clock.now()).await.unwrap();
            }
            for command in &commands {
                let to = match command {
                    Command::Send(send) => &send.desktop,
                    Command::Withdraw(withdraw) => &withdraw.desktop,
                    Command::TurnRecorded(recorded) => &recorded.desktop,
                    Command::OutcomeRecorded(recorded) => &recorded.desktop,
                };
                if *to == desk.id {
                    desk.journal.accept(command.clone(), self.clock.now()).await.unwrap();
                }
            }
        }
    }

    async fn state(&self, turn: TurnId) -> State {
        self.ledger.show(turn).await.unwrap().unwrap().summary.state
    }
}

/// A desk with its journal and nothing of the cluster but what is carried to it.
struct Desk {
    id: DesktopId,
    folder: tempfile::TempDir,
    journal: Journal,
    started_at: jiff::Timestamp,
    conversation: Conversation,
    digest: u64,
    /// What it typed into the chat.
    typed: Vec<String>,
}

fn turn_settings() -> crate::journal::TurnSettings {
    let settings: crate::journal::Settings = section("journal");
    let turns = settings.turns();
    crate::journal::TurnSettings { mode: Mode::Auto, trusted_peers: vec!["*".to_owned()], ..turns }
}

impl Desk {
    async fn open(name: &str, cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::of(name, folder, cluster).await
    }

    async fn of(name: &str, folder: tempfile::TempDir, cluster: &Cluster) -> Self {
        let id = DesktopId::try_from(name.to_owned()).unwrap();
        let journal = Journal::open(&folder.path().join("j.db"), id.clone(), turn_settings()).await.unwrap();
        let conversation = Conversation::new("hexchat", "irc", "shop", "bob", ConversationKind::Direct);
        let started_at = cluster.clock.now();
        let mut desk = Self { id, folder, journal, started_at, conversation, digest: 0, typed: Vec::new() };
        desk.look(cluster, Vec::new()).await;
        desk
    }

    /// Another machine with a copy of this one's disk.
    async fn copied(&self, cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = |folder: &Path, ending: &str| folder.join(format!("j.db{ending}"));
        for ending in ["", "-wal"] {
            std::fs::copy(name(self.folder.path(), ending), name(folder.path(), ending)).unwrap();
        }
        Self::of(self.id.as_str(), folder, cluster).await
    }

    async fn look(&mut self, cluster: &Cluster, new: Vec<NewMessage>) {
        self.digest += 1;
        let at = cluster.clock.now();
        let look =
            LastLook { pane_digest: self.digest, aligned: true, at_bottom: true, transcript: "[]".to_owned(), at };
        self.journal.record_look(&self.conversation, new, look, at).await.unwrap();
    }

    async fn see(&mut self, cluster: &Cluster, cue: Cue, text: &str) {
        let extraction = Extraction { method: ExtractionMethod::Accessibility, confidence: 1.0, doubtful: false };
        let (sender, text) = ("bob".to_owned(), text.to_owned());
        let new = NewMessage { sender, cue, text, stamp: None, extraction, history: false };
        self.look(cluster, vec![new]).await;
    }

    async fn hello(&self, cluster: &Cluster) {
        let hello = DesktopHello {
            desktop: self.id.clone(),
            journal: self.journal.id(),
            instance: self.journal.instance(),
            started_at: self.started_at,
            version: "0.2.0".to_owned(),
            host: "office".to_owned(),
            seat: self.journal.seat().to_owned(),
            accounts: self.journal.accounts().await.unwrap(),
            interval_ms: 10_000,
            leaving: false,
            at: cluster.clock.now(),
        };
        assert_eq!(cluster.worker.on_hellos(vec![hello]).await.unwrap(), []);
        cluster.deliver(&[self]).await;
    }

    /// Publishes what is due; the turns.
    async fn publish(&self, cluster: &Cluster) -> Vec<MessagesDetected> {
        let now = cluster.clock.now();
        let due = self.journal.turns_to_publish(now).await.unwrap();
        for turn in &due {
            self.journal.turn_published(turn.turn, turn.revision, now).await.unwrap();
        }
        cluster.worker.on_messages(due.clone()).await.unwrap();
        due
    }

    /// Types what the fence lets pass, as the executor would, and tells what became of everything.
    async fn work(&mut self, cluster: &Cluster) {
        while let Some(order) = self.journal.next_send(&[], cluster.clock.now()).await.unwrap() {
            let (turn, revision, now) = (order.send.turn, order.send.revision, cluster.clock.now());
            let intent = self.journal.begin_intent(turn, revision, now).await.unwrap();
            if !matches!(intent, FenceVerdict::Pass { .. }) {
                break;
            }
            let enter = self.journal.begin_submit(turn, revision, self.digest, now).await.unwrap();
            assert!(matches!(enter, FenceVerdict::Pass { .. }), "{enter:?}");
            self.typed.push(order.send.text.clone());
            self.see(cluster, Cue::Own, &order.send.text).await;
            let timings = Timings { shown_at: Some(now), ..order.timings };
            let shown = Ending { timings, ..Ending::new(Effect::Confirmed, "shown") };
            self.journal.end(turn, revision, shown, now).await.unwrap();
        }
        self.tell(cluster).await;
    }

    async fn tell(&self, cluster: &Cluster) {
        let due = self.journal.outcomes_to_publish(cluster.clock.now()).await.unwrap();
        for outcome in &due {
            self.journal.outcome_published(outcome, cluster.clock.now()).await.unwrap();
        }
        cluster.worker.on_outcomes(due).await.unwrap();
        cluster.deliver(&[self]).await;
    }

    async fn effect(&self, turn: TurnId) -> Option<Effect> {
        self.journal.turn_effect(turn).await.unwrap().unwrap().1
    }
}

/// The peer writes; both desks see it, and publish what they make of it.
async fn ask(cluster: &Cluster, text: &str, one: &mut Desk, two: &mut Desk) -> [TurnId; 2] {
    one.see(cluster, Cue::Other, text).await;
    two.see(cluster, Cue::Other, text).await;
    cluster.pass(2);
    let turns = [one.publish(cluster).await, two.publish(cluster).await];
    cluster.deliver(&[one, two]).await;
    turns.map(|mut due| due.pop().unwrap().turn)
}

#[tokio::test]
async fn exactly_one_of_two_desks_answers_whoever_dies_comes_back_or_is_copied() {
    let cluster = Cluster::new().await;
    let (mut one, mut two) = (Desk::open("one", &cluster).await, Desk::open("two", &cluster).await);
    one.hello(&cluster).await;
    two.hello(&cluster).await;

    let [mine, theirs] = ask(&cluster, "hello, your opening hours today?", &mut one, &mut two).await;
    assert_eq!(cluster.state(theirs).await, State::Ended(Effect::NotOwner));
    assert_eq!(two.effect(theirs).await, Some(Effect::NotOwner), "the desk was told");
    for desk in [&mut two, &mut one] {
        desk.work(&cluster).await;
    }
    assert_eq!((one.typed.len(), two.typed.len()), (1, 0));
    assert_eq!(cluster.state(mine).await, State::Ended(Effect::Confirmed));
    let answer = one.typed[0].clone();
    two.see(&cluster, Cue::Own, &answer).await;

    // The owner has a reply in hand and is cut off: it may not type once its lease is over, and the other takes over.
    let [held, _] = ask(&cluster, "what are your opening hours?", &mut one, &mut two).await;
    cluster.pass(46);
    two.hello(&cluster).await;
    one.work(&cluster).await;
    assert_eq!(one.typed.len(), 1, "the lease is over on its own clock");
    two.see(&cluster, Cue::Other, "hello? what are your opening hours?").await;
    cluster.pass(2);
    let taken = two.publish(&cluster).await.pop().unwrap();
    cluster.deliver(&[&two]).await;
    two.work(&cluster).await;
    assert_eq!((one.typed.len(), two.typed.len()), (1, 1));
    assert_eq!(cluster.state(taken.turn).await, State::Ended(Effect::Confirmed));
    let desks = cluster.ledger.desks(Duration::from_secs(45)).await.unwrap();
    let owned: Vec<_> = desks.iter().map(|desk| desk.accounts.iter().map(|a| a.token).collect::<Vec<_>>()).collect();
    assert_eq!(owned, [vec![], vec![2]], "the token rose with the owner");

    // It comes back, is told, and its reply ends.
    one.hello(&cluster).await;
    one.work(&cluster).await;
    assert_eq!(one.typed.len(), 1);
    assert_eq!(
        (one.effect(held).await, cluster.state(held).await),
        (Some(Effect::NotOwner), State::Ended(Effect::NotOwner))
    );
    assert_eq!(cluster.ledger.counts().await.unwrap().quota_taken, 2, "what was not sent is back");

    // A copy of the second desk: both say hello, both are told, one passes the fence.
    let mut copy = two.copied(&cluster).await;
    cluster.pass(1);
    copy.hello(&cluster).await;
    cluster.pass(1);
    two.hello(&cluster).await;
    copy.hello(&cluster).await;
    let told = [two.journal.standing_as_told(), copy.journal.standing_as_told()];
    assert!(told.iter().all(|standing| standing.cloned) && told[0].replaced && !told[1].replaced, "{told:?}");
    let [here, there] = ask(&cluster, "and your opening hours tomorrow?", &mut two, &mut copy).await;
    assert_eq!(here, there, "to the ledger they are one desk");
    for desk in [&mut two, &mut copy] {
        desk.work(&cluster).await;
    }
    assert_eq!((two.typed.len(), copy.typed.len()), (1, 1), "one answer, by the newest process");
    assert_eq!(cluster.state(here).await, State::Ended(Effect::Confirmed));
}

#[tokio::test]
async fn an_outcome_after_the_hand_over_wins_and_the_person_is_told_until_then() {
    let cluster = Cluster::new().await;
    let mut desk = Desk::open("one", &cluster).await;
    desk.hello(&cluster).await;
    desk.see(&cluster, Cue::Other, "hello, your opening hours today?").await;
    cluster.pass(2);
    let turn = desk.publish(&cluster).await.pop().unwrap().turn;
    cluster.deliver(&[&desk]).await;
    let (typed, text) = {
        let order = desk.journal.next_send(&[], cluster.clock.now()).await.unwrap().unwrap();
        let (revision, now) = (order.send.revision, cluster.clock.now());
        assert!(matches!(desk.journal.begin_intent(turn, revision, now).await, Ok(FenceVerdict::Pass { .. })));
        let enter = desk.journal.begin_submit(turn, revision, desk.digest, now).await;
        assert!(matches!(enter, Ok(FenceVerdict::Pass { .. })));
        (order.clone(), order.send.text)
    };
    // Enter was pressed and the desk's network is gone: the worker asks back, then hands over.
    let settings: saga::Settings = section("saga");
    cluster.clock.advance(settings.answer_within() + Duration::from_secs(1));
    cluster.worker.recover_once().await.unwrap();
    cluster.clock.advance(Duration::from_millis(settings.outcome_grace_ms + 1));
    cluster.worker.recover_once().await.unwrap();
    assert_eq!(cluster.state(turn).await, State::Ended(Effect::NeedsAttention));
    cluster.settle().await;
    let notices = cluster.bus.notices.lock().unwrap().clone();
    let handed = |notice: &Notice| matches!(notice, Notice::TurnEnded(ended) if ended.effect == Effect::NeedsAttention);
    assert!(notices.iter().any(handed), "{notices:?}");

    // The network is back: the withdrawal came too late, the notice closes nothing, the evidence wins.
    cluster.deliver(&[&desk]).await;
    assert_eq!(desk.effect(turn).await, None, "only the executor ends what was entered");
    desk.see(&cluster, Cue::Own, &text).await;
    let (revision, now) = (typed.send.revision, cluster.clock.now());
    let shown = Ending { timings: typed.timings, ..Ending::new(Effect::Confirmed, "shown") };
    desk.journal.end(turn, revision, shown, now).await.unwrap();
    desk.tell(&cluster).await;
    assert_eq!(cluster.state(turn).await, State::Ended(Effect::Confirmed));
    assert_eq!(cluster.ledger.counts().await.unwrap().quota_taken, 1);

    let detail = cluster.ledger.show(turn).await.unwrap().unwrap();
    let story = super::story::tell(&detail);
    let names: Vec<_> = story.iter().map(|step| step.event.as_str()).collect();
    for (before, after) in [
        ("seen", "recorded"),
        ("recorded", "issued"),
        ("issued", "submitted"),
        ("submitted", "withdrawal_requested"),
        ("withdrawal_requested", "handed_over"),
        ("handed_over", "outcome"),
    ] {
        let place = |name: &str| names.iter().position(|event| *event == name);
        assert!(place(before).is_some() && place(before) < place(after), "{before} before {after}: {names:?}");
    }
    assert!(story.iter().all(|step| !step.detail.contains("hours today")), "no chat text");
}
