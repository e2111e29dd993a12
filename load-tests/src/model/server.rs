//! The stub's HTTP side: hyper without a framework, for it has to hold thousands of requests beside what is measured.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::answer::{self, Asked, Form};
use super::counts::{Counters, Counts, Entered};
use super::script::{Behaviour, Outcome, Script};
use super::{CHAT_COMPLETIONS, COHERE_CHAT};

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Connections that may wait to be accepted: all of a burst of thousands.
const BACKLOG: u32 = 8_192;
/// The headers in which a request may name its turn.
const TURN_HEADERS: [&str; 2] = ["x-client-request-id", "idempotency-key"];
/// How long half a body has to get out before the connection ends.
const HALF_BODY: Duration = Duration::from_millis(20);

type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Default)]
struct State {
    script: RwLock<Arc<Script>>,
    providers: Mutex<BTreeMap<String, Arc<Counters>>>,
}

impl State {
    fn counters(&self, provider: &str) -> Arc<Counters> {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = providers.get(provider) {
            return Arc::clone(counters);
        }
        Arc::clone(providers.entry(provider.to_owned()).or_default())
    }

    fn script(&self) -> Arc<Script> {
        Arc::clone(&self.script.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, script: Script) {
        *self.script.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }

    fn counts(&self) -> BTreeMap<String, Counts> {
        let providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: BTreeMap<_, _> =
            [CHAT_COMPLETIONS, COHERE_CHAT].map(|n| (n.to_owned(), Counts::default())).into();
        counts.extend(providers.iter().map(|(name, counters)| (name.clone(), counters.read())));
        counts
    }

    fn turns(&self) -> BTreeMap<String, BTreeMap<Uuid, u32>> {
        let providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        providers.iter().map(|(name, counters)| (name.clone(), counters.turns())).collect()
    }

    fn reset(&self) {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A stub in this process; dropped, it ends with all its connections.
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    serving: JoinSet<()>,
}

impl Stub {
    /// Starts a stub on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    /// Starts a stub on this address.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn listen(address: SocketAddr, script: Script) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let (address, state) = (listener.local_addr()?, Arc::new(State::default()));
        state.set(script);
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, serving })
    }

    /// Behaves like this from the next request on.
    pub fn set(&self, script: Script) {
        self.state.set(script);
    }

    /// What each provider was asked so far.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        self.state.counts()
    }

    /// Serves until the process ends.
    pub async fn serve(mut self) {
        while self.serving.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely; some will come back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, std::convert::Infallible>(handle(&state, request).await) }
            });
            // Whoever asks may leave at any time; that is no error of ours.
            let _ = http1::Builder::new().max_buf_size(64 * 1024).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(state: &State, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET, "/healthz") => text(StatusCode::OK, "ok"),
        (&Method::GET, "/counts") => json(&state.counts()),
        (&Method::GET, "/turns") => json(&state.turns()),
        (&Method::DELETE, "/counts") => {
            state.reset();
            text(StatusCode::OK, "the counts are at zero")
        }
        (&Method::POST, "/script") => {
            let parsed = match read_body(request).await {
                Some(bytes) => Script::parse(&String::from_utf8_lossy(&bytes)),
                None => Err("the script cannot be read".to_owned()),
            };
            match parsed {
                Ok(script) => {
                    state.set(script);
                    text(StatusCode::OK, "from now on")
                }
                Err(why) => text(StatusCode::BAD_REQUEST, &why),
            }
        }
        (&Method::POST, path) => match provider_of(path) {
            Some((name, form)) => {
                let name = name.to_owned();
                ask(state, &name, form, request).await
            }
            None => text(StatusCode::NOT_FOUND, "no provider has this path"),
        },
        _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// The provider's name and form in a path.
fn provider_of(path: &str) -> Option<(&str, Form)> {
    let (head, form, own) = if let Some(head) = path.strip_suffix("/v1/chat/completions") {
        (head, Form::ChatCompletions, CHAT_COMPLETIONS)
    } else {
        (path.strip_suffix("/v2/chat")?, Form::CohereChat, COHERE_CHAT)
    };
    match head.strip_prefix('/') {
        None if head.is_empty() => Some((own, form)),
        Some(name) if !name.is_empty() && !name.contains('/') => Some((name, form)),
        _ => None,
    }
}

