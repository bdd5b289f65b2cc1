//! The live log of one run: bounded, written by the run alone, read by cursors.
//!
//! Nobody who reads can make the run wait. A reader that falls off the end is told how many events
//! it missed, with the text so far, and goes on from there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::failure::Failure;
use axon_kernel::ids::RunId;
use tokio::sync::watch;

/// How many events are kept for readers (the design's bound).
const MAX_EVENTS: usize = 4096;

/// How many bytes of events are kept for readers (1 MiB, the design's bound).
const MAX_BYTES: usize = 1024 * 1024;

/// How large text may grow that nobody has read yet, in bytes.
const GROWN_BYTES: usize = 4096;

/// What a reader of a run gets.
#[derive(Clone, Debug, PartialEq)]
pub enum RunUpdate {
    /// An event.
    Event(Arc<Sequenced>),
    /// The reader was too slow for `missed` events; they are gone.
    Lagged {
        /// How many.
        missed: u64,
        /// The answer's text up to the next event.
        text: String,
    },
}

#[derive(Debug)]
pub(crate) struct RunLog {
    run_id: RunId,
    kept: Mutex<Kept>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(Arc<Sequenced>, usize)>,
    bytes: usize,
    seq: u64,
    /// The highest number that a reader has asked for.
    read: u64,
    /// The text of the events that left the log.
    text: String,
    end: Option<Arc<Sequenced>>,
    /// The pause that the run waits in.
    pause: Option<Arc<Sequenced>>,
}

impl RunLog {
    pub(crate) fn new(run_id: RunId) -> Self {
        Self { run_id, kept: Mutex::default(), latest: watch::Sender::new(0) }
    }

    pub(crate) fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// Appends an event; after a terminal one nothing is taken any more. Text that nobody has read
    /// yet grows in place.
    pub(crate) fn push(&self, event: RunEvent) {
        let mut kept = self.kept();
        if kept.end.is_some() {
            tracing::error!(run = %self.run_id, event = event.name(), "an event came after the end");
            return;
        }
        if kept.grow_text(&event) {
            return;
        }
        kept.seq += 1;
        let size = size_of_event(&event);
        let event = Arc::new(Sequenced { run_id: self.run_id.clone(), seq: kept.seq, event });
        if event.event.is_terminal() {
            kept.end = Some(event.clone());
        } else if let RunEvent::Paused(_) = event.event {
            kept.pause = Some(event.clone());
        } else if let RunEvent::Resumed(_) = event.event {
            kept.pause = None;
        }
        kept.events.push_back((event, size));
        kept.bytes += size;
        kept.trim();
        let seq = kept.seq;
        drop(kept);
        self.latest.send_replace(seq);
    }

    fn settled_by(&self) -> Option<Arc<Sequenced>> {
        let kept = self.kept();
        kept.end.clone().or_else(|| kept.pause.clone())
    }

    /// Returns whether the run has ended or waits for a person.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled_by().is_some()
    }

    /// Waits for the terminal event, or for a pause.
    pub(crate) async fn settled(&self) -> Arc<Sequenced> {
        let mut latest = self.latest.subscribe();
        loop {
            latest.mark_unchanged();
            if let Some(event) = self.settled_by() {
                return event;
            }
            // The sender lives in `self`, so the channel cannot close.
            let _changed = latest.changed().await;
        }
    }

    pub(crate) fn read(self: &Arc<Self>) -> RunEvents {
        RunEvents { log: self.clone(), cursor: 0, latest: self.latest.subscribe() }
    }

    /// Returns what a reader that has seen everything up to `cursor` sees next.
    fn after(&self, cursor: u64) -> Next {
        let mut kept = self.kept();
        let first = kept.seq + 1 - kept.events.len() as u64;
        let wanted = cursor + 1;
        if wanted < first {
            return Next::Lagged { missed: first - wanted, text: kept.text.clone() };
        }
        let index = usize::try_from(wanted - first).unwrap_or(usize::MAX);
        kept.read = kept.read.max(wanted);
        match kept.events.get(index) {
            Some((event, _)) => Next::Event(event.clone()),
            None if kept.end.is_some() || kept.pause.is_some() => Next::Over,
            None => Next::Wait,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Event(Arc<Sequenced>),
    Lagged { missed: u64, text: String },
    Wait,
    Over,
}

impl Kept {
    /// Appends a piece of text to the newest event, if that is text and was not read yet.
    fn grow_text(&mut self, event: &RunEvent) -> bool {
        let (RunEvent::TextDelta(piece), true) = (event, self.read < self.seq) else {
            return false;
        };
        let Some((newest, size)) = self.events.back_mut() else { return false };
        let Some(RunEvent::TextDelta(text)) = Arc::get_mut(newest).map(|newest| &mut newest.event)
        else {
            return false;
        };
        if text.text.len() + piece.text.len() > GROWN_BYTES {
            return false;
        }
        text.text.push_str(&piece.text);
        *size += piece.text.len();
        self.bytes += piece.text.len();
        true
    }

    /// Drops the oldest events beyond the bounds, never the newest one.
    fn trim(&mut self) {
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            let Some((event, size)) = self.events.pop_front() else { return };
            self.bytes -= size;
            self.drop_text(&event.event);
        }
    }

    /// Remembers the text of an event that leaves the log.
    fn drop_text(&mut self, event: &RunEvent) {
        if let RunEvent::TextDelta(delta) = event
            && self.text.len() < MAX_BYTES
        {
            self.text.push_str(&delta.text);
        } else if let RunEvent::Retracted(_) = event {
            self.text.clear();
        }
    }
}

