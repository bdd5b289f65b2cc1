//! Requests that are answered by an error object and not executed.

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::wire::ErrorBody;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A request that is answered by an error object and not executed.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Failure,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: FailureKind, message: impl Into<String>) -> Self {
        let mut error = Failure::new(kind, message);
        error.class = "Refused".to_owned();
        Self { status, error }
    }

    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, FailureKind::Config, message)
    }

    pub(super) fn decode(message: impl Into<String>) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, FailureKind::Decode, message);
        refusal.error.retryable = false;
        refusal
    }

    /// Refuses with an error that the script gives.
    pub(super) fn scripted(status: u16, error: Failure) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error }
    }

    pub(super) fn in_phase(mut self, phase: &str) -> Self {
        self.error = self.error.in_phase(phase);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.error })).into_response()
    }
}
