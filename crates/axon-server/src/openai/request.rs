//! A request of OpenAI's clients, as what an agent is asked with.

use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentSpec;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::ask::AskRequest;
use crate::problem::Problem;

/// A request of OpenAI's clients. Fields that are not listed are left unread.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The agent, router or pipeline.
    model: String,
    /// What was said so far; the last message of the user is the prompt.
    messages: Vec<ChatInput>,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    stream: Option<bool>,
    /// What comes with the pieces.
    stream_options: Option<ChatStreamOptions>,
    /// How many answers are wanted: one.
    n: Option<u32>,
    /// The client's tools. An agent has its own, and takes none.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<RawJson>>,
    /// Which of them is called: `auto` or `none`.
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<Value>,
    /// The client's tools, as they were called earlier. None are taken.
    #[schema(value_type = Option<Vec<Object>>)]
    functions: Option<Vec<RawJson>>,
    /// Whether the probabilities of tokens are wanted. A run does not have them.
    logprobs: Option<bool>,
    /// A setting of the model.
    temperature: Option<f64>,
    /// A setting of the model.
    top_p: Option<f64>,
    /// A setting of the model.
    max_tokens: Option<u64>,
    /// A setting of the model.
    max_completion_tokens: Option<u64>,
    /// A setting of the model.
    seed: Option<i64>,
    /// A setting of the model.
    presence_penalty: Option<f64>,
    /// A setting of the model.
    frequency_penalty: Option<f64>,
    /// What tools and prompts get, if `axon.deps` does not say it: each value as JSON, or else as
    /// text.
    metadata: Option<Map<String, Value>>,
    /// What only Axon has.
    axon: Option<ChatExtension>,
}

/// What comes with the pieces of an answer.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
struct ChatStreamOptions {
    /// Whether the last piece tells what the run used.
    include_usage: Option<bool>,
}

/// What only Axon has; clients send it as `extra_body`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChatExtension {
    /// What tools and prompts get.
    #[schema(value_type = Option<Value>)]
    deps: Option<RawJson>,
    /// The conversation whose turn this is: then its history is the one on record, and of the
    /// messages only the last one counts.
    conversation_id: Option<String>,
}

/// A message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct ChatInput {
    /// Who says it: `system`, `developer`, `user` or `assistant`.
    role: String,
    /// What is said: text, or parts of type `text`.
    #[schema(value_type = Option<Value>)]
    content: Option<Content>,
    /// Calls of the client's tools, which an agent has none of.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<RawJson>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "`content` has to be text, or parts of type `text`")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

impl ChatInput {
    /// Returns what is said.
    fn text(&self) -> Result<String, Problem> {
        match &self.content {
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => parts.iter().map(Part::text).collect(),
            None => Ok(String::new()),
        }
    }
}

impl Part {
    fn text(&self) -> Result<&str, Problem> {
        let text = self.text.as_deref().filter(|_| self.r#type == "text");
        text.ok_or_else(|| {
            let kind = &self.r#type;
            Problem::invalid(format!("a part of type `{kind}` is not taken: only `text` is"))
        })
    }
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn of(message: &ChatInput) -> Result<Self, Problem> {
        let has_calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        match message.role.as_str() {
            "system" | "developer" => Ok(Self::System),
            "user" => Ok(Self::User),
            "assistant" if !has_calls => Ok(Self::Assistant),
            role => {
                let detail = format!(
                    "a message of `{role}` with tool calls or their results is not taken: an \
                     agent's tools are its own affair"
                );
                Err(Problem::invalid(detail))
            }
        }
    }
}

impl ChatRequest {
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Refuses what would change the answer and cannot be done.
    fn check(&self) -> Result<(), Problem> {
        let some = |tools: &Option<Vec<RawJson>>| tools.as_ref().is_some_and(|all| !all.is_empty());
        let chosen = self
            .tool_choice
            .as_ref()
            .is_some_and(|choice| !matches!(choice.as_str(), Some("auto" | "none")));
        let refusals = [
            (some(&self.tools), "`tools` are not taken: an agent has its own"),
            (some(&self.functions), "`functions` are not taken: an agent has its own tools"),
            (chosen, "`tool_choice` has to be `auto` or `none`: an agent has its own tools"),
            (self.logprobs == Some(true), "`logprobs` are not given: a run does not have them"),
            (self.n.is_some_and(|n| n != 1), "`n` has to be 1: a run has one answer"),
        ];
        match refusals.into_iter().find(|(is_asked, _)| *is_asked) {
            Some((_, detail)) => Err(Problem::invalid(detail)),
            None => Ok(()),
        }
    }

    /// Makes it what an agent is asked with.
    pub(super) fn ask(&self, spec: &AgentSpec) -> Result<AskRequest, Problem> {
        self.check()?;
        let (history, prompt) = self.said()?;
        let mut ask = AskRequest::of(Value::String(prompt));
        let extension = self.axon.as_ref();
        ask.conversation_id = extension.and_then(|axon| axon.conversation_id.clone());
        if ask.conversation_id.is_none() && !history.is_empty() {
            ask.message_history = Some(history);
        }
        let settings = self.model_settings();
        ask.model_settings = (!settings.is_empty()).then_some(settings);
        ask.deps = extension.and_then(|axon| axon.deps.clone());
        if ask.deps.is_none() && spec.deps.schema.is_some() {
            ask.deps = self.metadata.as_ref().map(deps_of);
        }
        ask.metadata = self.metadata.clone().filter(|metadata| !metadata.is_empty());
        Ok(ask)
    }

