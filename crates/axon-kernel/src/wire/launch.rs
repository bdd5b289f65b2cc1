//! What passes over the control socket: launch data one way, ready and log records the other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LogRecord, PROTOCOL};
use crate::failure::Failure;
use crate::ids::Generation;
use crate::spec::{AgentSpec, Callable, DEFAULT_HEARTBEAT, MAX_DELEGATIONS};

/// The launch data: it fixes what this generation of the runner may call.
///
/// It carries secrets: never log it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "launch")]
pub struct Launch {
    /// The protocol's version.
    pub protocol: u32,
    /// The generation of this process.
    pub generation: Generation,
    /// The bearer token of every request.
    pub token: String,
    /// The agent's name.
    pub agent: String,
    /// Folders to append to the module path, in order.
    pub path: Vec<String>,
    /// The agent's own package, which must not shadow an installed one.
    #[serde(default)]
    pub package: Option<String>,
    /// The agent defined in Python, as `module:attribute`.
    #[serde(default)]
    pub module: Option<String>,
    /// Everything that this generation may call.
    pub callables: Vec<LaunchCallable>,
    /// Variables that are set after the start, so that no process listing shows them.
    pub env: BTreeMap<String, String>,
    /// The limits that the runner enforces.
    pub limits: LaunchLimits,
    /// From which level on its log records are wanted.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// From which level on log records of a runner are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Debugging, too.
    Debug,
    /// All that is not for debugging.
    #[default]
    Info,
}

/// One function or object that a runner may use.
pub type LaunchCallable = Callable;

/// The limits that a runner enforces on its own side of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchLimits {
    /// How many attempts may be live at once.
    pub attempts: u32,
    /// The largest request body, in bytes.
    pub body_bytes: usize,
    /// The largest event, in bytes.
    pub event_bytes: usize,
    /// The deepest nesting of JSON.
    pub json_depth: usize,
    /// After how many milliseconds of silence on a stream the runner counts as stuck; it says
    /// something every quarter of it.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
}

impl LaunchLimits {
    /// Returns the heartbeat as a duration.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
}

fn default_heartbeat_ms() -> u64 {
    millis(DEFAULT_HEARTBEAT)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Launch {
    /// Makes the launch data of `spec` for one generation, without path, package and variables.
    #[must_use]
    pub fn new(spec: &AgentSpec, generation: Generation, token: String) -> Self {
        Self {
            protocol: PROTOCOL,
            generation,
            token,
            agent: spec.name.to_string(),
            path: Vec::new(),
            package: None,
            module: spec.runner.module.as_ref().map(ToString::to_string),
            callables: spec.callables(),
            env: BTreeMap::new(),
            log_level: LogLevel::default(),
            limits: LaunchLimits {
                attempts: attempts(spec),
                body_bytes: crate::json::MAX_BODY_BYTES,
                event_bytes: crate::json::MAX_EVENT_BYTES,
                json_depth: crate::json::MAX_DEPTH,
                heartbeat_ms: millis(spec.runner.heartbeat),
            },
        }
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("agent", &self.agent)
            .field("generation", &self.generation)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// A record that a runner writes to the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlRecord {
    /// The runner takes requests from now on.
    Ready(ReadyRecord),
    /// The runner cannot start; it exits.
    Failed {
        /// Why.
        error: Box<Failure>,
    },
    /// A log record from outside any run.
    Log(LogRecord),
}

/// What a runner says of itself when it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyRecord {
    /// The protocol's version.
    pub protocol: u32,
    /// The generation it was launched as.
    pub generation: Generation,
    /// Its process id.
    pub pid: u32,
    /// Versions of the runner, the interpreter and pydantic-ai.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

/// Returns how many attempts a runner may have at once: of the runs under way, beside each of them
/// one that it has given up, and of those below that come back to the agent without a place.
fn attempts(spec: &AgentSpec) -> u32 {
    let levels = if spec.delegates().next().is_some() { MAX_DELEGATIONS + 1 } else { 1 };
    let levels = u32::try_from(levels).unwrap_or(u32::MAX);
    spec.limits.concurrency.get().saturating_mul(2).max(4).saturating_mul(levels)
}
