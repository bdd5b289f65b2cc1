//! What an agent is: read from `agent.toml`, checked once, and used by everything else.
//!
//! [`AgentSpec::from_toml`] is the way in from a file, [`AgentSpec::for_module`] from an agent
//! that Python code defines, [`AgentSpec::new`] from Rust code. The invariant: a spec that came
//! from a file has no unset variable, no schema that cannot be compiled and no name outside its
//! grammar; what Rust code fills in is held to the same rules by [`AgentSpec::check`].

mod approvals;
mod bytes;
pub(crate) mod check;
mod conversation;
mod digest;
pub(crate) mod duration;
mod error;
mod fallback;
pub(crate) mod file;
mod instructions;
mod interpolate;
mod limits;
pub(crate) mod load;
mod names;
mod origin;
mod output;
mod print;
mod runner;
mod schema_source;
pub(crate) mod source;
mod supervision;
#[cfg(test)]
mod tests;
mod tool;
pub(crate) mod unknown;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use approvals::{ApprovalsSpec, OnTimeout};
pub use bytes::{ByteSize, ByteSizeError};
pub use check::{Broken, Rule};
pub use conversation::{ConversationSpec, WhenBusy};
pub use error::{Position, Problem, SpecError, What};
pub use fallback::Fallback;
pub use file::AgentFile;
pub use instructions::{Instruction, InstructionFile, InstructionsFile, RustInstruction};
pub use limits::{Limits, MAX_DELEGATIONS, Usd, UsdError};
pub use load::FileText;
pub use names::{
    AgentName, AgentPath, EnvName, GroupName, ModelName, ModelSource, NameError, PromptName,
    PythonTarget, Tag, ToolName,
};
pub use output::{OutputMode, OutputSpec};
pub use print::PrintError;
pub use runner::{
    DEFAULT_CANCEL_GRACE, DEFAULT_HEARTBEAT, DEFAULT_START_TIMEOUT, LauncherMode, Recycle,
    RunnerLimits, RunnerProgram, RunnerSpec,
};
pub use schema_source::SchemaSource;
pub use supervision::{Backoff, Intensity, OnExhausted, PolicyRule, Supervision, Then};
pub use tool::{Effect, HAND_OFF, OnAmbiguous, ToolSpec, ToolTarget};
pub use wire::{Callable, Role};

use crate::failure::FailureKind;
use crate::flow::{Flow, FlowKind, Target};
use crate::schema::Schema;

/// What one agent is.
#[derive(Clone, PartialEq)]
pub struct AgentSpec {
    /// The name it is found by.
    pub name: AgentName,
    /// What it is for, in a sentence.
    pub description: Option<String>,
    /// The model; may be missing only where [`RunnerSpec::module`] brings one.
    pub model: Option<ModelName>,
    /// The parts of the instructions, in order, worked out anew for each run.
    pub instructions: Vec<Instruction>,
    /// Python functions that give further instructions, called before each model request.
    pub dynamic_instructions: Vec<PythonTarget>,
    /// How often the model is asked again.
    pub retries: Retries,
    /// What happens to tool calls beside a final answer.
    pub end_strategy: Option<EndStrategy>,
    /// How long one call of a tool may take that names no time of its own.
    pub tool_timeout: Option<Duration>,
    /// Settings handed to the model as they are.
    pub model_settings: Map<String, Value>,
    /// pydantic-ai's capabilities, as its own agent spec writes them.
    pub capabilities: Vec<Value>,
    /// Where the model's provider is reached, if not at its usual place.
    pub provider: Option<ProviderSpec>,
    /// The process that runs it.
    pub runner: RunnerSpec,
    /// What callers give with each run.
    pub deps: DepsSpec,
    /// The answer; where this is missing, plain text or what the agent of [`RunnerSpec::module`] says.
    pub output: Option<OutputSpec>,
    /// Its tools.
    pub tools: Vec<ToolSpec>,
    /// How much it may do.
    pub limits: Limits,
    /// How long its runs wait for a person.
    pub approvals: ApprovalsSpec,
    /// How it keeps the turns of one conversation apart.
    pub conversation: ConversationSpec,
    /// Who answers when its own model cannot.
    pub fallback: Fallback,
    /// How its runner is restarted.
    pub supervision: Supervision,
    /// What a run does about each class of failure, where that departs from the default.
    pub policy: BTreeMap<FailureKind, PolicyRule>,
    /// Words by which it is found beside its name.
    pub tags: BTreeSet<Tag>,
    /// What it does with a message, if it is a router or a pipeline: it has no runner then.
    pub flow: Option<Flow>,
    /// Anything, kept with each run.
    pub metadata: Map<String, Value>,
    /// What was written where a variable was filled in, so that printing does not show its value.
    written: print::Written,
    /// Where its parts stand in its file.
    origin: origin::Origin,
}

/// What takes messages under a name.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An agent, which has a model.
    #[default]
    Agent,
    /// A router, which hands messages to others.
    Router,
    /// A pipeline, which has others answer in steps.
    Pipeline,
}

