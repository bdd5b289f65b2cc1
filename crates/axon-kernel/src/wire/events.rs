//! The events of one attempt, as the runner streams them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::StatePatch;
use crate::failure::Failure;
use crate::ids::{Attempt, Generation, MessageId, ToolCallId};
use crate::json::RawJson;
use crate::spec::Effect;

/// One event of an attempt: the server-sent event's name decides the variant.
#[derive(Clone, Debug, PartialEq)]
pub enum RunnerEvent {
    /// Always the first.
    AttemptStarted(AttemptStarted),
    /// An event of pydantic-ai's own, verbatim.
    Model {
        /// pydantic-ai's `event_kind`.
        kind: String,
        /// The event.
        data: RawJson,
    },
    /// The structured output as far as it is known.
    PartialOutput(PartialOutput),
    /// A tool that runs in Rust is called.
    ToolRequest(ToolRequested),
    /// A tool request is no longer wanted.
    ToolRequestCancelled {
        /// The call.
        tool_call_id: ToolCallId,
    },
    /// A Python tool starts.
    ToolStarted(ToolStarted),
    /// A Python tool ended.
    ToolFinished(ToolFinished),
    /// An answer that Rust looks at before it is taken.
    OutputCheck(OutputCheck),
    /// A model is asked. Told of runs whose trace is told.
    ModelRequested(ModelRequested),
    /// A model has answered, or has not.
    ModelAnswered(ModelAnswered),
    /// What must be recorded before the runner goes on.
    Checkpoint(Checkpointed),
    /// A log record of the run.
    Log(LogRecord),
    /// Terminal: an output.
    Completed(AttemptCompleted),
    /// Terminal: calls wait for a person.
    Paused(AttemptPaused),
    /// Terminal: a failure.
    Failed(Box<AttemptFailed>),
    /// Terminal: cancelled.
    Cancelled(AttemptCancelled),
}

impl RunnerEvent {
    /// Reads the event `kind` with its data, one JSON text.
    ///
    /// A kind that is not Axon's own is one of pydantic-ai's and is carried on unread.
    ///
    /// # Errors
    ///
    /// [`UnknownEvent`] if `data` is not what the kind promises.
    pub fn read(kind: &str, data: &str) -> Result<Self, UnknownEvent> {
        let wrong = |source| UnknownEvent { kind: kind.to_owned(), source };
        crate::json::check_limits(data.as_bytes()).map_err(wrong)?;
        Self::parse(kind, data).map_err(|error| wrong(error.into()))
    }

    fn parse(kind: &str, data: &str) -> Result<Self, serde_json::Error> {
        use serde_json::from_str;
        Ok(match kind {
            "attempt_started" => Self::AttemptStarted(from_str(data)?),
            "partial_output" => Self::PartialOutput(from_str(data)?),
            "tool_request" => Self::ToolRequest(from_str(data)?),
            "tool_request_cancelled" => {
                let CallOnly { tool_call_id } = from_str(data)?;
                Self::ToolRequestCancelled { tool_call_id }
            }
            "tool_started" => Self::ToolStarted(from_str(data)?),
            "tool_finished" => Self::ToolFinished(from_str(data)?),
            "output_check" => Self::OutputCheck(from_str(data)?),
            "model_request_started" => Self::ModelRequested(from_str(data)?),
            "model_request_finished" => Self::ModelAnswered(from_str(data)?),
            "checkpoint" => Self::Checkpoint(from_str(data)?),
            "log" => Self::Log(from_str(data)?),
            "attempt_completed" => Self::Completed(from_str(data)?),
            "attempt_paused" => Self::Paused(from_str(data)?),
            "attempt_failed" => Self::Failed(from_str(data)?),
            "attempt_cancelled" => Self::Cancelled(from_str(data)?),
            _ => Self::Model { kind: kind.to_owned(), data: from_str(data)? },
        })
    }

    /// Returns whether nothing may follow this event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Paused(_) | Self::Failed(_) | Self::Cancelled(_))
    }
}

#[derive(Deserialize)]
struct CallOnly {
    tool_call_id: ToolCallId,
}

/// What must be recorded before the runner goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// The recorded messages are truncated to this length first.
    pub base: usize,
    /// Then these are appended.
    pub messages: Vec<RawJson>,
    /// What the run has used.
    pub usage: RawJson,
    /// What comes next.
    pub before: Before,
    /// The messages to the live run that no earlier checkpoint had and that are in these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivered: Vec<MessageId>,
}

/// What a runner does after a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// A model request: it waits for a permit.
    Model,
    /// A batch of tool calls: it waits for a permit.
    Tools,
    /// The attempt's end: it does not wait.
    End,
}

/// The first event of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptStarted {
    /// The attempt.
    pub attempt: Attempt,
    /// The runner's generation.
    pub generation: Generation,
    /// The model's name.
    #[serde(default)]
    pub model: String,
    /// The provider's name.
    #[serde(default)]
    pub provider: Option<String>,
    /// Whether the model only plays one.
    #[serde(default)]
    pub offline: bool,
}

/// The structured output as far as it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartialOutput {
    /// The incomplete value.
    pub value: RawJson,
}

