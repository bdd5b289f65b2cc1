//! Messages as pydantic-ai writes them, for checkpoints.

use axon_kernel::json::RawJson;
use serde_json::{Value, json};

/// A request with a user's prompt.
pub fn user(text: &str) -> Value {
    json!({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": text}]})
}

/// A request with a user's prompt of any content, text or parts.
pub(super) fn user_content(content: &RawJson) -> Value {
    json!({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": content}]})
}

/// A response of text.
pub fn text(text: &str) -> Value {
    response(json!({"part_kind": "text", "content": text}))
}

/// A response that calls one tool.
pub fn tool_call(id: &str, tool: &str, args: Value) -> Value {
    response(json!({
        "part_kind": "tool-call", "tool_name": tool, "args": args, "tool_call_id": id,
    }))
}

/// A request with what one tool returned.
pub fn tool_return(id: &str, tool: &str, content: Value) -> Value {
    let part = json!({
        "part_kind": "tool-return", "tool_name": tool, "content": content, "tool_call_id": id,
    });
    json!({"kind": "request", "parts": [part]})
}

fn response(part: Value) -> Value {
    json!({"kind": "response", "parts": [part], "model_name": "scripted"})
}
