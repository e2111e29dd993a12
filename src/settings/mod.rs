//! Settings in layers: the embedded defaults, a file, the environment. It serves every room and uses none.
//!
//! `config.default.toml` is embedded; it is the documentation and the list of the keys that exist. A key that it does
//! not know is an error that names the file or the variable and the nearest key that exists. Values are checked when a
//! room takes its section: the error names the layer that set the value.

mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use secret::SecretReference;

use crate::error::Problem;

/// Every setting with its default, as text with its comments.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// The prefix of a setting in the environment: `AUTOREPLY__SECTION__KEY`.
const PREFIX: &str = "AUTOREPLY__";

/// Tables whose keys are names that the user chooses; what stands below them is checked by the room that owns them.
const OPEN_TABLES: [&str; 3] = ["generation.providers", "stream.client", "journal.profile_modes"];

/// The merged settings, and for each value where it came from.
#[derive(Debug, Clone)]
pub struct Layers {
    merged: Table,
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// The defaults, then the file at `file` (which must exist if it is given), then those of `environment` that begin
    /// with `AUTOREPLY__`.
    ///
    /// # Errors
    /// The first thing that is wrong: what, in which file and line or variable, and what to write instead.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problem> {
        let defaults: Table = parse(DEFAULTS, "config.default.toml")?;
        let mut layers = Self { merged: defaults.clone(), origins: BTreeMap::new() };
        if let Some(path) = file {
            let place = path.display().to_string();
            let bytes = std::fs::read(path).map_err(|error| {
                Problem::new(format!("it cannot be read ({error})"), &place, "Name a file that exists, or none")
            })?;
            layers.apply_file(&defaults, &bytes, &place)?;
        }
        let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            layers.apply_variable(&defaults, &name, &value)?;
        }
        Ok(layers)
    }

    /// Merges the bytes of a settings file.
    ///
    /// # Errors
    /// Not UTF-8, not TOML, or a key that does not exist.
    fn apply_file(&mut self, defaults: &Table, bytes: &[u8], place: &str) -> Result<(), Problem> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            Problem::new(format!("byte {} is not UTF-8", error.valid_up_to()), place, "Save the file as UTF-8 text")
        })?;
        let layer = parse(text, place)?;
        check_keys(defaults, &layer, "", place)?;
        self.merge(layer, "", place);
        Ok(())
    }

    fn apply_variable(&mut self, defaults: &Table, name: &str, value: &str) -> Result<(), Problem> {
        let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let place = format!("environment variable {name}");
        if path.len() < 2 || path.iter().any(String::is_empty) {
            return Err(Problem::new("it names no setting", place, "Write AUTOREPLY__SECTION__KEY"));
        }
        let mut layer =
            path.iter().rev().fold(typed(value), |inner, key| Value::Table(Table::from_iter([(key.clone(), inner)])));
        // A number or a truth value in a place where the default is a text stays a text.
        if let (Some(Value::String(_)), Value::Table(table)) = (lookup(defaults, &path), &mut layer) {
            set(table, &path, Value::String(value.to_owned()));
        }
        let Value::Table(layer) = layer else {
            return Err(Problem::new("it names no setting", place, "Write AUTOREPLY__SECTION__KEY"));
        };
        check_keys(defaults, &layer, "", &place)?;
        self.merge(layer, "", &place);
        Ok(())
    }

    fn merge(&mut self, layer: Table, prefix: &str, place: &str) {
        let mut merged = std::mem::take(&mut self.merged);
        merge_into(&mut merged, layer, prefix, place, &mut self.origins);
        self.merged = merged;
    }

    /// A room's section as its own type.
    ///
    /// # Errors
    /// A value of the wrong type, with its key, where it was set, and what was expected.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, Problem> {
        let value = self.merged.get(name).cloned().unwrap_or_else(|| Value::Table(Table::new()));
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let key = if inner == "." { name.to_owned() } else { format!("{name}.{inner}") };
            let origin = self.origin(&key);
            Problem::new(
                format!("{key} does not fit: {}", error.inner().message()),
                origin,
                "See config.default.toml for what this key takes (autoreply settings show prints it)",
            )
        })
    }

    /// All settings in force.
    pub fn values(&self) -> &Table {
        &self.merged
    }

    /// Each key that is not a default, and where it was set.
    pub fn origins(&self) -> &BTreeMap<String, String> {
        &self.origins
    }

    /// Where a key was set last.
    pub fn origin(&self, key: &str) -> &str {
        self.origins
            .iter()
            .filter(|(set, _)| {
                key == set.as_str() || key.starts_with(&format!("{set}.")) || set.starts_with(&format!("{key}."))
            })
            .max_by_key(|(set, _)| set.len())
            .map_or("config.default.toml", |(_, origin)| origin)
    }

    /// All settings as TOML, each one that is not a default with a comment that says where it was set.
    pub fn show(&self) -> String {
        let text = toml::to_string_pretty(&self.merged).unwrap_or_else(|error| format!("# {error}\n"));
        let mut section = String::new();
        let mut out = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            }
            let key = line.split_once(" = ").map(|(key, _)| format!("{section}.{key}"));
            out.push_str(line);
            if let Some(origin) = key.as_ref().and_then(|key| self.origins.get(key)) {
                out.push_str(&format!("  # {origin}"));
            }
            out.push('\n');
        }
        out
    }
}

