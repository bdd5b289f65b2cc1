//! The events of a run: what a caller sees, and what the store keeps.

mod delegated;
mod durable;
mod pause;
mod resolution;
mod state;

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::failure::Failure;
use crate::ids::{Attempt, ConversationId, Generation, MessageId, RunId, ToolCallId};
use crate::json::RawJson;
use crate::policy::Decision;
use crate::spec::{AgentName, Effect, Kind, ModelName, PythonTarget};
use crate::time::Timestamp;
use crate::trace::TraceContext;

pub use delegated::{Continues, Delegated, Envelope, Parent};
pub use pause::{Expiry, PauseReason, Paused};
pub use resolution::Resolution;
pub use state::{StateChanged, StatePatch};

/// One event with its place in its run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sequenced {
    /// The run.
    pub run_id: RunId,
    /// The place: from 1, rising. It has a gap where another process took the run over, and where
    /// something could not be recorded.
    pub seq: u64,
    /// The attempt that it belongs to; 0 before the first one.
    pub attempt: Attempt,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

// Flattened events cannot be read by serde either: the place is read first, then the event.
impl<'de> Deserialize<'de> for Sequenced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let raw = RawJson::deserialize(deserializer)?;
        let Place { run_id, seq, attempt, at } = raw.decode().map_err(D::Error::custom)?;
        let event = raw.decode().map_err(D::Error::custom)?;
        Ok(Self { run_id, seq, attempt, at, event })
    }
}

#[derive(Deserialize)]
struct Place {
    run_id: RunId,
    seq: u64,
    attempt: Attempt,
    at: Timestamp,
}

macro_rules! run_events {
    ($($(#[$doc:meta])* $variant:ident($body:ident) $name:literal;)*) => {
        /// What happened in a run.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "event", rename_all = "snake_case")]
        pub enum RunEvent {
            $($(#[$doc])* $variant($body),)*
        }

        impl RunEvent {
            /// Returns the event's name, the value of its `event` field.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }
        }

        // Raw JSON cannot be read through serde's own tagged enums, which buffer: the tag is read
        // first, and then the one variant from the text itself.
        impl<'de> Deserialize<'de> for RunEvent {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                let raw = RawJson::deserialize(deserializer)?;
                let Head { event } = raw.decode().map_err(D::Error::custom)?;
                match event.as_str() {
                    $($name => raw.decode().map(Self::$variant).map_err(D::Error::custom),)*
                    _ => Err(D::Error::unknown_variant(&event, &[$($name),*])),
                }
            }
        }
    };
}

#[derive(Deserialize)]
struct Head {
    event: String,
}

run_events! {
    /// The run was taken on; from here on it ends exactly once.
    Accepted(Accepted) "accepted";
    /// The run left the queue.
    Started(Started) "started";
    /// A runner began an attempt.
    AttemptStarted(AttemptBegun) "attempt_started";
    /// The run was told something more while it was under way.
    Steered(Steered) "steered";
    /// Text of the answer.
    TextDelta(TextDelta) "text_delta";
    /// Text of the model's thinking.
    ThinkingDelta(TextDelta) "thinking_delta";
    /// The structured output as far as it is known.
    PartialOutput(PartialValue) "partial_output";
    /// A tool was called.
    ToolCalled(ToolCalled) "tool_called";
    /// A tool tells how far its call is.
    ToolProgress(ToolProgress) "tool_progress";
    /// A tool call ended.
    ToolReturned(ToolReturned) "tool_returned";
    /// A tool changed the state that the run carries.
    StateChanged(StateChanged) "state_changed";
    /// The model handed the run on: another agent goes on with it behind the next checkpoint.
    HandedOff(HandedOff) "handed_off";
    /// Something happened in a run that answers a tool call of this one.
    Delegated(Delegated) "delegated";
    /// An event of pydantic-ai's that has no name of its own here.
    Model(ModelEvent) "model";
    /// A log record from the runner.
    Log(LogLine) "log";
    /// Messages were recorded; a later attempt resumes from here.
    Checkpoint(Checkpoint) "checkpoint";
    /// An attempt failed.
    AttemptFailed(AttemptFailure) "attempt_failed";
    /// What was decided after a failure.
    Decided(Decided) "decided";
    /// What an attempt had shown since its last checkpoint is void.
    Retracted(Retracted) "retracted";
    /// The run waits for a person.
    Paused(Paused) "paused";
    /// Somebody decided about a call that a paused run waits for.
    Resolved(Resolved) "resolved";
    /// The run goes on after a pause.
    Resumed(Resumed) "resumed";
    /// A process took over a run whose own had gone. Recorded before anything else is tried.
    Recovered(Recovered) "recovered";
    /// Terminal: the validated output.
    Completed(Completed) "completed";
    /// Terminal: a failure.
    Failed(Failed) "failed";
    /// Terminal: cancelled.
    Cancelled(Cancelled) "cancelled";
    /// Terminal: it never started.
    Rejected(Failed) "rejected";
}

impl RunEvent {
    /// Returns whether the run has ended with this event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Completed(_) | Self::Failed(_) | Self::Cancelled(_) | Self::Rejected(_)
        )
    }

    /// Returns whether the store keeps this event. Deltas, partial outputs and log lines pass by:
    /// the final text stands in the checkpoint.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        !matches!(
            self,
            Self::TextDelta(_)
                | Self::ThinkingDelta(_)
                | Self::PartialOutput(_)
                | Self::Model(_)
                | Self::Log(_)
                | Self::ToolProgress(_)
                | Self::Delegated(_)
        )
    }
}

