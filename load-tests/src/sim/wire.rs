//! Wire desks: many desks in one process without journals and executors, where those would cost more than what is
//! measured. They publish turns with the contract's codec through the stream's producer, read all commands by one
//! reader, and write the same application files.
//!
//! They keep what the worker relies on: one open turn a conversation, later messages join the next one; commands are
//! deduped by turn; what is not acknowledged in time is published again.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autoreply::clock::Clock;
use autoreply::contract::codec::{Codec, Envelope, Incoming, Source};
use autoreply::contract::wire::{WireRecord, topic};
use autoreply::contract::{
    Command, ContextLine, ConversationId, DesktopId, Direction, Effect, Evidence, Extraction, ExtractionMethod,
    JournalId, MessagesDetected, Mode, ReplyOutcome, ReplySend, Revision, Timings, TurnId, TurnMessage,
};
use autoreply::error::Problem;
use autoreply::lifecycle::Supervisor;
use autoreply::stream::{Batch, Connection, NotDone, Producer};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Config, conversation, disk};
use crate::facts::{self, AppLine, Planned, Side};
use crate::plan;

/// Where the times of turns are written at the end, one file a process, in the run's directory.
pub const STAGES_DIRECTORY: &str = "stages";
/// Connections that the desks of a process publish over. A broker takes the requests of a connection one after the
/// other, and every real desk has its own.
pub(super) const CONNECTIONS: usize = 8;
/// What is not acknowledged within this is published again; a turn that nobody answers within [`GIVE_UP`] makes room.
const AGAIN_US: i64 = 10_000_000;
/// After this long without a reply the next turn of the conversation is published.
const GIVE_UP_US: i64 = 60_000_000;
/// How often both are looked for.
const SWEEP: Duration = Duration::from_secs(2);

/// When each step of a turn happened, in microseconds of the Unix epoch on the desk's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stages {
    /// The number of its last planned message.
    pub number: u64,
    /// When that message was planned.
    pub planned_us: i64,
    /// It had to wait for the reply to an earlier turn of its conversation.
    pub waited: bool,
    /// It was handed to the producer.
    pub published_us: i64,
    /// The broker had it.
    pub taken_us: Option<i64>,
    /// The ledger's acknowledgement arrived.
    pub recorded_us: Option<i64>,
    /// The command arrived, which here is the moment in which the reply is shown.
    pub received_us: Option<i64>,
    /// The ledger's acknowledgement of the outcome arrived.
    pub ended_us: Option<i64>,
    /// How often a record of it was published again.
    pub again: u32,
}

struct Turn {
    id: TurnId,
    number: u64,
    messages: Vec<Planned>,
    stages: Stages,
    outcome: Option<ReplyOutcome>,
    sent_us: i64,
}

/// A conversation: its turns so far, and what waits for the open one.
#[derive(Default)]
struct Talk {
    turns: u64,
    open: Option<TurnId>,
    waiting: Vec<Planned>,
}

struct State {
    files: HashMap<String, File>,
    talks: HashMap<ConversationId, Talk>,
    turns: HashMap<TurnId, Turn>,
}

/// What is to be published.
enum Out {
    Turn(TurnId),
    Outcome(TurnId),
}

type Sending = Pin<Box<dyn Future<Output = (TurnId, bool, bool)> + Send>>;

#[derive(Clone)]
struct Desks {
    journal: JournalId,
    codec: Codec,
    producers: Vec<Producer>,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    out: mpsc::UnboundedSender<Out>,
}

