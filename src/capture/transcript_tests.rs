use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;
use crate::contract::ExtractionMethod;

const WORDS: [&str; 12] = [
    "ok",
    "yes",
    "hello there",
    "are you coming tonight?",
    "the printer on floor 1 is broken",
    "room 101",
    "room 102",
    "I will call Illinois",
    "?",
    "modern corn turns",
    "please send the invoice to billing.example.org",
    "ok.",
];

#[derive(Debug, Clone, Hash)]
struct Message {
    sender: &'static str,
    text: String,
    stamp: Option<String>,
}

fn line(message: &Message, noise: Option<u64>) -> PaneLine {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    // Another reading needs other pixels: a highlight, a theme, another width.
    noise.hash(&mut hasher);
    PaneLine {
        stamp: message.stamp.clone(),
        sender: Some(message.sender.to_owned()),
        text: noise.map_or_else(|| message.text.clone(), |seed| misread(&message.text, seed)),
        cue: if message.sender == "me" { Cue::Own } else { Cue::Other },
        confidence: 0.9,
        doubtful: false,
        top: 0,
        bottom: 0,
        digest: hasher.finish(),
    }
}

/// What OCR makes of a text: confusable characters, lost dots, blanks moved by a reflow, now and then a wrong letter.
fn misread(text: &str, seed: u64) -> String {
    let mut out = String::new();
    let long = text.chars().count() >= 16;
    for (at, character) in text.chars().enumerate() {
        match (character, (seed >> (at % 60)) & 1 == 1) {
            ('I', true) => out.push('|'),
            ('l', true) => out.push('I'),
            ('.', true) => {}
            ('m', true) => out.push_str("rn"),
            (' ', true) => out.push_str("  "),
            ('t', true) if long && at as u64 % 13 == seed % 13 => out.push('f'),
            (other, _) => out.push(other),
        }
    }
    out
}

fn view(lines: Vec<PaneLine>) -> PaneView {
    let mut hasher = DefaultHasher::new();
    lines.iter().for_each(|line| line.digest.hash(&mut hasher));
    PaneView { lines, digest: hasher.finish(), method: ExtractionMethod::Ocr, height: 600 }
}

fn plain(texts: &[&str]) -> PaneView {
    view(texts.iter().map(|text| line(&said(text), None)).collect())
}

fn said(text: &str) -> Message {
    Message { sender: "bob", text: text.to_owned(), stamp: None }
}

fn stamped(text: &str, stamp: &str) -> PaneLine {
    line(&Message { stamp: Some(stamp.to_owned()), ..said(text) }, None)
}

fn texts(alignment: &Alignment) -> Vec<&str> {
    alignment.new.iter().map(|line| line.text.as_str()).collect()
}

fn after(first: &[&str]) -> Transcript {
    let mut transcript = Transcript::new(400);
    assert_eq!(transcript.align(&plain(first)).kind, AlignmentKind::FirstLook);
    transcript
}

#[test]
fn what_is_there_at_the_first_look_is_history_and_what_comes_below_it_is_new() {
    let mut transcript = Transcript::new(400);
    assert!(transcript.align(&plain(&[])).is_history());
    let first = transcript.align(&plain(&["one", "two"]));
    assert!(first.is_history() && !first.gap && first.at_bottom);
    assert_eq!(texts(&first), ["one", "two"]);
    let second = transcript.align(&plain(&["two", "three"]));
    assert_eq!(second.kind, AlignmentKind::Lost, "one short line without a stamp is no evidence");

    let mut transcript = after(&["hello", "are you there"]);
    assert_eq!(texts(&transcript.align(&plain(&["hello", "are you there", "please"]))), ["please"]);
    assert!(transcript.align(&plain(&["hello", "are you there", "please"])).new.is_empty());
}