/// What was taken on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The agent.
    pub agent: AgentName,
    /// The conversation, if the run is a turn of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The prompt.
    pub prompt: RawJson,
    /// What the caller gave to tools and prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deps: Option<RawJson>,
    /// Everything else that another process needs to go on with the run.
    #[serde(default)]
    pub terms: RunTerms,
}

/// How a run was asked for, beside its prompt and deps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunTerms {
    /// What answers: an agent, a router or a pipeline.
    #[serde(skip_serializing_if = "is_agent")]
    pub kind: Kind,
    /// Milliseconds that it may take, from its acceptance on.
    pub timeout_ms: u64,
    /// The digest of the agent's definition, by which a changed one is known.
    pub definition: String,
    /// The Python object that the agent is, if it is one: perhaps no file describes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<PythonTarget>,
    /// Whether somebody wanted the events as they came.
    pub stream: bool,
    /// The instructions, as they were rendered for this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The model that was asked in place of the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Settings that override the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_settings: Option<RawJson>,
    /// pydantic-ai's usage limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_limits: Option<RawJson>,
    /// Free data of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    /// The history that the caller gave, in place of a conversation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RawJson>>,
    /// The conversation whose history it continues without being a turn of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// The state that the run began with; what became of it, the record tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<RawJson>,
    /// Whether the deps hold secrets, which are not on record: whoever goes on gives them again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secrets: bool,
    /// The run whose tool call this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The tools whose calls were approved beforehand.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub approve: BTreeSet<String>,
    /// The span in whose trace the run stands, of whoever asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Box<TraceContext>>,
}

fn is_agent(kind: &Kind) -> bool {
    *kind == Kind::Agent
}

/// The run left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// Milliseconds it waited.
    pub queued_ms: u64,
}

/// A runner began an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptBegun {
    /// The generation of the runner that makes it.
    pub generation: Generation,
    /// The model's name.
    pub model: String,
    /// Whether the model only plays one: nobody may take its answer for advice.
    pub offline: bool,
}

/// A message for a run under way, which its model sees with the next request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Steered {
    /// The message.
    pub message_id: MessageId,
    /// What it says: text or parts, as a prompt.
    pub content: RawJson,
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextDelta {
    /// The text to append.
    pub text: String,
}

/// A value that is not complete yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartialValue {
    /// The value so far.
    pub value: RawJson,
}

/// A tool was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCalled {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    pub args: RawJson,
    /// What repeating the call would do.
    pub effect: Effect,
    /// The index of the model response that asked: with the run and the call, this is the
    /// idempotency key, which is the same over all attempts.
    #[serde(default)]
    pub step: u32,
}

/// A tool tells how far its call is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolProgress {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub name: String,
    /// What it tells.
    pub data: RawJson,
}

/// A tool call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolReturned {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub name: String,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// What it returned, or what the model was told.
    pub result: RawJson,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It returned.
    Ok,
    /// The model was asked to call again.
    Retry,
    /// The model was told that it failed.
    Failed,
    /// It was not made: it asked for an approval or an answer first, and did nothing else.
    Deferred,
}

