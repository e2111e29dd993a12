//! The provider against a real server on loopback, alone and in a chain.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use proptest::prelude::*;
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::generation::provider::Provider;
use crate::generation::testing::{at, request};
use crate::generation::{Settings as Generation, build};
use crate::saga::{Draft, GenerationError, Generator};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const QUESTION: &str = "a very private question";
const KEY: &str = "sk-very-private-key-000000";

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(at("2026-03-02T10:00:00Z")))
}

fn provider(base_url: &str) -> ChatCompletions {
    let toml = format!(
        "base_url = '{base_url}'\nmodel = 'm'\ntemperature = 0.5\ntimeout_ms = 400\nmax_response_bytes = 5000\napi_key_env = 'K'"
    );
    let settings: Settings = toml::from_str(&toml).unwrap();
    ChatCompletions::new("m", &settings, Some(&KEY.into()), "Be kind.".into(), "We sell tea.", clock()).unwrap()
}

async fn ask(provider: &ChatCompletions) -> Result<Reply, ProviderError> {
    let result = provider.generate(&request(&[QUESTION]), Instant::now() + Duration::from_secs(5)).await;
    if let Err(error) = &result {
        let told = format!("{error} {error:?}");
        assert!(!told.contains("private") && !told.contains("127.0.0.1"), "{told}");
    }
    result
}

async fn server(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(response).mount(&server).await;
    server
}

fn completion(text: &str) -> Value {
    json!({ "choices": [{ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] })
}

async fn answer(response: ResponseTemplate) -> Result<Reply, ProviderError> {
    let server = server(response).await;
    ask(&provider(&format!("{}/v1", server.uri()))).await
}

/// A server that does `serve` with each connection once the request's head has come; gives its base address.
fn raw_server(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            serve(stream);
        }
    });
    base
}

#[tokio::test]
async fn it_sends_the_prompt_and_the_key_and_reads_the_reply() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", format!("Bearer {KEY}").as_str()))
        .and(body_partial_json(json!({ "model": "m", "temperature": 0.5, "max_tokens": 300, "stream": false })))
        .respond_with(ResponseTemplate::new(200).set_body_json(completion("Hello")))
        .expect(1)
        .mount(&server)
        .await;
    let reply = ask(&provider(&format!("{}/v1/", server.uri()))).await;
    assert_eq!(reply, Ok(Reply::free("Hello".into())));
    let sent: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    assert_eq!(sent["messages"][0]["content"], "Be kind.\n\nWhat you may tell:\nWe sell tea.");
    assert!(sent["messages"][1]["content"].as_str().unwrap().contains(QUESTION));
}

#[tokio::test]
async fn statuses_have_their_class() {
    let status = |code| answer(ResponseTemplate::new(code).set_body_string(QUESTION));
    for code in [500, 502, 503, 504, 408] {
        assert!(matches!(status(code).await, Err(ProviderError::Transient(_))), "{code}");
    }
    for code in [401, 403, 404, 307, 410] {
        assert!(matches!(status(code).await, Err(ProviderError::Permanent(_))), "{code}");
    }
    for code in [400, 413, 422] {
        assert!(matches!(status(code).await, Err(ProviderError::Declined(_))), "{code}");
    }
    assert!(matches!(status(204).await, Err(ProviderError::Unknown(_))));
    assert_eq!(status(429).await, Err(ProviderError::RateLimited { retry_after: None }));
    for (value, seconds) in [("120", 120), ("Mon, 02 Mar 2026 10:01:00 GMT", 60), ("Mon, 02 Mar 2020 10:01:00 GMT", 0)]
    {
        let limited = answer(ResponseTemplate::new(429).insert_header("retry-after", value)).await;
        assert_eq!(limited, Err(ProviderError::RateLimited { retry_after: Some(Duration::from_secs(seconds)) }));
    }
}

