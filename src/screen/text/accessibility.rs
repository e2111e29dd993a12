//! The input box of a window, read exactly, through the accessibility bus (AT-SPI).

use std::future::Future;
use std::time::Duration;

use atspi::connection::AccessibilityConnection;
use atspi::proxy::accessible::{AccessibleProxy, ObjectRefExt as _};
use atspi::proxy::component::ComponentProxy;
use atspi::proxy::editable_text::EditableTextProxy;
use atspi::proxy::text::TextProxy;
use atspi::{Interface, ObjectRefOwned, Role, State};

use crate::error::Problem;
use crate::screen::geometry::Rect;

/// How many objects of one window are looked at, so that a broken tree ends.
const MOST_OBJECTS: usize = 4_000;

/// How long an application may take to answer. A frozen one never does, and D-Bus itself waits for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A connection to the accessibility bus.
#[derive(Clone)]
pub struct Accessibility {
    connection: AccessibilityConnection,
}

impl std::fmt::Debug for Accessibility {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accessibility")
    }
}

/// The text box of one window.
#[derive(Debug, Clone)]
pub struct InputField {
    object: ObjectRefOwned,
    connection: zbus::Connection,
}

impl Accessibility {
    /// Connects to the session's accessibility bus.
    ///
    /// # Errors
    /// There is no session bus, or no accessibility on it.
    pub async fn connect() -> Result<Self, Problem> {
        match within(AccessibilityConnection::new()).await? {
            Ok(connection) => Ok(Self { connection }),
            Err(error) => Err(Problem::new(
                format!("the accessibility bus does not answer ({error})"),
                "accessibility",
                "Install at-spi2-core, start autoreply in the desktop's session (DBUS_SESSION_BUS_ADDRESS set), and switch accessibility on",
            )),
        }
    }

    /// The names of the applications that are on the bus.
    ///
    /// # Errors
    /// The bus does not answer.
    pub async fn applications(&self) -> Result<Vec<String>, Problem> {
        within(self.names()).await?
    }

    async fn names(&self) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        for application in self.children_of_registry().await? {
            if let Ok(proxy) = application.as_accessible_proxy(self.connection.connection()).await {
                names.push(proxy.name().await.unwrap_or_default());
            }
        }
        Ok(names)
    }

    /// The text box of the window with this title that belongs to the process `pid`; without a pid, to an application
    /// whose name is `application` (case does not matter).
    ///
    /// # Errors
    /// The application is not on the bus, the window or a text box in it is not there, or several could be meant.
    pub async fn input_of(&self, pid: Option<u32>, application: &str, title: &str) -> Result<InputField, Problem> {
        within(self.find_input(pid, application, title)).await?
    }

    async fn find_input(&self, pid: Option<u32>, application: &str, title: &str) -> Result<InputField, Problem> {
        let bus = self.connection.connection();
        let mut frames = Vec::new();
        let mut seen = false;
        for candidate in self.children_of_registry().await? {
            let Ok(proxy) = candidate.as_accessible_proxy(bus).await else { continue };
            if !self.belongs(&candidate, &proxy, pid, application).await {
                continue;
            }
            seen = true;
            for frame in proxy.get_children().await.unwrap_or_default() {
                let Ok(window) = frame.as_accessible_proxy(bus).await else { continue };
                if window.name().await.is_ok_and(|name| name == title) {
                    frames.push(frame);
                }
            }
        }
        if !seen {
            return Err(Problem::new(
                format!("{application} is not on the accessibility bus"),
                "accessibility",
                "Install libatk-adaptor and libgail-common and restart the chat application in this session",
            ));
        }
        let [frame] = frames.as_slice() else {
            return Err(Problem::new(
                format!("{} windows of {application} have the title that is looked for", frames.len()),
                "accessibility",
                "Exactly one must be open",
            ));
        };
        let object = self.only_input(frame.clone(), application).await?;
        Ok(InputField { object, connection: bus.clone() })
    }

    async fn children_of_registry(&self) -> Result<Vec<ObjectRefOwned>, Problem> {
        let gone = |error: String| {
            Problem::new(
                format!("the accessibility registry does not answer ({error})"),
                "accessibility",
                "Install at-spi2-core and log in again",
            )
        };
        let root = self.connection.root_accessible_on_registry().await.map_err(|error| gone(error.to_string()))?;
        root.get_children().await.map_err(|error| gone(error.to_string()))
    }

    async fn belongs(
        &self,
        object: &ObjectRefOwned,
        proxy: &AccessibleProxy<'_>,
        pid: Option<u32>,
        application: &str,
    ) -> bool {
        let Some(pid) = pid else {
            return proxy.name().await.is_ok_and(|name| name.eq_ignore_ascii_case(application));
        };
        let Some(name) = object.name().cloned() else { return false };
        let Ok(dbus) = zbus::fdo::DBusProxy::new(self.connection.connection()).await else { return false };
        dbus.get_connection_unix_process_id(name.into()).await.is_ok_and(|owner| owner == pid)
    }

    /// The one editable, showing text object below `frame` that is lowest on the screen: chat inputs stand at the foot.
    async fn only_input(&self, frame: ObjectRefOwned, application: &str) -> Result<ObjectRefOwned, Problem> {
        let bus = self.connection.connection();
        let mut open = vec![frame];
        let mut best: Option<(i32, ObjectRefOwned)> = None;
        let mut looked_at = 0;
        while let Some(object) = open.pop() {
            looked_at += 1;
            if looked_at > MOST_OBJECTS {
                break;
            }
            let Ok(proxy) = object.as_accessible_proxy(bus).await else { continue };
            if let Some(bottom) = input_bottom(&proxy, &object, bus).await {
                if best.as_ref().is_none_or(|(lowest, _)| bottom > *lowest) {
                    best = Some((bottom, object));
                }
                continue;
            }
            open.extend(proxy.get_children().await.unwrap_or_default());
        }
        best.map(|(_, object)| object).ok_or_else(|| {
            Problem::new(
                format!("{application} shows no text box that can be read"),
                "accessibility",
                "Such a client is for drafts only: its input cannot be read back before Enter",
            )
        })
    }
}

