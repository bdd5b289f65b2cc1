//! Recorded messages that a new prompt is to follow.
//!
//! A run that failed or was cancelled leaves a history that pydantic-ai does not continue with a
//! prompt: one that ends in calls nobody answered, or in a response that was cut off. Everything
//! else that looks odd (calls without an answer further back, or beside others that have one) it
//! closes out itself.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::json::RawJson;

/// What pydantic-ai itself says for a call that was interrupted.
const INTERRUPTED: &str = "The tool call was interrupted before a result was produced.";

/// The mark by which pydantic-ai knows an answer that no tool gave.
const SYNTHESIZED: &str = "pydantic_ai_synthesized_tool_return";

/// How recorded messages have to change, in the form of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The recorded messages are truncated to this length first.
    pub base: usize,
    /// Then these are appended: none, or one request.
    pub messages: Vec<RawJson>,
}

impl Repair {
    /// Makes the change.
    pub fn apply(self, messages: &mut Vec<RawJson>) {
        messages.truncate(self.base);
        messages.extend(self.messages);
    }
}

/// Returns what makes `messages` valid before a new prompt, or `None` if they are.
///
/// Responses at the end that were cut off (`interrupted`), or that the provider has not finished
/// (`suspended`), are dropped. The calls of a response that is the last then are answered in a
/// request of their own, in the words of pydantic-ai, with the outcome `interrupted`. The other
/// messages stay as they are, and a repaired history needs no repair. What cannot be read is left
/// to pydantic-ai.
///
/// # Examples
///
/// ```
/// use axon_kernel::json::RawJson;
/// use axon_kernel::transcript::repair;
///
/// let prompt = r#"{"kind":"request","parts":[{"part_kind":"user-prompt","content":"Hi"}]}"#;
/// let cut = r#"{"kind":"response","parts":[],"state":"interrupted"}"#;
/// let mut messages = vec![RawJson::parse(prompt)?, RawJson::parse(cut)?];
/// repair(&messages).expect("the answer was cut off").apply(&mut messages);
/// assert_eq!(messages.len(), 1);
/// assert_eq!(repair(&messages), None);
/// # Ok::<(), axon_kernel::json::JsonError>(())
/// ```
#[must_use]
pub fn repair(messages: &[RawJson]) -> Option<Repair> {
    let cut_off = messages.iter().rev().take_while(|message| is_cut_off(message)).count();
    let base = messages.len() - cut_off;
    let answers = messages[..base].last().and_then(answers);
    (cut_off > 0 || answers.is_some())
        .then(|| Repair { base, messages: answers.into_iter().collect() })
}

fn is_cut_off(message: &RawJson) -> bool {
    let head: Result<Head, _> = message.decode();
    head.is_ok_and(|head| {
        head.kind == Kind::Response && matches!(head.state, State::Interrupted | State::Suspended)
    })
}

/// Returns the request that answers the calls of a response, if it has any.
fn answers(message: &RawJson) -> Option<RawJson> {
    let response: Response = message.decode().ok()?;
    let calls = response.parts.into_iter().filter(|part| part.part_kind == PartKind::ToolCall);
    let timestamp = response.timestamp;
    let answers: Vec<Answer> = calls.map(|call| Answer::new(call, timestamp.clone())).collect();
    if response.kind != Kind::Response || answers.is_empty() {
        return None;
    }
    RawJson::encode(&Request { parts: answers, kind: Kind::Request }).ok()
}

/// What a message says of itself; its parts are not read.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
    #[serde(default)]
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Request,
    Response,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Interrupted,
    Suspended,
    #[default]
    #[serde(other)]
    Whole,
}

#[derive(Deserialize)]
struct Response {
    kind: Kind,
    parts: Vec<Part>,
    #[serde(default)]
    timestamp: Option<RawJson>,
}