#[tokio::test]
async fn what_is_no_reply_is_malformed_and_what_was_withheld_is_declined() {
    for body in [
        "",
        "null",
        "<html>",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"message":{"content":" "}}]}"#,
        r#"{"error":{"message":"x"}}"#,
    ] {
        let result = answer(ResponseTemplate::new(200).set_body_string(body)).await;
        assert!(matches!(result, Err(ProviderError::Malformed(_))), "{body}: {result:?}");
    }
    let huge = answer(ResponseTemplate::new(200).set_body_json(completion(&"x".repeat(6000)))).await;
    assert!(matches!(huge, Err(ProviderError::Malformed(_))));
    for reason in ["length", "content_filter"] {
        let mut body = completion("Half a sen");
        body["choices"][0]["finish_reason"] = json!(reason);
        assert!(matches!(
            answer(ResponseTemplate::new(200).set_body_json(body)).await,
            Err(ProviderError::Declined(_))
        ));
    }
    let parts = json!({ "choices": [{ "message": { "content": [{ "type": "text", "text": "in parts" }] } }] });
    assert_eq!(answer(ResponseTemplate::new(200).set_body_json(parts)).await.unwrap().text, "in parts");
    let mut counted = completion("Hello");
    counted["usage"] = json!({ "prompt_tokens": 70, "completion_tokens": 3, "total_tokens": 73 });
    let usage = answer(ResponseTemplate::new(200).set_body_json(counted)).await.unwrap().usage;
    assert_eq!(usage, Some(Usage { input_tokens: 70, output_tokens: 3 }));
}

#[tokio::test]
async fn a_hang_and_a_slow_drip_end_in_time() {
    let hang = answer(ResponseTemplate::new(200).set_delay(Duration::from_secs(30))).await;
    assert_eq!(hang, Err(ProviderError::Timeout));
    let base = raw_server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n");
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(b" ").is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    assert_eq!(ask(&provider(&base)).await, Err(ProviderError::Timeout));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_lost_connection_is_unknown_and_one_that_was_never_made_is_transient() {
    let early = raw_server(drop);
    assert!(matches!(ask(&provider(&early)).await, Err(ProviderError::Unknown(_))));
    let midway = raw_server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n{\"choices\"");
    });
    assert!(matches!(ask(&provider(&midway)).await, Err(ProviderError::Unknown(_))));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(ask(&provider(&format!("http://{closed}/v1"))).await, Err(ProviderError::Transient(_))));
}

/// The default chain's end with two models before it; what comes out, and how often each model was asked.
async fn through_a_chain(
    first: ResponseTemplate,
    second: ResponseTemplate,
    deadline: Duration,
) -> (Result<Draft, GenerationError>, usize, usize) {
    let (one, two) = (server(first).await, server(second).await);
    let mut all: toml::Table = toml::from_str(include_str!("../../../../config.default.toml")).unwrap();
    let mut settings: Generation = all.remove("generation").unwrap().try_into().unwrap();
    for (name, server) in [("one", &one), ("two", &two)] {
        let table = format!("kind = 'chat_completions'\nbase_url = '{}/v1'\nmodel = 'm'", server.uri());
        settings.providers.insert(name.into(), toml::from_str(&table).unwrap());
    }
    settings.chain = vec!["one".into(), "two".into(), "acknowledge".into()];
    settings.retry_initial_ms = 5;
    let chain = build(&settings, &BTreeMap::new(), &clock()).unwrap();
    let draft = chain.draft(&request(&[QUESTION]), Instant::now() + deadline).await;
    let asked = |requests: Option<Vec<wiremock::Request>>| requests.unwrap().len();
    (draft, asked(one.received_requests().await), asked(two.received_requests().await))
}

#[tokio::test]
async fn a_chain_over_real_servers_counts_its_attempts() {
    let (long, ok) = (Duration::from_secs(5), || ResponseTemplate::new(200).set_body_json(completion("From two")));
    let limited = ResponseTemplate::new(429).insert_header("retry-after", "3600");
    let (draft, one, two) = through_a_chain(limited, ok(), long).await;
    assert_eq!((draft.unwrap().provider.as_str(), one, two), ("two", 1, 1));

    let (draft, one, two) = through_a_chain(ResponseTemplate::new(500), ok(), long).await;
    assert_eq!((draft.unwrap().text.as_str(), one, two), ("From two", 3, 1));

    let leak = ResponseTemplate::new(200).set_body_json(completion("see https://evil.example"));
    let (draft, one, two) = through_a_chain(leak, ResponseTemplate::new(401), long).await;
    assert_eq!((draft.unwrap().provider.as_str(), one, two), ("acknowledge", 1, 1));

    let hang = || ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    let (draft, one, two) = through_a_chain(hang(), hang(), Duration::from_millis(600)).await;
    assert_eq!((draft.unwrap().provider.as_str(), one, two), ("acknowledge", 1, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_a_reply_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), text in any::<String>()) {
        let _ = ChatCompletionsProtocol::reply(&bytes);
        let body = completion(&text).to_string();
        prop_assert_eq!(ChatCompletionsProtocol::reply(body.as_bytes()).is_ok(), !text.trim().is_empty());
        let _ = ChatCompletionsProtocol::reply(&body.as_bytes()[..body.len() / 2]);
    }
}
