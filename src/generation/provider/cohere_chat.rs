//! Cohere's chat protocol, version 2, as <https://docs.cohere.com/reference/chat> describes it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::model::{Model, Protocol, Settings, Usage};
use super::{ProviderError, Reply};

/// The protocol.
pub struct CohereChatProtocol;

/// A model behind it.
pub type CohereChat = Model<CohereChatProtocol>;

#[derive(Deserialize)]
struct Answer {
    finish_reason: String,
    message: Message,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Counted {
    billed_units: Option<Tokens>,
    tokens: Option<Tokens>,
}

/// They are "numbers" there, which may have a fraction.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    input_tokens: f64,
    #[serde(default)]
    output_tokens: f64,
}

impl Protocol for CohereChatProtocol {
    const PATH: &'static str = "/v2/chat";
    const EXAMPLE: &'static str = "https://api.cohere.com";
    const MAX_TEMPERATURE: f64 = 1.0;

    fn limits(settings: &Settings) -> (&str, Value) {
        ("max_tokens", json!(settings.max_tokens))
    }

    fn reply(bytes: &[u8]) -> Result<Reply, ProviderError> {
        let malformed = |what: &str| ProviderError::Malformed(what.to_owned());
        let answer: Answer =
            serde_json::from_slice(bytes).map_err(|_| malformed("the answer is none of Cohere's chat v2"))?;
        match answer.finish_reason.as_str() {
            "MAX_TOKENS" => return Err(ProviderError::Declined("the reply was cut off at max_tokens".into())),
            "TOOL_CALL" => return Err(malformed("the model called a tool nobody offered")),
            "ERROR" | "TIMEOUT" => {
                return Err(ProviderError::Transient("the server gave up in the middle of the reply".into()));
            }
            _ => {}
        }
        // Beside text there may be the model's thoughts.
        let parts = answer.message.content.unwrap_or_default();
        let text: String = parts.iter().filter(|part| part.kind == "text").map(|part| part.text.as_str()).collect();
        if text.trim().is_empty() {
            return Err(malformed("the reply is empty"));
        }
        // What is billed leaves out what the service adds itself.
        let counted = answer.usage.and_then(|usage| usage.billed_units.or(usage.tokens));
        let usage = counted.map(|tokens| Usage {
            input_tokens: whole(tokens.input_tokens),
            output_tokens: whole(tokens.output_tokens),
        });
        Ok(Reply { text, usage })
    }
}

#[allow(clippy::cast_sign_loss, reason = "the value is bounded first")]
fn whole(tokens: f64) -> u64 {
    tokens.clamp(0.0, 1e12) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;
    use wiremock::matchers::{body_partial_json, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::clock::ManualClock;
    use crate::generation::provider::Provider;
    use crate::generation::testing::{at, request};

    fn answer(text: &str) -> Value {
        json!({
            "id": "c14c80c3",
            "finish_reason": "COMPLETE",
            "message": { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm" },
                { "type": "text", "text": text },
            ] },
            "usage": {
                "billed_units": { "input_tokens": 5, "output_tokens": 41.0 },
                "tokens": { "input_tokens": 71, "output_tokens": 418 },
            },
        })
    }

    fn read(value: &Value) -> Result<Reply, ProviderError> {
        CohereChatProtocol::reply(value.to_string().as_bytes())
    }

    #[tokio::test]
    async fn it_sends_the_prompt_and_the_key_and_reads_the_reply() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/v2/chat"))
            .and(header("authorization", "Bearer a-key"))
            .and(header("content-type", "application/json"))
            .and(body_partial_json(json!({ "model": "command", "max_tokens": 300, "stream": false })))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer("Hello")))
            .expect(2)
            .mount(&server)
            .await;
        let settings: Settings =
            toml::from_str(&format!("base_url = '{}/'\nmodel = 'command'\napi_key_env = 'K'", server.uri())).unwrap();
        let clock = Arc::new(ManualClock::new(at("2026-03-02T10:00:00Z")));
        let provider =
            CohereChat::new("c", &settings, Some(&"a-key".into()), "Be kind.".into(), "We sell tea.", clock).unwrap();
        let asked = request(&["a question"]);
        for _ in 0..2 {
            let reply = provider.generate(&asked, Instant::now() + Duration::from_secs(5)).await;
            let usage = Some(Usage { input_tokens: 5, output_tokens: 41 });
            assert_eq!(reply, Ok(Reply { text: "Hello".into(), usage }));
        }
        let requests = server.received_requests().await.unwrap();
        let sent: Value = requests[1].body_json().unwrap();
        assert_eq!(
            sent["messages"][0],
            json!({ "role": "system", "content": "Be kind.\n\nWhat you may tell:\nWe sell tea." })
        );
        assert!(sent["messages"][1]["content"].as_str().unwrap().contains("a question"));
        assert_eq!(requests[1].headers["x-client-request-id"], asked.turn.to_string().as_str());
    }

    #[test]
    fn what_was_withheld_is_declined_and_what_is_none_is_malformed() {
        let ended = |reason: &str| {
            let mut value = answer("Half a sen");
            value["finish_reason"] = json!(reason);
            read(&value)
        };
        assert!(ended("STOP_SEQUENCE").is_ok());
        assert!(matches!(ended("MAX_TOKENS"), Err(ProviderError::Declined(_))));
        assert!(matches!(ended("TOOL_CALL"), Err(ProviderError::Malformed(_))));
        assert!(matches!(ended("ERROR"), Err(ProviderError::Transient(_))));
        assert!(matches!(ended("TIMEOUT"), Err(ProviderError::Transient(_))));
        for none in [
            json!(null),
            json!({}),
            json!({ "message": "no such model" }),
            json!({ "finish_reason": "COMPLETE", "message": { "role": "assistant" } }),
            json!({ "finish_reason": "COMPLETE", "message": { "content": [{ "type": "text", "text": " " }] } }),
            json!({ "finish_reason": "COMPLETE", "message": { "content": [{ "type": "thinking", "text": "x" }] } }),
        ] {
            assert!(matches!(read(&none), Err(ProviderError::Malformed(_))), "{none}");
        }
    }

    #[test]
    fn its_temperature_ends_at_one() {
        let with = |temperature: &str| {
            let settings = format!("base_url = 'https://x.example'\nmodel = 'm'\ntemperature = {temperature}");
            toml::from_str::<Settings>(&settings).unwrap().check::<CohereChatProtocol>("p")
        };
        assert!(with("1.0").is_ok());
        assert!(with("1.1").unwrap_err().to_string().contains("0 to 1"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reply_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), text in any::<String>()) {
            let _ = CohereChatProtocol::reply(&bytes);
            prop_assert_eq!(read(&answer(&text)).is_ok(), !text.trim().is_empty());
            let body = answer(&text).to_string();
            prop_assert!(CohereChatProtocol::reply(&body.as_bytes()[..body.len() / 2]).is_err());
        }
    }
}
