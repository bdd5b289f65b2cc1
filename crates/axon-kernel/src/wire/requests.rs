//! The bodies of the requests that Rust sends to a runner, and of its answers.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::StatePatch;
use crate::failure::Failure;
use crate::ids::{Attempt, ConversationId, Generation, MessageId, RunId, ToolCallId};
use crate::json::RawJson;
use crate::trace::TraceContext;

/// `POST /v1/runs`: start or resume one attempt of a run.
#[derive(Clone, Serialize, Deserialize)]
pub struct AttemptRequest {
    /// The run.
    pub run_id: RunId,
    /// The attempt, higher than every earlier one of the run.
    pub attempt: Attempt,
    /// The conversation that the run belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The prompt: text or parts; absent to resume from the history.
    pub prompt: Option<RawJson>,
    /// Whether model events are wanted.
    pub stream: bool,
    /// The agent's spec, as [`crate::spec::AgentSpec::to_wire`] gives it.
    pub spec: RawJson,
    /// The rendered instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What the caller gives to the tools and prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deps: Option<RawJson>,
    /// The recorded messages.
    #[serde(default)]
    pub message_history: Vec<RawJson>,
    /// Results of tool calls that finished already, as first returned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recorded: BTreeMap<ToolCallId, RawJson>,
    /// Decisions on calls that waited for a person: [`super::DeferredResults`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred_tool_results: Option<RawJson>,
    /// What the run has used so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RawJson>,
    /// Limits on what the run may use in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_limits: Option<RawJson>,
    /// Settings that override the spec's for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_settings: Option<RawJson>,
    /// Seconds until the attempt must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Free data of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    /// The state that the run carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RawJson>,
    /// The secrets in the deps, which must be in nothing that the runner tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// Shows nothing that may be secret.
impl fmt::Debug for AttemptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptRequest")
            .field("run_id", &self.run_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Where in which trace an attempt stands, as the headers of its request say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptTrace {
    /// The attempt's span: the header `traceparent`.
    pub context: TraceContext,
    /// Whether what models are asked and answer is a part of it: the header [`CONTENT_HEADER`].
    pub content: bool,
}

/// The header of the request for an attempt that asks for what models are asked and answer.
pub const CONTENT_HEADER: &str = "axon-trace-content";

/// `POST /v1/runs/{id}/permit`: the checkpoint is stored, go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitRequest {
    /// The attempt that asked.
    pub attempt: Attempt,
    /// The sequence number of the event that asked.
    pub seq: u64,
}

/// `POST /v1/runs/{id}/tool_results`: the answer to a tool request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolResultRequest {
    /// The attempt that asked.
    pub attempt: Attempt,
    /// The call that is answered.
    pub tool_call_id: ToolCallId,
    /// The answer.
    #[serde(flatten)]
    pub answer: ToolAnswer,
    /// What the call changed in the state that the run carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<StatePatch>,
    /// What the run of another agent has used that answers the call: this run counts it as its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RawJson>,
}

/// `POST /v1/runs/{id}/messages`: steer a live run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRequest {
    /// The attempt that shall get it.
    pub attempt: Attempt,
    /// The message; one that the attempt has already is not delivered twice.
    pub message_id: MessageId,
    /// What the user says: text or parts, as a prompt.
    pub content: RawJson,
    /// When the model shall get it.
    #[serde(default)]
    pub priority: MessagePriority,
}

/// When a message to a live run is delivered. Either keeps the run from ending before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessagePriority {
    /// With the next model request.
    #[default]
    Asap,
    /// When the run would end.
    WhenIdle,
}

/// How a tool that runs in Rust answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ToolAnswer {
    /// It returned a value.
    Ok {
        /// The value.
        content: serde_json::Value,
    },
    /// The model shall call again, better.
    Retry {
        /// What to tell the model.
        message: String,
    },
    /// The model is told that it failed.
    Failed {
        /// What to tell the model.
        message: String,
    },
    /// A person has to approve the call before it is made.
    NeedsApproval {
        /// What whoever decides has to know.
        metadata: serde_json::Value,
    },
    /// A person has to answer: the answer is the result of the call.
    NeedsAnswer {
        /// What whoever answers has to know.
        metadata: serde_json::Value,
    },
    /// The attempt ends as a `tool` failure.
    Error {
        /// What happened.
        message: String,
        /// The class of the error.
        #[serde(default)]
        kind: String,
        /// Whether another attempt may succeed.
        #[serde(default)]
        retryable: bool,
    },
}

/// `POST /v1/agents/validate`: build the agent only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValidateRequest {
    /// The agent's spec.
    pub spec: RawJson,
}

/// What a validated agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validated {
    /// The model as the runner resolved it.
    pub model: String,
    /// Whether it is a model that only plays one (a pydantic-ai `FunctionModel` or `TestModel`).
    pub offline: bool,
}

/// `POST /v1/tools/{target}/call`: run one registered Python tool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolCallRequest {
    /// The arguments, an object.
    pub args: RawJson,
    /// What the caller gives to the tool's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deps: Option<RawJson>,
    /// The call's identity, for tools that want an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<ToolCallId>,
}

/// What a directly called tool returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolCallResult {
    /// The value.
    pub result: RawJson,
}

/// The body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Why it was refused.
    pub error: Failure,
}

/// `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it takes requests.
    pub ok: bool,
    /// Its process id.
    pub pid: u32,
    /// Attempts under way.
    pub attempts: u32,
    /// The protocol's version.
    pub protocol: u32,
    /// The generation it was launched as.
    pub generation: Generation,
    /// Whether it finishes what it has and takes no attempt any more.
    #[serde(default)]
    pub draining: bool,
    /// What still runs in the process although nobody waits for it: a thread cannot be stopped.
    #[serde(default)]
    pub unfinished: Vec<Unfinished>,
}

/// A Python tool that runs on after its call was cancelled or timed out, or its attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The run; absent for a tool that was called directly.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// The call, of a tool that was called directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<ToolCallId>,
    /// The tool's name, or `user code` for what is no tool (instructions, validators).
    pub tool: String,
    /// For how many seconds it has been running.
    pub seconds: f64,
}
