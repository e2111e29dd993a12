//! How far autoreply may go: the smallest of everything that has a say.

use crate::contract::{Control, Conversation, DesktopId, Mode, Scope};

/// What may stop the keyboard without changing a mode. The order is the order of caution, the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Halt {
    /// Nothing.
    #[default]
    None,
    /// Nothing is typed until resumed.
    Pause,
    /// Nothing is typed, and what is queued ends.
    Stop,
}

/// What the controls of one scope, or of several together, ask for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// A ceiling, if one was set.
    pub mode: Option<Mode>,
    /// A pause or a stop.
    pub halt: Halt,
}

impl Standing {
    /// What stands after `control` came. A mode does not end a pause or a stop, and these do not touch the mode.
    pub fn after(self, control: Control) -> Self {
        match control {
            Control::Mode(mode) => Self { mode: Some(mode), ..self },
            Control::Pause => Self { halt: Halt::Pause, ..self },
            Control::Stop => Self { halt: Halt::Stop, ..self },
            Control::Resume => Self { halt: Halt::None, ..self },
            Control::Unset => Self::default(),
        }
    }

    /// Both together: the smaller mode, the stronger halt.
    pub fn and(self, other: Self) -> Self {
        Self {
            mode: match (self.mode, other.mode) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
            halt: self.halt.max(other.halt),
        }
    }
}

/// Whether a control of this scope applies to `conversation` on `desktop`.
pub fn reaches(scope: &Scope, desktop: &DesktopId, conversation: &Conversation) -> bool {
    match scope {
        Scope::All => true,
        Scope::Desktop(id) => id == desktop,
        Scope::Profile(name) => *name == conversation.application,
        Scope::Conversation(id) => *id == conversation.id,
    }
}

/// The ceilings that have a say about a conversation; what is `None` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// The desktop's.
    pub desktop: Mode,
    /// The profile's.
    pub profile: Option<Mode>,
    /// The conversation's.
    pub conversation: Option<Mode>,
    /// The smallest of the controls in whose scope it lies.
    pub controls: Option<Mode>,
}

impl Ceilings {
    /// The mode of the conversation: the smallest ceiling.
    pub fn effective(self) -> Mode {
        [self.profile, self.conversation, self.controls].into_iter().flatten().fold(self.desktop, Mode::min)
    }
}

/// Reasons to want a person's eye on a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubt {
    /// A text, a name, or an age is uncertain, or lines may be missing.
    pub reading: bool,
    /// Nobody has approved a reply to this peer yet, and none was confirmed.
    pub new_peer: bool,
}

impl Doubt {
    /// The mode of a turn in a conversation whose mode is `mode`: doubt never exceeds draft.
    pub fn limit(self, mode: Mode) -> Mode {
        if self.reading || self.new_peer { mode.min(Mode::Draft) } else { mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ConversationKind;
    use proptest::prelude::*;

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Off), Just(Mode::Draft), Just(Mode::Auto)]
    }

    fn control() -> impl Strategy<Value = Control> {
        prop_oneof![
            mode().prop_map(Control::Mode),
            Just(Control::Pause),
            Just(Control::Stop),
            Just(Control::Resume),
            Just(Control::Unset)
        ]
    }

    proptest! {
        #[test]
        fn no_ceiling_is_ever_exceeded(
            desktop in mode(),
            profile in proptest::option::of(mode()),
            conversation in proptest::option::of(mode()),
            controls in proptest::option::of(mode()),
            reading: bool,
            new_peer: bool,
        ) {
            let effective = Ceilings { desktop, profile, conversation, controls }.effective();
            let all: Vec<Mode> =
                [Some(desktop), profile, conversation, controls].into_iter().flatten().collect();
            prop_assert!(all.iter().all(|ceiling| effective <= *ceiling));
            prop_assert!(all.contains(&effective));
            let limited = Doubt { reading, new_peer }.limit(effective);
            prop_assert!(limited <= effective);
            if reading || new_peer {
                prop_assert!(limited <= Mode::Draft);
            } else {
                prop_assert_eq!(limited, effective);
            }
        }

        #[test]
        fn standing_is_decided_by_the_last_word_of_each_kind(controls in proptest::collection::vec(control(), 0..8)) {
            let standing = controls.iter().fold(Standing::default(), |standing, control| standing.after(*control));
            let since_unset =
                controls.rsplit(|control| *control == Control::Unset).next().unwrap_or_default();
            let mode = since_unset.iter().rev().find_map(|control| match control {
                Control::Mode(mode) => Some(*mode),
                _ => None,
            });
            let halt = since_unset.iter().rev().find_map(|control| match control {
                Control::Pause => Some(Halt::Pause),
                Control::Stop => Some(Halt::Stop),
                Control::Resume => Some(Halt::None),
                _ => None,
            });
            prop_assert_eq!(standing, Standing { mode, halt: halt.unwrap_or_default() });
        }

        #[test]
        fn together_is_never_less_careful(
            one in proptest::collection::vec(control(), 0..5),
            two in proptest::collection::vec(control(), 0..5),
        ) {
            let fold = |controls: &[Control]| {
                controls.iter().fold(Standing::default(), |standing, control| standing.after(*control))
            };
            let (one, two) = (fold(&one), fold(&two));
            let both = one.and(two);
            prop_assert_eq!(both, two.and(one));
            for part in [one, two] {
                prop_assert!(both.halt >= part.halt);
                prop_assert!(part.mode.is_none_or(|mode| both.mode.is_some_and(|least| least <= mode)));
            }
        }
    }

    #[test]
    fn a_scope_reaches_what_lies_in_it() {
        let desk = DesktopId::try_from("desk".to_owned()).unwrap();
        let other = DesktopId::try_from("other".to_owned()).unwrap();
        let alice = Conversation::new("hexchat", "irc", "me", "alice", ConversationKind::Direct);
        let bob = Conversation::new("telegram", "irc", "me", "bob", ConversationKind::Direct);
        assert!(reaches(&Scope::All, &desk, &alice));
        assert!(reaches(&Scope::Desktop(desk.clone()), &desk, &alice));
        assert!(!reaches(&Scope::Desktop(other), &desk, &alice));
        assert!(reaches(&Scope::Profile("hexchat".into()), &desk, &alice));
        assert!(!reaches(&Scope::Profile("hexchat".into()), &desk, &bob));
        assert!(reaches(&Scope::Conversation(alice.id), &desk, &alice));
        assert!(!reaches(&Scope::Conversation(alice.id), &desk, &bob));
    }
}
