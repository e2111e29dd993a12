//! From ended spans to a collector, over OTLP/HTTP. Whoever ends a span never waits: the queue is bounded, and what
//! finds no room is counted and lost. A collector that is away is told once, and asked again with growing patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Ended, otlp};
use crate::error::Problem;
use crate::telemetry::Metrics;

/// The most spans that wait; about four megabytes.
const QUEUE: usize = 8_192;
/// The most spans of one request.
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take for one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first and the longest wait for a collector that is away.
const AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    /// Reads `http://host:port`; a path is put before `/v1/traces`.
    ///
    /// # Errors
    /// It is no such address.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let refused = |what: &str| {
            let remedy = "Write http://host:4318; a collector beside this process may pass spans on by TLS";
            Problem::new(what, "telemetry.otlp_endpoint", remedy)
        };
        let uri: Uri = text.parse().map_err(|_| refused("the address of the collector cannot be read"))?;
        if uri.scheme_str() != Some("http") {
            return Err(refused("spans are sent by plain HTTP"));
        }
        let host = uri.host().ok_or_else(|| refused("the address of the collector names no host"))?;
        let path = format!("{}/v1/traces", uri.path().trim_end_matches('/'));
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(4318), path })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Why a batch was not taken.
enum Failure {
    /// The collector may take it later.
    Later(String),
    /// The collector will never take it.
    Never(String),
}

/// Takes ended spans, and sends them by a task of its own.
pub(super) struct Exporter {
    queue: mpsc::Sender<Box<Ended>>,
    metrics: Arc<Metrics>,
    full: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Exporter {
    pub(super) fn start(endpoint: Endpoint, resource: Resource, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let sender = Sender { endpoint, resource, metrics: metrics.clone(), waiting, stop: stop.clone(), wait: None };
        tasks.spawn(sender.run());
        tasks.close();
        Self { queue, metrics, full: AtomicBool::new(false), tasks, stop }
    }

    /// Never waits.
    pub(super) fn take(&self, span: Box<Ended>) {
        let lost = self.queue.try_send(span).is_err();
        if lost {
            self.metrics.spans_dropped.inc();
        }
        if lost && !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(queue = QUEUE, "spans are lost: the collector does not take them as fast as they come");
        } else if !lost {
            self.full.store(false, Ordering::Relaxed);
        }
    }

    pub(super) async fn finish(&self, within: Duration) {
        self.stop.cancel();
        if timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!("the last spans were not taken in time");
        }
    }
}

struct Sender {
    endpoint: Endpoint,
    resource: Resource,
    metrics: Arc<Metrics>,
    waiting: mpsc::Receiver<Box<Ended>>,
    stop: CancellationToken,
    /// Set while the collector is away: how long it is left alone.
    wait: Option<Duration>,
}

impl Sender {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.send(batch).await;
        }
    }

    /// The next batch; `None` when there is none and none will come.
    async fn gather(&mut self) -> Option<Vec<Ended>> {
        let first = tokio::select! {
            biased;
            first = self.waiting.recv() => first,
            () = self.stop.cancelled() => { self.waiting.close(); self.waiting.recv().await }
        }?;
        let (mut batch, until) = (vec![*first], Instant::now() + GATHER);
        while batch.len() < BATCH {
            let next = tokio::select! {
                biased;
                next = self.waiting.recv() => next,
                () = tokio::time::sleep_until(until) => None,
                // What is there is sent; the rest comes with the next batch.
                () = self.stop.cancelled() => self.waiting.try_recv().ok(),
            };
            match next {
                Some(span) => batch.push(*span),
                None => break,
            }
        }
        Some(batch)
    }

    /// Sends a batch, again and again while the collector is away; at the stop once.
    async fn send(&mut self, batch: Vec<Ended>) {
        let body = Bytes::from(otlp::request(&self.resource, &batch).encode_to_vec());
        let spans = batch.len();
        loop {
            let lost = match timeout(PATIENCE, post(&self.endpoint, body.clone())).await {
                Ok(Ok(refused)) => {
                    if self.wait.take().is_some() {
                        tracing::info!(endpoint = self.endpoint.authority(), "the collector takes spans again");
                    }
                    refused
                }
                Ok(Err(Failure::Never(error))) => {
                    tracing::warn!(spans, error, "the collector refuses these spans");
                    spans
                }
                Ok(Err(Failure::Later(_))) | Err(_) if self.stop.is_cancelled() => spans,
                Ok(Err(Failure::Later(error))) => {
                    self.leave_alone(&error).await;
                    continue;
                }
                Err(_) => {
                    self.leave_alone("it does not answer in time").await;
                    continue;
                }
            };
            self.metrics.spans_dropped.inc_by(lost as f64);
            self.metrics.spans_exported.inc_by(spans.saturating_sub(lost) as f64);
            return;
        }
    }

    async fn leave_alone(&mut self, error: &str) {
        if self.wait.is_none() {
            let endpoint = self.endpoint.authority();
            tracing::warn!(endpoint, error, "the collector is away; the work goes on without traces");
        }
        let wait = self.wait.map_or(AWAY.0, |wait| (wait * 2).min(AWAY.1));
        self.wait = Some(wait);
        drop(timeout(wait, self.stop.cancelled()).await);
    }
}

/// Sends one request; how many of its spans the collector says it did not keep.
async fn post(endpoint: &Endpoint, body: Bytes) -> Result<usize, Failure> {
    let away = |error: &dyn std::fmt::Display| Failure::Later(error.to_string());
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, endpoint.port)).await.map_err(|error| away(&error))?;
    let request = Request::post(&endpoint.path)
        .header("host", endpoint.authority())
        .header("content-type", "application/x-protobuf")
        .body(Full::new(body))
        .map_err(|error| Failure::Never(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| away(&error))?;
    // The sender goes with the exchange: once it is dropped the connection ends by itself.
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
    };
    let (answer, _ended) = tokio::join!(exchange, connection);
    let (status, answer) = answer.map_err(|error| away(&error))?;
    match status {
        status if status.is_success() => Ok(not_kept(&answer)),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(away(&format_args!("it answered {status}"))),
        // A collector's words may quote what it was sent; its status says enough.
        status => Err(Failure::Never(format!("it answered {status}"))),
    }
}

fn not_kept(answer: &[u8]) -> usize {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.map_or(0, |partial| usize::try_from(partial.rejected_spans).unwrap_or(0))
}
