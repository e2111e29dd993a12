//! The program dies, at named points and at any; what was begun is ended once, or not at all and recorded so.
//!
//! The fail points exist in builds with the feature `failpoints` only.

use crate::harness::{Bench, Running, ask, heard, talk, wait_for, wait_heard};

pub fn has_fail_points(test: &str) -> bool {
    if cfg!(feature = "failpoints") {
        return true;
    }
    crate::harness::skip(test, "this build has no fail points; run it with --features failpoints");
    false
}

/// Dies at `point` while it answers a question, starts again, and must have answered exactly once; so must it go on.
fn answers_once_though_it_dies_at(bench: &Bench, point: &str, round: usize) {
    let nick = format!("peer{round}");
    let mut peer = bench.peer(&nick, 0);
    let doomed = bench.start_to_die_at(Some(point));
    bench.wait_aligned(&nick);
    ask(&mut peer, talk::STORY.0);
    doomed.wait_death();
    let running = bench.start();
    wait_heard(&peer, &[talk::STORY.1]);
    settle(&running);
    goes_on(bench, &running, &mut peer, &nick, &[talk::STORY.1]);
    running.stop();
    assert_eq!(heard(&peer), [talk::STORY.1, talk::HOURS.1], "{point}");
}

/// Waits until no reply is open any more.
fn settle(running: &Running<'_>) {
    wait_for("the end of every reply", || {
        let all = running.sagas();
        (!all.is_empty() && all.iter().all(|saga| saga.1.starts_with("ended"))).then_some(())
    });
}

/// Whatever happened before, the next question gets its clean answer.
fn goes_on(bench: &Bench, running: &Running<'_>, peer: &mut autoreply_rig::PeerHandle, nick: &str, before: &[&str]) {
    bench.wait_aligned(nick);
    ask(peer, talk::HOURS.0);
    let all: Vec<_> = before.iter().copied().chain([talk::HOURS.1]).collect();
    wait_heard(peer, &all);
    settle(running);
}

/// No key is held on the display.
fn no_key_is_down(bench: &Bench) -> bool {
    use x11rb::protocol::xproto::ConnectionExt as _;
    let (connection, _) = x11rb::connect(Some(bench.desk.display())).unwrap();
    connection.query_keymap().unwrap().reply().unwrap().keys.iter().all(|byte| *byte == 0)
}

#[test]
fn a_death_on_the_way_to_the_keyboard_loses_nothing() {
    let test = "a_death_on_the_way_to_the_keyboard_loses_nothing";
    if !has_fail_points(test) {
        return;
    }
    let Some(bench) = Bench::up(test, "") else { return };
    let points = [
        "journal.turn",
        "journal.published",
        "worker.recorded",
        "worker.drafted",
        "worker.issued_unpublished",
        "journal.accepted",
        "executor.intent",
        "journal.outcome",
    ];
    for (round, point) in points.into_iter().enumerate() {
        answers_once_though_it_dies_at(&bench, point, round);
    }
}

#[test]
fn a_death_in_the_middle_of_a_word_leaves_no_key_down_and_no_half_text() {
    let test = "a_death_in_the_middle_of_a_word_leaves_no_key_down_and_no_half_text";
    if !has_fail_points(test) {
        return;
    }
    let Some(bench) = Bench::up(test, "") else { return };
    let mut alice = bench.peer("alice", 0);
    // The fortieth key is down, thirty-nine characters stand in the input.
    let doomed = bench.start_to_die_at(Some("executor.key_down#40"));
    bench.wait_aligned("alice");
    ask(&mut alice, talk::STORY.0);
    doomed.wait_death();
    wait_for("the watchdog", || no_key_is_down(&bench).then_some(()));
    assert_eq!(heard(&alice), [""; 0]);
    let running = bench.start();
    wait_heard(&alice, &[talk::STORY.1]);
    settle(&running);
    goes_on(&bench, &running, &mut alice, "alice", &[talk::STORY.1]);
    running.stop();
}

