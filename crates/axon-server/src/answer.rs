//! What an accepted run came to, as its caller reads it.

use axon_kernel::event::{Failed, Paused, RunEvent, Sequenced};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_kernel::run::Replay;
use axon_runtime::{Outcome, RunOutcome};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::schemas;

/// What an accepted run came to. A run that failed is an answer, too.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// The run.
    #[schema(value_type = String)]
    pub(crate) run_id: RunId,
    /// `completed`, `failed`, `cancelled`, `rejected`; or `paused`, if it waits for a person.
    pub(crate) outcome: OutcomeName,
    /// What it answered, if it completed; otherwise null.
    #[schema(value_type = Value)]
    pub(crate) output: RawJson,
    /// Why it has no output, if it has none and does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::Failure>, nullable = false)]
    pub(crate) error: Option<Failure>,
    /// What was tried before a failure was final.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<String>,
    /// What it waits for, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::Paused>, nullable = false)]
    pub(crate) pause: Option<Paused>,
    /// What it used: requests, tokens, tool calls.
    #[schema(value_type = Option<Object>)]
    pub(crate) usage: RawJson,
    /// The model that answered.
    pub(crate) model: Option<String>,
    /// Whether that model only plays one.
    pub(crate) offline: bool,
    /// The state that it carried, as its tools have left it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub(crate) state: Map<String, Value>,
}

/// How a run ended, or that it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeName {
    /// With an output.
    Completed,
    /// With a failure.
    Failed,
    /// On purpose.
    Cancelled,
    /// Before it began.
    Rejected,
    /// Not ended: it waits for a person, or for its next process.
    Paused,
}

impl Answer {
    fn new(run_id: RunId, outcome: OutcomeName) -> Self {
        Self {
            run_id,
            outcome,
            output: RawJson::null(),
            error: None,
            history: Vec::new(),
            pause: None,
            usage: RawJson::null(),
            model: None,
            offline: false,
            state: Map::new(),
        }
    }

    /// Reads how a run ended, or what it waits for, from the event that says it.
    pub(crate) fn of(run_id: &RunId, event: &RunEvent) -> Option<Self> {
        let outcome = Outcome::of(event)?;
        Some(RunOutcome { run_id: run_id.clone(), outcome, state: Map::new() }.into())
    }

    /// Reads how the run of a record ended, or what it waits for; nothing if it is under way.
    pub(crate) fn of_record(run_id: &RunId, events: &[Sequenced]) -> Option<Self> {
        let replay = Replay::read(events).ok()?;
        let state = replay.state.clone();
        let last = events.iter().rev().map(|event| &event.event);
        let outcome =
            last.take_while(|event| !matches!(event, RunEvent::Resumed(_))).find_map(Outcome::of);
        let answer = Self::from(RunOutcome { run_id: run_id.clone(), outcome: outcome?, state });
        Some(answer.with_usage(&replay))
    }

    /// Adds what a run used that has no output to tell it with, as its record has it.
    pub(crate) fn with_usage_of(self, events: &[Sequenced]) -> Self {
        match Replay::read(events) {
            Ok(replay) => self.with_usage(&replay),
            Err(_) => self,
        }
    }

    fn with_usage(mut self, replay: &Replay) -> Self {
        if self.outcome != OutcomeName::Completed
            && let Some(last) = replay.checkpoints.last()
        {
            self.usage = last.usage.clone();
        }
        self
    }

    fn failed(self, Failed { failure, history, .. }: Failed) -> Self {
        Self { error: Some(failure), history, ..self }
    }
}

impl From<RunOutcome> for Answer {
    fn from(RunOutcome { run_id, outcome, state }: RunOutcome) -> Self {
        let new = |name| Self { state: state.clone(), ..Self::new(run_id.clone(), name) };
        match outcome {
            Outcome::Completed(done) => Self {
                output: done.output,
                usage: done.usage,
                model: Some(done.model),
                offline: done.offline,
                ..new(OutcomeName::Completed)
            },
            Outcome::Failed(failed) => new(OutcomeName::Failed).failed(failed),
            Outcome::Rejected(failed) => new(OutcomeName::Rejected).failed(failed),
            Outcome::Cancelled(cancelled) => {
                let error = Failure::new(FailureKind::Cancelled, cancelled.reason);
                Self { error: Some(error), ..new(OutcomeName::Cancelled) }
            }
            Outcome::Paused(paused) => Self { pause: Some(paused), ..new(OutcomeName::Paused) },
        }
    }
}
