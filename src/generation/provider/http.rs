//! What every model server has in common: the client, the limits of a response, and what a failure means.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use super::ProviderError;
use crate::clock::{Clock, elapsed};
use crate::contract::TurnId;
use crate::error::Problem;

/// The header in which a request names its turn, so that its attempts can be found in a server's log.
const TURN_HEADER: &str = "x-client-request-id";

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The address of `path` below `base_url`, if that is an http or https address.
pub fn endpoint(base_url: &str, path: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}{path}", base_url.trim_end_matches('/'))).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && url.query().is_none()).then_some(url)
}

/// Whether this address is on this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a client is set up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most time to connect.
    pub connect_timeout: Duration,
    /// The largest response that is read, in bytes.
    pub max_response_bytes: usize,
    /// Connections that are kept for later: as many as there can be calls at once.
    pub connections: usize,
}

/// One address to which JSON is posted.
pub struct Endpoint {
    client: Client,
    url: Url,
    max_response_bytes: usize,
}

impl Endpoint {
    /// A client for `url`; `place` is the provider's table, for errors.
    ///
    /// # Errors
    /// A key that cannot be a header, or a TLS setup this machine lacks.
    pub fn new(url: Url, key: Option<&SecretString>, limits: Limits, place: &str) -> Result<Self, Problem> {
        // reqwest panics without a provider; a second installation fails and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim())).map_err(|_| {
                Problem::new("the key holds characters no header may hold", place, "Store the key alone, on one line")
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .connect_timeout(limits.connect_timeout)
            .pool_max_idle_per_host(limits.connections)
            .pool_idle_timeout(IDLE)
            // A redirect could carry the chat, and on some servers the key, to another host.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // A machine without certificates can still use a model of its own.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|_| {
            Problem::new(
                "the HTTP client could not be set up",
                place,
                "Install the system's certificates (Debian: ca-certificates)",
            )
        })?;
        Ok(Self { client, url, max_response_bytes: limits.max_response_bytes })
    }

    /// Posts `body` and gives the body of the answer, if its status is 200.
    ///
    /// # Errors
    /// Every other end, classified; the text holds no address and nothing the server wrote.
    pub async fn post(&self, turn: TurnId, body: Vec<u8>, clock: &dyn Clock) -> Result<Vec<u8>, ProviderError> {
        let request = self.client.post(self.url.clone()).header(TURN_HEADER, turn.to_string()).body(body);
        let response = request.send().await.map_err(|error| classify(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, retry_after(response.headers(), clock)));
        }
        self.read(response).await
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, ProviderError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            if bytes.len() + chunk.len() > self.max_response_bytes {
                return Err(ProviderError::Malformed("the answer is larger than max_response_bytes".into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
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
        401 | 403 | 498 => ProviderError::Permanent(format!("the server answered {code}: check the key")),
        402 => ProviderError::Permanent("the server answered 402: check the account's plan".into()),
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
