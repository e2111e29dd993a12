use proptest::prelude::*;

use super::*;
use crate::contract::{
    Account, AccountOwner, Authority, ContextLine, Control, Conversation, ConversationId, ConversationKind, Direction,
    Effect, Evidence, Extraction, ExtractionMethod, InstanceId, JournalId, Mode, Revision, Scope, Timings, TurnId,
    TurnMessage,
};

/// A place, and a change that makes the value there wrong.
type Spoil = (&'static str, fn(&mut MessagesDetected));

const SECRET: &str = "meet me at the old mill";

fn at() -> Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

fn desk() -> DesktopId {
    DesktopId::try_from("desk-1".to_owned()).unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        source: Source::Desktop(desk()),
        time: at(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

fn detected() -> MessagesDetected {
    let conversation = Conversation::new("hexchat", "irc.example", "me", "alice", ConversationKind::Direct);
    let journal = JournalId(uuid::Uuid::from_u128(7));
    MessagesDetected {
        turn: TurnId::derive(journal, conversation.id, 1),
        revision: Revision(2),
        number: 1,
        journal,
        desktop: desk(),
        conversation,
        messages: vec![TurnMessage {
            seq: 4,
            sender: "alice".to_owned(),
            direction: Direction::Inbound,
            text: SECRET.to_owned(),
            detected_at: at(),
            extraction: Extraction { method: ExtractionMethod::Ocr, confidence: 0.98, doubtful: false },
        }],
        context: vec![ContextLine {
            sender: "me".to_owned(),
            direction: Direction::OwnHuman,
            text: "good morning".to_owned(),
        }],
        mode: Mode::Auto,
        detected_at: at(),
        traceparent: None,
    }
}

fn send() -> ReplySend {
    let detected = detected();
    ReplySend {
        turn: detected.turn,
        revision: detected.revision,
        journal: detected.journal,
        desktop: desk(),
        conversation: detected.conversation.id,
        text: SECRET.to_owned(),
        authority: Authority::ApprovedBy { by: "operator".to_owned() },
        issued_at: at(),
        owner_token: Some(3),
    }
}

fn account() -> Account {
    Account::of(&detected().conversation)
}

fn hello() -> DesktopHello {
    DesktopHello {
        desktop: desk(),
        journal: detected().journal,
        instance: InstanceId(uuid::Uuid::from_u128(8)),
        started_at: at(),
        version: "0.2.0".to_owned(),
        host: "office-7".to_owned(),
        seat: "5a2c/2049/77".to_owned(),
        accounts: vec![account()],
        interval_ms: 10_000,
        leaving: false,
        at: at(),
    }
}

fn greeted() -> DesktopGreeted {
    let told = AccountOwner {
        account: account(),
        owned: false,
        owner: DesktopId::try_from("desk-2".to_owned()).unwrap(),
        token: 4,
        since: 3,
        inherit_ms: 20_000,
        why: "desk-2 answers for this account".to_owned(),
    };
    DesktopGreeted {
        desktop: desk(),
        journal: detected().journal,
        instance: hello().instance,
        hello_at: at(),
        hold_ms: 45_000,
        cloned: false,
        current: true,
        accounts: vec![told],
    }
}

fn ended() -> TurnEnded {
    TurnEnded {
        turn: detected().turn,
        revision: Revision(2),
        journal: detected().journal,
        desktop: desk(),
        conversation: detected().conversation.id,
        effect: Effect::NeedsAttention,
        reason: "no provider answered".to_owned(),
    }
}

fn outcome() -> ReplyOutcome {
    ReplyOutcome {
        turn: detected().turn,
        revision: Revision(2),
        desktop: desk(),
        conversation: detected().conversation.id,
        effect: Effect::Confirmed,
        reason: "shown below the watermark".to_owned(),
        evidence: Some(Evidence {
            watermark: 4,
            shown_as: Some(5),
            similarity: Some(1.0),
            input_empty: Some(true),
            read_back_exact: true,
        }),
        timings: Timings { detected_at: Some(at()), ..Timings::default() },
    }
}

fn control() -> ControlRecord {
    ControlRecord {
        scope: Scope::Conversation(ConversationId::derive("irc.example", "me", "alice")),
        control: Control::Mode(Mode::Draft),
        version: 3,
        by: "operator".to_owned(),
        why: "new peer".to_owned(),
        at: at(),
    }
}

fn all(codec: &Codec) -> Vec<(Incoming, WireRecord)> {
    let turn = detected().turn;
    let commands = [
        Command::Send(send()),
        Command::Withdraw(ReplyWithdraw {
            turn,
            revision: Revision(2),
            desktop: desk(),
            conversation: detected().conversation.id,
            reason: "a newer revision".to_owned(),
        }),
        Command::TurnRecorded(TurnRecorded { turn, revision: Revision(2), desktop: desk() }),
        Command::OutcomeRecorded(OutcomeRecorded { turn, revision: Revision(2), desktop: desk() }),
    ];
    let mut all: Vec<_> = commands
        .into_iter()
        .map(|command| (Incoming::Command(command.clone()), codec.encode_command(&command, &envelope()).unwrap()))
        .collect();
    all.push((Incoming::Messages(detected()), codec.encode_messages(&detected(), &envelope()).unwrap()));
    all.push((Incoming::Outcome(outcome()), codec.encode_outcome(&outcome(), &envelope()).unwrap()));
    all.push((Incoming::Control(control()), codec.encode_control(&control(), &envelope()).unwrap()));
    all.push((Incoming::Hello(hello()), codec.encode_hello(&hello(), &envelope()).unwrap()));
    for notice in [Notice::Greeted(greeted()), Notice::TurnEnded(ended())] {
        all.push((Incoming::Notice(notice.clone()), codec.encode_notice(&notice, &envelope()).unwrap()));
    }
    all
}

fn fault(wire: &WireRecord) -> Fault {
    Codec::default().decode(wire).unwrap_err().fault
}

fn with_header(wire: &WireRecord, name: &str, value: Option<&[u8]>) -> WireRecord {
    let mut changed = wire.clone();
    changed.headers.retain(|(header, _)| header != name);
    changed.headers.extend(value.map(|value| (name.to_owned(), value.to_vec())));
    changed
}

#[test]
fn every_record_comes_back_as_it_went_signed_or_not() {
    for codec in [Codec::default(), Codec::new(Some(AuthKey::draw()))] {
        let records = all(&codec);
        assert_eq!(records.len(), TYPES.len());
        for (incoming, wire) in records {
            assert_eq!(codec.decode(&wire).unwrap(), incoming);
            assert_eq!(traceparent(&wire), envelope().traceparent.as_deref());
        }
    }
}

#[test]
fn the_headers_are_those_of_cloud_events_and_the_id_is_stable() {
    let wire = Codec::default().encode_messages(&detected(), &envelope()).unwrap();
    let later = Envelope { time: "2026-03-02T10:00:00Z".parse().unwrap(), ..envelope() };
    let again = Codec::default().encode_messages(&detected(), &later).unwrap();
    assert_eq!(wire.header("ce_id"), again.header("ce_id"));
    assert_ne!(wire.header("ce_time"), again.header("ce_time"));
    assert_eq!(wire.header("ce_id"), Some(format!("messages.detected.v1/{}/2", detected().turn).as_str()));
    assert_eq!(wire.header("ce_source"), Some("/autoreply/desktop/desk-1"));
    assert_eq!(wire.header("ce_subject"), Some(detected().turn.to_string().as_str()));
    assert_eq!(wire.header("ce_specversion"), Some("1.0"));
    assert_eq!(wire.header("content-type"), Some("application/json"));
    assert_eq!(wire.key, detected().conversation.id.to_string().into_bytes());
    assert_eq!(Source::Worker("pod 1/ä".to_owned()).to_string(), "/autoreply/worker/pod_1__");
}

#[test]
fn a_missing_or_wrong_header_is_named() {
    for (_, wire) in all(&Codec::default()) {
        for name in ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"] {
            assert_eq!(fault(&with_header(&wire, name, None)), Fault::MissingHeader { name });
            assert_eq!(fault(&with_header(&wire, name, Some(b"\xff"))), Fault::MissingHeader { name });
            let empty = fault(&with_header(&wire, name, Some(b"")));
            assert!(matches!(empty, Fault::BadHeader { name: n, .. } if n == name) || name == "ce_type", "{empty}");
        }
    }
}

#[test]
fn a_newer_an_unknown_and_a_misplaced_type_are_told_apart() {
    let wire = Codec::default().encode_messages(&detected(), &envelope()).unwrap();
    let newer = with_header(&wire, "ce_type", Some(b"messages.detected.v2"));
    assert_eq!(fault(&newer), Fault::NewerVersion { known: "messages.detected.v1", found: 2 });
    assert_eq!(fault(&with_header(&wire, "ce_type", Some(b"messages.detected.v0"))), Fault::UnknownType);
    assert_eq!(fault(&with_header(&wire, "ce_type", Some(b"messages.lost.v1"))), Fault::UnknownType);
    let misplaced = with_header(&wire, "ce_type", Some(b"reply.send.v1"));
    assert_eq!(fault(&misplaced), Fault::WrongTopic { ce_type: "reply.send.v1" });
    assert_eq!(fault(&WireRecord { topic: topic::DEAD_LETTERS.to_owned(), ..wire }), Fault::UnknownTopic);
}

#[test]
fn bodies_and_keys_that_are_wrong_are_named() {
    let wire = Codec::default().encode_messages(&detected(), &envelope()).unwrap();
    let body = |payload: &[u8]| fault(&WireRecord { payload: payload.to_vec(), ..wire.clone() });
    assert_eq!(body(b"{\"a\":\xff"), Fault::NotUtf8 { at: 5 });
    assert_eq!(body(b""), Fault::NotJson { line: 1, column: 0 });
    assert!(matches!(body(b"{} x"), Fault::WrongShape { .. } | Fault::NotJson { .. }));
    assert_eq!(body(b"[]"), Fault::WrongShape { path: ".".to_owned() });
    assert!(matches!(body(&[b'['; 5000]), Fault::WrongShape { .. } | Fault::NotJson { .. }));
    assert!(matches!(body(&vec![b' '; MAX_RECORD_BYTES]), Fault::TooLarge { .. }));
    let trailing = [wire.payload.as_slice(), b"{}"].concat();
    assert!(matches!(body(&trailing), Fault::NotJson { line: 1, .. }));
    let keyed = WireRecord { key: b"another".to_vec(), ..wire };
    assert_eq!(fault(&keyed), Fault::WrongKey { expected: "the conversation id of its body" });
}

#[test]
fn values_out_of_range_are_neither_written_nor_read() {
    let codec = Codec::default();
    let spoil: [Spoil; 7] = [
        ("revision", |d| d.revision = Revision(0)),
        ("number", |d| d.number = 0),
        ("messages", |d| d.messages.clear()),
        ("messages.extraction.confidence", |d| d.messages[0].extraction.confidence = 1.5),
        ("messages.text", |d| d.messages[0].text = "x".repeat(MAX_TEXT_BYTES + 1)),
        ("messages.sender", |d| d.messages[0].sender = "x".repeat(MAX_NAME_BYTES + 1)),
        ("conversation.id", |d| d.conversation.id = ConversationId::derive("a", "b", "c")),
    ];
    for (name, change) in spoil {
        let mut bad = detected();
        change(&mut bad);
        let refused = codec.encode_messages(&bad, &envelope()).unwrap_err();
        assert!(matches!(refused.fault, Fault::OutOfRange { field, .. } if field == name), "{refused}");
        let mut wire = codec.encode_messages(&detected(), &envelope()).unwrap();
        wire.payload = serde_json::to_vec(&bad).unwrap();
        wire.key = bad.conversation.id.to_string().into_bytes();
        assert!(matches!(fault(&wire), Fault::OutOfRange { field, .. } if field == name));
    }
    let crowded = DesktopHello { accounts: vec![account(); MAX_ACCOUNTS + 1], ..hello() };
    let restless = DesktopHello { interval_ms: 0, ..hello() };
    assert!([crowded, restless].iter().all(|bad| codec.encode_hello(bad, &envelope()).is_err()));
    let fleeting = Notice::Greeted(DesktopGreeted { hold_ms: 0, ..greeted() });
    assert!(codec.encode_notice(&fleeting, &envelope()).is_err());
    let mut unproven = outcome();
    unproven.evidence.as_mut().unwrap().similarity = Some(f64::NAN);
    assert!(codec.encode_outcome(&unproven, &envelope()).is_err());
}

#[test]
fn unknown_fields_are_ignored() {
    let mut wire = Codec::default().encode_messages(&detected(), &envelope()).unwrap();
    let mut body: serde_json::Value = serde_json::from_slice(&wire.payload).unwrap();
    body["from_the_future"] = serde_json::json!({ "deep": [1, 2] });
    body["conversation"]["also"] = serde_json::json!(null);
    wire.payload = serde_json::to_vec(&body).unwrap();
    assert_eq!(Codec::default().decode(&wire).unwrap(), Incoming::Messages(detected()));
}

#[test]
fn with_a_key_only_what_this_process_signed_is_read() {
    let (codec, stranger) = (Codec::new(Some(AuthKey::draw())), Codec::new(Some(AuthKey::draw())));
    let wire = codec.encode_command(&Command::Send(send()), &envelope()).unwrap();
    let unsigned = Codec::default().encode_command(&Command::Send(send()), &envelope()).unwrap();
    let forged = stranger.encode_command(&Command::Send(send()), &envelope()).unwrap();
    let retargeted = WireRecord { key: b"desk-2".to_vec(), ..wire.clone() };
    let moved = WireRecord { topic: topic::MESSAGES.to_owned(), ..wire.clone() };
    let retyped = with_header(&wire, "ce_type", Some(b"reply.withdraw.v1"));
    let mut edited = wire.clone();
    edited.payload.push(b' ');
    for bad in [unsigned, forged, retargeted, moved, retyped, edited] {
        assert_eq!(codec.decode(&bad).unwrap_err().fault, Fault::NotAuthentic);
    }
    assert!(Codec::default().decode(&wire).is_ok(), "without a key the proof is an unknown header");
    assert!(!format!("{codec:?}").contains(char::is_numeric), "the key is not shown");
}

#[test]
fn a_traceparent_of_another_form_is_left_out() {
    for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "x".repeat(55).as_str()] {
        let envelope = Envelope { traceparent: Some(bad.to_owned()), ..envelope() };
        let wire = Codec::default().encode_messages(&detected(), &envelope).unwrap();
        assert_eq!(wire.header("traceparent"), None);
    }
}

/// Puts `SECRET` in the place of every value of `body`, one at a time.
fn spoiled(body: &serde_json::Value) -> Vec<serde_json::Value> {
    fn walk(at: &serde_json::Value, path: &str, paths: &mut Vec<String>) {
        paths.push(path.to_owned());
        match at {
            serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, &format!("{path}/{k}"), paths)),
            serde_json::Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{path}/{i}"), paths));
            }
            _ => {}
        }
    }
    let mut paths = Vec::new();
    walk(body, "", &mut paths);
    let mut bodies = Vec::new();
    for path in paths {
        for value in [serde_json::json!(SECRET), serde_json::json!({ SECRET: SECRET }), serde_json::json!([SECRET])] {
            let mut changed = body.clone();
            *changed.pointer_mut(&path).unwrap() = value;
            bodies.push(changed);
        }
    }
    bodies
}

