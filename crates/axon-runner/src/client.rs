//! The HTTP client of one runner: requests over its socket, events as they come.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::json::{self, RawJson};
use axon_kernel::spec::PythonTarget;
use axon_kernel::wire::{
    AttemptRequest, AttemptTrace, CONTENT_HEADER, ErrorBody, Health, MessageRequest, PermitRequest,
    ReconcileAnswer, ReconcileRequest, RunnerEvent, ToolCallRequest, ToolCallResult,
    ToolResultRequest, UnknownEvent, ValidateRequest, Validated,
};
use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::address::Address;
use crate::exit::Exit;
use crate::frames::{FrameError, Frames};

/// How long a runner may take to answer a request that is no run.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How long a runner elsewhere may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// After how much silence the kernel asks whether the other machine is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How soon a request is sent again for which there was no room in the queue of the socket.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// How long that may grow.
const MAX_QUEUE_PAUSE: Duration = Duration::from_millis(100);

/// How long the answer of a runner that has ended may take to arrive.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// The bytes of an answer that an error message quotes.
const EXCERPT_BYTES: usize = 200;

/// Speaks to one runner. Cheap to clone; all clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct RunnerClient {
    http: reqwest::Client,
    /// What the paths of requests are appended to.
    base: Arc<str>,
    token: SecretString,
    heartbeat: Duration,
    /// Tells that the runner has ended: its socket lives on, and would be waited at in vain.
    exit: Option<watch::Receiver<Option<Exit>>>,
}

/// Why a request to a runner failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The runner refused it; it was not executed.
    #[error("the runner answered {status}: {failure}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error object of the answer.
        failure: Box<Failure>,
    },
    /// The answer is not what the protocol says.
    #[error("the runner answered {status} with something else than the protocol's: {excerpt}")]
    Garbage {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        excerpt: String,
    },
    /// The runner could not be reached, or the connection broke.
    #[error("no answer from the runner")]
    Link(#[source] reqwest::Error),
    /// The runner has ended. What it was asked may have been done or not.
    #[error("the runner has ended")]
    Gone,
    /// The runner stayed silent.
    #[error("the runner stayed silent for {} s", after.as_secs())]
    Silent {
        /// For how long.
        after: Duration,
    },
    /// The request has no JSON form.
    #[error("the request cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl RequestError {
    /// Returns the failure that a run sees.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Refused { mut failure, .. } => {
                // It answers, and in good order: what it could not read was wrong, not the link.
                if failure.kind == FailureKind::Decode {
                    failure.kind = FailureKind::Config;
                    failure.retryable = false;
                }
                *failure
            }
            Self::Garbage { .. } => Failure::new(FailureKind::Decode, self.to_string()),
            Self::Link(_) | Self::Gone | Self::Silent { .. } => {
                Failure::new(FailureKind::RunnerDied, with_sources(&self))
            }
            Self::Encode(_) => Failure::new(FailureKind::Config, with_sources(&self)),
        }
    }
}

/// Why the events of an attempt ended early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The frames were refused.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream is no stream of events.
    #[error("the runner's event stream cannot be read: {0}")]
    Format(String),
    /// An event is not what its name promises.
    #[error("{source}: {}", source.source)]
    Event {
        /// The event and what was wrong.
        source: UnknownEvent,
    },
    /// The stream ended without a terminal event.
    #[error("the runner's event stream ended in the middle of the attempt")]
    Ended,
}

impl StreamError {
    /// Returns the failure that a run sees.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Frame(FrameError::Link(_) | FrameError::Silent { .. }) | Self::Ended => {
                FailureKind::RunnerDied
            }
            Self::Frame(FrameError::TooLarge { .. } | FrameError::ByteOrderMark)
            | Self::Format(_)
            | Self::Event { .. } => FailureKind::Decode,
        };
        let mut failure = Failure::new(kind, with_sources(&self));
        failure.in_stream = true;
        failure
    }
}

