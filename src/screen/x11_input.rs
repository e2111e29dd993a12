//! The state of keyboard and pointer on an X11 display: grabs, held keys, the keyboard map, and whose input it was.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::Event;
use x11rb::protocol::xinput::{self, ConnectionExt as _, XIEventMask};
use x11rb::protocol::xkb::{ConnectionExt as _, ID};
use x11rb::protocol::xproto::{
    self, ConnectionExt as _, CreateWindowAux, GrabMode, GrabStatus, ModMask, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::window::ScreenError;
use crate::error::Problem;

/// XIAllMasterDevices of the X Input protocol: raw events come once, with the slave device as their source.
const ALL_MASTERS: u16 = 1;
/// An injected key whose event has not come back after this long is not waited for any more.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Keys and modifiers that are held or locked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Keycodes that are down.
    pub keys: Vec<u8>,
    /// A modifier other than Caps Lock and Num Lock is in effect.
    pub modifiers: bool,
    /// Caps Lock is on.
    pub caps_lock: bool,
    /// The layout in effect, from 0.
    pub group: u8,
}

/// The keyboard map: `per_keycode` keysyms for each keycode from `min_keycode` on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyMap {
    /// The keycode of the first entry.
    pub min_keycode: u8,
    /// Keysyms a keycode: two levels of the first layout, two of the second, and more.
    pub per_keycode: usize,
    /// The keysyms; 0 is none.
    pub keysyms: Vec<u32>,
}

/// What the person did since the last question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Anything at all, a moved pointer too.
    pub any: bool,
    /// A key, a button or a touch.
    pub pressed: bool,
}

/// Keyboard and pointer of one display. Calls block for a few milliseconds at most.
pub trait InputState: Send {
    /// Grabs the keyboard and lets go at once; `false` if somebody else holds it, which the focus does not show.
    ///
    /// # Errors
    /// The display did not answer.
    fn try_grab(&mut self) -> Result<bool, ScreenError>;
    /// What is held or locked.
    ///
    /// # Errors
    /// The display did not answer.
    fn held(&mut self) -> Result<Held, ScreenError>;
    /// The keyboard map as it is now.
    ///
    /// # Errors
    /// The display did not answer.
    fn keymap(&mut self) -> Result<KeyMap, ScreenError>;
    /// Says that we are about to inject this key, so that it does not count as the person's.
    fn expect(&mut self, keycode: u8, press: bool);
    /// What the person did since the last call; what we did not inject counts as theirs.
    ///
    /// # Errors
    /// The display did not answer.
    fn activity(&mut self) -> Result<Activity, ScreenError>;
    /// Releases those of the keys that are down.
    ///
    /// # Errors
    /// The display did not answer.
    fn release(&mut self, keycodes: &[u8]) -> Result<(), ScreenError>;
    /// Whether this is still the display's one executor.
    ///
    /// # Errors
    /// The display did not answer.
    fn owns(&mut self) -> Result<bool, ScreenError>;
}

fn lost(error: impl std::fmt::Display) -> ScreenError {
    ScreenError::Connection(error.to_string())
}
impl From<ConnectionError> for ScreenError {
    fn from(error: ConnectionError) -> Self {
        lost(error)
    }
}
impl From<ReplyError> for ScreenError {
    fn from(error: ReplyError) -> Self {
        lost(error)
    }
}
impl From<ReplyOrIdError> for ScreenError {
    fn from(error: ReplyOrIdError) -> Self {
        lost(error)
    }
}

/// A connection that can release keys; the watchdog has one of its own.
#[derive(Debug)]
pub struct KeyReleaser {
    connection: RustConnection,
    root: Window,
    screen: usize,
}

impl KeyReleaser {
    /// Connects to `display`, or to that of the environment.
    ///
    /// # Errors
    /// There is no such display.
    pub fn connect(display: Option<&str>) -> Result<Self, ScreenError> {
        let unavailable = |why: String| {
            let place = display.unwrap_or("the display of the environment");
            ScreenError::Unavailable(Problem::new(
                format!("the X11 display cannot be used for input ({why})"),
                place,
                "Start an X11 session, or set DISPLAY to one with the XTEST, XKB and XInput 2 extensions",
            ))
        };
        let (connection, screen) = x11rb::connect(display).map_err(|error| unavailable(error.to_string()))?;
        let root =
            connection.setup().roots.get(screen).map(|s| s.root).ok_or_else(|| unavailable("no screen".into()))?;
        connection.xtest_get_version(2, 2)?.reply().map_err(|_| unavailable("no XTEST".into()))?;
        Ok(Self { connection, root, screen })
    }

    /// The keycodes that are down.
    ///
    /// # Errors
    /// The display did not answer.
    pub fn down(&self) -> Result<Vec<u8>, ScreenError> {
        let keys = self.connection.query_keymap()?.reply()?.keys;
        Ok((0..=255u8).filter(|code| keys[usize::from(code / 8)] & (1 << (code % 8)) != 0).collect())
    }

