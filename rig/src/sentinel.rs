//! A plain window beside HexChat that records every key and button it gets.
//!
//! A key that autoreply presses while the wrong window has the keyboard lands here and is seen.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use x11rb::connection::Connection;
use x11rb::protocol::Event as XEvent;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use crate::child::{Kin, tied};
use crate::lines::{Collected, report};
use crate::windows::Windows;
use crate::{Fault, now_ms};

/// The sentinel's title.
pub const TITLE: &str = "sentinel";

/// What a sentinel reports, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The window is there.
    Ready {
        /// Its X11 id.
        window: u32,
    },
    /// A key was pressed.
    Key(Key),
    /// A pointer button was pressed.
    Button {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Which.
        button: u8,
    },
    /// The window got or lost the keyboard.
    Focus {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Whether it got it.
        has: bool,
    },
    /// The watcher's mark was seen: everything before it has been reported.
    Mark {
        /// How many marks there were.
        count: u32,
    },
}

/// One key press.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// When it was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// The hardware's number for the key.
    pub keycode: u8,
    /// The modifiers held, as X11's bits.
    pub modifiers: u16,
    /// Whether another program sent it past the keyboard (SendEvent).
    pub synthetic: bool,
}

/// Is the sentinel: shows a window on `display` at x, y and reports what it gets until the display goes away.
#[must_use]
pub fn run(display: &str, x: i16, y: i16) -> ExitCode {
    // It only returns with an error: standard error is its log file.
    if let Err(fault) = stand(display, x, y) {
        let _ = writeln!(std::io::stderr(), "the sentinel ended: {fault}");
    }
    ExitCode::FAILURE
}

fn stand(display: &str, x: i16, y: i16) -> Result<(), Fault> {
    let windows = Windows::connect(display)?;
    let window = show(&windows, x, y)?;
    let tell = |event: Event| report(&event).map_err(Fault::io("reporting an event"));
    let (mut marks, mut shown) = (0, false);
    loop {
        match windows.conn.wait_for_event()? {
            XEvent::Expose(_) if !shown => {
                shown = true;
                tell(Event::Ready { window })?;
            }
            XEvent::KeyPress(key) => tell(Event::Key(Key {
                at_ms: now_ms(),
                keycode: key.detail,
                modifiers: u16::from(key.state),
                synthetic: key.response_type & 0x80 != 0,
            }))?,
            XEvent::ButtonPress(press) => tell(Event::Button { at_ms: now_ms(), button: press.detail })?,
            XEvent::FocusIn(_) => tell(Event::Focus { at_ms: now_ms(), has: true })?,
            XEvent::FocusOut(_) => tell(Event::Focus { at_ms: now_ms(), has: false })?,
            XEvent::PropertyNotify(change) if change.atom == windows.mark_atom() => {
                marks += 1;
                tell(Event::Mark { count: marks })?;
            }
            _ => {}
        }
    }
}

fn show(windows: &Windows, x: i16, y: i16) -> Result<Window, Fault> {
    let conn = &windows.conn;
    let window = conn.generate_id()?;
    let events = EventMask::KEY_PRESS
        | EventMask::BUTTON_PRESS
        | EventMask::FOCUS_CHANGE
        | EventMask::EXPOSURE
        | EventMask::PROPERTY_CHANGE;
    let look = CreateWindowAux::new().event_mask(events).background_pixel(0x00ff_ffff);
    let depth = x11rb::COPY_DEPTH_FROM_PARENT;
    conn.create_window(depth, window, windows.root, x, y, 240, 160, 0, WindowClass::INPUT_OUTPUT, 0, &look)?;
    let (name, utf8) = windows.title_atoms();
    conn.change_property8(PropMode::REPLACE, window, name, utf8, TITLE.as_bytes())?;
    conn.change_property8(PropMode::REPLACE, window, AtomEnum::WM_NAME, AtomEnum::STRING, TITLE.as_bytes())?;
    conn.change_property8(PropMode::REPLACE, window, AtomEnum::WM_CLASS, AtomEnum::STRING, b"sentinel\0Sentinel\0")?;
    // WM_NORMAL_HINTS: flag 1 says that the place was chosen by the user, so the manager keeps it.
    let mut hints = [0_u32; 18];
    hints[0] = 1;
    conn.change_property32(PropMode::REPLACE, window, AtomEnum::WM_NORMAL_HINTS, AtomEnum::WM_SIZE_HINTS, &hints)?;
    conn.map_window(window)?;
    conn.flush()?;
    Ok(window)
}

/// A sentinel in a process of its own, and everything it has reported.
#[derive(Debug)]
pub struct SentinelHandle {
    kin: Kin,
    window: Window,
    windows: Windows,
    events: Collected<Event>,
    marks: AtomicU32,
}

impl SentinelHandle {
    /// Starts `program args... --display DISPLAY --x X --y Y`, which must end in [`run`], and waits for its window.
    /// Its log is `sentinel.log` in `logs`.
    ///
    /// # Errors
    /// When it cannot be started or shows no window within 10 s.
    pub fn start(program: &Path, args: &[&str], display: &str, at: (i16, i16), logs: &Path) -> Result<Self, Fault> {
        let log = logs.join("sentinel.log");
        let mut command = tied(program);
        command.args(args).args(["--display", display, "--x", &at.0.to_string(), "--y", &at.1.to_string()]);
        command.stdin(std::process::Stdio::null());
        let mut kin = Kin::start("the sentinel", command, &log, true)?;
        let Some(output) = kin.take_output() else {
            return Err(Fault::Start { program: "sentinel".into(), source: std::io::Error::other("it has no pipe") });
        };
        let events: Collected<Event> = Collected::from(output);
        let within = Duration::from_secs(10);
        let ready = |events: &[Event]| {
            events.iter().find_map(|event| match event {
                Event::Ready { window } => Some(*window),
                _ => None,
            })
        };
        let Some(window) = events.wait(within, ready) else {
            kin.check_alive()?;
            return Err(Fault::Late { what: "the sentinel's window".into(), within, log });
        };
        Ok(Self { kin, window, windows: Windows::connect(display)?, events, marks: AtomicU32::new(0) })
    }

    /// The sentinel's window.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// The sentinel's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.kin.pid()
    }

    /// Everything the window has got up to now. The display is asked to confirm it, so that nothing is still on its
    /// way: an empty answer proves that nothing came.
    ///
    /// # Errors
    /// When the sentinel or the display has gone: then silence proves nothing.
    pub fn events(&self) -> Result<Vec<Event>, Fault> {
        let token = self.marks.fetch_add(1, Ordering::SeqCst) + 1;
        self.windows.mark(self.window, token)?;
        let within = Duration::from_secs(5);
        let marked = |events: &[Event]| {
            let seen = events.iter().any(|event| matches!(event, Event::Mark { count } if *count >= token));
            seen.then(|| events.to_vec())
        };
        self.events.wait(within, marked).ok_or_else(|| Fault::Late {
            what: "the sentinel's answer".into(),
            within,
            log: self.kin.log().to_owned(),
        })
    }

    /// Every key press the window has got up to now, confirmed like [`SentinelHandle::events`].
    ///
    /// # Errors
    /// When the sentinel or the display has gone.
    pub fn keys(&self) -> Result<Vec<Key>, Fault> {
        let key = |event| if let Event::Key(key) = event { Some(key) } else { None };
        Ok(self.events()?.into_iter().filter_map(key).collect())
    }
}
