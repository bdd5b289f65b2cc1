//! The one state machine of a run. Its log is the truth; the status is derived from it.

mod replay;
mod standing;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::RunEvent;
use crate::ids::ToolCallId;
use crate::spec::Effect;

pub use replay::{Pause, Replay, ReplayError};
pub use standing::Standing;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunStatus {
    /// Nothing is known of it yet.
    New,
    /// Taken on, waiting for its turn.
    Queued,
    /// Under way.
    Running {
        /// The tool calls that began and have not ended.
        pending: PendingCalls,
    },
    /// Waiting for a person.
    Paused,
    /// Ended with an output.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended on purpose.
    Cancelled,
    /// Ended before it began.
    Rejected,
}

/// Where a run stands, in one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Taken on, waiting for its turn.
    Queued,
    /// Under way, or it was when its process went.
    Running,
    /// Waiting for a person.
    Paused,
    /// Ended with an output.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended on purpose.
    Cancelled,
    /// Ended before it began.
    Rejected,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Rejected,
    ];

    /// Returns the state that `event` leaves a run in, or nothing if it changes none.
    #[must_use]
    pub fn after(event: &RunEvent) -> Option<Self> {
        use RunEvent as E;
        match event {
            E::Accepted(_) => Some(Self::Queued),
            E::Started(_) | E::Resumed(_) => Some(Self::Running),
            E::Paused(_) => Some(Self::Paused),
            E::Completed(_) => Some(Self::Completed),
            E::Failed(_) => Some(Self::Failed),
            E::Cancelled(_) => Some(Self::Cancelled),
            E::Rejected(_) => Some(Self::Rejected),
            E::AttemptStarted(_)
            | E::Steered(_)
            | E::TextDelta(_)
            | E::ThinkingDelta(_)
            | E::PartialOutput(_)
            | E::ToolCalled(_)
            | E::ToolProgress(_)
            | E::ToolReturned(_)
            | E::StateChanged(_)
            | E::HandedOff(_)
            | E::Delegated(_)
            | E::Model(_)
            | E::Log(_)
            | E::Checkpoint(_)
            | E::AttemptFailed(_)
            | E::Decided(_)
            | E::Retracted(_)
            | E::Resolved(_)
            | E::Recovered(_) => None,
        }
    }

    /// Returns whether the run has not ended.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Paused)
    }

    /// Returns the name used in data.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    /// Reads a name that [`RunState::label`] gave.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }
}

/// The tool calls that began and have not ended, with their effects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PendingCalls(BTreeMap<ToolCallId, Effect>);

impl PendingCalls {
    /// Returns whether `call` is pending.
    #[must_use]
    pub fn has(&self, call: &ToolCallId) -> bool {
        self.0.contains_key(call)
    }

    /// Returns whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, call: &ToolCallId, effect: Effect) -> Self {
        let mut calls = self.0.clone();
        calls.insert(call.clone(), effect);
        Self(calls)
    }

    fn without(&self, call: &ToolCallId) -> Self {
        let mut calls = self.0.clone();
        calls.remove(call);
        Self(calls)
    }
}

/// An event that a run in this status cannot have produced.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a run that is {status} cannot see `{event}`")]
pub struct IllegalEvent {
    /// The status.
    pub status: RunStatus,
    /// The event's name.
    pub event: &'static str,
}

impl RunStatus {
    /// Returns the status after `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalEvent`] if a run in this status cannot have produced `event`.
    pub fn next(&self, event: &RunEvent) -> Result<Self, IllegalEvent> {
        use RunEvent as E;
        let running = || Self::Running { pending: PendingCalls::default() };
        match (self, event) {
            (Self::New, E::Accepted(_)) => Ok(Self::Queued),
            (Self::New | Self::Queued, E::Rejected(_)) => Ok(Self::Rejected),
            (Self::Queued, E::Started(_)) | (Self::Paused, E::Resumed(_)) => Ok(running()),
            (Self::Paused, E::Resolved(_)) => Ok(Self::Paused),
            (Self::Running { pending }, E::Resolved(resolved)) => {
                Ok(Self::Running { pending: pending.without(&resolved.tool_call_id) })
            }
            (Self::Queued | Self::Running { .. }, E::Recovered(_)) => Ok(self.clone()),
            (Self::Queued | Self::Paused | Self::Running { .. }, E::Failed(_)) => Ok(Self::Failed),
            (Self::Queued | Self::Paused | Self::Running { .. }, E::Cancelled(_)) => {
                Ok(Self::Cancelled)
            }
            (Self::Running { .. }, E::Completed(_)) => Ok(Self::Completed),
            (Self::Queued | Self::Running { .. }, E::Paused(_)) => Ok(Self::Paused),
            (Self::Running { pending }, E::ToolCalled(called)) => {
                Ok(Self::Running { pending: pending.with(&called.tool_call_id, called.effect) })
            }
            (Self::Running { pending }, E::ToolReturned(returned))
                if pending.has(&returned.tool_call_id) =>
            {
                Ok(Self::Running { pending: pending.without(&returned.tool_call_id) })
            }
            (Self::Running { .. }, E::AttemptStarted(_)) => Ok(running()),
            (Self::Running { .. }, event) if keeps_running(event) => Ok(self.clone()),
            _ => Err(IllegalEvent { status: self.clone(), event: event.name() }),
        }
    }

    /// Returns the effect of the tool call `call`, if the run waits for it.
    #[must_use]
    pub fn awaited(&self, call: &ToolCallId) -> Option<Effect> {
        if let Self::Running { pending } = self { pending.0.get(call).copied() } else { None }
    }

    /// Returns where the run stands in one word; none before it is accepted.
    #[must_use]
    pub fn state(&self) -> Option<RunState> {
        match self {
            Self::New => None,
            Self::Queued => Some(RunState::Queued),
            Self::Running { .. } => Some(RunState::Running),
            Self::Paused => Some(RunState::Paused),
            Self::Completed => Some(RunState::Completed),
            Self::Failed => Some(RunState::Failed),
            Self::Cancelled => Some(RunState::Cancelled),
            Self::Rejected => Some(RunState::Rejected),
        }
    }

    /// Returns whether the run has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Rejected)
    }
}

fn keeps_running(event: &RunEvent) -> bool {
    use RunEvent as E;
    matches!(
        event,
        E::TextDelta(_)
            | E::ThinkingDelta(_)
            | E::PartialOutput(_)
            | E::Model(_)
            | E::Log(_)
            | E::ToolProgress(_)
            | E::StateChanged(_)
            | E::HandedOff(_)
            | E::Delegated(_)
            | E::Checkpoint(_)
            | E::AttemptFailed(_)
            | E::Decided(_)
            | E::Retracted(_)
            | E::Steered(_)
    )
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state().map_or("new", RunState::label))
    }
}

#[cfg(test)]
mod tests;
