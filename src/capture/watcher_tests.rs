use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::clock::{ManualClock, from_millis};
use crate::contract::{Conversation, ConversationKind, ExtractionMethod};
use crate::error::Problem;
use crate::screen::geometry::Rect;
use crate::screen::pane::Cue;

const WINDOW: WindowId = WindowId(7);

/// The world that the loop looks at, changed by the test while the loop runs.
#[derive(Default)]
struct World {
    /// The lines on screen; a frame holds them as bytes.
    lines: Vec<String>,
    /// Frames that are given before the pane comes to rest.
    moving: u8,
    gone: bool,
    display_gone: bool,
    mode_off: bool,
    gate_fails: bool,
    /// The title changes while the pane is being captured, so often.
    retitled: u32,
    title: String,
    captures: usize,
    reads: usize,
    failing_reads: usize,
    /// Failures of the journal to come: true when the write arrived all the same.
    failing_writes: VecDeque<bool>,
    recorded: Vec<NewMessage>,
    look: Option<LastLook>,
    looks: usize,
    errors: usize,
    lost: usize,
    detected: usize,
    confidences: Vec<f64>,
    /// Looks recorded for a conversation that was not the one on screen.
    misplaced: usize,
}

type Shared = Arc<Mutex<World>>;

struct Screen(Shared);
struct Reader(Shared);
struct Book(Shared);
struct Told(Shared);

fn info(world: &World) -> WindowInfo {
    WindowInfo {
        id: WINDOW,
        application: "Chat".to_owned(),
        title: world.title.clone(),
        pid: None,
        rect: Rect { x: 0, y: 0, width: 100, height: 100 },
        hidden: false,
    }
}

impl WindowSystem for Screen {
    fn windows(&mut self) -> Result<Vec<WindowInfo>, ScreenError> {
        let world = self.0.lock().unwrap();
        if world.display_gone {
            return Err(ScreenError::Connection("closed".to_owned()));
        }
        Ok(if world.gone { Vec::new() } else { vec![info(&world)] })
    }
    fn window(&mut self, id: WindowId) -> Result<WindowInfo, ScreenError> {
        let world = self.0.lock().unwrap();
        if world.gone { Err(ScreenError::Gone(id)) } else { Ok(info(&world)) }
    }
    fn capture(&mut self, id: WindowId, _: Rect) -> Result<Frame, ScreenError> {
        let mut world = self.0.lock().unwrap();
        if world.gone {
            return Err(ScreenError::Gone(id));
        }
        world.captures += 1;
        if world.retitled > 0 {
            world.retitled -= 1;
            world.title = if world.retitled > 0 { "mallory" } else { "bob" }.to_owned();
        }
        let mut rgbx = world.lines.join("\n").into_bytes();
        if world.moving > 0 {
            world.moving -= 1;
            rgbx.insert(0, world.moving);
        }
        Ok(Frame { width: 100, height: 100, rgbx })
    }
    fn watch(&mut self, _: WindowId, _: Rect) -> Result<(), ScreenError> {
        Ok(())
    }
    fn wait_change(&mut self, timeout: Duration) -> Result<Vec<WindowId>, ScreenError> {
        std::thread::sleep(timeout);
        Ok(vec![WINDOW])
    }
    fn active(&mut self) -> Result<Option<WindowId>, ScreenError> {
        Ok(None)
    }
    fn activate(&mut self, _: WindowId) -> Result<(), ScreenError> {
        Ok(())
    }
}

impl ViewReader for Reader {
    fn read(&mut self, _: &Target, frame: &Frame) -> Result<PaneView, Problem> {
        let mut world = self.0.lock().unwrap();
        world.reads += 1;
        if world.failing_reads > 0 {
            world.failing_reads -= 1;
            return Err(Problem::new("the engine has no language", "profile chat", "Install it"));
        }
        let text = String::from_utf8_lossy(&frame.rgbx).into_owned();
        let lines = text.lines().filter(|line| !line.is_empty()).map(|text| PaneLine {
            stamp: None,
            sender: Some("bob".to_owned()),
            text: text.to_owned(),
            cue: Cue::Other,
            confidence: 0.9,
            doubtful: false,
            top: 0,
            bottom: 0,
            digest: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
        });
        Ok(PaneView { lines: lines.collect(), digest: digest(frame), method: ExtractionMethod::Ocr, height: 100 })
    }
}

