//! The supervision tree, what happens in it, and what conversations have said.

use std::sync::Arc;

use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_runtime::{RuntimeEvents, Tree};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::Segment;
use crate::guard::TICKET_LIFE;
use crate::problem::Problem;
use crate::shared::Shared;
use crate::stream::{self, Source};

/// Shows who supervises whom, and how they are.
#[utoipa::path(
    get, path = "/v1/tree", tag = "service", operation_id = "show_tree",
    responses((status = 200, description = "The tree.", body = Object), Problem),
)]
pub(crate) async fn tree(State(shared): State<Arc<Shared>>) -> axum::Json<Tree> {
    axum::Json(shared.runtime.tree().await)
}

/// Tells what happens in the tree from now on. A reader that is too slow is told how many events it
/// has missed.
#[utoipa::path(
    get, path = "/v1/events", tag = "service", operation_id = "follow_tree",
    params(("ticket" = Option<String>, Query, description = "A stream ticket in place of the token.")),
    responses(
        (status = 200, description = "The events.", body = Object, content_type = "text/event-stream"),
        Problem,
    ),
)]
pub(crate) async fn events(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let place = shared.stream_place()?;
    let happening = Happening(shared.runtime.events());
    Ok(stream::respond(shared, place, happening))
}

struct Happening(RuntimeEvents);

impl Source for Happening {
    async fn next(&mut self) -> Option<Event> {
        Some(stream::of_runtime(&self.0.next().await?))
    }
}

/// What a conversation has said.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationShown {
    /// The conversation.
    #[schema(value_type = String)]
    conversation_id: ConversationId,
    /// Its messages, as pydantic-ai has them, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<RawJson>,
}

/// Shows what a conversation has said.
#[utoipa::path(
    get, path = "/v1/conversations/{id}", tag = "runs", operation_id = "show_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    responses(
        (status = 200, description = "Its history.", body = ConversationShown),
        Problem,
    ),
)]
pub(crate) async fn conversation(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
) -> Result<axum::Json<ConversationShown>, Problem> {
    let conversation_id = ConversationId::new(id);
    let messages = shared.runtime.store().history(&conversation_id).await?;
    if messages.is_empty() {
        let detail = format!("there is no conversation `{conversation_id}`, or nothing was said");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_conversation", detail));
    }
    Ok(axum::Json(ConversationShown { conversation_id, messages }))
}

/// A stream ticket.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ticket {
    /// What goes into `?ticket=`, once.
    ticket: String,
    /// Seconds until it is void.
    expires_in: u64,
}

/// Gives a ticket that opens one stream of events in place of the token: a browser's `EventSource`
/// cannot send headers.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "service", operation_id = "get_ticket",
    responses(
        (status = 200, description = "The ticket.", body = Ticket),
        Problem,
    ),
)]
pub(crate) async fn ticket(State(shared): State<Arc<Shared>>) -> axum::Json<Ticket> {
    axum::Json(Ticket { ticket: shared.tickets.issue(), expires_in: TICKET_LIFE.as_secs() })
}
