//! Rust types from schemas: they compile outside the repository, values go through them unchanged,
//! and their own schemas are those that they were made of.

use std::path::Path;
use std::process::Command;

use axon_kernel::schema::Schema;
use serde_json::{Value, json};

use crate::command_line;
use crate::support::{Project, repository};

const MODELS: &str = r#"
from __future__ import annotations
import dataclasses
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union
from typing_extensions import TypedDict
from pydantic import BaseModel, Field, TypeAdapter

class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"

class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9, description="How many are left.")

class Dog(BaseModel):
    kind: Literal["dog"]
    name: str

class Node(BaseModel):
    """A tree."""
    value: int
    children: list[Node] = []

class Order(BaseModel):
    """What is asked."""
    colour: Colour = Colour.RED
    pet: Annotated[Union[Cat, Dog], Field(discriminator="kind")]
    maybe: Optional[str] = None
    need: int | None
    tree: Node
    scores: dict[str, float] = {}
    pair: tuple[int, str]
    either: int | str
    code: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    level: Annotated[int, Field(ge=1, le=10)] = 3
    type: Literal["x", "y"]

@dataclasses.dataclass
class Point:
    x: float
    label: str = ""

class Address(TypedDict):
    street: str

Either = TypeAdapter(Union[Cat, Point])
"#;

/// One type: where it comes from, what fits it, and what does not.
struct Case {
    module: &'static str,
    name: &'static str,
    source: Source,
    good: Vec<Value>,
    bad: Vec<Value>,
}

enum Source {
    Model(&'static str),
    Schema(Value),
}

fn order() -> Value {
    json!({"colour": "dark blue", "pet": {"kind": "cat", "lives": 7}, "maybe": "yes", "need": null,
        "tree": {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]},
        "scores": {"a": 1.5}, "pair": [1, "two"], "either": "text", "code": "ABC", "level": 9,
        "type": "y"})
}

fn without(mut value: Value, key: &str, other: Option<Value>) -> Value {
    let members = value.as_object_mut().unwrap();
    members.remove(key);
    members.extend(other.map(|other| (key.to_owned(), other)));
    value
}

fn cases() -> Vec<Case> {
    let (mut all, schemas) = (models(), schemas());
    all.extend(schemas);
    all
}

fn models() -> Vec<Case> {
    let dog = || without(order(), "pet", Some(json!({"kind": "dog", "name": "Rex"})));
    let wrong = |key: &str, value: Value| without(order(), key, Some(value));
    vec![
        Case {
            module: "order",
            name: "Order",
            source: Source::Model("models:Order"),
            good: vec![order(), dog()],
            bad: vec![
                without(order(), "need", None),
                wrong("code", json!("abc")),
                wrong("type", json!("z")),
                wrong("pet", json!({"kind": "cow"})),
                wrong("pair", json!([1])),
                wrong("either", json!([])),
            ],
        },
        Case {
            module: "node",
            name: "Node",
            source: Source::Model("models:Node"),
            good: vec![json!({"value": 1, "children": [{"value": 2}]})],
            bad: vec![json!({})],
        },
        Case {
            module: "point",
            name: "Point",
            source: Source::Model("models:Point"),
            good: vec![json!({"x": 1.5, "label": "a"})],
            bad: vec![json!({"label": "a"})],
        },
        Case {
            module: "address",
            name: "Address",
            source: Source::Model("models:Address"),
            good: vec![json!({"street": "s"})],
            bad: vec![json!({"street": 1})],
        },
        Case {
            module: "either",
            name: "Either",
            source: Source::Model("models:Either"),
            good: vec![json!({"kind": "cat", "lives": 1}), json!({"x": 2.5, "label": "b"})],
            bad: vec![json!({"kind": "cat"})],
        },
    ]
}

fn schemas() -> Vec<Case> {
    vec![
        Case {
            module: "event",
            name: "Event",
            good: vec![json!({"Paid": {"amount": 3}}), json!("Closed")],
            bad: vec![json!("Open")],
            source: Source::Schema(
                json!({"title": "event", "oneOf": [{"type": "string", "enum": ["Closed"]},
                {"type": "object", "properties": {"Paid": {"type": "object",
                "properties": {"amount": {"type": "integer", "minimum": 0}}, "required": ["amount"]}},
                "required": ["Paid"], "additionalProperties": false}]}),
            ),
        },
        Case {
            module: "strict",
            name: "Strict",
            good: vec![json!({"a-b": 1, "self": [true], "name": "ab"})],
            bad: vec![
                json!({"a-b": 1, "self": [], "name": "ab", "more": 1}),
                json!({"a-b": 1, "self": [], "name": "a"}),
            ],
            source: Source::Schema(json!({"type": "object", "required": ["a-b", "self", "name"],
                "additionalProperties": false, "properties": {"a-b": {"type": "integer", "format": "int32"},
                "self": {"type": "array", "items": {"type": "boolean"}},
                "name": {"type": "string", "minLength": 2, "maxLength": 4}}})),
        },
        Case {
            module: "draft7",
            name: "Draft7",
            good: vec![json!({"x": {"k": ["v"]}})],
            bad: vec![json!({"x": {"k": "v"}})],
            source: Source::Schema(json!({"$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object", "required": ["x"], "properties": {"x": {"$ref": "#/definitions/m"}},
                "definitions": {"m": {"type": "object", "additionalProperties":
                {"type": "array", "items": {"type": "string"}}}}})),
        },
    ]
}

