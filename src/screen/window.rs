//! Windows, and the trait that a window system implements.

use std::time::Duration;

use super::geometry::{Frame, Rect};
use crate::error::{Class, Classified};

/// A top-level window's id, unique while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowId(pub u32);

/// What is known of a window without looking into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowInfo {
    /// Its id.
    pub id: WindowId,
    /// The application's class, as `Hexchat` (X11: the second part of WM_CLASS).
    pub application: String,
    /// Its title.
    pub title: String,
    /// The process that owns it, where the system tells.
    pub pid: Option<u32>,
    /// Its place on the display, without decorations.
    pub rect: Rect,
    /// Minimised or on another desktop: what it shows may be old.
    pub hidden: bool,
}

/// Why the screen could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScreenError {
    /// There is no display to connect to, or it is of a kind that cannot be read (Wayland).
    #[error("{0}")]
    Unavailable(crate::error::Problem),
    /// The window has gone.
    #[error("the window {0:?} is gone")]
    Gone(WindowId),
    /// The window has no pixels now: it is minimised, on another desktop, or has just become smaller.
    #[error("the window {0:?} is minimised or on another desktop and has no pixels now")]
    Unviewable(WindowId),
    /// The connection failed.
    #[error("the display did not answer: {0}")]
    Connection(String),
}

impl Classified for ScreenError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) => Class::Permanent,
            Self::Gone(_) | Self::Unviewable(_) | Self::Connection(_) => Class::Transient,
        }
    }
}

/// A window system: one connection to one display. Calls block for a few milliseconds at most.
pub trait WindowSystem: Send {
    /// The top-level windows, in no order.
    fn windows(&mut self) -> Result<Vec<WindowInfo>, ScreenError>;
    /// One window as it is now; `Gone` if it is not there.
    fn window(&mut self, id: WindowId) -> Result<WindowInfo, ScreenError>;
    /// The pixels of `region` (in window coordinates, clipped to the window), also where other windows cover it.
    fn capture(&mut self, id: WindowId, region: Rect) -> Result<Frame, ScreenError>;
    /// Watches `region` of a window (in window coordinates) for changes, from now on and instead of any other of it.
    fn watch(&mut self, id: WindowId, region: Rect) -> Result<(), ScreenError>;
    /// Waits until a watched region changed or `timeout` passed; the windows in which one did (a hint only).
    fn wait_change(&mut self, timeout: Duration) -> Result<Vec<WindowId>, ScreenError>;
    /// The window that has the keyboard, if one does.
    fn active(&mut self) -> Result<Option<WindowId>, ScreenError>;
    /// Raises the window and gives it the keyboard; returns once the window system agrees, or an error after a bounded wait.
    fn activate(&mut self, id: WindowId) -> Result<(), ScreenError>;
}
