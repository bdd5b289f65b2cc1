//! The digest of a definition, by which a changed one is known.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{AgentSpec, InstructionsFile};
use crate::flow::Flow;

/// What may change under a run that goes on: who answers, how often, and how it is described.
const MAY_CHANGE: [&str; 7] =
    ["model", "provider", "model_settings", "retries", "tool_timeout", "metadata", "description"];

/// What a router's or a pipeline's file has besides what it does with a message.
const BESIDES: [&str; 8] =
    ["description", "tags", "metadata", "deps", "output", "limits", "approvals", "conversation"];

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(members) => {
            let members: BTreeMap<String, Value> =
                members.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(members.into_iter().collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

impl AgentSpec {
    /// Returns the digest of what the messages of a run depend on: its instructions, tools, output
    /// and deps, but not which model answers, nor how its runner is kept. 32 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut wire = self.to_wire();
        for key in MAY_CHANGE {
            wire.remove(key);
        }
        let instructions = json!(InstructionsFile::from(self.instructions.as_slice()));
        let deps = self.deps.schema.as_ref().map(|schema| schema.raw());
        // However its file orders the keys.
        let mut told = vec![Value::Object(wire), instructions, json!(deps)];
        told.extend(self.flow.as_ref().map(|flow| self.told_of(flow)));
        let told = sorted(told.into());
        let digest = Sha256::digest(told.to_string());
        digest.iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Returns what a router or a pipeline does, without what is told besides or may change.
    fn told_of(&self, flow: &Flow) -> Value {
        let Ok(Value::Object(mut file)) = crate::flow::print::file(self, flow) else {
            // What has no file has no better form than this one.
            return format!("{flow:?}").into();
        };
        for key in BESIDES {
            file.remove(key);
        }
        file.into()
    }
}
