//! Refusals and failures in OpenAI's shape.

use std::collections::BTreeMap;

use axon_kernel::event::PauseReason;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use axon_kernel::store::StoreError;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Documented, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::answer::Answer;
use crate::problem::Problem;

/// Why a client gets no answer.
#[derive(Clone, Debug)]
pub(crate) struct ChatError {
    status: StatusCode,
    error: ChatErrorInside,
    retry_after: Option<HeaderValue>,
}

/// An error as OpenAI's clients read it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatErrorBody {
    /// What happened.
    error: ChatErrorInside,
}

/// What happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatErrorInside {
    /// For a person.
    message: String,
    /// OpenAI's class of it.
    r#type: &'static str,
    /// The name of the failure or refusal, the same at every door.
    code: String,
    /// Not known: null.
    #[schema(value_type = Option<String>)]
    param: Option<&'static str>,
    /// The run, if one was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    run_id: Option<RunId>,
}

impl ChatError {
    fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        let r#type = class_of(status);
        let error = ChatErrorInside { message, r#type, code, param: None, run_id: None };
        Self { status, error, retry_after: None }
    }

    /// Returns why a run has no output. Nothing if it has one.
    pub(super) fn of_run(answer: &Answer) -> Option<Self> {
        let error = match (&answer.pause, &answer.error) {
            (Some(paused), _) => Self::of_pause(&paused.reason, &answer.run_id),
            (None, Some(failure)) => Self::of_failure(failure),
            (None, None) => return None,
        };
        let inside = ChatErrorInside { run_id: Some(answer.run_id.clone()), ..error.error };
        Some(Self { error: inside, ..error })
    }

    fn of_failure(failure: &Failure) -> Self {
        let row = failure.kind.row();
        let status = StatusCode::from_u16(row.http_status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, row.label, failure.message.clone())
    }

    fn of_pause(reason: &PauseReason, run: &RunId) -> Self {
        let (code, what) = match reason {
            PauseReason::Approval { .. } => ("approval_needed", "waits for a person's decision"),
            PauseReason::Ambiguous { .. } => ("ambiguous", "has a call that may have taken effect"),
            PauseReason::Changed { .. } => ("definition_changed", "began with another definition"),
            PauseReason::Quarantined { .. } => ("run_quarantined", "was taken over too often"),
            PauseReason::Interrupted { .. } => {
                let message = format!("run {run} goes on in another process: GET /v1/runs/{run}");
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "interrupted", message);
            }
        };
        let message = format!("run {run} {what}: GET /v1/runs/{run}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// What was shown is void, and what has come in its place is something else.
    pub(super) fn retracted(run: &RunId) -> Self {
        let message = "the runner died after it had sent a part of the answer, and the new answer \
                       begins otherwise: ask again";
        let error = Self::new(StatusCode::BAD_GATEWAY, FailureKind::RunnerDied.label(), message);
        let inside = ChatErrorInside { run_id: Some(run.clone()), ..error.error };
        Self { error: inside, ..error }
    }

    /// The run goes on, and what it comes to cannot be read here.
    pub(super) fn unreadable(error: StoreError, run: &RunId) -> Self {
        let error = Self::from(Problem::from(error));
        let inside = ChatErrorInside { run_id: Some(run.clone()), ..error.error };
        Self { error: inside, ..error }
    }

    pub(super) fn body(self) -> ChatErrorBody {
        ChatErrorBody { error: self.error }
    }
}

/// Returns OpenAI's class of a status.
fn class_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=498 => "invalid_request_error",
        _ => "server_error",
    }
}

impl From<Problem> for ChatError {
    fn from(problem: Problem) -> Self {
        let retry_after = problem.retry_header();
        Self { retry_after, ..Self::new(problem.status(), problem.code(), problem.detail()) }
    }
}

impl IntoResponse for ChatError {
    fn into_response(self) -> Response {
        // A client of OpenAI's asks again by itself after many errors. A run that was accepted has
        // done that already, and its tools may have acted.
        let was_accepted = self.error.run_id.is_some();
        let (status, retry_after) = (self.status, self.retry_after.clone());
        let mut response = (status, axum::Json(self.body())).into_response();
        if was_accepted {
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(wait) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, wait);
        }
        response
    }
}

impl IntoResponses for ChatError {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let schema = Ref::from_schema_name("ChatErrorBody");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let refused = ResponseBuilder::new().description("No answer, and why.");
        let refused = RefOr::T(refused.content("application/json", content).build());
        ["4XX", "5XX"].map(|status| (status.to_owned(), refused.clone())).into()
    }
}
