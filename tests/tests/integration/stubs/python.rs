//! Python functions for Rust tools: strictly typed, whatever the schemas, and answered in a run.

use std::process::Command;

use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, Effect, ToolSpec, ToolTarget};
use axon_runtime::{Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

use crate::command_line;
use crate::scene::{agent, tooled};
use crate::support::{Project, output, repository};

/// Parameters of one tool each, and what their functions look like: a part of the signature.
fn corpus() -> Vec<(Value, &'static str)> {
    [plain_types(), names(), references()].concat()
}

fn object(members: Value) -> Value {
    json!({"type": "object", "properties": members})
}

fn with_definitions(members: Value, definitions: Value) -> Value {
    json!({"type": "object", "properties": members, "$defs": definitions})
}

fn plain_types() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"type": "object"}), "args: dict[str, Any]"),
        (json!({"type": "object", "properties": {}}), "() -> Any"),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
            "    a: int,\n",
        ),
        (
            object(json!({"a": {"type": ["string", "null"], "description": "What?"}})),
            "a: str | None | Unset = UNSET",
        ),
        (
            object(json!({"a": {"enum": ["x", "y\"z", "b\\", null, 3, true]}})),
            "a: Literal[\"x\", \"y\\\"z\", \"b\\\\\", 3, True] | None | Unset",
        ),
        (
            object(json!({"a": {"enum": [1.5, [1], {"b": 2}]}})),
            "a: float | list[Any] | dict[str, Any] | Unset",
        ),
        (object(json!({"a": {"const": "only"}})), "a: Literal[\"only\"] | Unset"),
        (
            object(json!({"a": {"type": "array", "items": {"type": "number"}}})),
            "a: list[float] | Unset",
        ),
        (
            object(
                json!({"a": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}],
            "minItems": 2, "maxItems": 2}}),
            ),
            "a: tuple[str, int] | Unset",
        ),
        (
            object(json!({"a": {"type": "array", "prefixItems": [{"type": "string"}]}})),
            "a: list[Any] | Unset",
        ),
        (
            object(json!({"a": {"type": "object", "additionalProperties": {"type": "boolean"}}})),
            "a: dict[str, bool] | Unset",
        ),
    ]
}

fn names() -> Vec<(Value, &'static str)> {
    vec![
        (
            object(
                json!({"a": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}}),
            ),
            "a: int | str | None | Unset",
        ),
        (
            object(json!({"class": {"type": "string"}, "a-b": {"type": "string"}, "a b": {},
            "1st": {}, "__x": {}, "_call": {}, "": {}, "ü": {}, "list": {}, "None": {}})),
            "    class_: str | Unset",
        ),
        (
            object(json!({"where": {"type": "object", "properties": {
            "street": {"type": "string", "description": "With \"number\"\\"}, "no": {"type": "integer"}},
            "required": ["no"]}})),
            "    where: T13Where | Unset",
        ),
        (
            with_definitions(
                json!({"odd": {"type": "object", "properties": {"a-b": {"$ref": "#/$defs/Node"},
                    "__y": {"enum": ["\"", "'"]}, "from": {}}}}),
                json!({"Node": {"type": "integer"}}),
            ),
            "odd: ",
        ),
    ]
}

