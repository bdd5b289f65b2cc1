//! How an agent's runner is restarted, and what a run does about each class of failure.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an agent restarts its runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// How many restarts are allowed in which time.
    pub intensity: Intensity,
    /// How long to wait before a restart; the first within the intensity's time is made at once.
    pub backoff: Backoff,
    /// What happens beyond the intensity.
    pub on_exhausted: OnExhausted,
}

/// How many restarts are allowed within a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Intensity {
    /// The number of restarts that is still allowed.
    pub max_restarts: u32,
    /// The length of the window.
    #[serde(with = "super::duration")]
    #[schemars(schema_with = "super::duration::schema")]
    pub within: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 3, within: Duration::from_secs(60) }
    }
}

/// The bounds of a wait that doubles with each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first wait.
    #[serde(with = "super::duration")]
    #[schemars(schema_with = "super::duration::schema")]
    pub min: Duration,
    /// The longest wait.
    #[serde(with = "super::duration")]
    #[schemars(schema_with = "super::duration::schema")]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(200), max: Duration::from_secs(30) }
    }
}

/// What an agent does when its runner was restarted too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It stays registered, refuses calls at once with the cause, and is tried again later.
    #[default]
    Park,
    /// It exits, and its supervisor decides.
    Escalate,
}

/// What a run does about one class of failure, where the agent departs from the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyRule {
    /// How often the run is tried again, from 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub retry: Option<u32>,
    /// How long to wait before each try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// What follows when no try is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What follows when no try is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The run fails.
    Fail,
    /// The failure goes to whoever handed the message over.
    Escalate,
    /// The agent's `[fallback]` answers; once that has been tried, the run ends as without a rule.
    Fallback,
}
