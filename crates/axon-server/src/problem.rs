//! What a refused request is told: `application/problem+json`, with the code that every door uses.

mod refusals;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Documented, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// What a refusal is sent as.
const KIND: &str = "application/problem+json";

/// Why a request was refused. Nothing was done.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    more: Map<String, Value>,
}

/// A refusal as it is written, by RFC 9457.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:axon:` and the code.
    r#type: String,
    /// The code in words.
    title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// What happened, for a person.
    #[schema(value_type = String)]
    detail: &'a str,
    /// The name of the refusal, the same at every door.
    #[schema(value_type = String, example = "unknown_agent")]
    code: &'a str,
    /// Seconds after which it can be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after: Option<u64>,
    /// What else is known of it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    more: &'a Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, detail, retry_after: None, more: Map::new() }
    }

    /// The request is wrong, whoever sends it and whenever.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
    }

    /// The service is about to end.
    pub(crate) fn draining() -> Self {
        let detail = "the service is about to end and takes no new run: ask another one";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail)
            .retry_after(Some(Duration::from_secs(1)))
    }

    /// Says when it can be tried again.
    pub(crate) fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Adds something that programs read.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the `Retry-After` header, if there is something to wait for.
    pub(crate) fn retry_header(&self) -> Option<HeaderValue> {
        self.retry_seconds().map(HeaderValue::from)
    }

    /// Returns the wait in whole seconds, and one at least.
    fn retry_seconds(&self) -> Option<u64> {
        let wait = self.retry_after?;
        let round_up = u64::from(wait.subsec_nanos() > 0);
        Some(wait.as_secs().saturating_add(round_up).max(1))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            r#type: format!("urn:axon:{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            retry_after: self.retry_seconds(),
            more: &self.more,
        };
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, text).into_response();
        let kind = HeaderValue::from_static(KIND);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if let Some(seconds) = self.retry_header() {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let schema = Ref::from_schema_name("ProblemBody");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let refused = ResponseBuilder::new().description("Refused, and why.");
        let refused = RefOr::T(refused.content(KIND, content).build());
        ["4XX", "5XX"].map(|status| (status.to_owned(), refused.clone())).into()
    }
}

/// Answers a path that there is no route for.
pub(crate) async fn no_route() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_route",
        "there is no such route: see /openapi.json",
    )
}

/// Answers a method that a route does not have.
pub(crate) async fn no_method() -> Problem {
    let detail = "the route does not take this method: see /openapi.json";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_to_wait_waits_a_second_at_least() {
        let seconds = |wait| Problem::draining().retry_after(wait).retry_seconds();
        assert_eq!(seconds(None), None);
        assert_eq!(seconds(Some(Duration::ZERO)), Some(1));
        assert_eq!(seconds(Some(Duration::from_millis(1200))), Some(2));
        assert_eq!(seconds(Some(Duration::from_secs(7))), Some(7));
    }
}