impl RunnerClient {
    /// Makes a client for the runner at `address` that never stays silent on a stream for longer
    /// than `heartbeat`, unless it is stuck. It uses no proxy and follows no redirect.
    ///
    /// # Errors
    ///
    /// [`reqwest::Error`] if the client cannot be set up.
    pub fn new(
        address: &Address,
        token: SecretString,
        heartbeat: Duration,
    ) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(30));
        let builder = match address {
            Address::Unix(socket) => builder.unix_socket(socket.as_path()),
            Address::Http(_) => builder.connect_timeout(CONNECT).tcp_keepalive(KEEPALIVE),
        };
        let (http, base) = (builder.build()?, address.base());
        Ok(Self { http, base, token, heartbeat, exit: None })
    }

    /// Waits for no answer any more once the runner has ended.
    pub(crate) fn until(mut self, exit: watch::Receiver<Option<Exit>>) -> Self {
        self.exit = Some(exit);
        self
    }

    /// Asks whether the runner is well.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if it is not, or does not answer.
    pub async fn health(&self) -> Result<Health, RequestError> {
        decode(self.send(Method::GET, "/healthz", None).await?).await
    }

    /// Returns the runner's JSON Schemas; for an agent defined in Python also the agent's own.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the runner does not give them.
    pub async fn schema(&self) -> Result<RawJson, RequestError> {
        decode(self.send(Method::GET, "/v1/schema", None).await?).await
    }

    /// Has the runner build the agent, with its model, and nothing more.
    ///
    /// # Errors
    ///
    /// [`RequestError::Refused`] with what is wrong with the spec.
    pub async fn validate(&self, spec: RawJson) -> Result<Validated, RequestError> {
        let body = encode(&ValidateRequest { spec })?;
        decode(self.send(Method::POST, "/v1/agents/validate", Some(body)).await?).await
    }

    /// Starts one attempt, which may stand in a trace. Dropping the stream closes the connection, which cancels the attempt.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the runner refuses it or cannot be reached.
    pub async fn attempt(
        &self,
        request: &AttemptRequest,
        trace: Option<AttemptTrace>,
    ) -> Result<AttemptStream, RequestError> {
        let mut post = self.request(Method::POST, "/v1/runs", Some(encode(request)?));
        if let Some(AttemptTrace { context, content }) = trace {
            post = post.header("traceparent", context.to_string());
            if content {
                post = post.header(CONTENT_HEADER, "true");
            }
        }
        let response = self.answer(post, self.patience()).await?;
        let events_expected = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !events_expected {
            let status = response.status().as_u16();
            let body = body_of(response).await?;
            return Err(garbage(status, &body));
        }
        Ok(AttemptStream::new(response.bytes_stream(), self.heartbeat))
    }

    /// Permits the runner to go on after the event `permit.seq`.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the attempt is over or superseded.
    pub async fn permit(&self, run: &RunId, permit: PermitRequest) -> Result<(), RequestError> {
        self.post_empty(&format!("/v1/runs/{run}/permit"), &permit).await
    }

    /// Answers a tool request.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the call is unknown, or its attempt is over or superseded.
    pub async fn tool_result(
        &self,
        run: &RunId,
        result: &ToolResultRequest,
    ) -> Result<(), RequestError> {
        self.post_empty(&format!("/v1/runs/{run}/tool_results"), result).await
    }

    /// Gives a message to a live attempt. A checkpoint tells when it is recorded; the terminal
    /// event tells when it never was.
    ///
    /// # Errors
    ///
    /// [`RequestError::Refused`] with 404, 409 or 410 if the attempt cannot take it any more: it
    /// is not taken. After [`RequestError::Link`] or [`RequestError::Silent`] it may be; sending
    /// it again does no harm.
    pub async fn message(&self, run: &RunId, message: &MessageRequest) -> Result<(), RequestError> {
        self.post_empty(&format!("/v1/runs/{run}/messages"), message).await
    }

    /// Cancels the live attempt of `run`; its stream still ends with a terminal event.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the run is unknown to the runner.
    pub async fn cancel(&self, run: &RunId) -> Result<(), RequestError> {
        self.send(Method::DELETE, &format!("/v1/runs/{run}"), None).await.map(drop)
    }

    /// Runs one registered Python tool, and waits at most `deadline` for it.
    ///
    /// # Errors
    ///
    /// [`RequestError::Refused`] with the tool's failure.
    pub async fn call_tool(
        &self,
        target: &PythonTarget,
        request: &ToolCallRequest,
        deadline: Duration,
    ) -> Result<ToolCallResult, RequestError> {
        let path = format!("/v1/tools/{target}/call");
        let call = self.request(Method::POST, &path, Some(encode(request)?));
        decode(self.answer(call, deadline).await?).await
    }

    /// Cancels the direct call `call` of a tool; what its thread still does is in the `unfinished`
    /// of [`health`](Self::health).
    ///
    /// # Errors
    ///
    /// [`RequestError::Refused`] with 404 if it is not under way.
    pub async fn cancel_call(&self, call: &ToolCallId) -> Result<(), RequestError> {
        self.send(Method::DELETE, &format!("/v1/calls/{call}"), None).await.map(drop)
    }

    /// Asks the registered Python function `target` what became of a tool call, and waits at most
    /// `deadline` for it. To ask again does no harm.
    ///
    /// # Errors
    ///
    /// [`RequestError::Refused`] if the function fails, or gives no answer that can be one.
    pub async fn reconcile(
        &self,
        target: &PythonTarget,
        request: &ReconcileRequest,
        deadline: Duration,
    ) -> Result<ReconcileAnswer, RequestError> {
        let path = format!("/v1/tools/{target}/reconcile");
        let call = self.request(Method::POST, &path, Some(encode(request)?));
        decode(self.answer(call, deadline).await?).await
    }

    /// Asks the runner to finish its attempts and exit.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if it does not answer.
    pub async fn drain(&self) -> Result<(), RequestError> {
        self.send(Method::POST, "/v1/drain", None).await.map(drop)
    }

    async fn post_empty<T: Serialize>(&self, path: &str, body: &T) -> Result<(), RequestError> {
        self.send(Method::POST, path, Some(encode(body)?)).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, RequestError> {
        self.answer(self.request(method, path, body), self.patience()).await
    }

    /// Returns how long an answer may take. A runner that was allowed to be silent for longer is.
    fn patience(&self) -> Duration {
        ANSWER_DEADLINE.max(self.heartbeat)
    }

    async fn answer(
        &self,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Response, RequestError> {
        let mut sending = std::pin::pin!(tokio::time::timeout(deadline, send(request)));
        let response = tokio::select! {
            biased;
            response = &mut sending => response,
            // What it said last is on its way.
            () = self.ended() => tokio::time::timeout(LAST_ANSWER, sending)
                .await
                .map_err(|_elapsed| RequestError::Gone)?,
        };
        let response = response
            .map_err(|_elapsed| RequestError::Silent { after: deadline })?
            .map_err(RequestError::Link)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response.status(), &body_of(response).await?))
    }

    /// Waits for the end of the runner.
    async fn ended(&self) {
        if let Some(mut exit) = self.exit.clone() {
            let _ended = exit.wait_for(Option::is_some).await;
        } else {
            std::future::pending().await
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        let request = self.http.request(method, url).bearer_auth(self.token.expose_secret());
        match body {
            None => request,
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body),
        }
    }
}

