//! Keys: which ones make a text (pure), and pressing them.
//!
//! `enigo` rebinds spare keycodes for each capital or accent, and loses some; so the keyboard map is read here and plain
//! keycodes are pressed, with Shift for the second level. What the map does not have is pasted.

use std::time::Duration;

use enigo::{Direction, Enigo, Keyboard as _};

use super::watchdog::Watchdog;
use crate::error::Problem;
use crate::failpoint;
use crate::screen::x11_input::{InputState, KeyMap};

/// Strokes between two words to the watchdog.
const CHUNK: usize = 16;
/// Keysyms of X11 (keysymdef.h) that a profile may name.
const NAMED: [(&str, u32); 8] = [
    ("Return", 0xff0d),
    ("KP_Enter", 0xff8d),
    ("Delete", 0xffff),
    ("BackSpace", 0xff08),
    ("Escape", 0xff1b),
    ("Home", 0xff50),
    ("End", 0xff57),
    ("Insert", 0xff63),
];
const SHIFT: u32 = 0xffe1;
const CONTROL: u32 = 0xffe3;
const ALT: u32 = 0xffe9;

/// One key, with what is held for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stroke {
    /// Keycodes held while it is pressed.
    pub held: Vec<u8>,
    /// The key.
    pub keycode: u8,
}

/// The keysym of a character: Latin-1 is itself, all else is Unicode plus 0x01000000 (X11 protocol, appendix A).
fn keysym_of(c: char) -> u32 {
    match u32::from(c) {
        latin @ (0x20..=0x7e | 0xa0..=0xff) => latin,
        other => other | 0x0100_0000,
    }
}

/// The keycode and level (0 or 1) of a keysym in layout `group`.
fn find(map: &KeyMap, group: u8, keysym: u32) -> Option<(u8, usize)> {
    let first = 2 * usize::from(group);
    if keysym == 0 || map.per_keycode < first + 2 || group > 1 {
        return None;
    }
    let at_level = |level: usize| {
        let at = map.keysyms.chunks_exact(map.per_keycode).position(|syms| syms[first + level] == keysym)?;
        Some((map.min_keycode.checked_add(u8::try_from(at).ok()?)?, level))
    };
    at_level(0).or_else(|| at_level(1))
}

/// The strokes that make `text` in layout `group`; `None` if a character is not on the first two levels.
pub fn plan(text: &str, map: &KeyMap, group: u8) -> Option<Vec<Stroke>> {
    let (shift, _) = find(map, group, SHIFT)?;
    text.chars()
        .map(|c| {
            let (keycode, level) = find(map, group, keysym_of(c))?;
            Some(Stroke { held: if level == 1 { vec![shift] } else { Vec::new() }, keycode })
        })
        .collect()
}

/// The stroke of a name like `Return` or `ctrl+shift+a`; `None` if it is misspelt or the keyboard does not have it.
pub fn chord(name: &str, map: &KeyMap, group: u8) -> Option<Stroke> {
    let mut parts = name.split('+').rev();
    let key = parts.next()?;
    let single = || key.chars().next().filter(|_| key.chars().count() == 1).map(keysym_of);
    let keysym = NAMED.iter().find(|(named, _)| *named == key).map(|(_, sym)| *sym).or_else(single)?;
    let (keycode, 0) = find(map, group, keysym)? else { return None };
    let held = parts.map(|modifier| match modifier.to_ascii_lowercase().as_str() {
        "ctrl" | "control" => find(map, group, CONTROL),
        "shift" => find(map, group, SHIFT),
        "alt" => find(map, group, ALT),
        _ => None,
    });
    Some(Stroke { held: held.map(|found| found.map(|(code, _)| code)).collect::<Option<_>>()?, keycode })
}

/// How pressing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// All of it.
    All,
    /// Asked to stop in between.
    Interrupted,
    /// Nothing was pressed: the watchdog does not answer.
    Nothing,
    /// It broke in between.
    Broken,
}

/// The hands: they press only what the watchdog has been told.
pub struct Keyboard {
    enigo: Enigo,
    watchdog: Watchdog,
}

impl std::fmt::Debug for Keyboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyboard").finish_non_exhaustive()
    }
}

impl Keyboard {
    /// Hands on `display`, or on that of the environment, guarded by `watchdog`.
    ///
    /// # Errors
    /// The display cannot be typed on.
    pub fn new(display: Option<&str>, watchdog: Watchdog) -> Result<Self, Problem> {
        let settings =
            enigo::Settings { linux_delay: 0, x11_display: display.map(str::to_owned), ..enigo::Settings::default() };
        let enigo = Enigo::new(&settings).map_err(|error| {
            Problem::new(
                format!("keys cannot be pressed ({error})"),
                display.unwrap_or("the display of the environment"),
                "Start an X11 session with the XTEST extension",
            )
        })?;
        Ok(Self { enigo, watchdog })
    }

