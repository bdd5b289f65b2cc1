//! What Rust types cannot be made of, and where it stands.

use serde_json::{Map, Value};

/// A keyword that no type says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{keyword}` at {pointer} cannot be said by a Rust type")]
pub(super) struct Unsupported {
    keyword: String,
    pointer: String,
}

/// Keywords whose types would let pass what they forbid, or refuse what they allow.
const UNSUPPORTED: [&str; 14] = [
    "$anchor",
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords that hold schemas, each as it does.
pub(super) const NAMED: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];
pub(super) const LISTED: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
pub(super) const SINGLE: [&str; 3] = ["additionalItems", "additionalProperties", "items"];

/// How a keyword holds schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// By their names.
    Named,
    /// In order.
    Listed,
    /// It holds one.
    One,
    /// Not at all: what looks like one there is none.
    Data,
}

/// Returns how `key` holds schemas in `value`.
pub(super) fn holds(key: &str, value: &Value) -> Holds {
    if NAMED.contains(&key) && value.is_object() {
        Holds::Named
    } else if (LISTED.contains(&key) || key == "items") && value.is_array() {
        Holds::Listed
    } else if SINGLE.contains(&key) && value.is_object() {
        Holds::One
    } else {
        Holds::Data
    }
}

/// Looks for what is not supported.
pub(super) fn check(schema: &Value) -> Result<(), Unsupported> {
    at(schema, "#")
}

fn at(schema: &Value, pointer: &str) -> Result<(), Unsupported> {
    let Value::Object(schema) = schema else { return Ok(()) };
    let refuse = |keyword: &str| {
        Err(Unsupported { keyword: keyword.to_owned(), pointer: pointer.to_owned() })
    };
    if let Some(keyword) = UNSUPPORTED.into_iter().find(|keyword| schema.contains_key(*keyword)) {
        return refuse(keyword);
    }
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) if !is_definition(reference) => return refuse("$ref"),
        Some(_) | None => {}
    }
    if schema.contains_key("patternProperties") && has_members(schema) {
        return refuse("patternProperties");
    }
    if schema.contains_key("prefixItems") && !is_closed(schema) {
        return refuse("prefixItems");
    }
    children(schema).try_for_each(|(place, child)| at(child, &format!("{pointer}/{place}")))
}

/// Returns the schemas right below one, with their places.
pub(super) fn children(schema: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    schema.iter().flat_map(|(key, value)| {
        let found: Vec<(String, &Value)> = match (holds(key, value), value) {
            (Holds::Named, Value::Object(members)) => members
                .iter()
                .map(|(name, child)| (format!("{key}/{}", escaped(name)), child))
                .collect(),
            (Holds::Listed, Value::Array(items)) => {
                items.iter().enumerate().map(|(at, child)| (format!("{key}/{at}"), child)).collect()
            }
            (Holds::One, schema) => vec![(key.clone(), schema)],
            (Holds::Named | Holds::Listed | Holds::Data, _) => Vec::new(),
        };
        found
    })
}

/// Returns a name as a pointer has it.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn is_definition(reference: &str) -> bool {
    let name =
        reference.strip_prefix("#/$defs/").or_else(|| reference.strip_prefix("#/definitions/"));
    reference == "#" || name.is_some_and(|name| !name.contains(['/', '~', '%']))
}

fn has_members(schema: &Map<String, Value>) -> bool {
    let members = schema.get("properties").and_then(Value::as_object);
    members.is_some_and(|members| !members.is_empty())
}

/// Returns whether an array has exactly the items that are listed.
fn is_closed(schema: &Map<String, Value>) -> bool {
    let count = schema.get("prefixItems").and_then(Value::as_array).map(|items| items.len() as u64);
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    bound("minItems") == count
        && (bound("maxItems") == count || schema.get("items") == Some(&Value::Bool(false)))
}
