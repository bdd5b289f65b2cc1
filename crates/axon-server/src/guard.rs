//! Who is let in: the host that is asked for, the page that asks, the token, and what it may do.
//!
//! A browser on the operator's machine reaches the loopback, too. So a request is refused that names
//! a host which is none of ours (a page whose name was pointed here), or that a page of another site
//! makes, before anything of it is looked at.

mod headers;
pub(crate) mod host;
mod origin;
mod ticket;
mod token;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::openai;
use crate::problem::Problem;
use crate::shared::Shared;

pub(crate) use headers::with_headers;
pub(crate) use origin::cors;
pub(crate) use ticket::{TICKET_LIFE, Tickets};
pub(crate) use token::{MIN_TOKEN_BYTES, Token};

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Everything.
    All,
    /// Read.
    Read,
    /// Read this stream.
    Stream,
}

/// The paths that whoever reaches the server may ask: by probes and scrapers, which hold no token.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The path where a stream ticket is got. It changes nothing that lasts, so readers may use it.
const TICKETS: &str = "/v1/tickets";

/// Lets a request in, or refuses it.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let checked = match page_file(&shared, &request) {
        // A browser that opens a page can send no token.
        Some(file) => host::check(&request, &shared.settings.allowed_hosts).map(|_| Some(file)),
        None => check(&shared, &request).map(|()| None),
    };
    match checked {
        Ok(Some(file)) => file,
        Ok(None) => next.run(request).await,
        Err(problem) => {
            tracing::debug!(path = request.uri().path(), code = problem.code(), "refused");
            let is_openai = openai::is_path(request.uri().path());
            refuse(problem, is_openai)
        }
    }
}

/// Returns the answer to a request for a file of the operator's page, which hides no route.
fn page_file(shared: &Shared, request: &Request) -> Option<Response> {
    let page = shared.page.as_ref()?;
    let is_route = request.extensions().get::<MatchedPath>().is_some();
    if is_route { None } else { page.answer(request.method(), request.uri().path()) }
}

fn refuse(problem: Problem, is_openai: bool) -> Response {
    let asks_for_token = problem.status() == StatusCode::UNAUTHORIZED;
    let mut response = if is_openai { openai::refusal(problem) } else { problem.into_response() };
    if asks_for_token {
        let scheme = HeaderValue::from_static("Bearer realm=\"axon\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

fn check(shared: &Shared, request: &Request) -> Result<(), Problem> {
    let settings = &shared.settings;
    let host = host::check(request, &settings.allowed_hosts)?;
    origin::check(request.headers(), &host, &settings.allowed_origins)?;
    match access(shared, request)? {
        Access::All => Ok(()),
        Access::Read if may_read(request) => Ok(()),
        Access::Stream if *request.method() == Method::GET => Ok(()),
        Access::Read | Access::Stream => {
            let detail = "this token may only read: changes need the other one";
            Err(Problem::new(StatusCode::FORBIDDEN, "read_only_token", detail))
        }
    }
}

fn may_read(request: &Request) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    reads || request.uri().path() == TICKETS
}

fn access(shared: &Shared, request: &Request) -> Result<Access, Problem> {
    let settings = &shared.settings;
    let Some(token) = &settings.token else { return Ok(Access::All) };
    let path = request.uri().path();
    if let Some(ticket) = ticket::of(request.uri()).filter(|_| ticket::opens(path)) {
        return match shared.tickets.redeem(ticket) {
            true => Ok(Access::Stream),
            false => Err(unauthorized("the ticket is used or too old: get another one")),
        };
    }
    let Some(given) = token::bearer(request.headers()) else {
        return Err(unauthorized("send the token as `Authorization: Bearer TOKEN`"));
    };
    // Both are compared, so that the time tells nothing of which one was nearer.
    let (full, read) = (token.is(&given), settings.read_only_token.as_ref());
    match (full, read.is_some_and(|read| read.is(&given))) {
        (true, _) => Ok(Access::All),
        (false, true) => Ok(Access::Read),
        (false, false) => Err(unauthorized("the token is not the one of this service")),
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}
