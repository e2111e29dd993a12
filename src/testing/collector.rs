//! A collector for tests: a real OTLP/HTTP server that keeps the spans it is sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::oneshot;

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What its process says of itself.
    pub resource: Vec<KeyValue>,
    /// The span.
    pub span: Span,
}

impl Seen {
    /// The service that it came from.
    pub fn service(&self) -> String {
        text_of(&self.resource, "service.name").unwrap_or_default()
    }

    /// The process that it came from.
    pub fn instance(&self) -> String {
        text_of(&self.resource, "service.instance.id").unwrap_or_default()
    }

    /// One of its attributes, as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        text_of(&self.span.attributes, key)
    }

    /// Every text that it holds, however deep.
    pub fn texts(&self) -> Vec<String> {
        let status = self.span.status.iter().map(|status| status.message.clone());
        let events = self.span.events.iter().map(|event| format!("{event:?}"));
        let attributes = self.span.attributes.iter().chain(&self.resource).map(|pair| format!("{pair:?}"));
        [self.span.name.clone(), self.span.trace_state.clone()]
            .into_iter()
            .chain(status)
            .chain(events)
            .chain(attributes)
            .collect()
    }
}

fn text_of(pairs: &[KeyValue], key: &str) -> Option<String> {
    let text = |value: &AnyValue| match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::ArrayValue(array) => {
            let words = array.values.iter().filter_map(|value| match value.value.as_ref()? {
                Value::StringValue(word) => Some(word.as_str()),
                _ => None,
            });
            Some(words.collect::<Vec<_>>().join(","))
        }
        _ => None,
    };
    pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref()).and_then(text)
}

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Seen>>,
    requests: AtomicU16,
    status: AtomicU16,
}

/// A running collector; it ends when it is dropped.
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Arc<Kept>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Collector {
    /// Listens on a free port of this machine, on a thread of its own.
    ///
    /// # Errors
    /// No port, thread or runtime can be had.
    pub fn start() -> std::io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at this address.
    ///
    /// # Errors
    /// It is taken, or as for [`Self::start`].
    pub fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let kept = Arc::new(Kept { status: AtomicU16::new(200), ..Kept::default() });
        let (end, ended) = oneshot::channel();
        let app = Router::new().route("/v1/traces", post(take)).with_state(kept.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! { _ = ended => {}, _ = axum::serve(listener, app) => {} }
            });
        };
        let thread = std::thread::Builder::new().name("collector".to_owned()).spawn(serve)?;
        Ok(Self { address, kept, end: Some(end), thread: Some(thread) })
    }

    /// What the settings call it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on; only 200 keeps the spans.
    pub fn answer(&self, status: u16) {
        self.kept.status.store(status, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn requests(&self) -> u16 {
        self.kept.requests.load(Ordering::SeqCst)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.kept.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

async fn take(State(kept): State<Arc<Kept>>, body: Bytes) -> StatusCode {
    kept.requests.fetch_add(1, Ordering::SeqCst);
    let status = StatusCode::from_u16(kept.status.load(Ordering::SeqCst)).unwrap_or(StatusCode::OK);
    if status != StatusCode::OK {
        return status;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut spans = kept.spans.lock().unwrap_or_else(PoisonError::into_inner);
    for of_process in request.resource_spans {
        let resource = of_process.resource.map(|resource| resource.attributes).unwrap_or_default();
        let all = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(all.map(|span| Seen { resource: resource.clone(), span }));
    }
    StatusCode::OK
}
