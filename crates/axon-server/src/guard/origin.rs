//! The page that asks: our own, or one that is allowed to.

use axum::http::header::{self, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::problem::Problem;

/// Checks that the page behind a request may ask. Programs name none.
pub(super) fn check(
    headers: &HeaderMap,
    host: &Authority,
    allowed: &[HeaderValue],
) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let is_own = || {
        let page = Uri::try_from(origin.as_bytes()).ok();
        page.and_then(|page| page.authority().cloned()).is_some_and(|page| page == *host)
    };
    if allowed.contains(origin) || is_own() {
        return Ok(());
    }
    let detail = "pages of this origin may not ask; if they are to, allow it: --allowed-origin";
    Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail))
}

/// Lets the scripts of the allowed pages see the answers. They may send any header, as programs may:
/// OpenAI's client alone has a dozen of its own.
pub(crate) fn cors(allowed: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("axon-api"),
            HeaderName::from_static("preference-applied"),
            HeaderName::from_static("x-should-retry"),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_may_not_ask() {
        let host = "127.0.0.1:8700".parse().unwrap();
        let allowed = [HeaderValue::from_static("https://console.example")];
        let asked = |origin: &'static str| {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            check(&headers, &host, &allowed).is_ok()
        };
        assert!(check(&HeaderMap::new(), &host, &allowed).is_ok());
        assert!(asked("https://console.example") && asked("http://127.0.0.1:8700"));
        for other in
            ["https://evil.example", "http://127.0.0.1:1", "null", "http://console.example"]
        {
            assert!(!asked(other), "{other}");
        }
    }
}
