//! What can never fit, and what is taken to.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schema(raw: Value) -> Schema {
    Schema::new(raw).unwrap()
}

/// Returns why a value of one schema never fits the other.
fn never(from: Value, to: Value) -> String {
    let told = fits(&schema(from), &schema(to)).unwrap_err().to_string();
    told.strip_prefix("it ").unwrap_or(&told).to_owned()
}

fn may(from: Value, to: Value) {
    assert_eq!(fits(&schema(from.clone()), &schema(to.clone())), Ok(()), "{from} {to}");
}

#[test]
fn types_that_share_no_value_never_fit() {
    let kind = |kind: Value| json!({ "type": kind });
    assert_eq!(
        never(kind(json!("string")), kind(json!("array"))),
        "is text, and a list is expected"
    );
    assert_eq!(
        never(kind(json!(["string", "null"])), kind(json!(["object", "integer"]))),
        "is text or null, and an object or an integer is expected"
    );
    assert_eq!(
        never(kind(json!("boolean")), kind(json!("number"))),
        "is true or false, and a number is expected"
    );
    may(kind(json!("integer")), kind(json!("number")));
    may(kind(json!("number")), kind(json!("integer")));
    may(kind(json!(["string", "null"])), kind(json!(["null", "object"])));
    may(json!(true), kind(json!("array")));
    may(kind(json!("array")), json!({ "minLength": 3 }));
    assert_eq!(never(kind(json!("array")), json!(false)), "can be nothing");
    may(json!(false), kind(json!("array")));
}

#[test]
fn listed_values_have_to_meet() {
    assert_eq!(
        never(json!({ "enum": ["a", "b"] }), json!({ "enum": ["c"] })),
        "can only be \"a\", \"b\", and \"c\" is expected"
    );
    assert_eq!(
        never(json!({ "const": 1 }), json!({ "type": "string" })),
        "is an integer, and text is expected"
    );
    assert_eq!(
        never(json!({ "type": "integer" }), json!({ "enum": ["x", null] })),
        "is an integer, and text or null is expected"
    );
    may(json!({ "enum": ["a", "b"] }), json!({ "enum": ["c", "b"] }));
    may(json!({ "type": "string" }), json!({ "enum": ["c"] }));
    may(json!({ "enum": [1.0] }), json!({ "type": "integer" }));
    may(json!({ "enum": [{ "a": [1.0] }] }), json!({ "const": { "a": [1] } }));
}

#[test]
fn what_is_required_has_to_be_possible() {
    let closed = |properties: Value| json!({ "type": "object", "properties": properties, "additionalProperties": false });
    let needs = |name: &str, kind: &str| json!({ "type": "object", "properties": { name: { "type": kind } }, "required": [name] });
    assert_eq!(
        never(closed(json!({ "a": {} })), needs("b", "string")),
        "has no `b`, which is required"
    );
    assert_eq!(
        never(needs("b", "string"), closed(json!({ "a": {} }))),
        "has `b`, which is not allowed"
    );
    assert_eq!(
        never(closed(json!({ "a": { "type": "array" } })), needs("a", "string")),
        "`/a` is a list, and text is expected"
    );
    assert_eq!(
        never(needs("a", "string"), json!({ "properties": { "a": { "type": "null" } } })),
        "`/a` is text, and null is expected"
    );
    assert_eq!(
        never(
            json!({ "type": "object", "additionalProperties": { "type": "integer" } }),
            needs("x", "string")
        ),
        "`/x` is an integer, and text is expected"
    );
    may(json!({ "type": "object" }), needs("b", "string"));
    // What need not be there may be left out.
    may(closed(json!({ "a": { "type": "array" } })), closed(json!({ "a": { "type": "string" } })));
    let mut patterns = closed(json!({}));
    patterns["patternProperties"] = json!({ "^x": {} });
    may(patterns.clone(), needs("b", "string"));
    may(needs("b", "string"), patterns);
    // Where something else than an object fits both, that may be meant.
    let mut nullable = needs("b", "string");
    nullable["type"] = json!(["object", "null"]);
    let mut other = closed(json!({}));
    other["type"] = json!(["object", "null"]);
    may(other, nullable);
}

