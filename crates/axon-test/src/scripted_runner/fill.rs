//! `{{prompt}}` and the like in the strings of a step.

use std::collections::BTreeMap;

use axon_kernel::ids::{Attempt, Generation, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::wire::AttemptRequest;
use serde::Deserialize;
use serde_json::Value;

use super::step::Step;

/// What the strings of a step may name.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) prompt: String,
    pub(super) run: RunId,
    pub(super) attempt: Attempt,
    pub(super) generation: Generation,
    pub(super) results: BTreeMap<ToolCallId, Value>,
}

impl Known {
    /// Fills in what `step` names. A string that is nothing but `{{result.ID}}` becomes the result
    /// itself; what nobody knows stays as it is.
    pub(super) fn fill(&self, step: &Step) -> serde_json::Result<Step> {
        let mut value = serde_json::to_value(step)?;
        self.fill_value(&mut value);
        serde_json::from_value(value)
    }

    fn fill_value(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains("{{") => *value = self.filled(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_value(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.fill_value(field));
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn filled(&self, text: &str) -> Value {
        let mut filled = text.to_owned();
        for (id, result) in &self.results {
            let name = format!("{{{{result.{id}}}}}");
            if filled == name {
                return result.clone();
            }
            filled = filled.replace(&name, &as_text(result));
        }
        filled = filled
            .replace("{{run}}", self.run.as_str())
            .replace("{{attempt}}", &self.attempt.to_string())
            .replace("{{generation}}", &self.generation.to_string());
        // The prompt comes last: nothing that a user writes is filled in.
        filled.replace("{{prompt}}", &self.prompt).into()
    }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the prompt of an attempt as text; that of a resumed one stands in its history.
pub(super) fn prompt_of(request: &AttemptRequest) -> String {
    match &request.prompt {
        Some(prompt) => prompt_text(prompt),
        None => request.message_history.iter().rev().find_map(user_prompt).unwrap_or_default(),
    }
}

fn prompt_text(prompt: &RawJson) -> String {
    match prompt.decode() {
        Ok(Value::String(text)) => text,
        Ok(Value::Array(parts)) => {
            parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
        }
        _ => prompt.to_string(),
    }
}

fn user_prompt(message: &RawJson) -> Option<String> {
    let Request { parts } = message.decode().ok()?;
    let asked = parts.into_iter().rev().find(|part| part.part_kind == "user-prompt")?;
    Some(prompt_text(&asked.content))
}

#[derive(Deserialize)]
struct Request {
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    part_kind: String,
    #[serde(default = "RawJson::null")]
    content: RawJson,
}

#[cfg(test)]
mod tests {
    use axon_kernel::wire::Before;
    use serde_json::json;

    use super::super::message;
    use super::*;

    fn known() -> Known {
        Known {
            prompt: "Hi {{run}}".to_owned(),
            run: RunId::new("run-1"),
            attempt: Attempt(2),
            generation: Generation(3),
            results: BTreeMap::from([
                (ToolCallId::new("c1"), json!({"balance": 5})),
                (ToolCallId::new("c2"), json!("five")),
            ]),
        }
    }

    #[test]
    fn every_string_of_a_step_is_filled_in_and_a_prompt_is_not() {
        let step = Step::complete(json!({"said": "{{prompt}}", "who": ["{{run}}.{{attempt}}"]}));
        let expected = Step::complete(json!({"said": "Hi {{run}}", "who": ["run-1.2"]}));
        assert_eq!(known().fill(&step).unwrap(), expected);
    }

    #[test]
    fn a_result_alone_keeps_its_type_and_within_a_text_becomes_text() {
        let fill = |output: &str| known().fill(&Step::complete(output)).unwrap();
        assert_eq!(fill("{{result.c1}}"), Step::complete(json!({"balance": 5})));
        assert_eq!(fill("It is {{result.c2}}."), Step::complete("It is five."));
        assert_eq!(fill("{{result.c9}}"), Step::complete("{{result.c9}}"));
    }

    #[test]
    fn every_step_survives_the_filling() {
        let steps = [
            Step::checkpoint(Before::Tools, [message::user("x"), message::text("y")]),
            Step::tool_request("c1", "lookup", json!({"big": 1})),
            Step::Garbage(vec![0xEF, 0xBB, 0xBF]),
            Step::Hang,
        ];
        for step in steps {
            assert_eq!(known().fill(&step).unwrap(), step);
        }
    }

    #[test]
    fn prompt_of_a_resumed_attempt_is_the_last_of_its_history() {
        let request = json!({
            "run_id": "r", "attempt": 2, "prompt": null, "stream": true, "spec": {},
            "message_history": [
                message::user("first"), message::text("answer"), message::user("second"),
                message::tool_call("c1", "t", json!({})),
                message::tool_return("c1", "t", json!(1)),
            ],
        });
        let request: AttemptRequest = serde_json::from_str(&request.to_string()).unwrap();
        assert_eq!(prompt_of(&request), "second");
    }
}
