//! The events of one attempt, held against the rules that every stream obeys.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use axon_kernel::json::{MAX_EVENT_BYTES, excerpt};
use axon_kernel::wire::RunnerEvent;
use axon_runner::frames::Frames;
use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde_json::Value;

use super::launched::LIMITS;
use super::link::{Link, text};
use super::report::{Disagreement, Verdict, expected, holds, same};

/// How long the next event may take.
const EVENT_WITHIN: Duration = Duration::from_secs(10);

/// For how long a stream must be silent to count as waiting.
const SILENCE: Duration = Duration::from_millis(300);

/// How many bytes of an event a report quotes.
const EXCERPT_BYTES: usize = 300;

const TERMINALS: [&str; 4] =
    ["attempt_completed", "attempt_paused", "attempt_failed", "attempt_cancelled"];

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: u64,
    pub(super) kind: String,
    pub(super) data: Value,
}

impl Event {
    /// Says whether the runner waits for a permit after this event.
    pub(super) fn wants_permit(&self) -> bool {
        match self.kind.as_str() {
            "checkpoint" => self.data["before"] != "end",
            "tool_started" => self.data["permit"] == true,
            _ => false,
        }
    }

    fn is_terminal(&self) -> bool {
        TERMINALS.contains(&self.kind.as_str())
    }
}

type Frame = Result<eventsource_stream::Event, Disagreement>;

/// The events of one attempt.
pub(super) struct Events {
    frames: Pin<Box<dyn Stream<Item = Frame> + Send>>,
    link: Link,
    pub(super) run: Value,
    pub(super) attempt: u64,
    pub(super) seen: Vec<Event>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(response: Response, link: Link, request: &Value) -> Self {
        let frames = Frames::new(response.bytes_stream(), MAX_EVENT_BYTES, LIMITS.heartbeat())
            .eventsource()
            .map(|frame| frame.map_err(|error| expected("a stream of events", error)));
        let attempt = request["attempt"].as_u64().unwrap_or_default();
        let run = request["run_id"].clone();
        Self { frames: Box::pin(frames), link, run, attempt, seen: Vec::new() }
    }

    /// Returns the next event, or `None` at the end of the stream.
    ///
    /// Checks what holds for every stream: `attempt_started` first, numbers from 1 without a gap,
    /// data as the kind promises, nothing after the terminal event and no end without one.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Disagreement> {
        let next = tokio::time::timeout(EVENT_WITHIN, self.frames.next()).await;
        let frame = next.map_err(|_elapsed| {
            expected(
                format!("an event after {}", self.kinds()),
                format!("none for {EVENT_WITHIN:?}"),
            )
        })?;
        let over = self.seen.last().is_some_and(Event::is_terminal);
        let Some(frame) = frame.transpose()? else {
            holds(over, "a terminal event before the end of the stream", self.kinds())?;
            return Ok(None);
        };
        let seen = excerpt(&format!("{} {}", frame.event, frame.data), EXCERPT_BYTES);
        holds(!over, "nothing after the terminal event", &seen)?;
        let number = self.seen.len() as u64 + 1;
        same(&format!("id of the event {seen}"), frame.id, number.to_string())?;
        same("first event", number == 1, frame.event == "attempt_started")?;
        let wrong = |error: &dyn fmt::Display| {
            expected("an event as its kind promises", format!("{seen}: {error}"))
        };
        RunnerEvent::read(&frame.event, &frame.data).map_err(|error| wrong(&error.source))?;
        let data = serde_json::from_str(&frame.data).map_err(|error| wrong(&error))?;
        let event = Event { id: number, kind: frame.event, data };
        self.seen.push(event.clone());
        Ok(Some(event))
    }

    /// Reads up to the first event of `kind`, giving permits on the way.
    pub(super) async fn until(&mut self, kind: &str) -> Result<Event, Disagreement> {
        while let Some(event) = self.next().await? {
            if event.kind == kind {
                return Ok(event);
            }
            self.permit_if_wanted(&event).await?;
        }
        Err(expected(format!("an event {kind}"), self.kinds()))
    }

    /// Reads to the end of the stream, giving permits on the way; returns the terminal event,
    /// which must be of `kind`.
    pub(super) async fn end(&mut self, kind: &str) -> Result<Event, Disagreement> {
        while let Some(event) = self.next().await? {
            self.permit_if_wanted(&event).await?;
        }
        let last = self.seen.last().ok_or_else(|| expected("a terminal event", "no event"))?;
        let seen = excerpt(&format!("{} {}", last.kind, last.data), EXCERPT_BYTES);
        holds(last.kind == kind, &format!("the end {kind}"), seen)?;
        Ok(last.clone())
    }

    /// Reads to the end, which must be this output.
    pub(super) async fn output(&mut self, output: &str) -> Verdict {
        let completed = self.end("attempt_completed").await?;
        same("output", text(&completed.data["output"]), output)
    }

    pub(super) async fn permit_if_wanted(&mut self, event: &Event) -> Verdict {
        if !event.wants_permit() {
            return Ok(());
        }
        self.link.permit(&self.run, self.attempt, event.id).await?.says(204)
    }

    /// Returns what comes before the runner says nothing any more, as one that waits.
    pub(super) async fn until_silent(&mut self) -> Result<Vec<Event>, Disagreement> {
        let mut events = Vec::new();
        while let Ok(next) = tokio::time::timeout(SILENCE, self.next()).await {
            let Some(event) = next? else { break };
            events.push(event);
        }
        Ok(events)
    }

    /// Checks that the runner says nothing, as one that waits.
    pub(super) async fn is_silent(&mut self) -> Verdict {
        self.is_silent_for(SILENCE).await
    }

    /// Checks that the runner has no event for so long, and yet shows that it is alive.
    pub(super) async fn is_silent_for(&mut self, silence: Duration) -> Verdict {
        match tokio::time::timeout(silence, self.frames.next()).await {
            Err(_elapsed) => Ok(()),
            Ok(next) => Err(expected(
                format!("silence after {}", self.kinds()),
                next.map_or("the end of the stream".to_owned(), |frame| format!("{frame:?}")),
            )),
        }
    }

    /// Returns the messages that the checkpoints so far record, after `history`.
    pub(super) fn recorded(&self, history: &[Value]) -> Vec<Value> {
        let mut recorded = history.to_vec();
        for event in self.seen.iter().filter(|event| event.kind == "checkpoint") {
            let base = event.data["base"].as_u64().and_then(|base| usize::try_from(base).ok());
            recorded.truncate(base.unwrap_or_default());
            recorded.extend(event.data["messages"].as_array().into_iter().flatten().cloned());
        }
        recorded
    }

    /// Returns how many events of `kind` there were so far.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.seen.iter().filter(|event| event.kind == kind).count()
    }

    /// Returns the kinds so far, for a report.
    pub(super) fn kinds(&self) -> String {
        let kinds: Vec<&str> = self.seen.iter().map(|event| event.kind.as_str()).collect();
        format!("[{}]", kinds.join(", "))
    }
}
