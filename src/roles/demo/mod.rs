//! `autoreply demo`: the whole way of a message with a real chat client on a private display, before your eyes.
//!
//! The product runs as it is, as a child process; peers in processes of their own judge what arrived.

mod act;
mod cast;
mod follow;
mod pictures;
mod play;
mod report;
mod stage;
mod timeline;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use act::Totals;
use autoreply_rig::missing_tools;
use cast::differences;
use stage::{Plan, Stage};
use timeline::Timeline;

use super::Context;
use crate::error::Problem;
use crate::lifecycle::stop_signal;

/// How long the person at the demo's desk must have left the keyboard alone, in milliseconds.
const IDLE_MS: u64 = 300;
/// The file that says that a desk's directory was made here and may be wiped.
const MARKER: &str = ".autoreply-demo";
/// How long it is listened at the end for what should not come.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// Plays the scenes in `directory`, leaves `report.html` there, and succeeds only if each peer received exactly what
/// it should have, once, and nothing else.
///
/// # Errors
/// The desk cannot be set up: a program is missing, or the directory is not ours.
pub async fn run(context: &Context, directory: &Path) -> Result<ExitCode, Problem> {
    let directory = prepare(directory)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // The product is shown with the demo's settings, not with the user's.
    let own = context.environment.0.keys().filter(|name| name.starts_with("AUTOREPLY__")).cloned().collect();
    let plan = Plan { directory, unset: own, stop: asked };
    let mut playing = tokio::task::spawn_blocking(move || perform(&plan));
    let played = tokio::select! {
        played = &mut playing => played,
        _signal = stop_signal() => {
            stop.store(true, Ordering::SeqCst);
            playing.await
        }
    };
    played.unwrap_or_else(|error| Err(Problem::new(format!("it broke ({error})"), "the demo", "Report this")))
}

/// Is a peer: the other end of a conversation. Started by the demo.
#[must_use]
pub fn peer(nick: &str, port: u16) -> ExitCode {
    autoreply_rig::peer::run(nick, port)
}

/// Is the window beside HexChat that records every key it gets. Started by the demo.
#[must_use]
pub fn sentinel(display: &str, x: i16, y: i16) -> ExitCode {
    autoreply_rig::sentinel::run(display, x, y)
}

/// Makes the directory ready; what an earlier demo left there is wiped, what is not ours is left alone.
fn prepare(directory: &Path) -> Result<PathBuf, Problem> {
    let missing = missing_tools();
    if !missing.is_empty() {
        let mut packages: Vec<_> = missing.iter().map(|tool| tool.debian_package).collect();
        packages.dedup();
        let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
        return Err(Problem::new(
            format!("this machine lacks {}", programs.join(", ")),
            "the demo's desk",
            format!("Install them: apt-get install {}", packages.join(" ")),
        ));
    }
    let failed = |error: std::io::Error| {
        Problem::new(
            format!("the directory cannot be used ({error})"),
            directory.display().to_string(),
            "Name another one with --directory",
        )
    };
    let desk = directory.join("desk");
    if desk.exists() {
        if !desk.join(MARKER).exists() {
            return Err(Problem::new(
                "it is there already and was not made by a demo",
                desk.display().to_string(),
                "Name another directory with --directory, or remove it yourself",
            ));
        }
        std::fs::remove_dir_all(&desk).map_err(failed)?;
    }
    std::fs::create_dir_all(&desk).map_err(failed)?;
    std::fs::write(desk.join(MARKER), "A demo of autoreply made this directory; the next one wipes it.\n")
        .map_err(failed)?;
    directory.canonicalize().map_err(failed)
}

/// Plays everything; the stage, and all processes on it, are gone when this returns.
fn perform(plan: &Plan) -> Result<ExitCode, Problem> {
    let (started, directory) = (Instant::now(), plan.directory.as_path());
    Timeline.say("A private desktop with HexChat comes up; nothing of it touches yours.");
    let mut stage = Stage::set(plan)?;
    Timeline.say(&format!("autoreply watches them all after {:.1} s.", started.elapsed().as_secs_f64()));
    let mut faults = Vec::new();
    for scene in 0..stage.acts.len() {
        let played = play::play(&mut stage, scene).and_then(|()| keep_picture(&mut stage, scene, directory));
        if let Err(problem) = played {
            faults.push(problem.to_string());
            break;
        }
    }
    if let Err(problem) = stage.pause(LAST_SILENCE) {
        faults.push(problem.to_string());
    }
    match stage.stray_keys() {
        Ok(0) => {}
        Ok(count) => faults.push(format!("the window beside HexChat got {count} keys that were not for it")),
        Err(problem) => faults.push(problem.to_string()),
    }
    conclude(stage, directory, faults, started)
}

fn keep_picture(stage: &mut Stage, scene: usize, directory: &Path) -> Result<(), Problem> {
    let file = format!("scene-{}.png", scene + 1);
    let part = stage.place_of(scene)?;
    write_picture(stage, part, &directory.join(&file))?;
    stage.acts[scene].picture = Some(file);
    Ok(())
}

fn write_picture(stage: &Stage, part: (u32, u32, u32, u32), path: &Path) -> Result<(), Problem> {
    pictures::write(&stage.picture()?, part, path).map_err(|error| {
        Problem::new(format!("the picture cannot be written ({error})"), path.display().to_string(), "Free some space")
    })
}

/// Writes the report and says how it went.
fn conclude(stage: Stage, directory: &Path, faults: Vec<String>, started: Instant) -> Result<ExitCode, Problem> {
    let whole = "screen.png";
    let pictured = write_picture(&stage, (0, 0, u32::MAX, u32::MAX), &directory.join(whole)).is_ok();
    let totals = Totals::count(&stage.acts);
    let whole = pictured.then_some(whole);
    let page = report::write(&report::Report { acts: &stage.acts, totals: &totals, faults: &faults, whole });
    let path = directory.join("report.html");
    std::fs::write(&path, page).map_err(|error| {
        Problem::new(format!("the report cannot be written ({error})"), path.display().to_string(), "Free some space")
    })?;
    let mut differing = faults;
    // A scene is missing only after a fault, which is told.
    differing.extend(stage.acts.iter().filter(|act| act.began_ms != 0).flat_map(differences));
    drop(stage);
    Timeline.say(&format!("\nThe whole took {:.1} s. The report: {}", started.elapsed().as_secs_f64(), path.display()));
    for difference in &differing {
        Timeline.say(&format!("NOT AS IT SHOULD BE: {difference}"));
    }
    if !differing.is_empty() {
        let logs = directory.join("desk/log");
        Timeline.say(&format!("The logs: {} and {}", directory.join("autoreply.log").display(), logs.display()));
    }
    Timeline.say(&totals.sentence());
    Ok(if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
