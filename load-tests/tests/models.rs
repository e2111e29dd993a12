//! The provider chain against the model stub, which is a process of its own and counts what it is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoreply::clock::{Clock, SystemClock};
use autoreply::contract::{
    Conversation, ConversationKind, Direction, Extraction, ExtractionMethod, JournalId, TurnId, TurnMessage,
};
use autoreply::generation::{self, Chain, Settings};
use autoreply::saga::{Draft, DraftRequest, GenerationError, Generator as _};
use autoreply_load_tests::facts::{token, tokens};
use autoreply_load_tests::model::{Behaviour, Counts, Latency, Outcome, Script, Shares, StubProcess};
use futures::future::join_all;

const DEFAULTS: &str = include_str!("../../config.default.toml");
/// The time an attempt may take here.
const TIMEOUT: Duration = Duration::from_millis(400);
/// The breaker's cool-down here.
const COOL_DOWN: Duration = Duration::from_millis(600);

fn spawn(script: &Script) -> StubProcess {
    StubProcess::spawn(Path::new(env!("CARGO_BIN_EXE_model-stub")), script).expect("the stub starts")
}

/// The protocol that a provider of this name speaks: those that end with `v2` Cohere's, the others OpenAI's.
fn table(stub: &StubProcess, name: &str, extra: &str) -> String {
    let (kind, base) = match name.ends_with("v2") {
        true => ("cohere_chat_v2", format!("http://{}/{name}", stub.address)),
        false => ("chat_completions", format!("http://{}/{name}/v1", stub.address)),
    };
    let timeout = TIMEOUT.as_millis();
    format!("kind = '{kind}'\nbase_url = '{base}'\nmodel = 'm'\ntimeout_ms = {timeout}\n{extra}")
}

/// The default settings with these models of the stub before the default chain's end.
fn chain(stub: &StubProcess, models: &[&str], extra: &str) -> Chain {
    chain_with(stub, models, extra, 3)
}

/// The same, with breakers that open after so many failures in a row.
fn chain_with(stub: &StubProcess, models: &[&str], extra: &str, failures: u32) -> Chain {
    let mut all: toml::Table = toml::from_str(DEFAULTS).unwrap();
    let mut settings: Settings = all.remove("generation").unwrap().try_into().unwrap();
    for name in models {
        settings.providers.insert((*name).to_owned(), toml::from_str(&table(stub, name, extra)).unwrap());
    }
    settings.chain = models.iter().map(|name| (*name).to_owned()).chain(["acknowledge".to_owned()]).collect();
    (settings.retry_initial_ms, settings.retry_max_ms) = (5, 50);
    (settings.breaker_failures, settings.breaker_cool_down_ms) = (failures, COOL_DOWN.as_millis() as u64);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    generation::build(&settings, &BTreeMap::new(), &clock).unwrap()
}

/// A turn of a conversation of its own that asks about the token of this number.
fn turn(number: u64) -> DraftRequest {
    let conversation = Conversation::new("hexchat", "irc", "ann", &format!("peer-{number}"), ConversationKind::Direct);
    DraftRequest {
        turn: TurnId::derive(JournalId::draw(), conversation.id, number),
        conversation,
        messages: vec![TurnMessage {
            seq: 1,
            sender: "bob".into(),
            direction: Direction::Inbound,
            text: format!("what about {}?", token(number)),
            detected_at: jiff::Timestamp::UNIX_EPOCH,
            extraction: Extraction { method: ExtractionMethod::Ocr, confidence: 1.0, doubtful: false },
        }],
        context: Vec::new(),
        memory: Vec::new(),
        traceparent: None,
    }
}

async fn draft(chain: &Chain, request: &DraftRequest) -> Result<Draft, GenerationError> {
    chain.draft(request, tokio::time::Instant::now() + Duration::from_secs(20)).await
}

async fn counts(stub: &StubProcess, provider: &str) -> Counts {
    stub.counts().await.unwrap().remove(provider).unwrap_or_default()
}

/// Every misbehaviour and how often a provider is asked in one turn that meets it.
const MISBEHAVIOURS: [(Outcome, u64); 11] = [
    (Outcome::LimitedShort, 3),
    (Outcome::LimitedLong, 1),
    (Outcome::Error500, 3),
    (Outcome::Error503, 3),
    (Outcome::Hang, 1),
    (Outcome::Drip, 1),
    (Outcome::Disconnect, 1),
    (Outcome::Malformed, 1),
    (Outcome::Empty, 1),
    (Outcome::TooLong, 1),
    (Outcome::WrongContentType, 1),
];

