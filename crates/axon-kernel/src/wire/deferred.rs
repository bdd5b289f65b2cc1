//! Calls that wait for somebody, and what was decided: the way from `attempt_paused` to the next
//! attempt's `deferred_tool_results`.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::event::Resolution;
use crate::ids::{RunId, ToolCallId};
use crate::json::RawJson;
use crate::schema::{Schema, Violation};
use crate::spec::AgentPath;

/// One of the `requests` of `attempt_paused`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeferredRequest {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    #[serde(default = "RawJson::null")]
    pub args: RawJson,
    /// What it waits for.
    pub kind: DeferredKind,
    /// What the tool says of it, for whoever decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    /// The schema of the arguments, as far as the runner told it: other arguments are held to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RawJson>,
}

/// Why a call cannot be approved with other arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// They are no object.
    #[error("the arguments of a tool are a JSON object")]
    NoObject,
    /// They break the tool's schema.
    #[error(
        "they break the tool's schema: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Invalid(Vec<Violation>),
}

impl DeferredRequest {
    /// Checks arguments in place of the model's. What only the runner knows of them it checks
    /// itself, and tells the model.
    ///
    /// # Errors
    ///
    /// [`ArgsError`] if they are no object, or break the tool's schema.
    pub fn check_args(&self, args: &RawJson) -> Result<(), ArgsError> {
        let Ok(value @ Value::Object(_)) = args.decode() else { return Err(ArgsError::NoObject) };
        let schema = self.parameters.as_ref().and_then(|schema| schema.decode().ok());
        // A schema that cannot be used here is the runner's to apply.
        let schema = schema.and_then(|schema| Schema::new(schema).ok());
        schema.map_or(Ok(()), |schema| schema.validate(&value).map_err(ArgsError::Invalid))
    }
}

impl DeferredRequest {
    /// Returns the run that waits, where the call is handed to another agent: what that run waits
    /// for is what has to be decided.
    #[must_use]
    pub fn handed_to(&self) -> Option<RunId> {
        Some(self.handed()?.run_id)
    }

    /// Returns what a person is asked about in the end: where the call is handed to another agent
    /// that waits with one call only, that one.
    #[must_use]
    pub fn asked(&self) -> Self {
        let only = |handed: Handed| match handed.requests?.as_slice() {
            [only] => Some(only.asked()),
            _ => None,
        };
        self.handed().and_then(only).unwrap_or_else(|| self.clone())
    }

    /// Returns the question, where a person is asked one in words.
    #[must_use]
    pub fn question(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Asks {
            question: String,
        }
        if self.kind == DeferredKind::Approval {
            return None;
        }
        let said = self.metadata.iter().chain([&self.args]);
        said.filter_map(|json| json.decode::<Asks>().ok()).map(|asks| asks.question).next()
    }

    /// Returns what waits, where the call is handed to another agent.
    #[must_use]
    pub fn handed(&self) -> Option<Handed> {
        self.metadata.as_ref()?.decode().ok()
    }
}

/// What the run of another agent waits for: the `metadata` of a call that is handed to that agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handed {
    /// The agents from the top-level run down to that one.
    pub agent: AgentPath,
    /// Its run.
    pub run_id: RunId,
    /// What it waits for: `approval`, `ambiguous`, `changed` or `quarantined`.
    pub waits_for: String,
    /// The calls that it waits with, for an approval.
    #[serde(default)]
    pub requests: Option<Vec<DeferredRequest>>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeferredKind {
    /// Consent.
    Approval,
    /// The answer of a person.
    Question,
    /// The result of a call that is made elsewhere.
    External,
}

impl DeferredKind {
    /// Returns whether `resolution` is one that a call of this kind waits for.
    #[must_use]
    pub fn takes(self, resolution: &Resolution) -> bool {
        match resolution {
            Resolution::Approve { .. } => self == Self::Approval,
            Resolution::Answer { .. } => self != Self::Approval,
            Resolution::Deny { .. } | Resolution::Fail { .. } => true,
            Resolution::Retry | Resolution::Skip { .. } => false,
        }
    }
}

/// The `deferred_tool_results` of an attempt: what pydantic-ai's `DeferredToolResults` validates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeferredResults {
    /// Decisions on calls that waited for an approval.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: BTreeMap<ToolCallId, Approval>,
    /// Results of calls that were questions, or were made elsewhere.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<ToolCallId, CallAnswer>,
}

