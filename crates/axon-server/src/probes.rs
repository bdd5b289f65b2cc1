//! What machines look at: whether the process lives, whether it takes runs, and its metrics.

use std::sync::Arc;

use axon_runtime::AgentState;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::{Problem, ProblemBody};
use crate::shared::{Phase, RenderMetrics, Shared};

/// Tells that the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "healthz",
    responses((status = 200, description = "It lives.", body = String)),
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the service takes runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or `draining` when it is about to end.
    state: &'static str,
    /// The agents that serve nobody at the moment. The others do.
    parked: Vec<String>,
}

/// Tells whether the service takes runs, and which of its agents are parked. One that is parked does
/// not make the others less ready.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "readyz",
    responses(
        (status = 200, description = "It takes runs.", body = Readiness),
        (status = 503, description = "It is about to end.", body = Readiness),
    ),
)]
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let (status, state) = match shared.phase() {
        Phase::Serving => (StatusCode::OK, "ready"),
        Phase::Draining | Phase::Closing => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let entries = shared.runtime.directory().entries().await;
    let parked = entries.iter().filter(|entry| matches!(entry.state, AgentState::Parked { .. }));
    let parked = parked.map(|entry| entry.name.to_string()).collect();
    (status, axum::Json(Readiness { state, parked })).into_response()
}

/// Gives the metrics, as Prometheus reads them.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics.", body = String),
        (status = 404, description = "The service keeps them elsewhere.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let Some(render) = &shared.metrics else {
        let detail = "this service keeps its metrics elsewhere";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_metrics", detail));
    };
    Ok(written(render))
}

/// Writes the metrics in Prometheus's text format.
pub(crate) fn written(render: &RenderMetrics) -> Response {
    let mut response = render().into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