    /// Returns what was said before, as pydantic-ai's messages, and the prompt.
    fn said(&self) -> Result<(Vec<RawJson>, String), Problem> {
        let roles = self.messages.iter().map(Role::of).collect::<Result<Vec<_>, _>>()?;
        let last = roles.iter().rposition(|role| *role == Role::User);
        let last = last.filter(|last| !roles[*last..].contains(&Role::Assistant));
        let Some(last) = last else {
            return Err(Problem::invalid("the last message has to be one of the user's"));
        };
        let mut history: Vec<Value> = Vec::new();
        let mut prompt = String::new();
        for (at, (role, message)) in roles.iter().zip(&self.messages).enumerate() {
            let text = message.text()?;
            match role {
                Role::User if at == last => prompt = text,
                Role::Assistant => {
                    let part = json!({ "part_kind": "text", "content": text });
                    history.push(json!({ "kind": "response", "parts": [part] }));
                }
                Role::System => ask_further(&mut history, "system-prompt", text),
                Role::User => ask_further(&mut history, "user-prompt", text),
            }
        }
        Ok((history.into_iter().map(RawJson::from).collect(), prompt))
    }

    fn model_settings(&self) -> Map<String, Value> {
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let settings = [
            ("temperature", self.temperature.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("max_tokens", max_tokens.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("presence_penalty", self.presence_penalty.map(Value::from)),
            ("frequency_penalty", self.frequency_penalty.map(Value::from)),
        ];
        settings.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

/// Adds a part to the request that the history ends with, or to a new one.
fn ask_further(history: &mut Vec<Value>, kind: &str, text: String) {
    let part = json!({ "part_kind": kind, "content": text });
    let last = history.last_mut().filter(|last| last["kind"] == "request");
    match last.and_then(|last| last["parts"].as_array_mut()) {
        Some(parts) => parts.push(part),
        None => history.push(json!({ "kind": "request", "parts": [part] })),
    }
}

/// Reads deps from OpenAI's metadata, whose values are text: as JSON, or else as the text itself.
fn deps_of(metadata: &Map<String, Value>) -> RawJson {
    let read = |value: &Value| match value.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        None => value.clone(),
    };
    let deps = metadata.iter().map(|(key, value)| (key.clone(), read(value)));
    Value::Object(deps.collect()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &Value) -> Result<AskRequest, Problem> {
        let request: ChatRequest = serde_json::from_value(body.clone()).unwrap();
        let mut spec = AgentSpec::new("a".parse().unwrap());
        spec.deps.schema = Some(axon_kernel::schema::Schema::new(json!({})).unwrap());
        request.ask(&spec)
    }

    #[test]
    fn the_last_message_of_the_user_is_the_prompt_and_the_rest_is_history() {
        let messages = json!([
            { "role": "system", "content": "Be kind." },
            { "role": "user", "content": [{ "type": "text", "text": "Hi, " },
                                          { "type": "text", "text": "there." }] },
            { "role": "assistant", "content": "Hello." },
            { "role": "user", "content": "And now?" },
        ]);
        let ask = asked(&json!({ "model": "a", "messages": messages })).unwrap();
        assert_eq!(ask.prompt, "And now?");
        let history: Vec<Value> =
            ask.message_history.unwrap().iter().map(|message| message.decode().unwrap()).collect();
        let expected = json!([
            { "kind": "request", "parts": [
                { "part_kind": "system-prompt", "content": "Be kind." },
                { "part_kind": "user-prompt", "content": "Hi, there." }] },
            { "kind": "response", "parts": [{ "part_kind": "text", "content": "Hello." }] },
        ]);
        assert_eq!(Value::from(history), expected);
    }

    #[test]
    fn what_an_agent_cannot_do_is_refused() {
        let user = json!({ "role": "user", "content": "hi" });
        let image = json!({ "role": "user", "content": [{ "type": "image_url" }] });
        let tool = json!({ "role": "tool", "content": "1", "tool_call_id": "c" });
        for (messages, more) in [
            (json!([user, { "role": "assistant", "content": "hi" }]), json!({})),
            (json!([]), json!({})),
            (json!([image]), json!({})),
            (json!([tool, user]), json!({})),
            (json!([user]), json!({ "n": 2 })),
            (json!([user]), json!({ "tools": [{ "type": "function" }] })),
            (json!([user]), json!({ "functions": [{ "name": "pay" }] })),
            (json!([user]), json!({ "logprobs": true })),
            (json!([user]), json!({ "tool_choice": "required" })),
            (json!([user]), json!({ "tool_choice": { "type": "function" } })),
        ] {
            let mut body = json!({ "model": "a", "messages": messages });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert!(asked(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn metadata_are_deps_unless_those_are_given() {
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let metadata = json!({ "customer_id": "123", "name": "Ada" });
        let body = json!({ "model": "a", "messages": messages, "metadata": metadata });
        let deps: Value = asked(&body).unwrap().deps.unwrap().decode().unwrap();
        assert_eq!(deps, json!({ "customer_id": 123, "name": "Ada" }));
        let axon = json!({ "deps": { "customer_id": 7 }, "conversation_id": "c" });
        let body =
            json!({ "model": "a", "messages": messages, "metadata": metadata, "axon": axon });
        let ask = asked(&body).unwrap();
        assert_eq!(ask.deps.unwrap().get(), r#"{"customer_id":7}"#);
        assert_eq!(ask.conversation_id.as_deref(), Some("c"));
    }
}