/// The lower edge of an object that is an editable text on the screen.
async fn input_bottom(proxy: &AccessibleProxy<'_>, object: &ObjectRefOwned, bus: &zbus::Connection) -> Option<i32> {
    if !matches!(proxy.get_role().await.ok()?, Role::Text | Role::Entry | Role::PasswordText | Role::Editbar) {
        return None;
    }
    let states = proxy.get_state().await.ok()?;
    let interfaces = proxy.get_interfaces().await.ok()?;
    let usable =
        states.contains(State::Showing) && states.contains(State::Editable) && interfaces.contains(Interface::Text);
    if !usable {
        return None;
    }
    let component = component(object, bus).await.ok()?;
    let (_, y, _, height) = component.get_extents(atspi::CoordType::Screen).await.ok()?;
    // A widget that has not been placed reports the smallest number there is.
    (y > i32::MIN / 2).then(|| y.saturating_add(height))
}

async fn component<'a>(object: &ObjectRefOwned, bus: &'a zbus::Connection) -> zbus::Result<ComponentProxy<'a>> {
    let name = object.name().cloned().ok_or(zbus::Error::MissingParameter("bus name"))?;
    ComponentProxy::builder(bus).destination(name)?.path(object.path().to_owned())?.build().await
}

impl InputField {
    async fn text(&self) -> zbus::Result<TextProxy<'_>> {
        let name = self.object.name().cloned().ok_or(zbus::Error::MissingParameter("bus name"))?;
        TextProxy::builder(&self.connection)
            .destination(name)?
            .path(self.object.path().to_owned())?
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
    }

    /// The text in the box, exactly.
    ///
    /// # Errors
    /// The box has gone or does not answer.
    pub async fn read(&self) -> Result<String, Problem> {
        // One call: between a count and a text the person could type. The end -1 means all.
        let read = async { self.text().await?.get_text(0, -1).await };
        within(read).await?.map_err(|error| unreadable(&error))
    }

    /// Whether the box has the keyboard, as the application says.
    ///
    /// # Errors
    /// The box has gone or does not answer.
    pub async fn focused(&self) -> Result<bool, Problem> {
        let state = async {
            let proxy = self.object.as_accessible_proxy(&self.connection).await.map_err(|error| error.to_string())?;
            proxy.get_state().await.map_err(|error| error.to_string())
        };
        within(state).await?.map(|states| states.contains(State::Focused)).map_err(|error| unreadable(&error))
    }

    /// Empties the box without keys; `false` where the application does not offer or refuses it. Read it back.
    ///
    /// # Errors
    /// The box has gone or does not answer.
    pub async fn clear(&self) -> Result<bool, Problem> {
        let cleared = async {
            let proxy = self.object.as_accessible_proxy(&self.connection).await.map_err(|error| error.to_string())?;
            let interfaces = proxy.get_interfaces().await.map_err(|error| error.to_string())?;
            if !interfaces.contains(Interface::EditableText) {
                return Ok(false);
            }
            let text = self.editable().await.map_err(|error| error.to_string())?;
            text.set_text_contents("").await.map_err(|error| error.to_string())
        };
        within(cleared).await?.map_err(|error: String| unreadable(&error))
    }

    /// Where the box is on the display; `None` while the application has not placed it.
    ///
    /// # Errors
    /// The box has gone or does not answer.
    pub async fn place(&self) -> Result<Option<Rect>, Problem> {
        let extents =
            async { component(&self.object, &self.connection).await?.get_extents(atspi::CoordType::Screen).await };
        let (x, y, width, height) = within(extents).await?.map_err(|error| unreadable(&error))?;
        let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else { return Ok(None) };
        Ok((x > i32::MIN / 2 && y > i32::MIN / 2).then_some(Rect { x, y, width, height }))
    }

    async fn editable(&self) -> zbus::Result<EditableTextProxy<'_>> {
        let name = self.object.name().cloned().ok_or(zbus::Error::MissingParameter("bus name"))?;
        EditableTextProxy::builder(&self.connection)
            .destination(name)?
            .path(self.object.path().to_owned())?
            .build()
            .await
    }

    /// Asks the application to give the box the keyboard; check with [`Self::focused`].
    ///
    /// # Errors
    /// The box has gone, does not answer, or refuses.
    pub async fn grab_focus(&self) -> Result<(), Problem> {
        let grabbed = async { component(&self.object, &self.connection).await?.grab_focus().await };
        match within(grabbed).await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::new(
                "the input box does not take the keyboard",
                "accessibility",
                "Close any dialogue that the chat application shows",
            )),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

/// The answer, or a complaint when there is none in time.
async fn within<T>(answer: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(|_| {
        Problem::new(
            format!("there was no answer within {} s", ANSWER_WITHIN.as_secs()),
            "accessibility",
            "Check that the chat application is not frozen; restart it if it is",
        )
    })
}

fn unreadable(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        format!("the input box cannot be read ({error})"),
        "accessibility",
        "Check that the chat window is still open",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frozen_application_ends_in_a_complaint() {
        let problem = within(std::future::pending::<()>()).await.unwrap_err();
        assert!(problem.what.contains("no answer within 2 s"), "{problem}");
        assert_eq!(within(async { 7 }).await, Ok(7));
    }
}
