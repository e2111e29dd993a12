//! One provider for everything that speaks the OpenAI-compatible chat-completions protocol: Ollama, llama.cpp,
//! hosted services.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Author, Provider, ProviderError, Reply};
use crate::clock::{Clock, elapsed};
use crate::contract::Mode;
use crate::error::Problem;
use crate::generation::context;
use crate::saga::DraftRequest;

/// `[generation.providers.NAME]` with `kind = "chat_completions"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the protocol lives, without `/chat/completions`: `http://localhost:11434/v1`.
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
    /// 0 to 2; the server's own default if absent.
    pub temperature: Option<f64>,
    /// The most tokens of an answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// What the server calls `max_tokens`; some models want `max_completion_tokens`.
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

impl Settings {
    /// Whether the values fit; `place` is the table's name.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check(&self, place: &str) -> Result<(), Problem> {
        let at = |key: &str| format!("{place}.{key}");
        let url = endpoint(&self.base_url).ok_or_else(|| {
            Problem::new("this is no http or https address", at("base_url"), "Write it like http://localhost:11434/v1")
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new(
                "the address holds credentials",
                at("base_url"),
                "Name them with api_key_env or api_key_file",
            ));
        }
        if self.model.is_empty() {
            return Err(Problem::new("no model is named", at("model"), "Write the name the server knows it by"));
        }
        let has_key = !self.api_key_env.is_empty() || !self.api_key_file.is_empty();
        if !self.api_key_env.is_empty() && !self.api_key_file.is_empty() {
            return Err(Problem::new("the key is named twice", at("api_key_file"), "Keep api_key_env or api_key_file"));
        }
        if has_key && url.scheme() == "http" && !is_loopback(&url) && !self.allow_plain_http {
            return Err(Problem::new(
                "the key would travel unencrypted",
                at("base_url"),
                "Use https, or set allow_plain_http = true",
            ));
        }
        if self.temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
            return Err(Problem::new("the temperature is out of range", at("temperature"), "Write 0 to 2"));
        }
        for (key, value) in [
            ("max_tokens", u64::from(self.max_tokens)),
            ("context_tokens", self.context_tokens as u64),
            ("timeout_ms", self.timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("max_response_bytes", self.max_response_bytes as u64),
        ] {
            if value == 0 {
                return Err(Problem::new("this must not be 0", at(key), "Remove the key for the default"));
            }
        }
        Ok(())
    }
}

fn endpoint(base_url: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}/chat/completions", base_url.trim_end_matches('/'))).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && url.query().is_none()).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The provider.
pub struct ChatCompletions {
    name: String,
    settings: Settings,
    url: Url,
    client: Client,
    instructions: String,
    clock: Arc<dyn Clock>,
    facts: String,
}

impl ChatCompletions {
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
        settings.check(&place)?;
        let url = endpoint(&settings.base_url)
            .ok_or_else(|| Problem::new("this is no address", format!("{place}.base_url"), "Write an http address"))?;
        let client = build_client(settings, key, &url, &place)?;
        let facts = if facts.trim().is_empty() { String::new() } else { format!("\n\nWhat you may tell:\n{facts}") };
        Ok(Self { name: name.to_owned(), settings: settings.clone(), url, client, instructions, clock, facts })
    }

    fn body(&self, request: &DraftRequest) -> Value {
        let system = format!("{}{}", self.instructions, self.facts);
        let messages: Vec<Value> = context::build(request, &system, self.settings.context_tokens)
            .into_iter()
            .map(|message| json!({ "role": message.role.as_str(), "content": message.content }))
            .collect();
        let mut body = json!({ "model": self.settings.model, "messages": messages, "stream": false });
        body[self.settings.max_tokens_field.as_str()] = json!(self.settings.max_tokens);
        if let Some(temperature) = self.settings.temperature {
            body["temperature"] = json!(temperature);
        }
        body
    }

    async fn exchange(&self, request: &DraftRequest) -> Result<Reply, ProviderError> {
        let response =
            self.client.post(self.url.clone()).json(&self.body(request)).send().await.map_err(|e| classify(&e))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, retry_after(response.headers(), self.clock.as_ref())));
        }
        let bytes = read_bounded(response, self.settings.max_response_bytes).await?;
        parse(&bytes)
    }
}

