//! Each behaviour, seen by a client that hides nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::raw::{Response, request};
use super::*;
use crate::facts::token;

fn question() -> String {
    json!({ "model": "m", "messages": [{ "role": "user", "content": format!("what about {}?", token(42)) }] })
        .to_string()
}

async fn ask(stub: &Stub, path: &str) -> Response {
    let turn = "x-client-request-id: 00000000-0000-0000-0000-00000000002a";
    request(stub.address, "POST", path, &[turn], &question()).await.unwrap()
}

/// What both forms answer to one request when they always misbehave like this.
async fn both(behaviour: Behaviour) -> [Response; 2] {
    let stub = Stub::start(Script { default: behaviour, ..Script::default() }).await.unwrap();
    [ask(&stub, "/v1/chat/completions").await, ask(&stub, "/v2/chat").await]
}

fn text(response: &Response) -> String {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    let completion = body["choices"][0]["message"]["content"].as_str();
    completion.or_else(|| body["message"]["content"][0]["text"].as_str()).unwrap().to_owned()
}

#[tokio::test]
async fn a_good_answer_has_the_form_of_its_path_and_names_the_token() {
    let [openai, cohere] = both(Behaviour::default()).await;
    for response in [&openai, &cohere] {
        assert_eq!((response.status, response.complete), (200, true));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(text(response), format!("Noted: {}", token(42)));
    }
    let openai: Value = serde_json::from_str(&openai.body).unwrap();
    assert_eq!(openai["choices"][0]["finish_reason"], "stop");
    assert!(openai["usage"]["prompt_tokens"].as_u64() > Some(0) && openai["usage"]["completion_tokens"].is_u64());
    let cohere: Value = serde_json::from_str(&cohere.body).unwrap();
    assert_eq!(cohere["finish_reason"], "COMPLETE");
    assert!(cohere["usage"]["tokens"]["input_tokens"].as_u64() > Some(0));
    assert!(cohere["usage"]["tokens"]["output_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn refusals_have_their_status_and_their_wait() {
    for (outcome, status, wait) in [
        (Outcome::LimitedShort, 429, Some("1")),
        (Outcome::LimitedLong, 429, Some("3600")),
        (Outcome::Error500, 500, None),
        (Outcome::Error503, 503, None),
    ] {
        for response in both(Behaviour::always(outcome)).await {
            assert_eq!((response.status, response.header("retry-after")), (status, wait), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn bad_answers_are_bad_in_their_way() {
    for response in both(Behaviour::always(Outcome::Malformed)).await {
        assert!(response.complete && serde_json::from_str::<Value>(&response.body).is_err());
    }
    for response in both(Behaviour::always(Outcome::Empty)).await {
        assert_eq!(text(&response), "");
    }
    for response in both(Behaviour::always(Outcome::TooLong)).await {
        assert!(text(&response).len() >= 5_000);
    }
    for response in both(Behaviour::always(Outcome::WrongContentType)).await {
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/html")));
    }
    for response in both(Behaviour::always(Outcome::Disconnect)).await {
        assert!(response.status == 200 && !response.complete && !response.body.is_empty());
    }
}

#[tokio::test]
async fn a_drip_comes_byte_by_byte_and_whole_in_the_end() {
    let behaviour = Behaviour { drip_interval_ms: 1, ..Behaviour::always(Outcome::Drip) };
    let began = Instant::now();
    let [openai, cohere] = both(behaviour).await;
    assert!(openai.complete && cohere.complete);
    assert_eq!(text(&cohere), text(&openai));
    let bytes = openai.body.len() + cohere.body.len();
    assert!(began.elapsed() >= Duration::from_millis(bytes as u64 - 2), "no sleep is shorter than it was asked to be");
}

#[tokio::test]
async fn a_hang_never_answers_and_those_who_leave_are_counted() {
    let stub = Stub::start(Script::default().with("sick", Behaviour::always(Outcome::Hang))).await.unwrap();
    let hung = tokio::time::timeout(Duration::from_millis(100), ask(&stub, "/sick/v1/chat/completions")).await;
    assert!(hung.is_err());
    let gone = async {
        while stub.counts()["sick"].abandoned == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    let counts = &stub.counts()["sick"];
    assert_eq!((counts.attempts, counts.in_flight, counts.outcomes[&Outcome::Hang]), (1, 0, 1));
}

#[tokio::test]
async fn a_latency_is_waited() {
    let stub = Stub::start(Script::answering_after(80)).await.unwrap();
    let began = Instant::now();
    ask(&stub, "/v2/chat").await;
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn providers_turns_and_outcomes_are_counted_apart_and_the_script_can_change() {
    let stub = Stub::start(Script::default()).await.unwrap();
    ask(&stub, "/v1/chat/completions").await;
    ask(&stub, "/v1/chat/completions").await;
    let sick = "[providers.chat_completions.shares]\nerror_500 = 1.0";
    assert_eq!(request(stub.address, "POST", "/script", &[], sick).await.unwrap().status, 200);
    assert_eq!(ask(&stub, "/v1/chat/completions").await.status, 500);
    assert_eq!(ask(&stub, "/v2/chat").await.status, 200);
    assert_eq!(request(stub.address, "POST", "/script", &[], "typo = 1").await.unwrap().status, 400);

    let body = request(stub.address, "GET", "/counts", &[], "").await.unwrap().body;
    let counts: std::collections::BTreeMap<String, Counts> = serde_json::from_str(&body).unwrap();
    assert_eq!(counts, stub.counts());
    let first = &counts[CHAT_COMPLETIONS];
    assert_eq!((first.attempts, first.turns, first.most_attempts_of_a_turn), (3, 1, 3));
    assert_eq!((first.outcomes[&Outcome::Ok], first.outcomes[&Outcome::Error500], first.abandoned), (2, 1, 0));
    assert_eq!(counts[COHERE_CHAT].attempts, 1);
    let turns = request(stub.address, "GET", "/turns", &[], "").await.unwrap().body;
    assert!(turns.contains("00000000-0000-0000-0000-00000000002a\":3"), "{turns}");

    request(stub.address, "DELETE", "/counts", &[], "").await.unwrap();
    assert_eq!(stub.counts()[CHAT_COMPLETIONS], Counts::default());
    assert_eq!(request(stub.address, "GET", "/healthz", &[], "").await.unwrap().status, 200);
    assert_eq!(request(stub.address, "POST", "/nothing", &[], "").await.unwrap().status, 404);
}

#[tokio::test]
async fn what_is_no_request_is_refused_not_answered() {
    let stub = Stub::start(Script::default()).await.unwrap();
    assert_eq!(request(stub.address, "POST", "/v2/chat", &[], "{}").await.unwrap().status, 400);
}

#[tokio::test]
async fn it_ends_with_its_connections() {
    let stub = Stub::start(Script::default().with("sick", Behaviour::always(Outcome::Hang))).await.unwrap();
    let address = stub.address;
    let hanging =
        request(address, "POST", "/sick/v2/chat", &[], "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    let ends = async {
        while stub.counts().get("sick").is_none_or(|sick| sick.in_flight == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(stub);
    };
    let (answer, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(hanging, ends) }).await.unwrap();
    assert!(answer.is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
