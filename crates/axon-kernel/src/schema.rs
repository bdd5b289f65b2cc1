//! JSON Schemas: compiled once, from data only, and then used to check what crosses a boundary.
//!
//! A [`Schema`] exists only if it can be used: its `$ref`s point into itself, none of them runs in
//! a circle, its patterns match in linear time, and it is neither too deep nor too large.

pub(crate) mod fit;
mod inhabited;
mod survey;
mod typed;
mod wrap;

use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::{Serialize, Serializer};
use serde_json::Value;

pub use self::fit::{Mismatch, fits};
use self::survey::Survey;
pub use self::typed::{TypeError, TypeFault};
pub(crate) use self::wrap::WRAPPED;
use crate::json::{MAX_DEPTH, excerpt};

/// The largest schema, in bytes of JSON (256 KiB).
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// The deepest nesting of a schema, which has to fit into a request within [`MAX_DEPTH`].
pub const MAX_SCHEMA_DEPTH: usize = MAX_DEPTH - 6;

/// How many violations are told of one value.
pub const MAX_VIOLATIONS: usize = 16;

/// The longest message of one violation, in bytes.
const MAX_MESSAGE: usize = 300;

/// How many subschemas may apply to one value, counting each as often as it is reached.
const MAX_UNFOLDED: u64 = 100_000;

/// How many subschemas may apply to one value through one another.
const MAX_CHAIN: u32 = 128;

/// A JSON Schema that is ready to check values (Draft 2020-12 unless its `$schema` says otherwise).
#[derive(Clone)]
pub struct Schema {
    raw: Arc<Value>,
    validator: Arc<Validator>,
}

/// Why a value was refused as a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It nests deeper than [`MAX_SCHEMA_DEPTH`].
    #[error("the schema nests deeper than {MAX_SCHEMA_DEPTH} levels: move parts into \"$defs\"")]
    TooDeep,
    /// It is larger than [`MAX_SCHEMA_BYTES`].
    #[error("the schema has {bytes} bytes of JSON, more than the {MAX_SCHEMA_BYTES} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A reference leaves the schema.
    #[error(
        "`{reference}` at {pointer} points outside the schema, and nothing is fetched: \
         copy the definition into \"$defs\" and refer to it as \"#/$defs/NAME\""
    )]
    RemoteRef {
        /// Where the reference stands.
        pointer: String,
        /// The reference.
        reference: String,
    },
    /// A reference points to nothing.
    #[error("`{reference}` at {pointer} points to nothing in the schema")]
    DanglingRef {
        /// Where the reference stands.
        pointer: String,
        /// The reference.
        reference: String,
    },
    /// A part of the schema names itself a resource of its own.
    #[error("\"$id\" at {pointer} is not supported below the top: remove it")]
    NestedId {
        /// Where it stands.
        pointer: String,
    },
    /// Following references comes back to the start without looking into the value.
    #[error(
        "{pointer} refers to itself without going deeper into the value, so no check would end"
    )]
    Circular {
        /// A subschema on the circle.
        pointer: String,
    },
    /// Checking one value would take forever.
    #[error(
        "{pointer} unfolds to more than {MAX_UNFOLDED} subschemas for one value, \
         or to more than {MAX_CHAIN} through one another"
    )]
    TooComplex {
        /// The subschema.
        pointer: String,
    },
    /// It breaks the rules of its dialect.
    #[error("not a valid JSON Schema at {pointer}: {message}")]
    Invalid {
        /// The offending part.
        pointer: String,
        /// What is wrong there.
        message: String,
    },
    /// The top level is not an object, which the arguments of a tool are.
    #[error(
        "the arguments of a tool are an object, so the top level must say \"type\": \"object\" \
         (found {found}): give {{\"type\": \"object\", \"properties\": {{\"value\": …}}, \
         \"required\": [\"value\"]}}"
    )]
    NotAnObject {
        /// What the top level says.
        found: String,
    },
}

/// One way in which a value breaks a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where in the value, as a JSON pointer.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "(top level)" } else { &self.pointer };
        write!(f, "{pointer}: {}", self.message)
    }
}

