//! The command line's side of the admin API.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::server::ErrorBody;
use super::{ControlInForce, ControlRequest, Decision, DeskView, Health, Rejection, SagaStory, SagaSummary};
use crate::contract::{ControlRecord, TurnId};
use crate::error::Problem;

/// A client of the process behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the socket at this path; nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// See [`super::Admin::sagas`].
    ///
    /// # Errors
    /// No process answers, or it refuses; so for all calls.
    pub async fn sagas(&self, all: bool) -> Result<Vec<SagaSummary>, Problem> {
        self.call(Method::GET, &format!("/v1/sagas?all={all}"), None::<&()>).await
    }

    /// See [`super::Admin::saga`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn saga(&self, turn: TurnId) -> Result<SagaStory, Problem> {
        self.call(Method::GET, &format!("/v1/sagas/{turn}"), None::<&()>).await
    }

    /// See [`super::Admin::approve`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn approve(&self, turn: TurnId, decision: &Decision) -> Result<(), Problem> {
        self.call(Method::POST, &format!("/v1/sagas/{turn}/approve"), Some(decision)).await
    }

    /// See [`super::Admin::reject`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn reject(&self, turn: TurnId, rejection: &Rejection) -> Result<(), Problem> {
        self.call(Method::POST, &format!("/v1/sagas/{turn}/reject"), Some(rejection)).await
    }

    /// See [`super::Admin::desks`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn desks(&self) -> Result<Vec<DeskView>, Problem> {
        self.call(Method::GET, "/v1/desks", None::<&()>).await
    }

    /// See [`super::Admin::controls`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn controls(&self) -> Result<Vec<ControlInForce>, Problem> {
        self.call(Method::GET, "/v1/controls", None::<&()>).await
    }

    /// See [`super::Admin::set_control`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn set_control(&self, request: &ControlRequest) -> Result<ControlRecord, Problem> {
        self.call(Method::POST, "/v1/controls", Some(request)).await
    }

    /// See [`super::Admin::forget`].
    ///
    /// # Errors
    /// As for [`Self::sagas`].
    pub async fn forget(&self, peer: &str) -> Result<u64, Problem> {
        self.call(Method::POST, "/v1/forget", Some(&peer)).await
    }

    /// See [`super::Admin::health`]; answered also when the process is not ready.
    ///
    /// # Errors
    /// No process answers.
    pub async fn health(&self) -> Result<Health, Problem> {
        let (_, body) = self.send(Method::GET, "/readyz", Bytes::new()).await?;
        self.read(&body)
    }

    /// The metrics' text.
    ///
    /// # Errors
    /// No process answers.
    pub async fn metrics(&self) -> Result<String, Problem> {
        let (_, body) = self.send(Method::GET, "/metrics", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Problem> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| self.broken(&error))?.unwrap_or_default();
        let (status, answer) = self.send(method, path, Bytes::from(body)).await?;
        if status.is_success() {
            return self.read(&answer);
        }
        let said = serde_json::from_slice::<ErrorBody>(&answer)
            .map_or_else(|_| format!("it answered {status}: {}", String::from_utf8_lossy(&answer)), |body| body.error);
        Err(Problem::new(
            said.trim_end_matches('.'),
            "the running autoreply",
            "`autoreply sagas list` shows what is open, `autoreply control show` what is in force",
        ))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Problem> {
        serde_json::from_slice(body).map_err(|error| self.broken(&error))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Problem::new(
                format!("no autoreply answers here ({error})"),
                self.socket.display().to_string(),
                "Start one with `autoreply run`, or name its socket with --socket",
            )
        })?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "autoreply")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // The sender goes with the exchange: once it is dropped the connection ends by itself.
        let exchange = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let (answer, _ended) = tokio::join!(exchange, connection);
        answer.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Problem {
        Problem::new(
            format!("the exchange with the running process failed ({error})"),
            self.socket.display().to_string(),
            "Check with `autoreply doctor` that both are of the same version",
        )
    }
}
