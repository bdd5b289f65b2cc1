//! What an attempt does, step by step.

use std::io::{self, Write};

use axon_kernel::failure::Failure;
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::Effect;
use axon_kernel::wire::{Before, LogRecord, ToolFinished, ToolRequested, ToolStarted};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One step of an attempt.
///
/// A cancel or the attempt's timeout ends it at any step, except after [`Step::Freeze`]. Steps may
/// follow the terminal event: that is how a runner dies after its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A piece of the model's text. Left out when nobody listens (`"stream": false`).
    Text(String),
    /// A partial output. Left out when nobody listens.
    Partial(RawJson),
    /// A Python tool starts; with `permit` it waits for its permit. Nothing happens when the
    /// request carries a recorded result of the call.
    ToolStarted(ToolStarted),
    /// A Python tool ended. A result that the request has recorded is given instead.
    ToolFinished(ToolFinished),
    /// A tool begins that runs on when the attempt is over, which the runner's health tells.
    Unfinished(UnfinishedStep),
    /// Calls of Rust tools, made together; the step ends when all are answered. The attempt fails
    /// when one is answered with an error.
    ToolRequests(Vec<ToolRequested>),
    /// A checkpoint; before a model request or tool calls it waits for its permit.
    Checkpoint(CheckpointStep),
    /// A log record of the run.
    Log(LogRecord),
    /// An event of pydantic-ai's, as it is.
    Event(EventStep),
    /// Terminal: the last checkpoint and the output.
    Complete(CompleteStep),
    /// Terminal: a failure.
    Fail(Failure),
    /// Terminal: the last checkpoint and the calls that wait.
    Pause(RawJson),
    /// Waits until the attempt is cancelled.
    Hang,
    /// Waits for ever, whatever comes: neither a cancel nor the timeout ends the attempt.
    Freeze,
    /// Waits for milliseconds.
    SleepMs(u64),
    /// Ends the process, after what was said so far has been written.
    Die(Death),
    /// Text written into the stream as it is: a frame of one's own, or half of one.
    Raw(String),
    /// Bytes written into the stream as they are.
    Garbage(Vec<u8>),
    /// Ends the stream in good order, here.
    EndStream,
    /// Breaks the connection in the middle of the stream, here.
    BreakStream,
}

impl Step {
    /// Streams a piece of text; `{{prompt}}` and the like are filled in, as in every string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Streams a partial output.
    pub fn partial(value: impl Into<Value>) -> Self {
        Self::Partial(value.into().into())
    }

    /// Starts a Python tool; one whose effect is `once` waits for its permit.
    pub fn tool_started(id: &str, tool: &str, effect: Effect) -> Self {
        Self::ToolStarted(ToolStarted {
            tool_call_id: ToolCallId::new(id),
            step: 1,
            name: tool.to_owned(),
            args: Value::Object(serde_json::Map::new()).into(),
            effect,
            permit: effect == Effect::Once,
            span_id: None,
        })
    }

    /// Ends a Python tool well.
    pub fn tool_finished(id: &str, tool: &str, result: impl Into<Value>) -> Self {
        Self::ToolFinished(ToolFinished {
            tool_call_id: ToolCallId::new(id),
            step: 1,
            name: tool.to_owned(),
            outcome: "ok".to_owned(),
            result: result.into().into(),
            recorded: false,
            state: None,
        })
    }

    /// Begins a tool that runs on when the attempt is over, for ever.
    pub fn unfinished(tool: impl Into<String>) -> Self {
        Self::Unfinished(UnfinishedStep { tool: tool.into(), for_ms: None })
    }

    /// Calls a Rust tool; `{{result.ID}}` is its answer in later steps.
    pub fn tool_request(id: &str, tool: &str, args: impl Into<Value>) -> Self {
        Self::tool_requests([(id, tool, args.into())])
    }