#[test]
fn items_of_lists_have_to_fit() {
    let list = |items: Value| json!({ "type": "array", "items": items });
    assert_eq!(
        never(list(json!({ "type": "string" })), list(json!({ "type": "object" }))),
        "`/*` is text, and an object is expected"
    );
    let pair = json!({
        "type": "array", "prefixItems": [{ "type": "string" }, { "type": "null" }],
        "items": false, "minItems": 2,
    });
    assert_eq!(
        never(pair.clone(), list(json!({ "type": "string" }))),
        "`/1` is null, and text is expected"
    );
    assert_eq!(
        never(pair.clone(), json!({ "maxItems": 1 })),
        "has at least 2 items, which are too many"
    );
    assert_eq!(
        never(json!({ "type": "array", "maxItems": 1 }), pair),
        "has at most 1 items, which are too few"
    );
    may(list(json!({ "type": "string" })), json!({ "type": "array" }));
    may(list(json!({ "type": "string" })), list(json!(false)));
}

#[test]
fn parts_and_choices_are_looked_into() {
    let defined = json!({
        "$defs": { "Text": { "type": "string" }, "Both": { "allOf": [{ "$ref": "#/$defs/Text" }] } },
        "$ref": "#/$defs/Both",
    });
    assert_eq!(
        never(defined.clone(), json!({ "type": "array" })),
        "is text, and a list is expected"
    );
    assert_eq!(
        never(json!({ "type": "array" }), defined.clone()),
        "is a list, and text is expected"
    );
    let either = json!({ "anyOf": [{ "type": "array" }, defined["$defs"]["Text"]] });
    may(either.clone(), defined.clone());
    may(defined.clone(), either.clone());
    let number = json!({ "oneOf": [{ "type": "number" }, { "type": "null" }] });
    assert_eq!(never(either.clone(), number.clone()), "is a list, and a number is expected");
    assert_eq!(never(number, either), "is a number, and a list is expected");
}

#[test]
fn recursive_schemas_are_compared_to_an_end() {
    let tree = |leaf: &str| {
        json!({
            "$defs": { "Node": {
                "type": "object",
                "properties": { "value": { "type": leaf }, "next": { "$ref": "#/$defs/Node" } },
                "required": ["value", "next"],
            } },
            "$ref": "#/$defs/Node",
        })
    };
    may(tree("string"), tree("string"));
    assert_eq!(never(tree("string"), tree("null")), "`/value` is text, and null is expected");
}

