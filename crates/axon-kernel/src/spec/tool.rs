//! A tool: what the model sees, and what is called.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{AgentName, PythonTarget, ToolName};
use crate::flow::Target;
use crate::schema::Schema;

/// What a call of a tool may have done to the world, and so whether it may be repeated.
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
pub enum Effect {
    /// Reads only: may be repeated at will.
    Pure,
    /// Writes, but the same call twice is the same as once: may be repeated.
    Idempotent,
    /// Writes: never repeated unless a person or a rule decides so.
    #[default]
    Once,
}

impl Effect {
    /// Returns whether a call whose end is unknown may be made again.
    #[must_use]
    pub fn may_repeat(self) -> bool {
        match self {
            Self::Pure | Self::Idempotent => true,
            Self::Once => false,
        }
    }

    /// Returns the name used in files and on the wire.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Idempotent => "idempotent",
            Self::Once => "once",
        }
    }
}

/// What a run does about a call with effect `once` of which nobody knows whether it took effect,
/// and of which no `reconcile` function knows either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// It waits for a person.
    #[default]
    Ask,
    /// It makes the call again, under the same idempotency key.
    Retry,
    /// It takes the call for made, with the result `null`.
    Skip,
    /// It ends with a failure.
    Fail,
}

impl OnAmbiguous {
    /// Returns the name used in files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

/// What a tool calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolTarget {
    /// A Python function, called in the runner.
    Python(PythonTarget),
    /// A Rust function that the service registered under this name.
    Rust(ToolName),
    /// Another agent, which gets the message and gives its output.
    Agent(AgentName),
    /// One of these, which goes on with the run in this agent's place; a person answers, and this
    /// agent goes on.
    Handoff(Vec<Target>),
    /// The tool of this name that the agent defined in Python brings itself.
    Own,
}

/// The name of the tool with which a model hands its run on.
pub const HAND_OFF: &str = "hand_off";

/// One tool of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// The name that the model sees.
    pub name: ToolName,
    /// What the tool does, for the model; a Python tool's docstring serves where this is missing.
    pub description: Option<String>,
    /// What is called.
    pub target: ToolTarget,
    /// What a call may have done to the world.
    pub effect: Effect,
    /// What happens when nobody knows whether a call with effect `once` took effect.
    pub on_ambiguous: OnAmbiguous,
    /// The Python function that may know whether such a call took effect; it is asked first.
    pub reconcile: Option<PythonTarget>,
    /// The schema of the arguments; derived from the function where this is missing.
    pub parameters: Option<Schema>,
    /// Whether the provider is to enforce the schema while it generates.
    pub strict: Option<bool>,
    /// Whether calls of one response wait for each other.
    pub sequential: bool,
    /// How long one call may take.
    pub timeout: Option<Duration>,
    /// How often the model may be asked to correct a call.
    pub max_retries: Option<u32>,
    /// Whether a person must approve each call.
    pub requires_approval: bool,
}

impl ToolSpec {
    /// Returns what the model is told that the tool does; of another agent at least its name.
    pub(super) fn described(&self) -> Option<String> {
        let named = || match &self.target {
            ToolTarget::Agent(agent) => Some(format!("Asks the agent `{agent}`.")),
            ToolTarget::Handoff(_) => Some(
                "Hands the conversation to somebody who is better placed to answer. An agent goes \
                 on in your place; the answer of `human`, a person, comes back to you."
                    .to_owned(),
            ),
            ToolTarget::Python(_) | ToolTarget::Rust(_) | ToolTarget::Own => None,
        };
        self.description.clone().or_else(named)
    }

    /// Returns the schema of the arguments as the model gets it; another agent is asked in text
    /// unless the definition says otherwise.
    pub(super) fn wire_parameters(&self) -> Option<Value> {
        let asked = || match &self.target {
            ToolTarget::Agent(_) => Some(json!({
                "type": "object",
                "properties": {
                    "prompt": {
                        "type": "string",
                        "description": "What to ask, with everything that has to be known for it",
                    },
                },
                "required": ["prompt"],
                "additionalProperties": false,
            })),
            ToolTarget::Handoff(targets) => Some(json!({
                "type": "object",
                "properties": {
                    "to": {
                        "enum": targets.iter().map(Target::name).collect::<Vec<_>>(),
                        "description": "Who goes on",
                    },
                    "reason": {
                        "type": "string",
                        "description": "Why, and what has to be done; of a person: the question",
                    },
                },
                "required": ["to", "reason"],
                "additionalProperties": false,
            })),
            ToolTarget::Python(_) | ToolTarget::Rust(_) | ToolTarget::Own => None,
        };
        self.parameters.as_ref().map(|schema| schema.raw().clone()).or_else(asked)
    }

    /// Returns the schema of the arguments, as far as it is known here: as the definition has it, and
    /// of another agent as the model gets it.
    #[must_use]
    pub fn arguments(&self) -> Option<Schema> {
        self.parameters.clone().or_else(|| Schema::new(self.wire_parameters()?).ok())
    }

    /// Returns whether the definition lets the model choose the deps of the agent that it asks.
    #[must_use]
    pub fn takes_deps(&self) -> bool {
        let properties = self.parameters.as_ref().and_then(|schema| schema.raw().get("properties"));
        properties.is_some_and(|properties| properties.get("deps").is_some())
    }

    /// Makes the tool with which a model hands its run on to one of `targets`.
    ///
    /// # Panics
    ///
    /// Never: the name is one.
    #[must_use]
    pub fn hand_off(targets: Vec<Target>) -> Self {
        let name = ToolName::try_from(HAND_OFF).expect("the name keeps the rule of names");
        let effect = Effect::Idempotent;
        Self { effect, ..Self::new(name, ToolTarget::Handoff(targets)) }
    }

    /// Makes a tool with every other property at its default.
    #[must_use]
    pub fn new(name: ToolName, target: ToolTarget) -> Self {
        Self {
            name,
            description: None,
            target,
            effect: Effect::default(),
            on_ambiguous: OnAmbiguous::default(),
            reconcile: None,
            parameters: None,
            strict: None,
            sequential: false,
            timeout: None,
            max_retries: None,
            requires_approval: false,
        }
    }
}
