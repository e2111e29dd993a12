//! What the executor asks about applications, answered by profiles, pixels and the accessibility bus.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::contract::Conversation;
use crate::error::Problem;
use crate::execution::ports::{Applications, Input};
use crate::execution::settings::{Method, NewlineRule, SendProfile};
use crate::screen::matching::{self, Match};
use crate::screen::pixels;
use crate::screen::profile::{self, Profile};
use crate::screen::text::accessibility::{Accessibility, InputField};
use crate::screen::window::{ScreenError, WindowInfo, WindowSystem as _};
use crate::screen::x11::{Session, X11};

/// The longest wait for an answer of the accessibility bus: an application that hangs must not hang the executor.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is needed to recognise windows.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The display.
    pub session: Session,
    /// The profiles in use.
    pub profiles: Vec<Profile>,
    /// The names of the person.
    pub own_names: Vec<String>,
}

impl Sight {
    /// What a window shows, if exactly one profile's rule says so.
    pub fn recognise(&self, window: &WindowInfo) -> Option<Match> {
        matching::recognise(window, &self.profiles, &self.own_names)?.ok()
    }
}

/// The executor's view of applications through profiles, with a connection to the display of its own.
pub struct ProfiledApplications {
    sight: Sight,
    screen: X11,
    handle: Handle,
    accessibility: Option<Accessibility>,
}

impl ProfiledApplications {
    /// Connects to the display; the accessibility bus is connected to when it is first needed.
    ///
    /// # Errors
    /// The display cannot be used.
    pub fn new(sight: Sight, handle: Handle) -> Result<Self, ScreenError> {
        let screen = X11::connect(&sight.session)?;
        Ok(Self { sight, screen, handle, accessibility: None })
    }

    fn find_input(&mut self, window: &WindowInfo) -> Result<InputField, Problem> {
        let accessibility = match &self.accessibility {
            Some(connected) => connected.clone(),
            None => answer(&self.handle, Accessibility::connect())?,
        };
        let found = answer(&self.handle, accessibility.input_of(window.pid, &window.application, &window.title));
        // A bus that has gone is connected to anew by the next attempt.
        self.accessibility = found.is_ok().then_some(accessibility);
        found
    }
}

fn answer<T>(handle: &Handle, asked: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    handle.block_on(async {
        tokio::time::timeout(ANSWER_WITHIN, asked).await.unwrap_or_else(|_| {
            Err(Problem::new(
                format!("there is no answer within {} ms", ANSWER_WITHIN.as_millis()),
                "accessibility",
                "Check that the chat application still reacts",
            ))
        })
    })
}

impl Applications for ProfiledApplications {
    fn conversation_of(&mut self, window: &WindowInfo) -> Option<Conversation> {
        self.sight.recognise(window).map(|found| found.conversation)
    }

    fn pane_digest(&mut self, window: &WindowInfo) -> Result<u64, String> {
        let found = self.sight.recognise(window).ok_or("no profile is for the window any more")?;
        let frame = self.screen.capture(window.id, found.pane).map_err(|error| error.to_string())?;
        Ok(pixels::digest(&frame))
    }

    fn input_of(&mut self, window: &WindowInfo) -> Result<Box<dyn Input>, String> {
        let field = self.find_input(window).map_err(|problem| problem.to_string())?;
        Ok(Box::new(AccessibleInput { field, handle: self.handle.clone() }))
    }

    fn send_profile(&self, application: &str) -> Option<SendProfile> {
        let profile = self.sight.profiles.iter().find(|profile| profile.name == application)?;
        Some(SendProfile {
            method: match profile.send.method {
                profile::Method::Auto => Method::Auto,
                profile::Method::Keys => Method::Keys,
                profile::Method::Paste => Method::Paste,
            },
            submit: profile.send.submit.clone(),
            newline: match profile.send.newline {
                profile::Newline::Blank => NewlineRule::Blank,
                profile::Newline::Refuse => NewlineRule::Refuse,
            },
            max_characters: profile.send.max_characters,
            ..SendProfile::default()
        })
    }
}

/// An input box read through the accessibility bus.
struct AccessibleInput {
    field: InputField,
    handle: Handle,
}

impl Input for AccessibleInput {
    fn read(&mut self) -> Result<String, String> {
        answer(&self.handle, self.field.read()).map_err(|problem| problem.to_string())
    }

    fn focused(&mut self) -> Result<bool, String> {
        answer(&self.handle, self.field.focused()).map_err(|problem| problem.to_string())
    }

    fn focus(&mut self) -> Result<(), String> {
        answer(&self.handle, self.field.grab_focus()).map_err(|problem| problem.to_string())
    }

    fn clear(&mut self) -> Result<bool, String> {
        answer(&self.handle, self.field.clear()).map_err(|problem| problem.to_string())
    }
}
