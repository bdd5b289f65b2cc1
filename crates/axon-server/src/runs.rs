//! The runs on record: what is known of them, what they do, and their end.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::spec::AgentName;
use axon_kernel::store::{RunQuery, RunSummary, StoreError};
use axon_runtime::Prompt;
use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::answer::Answer;
use crate::ask::lists;
use crate::body::{Asked, Json, Segment, identity};
use crate::follow::{AtPause, Following};
use crate::problem::Problem;
use crate::schemas;
use crate::shared::Shared;
use crate::stream::{self, Source};

/// How many runs are listed where nobody says it.
const PAGE: usize = 100;

/// The most that are listed at once.
const MAX_PAGE: usize = 1000;

/// The longest reason for a cancellation, in characters.
const MAX_REASON: usize = 1000;

/// How long a run may take to take a message: it does so between two of its events.
const TELL: Duration = Duration::from_secs(10);

/// Which runs are wanted.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// In one of these states, with commas between them.
    #[param(example = "running,paused")]
    state: Option<String>,
    /// Of this agent.
    agent: Option<String>,
    /// Of this conversation.
    conversation: Option<String>,
    /// Only open ones that nobody drives: they wait for a person, or their process has gone.
    unowned: Option<bool>,
    /// Only such that answer no call of another run.
    top_level: Option<bool>,
    /// At most so many; 100 by default, and 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Those after this one: `next` of the page before.
    after: Option<String>,
}

impl Wanted {
    fn query(self) -> Result<RunQuery, Problem> {
        let states = self.state.as_deref().unwrap_or_default().split(',');
        let states = states.map(str::trim).filter(|state| !state.is_empty()).map(|state| {
            RunState::from_label(state).ok_or_else(|| {
                let known = RunState::ALL.map(RunState::label).join(", ");
                Problem::invalid(format!("`{state}` is no state of a run: {known}"))
            })
        });
        let agent = self.agent.map(|agent| AgentName::try_from(agent.as_str())).transpose();
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::invalid(format!("`limit` has to be from 1 to {MAX_PAGE}")));
        }
        let given = |name, text: Option<String>| text.map(|text| identity(name, text)).transpose();
        let conversation = given("`conversation`", self.conversation)?;
        let after = given("`after`", self.after)?;
        Ok(RunQuery {
            states: states.collect::<Result<_, _>>()?,
            agent: agent.map_err(|error| Problem::invalid(error.to_string()))?,
            conversation: conversation.map(ConversationId::new),
            after: after.map(RunId::new),
            limit,
            unowned: self.unowned.unwrap_or(false),
            top_level: self.top_level.unwrap_or(false),
        })
    }
}

/// A page of runs, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunsPage {
    /// The runs.
    #[schema(value_type = Vec<schemas::RunSummary>)]
    runs: Vec<RunSummary>,
    /// What `after` is on the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    next: Option<RunId>,
}

/// Lists the runs on record.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs", operation_id = "list_runs", params(Wanted),
    responses(
        (status = 200, description = "A page of them.", body = RunsPage),
        Problem,
    ),
)]
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(wanted): Asked<Wanted>,
) -> Result<axum::Json<RunsPage>, Problem> {
    let query = wanted.query()?;
    let runs = shared.runtime.store().runs(&query).await?;
    let is_full = runs.len() == query.limit;
    let next = runs.last().filter(|_| is_full).map(|last| last.run_id.clone());
    Ok(axum::Json(RunsPage { runs, next }))
}

/// A run on record.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunShown {
    /// What is known of it.
    #[serde(flatten)]
    #[schema(value_type = schemas::RunSummary)]
    summary: RunSummary,
    /// What it came to, or waits for; missing while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    answer: Option<Answer>,
}

/// Tells what is known of a run, and what it came to.
#[utoipa::path(
    get, path = "/v1/runs/{id}", tag = "runs", operation_id = "show_run",
    params(("id" = String, Path, description = "The run.")),
    responses(
        (status = 200, description = "The run.", body = RunShown),
        Problem,
    ),
)]
pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
) -> Result<axum::Json<RunShown>, Problem> {
    let (run, records) = (RunId::new(run), shared.runtime.records());
    let summary = records.summary(&run).await?;
    let answer = match summary.state {
        RunState::Queued | RunState::Running => None,
        RunState::Paused
        | RunState::Completed
        | RunState::Failed
        | RunState::Cancelled
        | RunState::Rejected => Answer::of_record(&run, &records.events(&run, 0).await?),
    };
    Ok(axum::Json(RunShown { summary, answer }))
}

/// Follows a run: what is recorded, and then what comes, up to its terminal event. A client that
/// was cut off sends `Last-Event-ID` and reads on without a gap and without a repetition. With
/// `Accept: application/json` the answer is what is recorded so far, and ends.
#[utoipa::path(
    get, path = "/v1/runs/{id}/events", tag = "runs", operation_id = "follow_run",
    params(
        ("id" = String, Path, description = "The run."),
        ("Last-Event-ID" = Option<String>, Header, description = "The number of the last event that was read.", pattern = "^[0-9]*$"),
        ("after" = Option<u64>, Query, description = "The same, where headers cannot be sent."),
        ("ticket" = Option<String>, Query, description = "A stream ticket in place of the token."),
    ),
    responses(
        (status = 200, description = "The events, or what is recorded so far.", content(
            (schemas::RunMessage = "text/event-stream"), (RecordPage = "application/json"),
        )),
        (status = 204, description = "The run has ended, and everything was read."),
        Problem,
    ),
)]
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Asked(place): Asked<Place>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let run = RunId::new(run);
    let after = place.read(&headers)?;
    let records = shared.runtime.records();
    if wants_json(&headers) {
        let events = records.events(&run, after).await?;
        return Ok(axum::Json(RecordPage { events }).into_response());
    }
    let known = records.summary(&run).await?;
    // A browser's `EventSource` opens a stream that has ended again and again, unless it is told so.
    if after > 0 && !known.state.is_open() && records.events(&run, after).await?.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = shared.stream_place()?;
    let following = Following::new(shared.clone(), run, after, AtPause::Wait);
    Ok(stream::respond(shared, place, Followed(Some(following))))
}