fn behaving(outcome: Outcome) -> Behaviour {
    Behaviour { retry_after_short_s: 0, ..Behaviour::always(outcome) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_misbehaviour_leads_to_the_next_model_in_either_protocol() {
    for (sick, well) in [("sick", "well-v2"), ("sick-v2", "well")] {
        let stub = spawn(&Script::default());
        for (number, (outcome, asked)) in (0..).zip(MISBEHAVIOURS) {
            let before = counts(&stub, sick).await.attempts;
            stub.set(&Script::default().with(sick, behaving(outcome))).await.unwrap();
            let reply = draft(&chain(&stub, &[sick, well], ""), &turn(number)).await.unwrap();
            assert_eq!(reply.provider, well, "{outcome:?}");
            assert_eq!(tokens(&reply.text), [token(number)], "{outcome:?}");
            let now = counts(&stub, sick).await;
            assert_eq!(now.attempts - before, asked, "{sick} {outcome:?}");
            assert_eq!(now.outcomes[&outcome], asked);
        }
        let well = counts(&stub, well).await;
        assert_eq!((well.attempts, well.turns, well.most_attempts_of_a_turn), (11, 11, 1));
        assert_eq!(counts(&stub, sick).await.most_attempts_of_a_turn, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_models_fail_a_conversation_is_acknowledged_once_and_then_a_person_must_answer() {
    let stub = spawn(&Script::default());
    for (outcome, asked) in MISBEHAVIOURS {
        let before = (counts(&stub, "one").await.attempts, counts(&stub, "two-v2").await.attempts);
        stub.set(&Script { default: behaving(outcome), ..Script::default() }).await.unwrap();
        let chain = chain(&stub, &["one", "two-v2"], "");
        let first = turn(1);
        assert_eq!(draft(&chain, &first).await.unwrap().provider, "acknowledge", "{outcome:?}");
        let now = (counts(&stub, "one").await.attempts, counts(&stub, "two-v2").await.attempts);
        assert_eq!((now.0 - before.0, now.1 - before.1), (asked, asked), "{outcome:?}");
        assert_eq!(draft(&chain, &first).await.unwrap().provider, "acknowledge", "the same turn may ask again");
        let error = draft(&chain, &DraftRequest { turn: turn(2).turn, ..first }).await.unwrap_err();
        assert!(matches!(error, GenerationError::Exhausted { .. }), "{outcome:?}: {error}");
        assert!(!error.to_string().contains("what about") && !error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_fifth_of_the_calls_failing_every_turn_gets_its_own_answer() {
    let shares = MISBEHAVIOURS
        .into_iter()
        .filter(|(outcome, _)| *outcome != Outcome::LimitedLong)
        .fold(Shares::default(), |shares, (outcome, _)| shares.with(outcome, 0.02));
    let latency = Latency::LogNormal { median_ms: 10, sigma: 0.5 };
    let flaky = Behaviour { shares, latency, retry_after_short_s: 0, ..Behaviour::default() };
    let stub = spawn(&Script { seed: 20_261_121, default: flaky, ..Script::default() });
    // A breaker that opens for a fifth of failures would be another test.
    let chain = chain_with(&stub, &["one", "two-v2"], "max_in_flight = 16", 8);
    let turns: Vec<DraftRequest> = (0..300).map(turn).collect();
    let mut by_model = 0;
    for (batch, some) in (0_u64..).zip(turns.chunks(50)) {
        let drafts = join_all(some.iter().map(|request| draft(&chain, request))).await;
        for (number, reply) in (batch * 50..).zip(drafts) {
            let reply = reply.unwrap();
            if reply.provider != "acknowledge" {
                assert_eq!(tokens(&reply.text), [token(number)]);
                by_model += 1;
            }
        }
    }
    assert!(by_model >= 270, "two models that fail one time in five each answered only {by_model} of 300");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn timed(chain: &Chain, request: &DraftRequest) -> Duration {
    let began = Instant::now();
    assert_eq!(draft(chain, request).await.unwrap().provider, "well-v2");
    began.elapsed()
}

/// The bound is a promise of the design: with the first provider hanging, a turn costs less than 200 ms extra once the
/// breaker is open. Both chains are measured in turn in one run, so that a busy machine slows both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_first_provider_costs_a_turn_less_than_200_ms_and_one_probe_a_cool_down() {
    let answers = Behaviour { latency: Latency::Fixed { fixed_ms: 20 }, ..Behaviour::default() };
    let stub = spawn(&Script { default: answers, ..Script::default() }.with("sick", Behaviour::always(Outcome::Hang)));
    let (with, without) = (chain(&stub, &["sick", "well-v2"], ""), chain(&stub, &["well-v2"], ""));
    for number in 0..3 {
        assert_eq!(draft(&with, &turn(number)).await.unwrap().provider, "well-v2");
    }
    assert_eq!((with.resting(), counts(&stub, "sick").await.attempts), (vec!["sick"], 3));

    let (began, mut fast, mut slow) = (Instant::now(), Vec::new(), Vec::new());
    while began.elapsed() < COOL_DOWN * 6 {
        let some: Vec<DraftRequest> = (0..10).map(turn).collect();
        slow.extend(join_all(some.iter().map(|request| timed(&with, request))).await);
        fast.extend(join_all(some.iter().map(|request| timed(&without, request))).await);
    }
    let probes = counts(&stub, "sick").await.attempts - 3;
    let most = began.elapsed().as_millis() / COOL_DOWN.as_millis() + 1;
    let (turns, slow, fast) = (slow.len(), median(&mut slow), median(&mut fast));
    let extra = slow.saturating_sub(fast);
    println!("{turns} turns each, median {slow:?} with and {fast:?} without the hanging provider, {probes} probes");
    assert!(extra < Duration::from_millis(200), "{extra:?} extra");
    assert!((1..=most).contains(&u128::from(probes)), "{probes} probes, at most {most} were due");

    // And back by itself.
    stub.set(&Script::default()).await.unwrap();
    let healed = async {
        while draft(&with, &turn(9)).await.unwrap().provider != "sick" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healed).await.expect("the provider is used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_never_asked_by_more_than_may_at_once() {
    let slow = Behaviour { latency: Latency::Fixed { fixed_ms: 100 }, ..Behaviour::default() };
    let stub = spawn(&Script { default: slow, ..Script::default() });
    let turns: Vec<DraftRequest> = (0..40).map(turn).collect();

    let alone = chain(&stub, &["one"], "max_in_flight = 8");
    let drafts = join_all(turns.iter().map(|request| draft(&alone, request))).await;
    assert!(drafts.iter().all(|reply| reply.as_ref().unwrap().provider == "one"), "they waited for a place");
    let one = counts(&stub, "one").await;
    assert!(one.attempts == 40 && one.most_in_flight <= 8, "{one:?}");

    let two = chain(&stub, &["first", "second-v2"], "max_in_flight = 20");
    let drafts = join_all(turns.iter().map(|request| draft(&two, request))).await;
    assert!(drafts.iter().all(|reply| reply.as_ref().unwrap().provider != "acknowledge"));
    let (first, second) = (counts(&stub, "first").await, counts(&stub, "second-v2").await);
    assert_eq!((first.attempts, second.attempts), (20, 20), "nobody waits where another model has room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_is_dropped_ends_its_call_and_is_not_held_against_the_provider() {
    let stub = spawn(&Script::default().with("sick", Behaviour::always(Outcome::Hang)));
    let chain = chain(&stub, &["sick"], "max_in_flight = 5");
    for _ in 0..4 {
        let turns: Vec<DraftRequest> = (0..5).map(turn).collect();
        let asked = join_all(turns.iter().map(|request| draft(&chain, request)));
        assert!(tokio::time::timeout(TIMEOUT / 4, asked).await.is_err(), "they hang, and are dropped");
    }
    assert_eq!(chain.resting(), Vec::<&str>::new());
    let gone = async {
        loop {
            let sick = counts(&stub, "sick").await;
            if sick.in_flight == 0 {
                return sick;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sick = tokio::time::timeout(Duration::from_secs(10), gone).await.expect("no call is left behind");
    assert_eq!(sick.attempts, sick.abandoned);
    assert!(sick.attempts > 0, "{sick:?}");
}
