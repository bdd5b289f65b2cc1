//! Whether a call took effect of which nobody knows: what Rust asks, and what a runner finds out.

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{RunId, ToolCallId, idempotency_key};
use crate::json::RawJson;

/// `POST /v1/tools/{target}/reconcile`: ask a registered function what became of a tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReconcileRequest {
    /// The idempotency key under which the call was made.
    pub key: String,
    /// The run.
    pub run_id: RunId,
    /// The index of the model response that asked for the call.
    pub step: u32,
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub name: String,
    /// The arguments of the call, an object.
    pub args: RawJson,
    /// What the caller of the run gave to its tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deps: Option<RawJson>,
}

impl ReconcileRequest {
    /// Asks about the call `tool_call_id` of the tool `name` in `step` of `run`.
    #[must_use]
    pub fn new(
        (run_id, step, tool_call_id): (RunId, u32, ToolCallId),
        name: String,
        args: RawJson,
    ) -> Self {
        let key = idempotency_key(&run_id, step, &tool_call_id);
        Self { key, run_id, step, tool_call_id, name, args, deps: None }
    }
}

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ReconcileAnswer {
    /// It took effect, with this result.
    Done {
        /// What the call returned, or would have.
        result: RawJson,
    },
    /// It did not take effect: it can be made again.
    NotDone,
    /// The function does not know.
    Unknown,
}

// Raw JSON cannot be read through serde's own tagged enums, which buffer.
impl<'de> Deserialize<'de> for ReconcileAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Flat {
            outcome: Outcome,
            #[serde(default = "RawJson::null")]
            result: RawJson,
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Outcome {
            Done,
            NotDone,
            Unknown,
        }

        let Flat { outcome, result } = Flat::deserialize(deserializer)?;
        Ok(match outcome {
            Outcome::Done => Self::Done { result },
            Outcome::NotDone => Self::NotDone,
            Outcome::Unknown => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_result_as_it_was_written() {
        let text = r#"{"outcome":"done","result":{"b":123456789012345678901234567890,"a":1}}"#;
        let answer: ReconcileAnswer = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        let of = |text| serde_json::from_str::<ReconcileAnswer>(text).unwrap();
        assert_eq!(of(r#"{"outcome":"not_done"}"#), ReconcileAnswer::NotDone);
        assert_eq!(of(r#"{"outcome":"unknown"}"#), ReconcileAnswer::Unknown);
        assert!(serde_json::from_str::<ReconcileAnswer>(r#"{"outcome":"perhaps"}"#).is_err());
    }

    #[test]
    fn a_request_carries_the_key_of_its_call() {
        let call = (RunId::new("r1"), 3, ToolCallId::new("c1"));
        let request = ReconcileRequest::new(call, "block_card".into(), RawJson::null());
        assert_eq!(request.key, "r1:3:c1");
    }
}
