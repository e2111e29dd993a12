//! The windows of the desk, seen and moved as a window manager's pager would.

use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, ImageFormat, InputFocus, Window,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use crate::Fault;

use atoms::Atoms;

#[allow(missing_docs, reason = "the macro writes items that cannot be given a text")]
mod atoms {
    x11rb::atom_manager! {
        /// The names of the properties and messages used here.
        pub Atoms: AtomsCookie {
            UTF8_STRING,
            WM_DELETE_WINDOW,
            WM_PROTOCOLS,
            _NET_ACTIVE_WINDOW,
            _NET_CLIENT_LIST,
            _NET_MOVERESIZE_WINDOW,
            _NET_SUPPORTING_WM_CHECK,
            _NET_WM_NAME,
            AUTOREPLY_RIG_MARK,
        }
    }
}

/// One top-level window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its X11 id.
    pub id: Window,
    /// Its title.
    pub title: String,
    /// Its class (the second part of WM_CLASS).
    pub class: String,
}

/// What the whole display shows: four bytes a pixel, red, green, blue, 255; row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// `width * height * 4` bytes.
    pub rgbx: Vec<u8>,
}

/// A kept connection to the display.
#[derive(Debug)]
pub struct Windows {
    pub(crate) conn: RustConnection,
    pub(crate) root: Window,
    atoms: Atoms,
}

impl Windows {
    /// Connects to `display` (":5").
    ///
    /// # Errors
    /// When the display cannot be reached.
    pub fn connect(display: &str) -> Result<Self, Fault> {
        let (conn, screen) = x11rb::connect(Some(display))?;
        let root = conn.setup().roots[screen].root;
        let atoms = Atoms::new(&conn)?.reply()?;
        Ok(Self { conn, root, atoms })
    }

    /// Whether a window manager looks after the display.
    ///
    /// # Errors
    /// When the display went away.
    pub fn is_managed(&self) -> Result<bool, Fault> {
        let check = self.words(self.root, self.atoms._NET_SUPPORTING_WM_CHECK, AtomEnum::WINDOW.into())?;
        Ok(!check.is_empty())
    }

    /// All top-level windows, oldest first.
    ///
    /// # Errors
    /// When the display went away.
    pub fn all(&self) -> Result<Vec<Shown>, Fault> {
        let mut all = Vec::new();
        for id in self.words(self.root, self.atoms._NET_CLIENT_LIST, AtomEnum::WINDOW.into())? {
            // A window may close between the list and the question: then it is not there.
            let Ok(title) = self.bytes(id, self.atoms._NET_WM_NAME, self.atoms.UTF8_STRING) else { continue };
            let Ok(class) = self.bytes(id, AtomEnum::WM_CLASS.into(), AtomEnum::STRING.into()) else { continue };
            let class = class.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            all.push(Shown {
                id,
                title: String::from_utf8_lossy(&title).into_owned(),
                class: String::from_utf8_lossy(class).into_owned(),
            });
        }
        Ok(all)
    }

    /// The one window whose title contains `part`.
    ///
    /// # Errors
    /// When none or several do, or the display went away.
    pub fn find(&self, part: &str) -> Result<Shown, Fault> {
        let mut found: Vec<Shown> = self.all()?.into_iter().filter(|shown| shown.title.contains(part)).collect();
        match (found.len(), found.pop()) {
            (1, Some(shown)) => Ok(shown),
            (count, _) => Err(Fault::Window { title: part.to_owned(), found: count }),
        }
    }

    /// Waits until exactly one window's title contains `part`.
    ///
    /// # Errors
    /// What [`Windows::find`] says after `within`.
    pub fn wait_for(&self, part: &str, within: Duration) -> Result<Shown, Fault> {
        let started = Instant::now();
        loop {
            match self.find(part) {
                Err(Fault::Window { .. }) if started.elapsed() < within => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                answer => return answer,
            }
        }
    }

    /// The window the manager calls active, if any.
    ///
    /// # Errors
    /// When the display went away.
    pub fn active(&self) -> Result<Option<Window>, Fault> {
        let active = self.words(self.root, self.atoms._NET_ACTIVE_WINDOW, AtomEnum::WINDOW.into())?;
        Ok(active.first().copied().filter(|id| *id != 0))
    }

    /// Brings a window to the front and returns once it is active and really has the keyboard.
    ///
    /// # Errors
    /// When that does not happen within `within`.
    pub fn activate(&self, id: Window, within: Duration) -> Result<(), Fault> {
        let started = Instant::now();
        while started.elapsed() < within {
            if self.active()? == Some(id) && self.has_keyboard(id)? {
                return Ok(());
            }
            // 2: asked for by a pager, so that focus stealing prevention does not apply.
            self.tell_manager(id, self.atoms._NET_ACTIVE_WINDOW, [2, 0, 0, 0, 0])?;
            std::thread::sleep(Duration::from_millis(30));
        }
        Err(Fault::Display(format!("window {id:#x} did not become active within {within:?}").into()))
    }

