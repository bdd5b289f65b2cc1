//! A running service, asked over HTTP.
//!
//! To start reading: [`Service`] asks and reads answers, `error` is what can go wrong with that and
//! what it is called, `events` reads a stream, `run` follows a run through whatever becomes of the
//! link, `store` is the service's store as every verb reads one.
//!
//! The invariants: nothing of what a service sends reaches the terminal unchecked; no answer is
//! waited for without a limit, nor kept beyond one.

mod agents;
mod decisions;
mod error;
mod events;
mod run;
mod store;

use std::time::Duration;

use axon_runtime::Secret;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;

use crate::report::Report;

pub(crate) use agents::AgentSeen;
pub(crate) use decisions::{Afterwards, Said};
pub(crate) use error::ServiceError;
pub(crate) use run::{Question, RemoteRun};
pub(crate) use store::{ID_LENGTH, RemoteStore, is_plain_id};

/// The version of the routes that this command knows.
const API: &str = "1";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take where it is only looked up.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(30);

/// The largest answer that is taken: the record of a long run has some megabytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The largest refusal that is read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// A running service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    client: Client,
    base: Url,
    token: Option<Secret>,
}

impl Service {
    /// Prepares to ask the service at `url`.
    ///
    /// # Errors
    ///
    /// A report if that is no address of a service.
    pub(crate) fn new(url: &str, token: Option<Secret>) -> Result<Self, Report> {
        let base = address(url)?;
        let client = Client::builder()
            // A proxy of the surroundings is for the world outside, and a token is for one service.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| Report::failed("no HTTP client").because(error.to_string()))?;
        Ok(Self { client, base, token })
    }

    /// Returns its address, as it may be shown.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Prepares a request to the path that these segments are, with this query.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// Sends a request, and returns its answer once that has begun and is none of a refusal.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<Response, ServiceError> {
        let answered = async {
            let response = request.send().await.map_err(|error| self.unreachable(&error))?;
            self.check_version(&response)?;
            if response.status().is_success() {
                return Ok(response);
            }
            let status = response.status();
            let body = self.body(response, MAX_PROBLEM_BYTES).await?;
            Err(match serde_json::from_slice(&body) {
                Ok(problem) => ServiceError::Refused { status: status.as_u16(), problem },
                Err(_unread) => self.foreign(format!("it answers {status}")),
            })
        };
        match tokio::time::timeout(within, answered).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(self.silent(within)),
        }
    }

    /// Sends a request, and reads the JSON of its answer.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<T, ServiceError> {
        let read = async {
            let response = self.send(request, within).await?;
            let body = self.body(response, MAX_BYTES).await?;
            serde_json::from_slice(&body)
                .map_err(|error| self.foreign(format!("what it answers cannot be read: {error}")))
        };
        match tokio::time::timeout(within, read).await {
            Ok(read) => read,
            Err(_elapsed) => Err(self.silent(within)),
        }
    }

    /// Looks up what is at the path that these segments are.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ServiceError> {
        self.answer(self.request(Method::GET, path, &[]), PROMPTLY).await
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, ServiceError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + piece.len() > limit {
                return Err(self.foreign(format!("its answer has more than {limit} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn check_version(&self, response: &Response) -> Result<(), ServiceError> {
        match version(response.headers()) {
            Some(API) => Ok(()),
            Some(theirs) => {
                Err(ServiceError::Version { url: self.url().to_owned(), theirs: theirs.to_owned() })
            }
            None => Err(self.foreign(format!("it answers {}", response.status()))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ServiceError {
        // The innermost cause is the one that says something: `Connection refused`.
        let mut why: &dyn std::error::Error = error;
        while let Some(cause) = why.source() {
            why = cause;
        }
        ServiceError::Unreachable {
            url: self.url().to_owned(),
            why: why.to_string(),
            never_sent: error.is_connect(),
        }
    }

    fn silent(&self, within: Duration) -> ServiceError {
        self.lost(format!("it did not answer within {} s", within.as_secs()))
    }

    /// Returns the error of an answer that broke off.
    fn lost(&self, why: String) -> ServiceError {
        ServiceError::Unreachable { url: self.url().to_owned(), why, never_sent: false }
    }

    pub(crate) fn foreign(&self, why: String) -> ServiceError {
        ServiceError::Foreign { url: self.url().to_owned(), why }
    }
}

fn version(headers: &HeaderMap) -> Option<&str> {
    headers.get("axon-api")?.to_str().ok()
}

/// Reads the address of a service.
fn address(url: &str) -> Result<Url, Report> {
    let wrong = |why: &str| {
        Report::usage(format!("`{}` is no address of a service", without_user(url)))
            .because(why)
            .todo("write it as in http://127.0.0.1:8700 (--url, AXON_URL)")
    };
    let read = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    if read.scheme() == "https" {
        return Err(wrong("this command speaks plain HTTP, as `axon serve` does")
            .todo("or lead a port of this machine there: ssh -L 8700:127.0.0.1:8700 HOST"));
    }
    if read.scheme() != "http" {
        return Err(wrong("only http is spoken"));
    }
    if !read.username().is_empty() || read.password().is_some() {
        return Err(wrong("a user and a password are no part of it")
            .todo("put the token into a file: --token-file, AXON_TOKEN_FILE"));
    }
    if read.query().is_some() || read.fragment().is_some() {
        return Err(wrong("it ends with its path"));
    }
    Ok(read)
}

/// Leaves out what may be a password.
fn without_user(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &url[..scheme], &url[at..])
        }
        (_, Some(at)) => format!("…{}", &url[at..]),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_http_without_secrets() {
        assert_eq!(address("http://127.0.0.1:8700").unwrap().as_str(), "http://127.0.0.1:8700/");
        assert!(address("http://[::1]:8700/axon").is_ok());
        for wrong in ["", "127.0.0.1:8700", "https://a", "ftp://a", "http://a?b", "http://a#b"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        let line = address("http://me:hunter2@a").unwrap_err().in_a_line();
        assert!(line.contains("@a") && !line.contains("hunter2"), "{line}");
    }

    #[test]
    fn a_path_is_put_behind_the_one_of_the_address() {
        let service = Service::new("http://127.0.0.1:1/axon/", None).unwrap();
        let request =
            service.request(Method::GET, &["v1", "runs", "a/../b c"], &[]).build().unwrap();
        assert_eq!(request.url().path(), "/axon/v1/runs/a%2F..%2Fb%20c");
        assert_eq!(service.url(), "http://127.0.0.1:1/axon");
    }
}
