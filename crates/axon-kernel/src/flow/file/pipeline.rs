//! The raw form of `pipeline.toml`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BalancedFile, ConditionFile, OnFailureFile, RepeatFile, SchemaTable, ScriptFile};
use crate::breaker::BreakerSettings;
use crate::flow::plan::{Join, StepName};
use crate::spec::file::{editor_schema, is_default};
use crate::spec::{AgentName, ApprovalsSpec, ConversationSpec, Limits, PromptName, Tag};

/// A `pipeline.toml` as it is written; [`PipelineFile::schema`] is for editors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "pipeline.toml")]
pub struct PipelineFile {
    /// What the pipeline is for, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words by which the pipeline is found beside its name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// What happens when a step has failed for good: the pipeline fails, too (`fail`), or others are
    /// asked instead, one after the other.
    #[serde(skip_serializing_if = "OnFailureFile::is_fail")]
    pub on_failure: OnFailureFile,
    /// What messages have to be like: any text where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<SchemaTable>,
    /// What callers give with each run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deps: Option<SchemaTable>,
    /// What answers have to be like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<SchemaTable>,
    /// The steps; the output of the last one is the pipeline's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepFile>,
    /// How much the pipeline may do.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// How long runs wait for a person, and what happens when nobody decides.
    #[serde(skip_serializing_if = "is_default")]
    pub approvals: ApprovalsSpec,
    /// How the turns of one conversation are kept apart.
    #[serde(skip_serializing_if = "is_default")]
    pub conversation: ConversationSpec,
    /// Anything, kept with each run.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl PipelineFile {
    /// Returns the JSON Schema of the file, in which a variable may stand for any text.
    #[must_use]
    pub fn schema() -> Value {
        editor_schema::<Self>()
    }
}

/// A step of a `pipeline.toml`. It does exactly one of `agent`, `human`, `rust`, `balance`, `choose`,
/// `parallel` and `steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// What expressions and templates of later steps know its output by.
    pub name: StepName,
    /// The agent, router or pipeline to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The question for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human: Option<ScriptFile>,
    /// The Rust function that works the output out of what came before, as the service registered
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rust: Option<PromptName>,
    /// Several that do the same, one of which is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalancedFile>,
    /// What is asked (what came before).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<ScriptFile>,
    /// What else those get who are asked: values whose texts are templates (the pipeline's own deps,
    /// as far as they fit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deps: Option<Value>,
    /// The steps that it waits for (the one before it in the list); none has it begin at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<StepName>>,
    /// When it is made at all: if not, its output is `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<ConditionFile>,
    /// An expression that gives a list: the step is made for each `item` of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<ScriptFile>,
    /// How many items are under way at the same time (8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub max_concurrency: Option<NonZeroU32>,
    /// How many items have to succeed, where those that fail are skipped (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<u32>,
    /// Until when it is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatFile>,
    /// How long an answer may take.
    #[serde(
        default,
        with = "crate::spec::duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub timeout: Option<Duration>,
    /// How often somebody is asked again who failed in a way that may heal (0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub retry: Option<u32>,
    /// When somebody who keeps failing is left alone, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// What happens when it has failed for good: the pipeline fails, too (`fail`), it is left out
    /// (`skip`), or others are asked instead, one after the other; `human` is a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailureFile>,
    /// Which branches it waits for: `all`, the `first` that succeeds, or so many (`all`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Several ways to go: the first one is gone whose condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choose: Option<Vec<ArmFile>>,
    /// Branches, which are made at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Vec<StepFile>>,
    /// Steps of its own; the output of the last one is its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepFile>>,
}

/// One of the ways to go of a step of a `pipeline.toml`. It does exactly one of what a step can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArmFile {
    /// When it is gone: always where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<ConditionFile>,
    /// The agent, router or pipeline to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The question for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<ScriptFile>,
    /// The Rust function that works the output out of what came before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust: Option<PromptName>,
    /// Several that do the same, one of which is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalancedFile>,
    /// What is asked (what came before).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<ScriptFile>,
    /// What else those get who are asked: values whose texts are templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deps: Option<Value>,
    /// How long an answer may take.
    #[serde(with = "crate::spec::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub timeout: Option<Duration>,
    /// How often somebody is asked again who failed in a way that may heal (0).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub retry: Option<u32>,
    /// When somebody who keeps failing is left alone, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// What happens when whoever is asked has failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailureFile>,
    /// Which branches it waits for (`all`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Several ways to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<Vec<ArmFile>>,
    /// Branches, which are made at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Vec<StepFile>>,
    /// Steps of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepFile>>,
}
