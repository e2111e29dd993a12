//! The admin API's server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{Admin, AdminError, ControlRequest, Decision, Rejection};
use crate::contract::TurnId;
use crate::error::Problem;

/// The body of every answer that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, as a sentence.
    pub error: String,
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotHere(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(ErrorBody { error: self.to_string() })).into_response()
    }
}

type Shared = Arc<dyn Admin>;

/// A listening socket of the admin API.
#[derive(Debug)]
pub struct Socket(UnixListener);

impl Socket {
    /// Takes the path for this process: the socket is made for its owner alone. One that a dead process left is
    /// removed; one that answers belongs to a running process, which is an error.
    ///
    /// # Errors
    /// The path is taken, or cannot be written.
    pub async fn bind(path: &Path) -> Result<Self, Problem> {
        let place = path.display().to_string();
        let unusable = |error: std::io::Error| {
            Problem::new(
                format!("the control socket cannot be made ({error})"),
                place.clone(),
                "Set control.socket to a path in a directory that you own",
            )
        };
        if UnixStream::connect(path).await.is_ok() {
            return Err(Problem::new(
                "another autoreply is running here",
                place,
                "Stop it first, or give this one another control.socket and desktop",
            ));
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(unusable)?;
        }
        if path.exists() {
            std::fs::remove_file(path).map_err(unusable)?;
        }
        // Bound under another name first, so that nobody can connect before the permissions are right.
        let hidden = path.with_extension(format!("{}.new", std::process::id()));
        let listener = UnixListener::bind(&hidden).map_err(unusable)?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        std::fs::rename(&hidden, path).map_err(unusable)?;
        Ok(Self(listener))
    }
}

/// Serves the whole API on the socket until `stop`.
///
/// # Errors
/// When the socket can no longer be listened to.
pub async fn serve_socket(socket: Socket, admin: Shared, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(socket.0, full(admin)).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Serves metrics and health on TCP until `stop`.
///
/// # Errors
/// When the address can no longer be listened to.
pub async fn serve_tcp(listener: TcpListener, admin: Shared, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, watching(admin)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn watching(admin: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

fn full(admin: Shared) -> Router {
    Router::new()
        .route("/v1/sagas", get(sagas))
        .route("/v1/sagas/{turn}", get(saga))
        .route("/v1/sagas/{turn}/approve", post(approve))
        .route("/v1/sagas/{turn}/reject", post(reject))
        .route("/v1/desks", get(desks))
        .route("/v1/controls", get(controls).post(set_control))
        .route("/v1/forget", post(forget))
        .with_state(admin.clone())
        .merge(watching(admin))
}

async fn metrics(State(admin): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics()).into_response()
}

async fn readyz(State(admin): State<Shared>) -> Response {
    let health = admin.health().await;
    let status = if health.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    all: bool,
}

async fn sagas(State(admin): State<Shared>, Query(listing): Query<Listing>) -> Result<Response, AdminError> {
    Ok(Json(admin.sagas(listing.all).await?).into_response())
}

async fn saga(State(admin): State<Shared>, UrlPath(turn): UrlPath<TurnId>) -> Result<Response, AdminError> {
    Ok(Json(admin.saga(turn).await?).into_response())
}

async fn approve(
    State(admin): State<Shared>,
    UrlPath(turn): UrlPath<TurnId>,
    Json(decision): Json<Decision>,
) -> Result<Response, AdminError> {
    admin.approve(turn, decision).await?;
    Ok(Json(()).into_response())
}

async fn reject(
    State(admin): State<Shared>,
    UrlPath(turn): UrlPath<TurnId>,
    Json(rejection): Json<Rejection>,
) -> Result<Response, AdminError> {
    admin.reject(turn, rejection).await?;
    Ok(Json(()).into_response())
}

async fn forget(State(admin): State<Shared>, Json(peer): Json<String>) -> Result<Response, AdminError> {
    Ok(Json(admin.forget(&peer).await?).into_response())
}

async fn desks(State(admin): State<Shared>) -> Result<Response, AdminError> {
    Ok(Json(admin.desks().await?).into_response())
}

async fn controls(State(admin): State<Shared>) -> Result<Response, AdminError> {
    Ok(Json(admin.controls().await?).into_response())
}

async fn set_control(State(admin): State<Shared>, Json(request): Json<ControlRequest>) -> Result<Response, AdminError> {
    Ok(Json(admin.set_control(request).await?).into_response())
}
