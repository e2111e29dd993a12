//! No key goes anywhere else.

use autoreply_rig::sentinel::TITLE;

use crate::harness::{Bench, ask, talk, wait_for, wait_heard};

#[test]
fn a_window_beside_the_chat_gets_no_key() {
    let Some(bench) = Bench::up("a_window_beside_the_chat_gets_no_key", "") else { return };
    let mut alice = bench.peer("alice", 0);
    let sentinel = bench.sentinel();
    let running = bench.start();
    bench.wait_aligned("alice");

    // While the chat has the focus.
    bench.person.focus(&bench.desk.dialog_title("alice")).unwrap();
    ask(&mut alice, talk::HOURS.0);
    wait_heard(&alice, &[talk::HOURS.1]);
    running.wait_state("ended(confirmed)", 1);

    // While the sentinel has it: it is taken for the reply and given back.
    bench.person.focus(TITLE).unwrap();
    ask(&mut alice, talk::PARCEL.0);
    wait_heard(&alice, &[talk::HOURS.1, talk::PARCEL.1]);
    running.wait_state("ended(confirmed)", 2);
    wait_for("the focus to be given back", || {
        (bench.desk.windows().unwrap().active().unwrap() == Some(sentinel.window())).then_some(())
    });
    assert_eq!(sentinel.keys().unwrap(), vec![], "keys went into the wrong window");

    // The test of the test: the same check finds one key that was leaked on purpose.
    bench.person.type_text("x").unwrap();
    assert_eq!(sentinel.keys().unwrap().len(), 1);
    running.stop();
    wait_heard(&alice, &[talk::HOURS.1, talk::PARCEL.1]);
}
