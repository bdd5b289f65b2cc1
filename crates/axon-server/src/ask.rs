//! Asks an agent: a run is begun once, and its caller is answered in the manner that they want.

mod caller;
mod manner;
mod request;

use std::sync::Arc;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::{ConversationId, MessageId, RunId};
use axon_kernel::spec::WhenBusy;
use axon_kernel::store::StoreError;
use axon_runtime::{AgentHandle, Refusal, RunHandle};
use axum::extract::{OriginalUri, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::body::{Asked, Json, Segment};
use crate::follow::{AtPause, Following};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::stream::{self, Source};

pub(crate) use caller::Caller;
pub(crate) use manner::{AtDisconnect, Manner, MannerQuery, Mode, lists};
pub(crate) use request::{AskRequest, TimeoutSchema, timeout};

/// A run that was accepted and that nobody waits for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedRun {
    /// The run.
    #[schema(value_type = String)]
    run_id: RunId,
    /// Where it is told how the run is.
    location: String,
}

/// A run that a request has begun, or that an earlier one with the same key has.
#[derive(Debug)]
pub(crate) enum Begun {
    /// This request has begun it.
    Now(Arc<RunHandle>),
    /// An earlier one has.
    Before(RunId),
}

/// Asks an agent, a router or a pipeline.
///
/// The answer is the run's outcome, failed ones too. With `Accept: text/event-stream` it is the
/// run's events, and the last one is its only terminal event, or `paused`. With
/// `Prefer: respond-async` it is 202 at once. A second request with the same `Idempotency-Key` and
/// body gets the first one's run, also after a restart. A caller that goes away cancels the run,
/// unless it was asked for with a key, asynchronously, or with `X-Axon-Disconnect: detach`.
#[utoipa::path(
    post, path = "/v1/agents/{name}/runs", tag = "runs", operation_id = "ask",
    params(
        ("name" = String, Path, description = "The agent, router or pipeline."),
        ("Idempotency-Key" = Option<String>, Header, description = "One run for each key."),
        ("Prefer" = Option<String>, Header, description = "`respond-async` answers at once."),
        ("X-Axon-Disconnect" = Option<String>, Header, description = "`cancel` or `detach`."),
        MannerQuery,
    ),
    request_body = AskRequest,
    responses(
        (status = 200, description = "What the run came to, or its events.", content(
            (Answer = "application/json"), (crate::schemas::RunMessage = "text/event-stream"),
        )),
        (status = 202, description = "The run was accepted.", body = AcceptedRun),
        Problem,
    ),
)]
pub(crate) async fn ask(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Asked(query): Asked<MannerQuery>,
    (OriginalUri(asked), uri): (OriginalUri, Uri),
    headers: HeaderMap,
    Json(request): Json<AskRequest>,
) -> Result<Response, Problem> {
    // Of a service that has the routes below a path of its own.
    let base = asked.path().strip_suffix(uri.path()).unwrap_or_default();
    let manner = Manner::of(&headers, query)?;
    let agent = shared.runtime.named(&name)?;
    match manner.mode {
        Mode::Async => {
            let caller = begin(&shared, agent, request, manner).await?;
            Ok(accepted(base, caller.run()))
        }
        Mode::Stream => {
            let place = shared.stream_place()?;
            let caller = begin(&shared, agent, request, manner).await?;
            let run = caller.run().clone();
            let following = Following::new(shared.clone(), run.clone(), 0, AtPause::Stop);
            let told = Told { following, caller, ended: false };
            Ok(located(base, &run, stream::respond(shared, place, told)))
        }
        Mode::Wait => {
            let caller = begin(&shared, agent, request, manner).await?;
            let run = caller.run().clone();
            let answer = caller.wait().await?;
            Ok(located(base, &run, axum::Json(answer).into_response()))
        }
    }
}

/// The events of a run, for the caller that has begun it.
struct Told {
    following: Following,
    caller: Caller,
    ended: bool,
}

impl Source for Told {
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let next = self.following.next().await;
        if let Some(Ok(update)) = next {
            return Some(stream::of_run(&update));
        }
        // It is not the caller that goes, whether the run has ended or cannot be read.
        self.caller.was_answered();
        self.ended = true;
        next.and_then(Result::err).map(stream::unreadable)
    }
}

