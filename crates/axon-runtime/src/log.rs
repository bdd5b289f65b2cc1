//! The live log of one run: bounded, written by the run alone, read by cursors.
//!
//! Nobody who reads can make the run wait. A reader that falls off the end is told how many events
//! it missed, with the text so far, and goes on from there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::event::{RunEvent, Sequenced, StatePatch};
use axon_kernel::failure::Failure;
use axon_kernel::ids::{Attempt, RunId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::meters::AgentMeters;

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
    /// Where its end is counted, and since when its time runs.
    measured: Mutex<Option<(Arc<AgentMeters>, Instant)>>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<(Arc<Sequenced>, usize)>,
    bytes: usize,
    /// The number of the newest event.
    seq: u64,
    /// The last number that was given to an event.
    placed: u64,
    /// The number that the first event came after.
    begun: u64,
    /// The number of the last event that left the log.
    dropped: u64,
    attempt: Attempt,
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
        Self::after(run_id, 0, Attempt(0))
    }

    /// Begins behind the number `seq`, which was given to an event before.
    pub(crate) fn after(run_id: RunId, seq: u64, attempt: Attempt) -> Self {
        let kept = Kept {
            events: VecDeque::new(),
            bytes: 0,
            seq,
            placed: seq,
            begun: seq,
            dropped: seq,
            attempt,
            read: 0,
            text: String::new(),
            end: None,
            pause: None,
        };
        let (kept, latest) = (Mutex::new(kept), watch::Sender::new(seq));
        Self { run_id, kept, latest, measured: Mutex::default() }
    }

    /// Has the end counted, before anybody sees it.
    pub(crate) fn measured_by(&self, meters: Arc<AgentMeters>, since: Instant) {
        *self.measured() = Some((meters, since));
    }

    /// Leaves the end uncounted: whoever records it counts it.
    pub(crate) fn measured_elsewhere(&self) {
        *self.measured() = None;
    }

    fn measured(&self) -> MutexGuard<'_, Option<(Arc<AgentMeters>, Instant)>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// Says which attempt the events belong to that come from now on.
    pub(crate) fn belongs_to(&self, attempt: Attempt) {
        self.kept().attempt = attempt;
    }

    /// Gives an event its place. The run alone does that, and pushes the event before the next one.
    pub(crate) fn place(&self, event: RunEvent) -> Sequenced {
        let mut kept = self.kept();
        kept.placed += 1;
        Sequenced {
            run_id: self.run_id.clone(),
            seq: kept.placed,
            attempt: kept.attempt,
            at: clock::now(),
            event,
        }
    }

    /// Gives an event its place and appends it. Text that nobody has read yet grows in place.
    pub(crate) fn push(&self, event: RunEvent) {
        if self.kept().grow_text(&event) {
            return;
        }
        self.append(self.place(event));
    }

    /// Appends an event that has its place; after a terminal one nothing is taken any more.
    pub(crate) fn append(&self, event: Sequenced) {
        let mut kept = self.kept();
        if kept.end.is_some() {
            let event = event.event.name();
            tracing::error!(run = %self.run_id, event, "an event came after the end");
            return;
        }
        kept.seq = event.seq;
        self.measure(&event.event);
        let size = size_of_event(&event.event);
        let event = Arc::new(event);
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

    fn measure(&self, event: &RunEvent) {
        let measured = self.measured();
        let Some((meters, since)) = &*measured else { return };
        if event.is_terminal() {
            meters.run_ended(event, since.elapsed());
        } else if matches!(event, RunEvent::Paused(_) | RunEvent::Resumed(_)) {
            meters.paused_or_resumed();
        }
    }

    fn settled_by(&self) -> Option<Arc<Sequenced>> {
        let kept = self.kept();
        kept.end.clone().or_else(|| kept.pause.clone())
    }

    /// Returns whether the run has ended or waits for a person.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled_by().is_some()
    }

    /// Returns whether the run waits for a person.
    pub(crate) fn is_paused(&self) -> bool {
        let kept = self.kept();
        kept.end.is_none() && kept.pause.is_some()
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
        let cursor = self.kept().begun;
        self.read_after(cursor)
    }

    /// Reads on behind the event `seq`.
    pub(crate) fn read_after(self: &Arc<Self>, seq: u64) -> RunEvents {
        let latest = self.latest.subscribe();
        let (earlier, live) = (VecDeque::new(), Some((self.clone(), latest)));
        RunEvents { earlier, live, cursor: seq, recorded: 0 }
    }

    /// Returns the number of the last event that is not in this log: because it came before, or has
    /// left it.
    pub(crate) fn begins_after(&self) -> u64 {
        self.kept().dropped
    }

    /// Returns what a reader that has seen everything up to `cursor` sees next.
    fn next_after(&self, cursor: u64) -> Next {
        let mut kept = self.kept();
        if cursor < kept.dropped {
            let missed = kept.dropped - cursor.max(kept.begun);
            return Next::Lagged { missed, upto: kept.dropped, text: kept.text.clone() };
        }
        // A reader may name an event that is not there yet, and has not read it for that.
        let wanted = cursor.saturating_add(1).min(kept.seq + 1);
        kept.read = kept.read.max(wanted);
        let index = kept.events.partition_point(|(event, _)| event.seq <= cursor);
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
    Lagged { missed: u64, upto: u64, text: String },
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
            self.dropped = event.seq;
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
        RunEvent::ToolProgress(progress) => progress.data.get().len(),
        RunEvent::ToolReturned(returned) => returned.result.get().len(),
        RunEvent::HandedOff(handed) => handed.reason.len(),
        RunEvent::StateChanged(changed) => size_of_patch(&changed.patch),
        RunEvent::Delegated(delegated) => size_of_event(&delegated.inner),
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
        | RunEvent::Resolved(_)
        | RunEvent::Resumed(_)
        | RunEvent::Recovered(_)
        | RunEvent::Cancelled(_) => 0,
    };
    content + 128
}