#[test]
fn equal_messages_stay_as_many_as_they_are() {
    let mut transcript = after(&["hello", "are you there", "ok"]);
    assert_eq!(texts(&transcript.align(&plain(&["hello", "are you there", "ok", "ok"]))), ["ok"]);
    assert_eq!(texts(&transcript.align(&plain(&["are you there", "ok", "ok", "ok", "ok"]))), ["ok", "ok"]);
    assert!(transcript.align(&plain(&["ok", "ok", "ok", "ok"])).new.is_empty());

    let mut first = after(&["hi"]);
    assert_eq!(texts(&first.align(&plain(&["hi", "well", "hi"]))), ["well", "hi"]);
}

#[test]
fn another_reading_is_a_correction_and_its_better_text_is_kept() {
    let mut transcript = after(&["hello", "I will call you tomorrow"]);
    let mut again = plain(&["hello", "| wiIl call you tornorrow"]);
    again.lines[1].confidence = 0.2;
    let alignment = transcript.align(&again);
    assert_eq!((alignment.new.len(), alignment.corrections.len()), (0, 1));
    assert!(transcript.to_json().unwrap().contains("I will call you tomorrow"));
    // So bad that it is hardly alike: still the same place, so no message.
    let alignment = transcript.align(&plain(&["hello", "l wlll xxxx yxx txxxxxxx"]));
    assert_eq!((alignment.new.len(), alignment.corrections.len()), (0, 1));
}

#[test]
fn a_stamp_tells_equal_texts_apart() {
    let mut transcript = Transcript::new(400);
    transcript.align(&view(vec![stamped("hello", "12:01"), stamped("ok", "12:02")]));
    let alignment = transcript.align(&view(vec![stamped("ok", "12:02"), stamped("ok", "12:05")]));
    assert_eq!(alignment.kind, AlignmentKind::Aligned);
    assert_eq!(texts(&alignment), ["ok"]);
}

#[test]
fn a_scrolled_pane_shows_nothing_new_and_comes_back() {
    let all = ["one is one", "two is two", "three it is", "four it is", "five it is", "six it is"];
    let mut transcript = after(&all);
    let back = transcript.align(&plain(&all[1..4]));
    assert_eq!((back.kind, back.at_bottom, back.new.len()), (AlignmentKind::ScrolledBack, false, 0));
    // Above everything that is known: lost, but never new.
    assert!(transcript.align(&plain(&["before one", "long ago", "and earlier"])).is_history());
    let returned = transcript.align(&plain(&all[2..]));
    assert_eq!((returned.kind, returned.at_bottom, returned.new.len()), (AlignmentKind::Aligned, true, 0));
    assert_eq!(texts(&transcript.align(&plain(&["five it is", "six it is", "seven"]))), ["seven"]);
}

#[test]
fn no_overlap_is_a_gap_and_history() {
    let mut transcript = after(&["one is one", "two is two"]);
    let lost = transcript.align(&plain(&["something else", "entirely different"]));
    assert_eq!((lost.kind, lost.gap, lost.is_history(), lost.new.len()), (AlignmentKind::Lost, true, true, 2));
    assert_eq!(texts(&transcript.align(&plain(&["something else", "entirely different", "go on"]))), ["go on"]);
}

#[test]
fn a_cleared_pane_goes_on_but_an_empty_reading_repeats_nothing() {
    let mut transcript = after(&["one is one", "two is two"]);
    assert!(transcript.align(&plain(&[])).new.is_empty());
    assert!(transcript.align(&plain(&["one is one", "two is two"])).new.is_empty());
    transcript.align(&plain(&[]));
    assert_eq!(texts(&transcript.align(&plain(&["a fresh start"]))), ["a fresh start"]);
    assert_eq!(texts(&transcript.align(&plain(&["a fresh start", "goes on"]))), ["goes on"]);
    transcript.align(&plain(&[]));
    assert!(transcript.align(&plain(&["loaded a", "history b", "of many c", "lines d"])).is_history());
}

#[test]
fn a_line_that_vanishes_and_returns_is_not_new() {
    let mut transcript = after(&["one is one", "two is two", "three it is"]);
    assert_eq!(texts(&transcript.align(&plain(&["one is one", "two is two", "three it is", "four"]))), ["four"]);
    assert!(transcript.align(&plain(&["one is one", "three it is", "four"])).new.is_empty());
    assert!(transcript.align(&plain(&["one is one", "two is two", "three it is", "four"])).new.is_empty());
}

