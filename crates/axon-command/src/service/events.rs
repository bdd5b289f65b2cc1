//! The events of a stream, as they come.

use std::pin::Pin;
use std::time::Duration;

use axon_kernel::event::Sequenced;
use axon_runner::frames::{FrameError, Frames};
use axon_runtime::RunUpdate;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde::Deserialize;
use tokio::time::Instant;

use super::error::Problem;

/// The largest event that is taken, in bytes.
const MAX_EVENT: usize = 64 * 1024 * 1024;

/// How long a stream may be silent. A service shows every 15 s that it is there.
const PATIENCE: Duration = Duration::from_secs(60);

type Pieces = Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<FrameError>>> + Send>>;

/// A stream of events.
pub(super) struct Events {
    pieces: Pieces,
    opened: Instant,
}

/// What comes next in a stream.
pub(super) enum Next {
    /// Something happened.
    Update(RunUpdate),
    /// The stream ended, or its link broke, for this reason.
    Gone(String),
    /// The service cannot read the run at the moment, and has ended the stream.
    Unreadable(Problem),
    /// What comes is no event.
    Garbage(String),
}

/// A reader was too slow.
#[derive(Deserialize)]
struct Lagged {
    missed: u64,
    text: String,
}

impl Events {
    pub(super) fn of(response: Response) -> Self {
        let chunks = response.bytes_stream();
        let pieces = Frames::new(chunks, MAX_EVENT, PATIENCE).eventsource().boxed();
        Self { pieces, opened: Instant::now() }
    }

    /// Returns how long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Returns what comes next. Nothing is lost if nobody waits for it any more.
    pub(super) async fn next(&mut self) -> Next {
        let event = match self.pieces.next().await {
            Some(Ok(event)) => event,
            None => return Next::Gone("it ended the stream".to_owned()),
            Some(Err(EventStreamError::Transport(error))) => return broken(&error),
            Some(Err(EventStreamError::Utf8(_))) => {
                return Next::Garbage("an event is no text".to_owned());
            }
            Some(Err(EventStreamError::Parser(_))) => {
                return Next::Garbage("the stream is none of events".to_owned());
            }
        };
        if event.event == "lagged" {
            return match serde_json::from_str(&event.data) {
                Ok(Lagged { missed, text }) => Next::Update(RunUpdate::Lagged { missed, text }),
                Err(error) => Next::Garbage(error.to_string()),
            };
        }
        if event.event == "unreadable" {
            return match serde_json::from_str(&event.data) {
                Ok(problem) => Next::Unreadable(problem),
                Err(error) => Next::Garbage(error.to_string()),
            };
        }
        match serde_json::from_str::<Sequenced>(&event.data) {
            Ok(event) => Next::Update(RunUpdate::Event(event.into())),
            Err(error) => Next::Garbage(format!("an event cannot be read: {error}")),
        }
    }
}

fn broken(error: &FrameError) -> Next {
    match error {
        FrameError::TooLarge { .. } | FrameError::ByteOrderMark => Next::Garbage(error.to_string()),
        FrameError::Silent { after } => {
            Next::Gone(format!("it was silent for {} s", after.as_secs()))
        }
        FrameError::Link(_) => Next::Gone("the connection broke".to_owned()),
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("age", &self.age()).finish_non_exhaustive()
    }
}
