//! What a run writes to the store: in order, and whole, whoever stops waiting for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axon_kernel::event::{LogLine, RunEvent, Sequenced};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{Append, Durable, Store, StoreError, TurnEnd, Write};
use tokio::time::{Duration, Instant};

use crate::clock::Clock;
use crate::log::RunLog;

/// How long an event may wait for the next one that has to be durable, so that others who look at
/// the store see what a slow run does.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long is waited before a store that has no space is asked again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What joins the conversation with the end of a turn.
#[derive(Clone, Debug)]
pub(super) struct Turned {
    pub(super) conversation: ConversationId,
    pub(super) held: usize,
    pub(super) kept: usize,
    pub(super) messages: Vec<RawJson>,
}

/// What is written with the events of one append.
#[derive(Clone, Debug, Default)]
pub(super) struct With {
    pub(super) turn: Option<Turned>,
    pub(super) writes: Vec<Write>,
    /// Whether nothing depends on the event before the next one that has to be durable.
    pub(super) may_wait: bool,
}

/// One append that is under way. It goes on although nobody may wait for it any more.
type Writing = Pin<Box<dyn Future<Output = Result<Durable, StoreError>> + Send>>;

/// The record of one run, as far as this process writes it.
pub(super) struct Journal {
    store: Arc<dyn Store>,
    log: Arc<RunLog>,
    run: RunId,
    recorded: u64,
    /// What was not handed to the store yet. Bounded by what a run does between two checkpoints.
    unwritten: Vec<Sequenced>,
    /// The number of the last event that is in the log.
    shown: u64,
    since: Option<Instant>,
    batch: Option<Batch>,
}

/// What one append adds.
struct Batch {
    events: Arc<[Sequenced]>,
    with: Arc<With>,
    /// Never locked: it only makes the journal shareable.
    writing: Mutex<Writing>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}

impl Journal {
    /// Begins the record of `run`.
    pub(super) fn new(store: Arc<dyn Store>, log: Arc<RunLog>) -> Self {
        let run = log.run_id().clone();
        Self {
            store,
            log,
            run,
            shown: 0,
            recorded: 0,
            unwritten: Vec::new(),
            since: None,
            batch: None,
        }
    }

    /// Goes on behind what another process has recorded.
    pub(super) fn goes_on_behind(&mut self, recorded: u64) {
        self.recorded = recorded;
    }

    /// Takes an event and shows it; [`Journal::write`] records it.
    pub(super) fn show(&mut self, event: Sequenced) {
        self.shown = event.seq;
        self.log.append(event.clone());
        self.push(event);
    }

    /// Takes an event, which [`Journal::write`] records and then shows.
    pub(super) fn push(&mut self, event: Sequenced) {
        self.unwritten.push(event);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Takes an event that its run shows later, and records it without waiting for space. Returns it
    /// unless it was refused; the next [`Journal::write`] waits until it is recorded.
    pub(super) async fn record_unseen(&mut self, event: Sequenced) -> Option<Sequenced> {
        self.shown = event.seq;
        self.push(event.clone());
        match self.write(With::default(), None).await {
            Err(error) if !error.may_heal() => {
                tracing::warn!(run = %self.run, %error, "an end was not recorded at once");
                None
            }
            Ok(()) | Err(_) => Some(event),
        }
    }

    /// Waits until something has been waiting for long enough to be recorded by itself.
    pub(super) async fn is_due(&self) {
        match self.since {
            Some(since) => tokio::time::sleep_until(since + PATIENCE).await,
            None => std::future::pending().await,
        }
    }

    /// Records everything that was taken. Dropped half way, it has lost nothing: the next call goes
    /// on with it.
    ///
    /// While the store has no space, `clock` stands, if there is one, and it is tried again until
    /// there is; without a clock the error is returned, and what was taken is kept.
    pub(super) async fn write(
        &mut self,
        with: With,
        clock: Option<&Clock>,
    ) -> Result<(), StoreError> {
        // What an earlier call began comes first.
        self.settle(clock).await?;
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let events: Arc<[Sequenced]> = std::mem::take(&mut self.unwritten).into();
        self.since = None;
        self.begin(events, Arc::new(with));
        self.settle(clock).await
    }

    /// Tells whoever follows the run.
    fn say(&self, message: String) {
        let (level, logger) = ("warning".to_owned(), "axon".to_owned());
        self.log.push(RunEvent::Log(LogLine { level, logger, message }));
    }

    /// Shows what is recorded and was not shown before.
    fn show_all(&mut self, events: &[Sequenced]) {
        for event in events.iter().filter(|event| event.seq > self.shown) {
            self.log.append(event.clone());
        }
        self.shown = self.shown.max(events.last().map_or(0, |last| last.seq));
    }

    /// The event that asked for the append has not happened; those that came before it have.
    fn keep_all_but_the_last(&mut self, events: &[Sequenced]) {
        let before = events.split_last().map_or(&[][..], |(_last, before)| before);
        self.unwritten.splice(..0, before.iter().cloned());
        self.since = (!self.unwritten.is_empty()).then(Instant::now);
    }

    fn begin(&mut self, events: Arc<[Sequenced]>, with: Arc<With>) {
        let (store, run, expected) = (self.store.clone(), self.run.clone(), self.recorded);
        let (taken, given) = (events.clone(), with.clone());
        let writing: Writing = Box::pin(async move {
            let turn = given.turn.as_ref().map(|turn| TurnEnd {
                conversation: &turn.conversation,
                expected: turn.held,
                kept: turn.kept,
                messages: &turn.messages,
            });
            let writes = &given.writes;
            store.append(Append { run: &run, expected, events: &taken, turn, writes }).await
        });
        self.batch = Some(Batch { events, with, writing: Mutex::new(writing) });
    }

    /// Waits for the append that is under way.
    async fn settle(&mut self, clock: Option<&Clock>) -> Result<(), StoreError> {
        let mut wait = AGAIN.0;
        loop {
            let Some(batch) = &mut self.batch else { return Ok(()) };
            let writing = batch.writing.get_mut().unwrap_or_else(PoisonError::into_inner);
            let written = writing.await;
            let (events, with) = (batch.events.clone(), batch.with.clone());
            match written {
                Ok(Durable { recorded }) => {
                    self.batch = None;
                    self.recorded = recorded;
                    self.show_all(&events);
                    if let Some(clock) = clock {
                        clock.go_on();
                    }
                    return Ok(());
                }
                Err(error) if error.may_heal() => {
                    self.begin(events, with);
                    let Some(clock) = clock else { return Err(error) };
                    if wait == AGAIN.0 {
                        tracing::warn!(run = %self.run, %error, "the run waits for its store");
                        self.say(format!("the run waits for its store: {error}"));
                    }
                    clock.stand_still();
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN.1);
                }
                Err(error) => {
                    self.batch = None;
                    self.keep_all_but_the_last(&events);
                    return Err(error);
                }
            }
        }
    }
}