impl ToolOutcome {
    /// Returns whether the tool did what it does, or may have.
    #[must_use]
    pub fn was_made(self) -> bool {
        match self {
            Self::Ok | Self::Retry | Self::Failed => true,
            Self::Deferred => false,
        }
    }
}

/// The model handed the run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandedOff {
    /// The call with which it did.
    pub tool_call_id: ToolCallId,
    /// Who goes on.
    pub to: AgentName,
    /// The digest of that agent's definition.
    #[serde(default)]
    pub definition: String,
    /// Why, in the model's words.
    pub reason: String,
}

/// An event of pydantic-ai's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelEvent {
    /// pydantic-ai's `event_kind`.
    pub kind: String,
    /// The event.
    pub data: RawJson,
}

/// A log record from the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The Python logger.
    pub logger: String,
    /// The message.
    pub message: String,
}

/// Messages were recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// The recorded messages are truncated to this length first.
    pub base: usize,
    /// Then these are appended.
    pub messages: Vec<RawJson>,
    /// What the run has used so far.
    pub usage: RawJson,
    /// The messages to the run under way that no earlier checkpoint had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivered: Vec<MessageId>,
    /// Whether the agent goes on from here that the run was handed to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hands_on: bool,
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptFailure {
    /// Why.
    pub failure: Failure,
}

/// What was decided after a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Why.
    pub reason: String,
}

/// What an attempt had shown is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retracted {}

/// What was decided about one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// What was decided.
    pub resolution: Resolution,
    /// Who or what decided.
    #[serde(default)]
    pub by: String,
}

impl Resolved {
    /// Returns who said what, where the decision was about a call that another agent answers and was
    /// handed on to that one: here the call only goes on.
    #[must_use]
    pub fn handed_on(&self) -> Option<(&str, &str)> {
        let inner = self.by.strip_suffix(", handed on)")?;
        let (by, said) = inner.rsplit_once('(')?;
        Some((by.trim_end(), said))
    }
}

/// The run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// Milliseconds that it may take from here on: its clock stood while it waited.
    #[serde(default)]
    pub timeout_ms: u64,
    /// The digest of the definition that it goes on with, if somebody allowed another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// Another process took the run over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// After how many of its attempts the process had gone, since the run last got any further.
    pub recoveries: u32,
    /// Milliseconds that it may take from here on, if somebody asked for more; else its old
    /// deadline holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The digest of the definition that it goes on with, if somebody allowed another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// The validated output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completed {
    /// The output.
    pub output: RawJson,
    /// What the run used: requests, tokens, tool calls.
    pub usage: RawJson,
    /// The model that answered.
    pub model: String,
    /// Whether the model only plays one.
    pub offline: bool,
    /// How many attempts it took.
    pub attempts: u32,
    /// Milliseconds from acceptance to here.
    pub duration_ms: u64,
}

/// The run failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The last failure.
    pub failure: Failure,
    /// What was tried before it was given up, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// Whether the failure was handed to whoever asked, because it cannot heal by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub escalated: bool,
}

/// The run was cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Who or what cancelled it.
    pub reason: String,
}

/// Returns `duration` in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_with_raw_json_survive_a_round_trip() {
        let event = RunEvent::Checkpoint(Checkpoint {
            base: 2,
            messages: vec![RawJson::parse(r#"{"n":123456789012345678901234567890}"#).unwrap()],
            usage: RawJson::parse(r#"{"requests":1}"#).unwrap(),
            delivered: Vec::new(),
            hands_on: false,
        });
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.starts_with(r#"{"event":"checkpoint","#), "{text}");
        assert_eq!(serde_json::from_str::<RunEvent>(&text).unwrap(), event);
    }

    #[test]
    fn sequenced_events_are_one_flat_object() {
        let event = Sequenced {
            run_id: RunId::new("r1"),
            seq: 3,
            attempt: Attempt(1),
            at: Timestamp(5),
            event: RunEvent::TextDelta(TextDelta { text: "hi".into() }),
        };
        let line = serde_json::to_string(&event).unwrap();
        let expected =
            r#"{"run_id":"r1","seq":3,"attempt":1,"at":5,"event":"text_delta","text":"hi"}"#;
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Sequenced>(&line).unwrap(), event);
    }

    #[test]
    fn unknown_events_are_refused_by_name() {
        let error = serde_json::from_str::<RunEvent>(r#"{"event":"teapot"}"#).unwrap_err();
        assert!(error.to_string().contains("teapot"));
    }
}
