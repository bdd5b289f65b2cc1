//! Where a runner listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

/// Where a runner listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a socket of this machine.
    Unix(PathBuf),
    /// At a URL, whose path is put before those of requests.
    Http(Url),
}

/// Why a text says not where a runner listens.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL.
    #[error("the runner's `url` is no URL")]
    Syntax(#[source] <Url as std::str::FromStr>::Err),
    /// It asks for encryption, which the client of runners does not speak.
    #[error("`{url}` asks for https, which runners do not speak")]
    Https {
        /// The URL.
        url: String,
    },
    /// It has something that a runner's address has not.
    #[error("`{url}` is not the address of a runner: write http://HOST:PORT, and nothing secret")]
    Shape {
        /// The URL without what may be secret.
        url: String,
    },
}

impl AddressError {
    /// Returns what to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Shape { .. } => {
                "give `url` as http://HOST:PORT, and the token in the variable that `token_env` names"
            }
            Self::Https { .. } => {
                "run a tunnel or a proxy on this machine that speaks TLS to the runner's (ssh -L, \
                 stunnel, a sidecar), and give its plain http address"
            }
        }
    }
}

impl Address {
    /// Reads the URL of a runner that somebody else has started.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if it is none.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut url: Url = text.parse().map_err(AddressError::Syntax)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_whole = url.query().is_none() && url.fragment().is_none();
        url.set_query(None);
        url.set_fragment(None);
        // Neither can fail where there is a host; and without one nothing was given.
        let _none = url.set_password(None);
        let _none = url.set_username("");
        match url.scheme() {
            "https" => Err(AddressError::Https { url: url.into() }),
            "http" if url.has_host() && is_plain && is_whole => Ok(Self::Http(url)),
            _ => Err(AddressError::Shape { url: url.into() }),
        }
    }

    /// Returns where this machine reaches what listens at `socket`.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if it has no URL.
    pub fn of_listener(mut socket: SocketAddr) -> Result<Self, AddressError> {
        if socket.ip().is_unspecified() {
            socket.set_ip(match socket.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self::parse(&format!("http://{socket}"))
    }

    /// Returns what the paths of requests are appended to.
    pub(crate) fn base(&self) -> Arc<str> {
        match self {
            // The name is never looked up.
            Self::Unix(_) => "http://runner".into(),
            Self::Http(url) => url.as_str().trim_end_matches('/').into(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Http(_) => f.write_str(&self.base()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> String {
        Address::parse(text).unwrap().base().to_string()
    }

    #[test]
    fn a_runner_is_at_a_host_and_a_port_and_maybe_below_a_path() {
        assert_eq!(base("http://127.0.0.1:8701"), "http://127.0.0.1:8701");
        assert_eq!(base("http://runner.example/a/b/"), "http://runner.example/a/b");
        assert_eq!(base("http://[::1]:8701/"), "http://[::1]:8701");
        let everywhere = Address::of_listener("0.0.0.0:8701".parse().unwrap()).unwrap();
        assert_eq!(everywhere.to_string(), "http://127.0.0.1:8701");
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for text in ["", "127.0.0.1:8701", "ftp://host", "unix:/run/runner.sock"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        for text in
            ["http://user:hunter2@host", "http://host/?token=hunter2", "http://host#hunter2"]
        {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let error = Address::parse("https://host:8701").unwrap_err();
        assert!(error.help().contains("tunnel"), "{error}");
    }
}