/// Starts the desks of `config` over `connections` (each desk publishes over one of them) under `supervisor`.
///
/// # Errors
/// Their files cannot be written.
pub(super) fn start(
    config: &Config,
    connections: &[Connection],
    supervisor: &mut Supervisor,
    clock: &Arc<dyn Clock>,
) -> Result<(), Problem> {
    let Some(connection) = connections.first() else { return Ok(()) };
    let mut files = HashMap::new();
    for directory in [facts::APPS_DIRECTORY, super::READY_DIRECTORY, STAGES_DIRECTORY] {
        let path = config.directory.join(directory);
        std::fs::create_dir_all(&path).map_err(|error| disk(path.display(), &error))?;
    }
    for desk in &config.desks {
        let path = config.directory.join(facts::APPS_DIRECTORY).join(format!("{}.jsonl", desk.name));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        files.insert(desk.name.clone(), file.map_err(|error| disk(path.display(), &error))?);
    }
    let (out, outgoing) = mpsc::unbounded_channel();
    let desks = Desks {
        journal: JournalId::draw(),
        codec: connection.codec(),
        producers: connections.iter().map(Connection::producer).collect(),
        clock: clock.clone(),
        state: Arc::new(Mutex::new(State { files, talks: HashMap::new(), turns: HashMap::new() })),
        out,
    };
    let commands = connection.reader_all(topic::COMMANDS);
    let caught_up = commands.caught_up();
    let (taking, stop) = (desks.clone(), supervisor.stop_token());
    supervisor.spawn("the desks' commands", {
        let stop = stop.clone();
        commands.run(stop, move |batch: Batch| {
            let taking = taking.clone();
            async move { taking.take(&batch) }
        })
    });
    let paths = Paths {
        plan: config.directory.join(facts::PLAN_FILE),
        ready: config.directory.join(super::READY_DIRECTORY).join(&config.name),
        stages: config.directory.join(STAGES_DIRECTORY).join(format!("{}.jsonl", config.name)),
    };
    supervisor.spawn("the desks", desks.run(paths, caught_up, outgoing, stop));
    Ok(())
}

struct Paths {
    plan: PathBuf,
    ready: PathBuf,
    stages: PathBuf,
}

