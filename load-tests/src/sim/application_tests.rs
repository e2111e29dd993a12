use autoreply::clock::SystemClock;
use proptest::prelude::*;

use super::*;

fn config(directory: &Path, faults: Faults) -> Config {
    for name in [facts::APPS_DIRECTORY, "inputs"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    Config {
        directory: directory.to_owned(),
        faults,
        ..toml::from_str("name='d'\ndirectory=''\nbrokers=''\ndesks=[]").unwrap()
    }
}

fn open(config: &Config) -> Application {
    let desk = DeskPlan { name: "desk".to_owned(), peers: vec!["ann".to_owned(), "bob".to_owned()] };
    Application::open(config, &desk, Arc::new(SystemClock)).unwrap()
}

fn lines(config: &Config) -> Vec<(String, Side, String)> {
    let path = config.directory.join(facts::APPS_DIRECTORY).join("desk.jsonl");
    facts::read::<AppLine>(&path).unwrap().into_iter().map(|line| (line.peer, line.side, line.text)).collect()
}

#[test]
fn what_was_typed_and_sent_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults::default());
    let first = open(&config);
    first.peer_writes("ann", "hello tok00000001", None).unwrap();
    first.set_input("ann", "an answer").unwrap();
    first.enter("ann").unwrap();
    first.set_input("bob", "half of").unwrap();
    drop(first);
    let again = open(&config);
    assert_eq!((again.input("ann").as_str(), again.input("bob").as_str()), ("", "half of"));
    assert!(again.shown_tokens().contains("tok00000001"));
    assert_eq!(again.view("ann", &Seen::default()).unwrap().new.len(), 2);
    assert_eq!(lines(&config)[1], ("ann".to_owned(), Side::Own, "an answer".to_owned()));
}

#[test]
fn a_process_that_died_between_sending_and_emptying_left_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults::default());
    let dying = open(&config);
    dying.set_input("ann", "an answer").unwrap();
    let typed = std::fs::read(directory.path().join("inputs/desk.json")).unwrap();
    dying.enter("ann").unwrap();
    std::fs::write(directory.path().join("inputs/desk.json"), typed).unwrap();
    assert_eq!(open(&config).input("ann"), "");
}

#[test]
fn a_cut_off_line_is_taken_off_and_what_follows_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults::default());
    open(&config).peer_writes("ann", "one", None).unwrap();
    let path = directory.path().join(facts::APPS_DIRECTORY).join("desk.jsonl");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, b"{\"at_ms\":1,\"pe").unwrap();
    open(&config).peer_writes("ann", "two", None).unwrap();
    assert_eq!(lines(&config).len(), 2);
}

#[test]
fn a_swallowed_enter_empties_the_input_and_sends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults { swallow_share: 1.0, ..Faults::default() });
    let application = open(&config);
    application.set_input("ann", "an answer").unwrap();
    application.enter("ann").unwrap();
    assert_eq!((application.input("ann").as_str(), lines(&config).len()), ("", 0));
}

#[test]
fn a_late_line_is_sent_at_once_and_seen_later_below_what_came_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults { late_share: 1.0, late_ms: 0, ..Faults::default() });
    let application = open(&config);
    let mut seen = Seen::default();
    application.set_input("ann", "an answer").unwrap();
    application.enter("ann").unwrap();
    application.peer_writes("ann", "are you there?", None).unwrap();
    let before = application.view("ann", &seen).unwrap();
    assert_eq!(before.new.iter().map(|line| line.place).collect::<Vec<_>>(), [1]);
    before.new.iter().for_each(|line| seen.add(line.place));
    application.take_changed();
    let after = application.view("ann", &seen).unwrap();
    assert_eq!(after.new.iter().map(|line| line.place).collect::<Vec<_>>(), [0]);
    assert_ne!(before.digest, after.digest);
    assert_eq!(lines(&config)[0].2, "an answer");
}

#[test]
fn a_window_that_is_missing_is_looked_at_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Faults { missing_share: 1.0, missing_ms: 30, ..Faults::default() });
    let application = open(&config);
    application.take_changed();
    application.peer_writes("ann", "hello", None).unwrap();
    assert!(!application.is_there("ann") && !application.bring_to_front("ann") && application.digest("ann").is_none());
    assert_eq!(application.take_changed(), Vec::<String>::new());
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(application.take_changed(), ["ann"]);
}

proptest! {
    #[test]
    fn what_was_seen_stays_seen(places in prop::collection::vec(0usize..30, 0..40)) {
        let mut seen = Seen::default();
        places.iter().for_each(|place| seen.add(*place));
        for place in 0..40 {
            prop_assert_eq!(seen.holds(place), places.contains(&place));
        }
    }
}