impl Looks for Book {
    fn last_look(&mut self, _: ConversationId) -> Result<Option<LastLook>, JournalError> {
        Ok(self.0.lock().unwrap().look.clone())
    }
    fn record_look(
        &mut self,
        conversation: &Conversation,
        new: Vec<NewMessage>,
        look: LastLook,
        _: jiff::Timestamp,
    ) -> Result<Option<Grown>, JournalError> {
        let mut world = self.0.lock().unwrap();
        world.misplaced += usize::from(conversation.peer != world.title);
        let failure = world.failing_writes.pop_front();
        if failure != Some(false) {
            world.recorded.extend(new);
            world.look = Some(look);
            world.looks += 1;
        }
        failure.map_or(Ok(None), |_| Err(JournalError::Busy("for a test".to_owned())))
    }
}

impl Observer for Told {
    fn on_detected(&mut self, count: usize) {
        self.0.lock().unwrap().detected += count;
    }
    fn on_confidence(&mut self, confidence: f64) {
        self.0.lock().unwrap().confidences.push(confidence);
    }
    fn on_lost(&mut self, _: ConversationId) {
        self.0.lock().unwrap().lost += 1;
    }
    fn on_error(&mut self, _: ConversationId, _: &str) {
        self.0.lock().unwrap().errors += 1;
    }
}

/// A loop on a thread, ended when dropped.
struct Running {
    world: Shared,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), ScreenError>>>,
}

impl Running {
    fn start(world: World) -> Self {
        Self::on(Arc::new(Mutex::new(World { title: "bob".to_owned(), ..world })))
    }

    fn on(world: Shared) -> Self {
        let stop = CancellationToken::new();
        let gate_world = world.clone();
        let watcher = Watcher {
            windows: Screen(world.clone()),
            finder: |windows: &[WindowInfo]| Found {
                targets: windows.iter().map(target).collect(),
                refused: Vec::new(),
            },
            reader: Reader(world.clone()),
            looks: Book(world.clone()),
            gate: move |_: &Conversation| {
                let world = gate_world.lock().unwrap();
                if world.gate_fails {
                    return Err(JournalError::Busy("locked".to_owned()));
                }
                Ok(if world.mode_off { Mode::Off } else { Mode::Auto })
            },
            observer: Told(world.clone()),
            clock: ManualClock::new(from_millis(1_000_000)),
            settings: Settings { poll_ms: 10, safety_ms: 60, settle_ms: 60, windows_ms: 20, transcript_lines: 400 },
            stop: stop.clone(),
        };
        Self { world, stop, thread: Some(std::thread::spawn(move || watcher.run())) }
    }

    /// Waits until the world is so, or fails.
    fn until(&self, what: &str, mut so: impl FnMut(&World) -> bool) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if so(&self.world.lock().unwrap()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("waited in vain until {what}");
    }

    fn show(&self, lines: &[&str]) {
        self.world.lock().unwrap().lines = lines.iter().map(|line| (*line).to_owned()).collect();
    }

    fn answerable(&self) -> Vec<String> {
        let world = self.world.lock().unwrap();
        world.recorded.iter().filter(|new| !new.history).map(|new| new.text.clone()).collect()
    }

