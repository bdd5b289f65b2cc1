//! The agent that the suite needs: its prompts, its tools, and how both runners play it.

use std::io;
use std::path::Path;

use axon_kernel::failure::{FailedTool, Failure, FailureKind};
use axon_kernel::ids::ToolCallId;
use axon_kernel::spec::{Effect, PythonTarget};
use axon_kernel::wire::{Before, LaunchCallable, ReconcileAnswer};
use serde_json::{Value, json};

use crate::scripted_runner::{
    Life, ReconcilePlay, RunnerScript, Step, ToolPlay, UnfinishedStep, When, message,
};

/// The source of the agent's Python module.
const MODULE: &str = include_str!("conformance_agent.py");

/// What a model gets back from a tool is told in this sentence.
const RESULT: &str = "The result is {{result.call-1}}.";

/// Writes the agent's Python module into `folder`.
pub(super) fn write_module(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("conformance_agent.py"), MODULE)
}

/// The callables of the launch data.
pub(super) fn callables() -> Vec<LaunchCallable> {
    let callables = json!([
        {"target": "conformance_agent:add", "role": "tool", "effect": "pure"},
        {"target": "conformance_agent:transfer", "role": "tool", "effect": "once"},
        {"target": "conformance_agent:broken", "role": "tool", "effect": "pure"},
        {"target": "conformance_agent:linger", "role": "tool", "effect": "pure"},
        {"target": "conformance_agent:model", "role": "model"},
        {"target": "conformance_agent:was_made", "role": "reconcile"},
        {"target": "conformance_agent:was_not_made", "role": "reconcile"},
        {"target": "conformance_agent:cannot_tell", "role": "reconcile"},
        {"target": "conformance_agent:cannot_be_asked", "role": "reconcile"},
    ]);
    serde_json::from_value(callables).expect("the callables above are callables")
}

/// The spec of every attempt.
pub(super) fn spec() -> Value {
    let object = |field: &str, kind: &str| json!({"type": "object", "properties": {field: {"type": kind}}, "required": [field]});
    json!({
        "name": "conformance",
        "model": "python:conformance_agent:model",
        "tools": [
            {"name": "lookup", "target": "rust", "effect": "pure",
             "parameters": object("key", "string")},
            {"name": "refund", "target": "rust", "effect": "once", "requires_approval": true,
             "parameters": object("amount", "integer")},
            {"name": "add", "target": "python:conformance_agent:add", "effect": "pure"},
            {"name": "transfer", "target": "python:conformance_agent:transfer", "effect": "once"},
            {"name": "linger", "target": "python:conformance_agent:linger", "effect": "pure"},
            {"name": "broken", "target": "python:conformance_agent:broken", "effect": "pure"},
        ],
    })
}

/// A first attempt of a run of its own.
pub(super) fn request(prompt: &str) -> Value {
    json!({
        "run_id": uuid::Uuid::new_v4().to_string(), "attempt": 1, "prompt": prompt,
        "stream": true, "spec": spec(), "timeout": 20,
    })
}

/// The script with which a scripted runner plays the agent.
pub(super) fn script() -> RunnerScript {
    let life = Life::default()
        .on(When::prompt("hang"), [Step::text("You"), Step::Hang])
        .on(When::prompt("fail"), [rate_limited().into()])
        .on(
            When::prompt("rust tool"),
            after_tools(Step::tool_request("call-1", "lookup", key("a"))),
        )
        .on(When::prompt("rust tools"), two_rust_tools())
        .on(When::prompt("python tool"), python_tool("add", Effect::Pure, json!(5)))
        .on(When::prompt("once tool").and_resumed(), resumed_once_tool())
        .on(
            When::prompt("once tool"),
            python_tool("transfer", Effect::Once, json!("transferred 7")),
        )
        .on(When::prompt("broken tool"), broken_tool())
        .on(When::prompt("slow tool"), slow_tool())
        .on(When::prompt("once tools"), two_once_tools())
        .on(When::prompt("later tool").and_resumed(), later_once_tool())
        .on(When::prompt("approval").and_decided("tool-approved"), approved())
        .on(When::prompt("approval").and_decided("tool-denied"), denied())
        .on(When::prompt("approval"), asks_for_approval())
        .always([Step::text("You"), Step::text(" said"), Step::complete("You said {{prompt}}.")]);
    let tools = [("add", add()), ("broken", ToolPlay::Raises(broken()))];
    let target = |name| PythonTarget::try_from(format!("conformance_agent:{name}"));
    let named = |(name, play)| Some((target(name).ok()?, play));
    let tools = tools.into_iter().filter_map(named).collect();
    let asked = verdicts().into_iter();
    let reconcile = asked.filter_map(|(name, play)| Some((target(name).ok()?, play))).collect();
    Life { offline: true, tools, reconcile, ..life }.into()
}