#[test]
fn after_the_pivot_nothing_is_typed_again() {
    let test = "after_the_pivot_nothing_is_typed_again";
    if !has_fail_points(test) {
        return;
    }
    let Some(bench) = Bench::up(test, "") else { return };
    // Enter was pressed and nobody knows: it is read, not typed again.
    answers_once_though_it_dies_at(&bench, "executor.entered", 0);

    // Enter was allowed and not pressed: the text stands in the input. It is never typed again and never claimed.
    let mut peer = bench.peer("peer1", 0);
    let doomed = bench.start_to_die_at(Some("executor.submitting"));
    bench.wait_aligned("peer1");
    ask(&mut peer, talk::PRICE.0);
    doomed.wait_death();
    assert_eq!(heard(&peer), [""; 0]);
    let running = bench.start();
    settle(&running);
    let ended =
        running.sagas().into_iter().filter(|saga| saga.2 == talk::PRICE.1).map(|saga| saga.1).collect::<Vec<_>>();
    assert_eq!(heard(&peer), [""; 0]);
    assert_eq!(ended, ["ended(unverifiable)"]);
    running.stop();
}

#[test]
fn a_kill_and_a_stop_while_typing_end_clean() {
    let test = "a_kill_and_a_stop_while_typing_end_clean";
    let Some(bench) = Bench::up(test, "") else { return };
    let mut alice = bench.peer("alice", 0);
    let begun = "select 1 from commands k join conversations c on c.id = k.conversation \
                 where c.peer = ? and k.state in ('intent', 'submitting')";
    let running = bench.start();
    bench.wait_aligned("alice");
    ask(&mut alice, talk::STORY.0);
    wait_for("the first key", || bench.ask_journal(begun, "alice"));
    // At any time from the first key to after Enter: each run of the test takes another.
    std::thread::sleep(std::time::Duration::from_millis(u64::from(std::process::id() % 1500)));
    running.kill();
    let running = bench.start();
    settle(&running);
    if heard(&alice).is_empty() {
        // It died between the permission for Enter and Enter itself, a few milliseconds: recorded, never typed again.
        assert!(running.sagas().iter().any(|saga| saga.1 == "ended(unverifiable)"), "lost without a record");
        return;
    }
    assert_eq!(heard(&alice), [talk::STORY.1]);

    bench.wait_aligned("alice");
    ask(&mut alice, talk::STORY.0);
    wait_for("the first key", || bench.ask_journal(begun, "alice"));
    running.stop();
    // The person finds an empty input, or the reply was sent whole before the stop.
    let sent = heard(&alice).len();
    bench.person.say(&bench.desk.dialog_title("alice"), "clean").unwrap();
    wait_for("the person's line", || (heard(&alice).len() > sent).then_some(()));
    let lines = heard(&alice);
    assert_eq!(lines.last().map(String::as_str), Some("clean"), "something was left in the input");
    assert!(lines[1..lines.len() - 1].iter().all(|line| line == talk::STORY.1) && lines.len() <= 3, "{lines:?}");

    // After the next start nothing of it is sent: the person has answered.
    let running = bench.start();
    settle(&running);
    let before: Vec<_> = lines.iter().map(String::as_str).collect();
    goes_on(&bench, &running, &mut alice, "alice", &before);
    running.stop();
}

#[test]
fn a_journal_from_yesterday_sends_nothing_twice() {
    let test = "a_journal_from_yesterday_sends_nothing_twice";
    if !has_fail_points(test) {
        return;
    }
    let Some(bench) = Bench::up(test, "") else { return };
    let mut alice = bench.peer("alice", 0);
    // Yesterday's journal: the question stands in it, unanswered.
    let doomed = bench.start_to_die_at(Some("journal.turn"));
    bench.wait_aligned("alice");
    ask(&mut alice, talk::PRICE.0);
    doomed.wait_death();
    let kept: Vec<_> =
        bench.journal_files().into_iter().filter_map(|path| Some((std::fs::read(&path).ok()?, path))).collect();
    assert!(!kept.is_empty());
    // Since then it was answered.
    let running = bench.start();
    wait_heard(&alice, &[talk::PRICE.1]);
    running.wait_state("ended(confirmed)", 1);
    running.stop();
    for path in bench.journal_files() {
        let _ = std::fs::remove_file(path);
    }
    for (bytes, path) in &kept {
        std::fs::write(path, bytes).unwrap();
    }
    let running = bench.start();
    goes_on(&bench, &running, &mut alice, "alice", &[talk::PRICE.1]);
    running.stop();
    assert_eq!(heard(&alice), [talk::PRICE.1, talk::HOURS.1]);
}