/// Sends a request. One that found no room in the queue of a socket was not sent, so it is sent again.
async fn send(request: RequestBuilder) -> Result<Response, reqwest::Error> {
    let mut pause = QUEUE_PAUSE;
    loop {
        let Some(again) = request.try_clone() else { return request.send().await };
        match again.send().await {
            Err(error) if error.is_connect() && is_full(&error) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_QUEUE_PAUSE);
            }
            sent => return sent,
        }
    }
}

/// Returns whether nobody could be let into the queue of a Unix socket.
fn is_full(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let io = cause.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::WouldBlock) {
            return true;
        }
        source = cause.source();
    }
    false
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RequestError> {
    serde_json::to_vec(value).map_err(RequestError::Encode)
}

async fn body_of(response: Response) -> Result<Vec<u8>, RequestError> {
    let mut chunks = response.bytes_stream();
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(RequestError::Link)?);
            if body.len() > json::MAX_BODY_BYTES {
                break;
            }
        }
        Ok(())
    };
    tokio::time::timeout(ANSWER_DEADLINE, read)
        .await
        .map_err(|_elapsed| RequestError::Silent { after: ANSWER_DEADLINE })??;
    Ok(body)
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, RequestError> {
    let status = response.status().as_u16();
    let body = body_of(response).await?;
    if json::check_limits(&body).is_err() {
        return Err(garbage(status, &body));
    }
    serde_json::from_slice(&body).map_err(|_error| garbage(status, &body))
}

