//! What a server is told: who may ask, from where, and within which limits.

use std::time::Duration;

use axon_kernel::secret::Secret;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Uri};

use crate::guard::host::is_loopback;
use crate::guard::{MIN_TOKEN_BYTES, Token};

/// What a server is told. [`ServerBuilder::build`](crate::ServerBuilder::build) validates it once.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
    /// Whoever sends it as `Authorization: Bearer` may do everything. Without it everybody may.
    pub token: Option<Secret>,
    /// Whoever sends it may read, and change nothing.
    pub read_only_token: Option<Secret>,
    /// Names by which the server is reached, beside those of the loopback: `axon.example.com`, with
    /// a port if only that one is meant.
    pub allowed_hosts: Vec<String>,
    /// Pages whose scripts may ask the server: `https://console.example.com`.
    pub allowed_origins: Vec<String>,
    /// How much is taken.
    pub limits: Limits,
}

/// How much a server takes, and for how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a request, in bytes.
    pub body_bytes: usize,
    /// The largest head of a request, in bytes; 8 KiB at least.
    pub head_bytes: usize,
    /// How many connections are open at once. Further ones wait to be accepted.
    pub connections: usize,
    /// How many streams of events are open at once. Further ones are refused.
    pub streams: usize,
    /// How long a client may take to send the head of a request; a connection that sends none is
    /// closed after it.
    pub head_timeout: Duration,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// How long a client may take none of what it is sent, before its connection is closed.
    pub write_timeout: Duration,
    /// How often a stream without events shows that it is there.
    pub keep_alive: Duration,
    /// How long runs may take to finish when the server is told to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 * 1024 * 1024,
            head_bytes: 32 * 1024,
            connections: 4096,
            streams: 2048,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(30),
        }
    }
}

/// Why a server cannot be built as it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A token that can be guessed, or cannot be sent.
    #[error("a token has {MIN_TOKEN_BYTES} characters or more, letters, digits and signs only")]
    Token,
    /// Somebody may read, and nobody anything else.
    #[error("there is a read-only token and no other one: everybody could do everything")]
    ReadOnlyAlone,
    /// One token for both.
    #[error("the read-only token is the same as the other one")]
    SameToken,
    /// A text that is no host.
    #[error("`{0}` is no host: write a name as in axon.example.com, or axon.example.com:8700")]
    Host(String),
    /// Others than this machine reach the server by this name, and there is no token.
    #[error(
        "`{0}` is a name for others than this machine, and there is no token: whoever reaches it \
             could do everything"
    )]
    Open(String),
    /// A text that is no origin.
    #[error("`{0}` is no origin: write scheme and host as in https://console.example.com")]
    Origin(String),
    /// A limit that lets nothing through.
    #[error("the limit of {0} is too small")]
    Limit(&'static str),
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) token: Option<Token>,
    pub(crate) read_only_token: Option<Token>,
    pub(crate) allowed_hosts: Vec<Authority>,
    pub(crate) allowed_origins: Vec<HeaderValue>,
    pub(crate) limits: Limits,
}

/// The smallest head that the HTTP library can be held to.
const MIN_HEAD_BYTES: usize = 8 * 1024;

impl ServerConfig {
    /// Checks it without making a server of it, for whoever wants to know before anything starts.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], as [`ServerBuilder::build`](crate::ServerBuilder::build) would return it.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.clone().validate().map(drop)
    }

    pub(crate) fn validate(self) -> Result<Settings, ConfigError> {
        let token = self.token.as_ref().map(Token::of).transpose()?;
        let read_only_token = self.read_only_token.as_ref().map(Token::of).transpose()?;
        match (&token, &read_only_token) {
            (None, Some(_)) => return Err(ConfigError::ReadOnlyAlone),
            (Some(full), Some(read)) if full.is(read) => return Err(ConfigError::SameToken),
            (Some(_) | None, _) => {}
        }
        let Limits { body_bytes, head_bytes, connections, streams, .. } = self.limits;
        for (limit, least, what) in [
            (body_bytes, 1, "body bytes"),
            (head_bytes, MIN_HEAD_BYTES, "head bytes"),
            (connections, 1, "connections"),
            (streams, 1, "streams"),
        ] {
            if limit < least {
                return Err(ConfigError::Limit(what));
            }
        }
        let allowed_hosts = all(self.allowed_hosts, host)?;
        let allowed_origins = all(self.allowed_origins, origin)?;
        let mut beyond = allowed_hosts.iter().filter(|host| !is_loopback(host.host()));
        if let (None, Some(host)) = (&token, beyond.next()) {
            return Err(ConfigError::Open(host.to_string()));
        }
        let limits = self.limits;
        Ok(Settings { token, read_only_token, allowed_hosts, allowed_origins, limits })
    }
}

