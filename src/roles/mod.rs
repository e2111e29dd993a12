//! One file a role: the only place that joins rooms.

mod admin;
#[cfg(feature = "desktop")]
mod applications;
mod consistency;
pub mod control;
#[cfg(feature = "worker")]
pub mod counted;
pub mod dead_letters;
#[cfg(all(feature = "desktop", feature = "worker"))]
pub mod demo;
pub mod desks;
#[cfg(feature = "desktop")]
pub mod desktop;
pub mod doctor;
#[cfg(feature = "worker")]
mod files;
pub mod forget;
#[cfg(feature = "worker")]
mod heartbeat;
#[cfg(feature = "desktop")]
pub mod hello;
pub mod metrics;
pub mod migrate;
mod observed;
mod own;
mod paint;
mod process;
#[cfg(feature = "desktop")]
pub mod profile;
#[cfg(feature = "desktop")]
pub mod relay;
#[cfg(all(feature = "desktop", feature = "worker"))]
pub mod run;
pub mod sagas;
pub mod settings;
pub mod status;
#[cfg(feature = "worker")]
mod story;
pub mod top;
pub mod topics;
mod traced;
#[cfg(test)]
#[cfg(all(feature = "desktop", feature = "worker"))]
mod two_desks_tests;
#[cfg(feature = "desktop")]
pub mod watchdog;
#[cfg(feature = "desktop")]
mod watching;
pub mod wiring;
#[cfg(feature = "worker")]
pub mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::control::client::Client;
use crate::error::Problem;
use crate::settings::Layers;

/// What a role is given from outside: settings, environment, and how it is to answer.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings in force.
    pub layers: Layers,
    /// The process's environment, read once.
    pub environment: Environment,
    /// The settings file that was read, to hand on to child processes.
    pub config: Option<PathBuf>,
    /// The control socket from the command line.
    pub socket: Option<PathBuf>,
    /// JSON instead of tables.
    pub json: bool,
}

impl Context {
    /// Reads the settings: the named file, or the usual one if it is there.
    ///
    /// # Errors
    /// Whatever is wrong with the settings.
    pub fn gather(
        config: Option<PathBuf>,
        socket: Option<PathBuf>,
        json: bool,
        environment: Environment,
    ) -> Result<Self, Problem> {
        let usual = crate::settings::default_file(environment.get("XDG_CONFIG_HOME"), environment.get("HOME"))
            .filter(|path| path.exists());
        let config = config.or(usual);
        let layers = Layers::load(config.as_deref(), environment.0.clone())?;
        Ok(Self { layers, environment, config, socket, json })
    }

    /// The path of the control socket: from the command line, the settings, or `autoreply.sock` in the runtime directory.
    ///
    /// # Errors
    /// The `[control]` section does not fit, or there is no directory for it.
    pub fn socket_path(&self) -> Result<PathBuf, Problem> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let settings: crate::control::Settings = self.layers.section("control")?;
        if !settings.socket.is_empty() {
            return Ok(PathBuf::from(settings.socket));
        }
        match self.environment.get("XDG_RUNTIME_DIR").map(Path::new).filter(|path| path.is_absolute()) {
            Some(directory) => Ok(directory.join("autoreply.sock")),
            None => Ok(self.data_dir()?.join("autoreply.sock")),
        }
    }

    /// The directory for what must last.
    ///
    /// # Errors
    /// Neither XDG_DATA_HOME nor HOME is set.
    pub fn data_dir(&self) -> Result<PathBuf, Problem> {
        crate::settings::data_dir(self.environment.get("XDG_DATA_HOME"), self.environment.get("HOME")).ok_or_else(
            || {
                Problem::new(
                    "there is no directory for the journal and the ledger",
                    "the environment",
                    "Set HOME, or XDG_DATA_HOME to an absolute path",
                )
            },
        )
    }

    /// A client of the running process.
    ///
    /// # Errors
    /// As for [`Self::socket_path`].
    pub fn client(&self) -> Result<Client, Problem> {
        Ok(Client::new(&self.socket_path()?))
    }

    /// Who is asking, for records: the user's name.
    pub fn user(&self) -> String {
        self.environment.get("USER").or(self.environment.get("LOGNAME")).unwrap_or("somebody").to_owned()
    }
}

/// The environment of the process, read once at its start.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A table of text for a terminal: columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let text: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", text.join("  ").trim_end())
    };
    std::iter::once(line(head))
        .chain(rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str()))))
        .collect()
}

/// Pretty JSON with a final line feed.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| text + "\n")
}