fn build_client(settings: &Settings, key: Option<&SecretString>, url: &Url, place: &str) -> Result<Client, Problem> {
    // reqwest panics without a provider; a second installation fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim())).map_err(|_| {
            Problem::new("the key holds characters no header may hold", place, "Store the key alone, on one line")
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut builder = Client::builder()
        .default_headers(headers)
        .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        // A redirect could carry the chat, and on some servers the key, to another host.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // A machine without certificates can still use a model of its own.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|_| {
        Problem::new(
            "the HTTP client could not be set up",
            place,
            "Install the system's certificates (Debian: ca-certificates)",
        )
    })
}

/// What a failed exchange means; reqwest's own text would hold the address.
fn classify(error: &reqwest::Error) -> ProviderError {
    if error.is_connect() {
        ProviderError::Transient("no connection to the server".into())
    } else if error.is_timeout() {
        ProviderError::Timeout
    } else if error.is_builder() {
        ProviderError::Permanent("the request could not be built".into())
    } else {
        ProviderError::Unknown("the connection ended before the answer was complete".into())
    }
}

fn refusal(status: StatusCode, retry_after: Option<Duration>) -> ProviderError {
    let code = status.as_u16();
    match code {
        429 => ProviderError::RateLimited { retry_after },
        503 if retry_after.is_some() => ProviderError::RateLimited { retry_after },
        408 | 425 | 500 | 502 | 503 | 504 | 529 => ProviderError::Transient(format!("the server answered {code}")),
        // These are about this request (too long, filtered), not about the server.
        400 | 413 | 422 => ProviderError::Declined(format!("the server refused the request with {code}")),
        401 | 403 => ProviderError::Permanent(format!("the server answered {code}: check the key")),
        404 => ProviderError::Permanent("the server answered 404: check base_url and model".into()),
        300..=399 => ProviderError::Permanent(format!("the server answered {code}: redirects are not followed")),
        400..=499 | 501 | 505 => ProviderError::Permanent(format!("the server answered {code}")),
        _ => ProviderError::Unknown(format!("the server answered {code}")),
    }
}

/// The `Retry-After` of RFC 9110, section 10.2.3: seconds, or an HTTP date.
fn retry_after(headers: &HeaderMap, clock: &dyn Clock) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(elapsed(clock.now(), until))
}

async fn read_bounded(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, ProviderError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(ProviderError::Malformed("the answer is larger than max_response_bytes".into()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Value>,
    refusal: Option<Value>,
}

/// The reply in a completion. Pure; any bytes give a reply or an error.
fn parse(bytes: &[u8]) -> Result<Reply, ProviderError> {
    let malformed = |what: &str| ProviderError::Malformed(what.to_owned());
    let completion: Completion =
        serde_json::from_slice(bytes).map_err(|_| malformed("the answer is not a chat completion"))?;
    let choice = completion.choices.into_iter().next().ok_or_else(|| malformed("the answer has no choice"))?;
    match choice.finish_reason.as_deref() {
        Some("length" | "max_tokens") => {
            return Err(ProviderError::Declined("the reply was cut off at max_tokens".into()));
        }
        Some("content_filter") => return Err(ProviderError::Declined("the server's filter withheld the reply".into())),
        Some("tool_calls" | "function_call") => return Err(malformed("the model called a tool nobody offered")),
        _ => {}
    }
    if choice.message.refusal.as_ref().is_some_and(|refusal| refusal.as_str().is_some_and(|text| !text.is_empty())) {
        return Err(ProviderError::Declined("the model refused".into()));
    }
    let text = match choice.message.content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    if text.trim().is_empty() { Err(malformed("the reply is empty")) } else { Ok(Reply { text }) }
}

#[async_trait]
impl Provider for ChatCompletions {
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

    async fn generate(&self, request: &DraftRequest, deadline: Instant) -> Result<Reply, ProviderError> {
        let end = deadline.min(Instant::now() + Duration::from_millis(self.settings.timeout_ms));
        tokio::time::timeout_at(end, self.exchange(request)).await.unwrap_or(Err(ProviderError::Timeout))
    }
}

#[cfg(test)]
mod tests;