impl Kind {
    /// Returns the name used in data.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Router => "router",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How often the model is asked again before the run fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// After a tool call that it has to correct.
    pub tools: Option<u32>,
    /// After an output that breaks its schema.
    pub output: Option<u32>,
}

/// What happens to tool calls that come beside a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndStrategy {
    /// They are skipped.
    Early,
    /// Function tools run, further output tools do not.
    Graceful,
    /// All of them run.
    Exhaustive,
}

/// Where the model's provider is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSpec {
    /// The address of its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^https?://"))]
    pub base_url: Option<String>,
    /// The variable that holds the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<EnvName>,
}

/// What callers give with each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DepsSpec {
    /// The schema that it is held to.
    pub schema: Option<Schema>,
    /// The Python function that turns it into the live object that tools get.
    pub factory: Option<PythonTarget>,
}

impl AgentSpec {
    /// Makes an agent called `name` with every property at its default and no model yet.
    #[must_use]
    pub fn new(name: AgentName) -> Self {
        Self {
            name,
            description: None,
            model: None,
            instructions: Vec::new(),
            dynamic_instructions: Vec::new(),
            retries: Retries::default(),
            end_strategy: None,
            tool_timeout: None,
            model_settings: Map::new(),
            capabilities: Vec::new(),
            provider: None,
            runner: RunnerSpec::default(),
            deps: DepsSpec::default(),
            output: None,
            tools: Vec::new(),
            limits: Limits::default(),
            approvals: ApprovalsSpec::default(),
            conversation: ConversationSpec::default(),
            fallback: Fallback::default(),
            supervision: Supervision::default(),
            policy: BTreeMap::new(),
            tags: BTreeSet::new(),
            flow: None,
            metadata: Map::new(),
            written: print::Written::default(),
            origin: origin::Origin::default(),
        }
    }

    /// Makes the agent called `name` that the Python object `module` defines.
    #[must_use]
    pub fn for_module(name: AgentName, module: PythonTarget) -> Self {
        let mut spec = Self::new(name);
        spec.runner.module = Some(module);
        spec
    }

    /// Returns where `model` is reached, if not at its provider's usual place: `[provider]` speaks
    /// of the agent's own model, and of others of the same provider.
    #[must_use]
    pub fn provider_of(&self, model: &ModelName) -> Option<&ProviderSpec> {
        let own = self.model.as_ref();
        let provider = |model: &ModelName| crate::provider::of(model).ok();
        let same = own.is_none_or(|own| own == model || provider(own) == provider(model));
        self.provider.as_ref().filter(|_| same)
    }

    /// Returns those that it hands work to, and whose answer it waits for.
    pub fn delegates(&self) -> impl Iterator<Item = &AgentName> {
        let tools = self.tools.iter().filter_map(|tool| match &tool.target {
            ToolTarget::Agent(agent) => Some(agent),
            ToolTarget::Python(_)
            | ToolTarget::Rust(_)
            | ToolTarget::Handoff(_)
            | ToolTarget::Own => None,
        });
        tools.chain(self.flow.iter().flat_map(Flow::targets))
    }

    /// Returns the agents that may go on with its runs in its place, as its model chooses.
    pub fn successors(&self) -> impl Iterator<Item = &AgentName> {
        let targets = self.tools.iter().flat_map(|tool| match &tool.target {
            ToolTarget::Handoff(targets) => targets.as_slice(),
            ToolTarget::Python(_)
            | ToolTarget::Rust(_)
            | ToolTarget::Agent(_)
            | ToolTarget::Own => &[],
        });
        targets.flat_map(Target::agents)
    }

    /// Returns what it is called in lists and trees.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.flow.as_ref().map(|flow| flow.kind) {
            None => Kind::Agent,
            Some(FlowKind::Router) => Kind::Router,
            Some(FlowKind::Pipeline) => Kind::Pipeline,
        }
    }

    /// Returns whether the tool called `name` asks another agent.
    #[must_use]
    pub fn asks_agent(&self, name: &str) -> bool {
        self.tool(name).is_some_and(|tool| matches!(tool.target, ToolTarget::Agent(_)))
    }

    /// Returns the place in its file of what a rule or a whole system names by `pointer`, or of the
    /// nearest part around it; nothing of an agent that Rust code has put together.
    #[must_use]
    pub fn position(&self, pointer: &str) -> Option<Position> {
        self.origin.position(pointer)
    }

    /// Returns the tool called `name`.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.iter().find(|tool| tool.name.as_str() == name)
    }
}

/// Shows only what can hold no secret.
impl fmt::Debug for AgentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSpec")
            .field("name", &self.name)
            .field("model", &self.model)
            .field("runner", &self.runner)
            .field("deps", &self.deps)
            .field("output", &self.output)
            .field("tools", &self.tools)
            .field("limits", &self.limits)
            .field("approvals", &self.approvals)
            .field("conversation", &self.conversation)
            .field("fallback", &self.fallback)
            .field("supervision", &self.supervision)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
