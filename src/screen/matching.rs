//! Which window shows which conversation. Pure.

use std::collections::BTreeMap;

use super::geometry::Rect;
use super::profile::Profile;
use super::window::{WindowId, WindowInfo};
use crate::contract::{Conversation, ConversationId};

/// A window that shows exactly one conversation, and is the only one that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The window as it was.
    pub window: WindowInfo,
    /// What it shows.
    pub conversation: Conversation,
    /// Its chat pane, in window coordinates.
    pub pane: Rect,
    /// The profile, by its place in the list.
    pub profile: usize,
}

/// A window that is for a profile but must not be read or typed into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The window.
    pub window: WindowId,
    /// Why, as a sentence.
    pub reason: String,
}

/// What became of all windows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches {
    /// Those that may be read and typed into.
    pub matched: Vec<Match>,
    /// Those that look right and are refused.
    pub refused: Vec<Mismatch>,
}

/// What a window shows, by its class and title; `None` if no profile is for it. Whether it is the only one that does is
/// for [`find`] to say.
///
/// # Errors
/// A profile is for it, but it must not be read or typed into.
pub fn recognise(window: &WindowInfo, profiles: &[Profile], own_names: &[String]) -> Option<Result<Match, Mismatch>> {
    let (at, profile, rule, groups) = profiles.iter().enumerate().find_map(|(at, profile)| {
        let is_application = profile.application.is_match(&window.application);
        let mut rules = profile.windows.iter().filter(|_| is_application);
        rules.find_map(|rule| rule.title.captures(&window.title).map(|groups| (at, profile, rule, groups)))
    })?;
    let refuse = |reason: String| Some(Err(Mismatch { window: window.id, reason }));
    let named = |name: &str| groups.name(name).map(|found| found.as_str().trim()).filter(|found| !found.is_empty());
    let Some(peer) = named("peer") else { return refuse("its title names no peer".to_owned()) };
    let Some(account) = named("account").or(own_names.first().map(String::as_str)) else {
        return refuse("its title names no account, and desktop.own_names is empty".to_owned());
    };
    let network = named("network").unwrap_or(&rule.network);
    let Some(pane) = pane_of(window, rule.pane) else {
        return refuse("it is smaller than the profile's pane".to_owned());
    };
    let conversation = Conversation::new(&profile.name, network, account, peer, rule.kind);
    Some(Ok(Match { window: window.clone(), conversation, pane, profile: at }))
}

fn pane_of(window: &WindowInfo, insets: super::profile::Insets) -> Option<Rect> {
    let width = window.rect.width.checked_sub(insets.left)?.checked_sub(insets.right)?;
    let height = window.rect.height.checked_sub(insets.top)?.checked_sub(insets.bottom)?;
    let (x, y) = (i32::try_from(insets.left).ok()?, i32::try_from(insets.top).ok()?);
    (width >= 40 && height >= 20).then_some(Rect { x, y, width, height })
}

/// Finds each profile's windows. Two windows that show the same conversation are both refused: which one is meant
/// cannot be known. Hidden windows count as such, because they could be shown at any moment.
pub fn find(windows: &[WindowInfo], profiles: &[Profile], own_names: &[String]) -> Matches {
    let mut found = Matches::default();
    let mut by_conversation: BTreeMap<ConversationId, Vec<Match>> = BTreeMap::new();
    for recognised in windows.iter().filter_map(|window| recognise(window, profiles, own_names)) {
        match recognised {
            Ok(matched) => by_conversation.entry(matched.conversation.id).or_default().push(matched),
            Err(mismatch) => found.refused.push(mismatch),
        }
    }
    for matches in by_conversation.into_values() {
        let unique = matches.len() == 1;
        for matched in matches {
            let reason = match (unique, matched.window.hidden) {
                (true, false) => {
                    found.matched.push(matched);
                    continue;
                }
                (true, true) => "it is minimised or on another desktop, so what it shows may be old",
                (false, _) => "another window shows the same conversation",
            };
            found.refused.push(Mismatch { window: matched.window.id, reason: reason.to_owned() });
        }
    }
    found
}

/// The one window that shows this conversation now.
///
/// # Errors
/// None does, or not exactly one: the reason, as a clause.
pub fn pin(found: &Matches, conversation: &Conversation) -> Result<Match, String> {
    let mut matched = found.matched.iter().filter(|candidate| candidate.conversation == *conversation);
    match (matched.next(), matched.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err("several windows show the conversation".to_owned()),
        (None, _) => Err("no window shows the conversation, or not exactly one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(id: u32, application: &str, title: &str) -> WindowInfo {
        WindowInfo {
            id: WindowId(id),
            application: application.into(),
            title: title.into(),
            pid: None,
            rect: Rect { x: 0, y: 0, width: 760, height: 560 },
            hidden: false,
        }
    }

    fn found(windows: &[WindowInfo]) -> Matches {
        find(windows, &[Profile::load("hexchat").unwrap()], &["me".to_owned()])
    }

    #[test]
    fn application_and_title_must_both_match() {
        let all = found(&[
            window(1, "Hexchat", "Dialog with alice @ LocalTest - HexChat"),
            window(2, "Firefox", "Dialog with alice @ LocalTest - HexChat"),
            window(3, "Hexchat", "HexChat: Preferences"),
            window(4, "Hexchat", "bot @ LocalTest / #test (+nt) - HexChat"),
        ]);
        let peers: Vec<_> =
            all.matched.iter().map(|matched| (matched.window.id.0, matched.conversation.peer.as_str())).collect();
        assert!(peers.contains(&(1, "alice")) && peers.contains(&(4, "#test")) && peers.len() == 2, "{peers:?}");
        let group = all.matched.iter().find(|matched| matched.window.id.0 == 4).unwrap();
        assert_eq!((group.conversation.account.as_str(), group.conversation.network.as_str()), ("bot", "LocalTest"));
        assert!(pin(&all, &group.conversation).is_ok());
    }

    #[test]
    fn two_windows_of_one_conversation_are_both_refused() {
        let title = "Dialog with alice @ LocalTest - HexChat";
        let mut hidden = window(2, "Hexchat", title);
        hidden.hidden = true;
        let all = found(&[
            window(1, "Hexchat", title),
            hidden,
            window(3, "Hexchat", "Dialog with bob @ LocalTest - HexChat"),
        ]);
        assert_eq!(all.matched.len(), 1);
        assert_eq!(all.refused.iter().map(|refused| refused.window.0).collect::<Vec<_>>(), [1, 2]);
        let alice = Conversation::new("hexchat", "LocalTest", "me", "alice", crate::contract::ConversationKind::Direct);
        assert!(pin(&all, &alice).is_err());
    }

    #[test]
    fn a_hidden_or_tiny_window_is_refused_with_a_reason() {
        let mut hidden = window(1, "Hexchat", "Dialog with alice @ LocalTest - HexChat");
        hidden.hidden = true;
        let mut tiny = window(2, "Hexchat", "Dialog with bob @ LocalTest - HexChat");
        tiny.rect.height = 60;
        let all = found(&[hidden, tiny]);
        assert!(all.matched.is_empty() && all.refused.len() == 2);
    }
}
