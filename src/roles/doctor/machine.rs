//! The data directory, the clock, and whether an autoreply runs already.

use std::path::Path;

use jiff::Timestamp;

use super::Finding;
use crate::clock::{Clock as _, SystemClock};
use crate::roles::Context;
use crate::roles::own::existing;

/// Bytes below which a disk counts as full: before that, SQLite's journals may not fit.
const LEAST_FREE: u64 = 200 << 20;
/// How far the clock may be behind what is older for certain, in seconds.
const CLOCK_SLACK_S: i64 = 86_400;

pub(super) fn examine(context: &Context) -> Vec<Finding> {
    vec![data_directory(context), free_space(context), clock()]
}

fn data_directory(context: &Context) -> Finding {
    const CHECK: &str = "data directory";
    let directory = match context.data_dir() {
        Ok(directory) => directory,
        Err(problem) => return Finding::of(CHECK, problem),
    };
    let place = directory.display();
    let remedy = "Give this directory to the user that runs autoreply, or set XDG_DATA_HOME to one that is theirs";
    let Some(there) = existing(&directory) else {
        return Finding::problem(CHECK, format!("no part of the path {place} is a directory"), remedy);
    };
    let probe = there.join(format!(".autoreply-doctor-{}", std::process::id()));
    let written = std::fs::File::options().write(true).create_new(true).open(&probe);
    let removed = written.and_then(|_| std::fs::remove_file(&probe));
    match removed {
        Ok(()) if there == directory => Finding::ok(CHECK, format!("{place} can be written")),
        Ok(()) => Finding::ok(CHECK, format!("{place} can be made")),
        Err(error) => Finding::problem(CHECK, format!("{} cannot be written ({error})", there.display()), remedy),
    }
}

fn free_space(context: &Context) -> Finding {
    const CHECK: &str = "free space";
    let Some(there) = context.data_dir().ok().as_deref().and_then(existing) else {
        return Finding::note(CHECK, "it is not known without a data directory", "");
    };
    match rustix::fs::statvfs(&there) {
        Ok(disk) => judge_space(disk.f_bavail.saturating_mul(disk.f_frsize), &there),
        Err(error) => Finding::note(CHECK, format!("the disk of {} does not tell ({error})", there.display()), ""),
    }
}

fn judge_space(free: u64, there: &Path) -> Finding {
    let (free_mib, place) = (free >> 20, there.display());
    if free < LEAST_FREE {
        let what = format!("only {free_mib} MiB are free at {place}; with a full disk nothing is typed");
        return Finding::problem("free space", what, format!("Free at least {} MiB", LEAST_FREE >> 20));
    }
    Finding::ok("free space", format!("{free_mib} MiB at {place}"))
}

fn clock() -> Finding {
    let program = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified());
    judge_clock(SystemClock.now(), program.ok().and_then(|time| Timestamp::try_from(time).ok()))
}

/// A clock before the program was written, or far in the future, is wrong.
fn judge_clock(now: Timestamp, program: Option<Timestamp>) -> Finding {
    const CHECK: &str = "clock";
    const YEAR_2025: i64 = 1_735_689_600;
    const YEAR_2100: i64 = 4_102_444_800;
    let earliest = program.map_or(YEAR_2025, Timestamp::as_second).max(YEAR_2025) - CLOCK_SLACK_S;
    if (earliest..YEAR_2100).contains(&now.as_second()) {
        return Finding::ok(CHECK, format!("{}", now.round(jiff::Unit::Second).unwrap_or(now)));
    }
    let what = format!("it shows {now}, which cannot be: ages and deadlines of replies would be wrong");
    Finding::problem(CHECK, what, "Set the clock, best by NTP (timedatectl set-ntp true)")
}

/// Whether an autoreply answers on the socket.
pub(super) async fn running(context: &Context) -> Vec<Finding> {
    const CHECK: &str = "running process";
    let path = match context.socket_path() {
        Ok(path) => path,
        Err(problem) => return vec![Finding::of(CHECK, problem)],
    };
    let place = path.display();
    if !path.exists() {
        return vec![Finding::ok(CHECK, format!("none (no socket at {place})"))];
    }
    let client = crate::control::client::Client::new(&path);
    let finding = match client.health().await {
        Ok(health) if health.ready() => {
            Finding::note(CHECK, format!("an autoreply ({}) runs on {place}, and is ready", health.role), "")
        }
        Ok(health) => {
            let parts: Vec<_> = health
                .parts
                .iter()
                .filter(|part| !part.ready)
                .map(|part| format!("{} ({})", part.name, part.detail))
                .collect();
            let what =
                format!("an autoreply ({}) runs on {place}, and is not ready: {}", health.role, parts.join(", "));
            Finding::problem(CHECK, what, "Look at its log; these parts say there what they wait for")
        }
        Err(_) => Finding::note(CHECK, format!("none; the socket {place} is left over"), "The next start replaces it"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::doctor::State;

    #[test]
    fn a_clock_that_cannot_be_is_a_problem() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let written = Some(at("2026-03-01T00:00:00Z"));
        assert_eq!(judge_clock(at("2026-03-01T00:00:01Z"), written).state, State::Ok);
        assert_eq!(judge_clock(at("2026-02-01T00:00:00Z"), written).state, State::Problem);
        assert_eq!(judge_clock(at("1970-01-01T00:00:09Z"), None).state, State::Problem);
        assert_eq!(judge_clock(at("2101-01-01T00:00:00Z"), written).state, State::Problem);
    }

    #[test]
    fn a_full_disk_is_a_problem() {
        assert_eq!(judge_space(LEAST_FREE - 1, Path::new("/")).state, State::Problem);
        assert_eq!(judge_space(LEAST_FREE, Path::new("/")).state, State::Ok);
    }
}