    /// Releases those of `keycodes` that are down; the ones it released.
    ///
    /// # Errors
    /// The display did not answer.
    pub fn release(&self, keycodes: &[u8]) -> Result<Vec<u8>, ScreenError> {
        let stuck: Vec<u8> = self.down()?.into_iter().filter(|code| keycodes.contains(code)).collect();
        for code in &stuck {
            self.connection.xtest_fake_input(xproto::KEY_RELEASE_EVENT, *code, 0, self.root, 0, 0, 0)?;
        }
        self.connection.sync()?;
        Ok(stuck)
    }

    /// Presses a key without releasing it: for tests of the watchdog.
    ///
    /// # Errors
    /// The display did not answer.
    #[cfg(test)]
    pub(crate) fn press(&self, keycode: u8) -> Result<(), ScreenError> {
        self.connection.xtest_fake_input(xproto::KEY_PRESS_EVENT, keycode, 0, self.root, 0, 0, 0)?;
        Ok(self.connection.sync()?)
    }
}

/// Keyboard and pointer of an X11 display, and the right to be its one executor.
#[derive(Debug)]
pub struct X11Input {
    keys: KeyReleaser,
    window: Window,
    selection: xproto::Atom,
    xtest: Vec<u16>,
    expected: VecDeque<(u8, bool, Instant)>,
}

impl X11Input {
    /// Connects to `display`, or to that of the environment, and becomes its executor by owning the manager selection
    /// `_AUTOREPLY_EXECUTOR_Sn` (ICCCM section 2.8).
    ///
    /// # Errors
    /// There is no such display, or another executor works on it.
    pub fn connect(display: Option<&str>) -> Result<Self, ScreenError> {
        let keys = KeyReleaser::connect(display)?;
        let c = &keys.connection;
        c.xkb_use_extension(1, 0)?.reply()?;
        c.xinput_xi_query_version(2, 2)?.reply()?;
        let mask = XIEventMask::RAW_KEY_PRESS
            | XIEventMask::RAW_KEY_RELEASE
            | XIEventMask::RAW_BUTTON_PRESS
            | XIEventMask::RAW_BUTTON_RELEASE
            | XIEventMask::RAW_MOTION
            | XIEventMask::RAW_TOUCH_BEGIN;
        let mask = xinput::EventMask { deviceid: ALL_MASTERS, mask: vec![mask] };
        c.xinput_xi_select_events(keys.root, &[mask])?.check()?;
        let devices = c.xinput_xi_query_device(0u16)?.reply()?.infos;
        let is_xtest = |name: &[u8]| name.windows(5).any(|part| part == b"XTEST");
        let xtest = devices.iter().filter(|d| is_xtest(&d.name)).map(|d| d.deviceid).collect();
        let (window, selection) = claim(&keys)?;
        Ok(Self { keys, window, selection, xtest, expected: VecDeque::new() })
    }

    /// Whether this event is the echo of a key that we injected.
    fn is_echo(&mut self, source: u16, keycode: u32, press: bool) -> bool {
        let known = |(code, down, _): &(u8, bool, Instant)| u32::from(*code) == keycode && *down == press;
        if !self.xtest.contains(&source) {
            return false;
        }
        self.expected.iter().position(known).is_some_and(|at| self.expected.remove(at).is_some())
    }
}

/// Takes the manager selection, with the server held so that two cannot take it at once.
fn claim(keys: &KeyReleaser) -> Result<(Window, xproto::Atom), ScreenError> {
    let c = &keys.connection;
    let name = format!("_AUTOREPLY_EXECUTOR_S{}", keys.screen);
    let selection = c.intern_atom(false, name.as_bytes())?.reply()?.atom;
    let window = c.generate_id()?;
    let aux = CreateWindowAux::new();
    c.create_window(0, window, keys.root, -1, -1, 1, 1, 0, WindowClass::INPUT_ONLY, 0, &aux)?;
    c.grab_server()?;
    let owner = c.get_selection_owner(selection)?.reply()?.owner;
    if owner == x11rb::NONE {
        c.set_selection_owner(window, selection, x11rb::CURRENT_TIME)?;
    }
    c.ungrab_server()?;
    c.sync()?;
    if owner != x11rb::NONE {
        return Err(ScreenError::Unavailable(Problem::new(
            "another autoreply already types on this display",
            name,
            "Stop it, or start this one with --capture-only",
        )));
    }
    Ok((window, selection))
}

