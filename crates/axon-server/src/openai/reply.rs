//! An answer in OpenAI's shape.

use std::time::SystemTime;

use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::ChatError;
use crate::answer::Answer;

/// An answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    /// `chatcmpl-` and the run's identity.
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// When it was given, in seconds since the beginning of 1970.
    created: u64,
    /// The agent, router or pipeline.
    model: String,
    /// The one answer.
    choices: Vec<ChatChoice>,
    /// What the run used.
    usage: ChatUsage,
    /// What only Axon has.
    axon: ChatExtra,
}

/// The one answer of a run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    /// 0.
    index: u32,
    /// What was said.
    message: ChatMessage,
    /// `stop`.
    finish_reason: &'static str,
    /// Not known: null.
    #[schema(value_type = Option<Object>)]
    logprobs: Option<()>,
}

/// What was said.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// `assistant`.
    role: &'static str,
    /// The output: text, or its JSON.
    content: String,
    /// None: null.
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
}

/// What a run used, in OpenAI's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ChatUsage {
    /// Tokens that the model read.
    prompt_tokens: u64,
    /// Tokens that it wrote.
    completion_tokens: u64,
    /// Both.
    total_tokens: u64,
}

/// What only Axon has.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatExtra {
    /// The run.
    #[schema(value_type = String)]
    run_id: RunId,
    /// The model that answered.
    model: Option<String>,
    /// Whether that only plays one: then nobody may take the answer for advice.
    offline: bool,
}

impl ChatCompletion {
    /// Gives an answer OpenAI's shape; one without an output is an error there.
    pub(super) fn of(answer: Answer, agent: &str) -> Result<Self, ChatError> {
        if let Some(error) = ChatError::of_run(&answer) {
            return Err(error);
        }
        let message =
            ChatMessage { role: "assistant", content: text_of(&answer.output), refusal: None };
        let choice = ChatChoice { index: 0, message, finish_reason: "stop", logprobs: None };
        Ok(Self {
            id: id_of(&answer.run_id),
            object: "chat.completion",
            created: seconds(),
            model: agent.to_owned(),
            choices: vec![choice],
            usage: ChatUsage::of(&answer.usage),
            axon: ChatExtra::of(answer),
        })
    }
}

impl ChatExtra {
    pub(super) fn of(answer: Answer) -> Self {
        Self { run_id: answer.run_id, model: answer.model, offline: answer.offline }
    }
}

impl ChatUsage {
    /// Reads what pydantic-ai says of a run's usage.
    pub(super) fn of(usage: &RawJson) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Used {
            input_tokens: u64,
            output_tokens: u64,
        }

        let Used { input_tokens, output_tokens } = usage.decode().unwrap_or_default();
        Self {
            prompt_tokens: input_tokens,
            completion_tokens: output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
        }
    }
}

/// Returns an output as text: its own, or its JSON.
pub(super) fn text_of(output: &RawJson) -> String {
    match output.decode() {
        Ok(Value::String(text)) => text,
        Ok(_) | Err(_) => output.get().to_owned(),
    }
}

pub(super) fn id_of(run: &RunId) -> String {
    format!("chatcmpl-{run}")
}

/// Returns the seconds since the beginning of 1970.
pub(super) fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}
