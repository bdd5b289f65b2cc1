//! The host that a request names: ours, or a name that was pointed here by somebody else.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::uri::Authority;

use crate::problem::Problem;

/// Returns the host that the request names, if it is one of ours.
pub(super) fn check(request: &Request, allowed: &[Authority]) -> Result<Authority, Problem> {
    let headers = request.headers();
    let mut named = headers.get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    let named = match (request.uri().authority(), first, second) {
        (Some(authority), _, None) => Some(authority.clone()),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        (_, _, Some(_)) | (None, None, None) => None,
    };
    let named = named.ok_or_else(|| {
        let detail = "the request has to name one host, as `Host: 127.0.0.1:8700`";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_host", detail)
    })?;
    if is_loopback(named.host()) || allowed.iter().any(|ours| is(ours, &named)) {
        return Ok(named);
    }
    let detail = "the service does not go by the name that the request has in `Host`; if it is to, \
                  allow it: --allowed-host NAME";
    Err(Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail))
}

/// Returns whether `host` means this machine for whoever resolves it.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns whether `named` is the host `ours`; without a port, ours means any.
fn is(ours: &Authority, named: &Authority) -> bool {
    let port = ours.port_u16();
    ours.host().eq_ignore_ascii_case(named.host()) && (port.is_none() || port == named.port_u16())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(host: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<Authority> = allowed.iter().map(|host| host.parse().unwrap()).collect();
        let request = Request::builder().uri("/v1/runs").header(HOST, host);
        check(&request.body(Body::empty()).unwrap(), &allowed).is_ok()
    }

    #[test]
    fn only_names_of_the_loopback_and_allowed_ones_are_ours() {
        for ours in ["localhost", "LOCALHOST:1", "127.0.0.1:8700", "127.8.9.1", "[::1]:8700"] {
            assert!(asked(ours, &[]), "{ours}");
        }
        let others = ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", ""];
        for other in others {
            assert!(!asked(other, &["axon.example:1"]), "{other}");
        }
        assert!(asked("axon.example:9", &["axon.example"]));
        assert!(asked("axon.example:9", &["axon.example:9"]));
        assert!(!asked("axon.example:8", &["axon.example:9"]));
    }

    #[test]
    fn two_hosts_are_none() {
        let request = Request::builder().uri("/").header(HOST, "localhost").header(HOST, "evil");
        assert!(check(&request.body(Body::empty()).unwrap(), &[]).is_err());
    }
}