impl InputState for X11Input {
    fn try_grab(&mut self) -> Result<bool, ScreenError> {
        let c = &self.keys.connection;
        let now = x11rb::CURRENT_TIME;
        let status = c.grab_keyboard(true, self.keys.root, now, GrabMode::ASYNC, GrabMode::ASYNC)?.reply()?.status;
        c.ungrab_keyboard(now)?;
        c.sync()?;
        Ok(status == GrabStatus::SUCCESS)
    }

    fn held(&mut self) -> Result<Held, ScreenError> {
        let state = self.keys.connection.xkb_get_state(ID::USE_CORE_KBD.into())?.reply()?;
        let harmless = u16::from(ModMask::LOCK) | u16::from(ModMask::M2);
        Ok(Held {
            keys: self.keys.down()?,
            modifiers: u16::from(state.mods) & !harmless != 0,
            caps_lock: u16::from(state.locked_mods) & u16::from(ModMask::LOCK) != 0,
            group: u8::from(state.group),
        })
    }

    fn keymap(&mut self) -> Result<KeyMap, ScreenError> {
        let c = &self.keys.connection;
        let (min, max) = (c.setup().min_keycode, c.setup().max_keycode);
        let map = c.get_keyboard_mapping(min, max - min + 1)?.reply()?;
        Ok(KeyMap { min_keycode: min, per_keycode: usize::from(map.keysyms_per_keycode), keysyms: map.keysyms })
    }

    fn expect(&mut self, keycode: u8, press: bool) {
        self.expected.push_back((keycode, press, Instant::now()));
    }

    fn activity(&mut self) -> Result<Activity, ScreenError> {
        let mut activity = Activity::default();
        while let Some(event) = self.keys.connection.poll_for_event()? {
            let pressed = match event {
                Event::XinputRawKeyPress(key) => !self.is_echo(key.sourceid, key.detail, true),
                Event::XinputRawKeyRelease(key) => !self.is_echo(key.sourceid, key.detail, false),
                Event::XinputRawButtonPress(_) | Event::XinputRawButtonRelease(_) | Event::XinputRawTouchBegin(_) => {
                    true
                }
                Event::XinputRawMotion(_) => {
                    activity.any = true;
                    false
                }
                _ => false,
            };
            activity.any |= pressed;
            activity.pressed |= pressed;
        }
        self.expected.retain(|(_, _, since)| since.elapsed() < ECHO_TIMEOUT);
        Ok(activity)
    }

    fn release(&mut self, keycodes: &[u8]) -> Result<(), ScreenError> {
        self.keys.release(keycodes).map(|_| ())
    }

    fn owns(&mut self) -> Result<bool, ScreenError> {
        Ok(self.keys.connection.get_selection_owner(self.selection)?.reply()?.owner == self.window)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// An X server of its own, ended with the test; the second part is its display.
    pub(crate) struct Server(Child, pub(crate) String);

    impl Server {
        pub(crate) fn start() -> Self {
            let mut child = Command::new("Xvfb")
                .args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("Xvfb must be installed");
            let mut number = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut number).unwrap();
            Self(child, format!(":{}", number.trim()))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_display_has_one_executor() {
        let server = Server::start();
        let mut first = X11Input::connect(Some(&server.1)).unwrap();
        assert!(matches!(X11Input::connect(Some(&server.1)), Err(ScreenError::Unavailable(_))));
        assert!(first.owns().unwrap());
    }

    #[test]
    fn a_foreign_grab_shows_and_a_held_key_too() {
        let server = Server::start();
        let mut ours = X11Input::connect(Some(&server.1)).unwrap();
        let locker = KeyReleaser::connect(Some(&server.1)).unwrap();
        assert!(ours.try_grab().unwrap());
        let (c, mode) = (&locker.connection, GrabMode::ASYNC);
        c.grab_keyboard(true, locker.root, x11rb::CURRENT_TIME, mode, mode).unwrap().reply().unwrap();
        assert!(!ours.try_grab().unwrap());
        let shift = 50;
        locker.press(shift).unwrap();
        let held = ours.held().unwrap();
        assert_eq!((held.keys, held.modifiers), (vec![shift], true));
        ours.release(&[shift]).unwrap();
        assert_eq!(ours.held().unwrap(), Held::default());
    }

    #[test]
    fn what_we_did_not_inject_is_the_persons() {
        let server = Server::start();
        let mut ours = X11Input::connect(Some(&server.1)).unwrap();
        let other = KeyReleaser::connect(Some(&server.1)).unwrap();
        let seen = |ours: &mut X11Input| {
            std::thread::sleep(Duration::from_millis(50));
            ours.activity().unwrap()
        };
        ours.expect(38, true);
        ours.expect(38, false);
        other.press(38).unwrap();
        other.release(&[38]).unwrap();
        assert_eq!(seen(&mut ours), Activity::default());
        other.press(38).unwrap();
        assert_eq!(seen(&mut ours), Activity { any: true, pressed: true });
    }
}