const MANIFEST: &str = "\
[package]
name = \"stubbed\"
version = \"0.1.0\"
edition = \"2024\"

[dependencies]
regress = \"0.12\"
schemars = \"1\"
serde = { version = \"1\", features = [\"derive\"] }
serde_json = \"1\"

[profile.dev]
debug = false

[workspace]
";

const MAIN: &str = r#"
#![deny(warnings)]
#![allow(dead_code, reason = "not every conversion is used")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn through<T: Serialize + DeserializeOwned + schemars::JsonSchema>(module: &str, values: &str) -> Value {
    let values: Vec<Value> = serde_json::from_str(values).unwrap();
    let through = values.into_iter().map(|value| match serde_json::from_value::<T>(value) {
        Ok(read) => json!({"wrote": read}),
        Err(error) => json!({"refused": error.to_string()}),
    });
    json!({"module": module, "schema": schemars::schema_for!(T), "values": through.collect::<Vec<_>>()})
}
"#;

fn main_of(cases: &[Case]) -> String {
    let mut main = MAIN.to_owned();
    let mut body = String::new();
    for Case { module, name, good, bad, .. } in cases {
        main += &format!("mod {module};\n");
        let values: Value = good.iter().chain(bad).cloned().collect();
        body += &format!(
            "    println!(\"{{}}\", through::<{module}::{name}>(\"{module}\", r#\"{values}\"#));\n"
        );
    }
    format!("{main}\nfn main() {{\n{body}}}\n")
}

#[tokio::test]
async fn types_from_models_and_schemas_compile_and_take_what_their_schemas_take() {
    let project = Project::new();
    project.write("models.py", MODELS);
    project.write("Cargo.toml", MANIFEST);
    let cases = cases();
    for Case { module, name, source, .. } in &cases {
        let (file, schema) = (format!("src/{module}.rs"), format!("{module}.json"));
        project.write(&file, "");
        let source = match source {
            Source::Model(model) => ["--model", model],
            Source::Schema(value) => {
                project.write(&schema, &value.to_string());
                ["--schema", schema.as_str()]
            }
        };
        let arguments = [&["stubs", "rust"], &source[..], &["--name", name, "-o", &file]].concat();
        let (code, _, stderr) = command_line::run(&project, &arguments).await;
        assert_eq!(code, 0, "{module}: {stderr}");
    }
    project.write("src/main.rs", &main_of(&cases));
    std::fs::copy(repository().join("Cargo.lock"), project.path().join("Cargo.lock")).unwrap();
    let ran = Command::new(env!("CARGO"))
        .args(["run", "--quiet"])
        .current_dir(project.path())
        // Kept between runs, so that only the first one builds everything.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("stubs-crate"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    for (line, Case { module, good, bad, .. }) in said.lines().zip(&cases) {
        let told: Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["module"], *module);
        let schema = Schema::new(told["schema"].clone()).unwrap();
        let values = told["values"].as_array().unwrap();
        for (value, through) in good.iter().zip(values) {
            assert_eq!(through["wrote"], *value, "{module}: {through}");
            assert!(schema.validate(value).is_ok(), "{module}: {value} and {:#}", told["schema"]);
        }
        for (value, through) in bad.iter().zip(&values[good.len()..]) {
            assert!(through["refused"].is_string(), "{module}: {value} became {through}");
            assert!(schema.validate(value).is_err(), "{module}: {value}");
        }
    }
    assert_eq!(said.lines().count(), cases.len());
}

#[tokio::test]
async fn what_types_cannot_say_is_refused_with_its_place() {
    let project = Project::new();
    for (schema, says) in [
        (json!({"properties": {"a": {"not": {}}}}), "`not` at #/properties/a"),
        (json!({"$defs": {"x": {"if": {}}}}), "`if` at #/$defs/x"),
        (
            json!({"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}}),
            "`$ref` at #/properties/a",
        ),
        (json!({"properties": {"a": {"$ref": "other.json"}}}), "/properties/a"),
        (json!({"type": "array", "prefixItems": [{}]}), "`prefixItems` at #"),
        (json!({"type": 7}), "not a valid JSON Schema"),
    ] {
        project.write("schema.json", &schema.to_string());
        let arguments = ["stubs", "rust", "--schema", "schema.json"];
        let (code, stdout, stderr) = command_line::run(&project, &arguments).await;
        assert_eq!((code, &*stdout), (3, ""), "{schema}: {stderr}");
        assert!(stderr.contains(says), "{schema}: {stderr}");
    }
    let arguments = ["stubs", "rust", "--model", "json:nothing"];
    let (code, _, stderr) = command_line::run(&project, &arguments).await;
    assert!(code == 3 && stderr.contains("has no attribute 'nothing'"), "{code}: {stderr}");
}

#[tokio::test]
async fn what_is_written_is_as_it_was() {
    let project = Project::new();
    let fixtures = repository().join("tests/fixtures/stubs");
    let schema = std::fs::read_to_string(fixtures.join("card.json")).unwrap();
    project.write("card.json", &schema);
    let arguments = ["stubs", "rust", "--schema", "card.json"];
    let (code, stdout, stderr) = command_line::run(&project, &arguments).await;
    assert_eq!(code, 0, "{stderr}");
    let golden = fixtures.join("card.rs.golden");
    assert_eq!(stdout, std::fs::read_to_string(&golden).unwrap(), "{}", golden.display());
}