    /// Calls Rust tools together: each with its id, its name and its arguments.
    pub fn tool_requests<'a>(calls: impl IntoIterator<Item = (&'a str, &'a str, Value)>) -> Self {
        let request = |(id, tool, args): (&str, &str, Value)| ToolRequested {
            tool_call_id: ToolCallId::new(id),
            step: 1,
            name: tool.to_owned(),
            args: args.into(),
            retry: 0,
            max_retries: 1,
            approved: false,
            timeout: None,
            traceparent: None,
        };
        Self::ToolRequests(calls.into_iter().map(request).collect())
    }

    /// Has `messages` recorded, appended to what is recorded already.
    pub fn checkpoint(before: Before, messages: impl IntoIterator<Item = Value>) -> Self {
        let messages = messages.into_iter().map(RawJson::from).collect();
        Self::Checkpoint(CheckpointStep {
            before,
            messages: Some(messages),
            base: None,
            usage: None,
        })
    }

    /// Logs at level `info`.
    pub fn log(message: impl Into<String>) -> Self {
        Self::Log(LogRecord {
            level: "info".to_owned(),
            logger: "scripted".to_owned(),
            message: message.into(),
            fields: serde_json::Map::new(),
            dropped_before: 0,
        })
    }

    /// Sends an event of pydantic-ai's.
    pub fn event(kind: impl Into<String>, data: impl Into<Value>) -> Self {
        Self::Event(EventStep { kind: kind.into(), data: data.into().into() })
    }

    /// Ends well with `output`.
    pub fn complete(output: impl Into<Value>) -> Self {
        let output = output.into().into();
        Self::Complete(CompleteStep { output, messages: None, usage: None })
    }

    /// Ends with calls that wait for a person.
    pub fn pause(requests: impl Into<Value>) -> Self {
        Self::Pause(requests.into().into())
    }
}

/// A tool that runs on when the attempt is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedStep {
    /// Its name.
    pub tool: String,
    /// For how many milliseconds from this step on it runs. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStep {
    /// What comes next.
    pub before: Before,
    /// What is appended. Absent: the prompt, unless a checkpoint of the attempt had it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<RawJson>>,
    /// To what length the recorded messages are truncated first. Absent: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<usize>,
    /// What the run has used. Absent: what it had used before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RawJson>,
}

/// An event of pydantic-ai's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventStep {
    /// Its `event_kind`.
    pub kind: String,
    /// The event.
    pub data: RawJson,
}

/// The end of an attempt with an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompleteStep {
    /// The output.
    pub output: RawJson,
    /// What the last checkpoint appends. Absent: the prompt where it is not recorded, and the
    /// output as a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<RawJson>>,
    /// What the run has used. Absent: what it had used before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RawJson>,
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// By exit or by signal: `"code": 3` or `"signal": 9`.
    #[serde(flatten)]
    pub by: DeathBy,
    /// What it writes to its standard error just before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

/// What ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathBy {
    /// It exits.
    Code(i32),
    /// It sends itself a signal. 19, SIGSTOP, leaves a process that is there and does nothing.
    Signal(i32),
}

impl Death {
    /// Exits with `code`.
    #[must_use]
    pub fn code(code: i32) -> Self {
        Self { by: DeathBy::Code(code), stderr: String::new() }
    }

    /// Dies of the signal `number`.
    #[must_use]
    pub fn signal(number: i32) -> Self {
        Self { by: DeathBy::Signal(number), stderr: String::new() }
    }

    /// Writes `words` and a line feed to the standard error first.
    #[must_use]
    pub fn saying(mut self, words: impl Into<String>) -> Self {
        self.stderr = words.into();
        self
    }

    /// Ends this process; returns only when the signal did not end it.
    pub(super) fn die(&self) {
        if !self.stderr.is_empty() {
            let _nobody_listens = writeln!(io::stderr(), "{}", self.stderr);
        }
        match self.by {
            DeathBy::Code(code) => std::process::exit(code),
            DeathBy::Signal(number) => {
                let Some(signal) = Signal::from_named_raw(number) else { return };
                let _cannot_fail = kill_process(getpid(), signal);
                if [Signal::SEGV, Signal::BUS].contains(&signal) {
                    // Rust's own handler took the first one and restored the default.
                    let _cannot_fail = kill_process(getpid(), signal);
                }
            }
        }
    }
}

impl From<Death> for Step {
    fn from(death: Death) -> Self {
        Self::Die(death)
    }
}

impl From<Failure> for Step {
    fn from(failure: Failure) -> Self {
        Self::Fail(failure)
    }
}
