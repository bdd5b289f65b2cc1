//! The raw form of `router.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ConditionFile, SchemaTable};
use crate::breaker::BreakerSettings;
use crate::flow::plan::{Balance, Join};
use crate::spec::file::{editor_schema, is_default};
use crate::spec::{AgentName, ApprovalsSpec, ConversationSpec, Limits, Tag};

/// A `router.toml` as it is written; [`RouterFile::schema`] is for editors. It says by exactly one
/// of `by`, `rules`, `balance` and `broadcast` to whom each message goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "router.toml")]
pub struct RouterFile {
    /// What the router is for, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words by which the router is found beside its name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// The agent that chooses who gets a message: it answers an object whose `to` names one of `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<AgentName>,
    /// Whom it can hand messages to: agents, routers, pipelines, and `human`, a person. Where there
    /// are `rules`, those say it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<AgentName>,
    /// By which rule messages are spread over those in `to`, who all do the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// Has all of those in `to` asked at the same time, and says whom it waits for: `all`, the
    /// `first` that succeeds, or so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Join>,
    /// Who is asked when the one that was chosen fails, or when no rule holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<AgentName>,
    /// Who is asked when that one fails, too; `human` is a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_escalate: Option<AgentName>,
    /// How long an answer may take.
    #[serde(with = "crate::spec::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub timeout: Option<Duration>,
    /// How often somebody is asked again who failed in a way that may heal (0).
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(max = 10))]
    pub retry: u32,
    /// When somebody who keeps failing is left alone, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// Rules: the first one that holds says who gets a message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleFile>,
    /// How single ones are asked, where that departs from the above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<AgentName, EdgeFile>,
    /// What messages have to be like: any text where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<SchemaTable>,
    /// What callers give with each run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deps: Option<SchemaTable>,
    /// What answers have to be like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<SchemaTable>,
    /// How much the router may do.
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

impl RouterFile {
    /// Returns the JSON Schema of the file, in which a variable may stand for any text.
    #[must_use]
    pub fn schema() -> Value {
        editor_schema::<Self>()
    }
}

/// One of the `[[rules]]` of a `router.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Who gets the message.
    pub to: AgentName,
    /// When.
    pub when: ConditionFile,
}

/// One of the `[edges]` of a `router.toml`: how one of those is asked whom messages go to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeFile {
    /// How long an answer may take.
    #[serde(with = "crate::spec::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub timeout: Option<Duration>,
    /// How often it is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub retry: Option<u32>,
    /// When it is left alone, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// Who is asked first when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<AgentName>,
}
