//! The raw form of `agent.toml`: what may be written, before files are read and rules are checked.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema as FormSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::{
    AgentName, ApprovalsSpec, ConversationSpec, Effect, EndStrategy, EnvName, Fallback,
    InstructionsFile, LauncherMode, Limits, ModelName, OnAmbiguous, OutputMode, PolicyRule,
    ProviderSpec, PythonTarget, Recycle, Retries, RunnerLimits, SchemaSource, Supervision, Tag,
    ToolName,
};
use crate::failure::{FailureKind, KIND_TABLE};

/// An `agent.toml` as it is written; [`AgentFile::schema`] is for editors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "agent.toml")]
pub struct AgentFile {
    /// What the agent is for, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Any pydantic-ai model string, or `python:module:attribute` for an object of the agent's own
    /// package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// A minijinja template, rendered anew for each run, with `deps`, `run` and `agent`; or a list
    /// of templates and functions of the service, `{ rust = "name" }`, in order.
    #[serde(skip_serializing_if = "InstructionsFile::is_empty")]
    pub instructions: InstructionsFile,
    /// Python functions that give further instructions before each model request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dynamic_instructions: Vec<PythonTarget>,
    /// How often the model is asked again: one number, or one each for `tools` and `output`.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// What happens to tool calls beside a final answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_strategy: Option<EndStrategy>,
    /// How long one call of a tool may take that names no time of its own.
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub tool_timeout: Option<Duration>,
    /// Settings handed to the model as they are.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub model_settings: Map<String, Value>,
    /// pydantic-ai's capabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Value>,
    /// Where the model's provider is reached, if not at its usual place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderSpec>,
    /// The process that runs the agent.
    #[serde(skip_serializing_if = "is_default")]
    pub runner: RunnerFile,
    /// What callers give with each run.
    #[serde(skip_serializing_if = "is_default")]
    pub deps: DepsFile,
    /// The answer; plain text where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputFile>,
    /// The tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolFile>,
    /// To whom the model may hand a run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handoff: Option<HandoffFile>,
    /// How much the agent may do.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// How long runs wait for a person, and what happens when nobody decides.
    #[serde(skip_serializing_if = "is_default")]
    pub approvals: ApprovalsSpec,
    /// How the turns of one conversation are kept apart.
    #[serde(skip_serializing_if = "is_default")]
    pub conversation: ConversationSpec,
    /// Who answers when the agent's own model cannot.
    #[serde(skip_serializing_if = "is_default")]
    pub fallback: Fallback,
    /// How the runner is restarted.
    #[serde(skip_serializing_if = "is_default")]
    pub supervision: Supervision,
    /// What a run does about each class of failure, where that departs from the default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "policy_schema")]
    pub policy: BTreeMap<FailureKind, PolicyRule>,
    /// Words by which the agent is found beside its name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Anything, kept with each run.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl AgentFile {
    /// Returns the JSON Schema of the file, in which a variable may stand for any text.
    #[must_use]
    pub fn schema() -> Value {
        editor_schema::<Self>()
    }
}

/// Returns the JSON Schema of a file, in which a variable may stand for any text.
pub(crate) fn editor_schema<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T);
    let allow_variables = |schema: &mut FormSchema| {
        if let Some(Value::String(pattern)) = schema.get("pattern") {
            let pattern = format!(r"({pattern})|\$\{{");
            schema.insert("pattern".to_owned(), pattern.into());
        }
    };
    RecursiveTransform(allow_variables).transform(&mut schema);
    schema.to_value()
}

/// The `[runner]` of an `agent.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerFile {
    /// A `pydantic_ai.Agent` defined in Python: its tools, output and deps come from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<PythonTarget>,
    /// The Python interpreter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// Another program that speaks the runner protocol, with its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A runner that somebody else started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^https?://"))]
    pub url: Option<String>,
    /// The variable that holds the bearer token of the runner at `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<EnvName>,
    /// How many runners the agent has (1).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 64))]
    pub replicas: Option<NonZeroU32>,
    /// How a Python runner is started: `warm`, forked from a warm parent, or `cold`, from nothing
    /// (warm).
    #[serde(skip_serializing_if = "is_default")]
    pub launcher: LauncherMode,
    /// Variables of Axon's own environment that the runner gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_env: Vec<EnvName>,
    /// Variables that the runner gets with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvName, String>,
    /// An async context manager around the runner's whole life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifespan: Option<PythonTarget>,
    /// How long the runner may take to be ready (30s).
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub start_timeout: Option<Duration>,
    /// No sign of life from the runner for this long means that it is stuck (60s; at least 100ms).
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub heartbeat: Option<Duration>,
    /// How long a cancelled run may take to stop by itself before its runner is killed (1s).
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub cancel_grace: Option<Duration>,
    /// When a runner is replaced although it is well.
    #[serde(skip_serializing_if = "is_default")]
    pub recycle: Recycle,
    /// How much the process of one runner may use.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: RunnerLimits,
}

