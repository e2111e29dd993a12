//! Capture on its thread, joined with the display, the profiles, the recognition and the journal.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::applications::Sight;
use super::{Context, traced};
use crate::capture::{self, Found, JournalLooks, Observer, Target, ViewReader, Watcher};
use crate::clock::Clock;
use crate::contract::{Conversation, ConversationId, ConversationKind};
use crate::error::Problem;
use crate::journal::{Grown, Journal};
use crate::lifecycle::Supervisor;
use crate::screen::geometry::Frame;
use crate::screen::matching;
use crate::screen::pane::PaneView;
use crate::screen::reader::{Names, PaneReader};
use crate::screen::text::ocr::Tesseract;
use crate::screen::window::{ScreenError, WindowId, WindowInfo};
use crate::screen::x11::X11;
use crate::telemetry::metrics::WindowState;
use crate::telemetry::{Metrics, Traces};

/// A clock that is shared with the other parts.
struct Shared(Arc<dyn Clock>);

impl Clock for Shared {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }
}

/// Starts the capture thread.
///
/// # Errors
/// The `[capture]` section does not fit, the display cannot be used, or language data is missing.
pub fn start(
    context: &Context,
    sight: Sight,
    journal: Journal,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    traces: &Traces,
    supervisor: &mut Supervisor,
) -> Result<(), Problem> {
    let settings: capture::Settings = context.layers.section("capture")?;
    settings.check()?;
    let windows = X11::connect(&sight.session).map_err(|error| match error {
        ScreenError::Unavailable(problem) => problem,
        other => Problem::new(other.to_string(), "the display", "Check that the display is still there"),
    })?;
    let reader = ProfiledReader::start(sight.clone(), metrics.clone())?;
    let handle = tokio::runtime::Handle::current();
    let (asked, gate) = (journal.clone(), handle.clone());
    let watcher = Watcher {
        windows,
        finder: Finder { sight, told: HashMap::new() },
        reader,
        looks: JournalLooks::new(journal, handle),
        gate: move |conversation: &Conversation| {
            gate.block_on(asked.effective_mode(conversation)).map(|(mode, _)| mode)
        },
        observer: Measured { metrics: metrics.clone(), traces: traces.clone() },
        clock: Shared(clock.clone()),
        settings,
        stop: supervisor.stop_token(),
    };
    supervisor.spawn_blocking("capture", move || watcher.run());
    Ok(())
}

/// Finds windows by the profiles, and says once of each that is refused why it is.
struct Finder {
    sight: Sight,
    told: HashMap<WindowId, String>,
}

impl capture::FindWindows for Finder {
    fn find(&mut self, windows: &[WindowInfo]) -> Found {
        let found = matching::find(windows, &self.sight.profiles, &self.sight.own_names);
        for refused in &found.refused {
            if self.told.insert(refused.window, refused.reason.clone()).as_ref() != Some(&refused.reason) {
                tracing::warn!(window = refused.window.0, reason = refused.reason, "a chat window is not read");
            }
        }
        let refused: Vec<_> = found.refused.iter().map(|refused| refused.window).collect();
        self.told.retain(|window, _| refused.contains(window));
        let targets = found.matched.into_iter().map(|matched| Target {
            window: matched.window.id,
            title: matched.window.title,
            profile: matched.conversation.application.clone(),
            conversation: matched.conversation,
            pane: matched.pane,
        });
        Found { targets: targets.collect(), refused }
    }
}

/// Reads panes by recognition; what was read of a conversation is kept for the next look.
struct ProfiledReader {
    sight: Sight,
    engines: HashMap<String, Tesseract>,
    readers: HashMap<ConversationId, PaneReader>,
    metrics: Arc<Metrics>,
}

impl ProfiledReader {
    /// Starts an engine for each profile, so that missing language data is told at the start.
    fn start(sight: Sight, metrics: Arc<Metrics>) -> Result<Self, Problem> {
        let mut engines = HashMap::new();
        for profile in &sight.profiles {
            if !engines.contains_key(&profile.ocr.language) {
                engines.insert(profile.ocr.language.clone(), Tesseract::start(&profile.ocr.language)?);
            }
        }
        Ok(Self { sight, engines, readers: HashMap::new(), metrics })
    }
}

impl ViewReader for ProfiledReader {
    fn read(&mut self, target: &Target, frame: &Frame) -> Result<PaneView, Problem> {
        let gone = || Problem::new("its profile is not in use", target.profile.clone(), "Restart autoreply");
        let profile = self.sight.profiles.iter().find(|profile| profile.name == target.profile).ok_or_else(gone)?;
        let engine = self.engines.get_mut(&profile.ocr.language).ok_or_else(gone)?;
        let reader = self.readers.entry(target.conversation.id).or_insert_with(|| {
            let direct = target.conversation.kind == ConversationKind::Direct;
            let peer = direct.then(|| target.conversation.peer.clone());
            let account = target.conversation.account.clone();
            let own = std::iter::once(account).chain(self.sight.own_names.iter().cloned()).collect();
            PaneReader::new(profile.clone(), Names { peer, own })
        });
        let began = Instant::now();
        let view = reader.read(frame, engine);
        self.metrics.ocr.observe(began.elapsed().as_secs_f64());
        view
    }
}

/// Tells the metrics and the traces.
struct Measured {
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Observer for Measured {
    fn on_look(&mut self, took: Duration) {
        self.metrics.capture_look.observe(took.as_secs_f64());
    }

    fn on_grown(&mut self, conversation: ConversationId, grown: Grown, took: Duration) {
        traced::looked(&self.traces, conversation, grown, took);
    }

    fn on_round(&mut self, watched: usize, refused: usize) {
        self.metrics.chat_windows.of(WindowState::Read).set(watched as f64);
        self.metrics.chat_windows.of(WindowState::Refused).set(refused as f64);
    }

    fn on_detected(&mut self, count: usize) {
        self.metrics.messages_detected.inc_by(count as f64);
    }

    fn on_confidence(&mut self, confidence: f64) {
        self.metrics.ocr_confidence.observe(confidence);
    }

    fn on_error(&mut self, conversation: ConversationId, error: &str) {
        self.metrics.capture_errors.inc();
        tracing::warn!(%conversation, error, "a look failed; it is tried again");
    }
}