fn verdicts() -> [(&'static str, ReconcilePlay); 4] {
    let mut closed = Failure::new(FailureKind::Tool, "the bank is closed");
    closed.class = "ValueError".to_owned();
    let done = ReconcileAnswer::Done { result: json!("transferred 7").into() };
    [
        ("was_made", ReconcilePlay::Answers(done)),
        ("was_not_made", ReconcilePlay::Answers(ReconcileAnswer::NotDone)),
        ("cannot_tell", ReconcilePlay::Answers(ReconcileAnswer::Unknown)),
        ("cannot_be_asked", ReconcilePlay::Raises(closed.into())),
    ]
}

fn key(key: &str) -> Value {
    json!({"key": key})
}

fn rate_limited() -> Failure {
    let mut failure = Failure::new(FailureKind::ModelRateLimited, "slow down");
    failure.retry_after = Some(3.0);
    failure.status_code = Some(429);
    failure
}

fn broken() -> Failure {
    let mut failure = Failure::new(FailureKind::Tool, "the tool is broken");
    failure.class = "ValueError".to_owned();
    failure.tool = Some(FailedTool {
        tool_call_id: Some(ToolCallId::new("call-1")),
        name: "broken".to_owned(),
    });
    failure
}

fn add() -> ToolPlay {
    let integer = json!({"type": "integer"});
    let parameters = json!({
        "type": "object", "properties": {"left": integer, "right": integer},
        "required": ["left", "right"],
    });
    ToolPlay::Returns { result: json!(5).into(), parameters: Some(parameters) }
}

/// Asks for a checkpoint before the tool and after it, and then tells the result.
fn after_tools(tool: Step) -> Vec<Step> {
    let call = message::tool_call("call-1", "lookup", key("a"));
    let result = message::tool_return("call-1", "lookup", json!("{{result.call-1}}"));
    vec![
        Step::checkpoint(Before::Tools, [message::user("{{prompt}}"), call]),
        tool,
        Step::checkpoint(Before::Model, [result]),
        Step::complete(RESULT),
    ]
}

fn two_rust_tools() -> Vec<Step> {
    let calls = [("call-1", "lookup", key("a")), ("call-2", "lookup", key("b"))];
    let mut steps = after_tools(Step::tool_requests(calls));
    steps.pop();
    steps.push(Step::complete("The result is {{result.call-1}} and {{result.call-2}}."));
    steps
}

fn python_tool(name: &str, effect: Effect, result: Value) -> Vec<Step> {
    let mut steps = after_tools(Step::tool_started("call-1", name, effect));
    steps.insert(2, Step::tool_finished("call-1", name, result));
    steps
}

fn resumed_once_tool() -> Vec<Step> {
    vec![
        Step::tool_started("call-1", "transfer", Effect::Once),
        Step::tool_finished("call-1", "transfer", "transferred 7"),
        Step::checkpoint(
            Before::Model,
            [message::tool_return("call-1", "transfer", json!("{{result.call-1}}"))],
        ),
        Step::complete(RESULT),
    ]
}

fn two_once_tools() -> Vec<Step> {
    let mut steps = python_tool("transfer", Effect::Once, json!("transferred 7"));
    steps.insert(3, Step::tool_started("call-2", "transfer", Effect::Once));
    steps.insert(4, Step::tool_finished("call-2", "transfer", "transferred 7"));
    steps.pop();
    steps.push(Step::complete("The result is {{result.call-1}} and {{result.call-2}}."));
    steps
}

/// The call of a response behind two requests that stand side by side.
fn later_once_tool() -> Vec<Step> {
    let mut steps = resumed_once_tool();
    if let Step::ToolStarted(started) = &mut steps[0] {
        started.step = 3;
    }
    steps
}

fn asks_for_approval() -> Vec<Step> {
    let call = message::tool_call("call-1", "refund", json!({"amount": 7}));
    let request = json!({
        "tool_call_id": "call-1", "name": "refund", "args": {"amount": 7}, "kind": "approval",
    });
    vec![
        Step::checkpoint(Before::Tools, [message::user("{{prompt}}"), call]),
        Step::pause(json!([request])),
    ]
}

fn approved() -> Vec<Step> {
    let mut request = Step::tool_request("call-1", "refund", json!({"amount": 5}));
    if let Step::ToolRequests(calls) = &mut request {
        calls[0].approved = true;
    }
    let result = message::tool_return("call-1", "refund", json!("{{result.call-1}}"));
    vec![request, Step::checkpoint(Before::Model, [result]), Step::complete(RESULT)]
}

fn denied() -> Vec<Step> {
    let told = message::tool_return("call-1", "refund", json!("Not today."));
    vec![Step::checkpoint(Before::Model, [told]), Step::complete("The result is Not today..")]
}

fn slow_tool() -> Vec<Step> {
    let left = UnfinishedStep { tool: "linger".to_owned(), for_ms: Some(1000) };
    let mut steps = after_tools(Step::tool_started("call-1", "linger", Effect::Pure));
    steps.truncate(2);
    steps.insert(1, Step::Unfinished(left));
    steps.push(Step::Hang);
    steps
}

fn broken_tool() -> Vec<Step> {
    let mut steps = after_tools(Step::tool_started("call-1", "broken", Effect::Pure));
    steps.truncate(2);
    steps.push(broken().into());
    steps
}
