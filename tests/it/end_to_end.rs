//! From a line on the wire to the reply on the wire.

use crate::harness::{Bench, PROGRAM, ask, heard, talk, wait_for, wait_heard};

#[test]
fn each_peer_gets_its_own_reply_once() {
    let Some(bench) = Bench::up("each_peer_gets_its_own_reply_once", "") else { return };
    let (mut alice, mut bob) = (bench.peer("alice", 0), bench.peer("bob", 1));
    let running = bench.start();
    bench.wait_aligned("alice");
    bench.wait_aligned("bob");

    // A question, and another in the window beside it at the same time.
    ask(&mut alice, talk::HOURS.0);
    ask(&mut bob, talk::PARCEL.0);
    wait_heard(&alice, &[talk::HOURS.1]);
    wait_heard(&bob, &[talk::PARCEL.1]);
    running.wait_state("ended(confirmed)", 2);

    // Three lines in one breath are one turn.
    for line in ["hello there", "I have a question", talk::PRICE.0] {
        ask(&mut alice, line);
    }
    wait_heard(&alice, &[talk::HOURS.1, talk::PRICE.1]);
    running.wait_state("ended(confirmed)", 3);

    // The same line again is a new question.
    ask(&mut alice, talk::PRICE.0);
    wait_heard(&alice, &[talk::HOURS.1, talk::PRICE.1, talk::PRICE.1]);
    running.wait_state("ended(confirmed)", 4);
    ask(&mut alice, talk::PRICE.0);
    wait_heard(&alice, &[talk::HOURS.1, talk::PRICE.1, talk::PRICE.1, talk::PRICE.1]);
    running.wait_state("ended(confirmed)", 5);

    assert_eq!(running.sagas().len(), 5, "one reply a turn and no other turn");
    running.stop();
    assert_eq!(heard(&alice).len(), 4);
    assert_eq!(heard(&bob), [talk::PARCEL.1]);
}

#[test]
fn the_person_who_answers_first_is_left_alone() {
    let settings = "journal.quiet_ms = 4000";
    let Some(bench) = Bench::up("the_person_who_answers_first_is_left_alone", settings) else { return };
    let mut alice = bench.peer("alice", 0);
    let running = bench.start();
    bench.wait_aligned("alice");
    ask(&mut alice, talk::HOURS.0);
    wait_for("the question in the journal", || {
        bench.ask_journal(
            "select 1 from turns t join conversations c on c.id = t.conversation where c.peer = ?",
            "alice",
        )
    });
    bench.person.say(&bench.desk.dialog_title("alice"), "I am here myself, open until six").unwrap();
    wait_heard(&alice, &["I am here myself, open until six"]);
    let ended = "select 1 from turns t join conversations c on c.id = t.conversation where c.peer = ? and effect = 'human_replied'";
    wait_for("the end of the turn", || bench.ask_journal(ended, "alice"));
    // What comes later is answered, so the silence before was a decision.
    ask(&mut alice, talk::PARCEL.0);
    wait_heard(&alice, &["I am here myself, open until six", talk::PARCEL.1]);
    running.wait_state("ended(confirmed)", 1);
    running.stop();
    assert_eq!(heard(&alice).len(), 2);
}

#[test]
fn what_is_doubtful_waits_for_a_person_and_is_pasted() {
    let Some(bench) = Bench::up("what_is_doubtful_waits_for_a_person_and_is_pasted", "") else { return };
    let mut alice = bench.peer("alice", 0);
    let running = bench.start();
    bench.wait_aligned("alice");
    ask(&mut alice, "\u{e9} \u{4f60}\u{597d} \u{1f44d}");
    let turn = running.wait_state("awaiting_approval", 1).remove(0);
    assert_eq!(heard(&alice), [""; 0]);
    let output = bench.cli(&["sagas", "approve", &turn]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_heard(&alice, &[talk::OTHERWISE]);
    assert_eq!(running.wait_state("ended(confirmed)", 1), std::slice::from_ref(&turn));
    // Approved twice is not sent twice.
    assert!(!bench.cli(&["sagas", "approve", &turn]).status.success());
    ask(&mut alice, talk::HOURS.0);
    wait_heard(&alice, &[talk::OTHERWISE, talk::HOURS.1]);
    running.wait_state("ended(confirmed)", 2);
    running.stop();
    assert_eq!(heard(&alice).len(), 2);
}

#[test]
fn off_draft_and_stop_send_nothing() {
    let Some(bench) = Bench::up("off_draft_and_stop_send_nothing", "") else { return };
    let mut alice = bench.peer("alice", 0);
    let running = bench.start();
    bench.wait_aligned("alice");

    // Off: not even read. What was said meanwhile is history when it is on again.
    running.control(&["mode", "off"]);
    ask(&mut alice, talk::PRICE.0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(running.sagas().is_empty(), "off publishes nothing");

    // Draft: written, never typed.
    running.control(&["mode", "draft"]);
    let known = "select 1 from messages m join conversations c on c.id = m.conversation where c.peer = ? \
                 and standing = 'history' group by c.id having count(*) = 3";
    wait_for("the question as history", || bench.ask_journal(known, "alice"));
    ask(&mut alice, talk::PARCEL.0);
    let draft = running.wait_state("awaiting_approval", 1).remove(0);
    assert!(bench.cli(&["sagas", "reject", &draft, "--why", "not this one"]).status.success());
    running.wait_state("ended(rejected)", 1);

    // Paused: issued, but held back; the stop ends it where it waits.
    running.control(&["mode", "auto"]);
    running.control(&["pause"]);
    ask(&mut alice, talk::STORY.0);
    let held = running.wait_state("issued", 1).remove(0);
    running.control(&["stop"]);
    wait_for("the end of the held reply", || {
        running.sagas().into_iter().find(|saga| saga.0 == held && saga.1.starts_with("ended"))
    });
    assert_eq!(heard(&alice), [""; 0]);

    // And on again: only what is asked now is answered.
    running.control(&["resume"]);
    ask(&mut alice, talk::HOURS.0);
    wait_heard(&alice, &[talk::HOURS.1]);
    running.wait_state("ended(confirmed)", 1);
    running.stop();
    assert_eq!(heard(&alice), [talk::HOURS.1]);
}

#[test]
fn a_second_process_is_refused_with_its_reason() {
    let Some(bench) = Bench::up("a_second_process_is_refused_with_its_reason", "") else { return };
    let mut alice = bench.peer("alice", 0);
    let running = bench.start();
    let elsewhere = bench.scratch().join("elsewhere").display().to_string();
    let socket = bench.scratch().join("second.sock").display().to_string();
    let refused = |words: &[&str], own_data: bool| {
        let words: Vec<_> = ["30", PROGRAM].iter().chain(words).copied().collect();
        let mut command = autoreply_rig::child::tied("timeout");
        bench.desk.furnish(&mut command);
        command.args(&words).arg("--config").arg(bench.scratch().join("config.toml"));
        if own_data {
            command.env("XDG_DATA_HOME", &elsewhere);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("autoreply: "), "{said}");
        said
    };
    // The same journal; the same socket; the same display.
    let said = refused(&["run", "--socket", &socket], false);
    assert!(said.contains("another process has this") && said.contains(".db"), "{said}");
    let said = refused(&["run", "--socket", &socket], true);
    assert!(said.contains("display") || said.contains("executor"), "{said}");
    // The first is none the worse for it.
    bench.wait_aligned("alice");
    ask(&mut alice, talk::HOURS.0);
    wait_heard(&alice, &[talk::HOURS.1]);
    running.wait_state("ended(confirmed)", 1);
    running.stop();
}