impl Schema {
    /// Compiles `raw`.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if it is no schema, refers to anything outside itself, or cannot be checked
    /// in bounded time.
    pub fn new(raw: Value) -> Result<Self, SchemaError> {
        if depth_exceeds(&raw, MAX_SCHEMA_DEPTH) {
            return Err(SchemaError::TooDeep);
        }
        let bytes = raw.to_string().len();
        if bytes > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge { bytes });
        }
        Survey::of(&raw)?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .build(&raw)
            .map_err(|error| invalid(&error))?;
        Ok(Self { raw: Arc::new(raw), validator: Arc::new(validator) })
    }

    /// Checks that it can be the schema of a tool's arguments. An output may be of any kind.
    ///
    /// # Errors
    ///
    /// [`SchemaError::NotAnObject`] if its top level is not an object.
    pub fn for_arguments(self) -> Result<Self, SchemaError> {
        match self.raw.get("type") {
            Some(Value::String(kind)) if kind == "object" => Ok(self),
            Some(other) => Err(SchemaError::NotAnObject { found: excerpt(&other.to_string(), 80) }),
            None => Err(SchemaError::NotAnObject { found: "no \"type\"".to_owned() }),
        }
    }

    /// Checks `value`.
    ///
    /// # Errors
    ///
    /// The first [`MAX_VIOLATIONS`] ways in which it breaks the schema.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        Err(self.validator.iter_errors(value).take(MAX_VIOLATIONS).map(violation).collect())
    }

    /// Returns the schema as it was given.
    #[must_use]
    pub fn raw(&self) -> &Value {
        &self.raw
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.raw)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl TryFrom<Value> for Schema {
    type Error = SchemaError;

    fn try_from(raw: Value) -> Result<Self, SchemaError> {
        Self::new(raw)
    }
}

fn invalid(error: &ValidationError<'_>) -> SchemaError {
    SchemaError::Invalid {
        pointer: shown(error.instance_path().as_str()),
        message: excerpt(&error.to_string(), MAX_MESSAGE),
    }
}

fn violation(error: ValidationError<'_>) -> Violation {
    Violation {
        pointer: error.instance_path().as_str().to_owned(),
        message: excerpt(&error.to_string(), MAX_MESSAGE),
    }
}

fn depth_exceeds(value: &Value, levels: usize) -> bool {
    let children: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    let mut children = children;
    levels == 0 || children.any(|child| depth_exceeds(child, levels - 1))
}

