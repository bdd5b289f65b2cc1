//! What pydantic-ai's own events mean for a run: text is text. Tool calls are told of by the runner
//! itself, with their effects.

use axon_kernel::json::RawJson;
use serde::Deserialize;

/// What one of pydantic-ai's events means.
pub(super) enum Meaning {
    Text(String),
    Thinking(String),
    Other,
}

/// Reads an event by its `event_kind`. An event that is not as expected means nothing special.
pub(super) fn read(kind: &str, data: &RawJson) -> Meaning {
    let meaning = match kind {
        "part_start" => data.decode().ok().and_then(|PartStart { part }| part.meaning()),
        "part_delta" => data.decode().ok().and_then(|PartDelta { delta }| delta.meaning()),
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
