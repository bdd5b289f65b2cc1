//! The span of a request that becomes a run: a part of the caller's trace, if that has one.

use std::sync::Arc;

use axon_kernel::trace::TraceContext;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use crate::shared::Shared;

/// W3C's header.
const TRACEPARENT: &str = "traceparent";

/// Reads where in which trace a request stands. A header that is none means nothing.
pub(crate) fn context_of(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT)?.to_str().ok()?.trim().parse().ok()
}

/// Answers a request that becomes a run within a span, which takes the place of the caller's in the
/// header. It ends when the answer was given, to the last event of a stream, or the caller has gone.
pub(crate) async fn spanned(
    State((shared, route)): State<(Arc<Shared>, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let from = context_of(request.headers());
    let mut span = shared.runtime.tracer().begin_request(&format!("POST {route}"), from);
    span.set("http.request.method", "POST");
    span.set("http.route", route);
    let headers = request.headers_mut();
    headers.remove(TRACEPARENT);
    let own = span.context().and_then(|own| HeaderValue::try_from(own.to_string()).ok());
    if let Some(own) = own {
        headers.insert(TRACEPARENT, own);
    }
    let response = next.run(request).await;
    let status = response.status();
    span.set("http.response.status_code", u64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str(), status.as_str());
    }
    if !span.is_told() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            // Held for as long as the body is.
            let _span = &span;
            frame
        }))
    })
}
