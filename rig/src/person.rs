//! The human at the desk: focuses a window, types, presses Return, through the display's test extension.

use std::time::Duration;

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt as _, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, Keycode, Keysym};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::wrapper::ConnectionExt as _;

use crate::Fault;
use crate::windows::{Shown, Windows};

const PATIENCE: Duration = Duration::from_secs(10);
const RETURN: Keysym = 0xff0d;
const SHIFT_LEFT: Keysym = 0xffe1;

/// Someone with hands on the keyboard. Their events look like those of any program that uses XTEST.
#[derive(Debug)]
pub struct Person {
    windows: Windows,
    first: Keycode,
    width: usize,
    keysyms: Vec<Keysym>,
    pace: Duration,
}

impl Person {
    /// Sits down at `display`. They type with 5 ms between keys.
    ///
    /// # Errors
    /// When the display cannot be reached or has no test extension.
    pub fn new(display: &str) -> Result<Self, Fault> {
        let windows = Windows::connect(display)?;
        windows.conn.xtest_get_version(2, 2)?.reply()?;
        let setup = windows.conn.setup();
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let map = windows.conn.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        let width = usize::from(map.keysyms_per_keycode).max(1);
        Ok(Self { windows, first, width, keysyms: map.keysyms, pace: Duration::from_millis(5) })
    }

    /// Changes the time between two keys.
    pub fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// The windows as the person sees them.
    #[must_use]
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Brings the one window whose title contains `part` to the front and waits until it has the keyboard.
    ///
    /// # Errors
    /// When not exactly one window has the title, or it does not become active within 10 s.
    pub fn focus(&self, part: &str) -> Result<Shown, Fault> {
        let shown = self.windows.find(part)?;
        self.windows.activate(shown.id, PATIENCE)?;
        Ok(shown)
    }

    /// Types characters that are on the keyboard, with Shift where needed, into whatever has the keyboard.
    ///
    /// # Errors
    /// Before the first key, when a character is not on the keyboard; or when the display went away.
    pub fn type_text(&self, text: &str) -> Result<(), Fault> {
        let keys: Vec<_> = text.chars().map(|wanted| self.key_for(wanted)).collect::<Result<_, _>>()?;
        let shift = self.keycode(SHIFT_LEFT, 0).ok_or(Fault::NoKey('\u{21e7}'))?;
        for (keycode, shifted) in keys {
            if shifted {
                self.move_key(KEY_PRESS_EVENT, shift)?;
            }
            self.tap(keycode)?;
            if shifted {
                self.move_key(KEY_RELEASE_EVENT, shift)?;
            }
            self.windows.conn.sync()?;
            std::thread::sleep(self.pace);
        }
        Ok(())
    }

    /// Presses and releases Return.
    ///
    /// # Errors
    /// When the keyboard has none or the display went away.
    pub fn press_return(&self) -> Result<(), Fault> {
        self.press(RETURN)
    }

    /// Presses and releases an unshifted key by its keysym (0xff1b is Escape).
    ///
    /// # Errors
    /// When the keyboard has none or the display went away.
    pub fn press(&self, keysym: Keysym) -> Result<(), Fault> {
        let keycode = self.keycode(keysym, 0).ok_or(Fault::NoKey('\u{fffd}'))?;
        self.tap(keycode)?;
        self.windows.conn.sync()?;
        Ok(())
    }

    /// Types a line into the window and presses Return.
    ///
    /// # Errors
    /// Those of [`Person::focus`] and [`Person::type_text`].
    pub fn say(&self, title_part: &str, text: &str) -> Result<(), Fault> {
        self.focus(title_part)?;
        self.type_text(text)?;
        self.press_return()
    }

    /// Opens the private window for `peer` by typing `/query` into HexChat's main window, and waits for it.
    ///
    /// # Errors
    /// Those of [`Person::say`], or when the window does not come within 10 s.
    pub fn open_dialog(&self, peer: &str) -> Result<Shown, Fault> {
        self.say(crate::desk::MAIN_TITLE, &format!("/query {peer}"))?;
        self.windows.wait_for(&crate::desk::dialog_title(peer), PATIENCE)
    }

    fn key_for(&self, wanted: char) -> Result<(Keycode, bool), Fault> {
        // Keysyms of Latin-1 are the characters' numbers (X11 protocol, appendix A).
        let keysym = Some(u32::from(wanted)).filter(|number| matches!(number, 0x20..=0x7e | 0xa0..=0xff));
        let keysym = keysym.ok_or(Fault::NoKey(wanted))?;
        let plain = self.keycode(keysym, 0).map(|keycode| (keycode, false));
        plain.or_else(|| self.keycode(keysym, 1).map(|keycode| (keycode, true))).ok_or(Fault::NoKey(wanted))
    }

    fn keycode(&self, keysym: Keysym, level: usize) -> Option<Keycode> {
        let row = self.keysyms.chunks(self.width).position(|row| row.get(level) == Some(&keysym))?;
        self.first.checked_add(u8::try_from(row).ok()?)
    }

    fn tap(&self, keycode: Keycode) -> Result<(), Fault> {
        self.move_key(KEY_PRESS_EVENT, keycode)?;
        self.move_key(KEY_RELEASE_EVENT, keycode)
    }

    fn move_key(&self, kind: u8, keycode: Keycode) -> Result<(), Fault> {
        self.windows.conn.xtest_fake_input(kind, keycode, x11rb::CURRENT_TIME, x11rb::NONE, 0, 0, 0)?;
        Ok(())
    }
}
