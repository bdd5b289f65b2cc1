//! What pydantic-ai's own events mean for a run.

use axon_kernel::event::{ToolCalled, ToolOutcome, ToolReturned};
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use serde::Deserialize;

use super::attempt::UNDECLARED;

/// What one of pydantic-ai's events means.
pub(super) enum Meaning {
    Text(String),
    Thinking(String),
    Called(ToolCalled),
    Returned(ToolReturned),
    Other,
}

/// Reads an event by its `event_kind`. An event that is not as expected means nothing special.
pub(super) fn read(kind: &str, data: &RawJson) -> Meaning {
    let meaning = match kind {
        "part_start" => data.decode().ok().and_then(|PartStart { part }| part.meaning()),
        "part_delta" => data.decode().ok().and_then(|PartDelta { delta }| delta.meaning()),
        "function_tool_call" => data.decode().ok().map(|ToolCallEvent { part }| part.called()),
        "function_tool_result" => data.decode().ok().and_then(ToolResultEvent::returned),
        _ => None,
    };
    meaning.unwrap_or(Meaning::Other)
}

#[derive(Deserialize)]
struct PartStart<'a> {
    #[serde(borrow)]
    part: Part<'a>,
}

#[derive(Deserialize)]
struct Part<'a> {
    part_kind: &'a str,
    #[serde(default)]
    content: Option<RawJson>,
}

impl Part<'_> {
    fn meaning(self) -> Option<Meaning> {
        let text = || self.content.as_ref().and_then(|content| content.decode().ok());
        match self.part_kind {
            "text" => text().map(Meaning::Text),
            "thinking" => text().map(Meaning::Thinking),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct PartDelta<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    part_delta_kind: &'a str,
    #[serde(default)]
    content_delta: Option<String>,
}

impl Delta<'_> {
    fn meaning(self) -> Option<Meaning> {
        match self.part_delta_kind {
            "text" => self.content_delta.map(Meaning::Text),
            "thinking" => self.content_delta.map(Meaning::Thinking),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct ToolCallEvent {
    part: CallPart,
}

#[derive(Deserialize)]
struct CallPart {
    tool_name: String,
    tool_call_id: ToolCallId,
    #[serde(default = "RawJson::null")]
    args: RawJson,
}

impl CallPart {
    fn called(self) -> Meaning {
        Meaning::Called(ToolCalled {
            tool_call_id: self.tool_call_id,
            name: self.tool_name,
            args: self.args,
            effect: UNDECLARED,
        })
    }
}

#[derive(Deserialize)]
struct ToolResultEvent {
    #[serde(alias = "result")]
    part: ResultPart,
}

#[derive(Deserialize)]
struct ResultPart {
    #[serde(default)]
    tool_name: Option<String>,
    tool_call_id: ToolCallId,
    #[serde(default = "RawJson::null")]
    content: RawJson,
    part_kind: String,
    #[serde(default)]
    outcome: Option<String>,
}

impl ToolResultEvent {
    fn returned(self) -> Option<Meaning> {
        let part = self.part;
        let outcome = match (part.part_kind.as_str(), part.outcome.as_deref()) {
            ("retry-prompt", _) | (_, Some("retried")) => ToolOutcome::Retry,
            (_, Some("failed" | "denied")) => ToolOutcome::Failed,
            _ => ToolOutcome::Ok,
        };
        Some(Meaning::Returned(ToolReturned {
            tool_call_id: part.tool_call_id,
            name: part.tool_name?,
            outcome,
            result: part.content,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(kind: &str, data: serde_json::Value) -> Meaning {
        read(kind, &data.into())
    }

    #[test]
    fn text_parts_and_deltas_are_text() {
        let start = serde_json::json!({"index": 0, "part": {"part_kind": "text", "content": "a"}});
        assert!(matches!(meaning("part_start", start), Meaning::Text(text) if text == "a"));
        let delta = serde_json::json!({"delta": {"part_delta_kind": "text", "content_delta": "b"}});
        assert!(matches!(meaning("part_delta", delta), Meaning::Text(text) if text == "b"));
    }

    #[test]
    fn what_is_not_understood_is_carried_on() {
        for data in [serde_json::json!(null), serde_json::json!({"part": {"part_kind": "x"}})] {
            assert!(matches!(meaning("part_start", data), Meaning::Other));
        }
    }
}
