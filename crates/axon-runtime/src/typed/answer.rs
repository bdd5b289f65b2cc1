//! What came of a run, in the caller's own types.

use std::time::Duration;

use axon_kernel::event::{Cancelled, Completed, Failed, Paused};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use axon_kernel::json::{RawJson, excerpt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::run::{Outcome, Refusal, RunOutcome};

/// The answer of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<O> {
    /// The answer, which fits its schema and passed every validator.
    pub output: O,
    /// The run that gave it.
    pub run_id: RunId,
    /// What the run used, other runs that it handed work to included: requests, tokens, tool calls,
    /// as pydantic-ai counts them.
    pub usage: RawJson,
    /// The model that answered.
    pub model: String,
    /// Whether that model only plays one: nobody may take its answer for advice.
    pub offline: bool,
    /// How many attempts it took.
    pub attempts: u32,
    /// How long it took, from acceptance on.
    pub duration: Duration,
    /// The state that the run carried, as its tools have left it.
    pub state: Map<String, Value>,
}

impl<O> Answer<O> {
    /// Reads the state that the run carried.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if it is no `S`.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S, serde_json::Error> {
        serde_json::from_value(Value::Object(self.state.clone()))
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request was refused before it became a run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The run failed.
    #[error("run `{run_id}` failed: {}", failed.failure)]
    Failed {
        /// The run.
        run_id: RunId,
        /// Why, and what was tried.
        failed: Box<Failed>,
    },
    /// The run was cancelled.
    #[error("run `{run_id}` was cancelled: {}", cancelled.reason)]
    Cancelled {
        /// The run.
        run_id: RunId,
        /// By whom.
        cancelled: Cancelled,
    },
    /// The run waits for a person. [`Runtime::records`](crate::Runtime::records) decides, and
    /// [`Runtime::resume`](crate::Runtime::resume) goes on.
    #[error("run `{run_id}` waits for a person")]
    Paused {
        /// The run.
        run_id: RunId,
        /// What it waits for.
        paused: Box<Paused>,
    },
    /// The answer is none in the type that the caller wants.
    #[error("run `{run_id}` answered with something else than was expected: {shown}")]
    Other {
        /// The run.
        run_id: RunId,
        /// The beginning of the answer.
        shown: String,
        /// Why it is none.
        #[source]
        source: serde_json::Error,
    },
}

/// How much of an answer that does not fit is shown, in bytes.
const SHOWN_BYTES: usize = 200;

impl RunOutcome {
    /// Returns the answer in the caller's type.
    ///
    /// # Errors
    ///
    /// [`RunError`] if the run did not complete, or its answer is no `O`.
    pub fn answer<O: DeserializeOwned>(self) -> Result<Answer<O>, RunError> {
        let Self { run_id, outcome, state } = self;
        let completed = match outcome {
            Outcome::Completed(completed) => completed,
            Outcome::Failed(failed) | Outcome::Rejected(failed) => {
                return Err(RunError::Failed { run_id, failed: Box::new(failed) });
            }
            Outcome::Cancelled(cancelled) => {
                return Err(RunError::Cancelled { run_id, cancelled });
            }
            Outcome::Paused(paused) => {
                return Err(RunError::Paused { run_id, paused: Box::new(paused) });
            }
        };
        let Completed { output, usage, model, offline, attempts, duration_ms } = completed;
        let output = match output.read() {
            Ok(output) => output,
            Err(source) => {
                let shown = excerpt(output.get(), SHOWN_BYTES);
                return Err(RunError::Other { run_id, shown, source });
            }
        };
        let duration = Duration::from_millis(duration_ms);
        Ok(Answer { output, run_id, usage, model, offline, attempts, duration, state })
    }
}

impl RunError {
    /// Returns why there is no answer as one structured object, by which every door names it.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Refused(refusal) => refusal.into_failure(),
            Self::Failed { failed, .. } => failed.failure,
            Self::Cancelled { cancelled, .. } => {
                Failure::new(FailureKind::Cancelled, cancelled.reason)
            }
            other @ Self::Paused { .. } => Failure::new(FailureKind::Cancelled, other.to_string()),
            other @ Self::Other { .. } => {
                Failure::new(FailureKind::OutputInvalid, other.to_string())
            }
        }
    }
}
