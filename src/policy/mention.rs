//! Whether a message in a group speaks to us.

/// Whether `text` names one of `own_names` as a word, whatever the case, with or without `@` before it. Scripts that
/// are written without blanks need no word boundary. An empty name mentions nobody.
pub fn mentions<'a>(text: &str, own_names: impl IntoIterator<Item = &'a str>) -> bool {
    let text = text.to_lowercase();
    own_names.into_iter().any(|name| {
        let name = name.trim().to_lowercase();
        !name.is_empty() && text.match_indices(&name).any(|(start, _)| stands_alone(&text, start, start + name.len()))
    })
}

/// Whether `text[start..end]` is not a part of a longer word.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let (Some(found), Some(before), Some(after)) = (text.get(start..end), text.get(..start), text.get(end..)) else {
        return false;
    };
    let parted = |edge: Option<char>, beside: Option<char>| match (edge, beside) {
        (Some(edge), Some(beside)) => !is_word(beside) || is_unspaced(edge) || is_unspaced(beside),
        _ => true,
    };
    parted(found.chars().next(), before.chars().next_back()) && parted(found.chars().next_back(), after.chars().next())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Thai, Lao, Khmer, Burmese, kana, Han: written without blanks between words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_a_word() {
        for text in ["ann: hi", "hi Ann", "@ann?", "well,ANN.", "ann", "(ann)", "你好ann你好"] {
            assert!(mentions(text, ["ann"]), "{text}");
        }
        for text in ["annual report", "hannah", "ann_b", "joann", "an n", ""] {
            assert!(!mentions(text, ["ann"]), "{text}");
        }
        assert!(mentions("张三你好", ["张三"]));
        assert!(mentions("annual, but ann", ["ann"]));
        assert!(!mentions("anything", ["", "  "]));
        assert!(!mentions("anything", []));
    }

    proptest! {
        #[test]
        fn a_name_among_blanks_is_found_and_no_text_panics(
            before in ".{0,20}", after in ".{0,20}", name in "[a-zA-Zé你]{1,8}",
        ) {
            let text = format!("{before} {name} {after}");
            prop_assert!(mentions(&text, [name.as_str()]));
            let _ = mentions(&before, [after.as_str()]);
        }
    }
}