/// A decision on a call that waited for an approval.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind")]
pub enum Approval {
    /// It is made.
    #[serde(rename = "tool-approved")]
    Approved {
        /// The arguments in place of the model's, an object.
        #[serde(rename = "override_args", skip_serializing_if = "Option::is_none")]
        args: Option<RawJson>,
    },
    /// It is not made.
    #[serde(rename = "tool-denied")]
    Denied {
        /// What the model is told, in place of pydantic-ai's own words.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

/// The result of a call that was a question, or was made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum CallAnswer {
    /// It returned this.
    Returned(RawJson),
    /// The model is told that it failed.
    Failed(String),
}

impl Serialize for CallAnswer {
    // A bare result that looks like one of pydantic-ai's own would be taken for it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self {
            Self::Returned(result) => {
                map.serialize_entry("kind", "tool-return")?;
                map.serialize_entry("return_value", result)?;
            }
            Self::Failed(message) => {
                map.serialize_entry("kind", "tool-failed")?;
                map.serialize_entry("message", message)?;
            }
        }
        map.end()
    }
}

/// What the model is told of a question or an external call that somebody refused without a word.
const REFUSED: &str = "The call was refused.";

impl DeferredResults {
    /// Puts together what was decided about `requests`. A call that nothing was decided about that
    /// fits it is left out, and goes on waiting.
    #[must_use]
    pub fn of(requests: &[DeferredRequest], decided: &BTreeMap<ToolCallId, Resolution>) -> Self {
        let mut results = Self::default();
        for DeferredRequest { tool_call_id, kind, .. } in requests {
            let Some(resolution) = decided.get(tool_call_id) else { continue };
            if kind.takes(resolution) {
                results.add(tool_call_id.clone(), *kind, resolution.clone());
            }
        }
        results
    }

    fn add(&mut self, call: ToolCallId, kind: DeferredKind, resolution: Resolution) {
        match (resolution, kind) {
            (Resolution::Approve { args, .. }, _) => {
                self.approvals.insert(call, Approval::Approved { args });
            }
            (Resolution::Deny { message }, DeferredKind::Approval) => {
                self.approvals.insert(call, Approval::Denied { message });
            }
            (Resolution::Deny { message }, DeferredKind::Question | DeferredKind::External) => {
                let message = message.unwrap_or_else(|| REFUSED.to_owned());
                self.calls.insert(call, CallAnswer::Failed(message));
            }
            (Resolution::Answer { result }, _) => {
                self.calls.insert(call, CallAnswer::Returned(result));
            }
            (Resolution::Fail { .. } | Resolution::Retry | Resolution::Skip { .. }, _) => {}
        }
    }

    /// Returns whether nothing was decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.approvals.is_empty() && self.calls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    fn request(call: &str, kind: &str) -> DeferredRequest {
        let text = format!(r#"{{"tool_call_id":"{call}","name":"t","kind":"{kind}"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn decided() -> BTreeMap<ToolCallId, Resolution> {
        let deny = |message: Option<&str>| Resolution::Deny { message: message.map(str::to_owned) };
        [
            ("approved", Resolution::approve()),
            ("changed", Resolution::Approve { args: Some(raw(r#"{"amount": 5}"#)), always: false }),
            ("denied", deny(None)),
            ("denied_why", deny(Some("Not today."))),
            ("answered", Resolution::Answer { result: raw(r#"{"kind": "tool-denied"}"#) }),
            ("refused", deny(Some("Nobody is there."))),
        ]
        .map(|(call, resolution)| (ToolCallId::new(call), resolution))
        .into()
    }

    #[test]
    fn decisions_have_the_form_that_pydantic_ai_reads() {
        let requests = [
            request("approved", "approval"),
            request("changed", "approval"),
            request("denied", "approval"),
            request("denied_why", "approval"),
            request("answered", "question"),
            request("refused", "external"),
        ];
        let results = DeferredResults::of(&requests, &decided());
        let golden = include_str!("deferred/golden.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        assert_eq!(serde_json::to_value(&results).unwrap(), golden);
    }

    #[test]
    fn other_arguments_are_an_object_that_keeps_the_schema() {
        let parameters = r#"{"type":"object","properties":{"amount":{"type":"integer"}}}"#;
        let open = request("c", "approval");
        let strict = DeferredRequest { parameters: Some(raw(parameters)), ..open.clone() };
        for request in [&open, &strict] {
            assert_eq!(request.check_args(&raw(r#"{"amount":5}"#)), Ok(()));
            assert_eq!(request.check_args(&raw("[5]")), Err(ArgsError::NoObject));
        }
        let wrong = raw(r#"{"amount":"five"}"#);
        assert_eq!(open.check_args(&wrong), Ok(()));
        let error = strict.check_args(&wrong).unwrap_err().to_string();
        assert!(error.contains("/amount") && error.contains("integer"), "{error}");
        let unusable = DeferredRequest { parameters: Some(raw(r#"{"type":7}"#)), ..open };
        assert_eq!(unusable.check_args(&wrong), Ok(()));
    }

    #[test]
    fn a_call_goes_on_waiting_for_what_fits_it() {
        let waiting = [
            request("approved", "question"),
            request("answered", "approval"),
            request("unknown", "approval"),
        ];
        assert!(DeferredResults::of(&waiting, &decided()).is_empty());
        let text = serde_json::to_string(&DeferredResults::default()).unwrap();
        assert_eq!(text, "{}");
    }
}
