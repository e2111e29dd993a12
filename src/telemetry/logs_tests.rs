//! `docs/LOGGING.md` is held against the sources: every line that can be logged stands there, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Level, text and fields of each line that a file logs.
#[derive(Default)]
struct Logged(BTreeSet<(String, String, String)>);

impl<'ast> Visit<'ast> for Logged {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_for_tests = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
        };
        if !module.attrs.iter().any(is_for_tests) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let names: Vec<String> = called.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [room, level] = names.as_slice()
            && room == "tracing"
            && LEVELS.contains(&level.as_str())
        {
            let (text, fields) = read(called.tokens.clone());
            self.0.insert((level.clone(), text, fields));
        } else {
            self.inside(called.tokens.clone());
        }
    }
}

impl Logged {
    /// Calls in what another macro is given, as the arms of a `select!`.
    fn inside(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (place, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            let before: String = tokens[place.saturating_sub(5)..place].iter().map(ToString::to_string).collect();
            match LEVELS.iter().find(|level| before.ends_with(&format!("tracing::{level}!"))) {
                Some(level) => {
                    let (text, fields) = read(group.stream());
                    self.0.insert(((*level).to_owned(), text, fields));
                }
                None => self.inside(group.stream()),
            }
        }
    }
}

/// The text and the names of the fields of one call.
fn read(tokens: TokenStream) -> (String, String) {
    let mut parts: Vec<Vec<TokenTree>> = vec![Vec::new()];
    for token in tokens {
        match (&token, parts.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => parts.push(Vec::new()),
            (_, Some(part)) => part.push(token),
            (_, None) => {}
        }
    }
    let mut fields = Vec::new();
    for part in parts {
        if let Some(TokenTree::Literal(literal)) = part.first() {
            let text: syn::LitStr = syn::parse_str(&literal.to_string()).expect("a line begins with its text");
            return (text.value(), fields.join(", "));
        }
        let is_named = |token: &TokenTree| !matches!(token, TokenTree::Punct(punct) if punct.as_char() == '=');
        let name: String = part.iter().take_while(|token| is_named(token)).map(ToString::to_string).collect();
        fields.push(name.trim_start_matches(['%', '?']).to_owned());
    }
    panic!("a line has no text: its fields are {fields:?}");
}

fn gather(directory: &Path, logged: &mut Logged) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && name != "tests" && name != "testing" {
            gather(&path, logged);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "testing.rs" {
            let source = std::fs::read_to_string(&path).unwrap();
            logged.visit_file(&syn::parse_file(&source).unwrap());
        }
    }
}

fn documented(text: &str) -> BTreeSet<(String, String, String)> {
    let cells = |line: &str| line.split(" | ").map(|cell| cell.trim_matches(['|', ' ']).to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    let lines = rows.filter(|row| LEVELS.contains(&row[0].as_str()));
    lines.map(|row| (row[0].clone(), row[1].clone(), row[2].clone())).collect()
}

#[test]
fn the_document_has_every_line_and_no_other() {
    let mut logged = Logged::default();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut logged);
    assert!(logged.0.len() > 100, "the sources were found");
    let written = documented(include_str!("../../docs/LOGGING.md"));
    let missing: Vec<_> = logged.0.difference(&written).collect();
    let stale: Vec<_> = written.difference(&logged.0).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/LOGGING.md lacks {missing:#?}\nand has too much {stale:#?}");
}

#[test]
fn a_line_is_read_as_it_is_written() {
    let read = |source: &str| {
        let mut logged = Logged::default();
        logged.visit_file(&syn::parse_file(source).unwrap());
        logged.0.into_iter().next()
    };
    let line = (String::from("info"), String::from("a \"line\""), String::from("turn, n, why"));
    let source = r#"fn f() { tracing::info!(%turn, n = f(1, 2), why = ?a.b, "a \"line\"", x); }"#;
    assert_eq!(read(source), Some(line));
    assert_eq!(read(r#"#[cfg(test)] mod tests { fn f() { tracing::info!("of a test"); } }"#), None);
}

/// A text with something put into it cannot be counted.
#[test]
fn the_texts_are_constant_and_name_no_secret() {
    let mut logged = Logged::default();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut logged);
    for (_, text, fields) in &logged.0 {
        assert!(!text.contains('{') && !text.ends_with('.'), "{text}");
        for field in fields.split(", ") {
            assert!(!["text", "peer", "title", "reply", "sender", "draft_text"].contains(&field), "{text}: {field}");
        }
    }
}
