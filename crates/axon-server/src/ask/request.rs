//! What a run is asked with.

use std::collections::BTreeSet;
use std::time::Duration;

use axon_kernel::event::Accepted;
use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_runtime::{AgentHandle, RunBuilder};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::body::identity;
use crate::problem::Problem;

pub(crate) use schemas::TimeoutSchema;

/// The longest time that a run can be given.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a run is asked with.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskRequest {
    /// What to ask: text, or a list of parts as pydantic-ai has them.
    #[schema(value_type = schemas::PromptSchema, example = "What is my balance?")]
    pub(crate) prompt: Value,
    /// What tools and prompts get, as the agent's schema says.
    #[schema(value_type = Option<Value>)]
    pub(crate) deps: Option<RawJson>,
    /// The conversation that this is a turn of.
    pub(crate) conversation_id: Option<String>,
    /// What was said before, as pydantic-ai's messages, in place of a conversation.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) message_history: Option<Vec<RawJson>>,
    /// The state that the run carries and its tools change.
    #[schema(value_type = Option<Object>)]
    pub(crate) state: Option<Map<String, Value>>,
    /// Settings of the model for this run, such as `temperature`.
    #[schema(value_type = Option<Object>)]
    pub(crate) model_settings: Option<Map<String, Value>>,
    /// Limits for this run, by the names of `[limits]` in agent.toml.
    pub(crate) limits: Option<LimitsRequest>,
    /// How long it may take: text like `30s`, or seconds.
    #[serde(default, deserialize_with = "timeout")]
    #[schema(value_type = Option<TimeoutSchema>, example = "30s")]
    pub(crate) timeout: Option<Duration>,
    /// Free data, which reaches Python as the run's metadata.
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Map<String, Value>>,
    /// Tools whose calls are approved beforehand: nobody is asked about them.
    #[serde(default)]
    pub(crate) approve: BTreeSet<String>,
}

/// Limits of one run.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsRequest {
    /// Model requests.
    requests: Option<u32>,
    /// Tool calls.
    tool_calls: Option<u32>,
    /// Tokens that the model reads.
    input_tokens: Option<u64>,
    /// Tokens that the model writes.
    output_tokens: Option<u64>,
    /// Both.
    total_tokens: Option<u64>,
}

impl LimitsRequest {
    /// Returns the limits by pydantic-ai's names.
    fn usage_limits(self) -> Map<String, Value> {
        let limits = [
            ("request_limit", self.requests.map(u64::from)),
            ("tool_calls_limit", self.tool_calls.map(u64::from)),
            ("input_tokens_limit", self.input_tokens),
            ("output_tokens_limit", self.output_tokens),
            ("total_tokens_limit", self.total_tokens),
        ];
        limits
            .into_iter()
            .filter_map(|(key, limit)| Some((key.to_owned(), limit?.into())))
            .collect()
    }
}

impl AskRequest {
    /// Makes a request of a prompt alone.
    pub(crate) fn of(prompt: Value) -> Self {
        Self {
            prompt,
            deps: None,
            conversation_id: None,
            message_history: None,
            state: None,
            model_settings: None,
            limits: None,
            timeout: None,
            metadata: None,
            approve: BTreeSet::new(),
        }
    }

