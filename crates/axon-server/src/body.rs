//! The JSON of a request, held to the limits before anything reads it.

use std::sync::Arc;

use axon_kernel::json::{JsonError, check_limits};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::shared::Shared;

/// A body that was read as a `T`.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_kind(&parts.headers)?;
        let limits = shared.settings.limits;
        check_length(&parts.headers, limits.body_bytes)?;
        let read = tokio::time::timeout(limits.body_timeout, read(body, limits.body_bytes)).await;
        let bytes = read.map_err(|_elapsed| {
            let detail = "the body did not arrive in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
        })??;
        check_limits(&bytes).map_err(malformed)?;
        match serde_json::from_slice(&bytes) {
            Ok(body) => Ok(Self(body)),
            Err(error) if error.is_data() => Err(Problem::invalid(error.to_string())),
            Err(error) => Err(malformed(error.into())),
        }
    }
}

/// Takes JSON only: a page of another site can send what forms send without asking first.
fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the body has to be JSON, and say so: Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

/// Refuses a body that is too large before any of it is read.
fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok()).unwrap_or_default();
    if length > limit as u64 { Err(too_large(limit)) } else { Ok(()) }
}

async fn read(body: Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    to_bytes(body, limit).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        if cause.is_some_and(|cause| cause.is::<LengthLimitError>()) {
            return too_large(limit);
        }
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request", "the body broke off")
    })
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body has more than the {limit} bytes that are taken");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

fn malformed(error: JsonError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_json", error.to_string())
}

/// A part of the path.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(segment) = path.map_err(|wrong| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request", wrong.body_text())
        })?;
        identity("the path", segment).map(Self)
    }
}

/// Takes an identity that a client gives. Not every store can keep control characters.
pub(crate) fn identity(place: &str, text: String) -> Result<String, Problem> {
    if text.contains(char::is_control) {
        return Err(Problem::invalid(format!("{place} has a control character in it")));
    }
    Ok(text)
}

/// The query of a request, read as a `T`.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|wrong| Problem::invalid(wrong.body_text()))
    }
}
