//! The one state machine of a run. Its log is the truth; the status is derived from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::RunEvent;
use crate::ids::ToolCallId;
use crate::spec::Effect;

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

/// The tool calls that began and have not ended, with their effects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PendingCalls(BTreeMap<ToolCallId, Effect>);

impl PendingCalls {
    /// Returns the first call whose repetition could do harm.
    #[must_use]
    pub fn unrepeatable(&self) -> Option<&ToolCallId> {
        self.0.iter().find(|(_, effect)| **effect == Effect::Once).map(|(call, _)| call)
    }

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
            (Self::Queued | Self::Paused | Self::Running { .. }, E::Failed(_)) => Ok(Self::Failed),
            (Self::Queued | Self::Paused | Self::Running { .. }, E::Cancelled(_)) => {
                Ok(Self::Cancelled)
            }
            (Self::Running { .. }, E::Completed(_)) => Ok(Self::Completed),
            (Self::Running { .. }, E::Paused(_)) => Ok(Self::Paused),
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

    /// Returns the pending call whose repetition could do harm, if the run has one.
    #[must_use]
    pub fn unrepeatable(&self) -> Option<&ToolCallId> {
        if let Self::Running { pending } = self { pending.unrepeatable() } else { None }
    }

    /// Returns the effect of the tool call `call`, if the run waits for it.
    #[must_use]
    pub fn awaited(&self, call: &ToolCallId) -> Option<Effect> {
        if let Self::Running { pending } = self { pending.0.get(call).copied() } else { None }
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
            | E::Checkpoint(_)
            | E::AttemptFailed(_)
            | E::Decided(_)
            | E::Retracted(_)
            | E::Steered(_)
    )
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        })
    }
}

#[cfg(test)]
mod tests;
