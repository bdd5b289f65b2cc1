//! The HTTP server: takes a request, asks the script, plays the reply.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::chat_request::ChatRequest;
use super::completion::Completion;
use super::connection::{BreakableListener, Line};
use super::reply::{Answer, Breakage, Fault, Reply, error_body};
use super::script::Script;
use super::traffic::{OpenStream, RecordedRequest, TrafficLog};

const GARBAGE: &str = "<html><body><h1>It works!</h1></body></html>";

struct Provider {
    script: Script,
    log: Option<TrafficLog>,
}

/// Serves `script` until the future is dropped; connections live on in the runtime.
pub(super) async fn serve(
    listener: TcpListener,
    script: Script,
    log: Option<TrafficLog>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/models", get(models))
        .fallback(async || (StatusCode::NOT_FOUND, Json(error_body("unknown_url"))))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(Provider { script, log }));
    let service = router.into_make_service_with_connect_info::<Line>();
    axum::serve(BreakableListener(listener), service).await
}

async fn models() -> Json<Value> {
    let model = json!({"id": "scripted", "object": "model", "created": 0, "owned_by": "axon"});
    Json(json!({"object": "list", "data": [model]}))
}

async fn chat_completions(
    State(provider): State<Arc<Provider>>,
    ConnectInfo(line): ConnectInfo<Line>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice(&body) else {
        return (StatusCode::BAD_REQUEST, Json(error_body("invalid_json"))).into_response();
    };
    let request = Arc::new(RecordedRequest::new(body, headers));
    let mut open = OpenStream::open(provider.log.as_ref(), &request);
    if ChatRequest::new(&request.body).unanswered_call().is_some() {
        open.complete();
        return (StatusCode::BAD_REQUEST, Json(error_body("unanswered_tool_call"))).into_response();
    }
    let reply = provider.script.reply(&request.body);
    let retry_after = reply.retry_after;
    let mut response = play(&reply, ChatRequest::new(&request.body), Stage { line, open }).await;
    if let Some(wait) = retry_after {
        set_retry_after(response.headers_mut(), wait);
    }
    response
}

fn set_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, seconds.into());
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    headers.insert("retry-after-ms", millis.into());
}

/// What a reply is played on.
struct Stage {
    line: Line,
    open: OpenStream,
}

impl Stage {
    /// Breaks the connection once what was said before is on its way, or waits to be dropped.
    async fn end(&mut self, breakage: Breakage) {
        match breakage {
            Breakage::Hang => std::future::pending().await,
            Breakage::Cut(cut) => {
                tokio::task::yield_now().await;
                self.open.complete();
                self.line.cut(cut);
            }
        }
    }
}

async fn play(reply: &Reply, request: ChatRequest<'_>, mut stage: Stage) -> Response {
    if let Some(Fault::BeforeHead(breakage)) = reply.fault {
        pause(reply.delay).await;
        stage.end(breakage).await;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let Some(completion) = Completion::encode(reply, request) else {
        pause(reply.delay).await;
        stage.open.complete();
        return without_message(&reply.answer);
    };
    match (request.streamed(), reply.fault) {
        (true, _) => {
            respond("text/event-stream; charset=utf-8", piecewise(reply, completion, stage))
        }
        (false, Some(Fault::AfterChunks(..))) => {
            respond("application/json", piecewise(reply, completion, stage))
        }
        (false, fault) => {
            pause(whole_delay(reply)).await;
            stage.open.complete();
            match fault {
                Some(_) => (StatusCode::INTERNAL_SERVER_ERROR, Json(error_body("server_error")))
                    .into_response(),
                None => respond("application/json", Body::from(completion.bytes)),
            }
        }
    }
}

fn without_message(answer: &Answer) -> Response {
    match answer {
        Answer::Status(status, body) => match StatusCode::from_u16(*status) {
            Ok(status) => (status, Json(body)).into_response(),
            Err(_) => {
                let body = Json(error_body("script_has_a_status_that_http_has_not"));
                (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
            }
        },
        Answer::Garbage | Answer::Message(_) | Answer::FinalResult(_) => {
            Html(GARBAGE).into_response()
        }
    }
}

fn respond(content_type: &'static str, body: Body) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}

/// The body of a reply that is sent piece by piece or breaks in its middle.
fn piecewise(reply: &Reply, completion: Completion, stage: Stage) -> Body {
    let (mut frames, mut breakage) = (completion.frames(), None);
    match reply.fault {
        Some(Fault::AfterChunks(chunks, how)) => {
            frames.truncate(1 + chunks.min(completion.deltas()));
            breakage = Some(how);
        }
        Some(Fault::ErrorEventAfter(chunks)) => {
            frames.truncate(1 + chunks.min(completion.deltas()));
            frames.push(format!("data: {}\n\n", error_body("server_error")).into());
        }
        // Without a pause between them, one write for all events is the cheapest.
        None if reply.delay.is_zero() => frames = vec![completion.bytes],
        Some(Fault::BeforeHead(_)) | None => {}
    }
    let playing =
        Playing { frames: frames.into_iter(), delay: reply.delay, begun: false, breakage, stage };
    Body::from_stream(stream::unfold(playing, Playing::next))
}

/// A body under way.
struct Playing {
    frames: std::vec::IntoIter<Bytes>,
    delay: Duration,
    begun: bool,
    breakage: Option<Breakage>,
    stage: Stage,
}

impl Playing {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if let Some(frame) = self.frames.next() {
            if std::mem::replace(&mut self.begun, true) {
                pause(self.delay).await;
            }
            if self.frames.len() == 0 && self.breakage.is_none() {
                self.stage.open.complete();
            }
            return Some((Ok(frame), self));
        }
        self.stage.end(self.breakage?).await;
        Some((Err(io::ErrorKind::ConnectionAborted.into()), self))
    }
}

fn whole_delay(reply: &Reply) -> Duration {
    reply.delay.saturating_mul(u32::try_from(reply.chunks).unwrap_or(u32::MAX))
}

/// Waits, but not the millisecond that a timer takes for nothing.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