impl Desks {
    async fn run(
        self,
        paths: Paths,
        mut caught_up: tokio::sync::watch::Receiver<bool>,
        mut outgoing: mpsc::UnboundedReceiver<Out>,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        tokio::select! { () = stop.cancelled() => return Ok(()), _seen = caught_up.wait_for(|caught| *caught) => {} }
        std::fs::write(&paths.ready, b"")?;
        while !paths.plan.exists() {
            tokio::select! { () = stop.cancelled() => return Ok(()), () = tokio::time::sleep(Duration::from_millis(50)) => {} }
        }
        let mut plan = self.own_plan(&paths.plan)?;
        let mut sending: FuturesUnordered<Sending> = FuturesUnordered::new();
        let mut sweep = tokio::time::interval(SWEEP);
        while !stop.is_cancelled() {
            let now_us = self.now_us();
            while let Some(planned) = plan.pop_front_if(|planned| planned.at_ms * 1000 <= now_us) {
                self.show(planned)?;
            }
            let wait = plan.front().map_or(3_600_000_000, |planned| (planned.at_ms * 1000 - now_us).max(0));
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(out) = outgoing.recv() => {
                    let more = std::iter::from_fn(|| outgoing.try_recv().ok());
                    for out in std::iter::once(out).chain(more).collect::<Vec<_>>() {
                        sending.extend(self.send(&out));
                    }
                }
                Some((id, outcome, taken)) = sending.next() => self.sent(id, outcome, taken),
                _tick = sweep.tick() => self.sweep(),
                () = tokio::time::sleep(Duration::from_micros(wait as u64)) => {}
            }
        }
        let mut file = File::create(&paths.stages)?;
        let state = self.state();
        state.turns.values().try_for_each(|turn| facts::append(&mut file, &turn.stages))
    }

    fn own_plan(&self, path: &std::path::Path) -> std::io::Result<VecDeque<Planned>> {
        let mut plan = facts::read::<Planned>(path)?;
        let state = self.state();
        plan.retain(|planned| state.files.contains_key(&planned.desktop));
        Ok(plan.into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> i64 {
        self.clock.now().as_microsecond()
    }

    /// A message appears: it opens a turn, or waits for the open one.
    fn show(&self, planned: Planned) -> std::io::Result<()> {
        let mut state = self.state();
        state.write(&planned.desktop, &planned.peer, Side::Peer, plan::text(&planned), self.now_us())?;
        let id = conversation(&planned.desktop, &planned.peer).id;
        let talk = state.talks.entry(id).or_default();
        if talk.open.is_some() {
            talk.waiting.push(planned);
        } else {
            self.open(&mut state, id, vec![planned], false);
        }
        Ok(())
    }

    fn open(&self, state: &mut State, conversation: ConversationId, messages: Vec<Planned>, waited: bool) {
        let Some(last) = messages.last() else { return };
        let talk = state.talks.entry(conversation).or_default();
        talk.turns += 1;
        let id = TurnId::derive(self.journal, conversation, talk.turns);
        talk.open = Some(id);
        let sent_us = self.now_us();
        let (number, planned_us) = (last.number, last.at_ms * 1000);
        let stages = Stages { number, planned_us, waited, published_us: sent_us, ..Stages::default() };
        let turn = Turn { id, number: talk.turns, messages, stages, outcome: None, sent_us };
        state.turns.insert(id, turn);
        let _ended = self.out.send(Out::Turn(id));
    }

    /// Hands a record to the producer, in this order, and gives the rest of its way.
    fn send(&self, out: &Out) -> Option<Sending> {
        let (id, outcome) = match out {
            Out::Turn(id) => (*id, false),
            Out::Outcome(id) => (*id, true),
        };
        let (record, desk) = self.record(id, outcome)?;
        // A conversation is one desk's, so that its records keep their order.
        let producer = self.producers.get(desk % self.producers.len().max(1))?.clone();
        let mut sending: Sending = Box::pin(async move { (id, outcome, producer.publish(record).await.is_ok()) });
        // The first poll puts it into the producer's queue: what is sent first is queued first.
        match (&mut sending).now_or_never() {
            Some(done) => Some(Box::pin(std::future::ready(done))),
            None => Some(sending),
        }
    }

    /// The record, and a number that is its desk's.
    fn record(&self, id: TurnId, outcome: bool) -> Option<(WireRecord, usize)> {
        let state = self.state();
        let turn = state.turns.get(&id)?;
        let first = turn.messages.first()?;
        let desktop = DesktopId::try_from(first.desktop.clone()).ok()?;
        let desk = first.desktop.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let time = self.clock.now();
        let envelope = Envelope { source: Source::Desktop(desktop.clone()), time, traceparent: None };
        let record = if outcome {
            self.codec.encode_outcome(turn.outcome.as_ref()?, &envelope).ok()?
        } else {
            self.codec.encode_messages(&detected(turn, self.journal, desktop, time), &envelope).ok()?
        };
        Some((record, desk))
    }

    fn sent(&self, id: TurnId, outcome: bool, taken: bool) {
        let now_us = self.now_us();
        if let Some(turn) = self.state().turns.get_mut(&id).filter(|_| taken && !outcome) {
            turn.stages.taken_us.get_or_insert(now_us);
        }
    }

    /// Publishes again what was not acknowledged in time.
    fn sweep(&self) {
        let now_us = self.now_us();
        let mut state = self.state();
        let mut given_up = Vec::new();
        for turn in state.turns.values_mut().filter(|turn| turn.stages.ended_us.is_none()) {
            let Some(first) = turn.messages.first() else { continue };
            if turn.outcome.is_none() && now_us - turn.stages.published_us > GIVE_UP_US {
                given_up.push((conversation(&first.desktop, &first.peer).id, turn.id));
            }
            let waits = turn.outcome.is_some() || turn.stages.recorded_us.is_none();
            if waits && now_us - turn.sent_us > AGAIN_US {
                turn.sent_us = now_us;
                turn.stages.again += 1;
                let out = if turn.outcome.is_some() { Out::Outcome(turn.id) } else { Out::Turn(turn.id) };
                let _ended = self.out.send(out);
            }
        }
        given_up.into_iter().for_each(|(conversation, turn)| self.close(&mut state, conversation, turn));
    }

    /// Lets the next turn of a conversation begin.
    fn close(&self, state: &mut State, conversation: ConversationId, turn: TurnId) {
        let Some(talk) = state.talks.get_mut(&conversation).filter(|talk| talk.open == Some(turn)) else { return };
        talk.open = None;
        let waiting = std::mem::take(&mut talk.waiting);
        self.open(state, conversation, waiting, true);
    }

    fn take(&self, batch: &Batch) -> Result<(), NotDone> {
        let mut state = self.state();
        for received in batch.iter() {
            let command = match self.codec.decode(&received.record) {
                Ok(Incoming::Command(command)) => command,
                Ok(_) => continue,
                Err(error) => return Err(NotDone::Stop(error.to_string())),
            };
            let now_us = self.now_us();
            match command {
                Command::Send(send) => {
                    self.answer(&mut state, &send, now_us).map_err(|error| NotDone::Stop(error.to_string()))?;
                }
                Command::TurnRecorded(recorded) => {
                    if let Some(turn) = state.turns.get_mut(&recorded.turn) {
                        turn.stages.recorded_us.get_or_insert(now_us);
                    }
                }
                Command::OutcomeRecorded(recorded) => {
                    if let Some(turn) = state.turns.get_mut(&recorded.turn) {
                        turn.stages.ended_us.get_or_insert(now_us);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The first command of a turn is shown; its outcome goes back.
    fn answer(&self, state: &mut State, send: &ReplySend, now_us: i64) -> std::io::Result<()> {
        let Some(turn) = state.turns.get_mut(&send.turn).filter(|turn| turn.outcome.is_none()) else { return Ok(()) };
        let Some((desktop, peer)) = turn.messages.first().map(|first| (first.desktop.clone(), first.peer.clone()))
        else {
            return Ok(());
        };
        turn.stages.received_us = Some(now_us);
        turn.outcome = Some(shown(turn, send, self.clock.now()));
        turn.sent_us = now_us;
        state.write(&desktop, &peer, Side::Own, send.text.clone(), now_us)?;
        let _ended = self.out.send(Out::Outcome(send.turn));
        self.close(state, send.conversation, send.turn);
        Ok(())
    }
}

impl State {
    fn write(&mut self, desktop: &str, peer: &str, side: Side, text: String, now_us: i64) -> std::io::Result<()> {
        let Some(file) = self.files.get_mut(desktop) else { return Ok(()) };
        facts::append(file, &AppLine { at_ms: now_us / 1000, peer: peer.to_owned(), side, text })
    }
}

/// The record of a turn, as a journal would make it.
fn detected(turn: &Turn, journal: JournalId, desktop: DesktopId, at: Timestamp) -> MessagesDetected {
    let peer = turn.messages.first().map(|first| first.peer.clone()).unwrap_or_default();
    let line = |text: &str| ContextLine { sender: peer.clone(), direction: Direction::Inbound, text: text.to_owned() };
    let extraction = Extraction { method: ExtractionMethod::Accessibility, confidence: 1.0, doubtful: false };
    let message = |(seq, planned): (u64, &Planned)| TurnMessage {
        seq,
        sender: peer.clone(),
        direction: Direction::Inbound,
        text: plan::text(planned),
        detected_at: at,
        extraction,
    };
    MessagesDetected {
        turn: turn.id,
        revision: Revision::FIRST,
        number: turn.number,
        journal,
        conversation: conversation(desktop.as_str(), &peer),
        desktop,
        messages: (turn.number * 100..).zip(&turn.messages).map(message).collect(),
        context: vec![line("Good morning, thank you for the quick help yesterday."), line("One more thing.")],
        mode: Mode::Auto,
        detected_at: at,
        traceparent: None,
    }
}

/// The outcome of a reply that was shown at once.
fn shown(turn: &Turn, send: &ReplySend, at: Timestamp) -> ReplyOutcome {
    let watermark = turn.number * 100 + 50;
    ReplyOutcome {
        turn: send.turn,
        revision: send.revision,
        desktop: send.desktop.clone(),
        conversation: send.conversation,
        effect: Effect::Confirmed,
        reason: "shown below the watermark".to_owned(),
        evidence: Some(Evidence {
            watermark,
            shown_as: Some(watermark + 1),
            similarity: Some(1.0),
            input_empty: Some(true),
            read_back_exact: true,
        }),
        timings: Timings {
            detected_at: Timestamp::from_microsecond(turn.stages.published_us).ok(),
            quiet_at: Timestamp::from_microsecond(turn.stages.published_us).ok(),
            received_at: Some(at),
            typed_at: Some(at),
            submitted_at: Some(at),
            shown_at: Some(at),
        },
    }
}