fn references() -> Vec<(Value, &'static str)> {
    vec![
        (
            with_definitions(
                json!({"tree": {"$ref": "#/$defs/Node"}}),
                json!({"Node": {"type": "object",
            "properties": {"value": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}, "required": ["value"]}}),
            ),
            "tree: T15Node | Unset",
        ),
        (
            with_definitions(
                json!({"json": {"$ref": "#/$defs/Json"}}),
                json!({"Json": {"anyOf": [
            {"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/Json"}},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}}]}}),
            ),
            "json: Json | Unset",
        ),
        (
            with_definitions(
                json!({"pet": {"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            "discriminator": {"propertyName": "kind"}}}),
                json!({
            "Cat": {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
            "Dog": {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}}),
            ),
            "pet: Cat | Dog | Unset",
        ),
        (
            with_definitions(
                json!({"a": {"$ref": "#/$defs/Node"}}),
                json!({"Node": {"enum": ["other"]}}),
            ),
            "Node | Unset",
        ),
        (
            json!({"type": "object", "oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}]}),
            "args: ",
        ),
        (
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}),
            "args: dict[str, Any]",
        ),
        (
            object(
                json!({"a": true, "b": false, "c": {"not": {}}, "d": {"allOf": [{"type": "string"}]},
            "e": {"allOf": [{"type": "string"}, {"minLength": 1}]}}),
            ),
            "d: str | Unset",
        ),
    ]
}

/// A schema out of nothing but `seed`.
fn random(seed: &mut u64, depth: u32) -> Value {
    let mut next = |bound: u64| {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % bound
    };
    let kind = next(if depth == 0 { 6 } else { 11 });
    let names = ["a", "b-c", "class", "__d", "Value", "int", "é", "x y"];
    let some = [next(8), next(8)].map(|at| names[usize::try_from(at).unwrap()]);
    let mut inner = || random(seed, depth.saturating_sub(1));
    match kind {
        0 => json!({"type": "string", "description": "Says \"\"\" and \\ and\nmore."}),
        1 => json!({"type": ["integer", "null"]}),
        2 => json!({"enum": ["a", 1, null]}),
        3 => json!({"const": "q\"'\\\n"}),
        4 => json!({}),
        5 => json!({"$ref": "#/$defs/shared-1"}),
        6 => json!({"type": "array", "items": inner()}),
        7 => json!({"type": "object", "additionalProperties": inner()}),
        8 => json!({"anyOf": [inner(), inner()]}),
        9 => {
            json!({"type": "array", "prefixItems": [inner(), inner()], "minItems": 2, "items": false})
        }
        _ => json!({"type": "object", "title": "A Thing", "required": [some[0]],
            "properties": {some[0]: inner(), some[1]: inner()}}),
    }
}

fn rust_tool(name: &str, parameters: Value) -> ToolSpec {
    let target = ToolTarget::Rust(name.parse().unwrap());
    let mut tool = ToolSpec::new(name.parse().unwrap(), target);
    tool.parameters = Some(Schema::new(parameters).unwrap());
    tool.effect = Effect::Pure;
    tool
}

fn project(tools: Vec<ToolSpec>) -> Project {
    let project = Project::new();
    let mut spec = AgentSpec::new("many".parse().unwrap());
    spec.model = Some("test".parse().unwrap());
    spec.tools = tools;
    project.write("agents/many/agent.toml", &spec.to_toml().unwrap());
    project
}

/// Runs a Python checker over a file of the project.
fn checked(project: &Project, arguments: &[&str]) {
    let python = std::env::var("AXON_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(python);
    command.arg("-m").args(arguments).current_dir(project.path());
    command.env("MYPYPATH", repository().join("python/src"));
    let said = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{arguments:?}: {out}{err}");
}

#[tokio::test]
async fn functions_for_any_schemas_pass_mypy_and_ruff_at_their_strictest() {
    let corpus = corpus();
    let tool =
        |(at, (schema, _)): (usize, &(Value, &str))| rust_tool(&format!("t{at}"), schema.clone());
    let mut tools: Vec<ToolSpec> = corpus.iter().enumerate().map(tool).collect();
    tools.extend(["class", "list", "print", "call_rust"].map(|name| {
        let mut tool = rust_tool(name, json!({"type": "object", "properties": {"args": {}}}));
        tool.description = Some("Ends with a quote\"\n\nand \\ goes on.".to_owned());
        tool
    }));
    let mut seed = 7;
    tools.extend((0..60).map(|at| {
        let members = json!({"one": random(&mut seed, 3), "two": random(&mut seed, 3)});
        let schema = json!({"type": "object", "properties": members, "required": ["one"],
            "$defs": {"shared-1": {"type": "array", "items": {"$ref": "#/$defs/shared-1"}}}});
        rust_tool(&format!("random{at}"), schema)
    }));
    let project = project(tools);
    let (code, text, stderr) = command_line::run(&project, &["stubs", "python", "many"]).await;
    assert_eq!(code, 0, "{stderr}");
    for (at, (schema, expected)) in corpus.iter().enumerate() {
        let begin = text.find(&format!("async def t{at}(")).unwrap();
        let function = &text[begin..begin + text[begin..].find("return").unwrap()];
        assert!(function.contains(expected), "{schema}: {function} has no {expected}");
    }
    project.write("stubs.py", &text);
    // Kept between runs, so that only the first one reads all of the standard library.
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/mypy");
    checked(&project, &["mypy", "--strict", "--cache-dir", cache, "stubs.py"]);
    checked(&project, &["ruff", "check", "--isolated", "--no-cache", "stubs.py"]);
    checked(&project, &["py_compile", "stubs.py"]);
}

const TOOL: &str = "
from .rust_tools import balance

async def report() -> str:
    return f\"{await balance(customer=3)}, {await balance(customer=4, class_='gold')}\"
";

#[tokio::test]
async fn a_python_tool_asks_rust_through_the_function_that_was_written_for_it() {
    let model = ScriptedModel::start(Script::function(|body| {
        match ChatRequest::new(body).tool_return("report") {
            Some(returned) => Reply::text(returned),
            None => Reply::tool_calls([("report", json!({}))]),
        }
    }))
    .await;
    let project = Project::with_model(&model);
    let mut spec = tooled("bank", [("bank.tools:report", Effect::Pure)]);
    let parameters = json!({"type": "object", "required": ["customer"], "additionalProperties": false,
        "properties": {"customer": {"type": "integer"}, "class": {"type": "string"}}});
    spec.tools.push(rust_tool("balance", parameters));
    project.write("agents/bank/agent.toml", &spec.to_toml().unwrap());
    project.write("agents/bank/__init__.py", "");
    project.write("agents/bank/tools.py", TOOL);
    let file = "agents/bank/rust_tools.py";
    let (code, _, stderr) =
        command_line::run(&project, &["stubs", "python", "bank", "-o", file]).await;
    assert_eq!(code, 0, "{stderr}");
    let tool = Tool::new("balance", async |_: ToolContext, args: Value| Ok::<_, ToolError>(args));
    let builder = project.runtime().agents_dir(project.path().join("agents"));
    let runtime = builder.tool(tool.unwrap()).start().await.unwrap();
    let ended = agent(&runtime, "bank").run("hello").wait().await.unwrap();
    let told = "{'customer': 3}, {'customer': 4, 'class': 'gold'}";
    assert_eq!(output(&ended.outcome), json!(told));
    runtime.shutdown().await;
}