/// A call of a tool that runs in Rust.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolRequested {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The index of the model response that asked, where adjacent requests count as one message:
    /// the same in every attempt.
    pub step: u32,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    pub args: RawJson,
    /// How often the model was asked again.
    #[serde(default)]
    pub retry: u32,
    /// How often it may be asked again.
    #[serde(default)]
    pub max_retries: u32,
    /// Whether a person approved the call.
    #[serde(default)]
    pub approved: bool,
    /// Seconds that the tool has.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// The span that is under way where the call comes from, as W3C's `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A model is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRequested {
    /// The request's span, which is its `traceparent` for the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// The provider, by pydantic-ai's name.
    pub provider: String,
    /// The model, by the provider's name.
    pub model: String,
    /// What it is asked, as the conventions for GenAI write messages; only where that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// How many older messages are left out there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted_messages: Option<u64>,
}

/// A model has answered, or has not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelAnswered {
    /// The provider that answered, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider's name of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    /// Why the model ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens that the model read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens that it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Those that it read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// The kind of the failure, if there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer, written as in [`ModelRequested::messages`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
}

/// An answer that fits its schema, for the validators that Rust has. They answer as a tool does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputCheck {
    /// What the answer to it is known by, in the place of a tool call.
    pub check_id: ToolCallId,
    /// The answer.
    pub output: RawJson,
    /// How often the model was asked to correct it.
    #[serde(default)]
    pub retry: u32,
    /// How often it may be asked to.
    #[serde(default)]
    pub max_retries: u32,
}

/// A Python tool starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolStarted {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The index of the model response that asked, where adjacent requests count as one message:
    /// the same in every attempt.
    #[serde(default)]
    pub step: u32,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    #[serde(default = "RawJson::null")]
    pub args: RawJson,
    /// What repeating the call would do.
    pub effect: Effect,
    /// Whether the runner waits for a permit before it calls.
    #[serde(default)]
    pub permit: bool,
    /// The call's span, which what the tool asks of others names as its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
}

/// A Python tool ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolFinished {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The index of the model response that asked.
    #[serde(default)]
    pub step: u32,
    /// The tool's name.
    pub name: String,
    /// `ok`, `retry`, `failed` or `deferred`.
    #[serde(default)]
    pub outcome: String,
    /// What it returned.
    #[serde(default = "RawJson::null")]
    pub result: RawJson,
    /// Whether the result was recorded earlier and the tool not called.
    #[serde(default)]
    pub recorded: bool,
    /// What it changed in the state that the run carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StatePatch>,
}

/// A log record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The Python logger's name.
    #[serde(default)]
    pub logger: String,
    /// The message.
    pub message: String,
    /// Structured fields.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// How many records were dropped before this one, because they came too fast.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_before: u64,
}

impl LogRecord {
    /// Returns the record with every text in it made another one: to take out what must not be told.
    #[must_use]
    pub fn map_texts(&self, map: &impl Fn(&str) -> String) -> Self {
        Self {
            level: self.level.clone(),
            logger: map(&self.logger),
            message: map(&self.message),
            fields: map_object(&self.fields, map),
            dropped_before: self.dropped_before,
        }
    }
}

fn map_object(
    object: &serde_json::Map<String, serde_json::Value>,
    map: &impl Fn(&str) -> String,
) -> serde_json::Map<String, serde_json::Value> {
    object.iter().map(|(name, value)| (map(name), map_value(value, map))).collect()
}

fn map_value(value: &serde_json::Value, map: &impl Fn(&str) -> String) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => map(text).into(),
        Value::Array(items) => items.iter().map(|item| map_value(item, map)).collect(),
        Value::Object(object) => map_object(object, map).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The end of an attempt with an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptCompleted {
    /// The output.
    pub output: RawJson,
    /// What the run has used.
    pub usage: RawJson,
    /// The model that answered, where it is not the one that the attempt started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The messages that the attempt added.
    #[serde(default)]
    pub new_messages: Vec<RawJson>,
    /// The messages to the live run that were taken and are in no checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<MessageId>,
}

/// The end of an attempt that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptPaused {
    /// The calls that wait.
    pub requests: RawJson,
    /// What the run has used.
    pub usage: RawJson,
    /// The messages that the attempt added.
    #[serde(default)]
    pub new_messages: Vec<RawJson>,
    /// The messages to the live run that were taken and are in no checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<MessageId>,
}

/// The end of an attempt by a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// The failure.
    pub error: Failure,
    /// What the run has used.
    #[serde(default)]
    pub usage: Option<RawJson>,
    /// The messages that the attempt added.
    #[serde(default)]
    pub new_messages: Vec<RawJson>,
    /// The messages to the live run that were taken and are in no checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<MessageId>,
}

/// The end of an attempt by a cancel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptCancelled {
    /// What the run has used.
    #[serde(default)]
    pub usage: Option<RawJson>,
    /// The messages that the attempt added.
    #[serde(default)]
    pub new_messages: Vec<RawJson>,
    /// The messages to the live run that were taken and are in no checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<MessageId>,
}

/// Why an event could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the runner's event `{kind}`")]
pub struct UnknownEvent {
    /// The event's name.
    pub kind: String,
    /// What was wrong with its data.
    #[source]
    pub source: crate::json::JsonError,
}
