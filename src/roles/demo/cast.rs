//! The scenes: who says what, and what has to come of it.

use super::act::Act;

/// The name of HexChat's account on the private server.
pub const ACCOUNT: &str = "autobot";
/// The network's name in HexChat.
pub const NETWORK: &str = "LocalTest";
/// What each peer says before autoreply starts: it is history then, and never answered.
pub const GREETING: &str = "good morning";

/// One scene in a conversation of its own.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// The peer.
    pub nick: &'static str,
    /// What the scene shows.
    pub title: &'static str,
    /// What has to come of it, as a sentence.
    pub expected: &'static str,
    /// What the peer sends, in turns.
    pub lines: &'static [&'static [&'static str]],
    /// What the peer must receive from autoreply, in order.
    pub replies: &'static [&'static str],
    /// What the person types.
    pub by_person: Option<&'static str>,
    /// What must become of each turn.
    pub effects: &'static [&'static str],
}

const HOURS: &str = "Robin is here from Monday to Friday, 9:00 to 17:30.";
const ORDER: &str = "Your order is on its way and should arrive tomorrow.";
const AROUND: &str = "Robin is away just now and will read this after lunch.";
/// Not on a keyboard, so that it can only go out by paste.
const MENU: &str = "Yes, the café has it on the menu today: é 你好 👍";

/// The scenes in their order.
pub const SCENES: [Scene; 6] = [
    Scene {
        nick: "anna",
        title: "A question",
        expected: "It is answered once.",
        lines: &[&["what are your opening hours?"]],
        replies: &[HOURS],
        by_person: None,
        effects: &["confirmed"],
    },
    Scene {
        nick: "boris",
        title: "A burst of three lines",
        expected: "The three lines are one turn and get one answer.",
        lines: &[&["hi Robin", "I ordered a lamp last week", "where is my order now?"]],
        replies: &[ORDER],
        by_person: None,
        effects: &["confirmed"],
    },
    Scene {
        nick: "clara",
        title: "The same line twice in a row, and once more after the answer",
        expected: "Two equal lines stay two lines of one turn and get one answer; the third gets its own.",
        lines: &[&["are you around?", "are you around?"], &["are you around?"]],
        replies: &[AROUND, AROUND],
        by_person: None,
        effects: &["confirmed", "confirmed"],
    },
    Scene {
        nick: "david",
        title: "A line that recognition must doubt",
        expected: "It becomes a draft, is approved on the command line, and goes out by paste, exactly.",
        lines: &[&["is there é 你好 👍 soup on the menu?"]],
        replies: &[MENU],
        by_person: None,
        effects: &["confirmed"],
    },
    Scene {
        nick: "emma",
        title: "The person answers first",
        expected: "Nothing is sent.",
        lines: &[&["what are your opening hours?"]],
        replies: &[],
        by_person: Some("Until six today, come by!"),
        effects: &["human_replied"],
    },
    Scene {
        nick: "felix",
        title: "A stop that reaches a queued reply",
        expected: "The reply is queued behind a pause, the stop ends it, and nothing is sent after the resume.",
        lines: &[&["where is my order now?"]],
        replies: &[],
        by_person: None,
        effects: &["off"],
    },
];

/// The rules file of the demo.
#[must_use]
pub fn rules() -> String {
    let rules = [("opening hours", HOURS), ("my order", ORDER), ("around", AROUND), ("menu", MENU)];
    let text = rules.map(|(pattern, answer)| format!("[[rule]]\npatterns = ['{pattern}']\nanswer = \"{answer}\"\n"));
    format!("# The answers of the demo.\n\n{}", text.join("\n"))
}

/// What differs from what had to come, as sentences; empty when the scene went as it should.
#[must_use]
pub fn differences(act: &Act) -> Vec<String> {
    let scene = &act.scene;
    let mut found = act.faults.clone();
    let heard: Vec<&str> = act.heard.iter().map(|heard| heard.text.as_str()).collect();
    let wanted: Vec<&str> = scene.by_person.into_iter().chain(scene.replies.iter().copied()).collect();
    if heard != wanted {
        found.push(format!("{} should have received {wanted:?} and received {heard:?}", scene.nick));
    }
    for odd in act.heard.iter().filter(|heard| {
        heard.command != "PRIVMSG" || heard.from != ACCOUNT || heard.target != scene.nick || !heard.exact
    }) {
        found.push(format!("{} received a {} from {} for {}", scene.nick, odd.command, odd.from, odd.target));
    }
    let effects: Vec<&str> = act.turns.iter().map(|turn| turn.effect.as_deref().unwrap_or("none")).collect();
    if effects != scene.effects {
        found.push(format!(
            "the turns of {} should have ended as {:?} and ended as {effects:?}",
            scene.nick, scene.effects
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoreply_rig::Received;

    fn received(scene: &Scene, text: &str) -> Received {
        Received {
            at_ms: 5,
            command: "PRIVMSG".to_owned(),
            from: ACCOUNT.to_owned(),
            target: scene.nick.to_owned(),
            text: text.to_owned(),
            exact: true,
        }
    }

    fn played(scene: &Scene) -> Act {
        let mut act = Act::new(*scene);
        for (number, effect) in scene.effects.iter().enumerate() {
            act.turn(&number.to_string(), 0).effect = Some((*effect).to_owned());
        }
        act.heard = scene.by_person.iter().chain(scene.replies).map(|text| received(scene, text)).collect();
        act
    }

    #[test]
    fn only_exactly_what_should_have_come_is_right() {
        for scene in &SCENES {
            let right = played(scene);
            assert_eq!(differences(&right), Vec::<String>::new());
            let mut twice = right.clone();
            twice.heard.push(received(scene, HOURS));
            assert_eq!(differences(&twice).len(), 1, "one line too many in {}", scene.title);
            let mut altered = right.clone();
            altered.turns[0].effect = Some("unverifiable".to_owned());
            assert_eq!(differences(&altered).len(), 1);
            if let Some(first) = altered.heard.first_mut() {
                first.from = "somebody".to_owned();
                assert_eq!(differences(&altered).len(), 2);
            }
        }
    }

    #[test]
    fn each_first_line_of_a_scene_has_the_answer_it_expects_and_no_other_reply_is_like_it() {
        let table: toml::Table = toml::from_str(&rules()).unwrap();
        assert_eq!(table["rule"].as_array().unwrap().len(), 4);
        assert!(!MENU.is_ascii() && !GREETING.contains("around"));
    }
}
