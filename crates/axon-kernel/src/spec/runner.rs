//! The process that runs an agent: which program, how many, with which environment.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::names::{EnvName, PythonTarget};

/// How long a runner may take to be ready, where the agent does not say.
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a runner may show no sign of life, where the agent does not say.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(60);

/// How long a cancelled run may take to stop by itself, where the agent does not say.
pub const DEFAULT_CANCEL_GRACE: Duration = Duration::from_secs(1);

/// The process that runs an agent.
#[derive(Clone, PartialEq, Eq)]
pub struct RunnerSpec {
    /// The `pydantic_ai.Agent` that Python code defines, if the agent is one.
    pub module: Option<PythonTarget>,
    /// What is started, or where a runner is found.
    pub program: RunnerProgram,
    /// The variable that holds the bearer token of a runner at a URL; none for any other.
    pub token_env: Option<EnvName>,
    /// How many runners the agent has.
    pub replicas: NonZeroU32,
    /// How a Python runner is started.
    pub launcher: LauncherMode,
    /// Variables of our own environment that the runner gets.
    pub pass_env: Vec<EnvName>,
    /// Variables that the runner gets with these values.
    pub env: BTreeMap<EnvName, String>,
    /// An async context manager around the runner's whole life.
    pub lifespan: Option<PythonTarget>,
    /// How long it may take to be ready.
    pub start_timeout: Duration,
    /// No sign of life for this long means that it is stuck; at least 100 ms.
    pub heartbeat: Duration,
    /// How long a cancelled run may take to stop by itself before the runner is killed.
    pub cancel_grace: Duration,
    /// When a runner is replaced that is well.
    pub recycle: Recycle,
    /// How much one runner's process may use.
    pub limits: RunnerLimits,
}

/// How a Python runner is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LauncherMode {
    /// Forked from a warm parent that has imported everything but the agent's own code.
    #[default]
    Warm,
    /// Started from nothing.
    Cold,
}

/// When a runner is replaced although it is well: its replacement is up first, and what is under
/// way in it finishes there. Nothing is replaced by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recycle {
    /// After this long, or up to a tenth earlier, so that replicas do not move in step; at least
    /// 1s.
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub age: Option<Duration>,
    /// After so many attempts of runs; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests: Option<u64>,
    /// When it holds this much memory; at least 32MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
}

/// How much the process of one runner may use, as the kernel enforces it. No limit by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerLimits {
    /// How much address space; at least 32MiB. An allocation beyond it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// How much time on the processor in its life; at least 1s. Beyond it the process is killed.
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub cpu_time: Option<Duration>,
    /// How many files and sockets at once; at least 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64))]
    pub open_files: Option<u64>,
}

/// What is started as the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerProgram {
    /// Axon's Python runner.
    Python {
        /// The interpreter, where the agent names one.
        python: Option<String>,
    },
    /// Another program that speaks the runner protocol, with its arguments; never empty.
    Command(Vec<String>),
    /// A runner that somebody else started, at this URL.
    Url(String),
}

impl Default for RunnerSpec {
    fn default() -> Self {
        Self {
            module: None,
            program: RunnerProgram::Python { python: None },
            token_env: None,
            replicas: NonZeroU32::MIN,
            launcher: LauncherMode::default(),
            pass_env: Vec::new(),
            env: BTreeMap::new(),
            lifespan: None,
            start_timeout: DEFAULT_START_TIMEOUT,
            heartbeat: DEFAULT_HEARTBEAT,
            cancel_grace: DEFAULT_CANCEL_GRACE,
            recycle: Recycle::default(),
            limits: RunnerLimits::default(),
        }
    }
}

/// Shows the variables' names only, since their values may be secret.
impl fmt::Debug for RunnerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerSpec")
            .field("module", &self.module)
            .field("program", &self.program)
            .field("token_env", &self.token_env)
            .field("replicas", &self.replicas)
            .field("launcher", &self.launcher)
            .field("pass_env", &self.pass_env)
            .field("env", &self.env.keys())
            .field("lifespan", &self.lifespan)
            .field("start_timeout", &self.start_timeout)
            .field("heartbeat", &self.heartbeat)
            .field("cancel_grace", &self.cancel_grace)
            .field("recycle", &self.recycle)
            .field("limits", &self.limits)
            .finish()
    }
}