fn shown(pointer: &str) -> String {
    if pointer.is_empty() { "the top level".to_owned() } else { pointer.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn refused(raw: Value) -> SchemaError {
        Schema::new(raw).unwrap_err()
    }

    #[test]
    fn references_out_of_the_schema_are_refused_by_place() {
        for reference in ["https://x.org/a.json", "file:///etc/passwd", "other.json#/a", "/x"] {
            let error = refused(json!({ "properties": { "a/b": { "$ref": reference } } }));
            let (pointer, reference) = ("/properties/a~1b".to_owned(), reference.to_owned());
            assert_eq!(error, SchemaError::RemoteRef { pointer, reference });
        }
        // A property of that name, and data, are no references.
        let schema = json!({
            "properties": { "$ref": { "type": "string" }, "$id": { "type": "string" } },
            "default": { "$ref": "https://x.org" },
        });
        assert!(Schema::new(schema).is_ok());
    }

    #[test]
    fn references_to_nothing_and_nested_resources_are_refused() {
        let error = refused(json!({ "$ref": "#/$defs/gone" }));
        assert!(matches!(error, SchemaError::DanglingRef { .. }), "{error}");
        let error = refused(json!({ "items": { "$ref": "#gone" } }));
        assert!(matches!(error, SchemaError::DanglingRef { .. }), "{error}");
        let error = refused(json!({ "items": { "$id": "https://x.org/a" } }));
        assert!(matches!(error, SchemaError::NestedId { .. }), "{error}");
    }

    #[test]
    fn recursion_into_the_value_is_fine_and_recursion_in_place_is_refused() {
        let tree = json!({
            "$ref": "#/$defs/Node",
            "$defs": { "Node": {
                "type": "object",
                "properties": { "next": { "anyOf": [{ "$ref": "#/$defs/Node" }, { "type": "null" }] } },
            } },
        });
        let tree = Schema::new(tree).unwrap();
        assert_eq!(tree.validate(&json!({ "next": { "next": null } })), Ok(()));
        assert_eq!(tree.validate(&json!({ "next": { "next": 1 } })).unwrap_err().len(), 1);
        for circle in [
            json!({ "$ref": "#" }),
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "allOf": [{ "$ref": "#/$defs/a" }] } } }),
            json!({ "other": { "not": { "$ref": "#/other" } }, "$ref": "#/other" }),
            json!({ "$anchor": "top", "if": { "$ref": "#top" } }),
        ] {
            let error = refused(circle);
            assert!(matches!(error, SchemaError::Circular { .. }), "{error}");
        }
    }

    #[test]
    fn schemas_that_take_forever_are_refused() {
        let mut defs = Map::new();
        for level in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            defs.insert(format!("d{level}"), json!({ "allOf": [next.clone(), next] }));
        }
        defs.insert("d40".to_owned(), json!({ "type": "string" }));
        let error = refused(json!({ "$ref": "#/$defs/d0", "$defs": defs }));
        assert!(matches!(error, SchemaError::TooComplex { .. }), "{error}");

        let chain: Map<String, Value> = (0..3000)
            .map(|i| {
                (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", (i + 1).min(3000)) }))
            })
            .chain([("d3000".to_owned(), json!(true))])
            .collect();
        let error = refused(json!({ "$ref": "#/$defs/d0", "$defs": chain }));
        assert!(matches!(error, SchemaError::TooComplex { .. }), "{error}");

        let mut deep = json!(true);
        for _ in 0..100 {
            deep = json!({ "items": deep });
        }
        assert_eq!(refused(deep), SchemaError::TooDeep);
        let large = json!({ "description": "x".repeat(MAX_SCHEMA_BYTES) });
        assert!(matches!(refused(large), SchemaError::TooLarge { .. }));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let error = refused(json!({ "properties": { "a": { "type": "strnig" } } }));
        let SchemaError::Invalid { pointer, message } = error else { panic!("{error}") };
        assert_eq!(pointer, "/properties/a/type");
        assert!(message.contains("strnig"), "{message}");
        for raw in [json!(3), json!({ "minimum": "x" }), json!({ "$schema": "https://x.org/mine" })]
        {
            assert!(Schema::new(raw).is_err());
        }
        // Look-around needs an engine whose time is not linear.
        let error = refused(json!({ "pattern": "^(?=a)b$" }));
        assert!(matches!(error, SchemaError::Invalid { .. }), "{error}");
    }

    #[test]
    fn violations_are_placed_and_bounded() {
        let schema = Schema::new(json!({ "items": { "type": "integer", "maximum": 9 } })).unwrap();
        let long = "x".repeat(10_000);
        let violations = schema.validate(&json!([1, long, 10])).unwrap_err();
        assert_eq!(violations.len(), 2);
        assert_eq!(violations[0].pointer, "/1");
        assert!(violations[0].message.len() < 400);
        assert_eq!(violations[1].to_string(), "/2: 10 is greater than the maximum of 9");
        let many = Value::from(vec!["x"; 1000]);
        assert_eq!(schema.validate(&many).unwrap_err().len(), MAX_VIOLATIONS);
    }

    #[test]
    fn patterns_match_in_linear_time() {
        let schema = Schema::new(json!({ "pattern": "^(a+)+$" })).unwrap();
        assert!(schema.validate(&json!("a".repeat(50_000) + "!")).is_err());
    }

    #[test]
    fn arguments_are_an_object_and_others_are_told_how_to_become_one() {
        let object = Schema::new(json!({ "type": "object" })).unwrap();
        assert_eq!(object.clone().for_arguments(), Ok(object));
        for raw in [json!({ "type": "array" }), json!({ "enum": [1] }), json!(true)] {
            let error = Schema::new(raw).unwrap().for_arguments().unwrap_err();
            assert!(error.to_string().contains("give {\"type\": \"object\""), "{error}");
        }
    }

    #[test]
    fn schemas_are_equal_by_what_they_say() {
        let schema = |raw| Schema::new(raw).unwrap();
        assert_eq!(schema(json!({ "type": "string" })), schema(json!({ "type": "string" })));
        assert_ne!(schema(json!({ "type": "string" })), schema(json!(true)));
    }

    proptest! {
        #[test]
        fn any_references_are_compiled_or_refused(edges in prop::collection::vec((0..6_u8, 0..7_u8, 0..6_u8), 0..12)) {
            let mut defs: Map<String, Value> = (0..6).map(|i| (format!("d{i}"), json!({}))).collect();
            for (from, how, to) in edges {
                let target = json!({ "$ref": format!("#/$defs/d{to}") });
                let part = match how {
                    0 => json!({ "allOf": [target] }),
                    1 => json!({ "anyOf": [target, { "type": "null" }] }),
                    2 => json!({ "not": target }),
                    3 => json!({ "properties": { "x": target } }),
                    4 => json!({ "items": target }),
                    5 => json!({ "dependentSchemas": { "x": target } }),
                    _ => target,
                };
                let def = defs.get_mut(&format!("d{from}")).unwrap().as_object_mut().unwrap();
                def.extend(part.as_object().unwrap().clone());
            }
            if let Ok(schema) = Schema::new(json!({ "$ref": "#/$defs/d0", "$defs": defs })) {
                let _ = schema.validate(&json!({ "x": { "x": [[], { "x": null }] } }));
            }
        }
    }
}
