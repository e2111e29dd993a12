//! Windows on X11: enumerated by xcap, read by x11rb over one connection that is kept open.
//!
//! Covered windows are right because the server is asked to keep every window's pixels apart (the Composite
//! extension, automatic redirection) as long as this connection lives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use x11rb::connection::Connection as _;
use x11rb::protocol::composite::{ConnectionExt as _, Redirect};
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, ImageFormat, MapState, Window,
};
use x11rb::protocol::{ErrorKind, Event};
use x11rb::rust_connection::RustConnection;

use super::geometry::{Frame, Rect};
use super::window::{ScreenError, WindowId, WindowInfo, WindowSystem};
use crate::error::Problem;

x11rb::atom_manager! {
    /// The atoms this room asks for.
    Atoms: AtomsCookie {
        _NET_ACTIVE_WINDOW,
        _NET_CLIENT_LIST,
        _NET_SUPPORTING_WM_CHECK,
        _NET_WM_NAME,
        _NET_WM_PID,
        _NET_WM_STATE,
        _NET_WM_STATE_HIDDEN,
        UTF8_STRING,
    }
}

/// How long an activation may take until the window manager agrees.
const ACTIVATION_MS: u64 = 500;

/// What the environment says of the session, handed in by the role.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The X display, as `:0`; `DISPLAY`.
    pub display: Option<String>,
    /// The Wayland display; `WAYLAND_DISPLAY`.
    pub wayland_display: Option<String>,
    /// `x11`, `wayland` or `tty`; `XDG_SESSION_TYPE`.
    pub kind: Option<String>,
}

impl Session {
    /// The X display to connect to.
    ///
    /// # Errors
    /// There is none, or it is a Wayland session, in which other applications' windows cannot be read or typed into.
    pub fn x_display(&self) -> Result<&str, Problem> {
        if self.kind.as_deref() == Some("wayland") || (self.display.is_none() && self.wayland_display.is_some()) {
            return Err(Problem::new(
                "this is a Wayland session, and Wayland lets no program read or type into another's window",
                "the display",
                "Log in with an X11 (Xorg) session; most login screens offer one beside the password field",
            ));
        }
        self.display.as_deref().ok_or_else(|| {
            Problem::new(
                "there is no display",
                "the display",
                "Start autoreply in a desktop session, or set DISPLAY to the X display that shows the chat window",
            )
        })
    }
}

/// One connection to an X server.
#[derive(Debug)]
pub struct X11 {
    connection: RustConnection,
    root: Window,
    atoms: Atoms,
    /// What is watched of each window.
    watched: BTreeMap<Window, Rect>,
    /// xcap knows only the display that the environment of this process names.
    seen_by_xcap: bool,
}

impl X11 {
    /// Connects to the session's display and checks that what is needed is there.
    ///
    /// # Errors
    /// No display, Wayland, a server without the Composite or Damage extension, pixels of an unknown form, or no
    /// window manager that speaks EWMH.
    pub fn connect(session: &Session) -> Result<Self, ScreenError> {
        let display = session.x_display().map_err(ScreenError::Unavailable)?;
        let (connection, number) = x11rb::connect(Some(display)).map_err(|error| {
            ScreenError::Unavailable(Problem::new(
                format!("no X server answers ({error})"),
                format!("display {display}"),
                "Check DISPLAY and, for another user's display, the access rights (xhost, XAUTHORITY)",
            ))
        })?;
        let screen = &connection.setup().roots[number];
        let (root, depth, lsb) = (screen.root, screen.root_depth, u8::from(connection.setup().image_byte_order) == 0);
        if !matches!(depth, 24 | 32) || !lsb {
            return Err(ScreenError::Unavailable(Problem::new(
                format!("its pixels have a form that is not supported (depth {depth}, little endian: {lsb})"),
                format!("display {display}"),
                "Use a display with 24 or 32 bits a pixel on a little-endian machine",
            )));
        }
        let atoms = Atoms::new(&connection).map_err(lost)?.reply().map_err(answer)?;
        let x11 = Self { connection, root, atoms, watched: BTreeMap::new(), seen_by_xcap: is_default_display(display) };
        x11.require_extensions(display)?;
        x11.require_window_manager(display)?;
        Ok(x11)
    }