async fn read_body(request: Request<Incoming>) -> Option<Bytes> {
    Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// The turn that a request names; what is no UUID is made one.
fn turn_of(headers: &HeaderMap) -> Option<Uuid> {
    let value = TURN_HEADERS.iter().find_map(|name| headers.get(*name))?.as_bytes();
    Some(Uuid::try_parse_ascii(value).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, value)))
}

async fn ask(state: &State, provider: &str, form: Form, request: Request<Incoming>) -> Response<Body> {
    let (script, counters) = (state.script(), state.counters(provider));
    let (number, entered) = counters.enter(turn_of(request.headers()));
    let Some(body) = read_body(request).await else {
        return text(StatusCode::BAD_REQUEST, "the request cannot be read");
    };
    let asked = match answer::read(&body) {
        Ok(asked) => asked,
        Err(why) => {
            entered.answered();
            return text(StatusCode::BAD_REQUEST, &why);
        }
    };
    // Thousands of these wait at once.
    drop(body);
    let behaviour = script.of(provider);
    let (outcome, latency) = behaviour.draw(script.seed, provider, number);
    counters.decided(outcome);
    if let Some(refused) = refuse(behaviour, outcome, form) {
        entered.answered();
        return refused;
    }
    if outcome == Outcome::Hang {
        std::future::pending::<()>().await;
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    respond(behaviour, outcome, form, number, &asked, entered)
}

fn refuse(behaviour: &Behaviour, outcome: Outcome, form: Form) -> Option<Response<Body>> {
    let (status, wait) = match outcome {
        Outcome::LimitedShort => (StatusCode::TOO_MANY_REQUESTS, Some(behaviour.retry_after_short_s)),
        Outcome::LimitedLong => (StatusCode::TOO_MANY_REQUESTS, Some(behaviour.retry_after_long_s)),
        Outcome::Error500 => (StatusCode::INTERNAL_SERVER_ERROR, None),
        Outcome::Error503 => (StatusCode::SERVICE_UNAVAILABLE, None),
        _ => return None,
    };
    let mut response = whole(status, "application/json", answer::refusal(form, "as the script says"));
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Some(response)
}

fn respond(
    behaviour: &Behaviour,
    outcome: Outcome,
    form: Form,
    number: u64,
    asked: &Asked,
    entered: Entered,
) -> Response<Body> {
    let with = |text: &str| answer::body(form, number, text, asked.input_tokens);
    let good = "application/json";
    match outcome {
        Outcome::Drip => return streamed(drip(with(&asked.reply), behaviour.drip_interval_ms, entered), None),
        Outcome::Disconnect => {
            entered.answered();
            let full = with(&asked.reply);
            let length = full.len();
            return streamed(half(full), Some(length));
        }
        _ => entered.answered(),
    }
    match outcome {
        Outcome::Malformed => {
            let full = with(&asked.reply);
            whole(StatusCode::OK, good, full[..full.len() / 2].to_owned())
        }
        Outcome::Empty => whole(StatusCode::OK, good, with("")),
        Outcome::TooLong => whole(StatusCode::OK, good, with(&"and so on ".repeat(behaviour.too_long_chars / 10 + 1))),
        Outcome::WrongContentType => {
            whole(StatusCode::OK, "text/html", "<html><body>Please log in.</body></html>".to_owned())
        }
        _ => whole(StatusCode::OK, good, with(&asked.reply)),
    }
}

/// The text a byte at a time.
fn drip(text: String, interval_ms: u64, entered: Entered) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let bytes = Bytes::from(text);
    stream::unfold((0, bytes, entered), move |(at, bytes, entered)| async move {
        if at == bytes.len() {
            entered.answered();
            return None;
        }
        if at > 0 {
            tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        }
        Some((Ok(bytes.slice(at..=at)), (at + 1, bytes, entered)))
    })
}

/// The first half of the text, and then the end of the connection.
fn half(mut text: String) -> impl Stream<Item = io::Result<Bytes>> + Send {
    text.truncate(text.len() / 2);
    stream::once(std::future::ready(Ok(Bytes::from(text)))).chain(stream::once(async {
        tokio::time::sleep(HALF_BODY).await;
        Err(io::ErrorKind::ConnectionAborted.into())
    }))
}

fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static, length: Option<usize>) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn whole(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    whole(status, "text/plain", body.to_owned())
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(body) => whole(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
