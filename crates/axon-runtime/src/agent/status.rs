//! How an agent is, as data.

use axon_kernel::ids::Generation;
use axon_kernel::spec::AgentName;
use serde::Serialize;

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentStatus {
    /// Its name.
    pub name: AgentName,
    /// Where its runner is.
    #[serde(flatten)]
    pub state: AgentState,
    /// The generation of its runner.
    pub generation: Generation,
    /// The runner's process id.
    pub pid: Option<u32>,
    /// The model, as the runner resolved it.
    pub model: Option<String>,
    /// Whether that model only plays one.
    pub offline: bool,
    /// Runs under way.
    pub in_flight: usize,
    /// Runs that wait.
    pub queued: usize,
    /// How many more restarts of its runner are allowed now, before it is parked.
    pub restarts_left: u32,
}

/// Where an agent's runner is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AgentState {
    /// Being launched.
    Starting,
    /// Taking runs.
    Up,
    /// Waiting to be launched again.
    Restarting {
        /// Why it ended.
        cause: String,
    },
    /// Not served until it is restarted or reloaded, or its next try succeeds.
    Parked {
        /// Why.
        cause: String,
        /// Milliseconds until the next try; without it, only a restart or a reload helps.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in_ms: Option<u64>,
    },
    /// Without a runner on purpose, until it is restarted.
    Drained,
    /// Its actor has ended and its supervisor has not started it again.
    Down {
        /// Why.
        cause: String,
    },
}