    fn end(mut self) -> (Result<(), ScreenError>, Duration) {
        self.stop.cancel();
        let started = Instant::now();
        (self.thread.take().unwrap().join().unwrap(), started.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn target(window: &WindowInfo) -> Target {
    Target {
        window: window.id,
        title: window.title.clone(),
        conversation: Conversation::new("chat", "net", "me", &window.title, ConversationKind::Direct),
        pane: window.rect,
        profile: "chat".to_owned(),
    }
}

fn world(lines: &[&str]) -> World {
    World { lines: lines.iter().map(|line| (*line).to_owned()).collect(), ..World::default() }
}

#[test]
fn history_is_context_a_new_line_is_recorded_once_and_a_stop_is_quick() {
    let running = Running::start(world(&["hello there", "how are you"]));
    running.until("the first look", |world| world.looks == 1);
    running.show(&["hello there", "how are you", "my card is 4111 1111 1111 1111"]);
    running.until("the second look", |world| world.detected == 1);
    assert_eq!(running.answerable(), ["my card is [card]"]);
    std::thread::sleep(Duration::from_millis(200));
    let world = running.world.clone();
    let (end, took) = running.end();
    assert_eq!(end, Ok(()));
    assert!(took < Duration::from_millis(300), "{took:?}");
    let world = world.lock().unwrap();
    assert_eq!((world.looks, world.recorded.len()), (2, 3), "an unchanged pane is not read again");
    assert_eq!(world.confidences, [world.recorded[2].extraction.confidence], "history does not count");
    assert!(!world.look.as_ref().unwrap().transcript.contains("4111"));
}

#[test]
fn a_restart_goes_on_where_the_journal_stands() {
    let running = Running::start(world(&["hello there", "how are you"]));
    running.until("the first look", |world| world.looks == 1);
    let world = running.world.clone();
    running.end().0.unwrap();
    world.lock().unwrap().lines.push("anybody?".to_owned());
    let running = Running::on(world);
    running.until("the look after the restart", |world| world.looks == 2);
    assert_eq!(running.answerable(), ["anybody?"]);
}

#[test]
fn a_moving_pane_is_read_at_rest_or_when_the_time_is_over() {
    let running = Running::start(World { moving: 2, ..world(&["hello there"]) });
    running.until("the first look", |world| world.looks == 1);
    assert_eq!(running.world.lock().unwrap().recorded[0].text, "hello there");
    // Never at rest: read all the same.
    running.world.lock().unwrap().moving = 200;
    running.until("a look while it moves", |world| world.looks >= 2 && world.moving > 0);
}

#[test]
fn off_reads_nothing_and_what_came_meanwhile_is_context() {
    let running = Running::start(World { mode_off: true, ..world(&["hello there", "how are you"]) });
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(running.world.lock().unwrap().captures, 0);
    running.world.lock().unwrap().mode_off = false;
    running.until("the first look", |world| world.looks == 1);
    running.world.lock().unwrap().mode_off = true;
    std::thread::sleep(Duration::from_millis(50));
    running.show(&["hello there", "how are you", "said while off"]);
    std::thread::sleep(Duration::from_millis(50));
    running.world.lock().unwrap().mode_off = false;
    running.until("the look after", |world| world.looks == 2);
    running.show(&["hello there", "how are you", "said while off", "said while on"]);
    running.until("the next look", |world| world.looks == 3);
    assert_eq!(running.answerable(), ["said while on"]);
}

#[test]
fn what_comes_while_the_mode_cannot_be_told_is_no_history() {
    let running = Running::start(world(&["hello there", "how are you"]));
    running.until("the first look", |world| world.looks == 1);
    running.world.lock().unwrap().gate_fails = true;
    running.until("the failure is told", |world| world.errors == 1);
    running.show(&["hello there", "how are you", "said while it was busy"]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(running.world.lock().unwrap().looks, 1, "and nothing is read without leave");
    running.world.lock().unwrap().gate_fails = false;
    running.until("the look after", |world| world.looks >= 2);
    assert_eq!(running.answerable(), ["said while it was busy"]);
}

#[test]
fn a_failed_write_is_tried_again_and_records_nothing_twice() {
    let running = Running::start(world(&["hello there", "how are you"]));
    running.until("the first look", |world| world.looks == 1);
    running.world.lock().unwrap().failing_writes = VecDeque::from([false, true]);
    running.show(&["hello there", "how are you", "anybody?"]);
    running.until("both failures", |world| world.errors == 2);
    running.until("a look that was recorded", |world| world.looks >= 3);
    assert_eq!(running.answerable(), ["anybody?"]);
}

#[test]
fn a_failed_reading_is_told_and_tried_again() {
    let running = Running::start(World { failing_reads: 1, ..world(&["hello there"]) });
    running.until("the look after the error", |world| world.errors == 1 && world.looks == 1);
}

#[test]
fn pixels_of_another_conversation_are_not_recorded() {
    // The title becomes another one during the capture: the look is void.
    let running = Running::start(world(&["hello there"]));
    running.until("the first look", |world| world.looks == 1);
    {
        let mut world = running.world.lock().unwrap();
        world.retitled = 5;
        world.lines.push("for somebody else".to_owned());
    }
    running.until("the title is back and read", |world| world.retitled == 0 && world.looks > 1);
    assert_eq!(running.world.lock().unwrap().misplaced, 0);
    assert_eq!(running.answerable(), ["for somebody else"], "recorded once, when the title stood still");
}

#[test]
fn a_window_may_go_but_not_the_display() {
    let running = Running::start(world(&["hello there"]));
    running.until("the first look", |world| world.looks == 1);
    running.world.lock().unwrap().gone = true;
    std::thread::sleep(Duration::from_millis(100));
    running.world.lock().unwrap().gone = false;
    running.until("the window is watched again", |world| world.looks >= 2);
    running.world.lock().unwrap().display_gone = true;
    let started = Instant::now();
    while !running.thread.as_ref().unwrap().is_finished() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(running.end().0, Err(ScreenError::Connection(_))));
}

#[test]
fn a_gap_is_told_and_nothing_is_answered() {
    let running = Running::start(world(&["hello there", "how are you"]));
    running.until("the first look", |world| world.looks == 1);
    running.show(&["something else", "and different"]);
    running.until("the gap", |world| world.lost == 1);
    assert!(running.answerable().is_empty());
    assert!(!running.world.lock().unwrap().look.as_ref().unwrap().aligned);
}
