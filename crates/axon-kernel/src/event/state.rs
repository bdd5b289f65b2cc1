//! The state that travels with a run: an object that its caller gives and its tools change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::ToolCallId;

/// A tool changed the state that its run carries. Recorded together with what the call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateChanged {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// What it changed.
    #[serde(flatten)]
    pub patch: StatePatch,
}

/// A change of a state, by its top-level keys: calls that change different keys at the same time
/// do not undo each other's work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatePatch {
    /// The keys that have another value now.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// The keys that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

impl StatePatch {
    /// Returns what leads from `before` to `after`.
    #[must_use]
    pub fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Self {
        let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let removed = before.keys().filter(|key| !after.contains_key(*key));
        Self {
            set: changed.map(|(key, value)| (key.clone(), value.clone())).collect(),
            removed: removed.cloned().collect(),
        }
    }

    /// Returns whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// Makes the change.
    pub fn apply(&self, state: &mut Map<String, Value>) {
        for key in &self.removed {
            // The order of the other keys stays.
            state.shift_remove(key);
        }
        for (key, value) in &self.set {
            state.insert(key.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value}") };
        object
    }

    #[test]
    fn changes_of_different_keys_do_not_undo_each_other() {
        let begin = object(json!({ "a": 1, "b": { "c": 2 }, "d": null }));
        let one = StatePatch::between(&begin, &object(json!({ "a": 2, "b": { "c": 2 } })));
        let other = StatePatch::between(
            &begin,
            &object(json!({ "a": 1, "b": { "c": 3 }, "d": null, "e": [] })),
        );
        for (first, second) in [(&one, &other), (&other, &one)] {
            let mut state = begin.clone();
            first.apply(&mut state);
            second.apply(&mut state);
            assert_eq!(state, object(json!({ "a": 2, "b": { "c": 3 }, "e": [] })));
        }
        assert!(StatePatch::between(&begin, &begin).is_empty());
    }

    #[test]
    fn a_change_of_a_state_is_one_flat_object() {
        let patch = StatePatch { set: object(json!({ "a": null })), removed: vec!["b".into()] };
        let changed = StateChanged { tool_call_id: ToolCallId::new("c1"), patch };
        let text = serde_json::to_string(&changed).unwrap();
        assert_eq!(text, r#"{"tool_call_id":"c1","set":{"a":null},"removed":["b"]}"#);
        assert_eq!(serde_json::from_str::<StateChanged>(&text).unwrap(), changed);
    }
}