/// Estimates the size of a change: its values are seldom large, and are counted by their text.
fn size_of_patch(patch: &StatePatch) -> usize {
    patch.set.iter().map(|(key, value)| key.len() + value.to_string().len()).sum()
}

fn size_of_failure(failure: &Failure) -> usize {
    failure.message.len() + failure.traceback.as_ref().map_or(0, String::len)
}

/// The events of a run: those that are recorded, then those that come.
#[derive(Debug)]
pub struct RunEvents {
    /// What the store has of the time before the live log began.
    earlier: VecDeque<Sequenced>,
    live: Option<(Arc<RunLog>, watch::Receiver<u64>)>,
    cursor: u64,
    /// How many of the events that have left the live log are among the earlier ones.
    recorded: u64,
}

impl RunEvents {
    /// Those that are recorded, and no others.
    pub(crate) fn recorded(earlier: Vec<Sequenced>) -> Self {
        Self { earlier: earlier.into(), live: None, cursor: 0, recorded: 0 }
    }

    /// Puts what is recorded, and has left the live log, in front. The reader is told of what has
    /// left it and is on no record.
    pub(crate) fn with_earlier(mut self, earlier: Vec<Sequenced>) -> Self {
        if let Some((log, _)) = &self.live {
            let begun = log.kept().begun;
            let left = earlier.iter().filter(|event| event.seq > begun);
            self.recorded = u64::try_from(left.count()).unwrap_or(u64::MAX);
        }
        self.earlier = earlier.into();
        self
    }

    /// Returns the next update, or `None` after the terminal event or a pause, and where nobody
    /// goes on with the run in this process.
    pub async fn next(&mut self) -> Option<RunUpdate> {
        if let Some(event) = self.earlier.pop_front() {
            return Some(RunUpdate::Event(Arc::new(event)));
        }
        let (log, latest) = self.live.as_mut()?;
        loop {
            latest.mark_unchanged();
            match log.next_after(self.cursor) {
                Next::Event(event) => {
                    self.cursor = event.seq;
                    return Some(RunUpdate::Event(event));
                }
                Next::Lagged { missed, upto, text } => {
                    self.cursor = upto;
                    let missed = missed.saturating_sub(std::mem::take(&mut self.recorded));
                    if missed == 0 {
                        continue;
                    }
                    crate::meters::count(&axon_kernel::metric::DROPPED_EVENTS, missed);
                    return Some(RunUpdate::Lagged { missed, text });
                }
                Next::Over => return None,
                Next::Wait => {
                    // The sender lives in the log that this reader holds: it cannot close.
                    let _changed = latest.changed().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Cancelled, Steered, TextDelta};
    use axon_kernel::ids::MessageId;
    use axon_kernel::json::RawJson;

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
    async fn whoever_reads_from_the_record_on_is_told_of_what_is_on_none() {
        let log = Arc::new(RunLog::new(RunId::new("r")));
        let piece = "x".repeat(MAX_BYTES / 4);
        log.push(RunEvent::Steered(Steered {
            message_id: MessageId::new("m"),
            content: RawJson::null(),
        }));
        let recorded = log.kept().events[0].0.as_ref().clone();
        for _ in 0..6 {
            log.push(text(&piece));
        }
        assert_eq!(log.begins_after(), 4);
        let mut events = log.read_after(0).with_earlier(vec![recorded.clone()]);
        assert_eq!(events.next().await, Some(RunUpdate::Event(Arc::new(recorded))));
        let lagged = RunUpdate::Lagged { missed: 3, text: piece.repeat(3) };
        assert_eq!(events.next().await, Some(lagged));
        let Some(RunUpdate::Event(event)) = events.next().await else { unreachable!() };
        assert_eq!(event.seq, 5);
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
