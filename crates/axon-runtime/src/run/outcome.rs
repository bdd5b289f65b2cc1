//! How a run ended.

use axon_kernel::event::{Cancelled, Completed, Failed, Paused, RunEvent};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use serde_json::{Map, Value};

/// How a run ended, or that it waits for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// The run.
    pub run_id: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// The state that it carried, as its tools have left it.
    pub state: Map<String, Value>,
}

/// The ways a run can end, and the one in which it waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an output.
    Completed(Completed),
    /// With a failure.
    Failed(Failed),
    /// On purpose.
    Cancelled(Cancelled),
    /// Before it began.
    Rejected(Failed),
    /// Not ended: it waits for a person.
    Paused(Paused),
}

impl RunOutcome {
    pub(crate) fn new(run_id: RunId, event: &RunEvent) -> Self {
        let outcome = Outcome::of(event).unwrap_or_else(|| {
            let message = format!("`{}` is no end of a run", event.name());
            let failure = Failure::new(FailureKind::Internal, message);
            Outcome::Failed(Failed { failure, history: Vec::new(), escalated: false })
        });
        Self { run_id, outcome, state: Map::new() }
    }

    /// Returns the output and what comes with it.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of a run that did not complete.
    pub fn completed(self) -> Result<Completed, Failure> {
        match self.outcome {
            Outcome::Completed(completed) => Ok(completed),
            Outcome::Failed(failed) | Outcome::Rejected(failed) => Err(failed.failure),
            Outcome::Cancelled(cancelled) => {
                Err(Failure::new(FailureKind::Cancelled, cancelled.reason))
            }
            Outcome::Paused(_) => {
                let message = "the run waits for a person's decision";
                Err(Failure::new(FailureKind::Cancelled, message))
            }
        }
    }
}

impl Outcome {
    /// Returns the outcome that `event` tells; nothing if it is neither an end nor a pause.
    #[must_use]
    pub fn of(event: &RunEvent) -> Option<Self> {
        if let RunEvent::Completed(completed) = event {
            Some(Self::Completed(completed.clone()))
        } else if let RunEvent::Failed(failed) = event {
            Some(Self::Failed(failed.clone()))
        } else if let RunEvent::Cancelled(cancelled) = event {
            Some(Self::Cancelled(cancelled.clone()))
        } else if let RunEvent::Rejected(failed) = event {
            Some(Self::Rejected(failed.clone()))
        } else if let RunEvent::Paused(paused) = event {
            Some(Self::Paused(paused.clone()))
        } else {
            None
        }
    }
}