fn all<T>(
    texts: Vec<String>,
    read: impl Fn(&str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    texts.iter().map(|text| read(text)).collect()
}

fn host(text: &str) -> Result<Authority, ConfigError> {
    let read = text.to_ascii_lowercase().parse::<Authority>().ok();
    let read = read.filter(|host| !host.host().is_empty() && !host.as_str().contains('@'));
    read.ok_or_else(|| ConfigError::Host(text.to_owned()))
}

fn origin(text: &str) -> Result<HeaderValue, ConfigError> {
    let wrong = || ConfigError::Origin(text.to_owned());
    let read = text.parse::<Uri>().ok().filter(|uri| {
        let bare = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/');
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && bare
    });
    let read = read.and_then(|_uri| HeaderValue::from_str(&text.to_ascii_lowercase()).ok());
    read.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn refused(change: impl FnOnce(&mut ServerConfig)) -> ConfigError {
        let mut config = ServerConfig { token: Some(TOKEN.into()), ..ServerConfig::default() };
        change(&mut config);
        config.validate().unwrap_err()
    }

    #[test]
    fn what_would_let_everybody_in_is_refused() {
        assert_eq!(refused(|config| config.token = Some("short".into())), ConfigError::Token);
        assert_eq!(
            refused(|config| config.token = Some(" ".repeat(32).into())),
            ConfigError::Token
        );
        let alone = |config: &mut ServerConfig| config.read_only_token = config.token.take();
        assert_eq!(refused(alone), ConfigError::ReadOnlyAlone);
        let same = |config: &mut ServerConfig| config.read_only_token = Some(TOKEN.into());
        assert_eq!(refused(same), ConfigError::SameToken);
        let open = |config: &mut ServerConfig| {
            config.token = None;
            config.allowed_hosts =
                ["localhost", "[::1]:8700", "a.example"].map(str::to_owned).into();
        };
        assert_eq!(refused(open), ConfigError::Open("a.example".to_owned()));
    }

    #[test]
    fn hosts_and_origins_are_read_strictly() {
        for wrong in ["", "a b", "me@here", "http://x"] {
            let error = refused(|config| config.allowed_hosts.push(wrong.to_owned()));
            assert_eq!(error, ConfigError::Host(wrong.to_owned()));
        }
        for wrong in ["*", "null", "example.com", "https://a/", "https://a/b", "ftp://a"] {
            let error = refused(|config| config.allowed_origins.push(wrong.to_owned()));
            assert_eq!(error, ConfigError::Origin(wrong.to_owned()));
        }
        let allowed_hosts = vec!["Axon.Example.com:8700".to_owned()];
        let allowed_origins = vec!["https://console.example.com:8443".to_owned()];
        let token = Some(TOKEN.into());
        let config =
            ServerConfig { token, allowed_hosts, allowed_origins, ..ServerConfig::default() };
        let settings = config.validate().unwrap();
        assert_eq!(settings.allowed_hosts[0].as_str(), "axon.example.com:8700");
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        assert_eq!(refused(|config| config.limits.streams = 0), ConfigError::Limit("streams"));
        assert_eq!(
            refused(|config| config.limits.head_bytes = 1),
            ConfigError::Limit("head bytes")
        );
    }
}