#[test]
fn numbered_lines_are_not_taken_for_each_other() {
    let all: Vec<String> = (1..=30).map(|n| format!("this is message number {n}")).collect();
    let refs: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut transcript = after(&refs[..10]);
    assert_eq!(texts(&transcript.align(&plain(&refs[6..16]))), refs[10..16]);
    assert_eq!(texts(&transcript.align(&plain(&refs[14..24]))), refs[16..24]);
}

#[test]
fn the_transcript_is_bounded_and_survives_json() {
    let mut transcript = Transcript::new(10);
    let all: Vec<String> = (0..50).map(|n| format!("line {n} of the chat")).collect();
    for window in all.windows(5) {
        let texts: Vec<&str> = window.iter().map(String::as_str).collect();
        transcript.align(&plain(&texts));
        transcript = Transcript::from_json(&transcript.to_json().unwrap(), 10).unwrap();
        assert!(transcript.len() <= 10);
    }
    assert!(Transcript::from_json("{", 10).is_err());
}

/// What the simulated desk does next.
#[derive(Debug, Clone)]
enum Act {
    Say(Vec<(usize, bool)>),
    Look,
    Noise(u64),
    ScrollBack(usize),
    Restart,
    Blink,
    Resize(usize),
}

fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => proptest::collection::vec((0..WORDS.len(), any::<bool>()), 1..=most).prop_map(Act::Say),
        2 => Just(Act::Look),
        2 => any::<u64>().prop_map(Act::Noise),
        1 => (1_usize..30).prop_map(Act::ScrollBack),
        1 => Just(Act::Restart),
        1 => Just(Act::Blink),
        1 => (6_usize..14).prop_map(Act::Resize),
    ];
    proptest::collection::vec(act, 1..40)
}

/// A chat and a viewport of `rows` lines on it.
struct Simulation {
    chat: Vec<Message>,
    rows: usize,
    noise: Option<u64>,
    stamps: bool,
    /// Each message carries a number in words that no other has: nothing is ambiguous.
    distinct: bool,
}

impl Simulation {
    fn say(&mut self, word: usize, own: bool) {
        let at = self.chat.len();
        let text = if self.distinct { format!("{} {}", WORDS[word], spell(at)) } else { WORDS[word].to_owned() };
        let stamp = self.stamps.then(|| format!("{:02}:{:02}", (at / 240) % 24, (at / 4) % 60));
        self.chat.push(Message { sender: if own { "me" } else { "bob" }, text, stamp });
    }

    fn view(&self, back: usize) -> PaneView {
        let end = self.chat.len().saturating_sub(back).max(self.rows.min(self.chat.len()));
        let start = end.saturating_sub(self.rows);
        view((start..end).map(|at| line(&self.chat[at], self.noise.map(|seed| seed.rotate_left(at as u32)))).collect())
    }
}

/// A number as a word that differs from its neighbours in every letter.
fn spell(number: usize) -> String {
    let mut rest = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..10)
        .map(|_| {
            let letter = b'a' + (rest % 23) as u8;
            rest /= 23;
            char::from(letter)
        })
        .collect()
}

