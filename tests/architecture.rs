//! The house keeps its rules: who may import whom, which crate stays in which room, how long a file may be.
//!
//! Each rule is tried on the sources, where it must find files to look at and nothing to complain of, and on a bad
//! fixture, where it must complain: a rule that cannot fail guards nothing.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A room must not name these rooms of the crate.
struct RoomRule {
    room: &'static str,
    forbidden: &'static [&'static str],
    /// Source that breaks the rule.
    fixture: &'static str,
}

const ABOVE_THE_PURE: &[&str] = &[
    "screen",
    "capture",
    "execution",
    "journal",
    "stream",
    "saga",
    "generation",
    "ledger",
    "limits",
    "control",
    "telemetry",
    "settings",
    "roles",
    "cli",
    "retry",
    "lifecycle",
];
const EVERY_ROOM: &[&str] = &[
    "contract",
    "policy",
    "screen",
    "capture",
    "execution",
    "journal",
    "stream",
    "saga",
    "generation",
    "ledger",
    "limits",
    "control",
    "roles",
    "cli",
];

const ROOM_RULES: &[RoomRule] = &[
    RoomRule { room: "contract", forbidden: ABOVE_THE_PURE, fixture: "use crate::journal::Journal;" },
    RoomRule { room: "policy", forbidden: ABOVE_THE_PURE, fixture: "fn f() { crate::stream::connect() }" },
    RoomRule { room: "error.rs", forbidden: ABOVE_THE_PURE, fixture: "use crate::{error::Class, settings::Layers};" },
    RoomRule { room: "clock.rs", forbidden: ABOVE_THE_PURE, fixture: "use crate::telemetry as t;" },
    RoomRule {
        room: "saga",
        forbidden: &["ledger", "limits", "generation", "stream", "journal", "capture", "execution", "screen", "roles"],
        fixture: "use crate::ledger::Sqlite;",
    },
    RoomRule {
        room: "ledger",
        forbidden: &["generation", "limits", "stream", "journal", "capture", "execution", "screen", "roles"],
        fixture: "use crate::stream::Producer;",
    },
    RoomRule {
        room: "limits",
        forbidden: &["generation", "ledger", "stream", "journal", "capture", "execution", "screen", "roles"],
        fixture: "use crate::ledger::Sqlite;",
    },
    RoomRule {
        room: "generation",
        forbidden: &["ledger", "limits", "stream", "journal", "capture", "execution", "screen", "roles"],
        fixture: "use crate::limits::InProcess;",
    },
    RoomRule {
        room: "capture",
        forbidden: &["execution", "stream", "saga", "generation", "ledger", "limits", "roles", "control"],
        fixture: "use crate::execution::Executor;",
    },
    RoomRule {
        room: "execution",
        forbidden: &["capture", "stream", "saga", "generation", "ledger", "limits", "roles", "control"],
        fixture: "use crate::capture::Watcher;",
    },
    RoomRule {
        room: "journal",
        forbidden: &["capture", "execution", "stream", "saga", "generation", "ledger", "limits", "roles", "control"],
        fixture: "use crate::capture::transcript::Transcript;",
    },
    RoomRule {
        room: "screen",
        forbidden: &["capture", "execution", "journal", "stream", "saga", "generation", "ledger", "limits", "roles"],
        fixture: "use crate::journal::Journal;",
    },
    RoomRule {
        room: "stream",
        forbidden: &[
            "screen",
            "capture",
            "execution",
            "journal",
            "saga",
            "generation",
            "ledger",
            "limits",
            "control",
            "roles",
        ],
        fixture: "use crate::saga::Handler;",
    },
    RoomRule { room: "telemetry", forbidden: EVERY_ROOM, fixture: "use crate::contract::TurnId;" },
    RoomRule { room: "settings", forbidden: EVERY_ROOM, fixture: "use crate::journal::Settings;" },
];

/// A crate that may be named only below these places of `src/`.
const CRATE_RULES: &[(&str, &[&str])] = &[
    ("rdkafka", &["stream"]),
    ("sqlx", &["journal", "ledger"]),
    ("redis", &["limits"]),
    ("reqwest", &["generation/provider"]),
    ("xcap", &["screen"]),
    ("x11rb", &["screen"]),
    ("tesseract", &["screen"]),
    ("atspi", &["screen"]),
    ("enigo", &["execution"]),
    ("arboard", &["execution"]),
    ("prometheus", &["telemetry"]),
    ("backoff", &["retry.rs"]),
    ("clap", &["cli.rs"]),
    ("ratatui", &["roles/top"]),
    ("crossterm", &["roles/top"]),
    ("autoreply_rig", &["roles"]),
];

/// The paths that a source file names, as lists of segments: `use` trees are spread out.
#[derive(Default)]
struct Paths(BTreeSet<Vec<String>>);