    /// Prepares the run.
    pub(crate) fn prepare(&self, agent: &AgentHandle) -> Result<RunBuilder, Problem> {
        let is_prompt = match &self.prompt {
            Value::String(text) => !text.is_empty(),
            Value::Array(parts) => !parts.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        if !is_prompt {
            return Err(Problem::invalid(
                "`prompt` has to be text, or a list of parts, and not empty",
            ));
        }
        let mut run = agent.run(self.prompt.clone());
        if let Some(deps) = &self.deps {
            run = run.deps(deps);
        }
        if let Some(conversation) = &self.conversation_id {
            let conversation = identity("`conversation_id`", conversation.clone())?;
            run = run.conversation(ConversationId::new(conversation));
        }
        if let Some(history) = &self.message_history {
            run = run.history(history.clone());
        }
        if let Some(state) = &self.state {
            run = run.state(state);
        }
        if let Some(settings) = &self.model_settings {
            run = run.model_settings(settings);
        }
        if let Some(limits) = self.limits {
            run = run.usage_limits(limits.usage_limits());
        }
        if let Some(timeout) = self.timeout {
            run = run.timeout(timeout);
        }
        if let Some(metadata) = &self.metadata {
            run = run.metadata(metadata);
        }
        Ok(self.approve.iter().fold(run, RunBuilder::approve))
    }

    /// Returns whether the run that was accepted was asked for in the same way. A limit that this
    /// request leaves out is the agent's own, which is not looked at. Neither is the timeout: what is
    /// on record is the time that was left when the run was accepted.
    pub(crate) fn is_same(&self, accepted: &Accepted) -> bool {
        let terms = &accepted.terms;
        let conversation = accepted.conversation_id.as_ref().map(ConversationId::as_str);
        let recorded = |recorded: &Option<RawJson>| recorded.as_ref().and_then(read);
        let given = |given: &Option<Map<String, Value>>| given.clone().map(Value::Object);
        let history = |messages: &Option<Vec<RawJson>>| {
            messages.as_ref().map(|messages| messages.iter().map(read).collect::<Vec<_>>())
        };
        let limits = self.limits.map(LimitsRequest::usage_limits).unwrap_or_default();
        let kept = recorded(&terms.usage_limits).unwrap_or_default();
        read(&accepted.prompt).as_ref() == Some(&self.prompt)
            && recorded(&accepted.deps) == recorded(&self.deps)
            && conversation == self.conversation_id.as_deref()
            && history(&terms.history) == history(&self.message_history)
            && recorded(&terms.model_settings) == given(&self.model_settings)
            && recorded(&terms.metadata) == given(&self.metadata)
            && recorded(&terms.state) == given(&self.state)
            && terms.approve == self.approve
            && limits.iter().all(|(key, limit)| kept.get(key) == Some(limit))
    }
}

fn read(json: &RawJson) -> Option<Value> {
    json.decode().ok()
}

/// Reads `30s` and `1m 30s`, and a number as seconds.
pub(crate) fn timeout<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    use serde::de::Error;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`timeout` has to be text like `30s`, or seconds")]
    enum Given {
        Text(String),
        Seconds(f64),
    }

    let Some(given) = Option::<Given>::deserialize(deserializer)? else { return Ok(None) };
    let timeout = match given {
        Given::Text(text) => humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("`timeout`: {error}")))?,
        Given::Seconds(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|error| D::Error::custom(format!("`timeout`: {error}")))?,
    };
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Err(D::Error::custom("`timeout` has to be more than nothing and less than a year"));
    }
    Ok(Some(timeout))
}

/// Schemas that the document needs beside the types.
mod schemas {
    use utoipa::ToSchema;

    /// Text like `30s`, or seconds.
    #[derive(ToSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "it is read for its schema only")]
    pub(crate) enum TimeoutSchema {
        /// A number with its unit.
        Text(String),
        /// Seconds.
        Seconds(f64),
    }

    /// Text, or a list of parts.
    #[derive(ToSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "it is read for its schema only")]
    pub(super) enum PromptSchema {
        /// Text.
        Text(String),
        /// Parts as pydantic-ai has them.
        Parts(Vec<serde_json::Value>),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_error(body: &str) -> String {
        serde_json::from_str::<AskRequest>(body).unwrap_err().to_string()
    }

    #[test]
    fn a_timeout_is_text_or_seconds() {
        let timeout = |text: &str| {
            let body = format!(r#"{{"prompt":"hi","timeout":{text}}}"#);
            serde_json::from_str::<AskRequest>(&body).map(|request| request.timeout).ok().flatten()
        };
        assert_eq!(timeout("\"1m 30s\""), Some(Duration::from_secs(90)));
        assert_eq!(timeout("1.5"), Some(Duration::from_millis(1500)));
        for wrong in ["0", "-1", "1e300", "\"5\"", "\"2y\"", "true"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        assert!(read_error(r#"{"prompt":"hi","promt":"x"}"#).contains("`promt`"));
        assert!(read_error(r#"{"prompt":"hi","limits":{"request":1}}"#).contains("`request`"));
        assert!(read_error("{}").contains("`prompt`"));
    }
}