/// Plays the acts; gives for each sure report how many lines were new, and how many the chat had grown by since.
fn play(mut simulation: Simulation, acts: Vec<Act>) -> Result<(usize, usize, Transcript), TestCaseError> {
    for at in 0..4 {
        simulation.say(at + 2, false);
    }
    let mut transcript = Transcript::new(60);
    transcript.align(&simulation.view(0));
    let (mut reported, mut said) = (Vec::<String>::new(), simulation.chat.len());
    let first = said;
    for act in acts {
        let mut back = 0;
        match act {
            Act::Say(words) => words.into_iter().for_each(|(word, own)| simulation.say(word, own)),
            Act::Look => {}
            Act::Noise(seed) => simulation.noise = (seed % 3 != 0).then_some(seed),
            Act::ScrollBack(by) => back = by.min(simulation.chat.len().saturating_sub(simulation.rows)),
            Act::Restart => transcript = Transcript::from_json(&transcript.to_json().unwrap(), 60).unwrap(),
            Act::Blink => prop_assert!(transcript.align(&view(Vec::new())).new.is_empty()),
            Act::Resize(rows) => simulation.rows = rows,
        }
        let alignment = transcript.align(&simulation.view(back));
        if !alignment.is_history() {
            reported.extend(alignment.new.iter().map(|line| fold(&line.text)));
        }
        if back > 0 {
            // Where lines can be told apart a scrolled pane brings nothing; where not, at most what was missed before.
            prop_assert!(!simulation.distinct || alignment.is_history() || alignment.new.is_empty());
            let alignment = transcript.align(&simulation.view(0));
            if !alignment.is_history() {
                reported.extend(alignment.new.iter().map(|line| fold(&line.text)));
            }
            continue;
        }
        if simulation.distinct && !alignment.is_history() {
            prop_assert!(alignment.new.len() <= simulation.chat.len() - said, "a line was reported twice");
        }
        // Order: what is reported are the chat's last lines.
        let tail = &simulation.chat[simulation.chat.len() - alignment.new.len()..];
        if !alignment.is_history() && simulation.distinct {
            for (new, message) in alignment.new.iter().zip(tail) {
                prop_assert!(strsim::normalized_levenshtein(&fold(&new.text), &fold(&message.text)) > 0.8);
            }
        }
        said = simulation.chat.len();
    }
    // Each text is reported at most as often as it was said; a misread one counts with the one it is nearest to.
    let nearest = |text: &str| {
        let text = &fold(text);
        let like = |word: usize| (strsim::normalized_levenshtein(text, &fold(WORDS[word])) * 1000.0) as u32;
        fold(WORDS[(0..WORDS.len()).max_by_key(|&word| like(word)).unwrap_or(0)])
    };
    if !simulation.distinct {
        for word in WORDS {
            let times = reported.iter().filter(|text| nearest(text) == fold(word)).count();
            let said = simulation.chat[first..].iter().filter(|message| nearest(&message.text) == fold(word)).count();
            prop_assert!(times <= said, "{word} was reported {times} times and said {said} times");
        }
    }
    Ok((reported.len(), simulation.chat.len() - first, transcript))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_ever_reported_twice(acts in acts(12), rows in 6_usize..14, stamps: bool, distinct: bool) {
        let simulation = Simulation { chat: Vec::new(), rows, noise: None, stamps, distinct };
        let (reported, grown, _) = play(simulation, acts)?;
        prop_assert!(reported <= grown);
    }

    #[test]
    fn nothing_is_missed_while_two_plain_lines_overlap(acts in acts(4), rows in 8_usize..14, stamps: bool) {
        // At most 4 new lines a look on at least 6 rows: two old lines are always in sight.
        let acts: Vec<Act> = acts.into_iter().filter(|act| !matches!(act, Act::ScrollBack(_))).collect();
        let simulation = Simulation { chat: Vec::new(), rows, noise: None, stamps, distinct: true };
        let (reported, grown, _) = play(simulation, acts)?;
        prop_assert_eq!(reported, grown);
    }

    #[test]
    fn any_view_after_any_view_is_taken_without_harm(
        looks in proptest::collection::vec(proptest::collection::vec((0..WORDS.len(), any::<u64>()), 0..12), 1..12),
    ) {
        let mut transcript = Transcript::new(20);
        for look in looks {
            let view = view(look.into_iter().map(|(word, noise)| line(&said(WORDS[word]), Some(noise % 4))).collect());
            transcript.align(&view);
            prop_assert!(transcript.len() <= 20);
            let again = transcript.align(&view);
            prop_assert!(again.new.is_empty() || again.is_history(), "the same view twice brought something new");
        }
    }
}