#[test]
fn members_are_known_as_far_as_the_schema_says() {
    let raw = json!({
        "$defs": { "Plan": {
            "type": "object",
            "properties": { "queries": { "type": "array" } },
            "additionalProperties": false,
        } },
        "anyOf": [{ "$ref": "#/$defs/Plan" }, { "type": "null" }],
    });
    let found = |raw: &Value, name: &str| match member(Node::root(raw), name) {
        Member::Any => "anything".to_owned(),
        Member::Of(nodes) => {
            nodes.iter().map(|node| node.value.to_string()).collect::<Vec<_>>().join(" ")
        }
        Member::Never(why) => why,
    };
    assert_eq!(found(&raw, "queries"), r#"{"type":"array"}"#);
    assert_eq!(found(&raw["$defs"]["Plan"], "querys"), "has no `querys`; did you mean `queries`?");
    assert_eq!(found(&raw["$defs"]["Plan"], "zzz"), "has no `zzz`; it has queries");
    assert_eq!(found(&raw, "zzz"), "has no `zzz`; it has queries");
    assert_eq!(found(&json!({ "type": "string" }), "x"), "is text, and has no members");
    assert_eq!(found(&json!({ "type": ["string", "object"] }), "x"), "anything");
    assert_eq!(found(&json!(true), "x"), "anything");
    assert_eq!(found(&json!({ "enum": [{ "a": 1 }, 2] }), "x"), "anything");
    let open = json!({ "type": "object", "additionalProperties": { "type": "integer" } });
    assert_eq!(found(&open, "x"), r#"{"type":"integer"}"#);
}

#[test]
fn the_texts_of_a_choice_are_known() {
    let of = |raw: Value| texts(Node::root(&raw));
    assert_eq!(of(json!({ "enum": ["a", "b"] })), Some(vec!["a".to_owned(), "b".to_owned()]));
    let documented = json!({ "oneOf": [{ "const": "a", "description": "A" }, { "const": "b" }] });
    assert_eq!(of(documented), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(of(json!({ "anyOf": [{ "const": "a" }, { "type": "string" }] })), None);
    let nullable = json!({ "anyOf": [{ "enum": ["a"] }, { "type": "null" }] });
    assert_eq!(of(nullable), Some(vec!["a".to_owned()]));
    assert_eq!(of(json!({ "type": "string" })), None);
}

#[test]
fn an_embedded_schema_means_the_same() {
    let raw = json!({
        "$defs": { "T": { "type": "string" } },
        "properties": { "a": { "$ref": "#/$defs/T" }, "b": { "$ref": "#" }, "$ref": true },
    });
    let outer = json!({ "$defs": { "x": embedded(&raw, "/$defs/x") } });
    assert_eq!(outer["$defs"]["x"]["properties"]["a"]["$ref"], "#/$defs/x/$defs/T");
    assert_eq!(outer["$defs"]["x"]["properties"]["b"]["$ref"], "#/$defs/x");
    assert_eq!(outer["$defs"]["x"]["properties"]["$ref"], true);
}

fn any_schema() -> impl Strategy<Value = Value> {
    let names = vec!["null", "boolean", "integer", "number", "string", "array", "object"];
    let leaf = prop_oneof![
        prop::sample::select(names).prop_map(|name| json!({ "type": name })),
        prop::collection::vec(any_value(), 1..3).prop_map(|values| json!({ "enum": values })),
        any_value().prop_map(|value| json!({ "const": value })),
        any::<bool>().prop_map(Value::from),
        Just(json!({})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let properties = prop::collection::btree_map("[ab]", inner.clone(), 0..3);
        let object = (properties, prop::collection::vec("[ab]", 0..2), inner.clone()).prop_map(
            |(properties, required, other)| {
                json!({
                    "type": "object", "properties": properties, "required": required,
                    "additionalProperties": other,
                })
            },
        );
        let choices = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            object,
            inner
                .clone()
                .prop_map(|items| json!({ "type": "array", "items": items, "minItems": 1 })),
            choices.clone().prop_map(|choices| json!({ "anyOf": choices })),
            choices.clone().prop_map(|choices| json!({ "oneOf": choices })),
            choices.prop_map(|parts| json!({ "allOf": parts })),
            inner.prop_map(|inner| json!({ "$defs": { "d": inner }, "$ref": "#/$defs/d" })),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0]).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Returns `raw` with its inner references as they have to be where it stands alone.
fn alone(raw: Value) -> Option<Schema> {
    Schema::new(raw).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What is said never to fit is never found to.
    #[test]
    fn no_value_fits_both_where_none_ever_can(
        from in any_schema(),
        to in any_schema(),
        values in prop::collection::vec(any_value(), 8),
    ) {
        let (Some(from), Some(to)) = (alone(from), alone(to)) else { return Ok(()) };
        if fits(&from, &to).is_err() {
            for value in values {
                let both = from.validate(&value).is_ok() && to.validate(&value).is_ok();
                prop_assert!(!both, "{value} fits {from:?} and {to:?}");
            }
        }
    }

    #[test]
    fn every_schema_fits_itself_unless_nothing_does(
        raw in any_schema(),
        values in prop::collection::vec(any_value(), 8),
    ) {
        let Some(schema) = alone(raw) else { return Ok(()) };
        if values.iter().any(|value| schema.validate(value).is_ok()) {
            prop_assert_eq!(fits(&schema, &schema), Ok(()));
        }
    }

    #[test]
    fn types_and_members_rule_nothing_out_that_is_there(raw in any_schema(), value in any_value()) {
        let Some(schema) = alone(raw) else { return Ok(()) };
        if schema.validate(&value).is_ok() {
            let node = Node::root(schema.raw());
            prop_assert!(!kinds(node).and(Kinds::of(&value)).is_empty(), "{value} {schema:?}");
            for name in ["a", "b"] {
                if value.get(name).is_some() {
                    prop_assert!(!matches!(member(node, name), Member::Never(_)), "{value} {schema:?}");
                }
            }
        }
    }
}
