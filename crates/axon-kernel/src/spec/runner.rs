//! The process that runs an agent: which program, how many, with which environment.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

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
    /// How many runners the agent has.
    pub replicas: NonZeroU32,
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
            replicas: NonZeroU32::MIN,
            pass_env: Vec::new(),
            env: BTreeMap::new(),
            lifespan: None,
            start_timeout: DEFAULT_START_TIMEOUT,
            heartbeat: DEFAULT_HEARTBEAT,
            cancel_grace: DEFAULT_CANCEL_GRACE,
        }
    }
}

/// Shows the variables' names only, since their values may be secret.
impl fmt::Debug for RunnerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerSpec")
            .field("module", &self.module)
            .field("program", &self.program)
            .field("replicas", &self.replicas)
            .field("pass_env", &self.pass_env)
            .field("env", &self.env.keys())
            .field("lifespan", &self.lifespan)
            .field("start_timeout", &self.start_timeout)
            .field("heartbeat", &self.heartbeat)
            .field("cancel_grace", &self.cancel_grace)
            .finish()
    }
}
