//! A provider that asks a model on a server. How the request and the answer look is its [`Protocol`]; the settings,
//! the limits and the errors are the same for all.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{self, Endpoint};
use super::{Author, Provider, ProviderError, Reply};
use crate::clock::Clock;
use crate::contract::Mode;
use crate::error::Problem;
use crate::generation::context;
use crate::saga::DraftRequest;

/// `[generation.providers.NAME]` of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the protocol lives, as `http://localhost:11434/v1`.
    pub base_url: String,
    /// The model's name as the server knows it.
    pub model: String,
    /// The environment variable that holds the key; empty for none.
    #[serde(default)]
    pub api_key_env: String,
    /// The file that holds the key; empty for none.
    #[serde(default)]
    pub api_key_file: String,
    /// Whether a key may travel unencrypted to another machine.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// From 0 to what the protocol allows; the server's own default if absent.
    pub temperature: Option<f64>,
    /// The most tokens of an answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// What a chat-completions server calls `max_tokens`; some models want `max_completion_tokens`.
    #[serde(default = "default_max_tokens_field")]
    pub max_tokens_field: String,
    /// The most tokens of a prompt, estimated.
    #[serde(default = "default_context_tokens")]
    pub context_tokens: usize,
    /// The most time for one attempt; the turn's deadline may leave less.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The most time to connect.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The largest response that is read, in bytes.
    #[serde(default = "default_max_response_bytes")]
    pub max_response_bytes: usize,
    /// The most calls at once.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: usize,
    /// What a million tokens of prompts cost; 0 for nothing.
    #[serde(default)]
    pub price_input_per_million: f64,
    /// What a million tokens of answers cost; 0 for nothing.
    #[serde(default)]
    pub price_output_per_million: f64,
    /// How far its replies may go.
    #[serde(default = "super::super::settings::auto")]
    pub ceiling: Mode,
}

fn default_max_tokens() -> u32 {
    300
}
fn default_max_tokens_field() -> String {
    "max_tokens".into()
}
fn default_context_tokens() -> usize {
    3_000
}
fn default_timeout_ms() -> u64 {
    20_000
}
fn default_connect_timeout_ms() -> u64 {
    2_000
}
fn default_max_response_bytes() -> usize {
    1 << 20
}
fn default_max_in_flight() -> usize {
    256
}

impl Settings {
    /// Whether the values fit the protocol `P`; `place` is the table's name.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check<P: Protocol>(&self, place: &str) -> Result<(), Problem> {
        let at = |key: &str| format!("{place}.{key}");
        self.check_address::<P>(place)?;
        if self.model.is_empty() {
            return Err(Problem::new("no model is named", at("model"), "Write the name the server knows it by"));
        }
        if self.temperature.is_some_and(|value| !(0.0..=P::MAX_TEMPERATURE).contains(&value)) {
            let remedy = format!("Write 0 to {}", P::MAX_TEMPERATURE);
            return Err(Problem::new("the temperature is out of range", at("temperature"), remedy));
        }
        for (key, value) in [
            ("max_tokens", u64::from(self.max_tokens)),
            ("context_tokens", self.context_tokens as u64),
            ("timeout_ms", self.timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("max_response_bytes", self.max_response_bytes as u64),
            ("max_in_flight", self.max_in_flight as u64),
        ] {
            if value == 0 {
                return Err(Problem::new("this must not be 0", at(key), "Remove the key for the default"));
            }
        }
        if self.max_in_flight > MOST_IN_FLIGHT {
            let remedy = format!("Write at most {MOST_IN_FLIGHT}");
            return Err(Problem::new("so many calls cannot be made at once", at("max_in_flight"), remedy));
        }
        for (key, price) in [
            ("price_input_per_million", self.price_input_per_million),
            ("price_output_per_million", self.price_output_per_million),
        ] {
            if !price.is_finite() || price < 0.0 {
                return Err(Problem::new("this is no price", at(key), "Write 0 or more"));
            }
        }
        Ok(())
    }

    fn check_address<P: Protocol>(&self, place: &str) -> Result<(), Problem> {
        let at = |key: &str| format!("{place}.{key}");
        let url = http::endpoint(&self.base_url, P::PATH).ok_or_else(|| {
            let remedy = format!("Write it like {}", P::EXAMPLE);
            Problem::new("this is no http or https address", at("base_url"), remedy)
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new(
                "the address holds credentials",
                at("base_url"),
                "Name them with api_key_env or api_key_file",
            ));
        }
        let has_key = !self.api_key_env.is_empty() || !self.api_key_file.is_empty();
        if !self.api_key_env.is_empty() && !self.api_key_file.is_empty() {
            return Err(Problem::new("the key is named twice", at("api_key_file"), "Keep api_key_env or api_key_file"));
        }
        if has_key && url.scheme() == "http" && !http::is_loopback(&url) && !self.allow_plain_http {
            return Err(Problem::new(
                "the key would travel unencrypted",
                at("base_url"),
                "Use https, or set allow_plain_http = true",
            ));
        }
        Ok(())
    }