/// What is recorded of a run.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecordPage {
    /// The events, in their order. What streamed and is on no record is not among them.
    #[schema(value_type = Vec<schemas::Sequenced>)]
    events: Vec<Sequenced>,
}

/// Returns whether the record is wanted and no stream of it.
fn wants_json(headers: &HeaderMap) -> bool {
    lists(headers, ACCEPT.as_str(), "application/json")
        && !lists(headers, ACCEPT.as_str(), "text/event-stream")
}

/// Where a reader is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    after: Option<u64>,
    /// Checked before anything else, and looked at no more.
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
}

impl Place {
    /// Returns the number of the last event that was read; 0 if none was.
    fn read(self, headers: &HeaderMap) -> Result<u64, Problem> {
        let Some(last) = headers.get("last-event-id") else { return Ok(self.after.unwrap_or(0)) };
        let last = last.to_str().ok().map(str::trim);
        let read = match last {
            Some("") => return Ok(0),
            Some(last) if last.bytes().all(|byte| byte.is_ascii_digit()) => last.parse().ok(),
            Some(_) => None,
            None => None,
        };
        read.ok_or_else(|| Problem::invalid("`Last-Event-ID` has to be the number of an event"))
    }
}

/// A reader, as long as it can read.
struct Followed(Option<Following>);

impl Source for Followed {
    async fn next(&mut self) -> Option<Event> {
        match self.0.as_mut()?.next().await? {
            Ok(update) => Some(stream::of_run(&update)),
            Err(error) => {
                self.0 = None;
                Some(stream::unreadable(error))
            }
        }
    }
}

/// Why a run is cancelled.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CancelQuery {
    /// Why, for its record.
    #[param(max_length = 1000)]
    reason: Option<String>,
}

/// Cancels a run, with the runs that it has handed work to.
#[utoipa::path(
    delete, path = "/v1/runs/{id}", tag = "runs", operation_id = "cancel_run",
    params(("id" = String, Path, description = "The run."), CancelQuery),
    responses(
        (status = 202, description = "It is called off, and ends with its terminal event."),
        Problem,
    ),
)]
pub(crate) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Asked(query): Asked<CancelQuery>,
) -> Result<StatusCode, Problem> {
    let reason = query.reason.unwrap_or_else(|| "cancelled over HTTP".to_owned());
    if reason.chars().count() > MAX_REASON {
        let detail = format!("`reason` has to have at most {MAX_REASON} characters");
        return Err(Problem::invalid(detail));
    }
    let run = RunId::new(run);
    let known = shared.runtime.records().summary(&run).await?;
    if !known.state.is_open() {
        return Err(StoreError::Ended { run, state: known.state }.into());
    }
    match shared.runtime.under_way(&run).await {
        Some(handle) => handle.cancel(&reason),
        None => shared.runtime.records().cancel(&run, &reason).await?,
    }
    Ok(StatusCode::ACCEPTED)
}

/// What a run under way is told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageRequest {
    /// What to tell: text, or a list of parts.
    #[schema(value_type = String)]
    content: Value,
}

/// Tells a run more while it is under way: its model sees it with its next request.
#[utoipa::path(
    post, path = "/v1/runs/{id}/messages", tag = "runs", operation_id = "tell_run",
    params(("id" = String, Path, description = "The run.")),
    request_body = MessageRequest,
    responses(
        (status = 202, description = "The run has taken it."),
        Problem,
    ),
)]
pub(crate) async fn tell(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Json(message): Json<MessageRequest>,
) -> Result<StatusCode, Problem> {
    let is_text = matches!(&message.content, Value::String(text) if !text.is_empty());
    if !is_text && !matches!(&message.content, Value::Array(parts) if !parts.is_empty()) {
        return Err(Problem::invalid(
            "`content` has to be text, or a list of parts, and not empty",
        ));
    }
    let run = RunId::new(run);
    let known = shared.runtime.records().summary(&run).await?;
    let Some(handle) = shared.runtime.under_way(&run).await else {
        let detail = format!("run `{run}` is {}, and takes no message", known.state.label());
        return Err(Problem::new(StatusCode::CONFLICT, "run_not_under_way", detail));
    };
    match tokio::time::timeout(TELL, handle.steer(Prompt::from(message.content))).await {
        Ok(told) => told?,
        Err(_elapsed) => {
            let detail =
                "the run has not taken the message, which is withdrawn: send it again later";
            return Err(Problem::new(StatusCode::CONFLICT, "run_not_under_way", detail));
        }
    }
    Ok(StatusCode::ACCEPTED)
}
