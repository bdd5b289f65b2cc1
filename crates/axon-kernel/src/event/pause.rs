//! What a run waits for that cannot go on by itself, and until when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::ids::ToolCallId;
use crate::json::RawJson;
use crate::spec::OnTimeout;
use crate::time::Timestamp;

/// The run waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// What it waits for.
    pub reason: PauseReason,
    /// Until when it waits; without an end where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
}

impl Paused {
    /// Makes a pause that lasts until somebody ends it.
    #[must_use]
    pub fn until_decided(reason: PauseReason) -> Self {
        Self { reason, expires: None }
    }
}

/// When a pause is over that nobody has ended, and what happens then. It is recorded with the
/// pause, so that every process can see to it, also one that knows nothing of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expiry {
    /// When.
    pub at: Timestamp,
    /// How many milliseconds there were to decide.
    pub timeout_ms: u64,
    /// What happens to the calls that nobody has decided about.
    pub then: OnTimeout,
}

impl Expiry {
    /// Returns whether it is over by `now`.
    #[must_use]
    pub fn is_over(self, now: Timestamp) -> bool {
        self.at <= now
    }
}

/// What a paused run waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// Tool calls want an approval or an answer.
    Approval {
        /// The calls, as the runner named them.
        requests: RawJson,
    },
    /// A tool with effect `once` was called and nobody knows whether it took effect.
    Ambiguous {
        /// The call.
        tool_call_id: ToolCallId,
        /// What broke the attempt in between.
        failure: Box<Failure>,
    },
    /// The agent's definition is another one than when the run was accepted.
    Changed {
        /// The digest then.
        was: String,
        /// The digest now.
        is: String,
    },
    /// It was taken over again and again and got no further: perhaps it kills its process.
    Quarantined {
        /// How often it was taken over since it last got any further.
        recoveries: u32,
    },
    /// Its process ends, and another one may go on with it. Shown to whoever follows the run, and
    /// never recorded: a run that nobody drives and that waits for nothing is an interrupted one.
    Interrupted {
        /// Why its process ends.
        reason: String,
    },
}

impl PauseReason {
    /// Returns the name used in data.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Changed { .. } => "changed",
            Self::Quarantined { .. } => "quarantined",
            Self::Interrupted { .. } => "interrupted",
        }
    }
}
