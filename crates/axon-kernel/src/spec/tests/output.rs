//! What a file says of the answer: of which kind, and what the model is asked for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{load, problems, read};
use crate::json::RawJson;
use crate::schema::{Schema, SchemaError};
use crate::spec::{AgentSpec, FileText, OutputMode, OutputSpec, ToolName};

fn output(schema: Value) -> OutputSpec {
    OutputSpec::new(Schema::new(schema).unwrap())
}

fn raw(value: &Value) -> RawJson {
    value.into()
}

#[test]
fn plain_text_has_no_schema_and_everything_else_has_one() {
    let spec = load("model = 'test'\n[output]\nmode = 'text'").unwrap();
    assert_eq!(spec.output, Some(OutputSpec::text()));
    assert_eq!(spec.to_wire()["output"], json!({"mode": "text"}));
    let text = spec.to_toml().unwrap();
    assert_eq!(load(&text).unwrap().output, spec.output, "{text}");

    let text =
        "model = 'test'\n[output]\nmode = 'text'\nschema = { type = 'string' }\nstrict = true";
    assert_eq!(
        problems(text),
        [
            "agent.toml:4:10: output.schema: mode = \"text\" is plain text: leave `schema` out, or \
             choose the mode \"auto\", \"tool\", \"native\" or \"prompted\"",
            "agent.toml:5:10: output.strict: mode = \"text\" is plain text: leave `strict` out, or \
             choose the mode \"auto\", \"tool\", \"native\" or \"prompted\"",
        ]
    );
    assert_eq!(
        problems("model = 'test'\n[output]\nname = 'answer'"),
        ["agent.toml:2:1: output: an output needs a schema, or mode = \"text\" for plain text"]
    );
}

#[test]
fn objects_are_asked_for_as_they_are_and_everything_else_inside_one() {
    let object = output(json!({"type": "object", "properties": {"value": {}}}));
    assert!(!object.is_wrapped());
    assert_eq!(object.wire_schema().as_ref(), object.schema.as_ref().map(Schema::raw));
    let said = raw(&json!({"value": 1}));
    assert_eq!(*object.unwrap(&said).unwrap(), said);

    for schema in [
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"enum": ["yes", "no"]}),
        json!({"oneOf": [{"const": 1}, {"type": "null"}]}),
        json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        json!({"type": ["object", "null"]}),
        json!(true),
    ] {
        let spec = output(schema.clone());
        assert!(spec.is_wrapped(), "{schema}");
        let wire = Schema::new(spec.wire_schema().unwrap()).unwrap();
        assert!(wire.is_object(), "{wire:?}");
        assert_eq!(wire.raw()["properties"]["value"], schema);
        assert_eq!(*spec.unwrap(&raw(&json!({"value": 7}))).unwrap(), raw(&json!(7)));
        assert!(spec.unwrap(&raw(&json!({}))).is_err() && spec.unwrap(&raw(&json!(7))).is_err());
        assert!(spec.unwrap_partial(&raw(&json!({}))).is_none());
    }
    assert!(OutputSpec::text().wire_schema().is_none());
}

#[test]
fn references_still_lead_where_they_led_inside_the_object() {
    let tree = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "a tree, in a list of such",
        "type": "array",
        "items": {"$ref": "#/$defs/a~1node"},
        "$defs": {
            "a/node": {"type": "object", "properties": {
                "below": {"$ref": "#"},
                "first": {"$ref": "#/items"},
                "named": {"$ref": "#here"},
                "$ref": {"const": {"$ref": "#"}},
                "old": {"$ref": "#/definitions/old"},
            }, "additionalProperties": false},
            "here": {"$anchor": "here", "type": "integer"},
        },
        "definitions": {"old": {"type": "string"}},
    });
    let (schema, spec) = (Schema::new(tree.clone()).unwrap(), output(tree));
    let wire = Schema::new(spec.wire_schema().unwrap()).unwrap();
    assert_eq!(wire.raw()["$defs"]["a/node"]["properties"]["below"]["$ref"], "#/properties/value");
    for value in [
        json!([]),
        json!([{"below": [{"named": 1}]}]),
        json!([{"below": {}}]),
        json!([{"first": {"below": [1]}}]),
        json!([{"first": {"named": "x"}}]),
        json!([{"$ref": {"$ref": "#"}}]),
        json!([{"$ref": {"$ref": "#/properties/value"}}]),
        json!([{"old": "x"}]),
        json!([{"old": 1}]),
        json!({}),
    ] {
        let wrapped = wire.validate(&json!({"value": value}));
        assert_eq!(schema.validate(&value).is_ok(), wrapped.is_ok(), "{value}");
    }
}

#[test]
fn the_arguments_of_a_tool_are_an_object_still() {
    let schema = Schema::new(json!({"type": "array"})).unwrap();
    assert!(matches!(schema.for_arguments(), Err(SchemaError::NotAnObject { .. })));
}

fn kind() -> impl Strategy<Value = OutputSpec> {
    use OutputMode::{Auto, Native, Prompted, Tool};
    let schema = prop_oneof![
        Just(json!({"type": "object", "properties": {"b": {"default": null}, "a": {}}})),
        Just(json!({"enum": [null, 1, "${x}"]})),
        Just(json!({"type": "array", "items": {"$ref": "#"}})),
        Just(json!(true)),
    ];
    let rest =
        (prop::option::of("[a-z]{1,5}"), prop::option::of("\\PC{0,9}"), any::<Option<bool>>());
    let structured = (schema, prop::sample::select(vec![Auto, Tool, Native, Prompted]), rest);
    let structured = structured.prop_map(|(schema, mode, (name, description, strict))| {
        let name = name.map(|name| ToolName::try_from(name).unwrap());
        OutputSpec { name, description, strict, ..output(schema).with_mode(mode) }
    });
    prop_oneof![Just(OutputSpec::text()), structured]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_output_is_printed_and_comes_back(output in kind()) {
        let mut spec = AgentSpec::new("bank".parse().unwrap());
        spec.model = Some("test".parse().unwrap());
        spec.output = Some(output);
        prop_assert_eq!(spec.check(), Ok(()));
        let text = spec.to_toml().unwrap();
        let file = FileText { path: "agent.toml", text: &text };
        let back = AgentSpec::from_toml(spec.name.clone(), file, &|_| None, &read);
        prop_assert_eq!(back.unwrap().output, spec.output);
    }
}