    fn require_extensions(&self, display: &str) -> Result<(), ScreenError> {
        let missing = |name: &str| {
            ScreenError::Unavailable(Problem::new(
                format!("its X server lacks the {name} extension"),
                format!("display {display}"),
                "Use an X server with Composite and Damage: Xorg, Xvfb and Xwayland have both",
            ))
        };
        let version = self.connection.composite_query_version(0, 4).map_err(lost).map(|cookie| cookie.reply());
        version?.map_err(|_| missing("Composite"))?;
        let version = self.connection.damage_query_version(1, 1).map_err(lost).map(|cookie| cookie.reply());
        version?.map_err(|_| missing("Damage"))?;
        self.connection
            .composite_redirect_subwindows(self.root, Redirect::AUTOMATIC)
            .map_err(lost)?
            .check()
            .map_err(answer)
    }

    fn require_window_manager(&self, display: &str) -> Result<(), ScreenError> {
        if self.property32(self.root, self.atoms._NET_SUPPORTING_WM_CHECK)?.is_some() {
            return Ok(());
        }
        Err(ScreenError::Unavailable(Problem::new(
            "no window manager that lists its windows (EWMH) is running",
            format!("display {display}"),
            "Start one; every desktop has one, and openbox is a light one",
        )))
    }

    fn property32(&self, window: Window, name: Atom) -> Result<Option<u32>, ScreenError> {
        let reply = self.connection.get_property(false, window, name, AtomEnum::ANY, 0, 1).map_err(lost)?;
        match reply.reply() {
            Ok(reply) => Ok(reply.value32().and_then(|mut values| values.next())),
            Err(error) => self.unless_gone(window, error).map(|()| None),
        }
    }

    /// The ids of the top-level windows; some may have gone meanwhile.
    fn listed(&self) -> Result<Vec<Window>, ScreenError> {
        if self.seen_by_xcap {
            let listed = xcap::Window::all().map_err(|error| ScreenError::Connection(error.to_string()))?;
            return Ok(listed.iter().filter_map(|window| window.id().ok()).collect());
        }
        let name = self.atoms._NET_CLIENT_LIST;
        let reply = self.connection.get_property(false, self.root, name, AtomEnum::WINDOW, 0, 4096).map_err(lost)?;
        Ok(reply.reply().map_err(answer)?.value32().map(Iterator::collect).unwrap_or_default())
    }

    fn property_bytes(&self, window: Window, name: Atom) -> Result<Vec<u8>, ScreenError> {
        let reply = self.connection.get_property(false, window, name, AtomEnum::ANY, 0, 4096).map_err(lost)?;
        reply.reply().map(|reply| reply.value).map_err(|error| of_window(window, error))
    }

    fn unless_gone(&self, window: Window, error: x11rb::errors::ReplyError) -> Result<(), ScreenError> {
        Err(of_window(window, error))
    }

