//! A schema of any value inside one of an object, which is all that models are asked for.

use serde_json::{Map, Value, json};

use super::survey::Survey;
use super::{Schema, SchemaError};

/// The one property of an object that holds a value which is none.
pub(crate) const WRAPPED: &str = "value";

/// Where a model's provider looks for definitions.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// What providers refuse beside `"type": "object"` at the top.
const COMBINES: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "enum", "const", "$ref"];

impl Schema {
    /// Returns whether a model can be asked for the values as they are: the top level says
    /// `"type": "object"`, and combines no schemas.
    #[must_use]
    pub fn is_object(&self) -> bool {
        let plain = COMBINES.iter().all(|keyword| self.raw.get(*keyword).is_none());
        plain && self.raw.get("type").is_some_and(|kind| kind == "object")
    }

    /// Checks that a schema which is made of one that can be used can be used too.
    pub(crate) fn on_the_wire(raw: Value) -> Result<(), SchemaError> {
        Survey::of(&raw)
    }

    /// Returns the schema of `{"value": …}` with a value of this schema.
    pub(crate) fn wrapped(&self) -> Value {
        let mut value = (*self.raw).clone();
        for (pointer, reference) in Survey::references(&self.raw) {
            if let Some(there) = value.pointer_mut(&pointer) {
                *there = moved(&reference).into();
            }
        }
        let mut outer = Map::new();
        for keyword in ["$schema", "$id"].into_iter().chain(DEFINITIONS) {
            if let Some(members) = value.as_object_mut()
                && let Some(moved) = members.shift_remove(keyword)
            {
                outer.insert(keyword.to_owned(), moved);
            }
        }
        outer.insert("type".to_owned(), "object".into());
        outer.insert("properties".to_owned(), json!({ WRAPPED: value }));
        outer.insert("required".to_owned(), json!([WRAPPED]));
        outer.insert("additionalProperties".to_owned(), false.into());
        outer.into()
    }
}

/// Returns what `reference` has to say once the schema stands inside the other.
fn moved(reference: &str) -> String {
    let stays = DEFINITIONS.iter().any(|keyword| {
        let rest = reference.strip_prefix("#/").and_then(|rest| rest.strip_prefix(keyword));
        rest.is_some_and(|rest| rest.starts_with('/'))
    });
    match reference.strip_prefix('#') {
        Some(fragment) if !stays && (fragment.is_empty() || fragment.starts_with('/')) => {
            format!("#/properties/{WRAPPED}{fragment}")
        }
        // An anchor is found wherever it stands.
        Some(_) | None => reference.to_owned(),
    }
}