impl Paths {
    fn of(source: &str) -> Self {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(source).expect("the sources parse"));
        paths
    }

    fn spread(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.spread(&path.tree, &with(path.ident.to_string())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.spread(item, prefix)),
            syn::UseTree::Name(name) => drop(self.0.insert(with(name.ident.to_string()))),
            syn::UseTree::Rename(name) => drop(self.0.insert(with(name.ident.to_string()))),
            syn::UseTree::Glob(_) => drop(self.0.insert(prefix.to_vec())),
        }
    }

    fn names_room(&self, room: &str) -> bool {
        self.0.iter().any(|path| {
            path.first().is_some_and(|root| root == "crate") && path.get(1).is_some_and(|name| name == room)
        })
    }

    fn names_crate(&self, name: &str) -> bool {
        self.0.iter().any(|path| path.len() > 1 && path[0] == name)
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.spread(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its place below `src/`.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources_below(&root(), &mut found);
    found
        .into_iter()
        .map(|path| {
            let place = path.strip_prefix(root()).expect("below src").to_string_lossy().into_owned();
            (place, std::fs::read_to_string(&path).expect("a readable source"))
        })
        .collect()
}

fn is_in(place: &str, room: &str) -> bool {
    place == room || place.starts_with(&format!("{room}/")) || place == format!("{room}.rs")
}

#[test]
fn rooms_import_only_what_they_may() {
    let sources = sources();
    for rule in ROOM_RULES {
        let own: Vec<_> = sources.iter().filter(|(place, _)| is_in(place, rule.room)).collect();
        assert!(!own.is_empty(), "the rule for {} looks at no file", rule.room);
        for (place, source) in own {
            let paths = Paths::of(source);
            for room in rule.forbidden {
                assert!(!paths.names_room(room), "src/{place} names crate::{room}, which {} must not", rule.room);
            }
        }
        let bad = Paths::of(rule.fixture);
        assert!(
            rule.forbidden.iter().any(|room| bad.names_room(room)),
            "the rule for {} does not see its bad fixture",
            rule.room
        );
    }
}

#[test]
fn crates_stay_in_their_room() {
    let sources = sources();
    for (name, rooms) in CRATE_RULES {
        for (place, source) in &sources {
            let paths = Paths::of(source);
            let allowed = rooms.iter().any(|room| is_in(place, room));
            assert!(
                allowed || !paths.names_crate(name),
                "src/{place} names the crate {name}, which stays in {rooms:?}"
            );
        }
        assert!(Paths::of(&format!("fn f() {{ {name}::go() }}")).names_crate(name), "the rule for {name} sees nothing");
        assert!(Paths::of(&format!("use {name}::Thing;")).names_crate(name), "the rule for {name} sees nothing");
    }
}

/// The places between a room's types and the wire. What crosses there becomes bytes in `contract/codec` and nowhere else,
/// so that sealing it later is a change of one place.
const ON_THE_WAY: &[&str] =
    &["saga", "stream", "roles/hello.rs", "roles/relay.rs", "roles/wiring.rs", "roles/worker.rs"];

#[test]
fn records_become_bytes_in_the_codec_alone() {
    let sources = sources();
    for way in ON_THE_WAY {
        let there: Vec<_> = sources.iter().filter(|(place, _)| is_in(place, way)).collect();
        assert!(!there.is_empty(), "src/{way} is gone; the rule guards nothing there");
        for (place, source) in there.into_iter().filter(|(place, _)| !place.ends_with("tests.rs")) {
            let named = Paths::of(source).names_crate("serde_json");
            assert!(!named, "src/{place} makes or reads JSON; records do that in contract/codec");
        }
    }
    let codec = sources.iter().find(|(place, _)| place == "contract/codec/mod.rs");
    assert!(codec.is_some_and(|(_, source)| Paths::of(source).names_crate("serde_json")), "the codec has moved");
}

/// Lines of a file before its test module.
fn lines_of_code(source: &str) -> usize {
    source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count()
}

#[test]
fn files_stay_short() {
    const MOST: usize = 500;
    for (place, source) in
        sources().into_iter().filter(|(place, _)| !place.ends_with("tests.rs") && !place.contains("/tests/"))
    {
        let lines = lines_of_code(&source);
        assert!(lines <= MOST, "src/{place} has {lines} lines of code; {MOST} are the most");
    }
    assert!(lines_of_code(&"x\n".repeat(MOST + 1)) > MOST);
}

/// Functions of more than this many lines, with their names.
fn long_functions(source: &str, most: usize) -> Vec<String> {
    struct Long(usize, Vec<String>);
    impl Long {
        fn look(&mut self, name: &syn::Ident, block: &syn::Block) {
            let span = block.brace_token.span;
            let lines = span.close().start().line - span.open().start().line;
            if lines > self.0 {
                self.1.push(format!("{name} ({lines} lines)"));
            }
        }
    }
    impl<'ast> Visit<'ast> for Long {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.look(&item.sig.ident, &item.block);
            syn::visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.look(&item.sig.ident, &item.block);
            syn::visit::visit_impl_item_fn(self, item);
        }
    }
    let mut long = Long(most, Vec::new());
    long.visit_file(&syn::parse_file(source).expect("the sources parse"));
    long.1
}

#[test]
fn functions_fit_a_screen() {
    const MOST: usize = 70;
    for (place, source) in sources() {
        let long = long_functions(&source, MOST);
        assert!(long.is_empty(), "src/{place} has functions of more than {MOST} lines: {long:?}");
    }
    assert_eq!(long_functions(&format!("fn f() {{\n{}}}", "g();\n".repeat(MOST + 1)), MOST).len(), 1);
}