    fn title_of(&self, window: Window) -> Result<String, ScreenError> {
        let name = self.property_bytes(window, self.atoms._NET_WM_NAME)?;
        let name = if name.is_empty() { self.property_bytes(window, AtomEnum::WM_NAME.into())? } else { name };
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    fn is_hidden(&self, window: Window) -> Result<bool, ScreenError> {
        let attributes = self.connection.get_window_attributes(window).map_err(lost)?;
        if attributes.reply().map_err(|error| of_window(window, error))?.map_state != MapState::VIEWABLE {
            return Ok(true);
        }
        let states = self.property_bytes(window, self.atoms._NET_WM_STATE)?;
        let hidden = self.atoms._NET_WM_STATE_HIDDEN.to_ne_bytes();
        Ok(states.chunks_exact(4).any(|state| state == hidden))
    }

    /// Takes what has been reported and lets the server report the next; the windows whose watched region changed.
    fn drain_changes(&self) -> Result<Vec<WindowId>, ScreenError> {
        let (mut reported, mut changed) = (BTreeSet::new(), BTreeSet::new());
        while let Some(event) = self.connection.poll_for_event().map_err(lost)? {
            let Event::DamageNotify(notice) = event else { continue };
            reported.insert(notice.damage);
            let area = Rect {
                x: i32::from(notice.area.x),
                y: i32::from(notice.area.y),
                width: u32::from(notice.area.width),
                height: u32::from(notice.area.height),
            };
            if self.watched.get(&notice.drawable).is_some_and(|region| region.overlaps(&area)) {
                changed.insert(WindowId(notice.drawable));
            }
        }
        // Before anybody captures: what is damaged again up to here is in the capture that the report leads to.
        for damage in reported {
            self.connection.damage_subtract(damage, x11rb::NONE, x11rb::NONE).map_err(lost)?;
        }
        self.connection.flush().map_err(lost)?;
        Ok(changed.into_iter().collect())
    }

    fn focus_is_in(&self, window: Window) -> Result<bool, ScreenError> {
        let mut at = self.connection.get_input_focus().map_err(lost)?.reply().map_err(answer)?.focus;
        // The focus may be a child of the top-level window, as toolkits make one for their input.
        while at > 1 && at != self.root {
            if at == window {
                return Ok(true);
            }
            let Ok(tree) = self.connection.query_tree(at).map_err(lost)?.reply() else { return Ok(false) };
            at = tree.parent;
        }
        Ok(false)
    }
}

impl WindowSystem for X11 {
    fn windows(&mut self) -> Result<Vec<WindowInfo>, ScreenError> {
        let mut windows = Vec::new();
        for id in self.listed()? {
            match self.window(WindowId(id)) {
                Ok(info) => windows.push(info),
                Err(ScreenError::Gone(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(windows)
    }

    fn window(&mut self, id: WindowId) -> Result<WindowInfo, ScreenError> {
        let geometry = self.connection.get_geometry(id.0).map_err(lost)?;
        let geometry = geometry.reply().map_err(|error| of_window(id.0, error))?;
        let place = self.connection.translate_coordinates(id.0, self.root, 0, 0).map_err(lost)?;
        let place = place.reply().map_err(|error| of_window(id.0, error))?;
        let class = self.property_bytes(id.0, AtomEnum::WM_CLASS.into())?;
        let application = class.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        Ok(WindowInfo {
            id,
            application: String::from_utf8_lossy(application).into_owned(),
            title: self.title_of(id.0)?,
            pid: self.property32(id.0, self.atoms._NET_WM_PID)?,
            rect: Rect {
                x: i32::from(place.dst_x),
                y: i32::from(place.dst_y),
                width: u32::from(geometry.width),
                height: u32::from(geometry.height),
            },
            hidden: self.is_hidden(id.0)?,
        })
    }

    fn capture(&mut self, id: WindowId, region: Rect) -> Result<Frame, ScreenError> {
        let geometry = self.connection.get_geometry(id.0).map_err(lost)?;
        let geometry = geometry.reply().map_err(|error| of_window(id.0, error))?;
        let clipped = clip(region, u32::from(geometry.width), u32::from(geometry.height));
        if clipped.width == 0 || clipped.height == 0 {
            return Ok(Frame::default());
        }
        let (x, y) = (clipped.x as i16, clipped.y as i16);
        let (width, height) = (clipped.width as u16, clipped.height as u16);
        let image = self
            .connection
            .get_image(ImageFormat::Z_PIXMAP, id.0, x, y, width, height, u32::MAX)
            .map_err(lost)?
            .reply()
            .map_err(|error| of_window(id.0, error))?;
        let mut pixels = image.data;
        // The server's order is blue, green, red, unused.
        for pixel in pixels.chunks_exact_mut(4) {
            pixel.swap(0, 2);
            pixel[3] = 0;
        }
        Ok(Frame { width: clipped.width, height: clipped.height, rgbx: pixels })
    }

    fn watch(&mut self, id: WindowId, region: Rect) -> Result<(), ScreenError> {
        if let Some(watched) = self.watched.get_mut(&id.0) {
            *watched = region;
            return Ok(());
        }
        let damage = self.connection.generate_id().map_err(|error| ScreenError::Connection(error.to_string()))?;
        // Each rectangle that was not damaged before is told, so that one outside the region hides none inside it.
        self.connection
            .damage_create(damage, id.0, ReportLevel::DELTA_RECTANGLES)
            .map_err(lost)?
            .check()
            .map_err(|error| of_window(id.0, error))?;
        self.watched.insert(id.0, region);
        Ok(())
    }

    fn wait_change(&mut self, timeout: Duration) -> Result<Vec<WindowId>, ScreenError> {
        let changed = self.drain_changes()?;
        if !changed.is_empty() || timeout.is_zero() {
            return Ok(changed);
        }
        let deadline = std::time::Instant::now() + timeout;
        loop {
            // Sleeping in small steps costs less than a thread that blocks on the socket, and the stop is seen.
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
            let changed = self.drain_changes()?;
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    fn active(&mut self) -> Result<Option<WindowId>, ScreenError> {
        Ok(self.property32(self.root, self.atoms._NET_ACTIVE_WINDOW)?.filter(|window| *window != 0).map(WindowId))
    }

    fn activate(&mut self, id: WindowId) -> Result<(), ScreenError> {
        // A window manager ignores what asks for a window that has gone: say so at once.
        self.connection.get_geometry(id.0).map_err(lost)?.reply().map_err(|error| of_window(id.0, error))?;
        // Source 2: a pager, that is, on behalf of a person; window managers do not refuse it.
        let message =
            ClientMessageEvent::new(32, id.0, self.atoms._NET_ACTIVE_WINDOW, [2, x11rb::CURRENT_TIME, 0, 0, 0]);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.connection.send_event(false, self.root, mask, message).map_err(lost)?;
        self.connection.flush().map_err(lost)?;
        let deadline = std::time::Instant::now() + Duration::from_millis(ACTIVATION_MS);
        loop {
            if self.active()? == Some(id) && self.focus_is_in(id.0)? {
                return Ok(());
            }
            if std::time::Instant::now() >= deadline {
                return Err(ScreenError::Connection(format!(
                    "the window manager did not give the keyboard to window {:#x} within {ACTIVATION_MS} ms",
                    id.0
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The part of `region` that lies in a window of this size.
fn clip(region: Rect, width: u32, height: u32) -> Rect {
    let span = |start: i32, length: u32, limit: u32| -> (i32, u32) {
        let from = i64::from(start).clamp(0, i64::from(limit));
        let to = (i64::from(start) + i64::from(length)).clamp(from, i64::from(limit));
        (i32::try_from(from).unwrap_or(0), u32::try_from(to - from).unwrap_or(0))
    };
    let ((x, width), (y, height)) = (span(region.x, region.width, width), span(region.y, region.height, height));
    Rect { x, y, width, height }
}

fn lost(error: x11rb::errors::ConnectionError) -> ScreenError {
    ScreenError::Connection(error.to_string())
}

fn answer(error: x11rb::errors::ReplyError) -> ScreenError {
    ScreenError::Connection(error.to_string())
}

#[allow(clippy::disallowed_methods, reason = "xcap reads this variable itself and takes no other display")]
fn is_default_display(display: &str) -> bool {
    std::env::var("DISPLAY").is_ok_and(|default| default == display)
}

/// An error about one window usually says that it has gone.
fn of_window(window: Window, error: x11rb::errors::ReplyError) -> ScreenError {
    match &error {
        x11rb::errors::ReplyError::X11Error(refusal)
            if matches!(refusal.error_kind, ErrorKind::Window | ErrorKind::Drawable) =>
        {
            ScreenError::Gone(WindowId(window))
        }
        x11rb::errors::ReplyError::X11Error(refusal) if refusal.error_kind == ErrorKind::Match => {
            ScreenError::Unviewable(WindowId(window))
        }
        _ => answer(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x11rb::protocol::xproto::{ConfigureWindowAux, CreateWindowAux, PropMode, WindowClass};
    use x11rb::wrapper::ConnectionExt as _;

    use super::*;
    use crate::screen::x11_input::tests::Server;

    proptest! {
        #[test]
        fn what_is_clipped_lies_in_the_window(x in -5000..5000i32, y in -5000..5000i32, w in 0..9000u32, h in 0..9000u32) {
            let clipped = clip(Rect { x, y, width: w, height: h }, 900, 700);
            prop_assert!(clipped.x >= 0 && clipped.x as u32 + clipped.width <= 900);
            prop_assert!(clipped.y >= 0 && clipped.y as u32 + clipped.height <= 700);
            prop_assert!(clipped.width <= w && clipped.height <= h);
        }
    }

    /// A client on a server of its own that plays the window manager: it lists two windows, the second covers the first.
    struct Scene {
        client: RustConnection,
        below: Window,
        above: Window,
        server: Server,
    }

    impl Scene {
        fn new() -> Self {
            let server = Server::start();
            let (client, number) = x11rb::connect(Some(&server.1)).unwrap();
            let root = client.setup().roots[number].root;
            let [below, above] = [0x00cc_3300u32, 0x0000_00ff].map(|colour| {
                let id = client.generate_id().unwrap();
                let values = CreateWindowAux::new().background_pixel(colour);
                let class = WindowClass::INPUT_OUTPUT;
                client.create_window(24, id, root, 10, 20, 50, 40, 0, class, x11rb::COPY_FROM_PARENT, &values).unwrap();
                client
                    .change_property8(PropMode::REPLACE, id, AtomEnum::WM_CLASS, AtomEnum::STRING, b"chat\0Chat\0")
                    .unwrap();
                client.change_property8(PropMode::REPLACE, id, AtomEnum::WM_NAME, AtomEnum::STRING, b"Dialog").unwrap();
                client.map_window(id).unwrap();
                id
            });
            let atoms = Atoms::new(&client).unwrap().reply().unwrap();
            for (name, windows) in
                [(atoms._NET_SUPPORTING_WM_CHECK, &[above][..]), (atoms._NET_CLIENT_LIST, &[below, above])]
            {
                client.change_property32(PropMode::REPLACE, root, name, AtomEnum::WINDOW, windows).unwrap();
            }
            let scene = Self { client, below, above, server };
            scene.settle();
            scene
        }

        fn connect(&self) -> X11 {
            X11::connect(&Session { display: Some(self.server.1.clone()), ..Session::default() }).unwrap()
        }

        /// Lets the server finish what it was asked.
        fn settle(&self) {
            self.client.get_input_focus().unwrap().reply().unwrap();
        }

        fn repaint(&self, window: Window) {
            self.client.clear_area(false, window, 0, 0, 0, 0).unwrap();
            self.settle();
        }
    }

    const PLACE: Rect = Rect { x: 5, y: 5, width: 500, height: 10 };

    #[test]
    fn windows_of_another_display_than_the_environments_are_listed() {
        let scene = Scene::new();
        let windows = scene.connect().windows().unwrap();
        assert_eq!(windows.iter().map(|window| window.id.0).collect::<Vec<_>>(), [scene.below, scene.above]);
        assert_eq!((windows[0].application.as_str(), windows[0].title.as_str()), ("Chat", "Dialog"));
        assert_eq!(windows[0].rect, Rect { x: 10, y: 20, width: 50, height: 40 });
        assert!(!windows[0].hidden);
    }

    #[test]
    fn covered_and_half_outside_windows_show_their_own_pixels() {
        let scene = Scene::new();
        let mut x11 = scene.connect();
        scene.repaint(scene.below);
        let frame = x11.capture(WindowId(scene.below), PLACE).unwrap();
        assert_eq!((frame.width, frame.height), (45, 10), "clipped to the window");
        assert!(frame.rgbx.chunks(4).all(|pixel| pixel == [0xcc, 0x33, 0, 0]), "the window above must not show");
        scene.client.configure_window(scene.below, &ConfigureWindowAux::new().x(-30)).unwrap();
        scene.settle();
        scene.repaint(scene.below);
        let frame = x11.capture(WindowId(scene.below), PLACE).unwrap();
        assert!(frame.rgbx.chunks(4).all(|pixel| pixel == [0xcc, 0x33, 0, 0]));
    }

    #[test]
    fn a_hidden_window_is_not_taken_for_one_that_has_gone() {
        let scene = Scene::new();
        let mut x11 = scene.connect();
        scene.client.unmap_window(scene.below).unwrap();
        scene.settle();
        assert!(x11.window(WindowId(scene.below)).unwrap().hidden);
        assert!(matches!(x11.capture(WindowId(scene.below), PLACE), Err(ScreenError::Unviewable(_))));
        scene.client.destroy_window(scene.below).unwrap();
        scene.settle();
        let gone = ScreenError::Gone(WindowId(scene.below));
        assert_eq!(x11.window(WindowId(scene.below)), Err(gone.clone()));
        assert_eq!(x11.capture(WindowId(scene.below), PLACE), Err(gone.clone()));
        assert_eq!(x11.watch(WindowId(scene.below), PLACE), Err(gone.clone()));
        assert_eq!(x11.activate(WindowId(scene.below)), Err(gone));
    }

    /// What was reported so far: the server sends what it has to say of a change before it answers a later question.
    fn told(x11: &X11) -> Vec<WindowId> {
        x11.connection.get_input_focus().unwrap().reply().unwrap();
        x11.drain_changes().unwrap()
    }

    #[test]
    fn a_change_is_told_once_for_each_time_it_is_asked() {
        let scene = Scene::new();
        let mut x11 = scene.connect();
        let above = [WindowId(scene.above)];
        x11.watch(above[0], PLACE).unwrap();
        assert_eq!(told(&x11), above, "a window that is new here has changed");
        assert_eq!(told(&x11), []);
        for _ in 0..20 {
            scene.repaint(scene.above);
            assert_eq!(told(&x11), above);
            assert_eq!(told(&x11), [], "one painting is told in one go");
        }
        scene.repaint(scene.above);
        scene.repaint(scene.above);
        assert_eq!(told(&x11), above, "two that nobody asked about are one");
        assert_eq!(told(&x11), []);
        scene.repaint(scene.above);
        assert_eq!(x11.wait_change(Duration::from_secs(5)).unwrap(), above);
    }

    #[test]
    fn only_the_watched_region_counts() {
        let scene = Scene::new();
        let mut x11 = scene.connect();
        let above = [WindowId(scene.above)];
        // The window is 50 wide, 40 high; its lowest 10 rows are where a caret blinks.
        x11.watch(above[0], Rect { x: 0, y: 0, width: 50, height: 30 }).unwrap();
        assert_eq!(told(&x11), above);
        let paint = |y: i16, height: u16| {
            scene.client.clear_area(false, scene.above, 5, y, 2, height).unwrap();
            scene.settle();
        };
        for _ in 0..3 {
            paint(30, 10);
            assert_eq!(told(&x11), [], "the caret");
        }
        paint(29, 1);
        assert_eq!(told(&x11), above, "the pane's last row");
        paint(30, 10);
        paint(10, 1);
        paint(30, 10);
        assert_eq!(told(&x11), above, "the caret hides nothing");
        // A resized window has its pane elsewhere.
        x11.watch(above[0], Rect { x: 0, y: 20, width: 50, height: 20 }).unwrap();
        paint(0, 20);
        assert_eq!(told(&x11), []);
        paint(30, 10);
        assert_eq!(told(&x11), above);
        assert_eq!(told(&x11), []);
    }

    #[test]
    fn an_activation_that_nobody_grants_ends_in_an_error() {
        let scene = Scene::new();
        let error = scene.connect().activate(WindowId(scene.above)).unwrap_err();
        assert!(error.to_string().contains("did not give the keyboard"), "{error}");
    }

    #[test]
    fn wayland_and_no_display_are_told_apart() {
        let wayland = Session { kind: Some("wayland".into()), display: Some(":0".into()), ..Session::default() };
        assert!(wayland.x_display().unwrap_err().to_string().contains("Wayland"));
        assert!(Session::default().x_display().unwrap_err().to_string().contains("there is no display"));
        let x = Session { kind: Some("x11".into()), display: Some(":0".into()), ..Session::default() };
        assert_eq!(x.x_display().unwrap(), ":0");
    }
}
