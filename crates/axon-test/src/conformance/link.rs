//! Requests to the runner under test, well-formed or not.

use std::path::PathBuf;
use std::time::Duration;

use axon_kernel::wire::ErrorBody;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::events::Events;
use super::report::{Disagreement, Verdict, expected, holds, same};

/// How long the runner may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How many bytes of an answer a report quotes.
const EXCERPT_BYTES: usize = 300;

/// Speaks to the runner under test.
#[derive(Clone, Debug)]
pub(super) struct Link {
    http: Client,
    socket: PathBuf,
    token: String,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    request: String,
    text: String,
}

impl Link {
    pub(super) fn new(socket: PathBuf, token: String) -> reqwest::Result<Self> {
        let http = Client::builder().no_proxy().unix_socket(socket.as_path()).build()?;
        Ok(Self { http, socket, token })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn get(&self, path: &str) -> Result<Reply, Disagreement> {
        self.call(Method::GET, path, Vec::new()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Reply, Disagreement> {
        self.call(Method::DELETE, path, Vec::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Reply, Disagreement> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Reply, Disagreement> {
        let authorization = format!("Bearer {}", self.token);
        self.call_as(Some(&authorization), method, path, body).await
    }

    /// Sends a request with this authorization, if any.
    pub(super) async fn call_as(
        &self,
        authorization: Option<&str>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Reply, Disagreement> {
        let request = format!("{method} {path}");
        let response = self.send(authorization, method, path, body).await?;
        let status = response.status().as_u16();
        let read = tokio::time::timeout(ANSWER_WITHIN, response.text()).await;
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(expected(format!("the body of {request}"), error)),
            Err(_elapsed) => {
                return Err(expected(format!("a body of {request} that ends"), "none"));
            }
        };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, body, request, text })
    }

    async fn send(
        &self,
        authorization: Option<&str>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response, Disagreement> {
        let what = format!("an answer to {method} {path}");
        let mut request = self.http.request(method, format!("http://runner{path}")).body(body);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match tokio::time::timeout(ANSWER_WITHIN, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(expected(what, format_args!("{error:?}"))),
            Err(_elapsed) => Err(expected(what, format_args!("nothing for {ANSWER_WITHIN:?}"))),
        }
    }

    /// Starts an attempt, which must be let in.
    pub(super) async fn open(&self, request: &Value) -> Result<Events, Disagreement> {
        let authorization = format!("Bearer {}", self.token);
        let body = request.to_string().into();
        let response = self.send(Some(&authorization), Method::POST, "/v1/runs", body).await?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
        if status != 200 {
            let body = response.text().await.unwrap_or_default();
            return Err(expected("POST /v1/runs: 200", format!("{status}: {body}")));
        }
        let kind = String::from_utf8_lossy(&kind.unwrap_or_default()).into_owned();
        holds(kind.starts_with("text/event-stream"), "content type text/event-stream", kind)?;
        Ok(Events::new(response, self.clone(), request))
    }

    /// Starts an attempt, which must be refused.
    pub(super) async fn refuses(&self, request: &Value, status: u16, kind: &str) -> Verdict {
        self.post("/v1/runs", request).await?.refuses(status, kind)
    }

    /// Returns how many attempts the runner says are under way.
    pub(super) async fn attempts(&self) -> Result<u64, Disagreement> {
        let health = self.get("/healthz").await?.ok()?;
        let attempts = health["attempts"].as_u64();
        attempts.ok_or_else(|| expected("a number of attempts", health))
    }

    /// Waits until no attempt is under way.
    pub(super) async fn idle(&self, within: Duration) -> Verdict {
        let waiting = async {
            while self.attempts().await? > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(within, waiting).await;
        waited.unwrap_or_else(|_elapsed| {
            Err(expected(format!("no attempt under way within {within:?}"), "some still are"))
        })
    }

    /// Returns what the runner says that runs on although nobody waits for it.
    pub(super) async fn unfinished(&self) -> Result<Vec<Value>, Disagreement> {
        let health = self.get("/healthz").await?.ok()?;
        let unfinished = health["unfinished"].as_array().cloned();
        unfinished.ok_or_else(|| expected("what is unfinished", health))
    }

    /// Waits until nothing runs on that nobody waits for.
    pub(super) async fn finished(&self, within: Duration) -> Verdict {
        let waiting = async {
            while !self.unfinished().await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(within, waiting).await;
        waited.unwrap_or_else(|_elapsed| {
            Err(expected(format!("nothing unfinished within {within:?}"), "something still is"))
        })
    }

    pub(super) async fn permit(&self, run: &Value, attempt: u64, seq: u64) -> Answered {
        let body = json!({"attempt": attempt, "seq": seq});
        self.post(&format!("/v1/runs/{}/permit", text(run)), &body).await
    }

    /// Answers the tool call `call` with `answer`, an object with a status.
    pub(super) async fn tool_result(&self, run: &Value, call: &str, answer: Value) -> Answered {
        let mut body = json!({"attempt": 1, "tool_call_id": call});
        if let (Value::Object(body), Value::Object(answer)) = (&mut body, answer) {
            body.extend(answer);
        }
        self.post(&format!("/v1/runs/{}/tool_results", text(run)), &body).await
    }

    /// Sends the message `hurry` with the id `message-1`.
    pub(super) async fn steer(&self, run: &Value, attempt: u64) -> Answered {
        let body = json!({"attempt": attempt, "message_id": "message-1", "content": "hurry"});
        self.post(&format!("/v1/runs/{}/messages", text(run)), &body).await
    }

    pub(super) async fn cancel(&self, run: &Value) -> Answered {
        self.delete(&format!("/v1/runs/{}", text(run))).await
    }

    /// Announces and sends a body by hand, so that a refusal before its end is read too; returns
    /// the answer's status line.
    pub(super) async fn post_by_hand(&self, path: &str, body: &[u8]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: runner\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let _refused_meanwhile = stream.write_all(body).await;
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && stream.read_buf(&mut answer).await? > 0 {}
        Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
    }
}

/// A reply, or that there was none.
pub(super) type Answered = Result<Reply, Disagreement>;

impl Reply {
    /// Checks the status.
    pub(super) fn says(&self, status: u16) -> Verdict {
        let seen = axon_kernel::json::excerpt(&self.text, EXCERPT_BYTES);
        let seen = format!("{} {seen}", self.status);
        holds(self.status == status, &format!("{}: {status}", self.request), seen)
    }

    /// Returns the body of an answer 200.
    pub(super) fn ok(self) -> Result<Value, Disagreement> {
        self.says(200)?;
        Ok(self.body)
    }

    /// Checks that the request was refused with an error object of `kind`.
    pub(super) fn refuses(&self, status: u16, kind: &str) -> Verdict {
        self.says(status)?;
        let ErrorBody { error } = serde_json::from_str(&self.text)
            .map_err(|_no_error| expected("an error object", &self.text))?;
        same(&format!("{}: error of kind", self.request), error.kind.label(), kind)
    }
}

/// Returns a JSON string's text.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