    /// What this many tokens cost.
    pub fn cost(&self, usage: Usage) -> f64 {
        let millions = |tokens: u64| tokens as f64 / 1e6;
        millions(usage.input_tokens) * self.price_input_per_million
            + millions(usage.output_tokens) * self.price_output_per_million
    }
}

/// More calls at once than a process has ports for make no sense.
const MOST_IN_FLIGHT: usize = 50_000;

/// The tokens that a server counted for one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
}

/// How a server is asked and how it answers. Pure.
pub trait Protocol: Send + Sync + 'static {
    /// What follows `base_url`.
    const PATH: &'static str;
    /// A `base_url`, for errors.
    const EXAMPLE: &'static str;
    /// The highest temperature.
    const MAX_TEMPERATURE: f64;

    /// The body of a request, without what all protocols have: the model, the messages, `stream`, the temperature.
    fn limits(settings: &Settings) -> (&str, Value);

    /// The reply in the body of an answer.
    ///
    /// # Errors
    /// The server withheld the reply, or the bytes are none.
    fn reply(bytes: &[u8]) -> Result<Reply, ProviderError>;
}

/// The provider.
pub struct Model<P> {
    name: String,
    settings: Settings,
    endpoint: Endpoint,
    instructions: String,
    system: String,
    clock: Arc<dyn Clock>,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Model<P> {
    /// The provider `name`. `instructions` say how to answer and must not leak, `facts` are what it may tell.
    ///
    /// # Errors
    /// Settings that do not fit, a key that cannot be a header, or a TLS setup this machine lacks.
    pub fn new(
        name: &str,
        settings: &Settings,
        key: Option<&SecretString>,
        instructions: String,
        facts: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Problem> {
        let place = format!("generation.providers.{name}");
        settings.check::<P>(&place)?;
        let url = http::endpoint(&settings.base_url, P::PATH)
            .ok_or_else(|| Problem::new("this is no address", format!("{place}.base_url"), "Write an http address"))?;
        let limits = http::Limits {
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            max_response_bytes: settings.max_response_bytes,
            connections: settings.max_in_flight,
        };
        let endpoint = Endpoint::new(url, key, limits, &place)?;
        let facts = if facts.trim().is_empty() { String::new() } else { format!("\n\nWhat you may tell:\n{facts}") };
        let system = format!("{instructions}{facts}");
        let (name, settings) = (name.to_owned(), settings.clone());
        Ok(Self { name, settings, endpoint, instructions, system, clock, protocol: PhantomData })
    }

    /// The request's body. Thousands of calls wait at once, so that nothing but these bytes is kept meanwhile.
    fn body(&self, request: &DraftRequest) -> Result<Vec<u8>, ProviderError> {
        let messages: Vec<Value> = context::build(request, &self.system, self.settings.context_tokens)
            .into_iter()
            .map(|message| json!({ "role": message.role.as_str(), "content": Value::String(message.content) }))
            .collect();
        let mut body = json!({ "model": self.settings.model, "stream": false });
        body["messages"] = Value::Array(messages);
        let (field, limit) = P::limits(&self.settings);
        body[field] = limit;
        if let Some(temperature) = self.settings.temperature {
            body["temperature"] = json!(temperature);
        }
        serde_json::to_vec(&body).map_err(|_| ProviderError::Permanent("the request could not be built".into()))
    }

    async fn exchange(&self, request: &DraftRequest) -> Result<Reply, ProviderError> {
        let body = self.body(request)?;
        P::reply(&self.endpoint.post(request.turn, body, self.clock.as_ref()).await?)
    }
}

#[async_trait]
impl<P: Protocol> Provider for Model<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn author(&self) -> Author {
        Author::Model
    }

    fn is_instant(&self) -> bool {
        false
    }

    fn instructions(&self) -> Option<&str> {
        Some(&self.instructions)
    }

    fn cost(&self, usage: Usage) -> f64 {
        self.settings.cost(usage)
    }

    async fn generate(&self, request: &DraftRequest, deadline: Instant) -> Result<Reply, ProviderError> {
        let end = deadline.min(Instant::now() + Duration::from_millis(self.settings.timeout_ms));
        tokio::time::timeout_at(end, self.exchange(request)).await.unwrap_or(Err(ProviderError::Timeout))
    }
}