    /// Moves and sizes a window; the place is that of its frame.
    ///
    /// # Errors
    /// When the display went away.
    pub fn place(&self, id: Window, x: u32, y: u32, width: u32, height: u32) -> Result<(), Fault> {
        // Gravity north-west, all four values given, asked for by a pager (EWMH 1.5).
        let flags = 1 | (0b1111 << 8) | (2 << 12);
        self.tell_manager(id, self.atoms._NET_MOVERESIZE_WINDOW, [flags, x, y, width, height])
    }

    /// Where a window's content is on the screen: x, y, width, height in pixels, without the manager's frame.
    ///
    /// # Errors
    /// When the window or the display went away.
    pub fn rectangle(&self, id: Window) -> Result<(i16, i16, u16, u16), Fault> {
        let size = self.conn.get_geometry(id)?.reply()?;
        let corner = self.conn.translate_coordinates(id, self.root, 0, 0)?.reply()?;
        Ok((corner.dst_x, corner.dst_y, size.width, size.height))
    }

    /// Asks a window to close, as its close button would.
    ///
    /// # Errors
    /// When the display went away.
    pub fn close(&self, id: Window) -> Result<(), Fault> {
        let data = [self.atoms.WM_DELETE_WINDOW, 0, 0, 0, 0];
        let event = ClientMessageEvent::new(32, id, self.atoms.WM_PROTOCOLS, data);
        self.conn.send_event(false, id, EventMask::NO_EVENT, event)?;
        self.conn.sync()?;
        Ok(())
    }

    /// Writes `token` on a window: its owner sees it after every event the display sent it before.
    ///
    /// # Errors
    /// When the display went away.
    pub fn mark(&self, id: Window, token: u32) -> Result<(), Fault> {
        use x11rb::protocol::xproto::PropMode;
        let name = self.atoms.AUTOREPLY_RIG_MARK;
        self.conn.change_property32(PropMode::REPLACE, id, name, AtomEnum::CARDINAL, &[token])?.check()?;
        Ok(())
    }

    /// Takes a picture of the whole display.
    ///
    /// # Errors
    /// When the display went away or is not 24 bits deep.
    pub fn capture_root(&self) -> Result<Picture, Fault> {
        let size = self.conn.get_geometry(self.root)?.reply()?;
        let (width, height) = (size.width, size.height);
        let image = self.conn.get_image(ImageFormat::Z_PIXMAP, self.root, 0, 0, width, height, !0)?.reply()?;
        let mut rgbx = image.data;
        if rgbx.len() != usize::from(width) * usize::from(height) * 4 {
            return Err(Fault::Display("its pixels are not four bytes each".into()));
        }
        for pixel in rgbx.chunks_exact_mut(4) {
            pixel.swap(0, 2);
            pixel[3] = 255;
        }
        Ok(Picture { width, height, rgbx })
    }

    pub(crate) fn mark_atom(&self) -> Atom {
        self.atoms.AUTOREPLY_RIG_MARK
    }

    pub(crate) fn title_atoms(&self) -> (Atom, Atom) {
        (self.atoms._NET_WM_NAME, self.atoms.UTF8_STRING)
    }

    /// Whether the input focus is in the window or in one inside it.
    fn has_keyboard(&self, id: Window) -> Result<bool, Fault> {
        let mut focus = self.conn.get_input_focus()?.reply()?.focus;
        while focus != id {
            if focus == self.root || focus <= u32::from(InputFocus::POINTER_ROOT) {
                return Ok(false);
            }
            // The focused window may have closed since.
            let Ok(tree) = self.conn.query_tree(focus)?.reply() else { return Ok(false) };
            focus = tree.parent;
        }
        Ok(true)
    }

    fn tell_manager(&self, id: Window, message: Atom, data: [u32; 5]) -> Result<(), Fault> {
        let event = ClientMessageEvent::new(32, id, message, data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event)?;
        self.conn.sync()?;
        Ok(())
    }

    fn words(&self, id: Window, name: Atom, kind: Atom) -> Result<Vec<u32>, Fault> {
        let reply = self.conn.get_property(false, id, name, kind, 0, 1024)?.reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    }

    fn bytes(&self, id: Window, name: Atom, kind: Atom) -> Result<Vec<u8>, Fault> {
        Ok(self.conn.get_property(false, id, name, kind, 0, 1024)?.reply()?.value)
    }
}
