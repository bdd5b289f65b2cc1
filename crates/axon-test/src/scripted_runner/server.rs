//! The requests of the protocol, and their answers.

use std::sync::Arc;

use axon_kernel::failure::FailureKind;
use axon_kernel::ids::RunId;
use axon_kernel::json;
use axon_kernel::wire::{
    AttemptRequest, MessageRequest, PermitRequest, ReconcileRequest, ToolCallRequest,
    ToolCallResult, ToolResultRequest, ValidateRequest,
};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::app::{App, schema};
use super::refusal::Refusal;
use super::script::{Answer, Endpoint};

/// How much of a body a refusal quotes, in bytes.
const EXCERPT_BYTES: usize = 200;

/// A request that the protocol knows.
enum Route {
    Health,
    Schema,
    Validate,
    Start,
    Permit(RunId),
    ToolResult(RunId),
    Message(RunId),
    Cancel(RunId),
    CallTool(String),
    Reconcile(String),
    Drain,
}

impl Route {
    fn of(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match (method.as_str(), parts.as_slice()) {
            ("GET", ["healthz"]) => Self::Health,
            ("GET", ["v1", "schema"]) => Self::Schema,
            ("POST", ["v1", "agents", "validate"]) => Self::Validate,
            ("POST", ["v1", "runs"]) => Self::Start,
            ("POST", ["v1", "runs", run, "permit"]) => Self::Permit(RunId::new(*run)),
            ("POST", ["v1", "runs", run, "tool_results"]) => Self::ToolResult(RunId::new(*run)),
            ("POST", ["v1", "runs", run, "messages"]) => Self::Message(RunId::new(*run)),
            ("DELETE", ["v1", "runs", run]) => Self::Cancel(RunId::new(*run)),
            ("POST", ["v1", "tools", target, "call"]) => Self::CallTool((*target).to_owned()),
            ("POST", ["v1", "tools", target, "reconcile"]) => Self::Reconcile((*target).to_owned()),
            ("POST", ["v1", "drain"]) => Self::Drain,
            _ => return None,
        })
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Health => Endpoint::Health,
            Self::Schema => Endpoint::Schema,
            Self::Validate => Endpoint::Validate,
            Self::Start => Endpoint::Start,
            Self::Permit(_) => Endpoint::Permit,
            Self::ToolResult(_) => Endpoint::ToolResult,
            Self::Message(_) => Endpoint::Message,
            Self::Cancel(_) => Endpoint::Cancel,
            Self::CallTool(_) => Endpoint::CallTool,
            Self::Reconcile(_) => Endpoint::Reconcile,
            Self::Drain => Endpoint::Drain,
        }
    }
}

/// Answers one request.
pub(super) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response, Refusal> {
    authorize(app, request.headers())?;
    let (method, path) = (request.method(), request.uri().path());
    let route = Route::of(method, path).ok_or_else(|| {
        let message = format!("there is no {method} {path}");
        Refusal::new(StatusCode::NOT_FOUND, FailureKind::Config, message)
    })?;
    if let Some(answer) = app.scripted_answer(route.endpoint()) {
        return scripted(answer).await;
    }
    let body = read(request, app.launch().limits.body_bytes).await?;
    execute(app, route, &body)
}

fn authorize(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let expected = format!("Bearer {}", app.launch().token);
    if headers.get(AUTHORIZATION).is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
        return Ok(());
    }
    let message = "the bearer token is missing or not of this generation";
    Err(Refusal::new(StatusCode::UNAUTHORIZED, FailureKind::Config, message))
}

async fn scripted(answer: &Answer) -> Result<Response, Refusal> {
    match answer {
        Answer::Refuse { status, error } => Err(Refusal::scripted(*status, error.as_ref().clone())),
        Answer::Garbage { status, body } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::OK);
            Ok((status, Html(body.clone())).into_response())
        }
        Answer::Silence => std::future::pending().await,
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is over {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, FailureKind::Config, message)
    };
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced: Option<usize> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|_over_or_broken| too_large())
}

fn execute(app: &Arc<App>, route: Route, body: &[u8]) -> Result<Response, Refusal> {
    Ok(match route {
        Route::Health => Json(app.health()).into_response(),
        Route::Schema => Json(schema()).into_response(),
        Route::Validate => {
            let ValidateRequest { spec } = decode(body)?;
            Json(app.validate(&spec)?).into_response()
        }
        Route::Start => start(app, body)?,
        Route::Permit(run) => permit(app, &run, &decode(body)?)?,
        Route::ToolResult(run) => tool_result(app, &run, decode(body)?)?,
        Route::Message(run) => {
            let message: MessageRequest = decode(body)?;
            app.runs().find(&run, Some(message.attempt))?.take_message(message);
            StatusCode::ACCEPTED.into_response()
        }
        Route::Cancel(run) => {
            app.runs().find(&run, None)?.cancel();
            StatusCode::ACCEPTED.into_response()
        }
        Route::CallTool(target) => {
            let request: ToolCallRequest = decode(body)?;
            Json(ToolCallResult { result: app.tool(&target, &request)? }).into_response()
        }
        Route::Reconcile(target) => {
            let ReconcileRequest { .. } = decode(body)?;
            Json(super::tools::reconcile(app, &target)?).into_response()
        }
        Route::Drain => {
            app.runs().drain();
            let answer = serde_json::json!({"attempts": app.runs().live()});
            (StatusCode::ACCEPTED, Json(answer)).into_response()
        }
    })
}

fn start(app: &Arc<App>, body: &[u8]) -> Result<Response, Refusal> {
    let request: AttemptRequest = decode(body)?;
    let events = app.start(request)?;
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(events)).into_response())
}

fn permit(app: &App, run: &RunId, permit: &PermitRequest) -> Result<Response, Refusal> {
    if app.runs().find(run, Some(permit.attempt))?.permit(permit.seq) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let message = format!("there is no event {} yet", permit.seq);
    Err(Refusal::new(StatusCode::NOT_FOUND, FailureKind::Config, message))
}

fn tool_result(app: &App, run: &RunId, result: ToolResultRequest) -> Result<Response, Refusal> {
    let ToolResultRequest { attempt, tool_call_id, answer, .. } = result;
    let message = format!("no call {tool_call_id} waits");
    if app.runs().find(run, Some(attempt))?.answer(tool_call_id, answer) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Refusal::new(StatusCode::NOT_FOUND, FailureKind::Config, message))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let wrong = |error: &dyn std::fmt::Display| {
        let excerpt = json::excerpt(&String::from_utf8_lossy(body), EXCERPT_BYTES);
        Refusal::decode(format!("{error}; the body begins with {excerpt}"))
    };
    json::check_limits(body).map_err(|error| wrong(&error))?;
    // What is only carried on is not read below, so that what is no JSON in it is found here.
    serde_json::from_slice::<Value>(body).map_err(|error| wrong(&error))?;
    serde_json::from_slice(body).map_err(|error| Refusal::config(format!("the body: {error}")))
}
