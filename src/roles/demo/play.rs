//! The scenes as they are played, one after the other: typing is serial anyway, and a person can follow it.

use std::time::Duration;

use super::act::Act;
use super::stage::{Stage, conversation_of};
use super::timeline::Timeline;
use crate::control::{SagaStory, SagaSummary};
use crate::error::Problem;

/// The longest a step of a scene may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long it is listened for what must not come.
const SILENCE: Duration = Duration::from_millis(1500);
const APPROVED: usize = 3;
const PERSON_FIRST: usize = 4;
const STOPPED: usize = 5;

/// Plays a scene to its end.
///
/// # Errors
/// It cannot be played to its end; what differs from what should have come is not an error here.
pub fn play(stage: &mut Stage, scene: usize) -> Result<(), Problem> {
    let cast = stage.acts[scene].scene;
    Timeline.say(&format!("\n{}. {} ({})", scene + 1, cast.title, cast.nick));
    match scene {
        APPROVED => approve(stage, scene),
        PERSON_FIRST => answer_first(stage, scene),
        STOPPED => stop_queued(stage, scene),
        _ => ask(stage, scene),
    }
}

/// The peer writes its turns; each is answered before the next.
fn ask(stage: &mut Stage, scene: usize) -> Result<(), Problem> {
    let cast = stage.acts[scene].scene;
    for (number, lines) in cast.lines.iter().enumerate() {
        say_all(stage, scene, lines)?;
        end_of(stage, scene, number + 1)?;
        check_lines(stage, scene, number, lines.len())?;
    }
    Ok(())
}

fn say_all(stage: &mut Stage, scene: usize, lines: &[&str]) -> Result<(), Problem> {
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            stage.pause(Duration::from_millis(300))?;
        }
        stage.say(scene, line)?;
    }
    Ok(())
}

/// Waits until so many turns of the scene have ended and what they promise has arrived.
fn end_of(stage: &mut Stage, scene: usize, turns: usize) -> Result<(), Problem> {
    let nick = stage.acts[scene].scene.nick;
    stage.wait(&format!("the end of turn {turns} with {nick}"), PATIENCE, |stage| {
        let act = &stage.acts[scene];
        let due = turns.min(act.scene.replies.len());
        act.has_ended(turns) && (act.heard.len() >= due || !confirmed(act))
    })
}

fn confirmed(act: &Act) -> bool {
    act.turns.iter().any(|turn| turn.effect.as_deref() == Some("confirmed"))
}

/// Asks the product how many lines a turn held: equal ones must not have become one.
fn check_lines(stage: &mut Stage, scene: usize, turn: usize, sent: usize) -> Result<(), Problem> {
    let Some(id) = stage.acts[scene].turns.get(turn).map(|turn| turn.id.clone()) else { return Ok(()) };
    let story: SagaStory = parse(&stage.command(&["--json", "sagas", "show", &id])?, "autoreply sagas show")?;
    if story.inbound.len() != sent {
        let fault = format!("turn {} was sent {sent} lines and holds {}", turn + 1, story.inbound.len());
        stage.acts[scene].faults.push(fault);
    }
    Ok(())
}

/// The draft waits for a person, who approves it on the command line.
fn approve(stage: &mut Stage, scene: usize) -> Result<(), Problem> {
    let cast = stage.acts[scene].scene;
    say_all(stage, scene, cast.lines[0])?;
    let draft = reach(stage, scene, "awaiting_approval")?;
    let turn = draft.turn.to_string();
    if let Some(text) = &draft.draft {
        stage.acts[scene].note(now(), "draft", format!("waits for a person: {text}"));
    }
    stage.acts[scene].note(now(), "person", format!("autoreply sagas approve {turn}"));
    stage.command(&["sagas", "approve", &turn])?;
    let sent_ms = stage.acts[scene].last_sent_ms;
    stage.acts[scene].turn(&turn, sent_ms).approved = true;
    end_of(stage, scene, 1)
}

/// The person sees the line and answers while autoreply still waits for more.
fn answer_first(stage: &mut Stage, scene: usize) -> Result<(), Problem> {
    let cast = stage.acts[scene].scene;
    say_all(stage, scene, cast.lines[0])?;
    stage.wait("the line to be seen", PATIENCE, |stage| {
        stage.acts[scene].moments.iter().any(|moment| moment.what == "detected")
    })?;
    let answer = cast.by_person.unwrap_or_default();
    let title = stage.desk.dialog_title(cast.nick);
    stage.person.say(&title, answer).map_err(super::stage::fault)?;
    stage.acts[scene].note(now(), "person", format!("types: {answer}"));
    end_of(stage, scene, 1)?;
    stage.pause(SILENCE)
}

/// The reply is queued behind a pause; then a stop comes.
fn stop_queued(stage: &mut Stage, scene: usize) -> Result<(), Problem> {
    let cast = stage.acts[scene].scene;
    let scope = format!("conversation:{}", conversation_of(&stage.acts[scene]));
    stage.command(&["control", "pause", "--scope", &scope, "--why", "the demo"])?;
    say_all(stage, scene, cast.lines[0])?;
    reach(stage, scene, "issued")?;
    stage.acts[scene].note(now(), "queued", "the reply waits behind the pause");
    stage.pause(Duration::from_millis(500))?;
    stage.acts[scene].note(now(), "person", format!("autoreply control stop --scope {scope}"));
    stage.command(&["control", "stop", "--scope", &scope, "--why", "the demo"])?;
    end_of(stage, scene, 1)?;
    stage.acts[scene].note(now(), "person", format!("autoreply control resume --scope {scope}"));
    stage.command(&["control", "resume", "--scope", &scope, "--why", "the demo"])?;
    stage.pause(SILENCE)
}

/// Waits until the scene's reply is in a state, as `autoreply sagas list` shows it.
fn reach(stage: &mut Stage, scene: usize, state: &str) -> Result<SagaSummary, Problem> {
    let nick = stage.acts[scene].scene.nick;
    let conversation = format!("demo > {nick}");
    let started = std::time::Instant::now();
    loop {
        let listed: Vec<SagaSummary> = parse(&stage.command(&["--json", "sagas", "list"])?, "autoreply sagas list")?;
        let found = listed.into_iter().find(|saga| saga.conversation == conversation && saga.state == state);
        if let Some(found) = found {
            return Ok(found);
        }
        let ended = stage.acts[scene].has_ended(1);
        if started.elapsed() > PATIENCE || ended {
            return Err(Problem::new(
                format!("the reply to {nick} did not come to the state {state}"),
                "autoreply sagas list",
                "See autoreply.log beside the report",
            ));
        }
        stage.pause(Duration::from_millis(100))?;
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, command: &str) -> Result<T, Problem> {
    serde_json::from_str(text)
        .map_err(|error| Problem::new(format!("its answer is not understood ({error})"), command, "Report this"))
}

fn now() -> i64 {
    autoreply_rig::now_ms() as i64
}
