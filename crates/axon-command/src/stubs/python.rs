//! A Python module with a typed function for each Rust tool.

mod names;
mod types;

use std::fmt::Write as _;

use axon_kernel::spec::{ToolSpec, ToolTarget};
use axon_runtime::AgentDefinition;
use serde_json::{Map, Value};

use self::names::{class_name, quoted, variable};
use self::types::{ANY, Types, docstring, required};
use crate::report::Report;

/// Returns the module for the Rust tools of `agents`.
pub(super) fn module(agents: &[AgentDefinition]) -> Result<String, Report> {
    let tools = tools(agents)?;
    if tools.is_empty() {
        let names: Vec<&str> = agents.iter().map(|agent| agent.spec.name.as_str()).collect();
        let report = Report::config(format!("no Rust tool is in agent {}", names.join(", ")));
        return Err(report.todo("add one: [[tools]] name = …, rust = … in an agent.toml"));
    }
    let mut types = Types::new();
    let mut functions: Vec<String> = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    for tool in tools {
        let name = variable(tool.name.as_str(), &taken);
        functions.push(function(&name, tool, &mut types));
        taken.push(name);
    }
    Ok(file(types.declared(), &functions))
}

/// Returns the Rust tools of all agents, each once.
fn tools(agents: &[AgentDefinition]) -> Result<Vec<&ToolSpec>, Report> {
    let mut found: Vec<(&ToolSpec, &str)> = Vec::new();
    for agent in agents {
        let name = agent.spec.name.as_str();
        let rust =
            agent.spec.tools.iter().filter(|tool| matches!(tool.target, ToolTarget::Rust(_)));
        for tool in rust {
            match found.iter().find(|(other, _)| other.name == tool.name) {
                None => found.push((tool, name)),
                Some((other, _)) if raw(other) == raw(tool) => {}
                Some((_, other)) => {
                    let what = format!(
                        "agents `{other}` and `{name}` have a tool `{}` each, with other arguments",
                        tool.name
                    );
                    return Err(Report::config(what).todo("write one file for each agent"));
                }
            }
        }
    }
    Ok(found.into_iter().map(|(tool, _)| tool).collect())
}

fn raw(tool: &ToolSpec) -> Option<&Value> {
    tool.parameters.as_ref().map(axon_kernel::schema::Schema::raw)
}

fn function(name: &str, tool: &ToolSpec, types: &mut Types) -> String {
    let none = Value::Object(Map::new());
    let schema = raw(tool).unwrap_or(&none);
    let (signature, sent) = match schema.as_object().and_then(members) {
        Some(members) => by_name(tool.name.as_str(), schema, members, types),
        None => whole(tool.name.as_str(), schema, types),
    };
    let mut text = format!("async def {name}({signature}) -> {ANY}:\n");
    let doc = tool.description.as_deref().unwrap_or_default().trim();
    let doc = if doc.is_empty() {
        format!("Asks the Rust tool `{}`.", tool.name)
    } else {
        doc.to_owned()
    };
    let _ = writeln!(text, "{}", docstring(&doc, "    "));
    let _ = writeln!(text, "    return await _call({}, {sent})", quoted(tool.name.as_str()));
    text
}

/// Returns the members of an object that has no others.
fn members(schema: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let plain = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "title",
        "description",
        "$defs",
        "definitions",
        "$schema",
    ];
    let extra = schema.get("additionalProperties");
    let closed = matches!(extra, None | Some(Value::Bool(false)));
    let is_plain = schema.keys().all(|key| plain.contains(&key.as_str()));
    if !closed || !is_plain {
        return None;
    }
    schema.get("properties")?.as_object()
}

/// Returns the signature of a function that takes each argument by its name, and what it sends.
fn by_name(
    tool: &str,
    schema: &Value,
    members: &Map<String, Value>,
    types: &mut Types,
) -> (String, String) {
    let required = schema.as_object().map(required).unwrap_or_default();
    let owner = class_name(tool);
    let mut document = types.of(schema, &owner);
    let mut names: Vec<String> = Vec::new();
    let (mut signature, mut sent) = (String::new(), String::new());
    for (key, member) in members {
        let name = variable(key, &names);
        let kind = document.expression(member, &format!("{owner}{}", class_name(key)));
        let _ = match required.contains(key.as_str()) {
            true => writeln!(signature, "    {name}: {kind},"),
            false if kind == ANY => writeln!(signature, "    {name}: {kind} = UNSET,"),
            false => writeln!(signature, "    {name}: {kind} | Unset = UNSET,"),
        };
        let _ = writeln!(sent, "            {}: {name},", quoted(key));
        names.push(name);
    }
    if names.is_empty() {
        return (String::new(), "{}".to_owned());
    }
    (format!("\n    *,\n{signature}"), format!("{{\n{sent}        }}"))
}

/// Returns the signature of a function that takes all arguments as one, and what it sends.
fn whole(tool: &str, schema: &Value, types: &mut Types) -> (String, String) {
    let owner = class_name(tool);
    let kind = types.of(schema, &owner).expression(schema, &format!("{owner}Arguments"));
    let sent = if kind == "dict[str, Any]" { "args" } else { "cast(\"dict[str, Any]\", args)" };
    (format!("args: {kind}"), sent.to_owned())
}

const HEAD: &str = "\
\"\"\"The Rust tools that Python tools can ask within a run. Written by `axon stubs python`.\"\"\"
";

const CALL: &str = "\
async def _call(name: str, args: dict[str, Any]) -> Any:
    return await call_rust(name, {key: arg for key, arg in args.items() if arg is not UNSET})
";

const UNSET: &str = "\
class Unset(Enum):
    \"\"\"The default of what is then not sent.\"\"\"

    UNSET = \"UNSET\"


UNSET = Unset.UNSET
";

fn file(types: &[String], functions: &[String]) -> String {
    let parts = [UNSET, CALL].into_iter().map(str::to_owned);
    let parts: Vec<String> = parts.chain(types.iter().chain(functions).cloned()).collect();
    let body = parts.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("\n\n\n");
    let words = |name: &str| {
        let mut words = body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.any(|word| word == name)
    };
    let typing = ["Any", "Literal", "NotRequired", "TypeAlias", "TypedDict", "cast"];
    let typing: Vec<&str> = typing.into_iter().filter(|name| words(name)).collect();
    format!(
        "{HEAD}\nfrom __future__ import annotations\n\nfrom enum import Enum\nfrom typing import {}\n\n\
         from axon_runner import call_rust\n\n\n{body}\n",
        typing.join(", ")
    )
}
