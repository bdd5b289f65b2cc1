//! Events as they happen, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axon_kernel::store::StoreError;
use axon_runtime::{Observed, RunUpdate, RuntimeEvent};
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::Problem;
use crate::shared::Shared;

/// What a stream of events is made of.
pub(crate) trait Source: Send + 'static {
    /// Returns the next event, or `None` behind the last one.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// Answers with the events of `source`, until it has no more or the server ends, and shows a client
/// that it is there while none come. The stream holds `place` as long as it is open.
pub(crate) fn respond(
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
    source: impl Source,
) -> Response {
    let ping = KeepAlive::new().interval(shared.settings.limits.keep_alive).text("ping");
    let begun = (shared, place, source);
    let events = futures_util::stream::unfold(begun, |(shared, place, mut source)| async move {
        let event = tokio::select! {
            biased;
            event = source.next() => event?,
            () = shared.closing() => return None,
        };
        Some((Ok::<_, Infallible>(event), (shared, place, source)))
    });
    let mut response = Sse::new(events).keep_alive(ping).into_response();
    // A proxy that gathers an answer before it passes it on would keep the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Writes what happened in a run. Its number is the event's, by which a client reads on.
pub(crate) fn of_run(update: &RunUpdate) -> Event {
    match update {
        RunUpdate::Event(event) => {
            let data = serde_json::to_string(event.as_ref()).unwrap_or_default();
            Event::default().id(event.seq.to_string()).event(event.event.name()).data(data)
        }
        RunUpdate::Lagged { missed, text } => {
            let data = json!({ "event": "lagged", "missed": missed, "text": text });
            Event::default().event("lagged").data(data.to_string())
        }
    }
}

/// Writes that the events of a run cannot be read any more: the stream ends, and the run does not.
pub(crate) fn unreadable(error: StoreError) -> Event {
    tracing::warn!(%error, "the events of a run cannot be read any more");
    let problem = Problem::from(error);
    let (code, detail) = (problem.code(), problem.detail());
    let data = json!({ "event": "unreadable", "code": code, "detail": detail });
    Event::default().event("unreadable").data(data.to_string())
}

/// Writes what happened in the tree.
pub(crate) fn of_runtime(observed: &Observed) -> Event {
    match observed {
        Observed::Event(event) => {
            let data = serde_json::to_string(event.as_ref()).unwrap_or_default();
            Event::default().event(name_of(event)).data(data)
        }
        Observed::Missed(missed) => {
            let data = json!({ "type": "lagged", "missed": missed });
            Event::default().event("lagged").data(data.to_string())
        }
    }
}

fn name_of(event: &RuntimeEvent) -> &'static str {
    match event {
        RuntimeEvent::Supervision(_) => "supervision",
        RuntimeEvent::RunnerUp { .. } => "runner_up",
        RuntimeEvent::RunnerEnded { .. } => "runner_ended",
        RuntimeEvent::RunnerRecycled { .. } => "runner_recycled",
        RuntimeEvent::AgentParked { .. } => "agent_parked",
        RuntimeEvent::Decided { .. } => "decided",
        RuntimeEvent::Escalated { .. } => "escalated",
        RuntimeEvent::Quarantined { .. } => "quarantined",
        RuntimeEvent::HardStopped { .. } => "hard_stopped",
        RuntimeEvent::Breaker { .. } => "breaker",
    }
}
