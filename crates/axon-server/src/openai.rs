//! The door for OpenAI's clients: agents, routers and pipelines are its models.
//!
//! What a client gets is the answer alone. The tools that an agent calls are its own affair, and
//! never appear as calls that the client would have to make. A structured output is the text of its
//! JSON.

mod chunks;
mod error;
mod reply;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use self::chunks::Chunks;
use self::error::ChatError;
use self::reply::ChatCompletion;
use self::request::ChatRequest;
use crate::ask::{Manner, MannerQuery, Mode, begin};
use crate::body::{Json, Segment};
use crate::follow::{AtPause, Following};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::stream;

pub(crate) use error::ChatErrorBody;

/// What a client asks for as a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatModel {
    /// The name of an agent, a router or a pipeline.
    id: String,
    /// `model`.
    object: &'static str,
    /// Not known: 0.
    created: u64,
    /// `axon`.
    owned_by: &'static str,
}

/// All models.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatModels {
    /// `list`.
    object: &'static str,
    /// By name.
    data: Vec<ChatModel>,
}

impl ChatModel {
    fn of(name: &str) -> Self {
        Self { id: name.to_owned(), object: "model", created: 0, owned_by: "axon" }
    }
}

/// Returns whether the answers of a path have OpenAI's shape, refusals too.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/v1/chat/") || path == "/v1/models" || path.starts_with("/v1/models/")
}

/// Gives a refusal OpenAI's shape.
pub(crate) fn refusal(problem: Problem) -> Response {
    ChatError::from(problem).into_response()
}

/// Lists agents, routers and pipelines as OpenAI's models.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai", operation_id = "list_models",
    responses((status = 200, description = "All of them.", body = ChatModels), ChatError),
)]
pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> axum::Json<ChatModels> {
    let agents = shared.runtime.agents();
    let data = agents.iter().map(|agent| ChatModel::of(agent.name().as_str())).collect();
    axum::Json(ChatModels { object: "list", data })
}

/// Shows an agent, a router or a pipeline as one of OpenAI's models.
#[utoipa::path(
    get, path = "/v1/models/{name}", tag = "openai", operation_id = "show_model",
    params(("name" = String, Path, description = "The agent, router or pipeline.")),
    responses((status = 200, description = "It.", body = ChatModel), ChatError),
)]
pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    name: Result<Segment, Problem>,
) -> Result<axum::Json<ChatModel>, ChatError> {
    let Segment(name) = name?;
    let agent = shared.runtime.named(&name).map_err(Problem::from)?;
    Ok(axum::Json(ChatModel::of(agent.name().as_str())))
}

/// Asks an agent, a router or a pipeline as OpenAI's clients do: the last message of the user is the
/// prompt, and those before it are its history. What tools get is in `metadata`, or in
/// `axon.deps`; with `axon.conversation_id` the conversation on record is the history. A client that
/// goes away cancels the run.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", operation_id = "complete_chat",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, or its pieces.", content(
            (ChatCompletion = "application/json"), (String = "text/event-stream"),
        )),
        ChatError,
    ),
)]
pub(crate) async fn complete(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<ChatRequest>, Problem>,
) -> Result<Response, ChatError> {
    let Json(request) = request?;
    let agent = shared.runtime.named(request.model()).map_err(Problem::from)?;
    let streams = request.streams();
    let mode = if streams { Mode::Stream } else { Mode::Wait };
    let manner = Manner { mode, ..Manner::of(&headers, MannerQuery::default())? };
    let ask = request.ask(&agent.spec())?;
    if !streams {
        let answer = begin(&shared, agent, ask, manner).await?.wait().await?;
        return Ok(axum::Json(ChatCompletion::of(answer, request.model())?).into_response());
    }
    let place = shared.stream_place()?;
    // Pieces of a structured output are no text that grows, and are not shown.
    let is_text = agent.spec().output.as_ref().is_none_or(|output| output.schema.is_none());
    let caller = begin(&shared, agent, ask, manner).await?;
    let following = Following::new(shared.clone(), caller.run().clone(), 0, AtPause::Stop);
    let chunks = Chunks::new((following, caller), &request, is_text);
    Ok(stream::respond(shared, place, chunks))
}