#[derive(Deserialize)]
struct Part {
    part_kind: PartKind,
    #[serde(default)]
    tool_name: Option<RawJson>,
    #[serde(default)]
    tool_call_id: Option<RawJson>,
    #[serde(default)]
    tool_kind: Option<RawJson>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartKind {
    ToolCall,
    ToolReturn,
    #[serde(other)]
    Other,
}

#[derive(Serialize)]
struct Request {
    parts: Vec<Answer>,
    kind: Kind,
}

/// An answer that no tool gave.
#[derive(Serialize)]
struct Answer {
    tool_name: Option<RawJson>,
    content: &'static str,
    tool_call_id: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_kind: Option<RawJson>,
    metadata: serde_json::Value,
    /// The response's own, so that the same history is always repaired to the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<RawJson>,
    outcome: &'static str,
    part_kind: PartKind,
}

impl Answer {
    fn new(call: Part, timestamp: Option<RawJson>) -> Self {
        Self {
            tool_name: call.tool_name,
            content: INTERRUPTED,
            tool_call_id: call.tool_call_id,
            tool_kind: call.tool_kind,
            metadata: json!({ SYNTHESIZED: true }),
            timestamp,
            outcome: "interrupted",
            part_kind: PartKind::ToolReturn,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn prompt() -> Value {
        json!({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hi"}]})
    }

    fn call(id: &str) -> Value {
        json!({"part_kind": "tool-call", "tool_name": "t", "args": {}, "tool_call_id": id})
    }

    fn calls(state: &str) -> Value {
        json!({"kind": "response", "state": state, "parts": [call("a"), call("b")],
               "timestamp": "2026-01-02T03:04:05Z"})
    }

    fn returns() -> Value {
        json!({"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "t",
               "content": "x", "tool_call_id": "a"}]})
    }

    fn text(state: &str) -> Value {
        json!({"kind": "response", "state": state, "parts": [
            {"part_kind": "text", "content": "tool-call"},
            {"part_kind": "builtin-tool-call", "tool_name": "t", "tool_call_id": "n"}]})
    }

    fn history(messages: &[Value]) -> Vec<RawJson> {
        messages.iter().map(RawJson::from).collect()
    }

    fn repaired(messages: &[RawJson]) -> Vec<RawJson> {
        let mut repaired = messages.to_vec();
        if let Some(repair) = repair(messages) {
            repair.apply(&mut repaired);
        }
        repaired
    }

    #[test]
    fn calls_at_the_end_are_answered_as_interrupted() {
        for state in ["complete", "incomplete"] {
            let messages = history(&[prompt(), calls(state)]);
            let repair = repair(&messages).expect("nobody answered the calls");
            assert_eq!(repair.base, 2);
            let request: Value = repair.messages[0].decode().unwrap();
            let answer = |id: &str| {
                json!({"part_kind": "tool-return", "tool_name": "t", "tool_call_id": id,
                       "content": INTERRUPTED, "outcome": "interrupted",
                       "metadata": {"pydantic_ai_synthesized_tool_return": true},
                       "timestamp": "2026-01-02T03:04:05Z"})
            };
            assert_eq!(request, json!({"kind": "request", "parts": [answer("a"), answer("b")]}));
        }
    }

    #[test]
    fn responses_at_the_end_that_were_cut_off_are_dropped_with_their_calls() {
        for cut in [text("interrupted"), calls("interrupted"), text("suspended")] {
            let messages = history(&[prompt(), cut.clone()]);
            assert_eq!(repair(&messages), Some(Repair { base: 1, messages: Vec::new() }));
            let messages = history(&[prompt(), calls("complete"), cut]);
            let repair = repair(&messages).expect("there are two faults");
            assert_eq!((repair.base, repair.messages.len()), (2, 1));
        }
    }

    #[test]
    fn what_pydantic_ai_takes_is_left_as_it_is() {
        for messages in [
            vec![],
            vec![prompt()],
            vec![prompt(), text("complete")],
            vec![prompt(), text("incomplete")],
            vec![prompt(), calls("complete"), returns()],
            vec![prompt(), calls("interrupted"), returns(), prompt()],
            vec![json!({"kind": "response", "parts": "none"})],
            vec![json!({"kind": "novelty", "state": "interrupted"})],
            vec![json!("no message")],
        ] {
            assert_eq!(repair(&history(&messages)), None, "{messages:?}");
        }
    }

    fn message() -> impl Strategy<Value = Value> {
        let state =
            prop::sample::select(vec!["complete", "incomplete", "interrupted", "suspended"]);
        prop_oneof![
            Just(prompt()),
            Just(returns()),
            state.clone().prop_map(calls),
            state.prop_map(text),
            Just(json!({"kind": "response"})),
        ]
    }

    proptest! {
        #[test]
        fn a_repaired_history_needs_no_repair_and_begins_as_before(
            messages in prop::collection::vec(message(), 0..8),
        ) {
            let before = history(&messages);
            let after = repaired(&before);
            prop_assert_eq!(repair(&after), None);
            let kept = repair(&before).map_or(before.len(), |repair| repair.base);
            prop_assert_eq!(&after[..kept], &before[..kept]);
            prop_assert!(after.len() <= kept + 1);
            prop_assert_eq!(repaired(&after), after);
        }
    }
}