#[test]
fn an_error_holds_no_text_of_the_record_wherever_it_stands() {
    let mut failed = 0;
    for (_, wire) in all(&Codec::default()) {
        let body = serde_json::from_slice(&wire.payload).unwrap();
        for spoiled in spoiled(&body) {
            let payload = serde_json::to_vec(&spoiled).unwrap();
            for payload in [payload.clone(), payload[..payload.len() - 1].to_vec()] {
                if let Err(error) = Codec::default().decode(&WireRecord { payload, ..wire.clone() }) {
                    failed += 1;
                    assert!(!format!("{error} {error:?}").contains("old mill"), "{error}");
                }
            }
        }
    }
    assert!(failed > 300, "{failed}");
}

fn any_wire() -> impl Strategy<Value = WireRecord> {
    let topics = prop_oneof![
        Just(topic::MESSAGES.to_owned()),
        Just(topic::COMMANDS.to_owned()),
        Just(topic::OUTCOMES.to_owned()),
        Just(topic::CONTROLS.to_owned()),
        ".*"
    ];
    let names = prop_oneof![
        Just("ce_type".to_owned()),
        Just("ce_specversion".to_owned()),
        Just("autoreply-mac".to_owned()),
        ".*"
    ];
    let bytes = || proptest::collection::vec(any::<u8>(), 0..64);
    (topics, bytes(), proptest::collection::vec((names, bytes()), 0..8), bytes())
        .prop_map(|(topic, key, headers, payload)| WireRecord { topic, key, headers, payload })
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_named_error(wire in any_wire()) {
        prop_assert!(Codec::default().decode(&wire).is_err());
        prop_assert!(Codec::new(Some(AuthKey::draw())).decode(&wire).is_err());
    }

    #[test]
    fn any_body_under_right_headers_ends_in_a_record_or_a_named_error(
        which in 0_usize..TYPES.len(), payload in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..400, flip in any::<u8>(),
    ) {
        let (_, wire) = all(&Codec::default()).swap_remove(which);
        let replaced = Codec::default().decode(&WireRecord { payload, ..wire.clone() });
        prop_assert!(replaced.is_err());
        let mut damaged = wire;
        let cut = cut % damaged.payload.len();
        damaged.payload[cut] ^= flip;
        let sentence = Codec::default().decode(&damaged).map_err(|error| error.to_string());
        prop_assert!(sentence.is_ok() || sentence.is_err_and(|s| s.len() < 300));
    }

    #[test]
    fn texts_of_every_kind_travel_unchanged(text in ".{1,200}", sender in ".{0,50}") {
        let mut turn = detected();
        turn.messages[0].text = text;
        turn.messages[0].sender = sender;
        let wire = Codec::default().encode_messages(&turn, &envelope()).unwrap();
        prop_assert_eq!(Codec::default().decode(&wire).unwrap(), Incoming::Messages(turn));
    }
}

#[test]
fn a_turn_that_was_sent_on_its_way_again_never_exceeds_a_draft() {
    let codec = Codec::default();
    for (mode, expected) in [(Mode::Auto, Mode::Draft), (Mode::Draft, Mode::Draft), (Mode::Off, Mode::Off)] {
        let detected = MessagesDetected { mode, ..detected() };
        let mut wire = codec.encode_messages(&detected, &envelope()).unwrap();
        assert_eq!(codec.decode(&wire), Ok(Incoming::Messages(detected.clone())), "as it came without the header");
        wire.headers.push((REPLAYED_HEADER.to_owned(), b"\xff".to_vec()));
        let capped = MessagesDetected { mode: expected, ..detected };
        assert_eq!(codec.decode(&wire), Ok(Incoming::Messages(capped)));
    }
}