/// Every setting with its default.
pub fn defaults() -> Table {
    parse(DEFAULTS, "config.default.toml").unwrap_or_default()
}

/// The environment of this process; a variable that is not UTF-8 is left out. Roles hand on what a room needs.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Where the settings file is looked for when none is named: `$XDG_CONFIG_HOME/autoreply/config.toml`.
pub fn default_file(xdg_config_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    base(xdg_config_home, home, ".config").map(|dir| dir.join("config.toml"))
}

/// The directory for what must last: `$XDG_DATA_HOME/autoreply`.
pub fn data_dir(xdg_data_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    base(xdg_data_home, home, ".local/share")
}

fn base(xdg: Option<&str>, home: Option<&str>, below_home: &str) -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    xdg.map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| Path::new(home).join(below_home)))
        .map(|path| path.join("autoreply"))
}

fn parse(text: &str, place: &str) -> Result<Table, Problem> {
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Problem::new(
            format!("it is not valid TOML ({})", error.message()),
            format!("{place}, line {line}"),
            "Mend that line",
        )
    })
}

/// An environment value as TOML would read it, or else as text.
fn typed(value: &str) -> Value {
    format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_owned()))
}

fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
    } else if let Some(Value::Table(inner)) = table.get_mut(first) {
        set(inner, rest, value);
    }
}

fn check_keys(known: &Table, layer: &Table, prefix: &str, place: &str) -> Result<(), Problem> {
    for (key, value) in layer {
        let path = join(prefix, key);
        let Some(default) = known.get(key) else {
            let near = known.keys().max_by(|a, b| likeness(a, key).total_cmp(&likeness(b, key)));
            let remedy = near.map_or_else(
                || "Remove it".to_owned(),
                |near| format!("Did you mean {}? config.default.toml lists every key", join(prefix, near)),
            );
            return Err(Problem::new(format!("the setting {path} does not exist"), place, remedy));
        };
        match (default, value) {
            _ if OPEN_TABLES.contains(&path.as_str()) => {}
            (Value::Table(known), Value::Table(inner)) => check_keys(known, inner, &path, place)?,
            (Value::Table(_), _) => {
                return Err(Problem::new(
                    format!("{path} is a section, not a value"),
                    place,
                    format!("Write [{path}] and the keys below it"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn merge_into(base: &mut Table, layer: Table, prefix: &str, place: &str, origins: &mut BTreeMap<String, String>) {
    for (key, value) in layer {
        let path = join(prefix, &key);
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge_into(below, above, &path, place, origins),
            (_, value) => {
                base.insert(key, value);
                origins.insert(path, place.to_owned());
            }
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The share of letter pairs that two keys have in common (Sørensen–Dice), enough to guess a misspelling.
fn likeness(a: &str, b: &str) -> f64 {
    let pairs = |text: &str| -> Vec<(char, char)> { text.chars().zip(text.chars().skip(1)).collect() };
    let (left, mut right) = (pairs(a), pairs(b));
    let total = left.len() + right.len();
    if total == 0 {
        return 0.0;
    }
    let shared = left
        .iter()
        .filter(|pair| right.iter().position(|other| other == *pair).map(|at| right.swap_remove(at)).is_some())
        .count();
    2.0 * shared as f64 / total as f64
}

#[cfg(test)]
mod tests;