    /// Whether nobody would release keys any more.
    pub fn is_unguarded(&mut self) -> bool {
        self.watchdog.has_ended()
    }

    /// Presses the strokes in order, `pace` apart; asks `stop` before each one.
    pub fn press(
        &mut self,
        strokes: &[Stroke],
        pace: Duration,
        state: &mut dyn InputState,
        stop: &mut dyn FnMut(&mut dyn InputState) -> bool,
    ) -> Pressed {
        for (number, chunk) in strokes.chunks(CHUNK).enumerate() {
            let codes: Vec<u8> = chunk.iter().flat_map(|s| s.held.iter().copied().chain([s.keycode])).collect();
            if self.watchdog.announce(&codes).is_err() {
                return if number == 0 { Pressed::Nothing } else { Pressed::Broken };
            }
            let went = self.press_chunk(chunk, pace, state, stop);
            if went == Pressed::Broken && state.release(&codes).is_err() {
                // The watchdog still holds the announcement and releases them when it hears nothing more.
                return went;
            }
            let told = self.watchdog.released();
            if went != Pressed::All {
                return went;
            }
            if told.is_err() {
                return Pressed::Broken;
            }
        }
        Pressed::All
    }

    fn press_chunk(
        &mut self,
        chunk: &[Stroke],
        pace: Duration,
        state: &mut dyn InputState,
        stop: &mut dyn FnMut(&mut dyn InputState) -> bool,
    ) -> Pressed {
        for stroke in chunk {
            if stop(state) {
                return Pressed::Interrupted;
            }
            if self.press_one(stroke, state).is_err() {
                return Pressed::Broken;
            }
            if !pace.is_zero() {
                std::thread::sleep(pace);
                if self.watchdog.beat().is_err() {
                    return Pressed::Broken;
                }
            }
        }
        Pressed::All
    }

    fn press_one(&mut self, stroke: &Stroke, state: &mut dyn InputState) -> enigo::InputResult<()> {
        let order = || stroke.held.iter().copied().chain([stroke.keycode]);
        for code in order() {
            state.expect(code, true);
            self.enigo.raw(u16::from(code), Direction::Press)?;
        }
        failpoint::reach("executor.key_down");
        for code in order().collect::<Vec<_>>().into_iter().rev() {
            state.expect(code, false);
            self.enigo.raw(u16::from(code), Direction::Release)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keycodes from 8: a/A, 1/!, é in the second layout, Shift, Control, Return.
    fn map() -> KeyMap {
        let rows = [
            [0x61, 0x41, 0xe9, 0xc9],
            [0x31, 0x21, 0x31, 0x21],
            [SHIFT, 0, SHIFT, 0],
            [CONTROL, 0, CONTROL, 0],
            [0xff0d, 0, 0xff0d, 0],
        ];
        KeyMap { min_keycode: 8, per_keycode: 4, keysyms: rows.concat() }
    }

    #[test]
    fn the_layout_in_effect_decides() {
        let plain = |keycode| Stroke { held: vec![], keycode };
        let shifted = |keycode| Stroke { held: vec![10], keycode };
        assert_eq!(plan("aA1!", &map(), 0), Some(vec![plain(8), shifted(8), plain(9), shifted(9)]));
        assert_eq!(plan("é", &map(), 0), None);
        assert_eq!(plan("éÉ", &map(), 1), Some(vec![plain(8), shifted(8)]));
        assert_eq!(plan("a", &map(), 1), None);
        assert_eq!(plan("a", &map(), 2), None);
    }

    #[test]
    fn chords_are_named_exactly_or_not_at_all() {
        assert_eq!(chord("Return", &map(), 0), Some(Stroke { held: vec![], keycode: 12 }));
        assert_eq!(chord("ctrl+a", &map(), 0), Some(Stroke { held: vec![11], keycode: 8 }));
        for wrong in ["", "ctrl+", "return", "hyper+a", "ctrl+A", "Delete"] {
            assert_eq!(chord(wrong, &map(), 0), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_plan_makes_exactly_its_text(
            text in "[aA1!é你\n]{0,20}",
            group in 0..3u8,
            syms in prop::collection::vec(prop_oneof![Just(SHIFT), Just(0x61), Just(0x41), Just(0x21), Just(0), any::<u32>()], 0..40),
            per in 0..6usize,
        ) {
            for map in [map(), KeyMap { min_keycode: 250, per_keycode: per, keysyms: syms }] {
                let Some(strokes) = plan(&text, &map, group) else { continue };
                let made: Vec<u32> = strokes.iter().map(|stroke| {
                    let row = usize::from(stroke.keycode - map.min_keycode) * map.per_keycode;
                    map.keysyms[row + 2 * usize::from(group) + stroke.held.len()]
                }).collect();
                prop_assert_eq!(made, text.chars().map(keysym_of).collect::<Vec<_>>());
            }
        }
    }
}