fn size_of_event(event: &RunEvent) -> usize {
    let content = match event {
        RunEvent::TextDelta(delta) | RunEvent::ThinkingDelta(delta) => delta.text.len(),
        RunEvent::PartialOutput(partial) => partial.value.get().len(),
        RunEvent::Model(event) => event.data.get().len(),
        RunEvent::Checkpoint(checkpoint) => {
            checkpoint.messages.iter().map(|message| message.get().len()).sum()
        }
        RunEvent::ToolCalled(called) => called.args.get().len(),
        RunEvent::ToolReturned(returned) => returned.result.get().len(),
        RunEvent::Completed(completed) => completed.output.get().len(),
        RunEvent::Accepted(accepted) => accepted.prompt.get().len(),
        RunEvent::Steered(steered) => steered.content.get().len(),
        RunEvent::Log(line) => line.message.len(),
        RunEvent::AttemptFailed(failed) => size_of_failure(&failed.failure),
        RunEvent::Failed(failed) | RunEvent::Rejected(failed) => size_of_failure(&failed.failure),
        RunEvent::Started(_)
        | RunEvent::AttemptStarted(_)
        | RunEvent::Decided(_)
        | RunEvent::Retracted(_)
        | RunEvent::Paused(_)
        | RunEvent::Resumed(_)
        | RunEvent::Cancelled(_) => 0,
    };
    content + 128
}

fn size_of_failure(failure: &Failure) -> usize {
    failure.message.len() + failure.traceback.as_ref().map_or(0, String::len)
}

/// The events of a run, from its first one.
#[derive(Debug)]
pub struct RunEvents {
    log: Arc<RunLog>,
    cursor: u64,
    latest: watch::Receiver<u64>,
}

impl RunEvents {
    /// Returns the next update, or `None` after the terminal event or a pause.
    pub async fn next(&mut self) -> Option<RunUpdate> {
        loop {
            self.latest.mark_unchanged();
            match self.log.after(self.cursor) {
                Next::Event(event) => {
                    self.cursor = event.seq;
                    return Some(RunUpdate::Event(event));
                }
                Next::Lagged { missed, text } => {
                    self.cursor += missed;
                    metrics::counter!("axon_dropped_events_total").increment(missed);
                    return Some(RunUpdate::Lagged { missed, text });
                }
                Next::Over => return None,
                Next::Wait => {
                    // The sender lives in the log that this reader holds: it cannot close.
                    let _changed = self.latest.changed().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Cancelled, TextDelta};

    use super::*;

    fn text(text: &str) -> RunEvent {
        RunEvent::TextDelta(TextDelta { text: text.into() })
    }

    fn end() -> RunEvent {
        RunEvent::Cancelled(Cancelled { reason: "test".into() })
    }

    #[tokio::test]
    async fn a_reader_that_comes_late_sees_everything() {
        let log = Arc::new(RunLog::new(RunId::new("r")));
        log.push(text("a"));
        log.push(text("b"));
        log.push(end());
        let mut events = log.read();
        let mut seen = Vec::new();
        while let Some(RunUpdate::Event(event)) = events.next().await {
            seen.push(event.seq);
        }
        assert_eq!(seen, [1, 2]);
        assert_eq!(log.settled().await.seq, 2);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_and_goes_on() {
        let log = Arc::new(RunLog::new(RunId::new("r")));
        let mut events = log.read();
        let piece = "x".repeat(GROWN_BYTES / 2 + 1);
        let kept = MAX_BYTES / (piece.len() + 128);
        for _ in 0..kept + 10 {
            log.push(text(&piece));
        }
        let lagged = RunUpdate::Lagged { missed: 10, text: piece.repeat(10) };
        assert_eq!(events.next().await, Some(lagged));
        let Some(RunUpdate::Event(event)) = events.next().await else { unreachable!() };
        assert_eq!(event.seq, 11);
    }

    #[tokio::test]
    async fn text_grows_in_place_until_somebody_reads_it() {
        let log = Arc::new(RunLog::new(RunId::new("r")));
        let mut events = log.read();
        log.push(text("a"));
        log.push(text("b"));
        let Some(RunUpdate::Event(first)) = events.next().await else { unreachable!() };
        log.push(text("c"));
        let Some(RunUpdate::Event(second)) = events.next().await else { unreachable!() };
        assert_eq!((first.seq, &first.event), (1, &text("ab")));
        assert_eq!((second.seq, &second.event), (2, &text("c")));
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let log = Arc::new(RunLog::new(RunId::new("r")));
        for _ in 0..64 {
            log.push(text(&"x".repeat(64 * 1024)));
        }
        assert!(log.kept().bytes <= MAX_BYTES);
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let log = RunLog::new(RunId::new("r"));
        log.push(end());
        log.push(end());
        assert_eq!(log.kept().seq, 1);
    }
}
