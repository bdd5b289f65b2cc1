//! One run, followed to its end wherever it goes on: here, in another process, after a pause.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::ids::RunId;
use axon_kernel::run::RunState;
use axon_kernel::store::{Owner, StoreError};
use axon_runtime::{RunEvents, RunUpdate};

use crate::shared::Shared;

/// How soon a run is looked at again that this process has just taken on, or is about to.
const SOON: Duration = Duration::from_millis(20);

/// How soon a run is looked at again that waits, or that another process drives.
const LATER: Duration = Duration::from_millis(500);

/// What a reader does when the run pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtPause {
    /// Reads no further: whoever asked is told that the run waits.
    Stop,
    /// Waits with the run.
    Wait,
}

/// A reader of one run.
#[derive(Debug)]
pub(crate) struct Following {
    shared: Arc<Shared>,
    run: RunId,
    at_pause: AtPause,
    /// The number of the last event that was read.
    after: u64,
    events: Option<RunEvents>,
    last: Last,
}

/// What the last event that was read says of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// It goes on.
    Open,
    /// It waits.
    Paused,
    /// It has ended.
    End,
}

impl Following {
    /// Reads on behind the event `after`, of which 0 is none.
    pub(crate) fn new(shared: Arc<Shared>, run: RunId, after: u64, at_pause: AtPause) -> Self {
        Self { shared, run, at_pause, after, events: None, last: Last::Open }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns the next update, or `None` behind the last one.
    pub(crate) async fn next(&mut self) -> Option<Result<RunUpdate, StoreError>> {
        loop {
            if self.last == Last::End {
                return None;
            }
            match self.step().await {
                Ok(Some(update)) => return Some(Ok(update)),
                Ok(None) if self.last == Last::Paused && self.at_pause == AtPause::Stop => {
                    return None;
                }
                Ok(None) => match self.pass().await {
                    Ok(true) => return None,
                    Ok(false) => {}
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Returns the next update of what is open, and opens it first if nothing is.
    async fn step(&mut self) -> Result<Option<RunUpdate>, StoreError> {
        let events = match &mut self.events {
            Some(events) => events,
            closed => closed.insert(self.shared.events_of(&self.run, self.after).await?),
        };
        let update = events.next().await;
        match &update {
            Some(RunUpdate::Event(event)) => self.saw(event),
            Some(RunUpdate::Lagged { .. }) => {}
            None => self.events = None,
        }
        Ok(update)
    }

    fn saw(&mut self, event: &Sequenced) {
        self.after = event.seq;
        self.last = if event.event.is_terminal() {
            Last::End
        } else if matches!(event.event, RunEvent::Paused(_)) {
            Last::Paused
        } else {
            Last::Open
        };
    }

    /// Waits until there may be more, and returns whether there never will.
    async fn pass(&mut self) -> Result<bool, StoreError> {
        let records = self.shared.runtime.records();
        let known = records.summary(&self.run).await?;
        if !known.state.is_open() {
            // What was recorded since the last look is read first.
            return Ok(records.events(&self.run, self.after).await?.is_empty());
        }
        let wait =
            if known.state != RunState::Paused && known.owner == Owner::Us { SOON } else { LATER };
        tokio::time::sleep(wait).await;
        Ok(false)
    }
}