fn accepted(base: &str, run: &RunId) -> Response {
    let body = AcceptedRun { run_id: run.clone(), location: path_of(base, run) };
    let mut response = (StatusCode::ACCEPTED, axum::Json(body)).into_response();
    let applied = HeaderValue::from_static("respond-async");
    response.headers_mut().insert("preference-applied", applied);
    located(base, run, response)
}

fn path_of(base: &str, run: &RunId) -> String {
    format!("{base}/v1/runs/{run}")
}

/// Says where the run is.
fn located(base: &str, run: &RunId, mut response: Response) -> Response {
    if let Ok(path) = HeaderValue::from_str(&path_of(base, run)) {
        response.headers_mut().insert(LOCATION, path);
    }
    response
}

/// Begins the run, or finds the one that an earlier request with the same key has begun.
///
/// It begins in a task of its own: a caller that goes away meanwhile leaves a run that is cancelled,
/// or one that goes on, and never half of one. What comes back is dropped wherever nobody takes it,
/// in the channel too.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    agent: AgentHandle,
    request: AskRequest,
    manner: Manner,
) -> Result<Caller, Problem> {
    shared.check_serving()?;
    let (tell, told) = oneshot::channel();
    let shared = shared.clone();
    tokio::spawn(async move {
        // Whoever does not wait does not go away either.
        let at_disconnect = match manner.mode {
            Mode::Async => AtDisconnect::Detach,
            Mode::Wait | Mode::Stream => manner.at_disconnect,
        };
        let begun = start(&shared, &agent, &request, &manner).await;
        let caller = begun.map(|begun| Caller::of(&shared, begun, at_disconnect));
        drop(tell.send(caller));
    });
    told.await.unwrap_or_else(|_panicked| {
        let detail = "the request could not be worked on";
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
    })
}

async fn start(
    shared: &Shared,
    agent: &AgentHandle,
    request: &AskRequest,
    manner: &Manner,
) -> Result<Begun, Problem> {
    let mut run = request.prepare(agent)?;
    // Whoever begins a run and does not wait may follow it elsewhere.
    if manner.mode == Mode::Wait {
        run = run.unwatched();
    }
    if let Some(parent) = manner.trace {
        run = run.traceparent(parent);
    }
    let Some(id) = manner.run_of_key(agent.name()) else {
        return Ok(begun(shared, run.start().await?, manner));
    };
    let _one_at_a_time = shared.start_of(&id).lock().await;
    if let Some(before) = earlier(shared, &id, request).await? {
        return Ok(before);
    }
    if let Some(before) = steered(shared, &id, (agent, request)).await? {
        return Ok(before);
    }
    match run.id(id.clone()).start().await {
        // Another process with the same store was quicker.
        Err(Refusal::Store(error @ StoreError::Conflict { .. })) => {
            earlier(shared, &id, request).await?.ok_or_else(|| error.into())
        }
        started => Ok(begun(shared, started?, manner)),
    }
}

/// Returns the run that the prompt of an earlier request with this key went into, where it was the
/// turn of another run then.
async fn steered(
    shared: &Shared,
    id: &RunId,
    (agent, request): (&AgentHandle, &AskRequest),
) -> Result<Option<Begun>, Problem> {
    let Some(conversation) = &request.conversation_id else { return Ok(None) };
    if agent.spec().conversation.when_busy != WhenBusy::Steer {
        return Ok(None);
    }
    let (conversation, message) = (ConversationId::new(conversation), MessageId::new(id.as_str()));
    let told = shared.runtime.records().turn_told(&conversation, &message).await?;
    Ok(told.map(Begun::Before))
}

/// Keeps what the run shows for those who read it again, if anybody may.
fn begun(shared: &Shared, run: RunHandle, manner: &Manner) -> Begun {
    let run = Arc::new(run);
    if manner.mode != Mode::Wait {
        shared.recent.keep(run.clone());
    }
    Begun::Now(run)
}

/// Returns the run of a key, if there is one; it has to have been asked for in the same way.
async fn earlier(
    shared: &Shared,
    run: &RunId,
    request: &AskRequest,
) -> Result<Option<Begun>, Problem> {
    let events = match shared.runtime.records().events(run, 0).await {
        Ok(events) => events,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let same = events.first().is_some_and(
        |first| matches!(&first.event, RunEvent::Accepted(accepted) if request.is_same(accepted)),
    );
    if same {
        return Ok(Some(Begun::Before(run.clone())));
    }
    let detail = "another request has used this `Idempotency-Key`: use a new one for a new request";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_conflict", detail)
        .with("run_id", run.as_str()))
}