/// The `[deps]` of an `agent.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DepsFile {
    /// The JSON Schema of what callers give: in line, or the name of a file in the agent's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSource>,
    /// A Python function that turns it into the live object that tools get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factory: Option<PythonTarget>,
}

/// The `[output]` of an `agent.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// How the model is made to give it; `text` is plain text, of no schema.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: OutputMode,
    /// The JSON Schema, of any kind of value: in line, or the name of a file in the agent's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSource>,
    /// The name of the output, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ToolName>,
    /// What the output is, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether the provider is to enforce the schema while it generates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// The `[handoff]` of an `agent.toml`: the model gets a tool `hand_off`, and whom it names goes on
/// with the run, with its history and deps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffFile {
    /// Agents, and `human`: a person, whose answer comes back to this agent.
    #[schemars(length(min = 1, max = 64))]
    pub to: Vec<AgentName>,
    /// What the tool does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One of the `[[tools]]` of an `agent.toml`. It calls exactly one of `python`, `rust` and `agent`;
/// without any, it says more about a tool that the agent of `runner.module` brings itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFile {
    /// The name that the model sees.
    pub name: ToolName,
    /// What the tool does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The Python function to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonTarget>,
    /// The Rust function to call, as the service registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rust: Option<ToolName>,
    /// The agent to ask. It gets the deps of this agent's run, secrets and all, where it takes deps
    /// and these fit its schema; give `parameters` with a property `deps` to have the model choose
    /// them instead, beside the `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// What a call may have done to the world (`once`). It says nothing of a tool that asks an
    /// agent: what that one's own tools do counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effect: Effect,
    /// What happens when nobody knows whether a call with effect `once` took effect: `ask` a
    /// person, `retry` it, `skip` it as if it had returned nothing, or `fail` the run (`ask`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_ambiguous: OnAmbiguous,
    /// A Python function that finds out whether such a call took effect; it is asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<PythonTarget>,
    /// The JSON Schema of the arguments: in line, or the name of a file in the agent's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<SchemaSource>,
    /// Whether the provider is to enforce the schema while it generates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Whether calls of one response wait for each other.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sequential: bool,
    /// How long one call may take.
    #[serde(default, with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub timeout: Option<Duration>,
    /// How often the model may be asked to correct a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub max_retries: Option<u32>,
    /// Whether a person must approve each call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requires_approval: bool,
}

/// The two counts, as their table writes them.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Retries")]
struct RetriesTable {
    /// After a tool call that the model has to correct.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    tools: Option<u32>,
    /// After an output that breaks its schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    output: Option<u32>,
}

impl Serialize for Retries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RetriesTable { tools: self.tools, output: self.output }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Retries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Retries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of retries, or { tools = 2, output = 3 }")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Retries, E> {
                let count = u32::try_from(count)
                    .map_err(|_unsaid| E::invalid_value(de::Unexpected::Unsigned(count), &self))?;
                Ok(Retries { tools: Some(count), output: Some(count) })
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Retries, E> {
                let count = u64::try_from(count)
                    .map_err(|_unsaid| E::invalid_value(de::Unexpected::Signed(count), &self))?;
                self.visit_u64(count)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Retries, A::Error> {
                RetriesTable::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|table| Retries { tools: table.tools, output: table.output })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Retries {
    fn schema_name() -> Cow<'static, str> {
        "Retries".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> FormSchema {
        let table = RetriesTable::json_schema(generator);
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 100 }, table] })
    }
}

/// Returns the schema of `[policy]`: each kind of failure is a key.
fn policy_schema(generator: &mut SchemaGenerator) -> FormSchema {
    let rule = generator.subschema_for::<PolicyRule>();
    let kinds: Map<String, Value> =
        KIND_TABLE.iter().map(|row| (row.label.to_owned(), rule.clone().to_value())).collect();
    json_schema!({ "type": "object", "properties": kinds, "additionalProperties": false })
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
