//! The run's own files.

use std::path::{Path, PathBuf};

use super::Unread;
use crate::checker::Facts;
use crate::checker::material::Shown;
use crate::facts::{self, APPS_DIRECTORY, AppLine, FAULTS_FILE, PLAN_FILE};

/// The plan, what the applications showed, and what was broken (nothing, if there is no such file).
///
/// # Errors
/// A file is not there or not what it should be.
pub fn load(directory: &Path) -> Result<Facts, Unread> {
    let plan = directory.join(PLAN_FILE);
    let planned = facts::read(&plan).map_err(Unread::at(&plan))?;
    let mut shown = Vec::new();
    for path in files(&directory.join(APPS_DIRECTORY))? {
        let desktop = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in facts::read::<AppLine>(&path).map_err(Unread::at(&path))? {
            shown.push(Shown { desktop: desktop.clone(), peer: line.peer, side: line.side, text: line.text });
        }
    }
    let path = directory.join(FAULTS_FILE);
    let faults = if path.exists() { facts::read(&path).map_err(Unread::at(&path))? } else { Vec::new() };
    Ok(Facts { planned, shown, faults, ..Facts::default() })
}

/// The files of a directory and of those below it, by name.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Unread> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Unread::at(directory))? {
        let path = entry.map_err(Unread::at(directory))?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