fn garbage(status: u16, body: &[u8]) -> RequestError {
    let excerpt = json::excerpt(&String::from_utf8_lossy(body), EXCERPT_BYTES);
    RequestError::Garbage { status, excerpt }
}

fn refused(status: StatusCode, body: &[u8]) -> RequestError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => {
            RequestError::Refused { status: status.as_u16(), failure: Box::new(error) }
        }
        Err(_) => garbage(status.as_u16(), body),
    }
}

/// Writes an error with the chain of its causes.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

type Events = dyn Stream<Item = Result<Event, EventStreamError<FrameError>>> + Send;

/// The events of one attempt.
pub struct AttemptStream {
    events: Pin<Box<Events>>,
    last: u64,
    over: bool,
}

impl AttemptStream {
    fn new(
        chunks: impl Stream<Item = Result<Bytes, reqwest::Error>> + Send + Unpin + 'static,
        heartbeat: Duration,
    ) -> Self {
        let events = Frames::new(chunks, json::MAX_EVENT_BYTES, heartbeat).eventsource();
        Self { events: Box::pin(events), last: 0, over: false }
    }

    /// Returns the next event with its sequence number, or `None` after the terminal one.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the stream breaks, cannot be read, or ends without a terminal event.
    pub async fn next(&mut self) -> Result<Option<(u64, RunnerEvent)>, StreamError> {
        if self.over {
            return Ok(None);
        }
        let outcome = match self.events.next().await {
            None => Err(StreamError::Ended),
            Some(Err(EventStreamError::Transport(error))) => Err(error.into()),
            Some(Err(error)) => Err(StreamError::Format(error.to_string())),
            Some(Ok(event)) => read(&event, self.last + 1),
        };
        self.last += 1;
        self.over = outcome.as_ref().map_or(true, |(_, event)| event.is_terminal());
        outcome.map(Some)
    }
}

/// Reads the event that has to be number `seq`: a permit names an event by its number, so none may
/// be lost or doubled.
fn read(event: &Event, seq: u64) -> Result<(u64, RunnerEvent), StreamError> {
    if event.id.parse() != Ok(seq) {
        let problem = format!("event `{}` has the number `{}`, not {seq}", event.event, event.id);
        return Err(StreamError::Format(problem));
    }
    let read = RunnerEvent::read(&event.event, &event.data)
        .map_err(|source| StreamError::Event { source })?;
    if (seq == 1) != matches!(read, RunnerEvent::AttemptStarted(_)) {
        let problem = format!("`{}` is event {seq} of its attempt", event.event);
        return Err(StreamError::Format(problem));
    }
    Ok((seq, read))
}

impl std::fmt::Debug for AttemptStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptStream").field("over", &self.over).finish_non_exhaustive()
    }
}
