//! Agents and tools that Python code defines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, Effect, PythonTarget, ToolSpec, ToolTarget};
use axon_runtime::{Outcome, StartError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel, bank_support_script};
use serde_json::{Value, json};

use crate::support::{Project, failure, follow, names, output, repository, scripted_agent};

fn tool(name: &str, target: &str, effect: Effect) -> ToolSpec {
    let target: PythonTarget = target.parse().unwrap();
    let mut tool = ToolSpec::new(name.parse().unwrap(), ToolTarget::Python(target));
    tool.effect = effect;
    tool
}

fn with_tools(name: &str, tools: impl IntoIterator<Item = ToolSpec>) -> AgentSpec {
    let mut spec = scripted_agent(name);
    spec.tools.extend(tools);
    spec
}

/// Calls `calls` first, and then answers with what the tools gave.
fn calling(calls: impl Into<Vec<(&'static str, Value)>>) -> Script {
    let calls = calls.into();
    Script::function(move |body| {
        let returned: Vec<Value> = ChatRequest::new(body)
            .messages()
            .iter()
            .filter(|message| message["role"] == "tool")
            .map(|message| message["content"].clone())
            .collect();
        match returned.as_slice() {
            [] => Reply::tool_calls(calls.clone()),
            returned => Reply::text(json!(returned).to_string()),
        }
    })
}

const TOOLS: &str = r#"
import asyncio, logging, os
from pydantic_ai import ModelRetry

met = asyncio.Barrier(2)

async def meet(name: str) -> str:
    await asyncio.wait_for(met.wait(), 20)
    return f"{name} met"

called = 0
def count(number: int) -> int:
    global called
    called += 1
    return called

def variables() -> list[str]:
    return sorted(os.environ)

def fail() -> str:
    raise LookupError("no such shelf")

def picky(word: str) -> str:
    if word != "please":
        raise ModelRetry("say please")
    return "granted"
"#;

#[tokio::test]
async fn tool_calls_of_one_response_run_at_the_same_time() {
    let calls = [("meet", json!({"name": "a"})), ("meet", json!({"name": "b"}))];
    let model = ScriptedModel::start(calling(calls)).await;
    let project = Project::with_model(&model);
    project.write("shelf.py", TOOLS);
    let spec = with_tools("meeting", [tool("meet", "shelf:meet", Effect::Pure)]);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let mut run = runtime.named("meeting").unwrap().run("meet").start().await.unwrap();
    let seen = names(&follow(&mut run).await);
    assert_eq!(seen.iter().filter(|name| **name == "tool_returned").count(), 2, "{seen:?}");
    let answer = output(&run.outcome().await.outcome);
    assert_eq!(answer, json!(r#"["a met","b met"]"#));
    runtime.shutdown().await;
}

#[tokio::test]
async fn invalid_arguments_and_unknown_tools_go_back_to_the_model() {
    let script: Script = [
        Reply::tool_calls([("count", json!({"number": "many"})), ("nothing", json!({}))]),
        Reply::bad_tool_json("count"),
        Reply::tool_calls([("count", json!({"number": 1}))]),
        Reply::text("done"),
    ]
    .into();
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    project.write("shelf.py", TOOLS);
    let mut spec = with_tools("counting", [tool("count", "shelf:count", Effect::Pure)]);
    spec.retries.tools = Some(3);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let run = runtime.named("counting").unwrap().run("count").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("done"));
    let requests = model.requests();
    assert_eq!(requests.len(), 4);
    let told = requests[1].body.to_string();
    assert!(told.contains("number") && told.contains("Unknown tool name"), "{told}");
    let last = requests[3].body["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["content"], json!("1"), "the function was called once, and only when right");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_tool_that_raises_fails_the_run_with_its_name_and_traceback() {
    let model = ScriptedModel::start(calling([("fail", json!({}))])).await;
    let project = Project::with_model(&model);
    project.write("shelf.py", TOOLS);
    let spec = with_tools("failing", [tool("fail", "shelf:fail", Effect::Pure)]);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let run = runtime.named("failing").unwrap().run("fail").wait().await.unwrap();
    let failure = failure(&run.outcome);
    assert_eq!((failure.kind, failure.class.as_str()), (FailureKind::Tool, "LookupError"));
    assert_eq!(failure.tool.as_ref().unwrap().name, "fail");
    assert!(failure.traceback.as_ref().unwrap().contains("no such shelf"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_tool_can_ask_the_model_again() {
    let script: Script = [
        Reply::tool_calls([("picky", json!({"word": "now"}))]),
        Reply::tool_calls([("picky", json!({"word": "please"}))]),
        Reply::text("thanks"),
    ]
    .into();
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    project.write("shelf.py", TOOLS);
    let spec = with_tools("polite", [tool("picky", "shelf:picky", Effect::Once)]);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let run = runtime.named("polite").unwrap().run("now").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("thanks"));
    assert!(model.requests()[1].body.to_string().contains("say please"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_runner_sees_what_it_was_given_and_nothing_else() {
    let model = ScriptedModel::start(calling([("variables", json!({}))])).await;
    let mut project = Project::with_model(&model);
    project.set("DATABASE_URL", "sqlite://x");
    project.set("ANTHROPIC_API_KEY", "not for this agent");
    project.set("LANG", "C.UTF-8");
    project.write("shelf.py", TOOLS);
    let mut spec = with_tools("curious", [tool("variables", "shelf:variables", Effect::Pure)]);
    spec.runner.pass_env.push("DATABASE_URL".parse().unwrap());
    spec.runner.env.insert("SHELF".parse().unwrap(), "7".to_owned());
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let run = runtime.named("curious").unwrap().run("look").wait().await.unwrap();
    let answer = output(&run.outcome);
    let text = answer.as_str().unwrap();
    for given in ["DATABASE_URL", "SHELF", "OPENAI_API_KEY", "OPENAI_BASE_URL", "LANG"] {
        assert!(text.contains(given), "{given} is missing in {text}");
    }
    for withheld in ["ANTHROPIC_API_KEY", "AXON_PYTHON", "HOME", "CARGO"] {
        assert!(!text.contains(withheld), "{withheld} is in {text}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_module_that_does_not_import_parks_its_agent_with_its_traceback() {
    let project = Project::new();
    project.write("broken.py", "import nowhere_to_be_found\n");
    project.write("plain.py", "agent = 42\n");
    for (target, expected) in [
        ("broken:agent", "nowhere_to_be_found"),
        ("absent:agent", "absent"),
        ("plain:agent", "pydantic_ai.Agent"),
        ("plain:other", "other"),
    ] {
        let spec = AgentSpec::for_module("agent".parse().unwrap(), target.parse().unwrap());
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        let failure = runtime.named("agent").unwrap().ready().await.unwrap_err();
        runtime.shutdown().await;
        assert_eq!(failure.kind, FailureKind::Config, "{failure:?}");
        let told = format!("{failure:?}");
        assert!(told.contains(expected), "{target}: {told}");
        assert!(target != "broken:agent" || told.contains("Traceback"), "{told}");
    }
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn what_can_be_checked_without_a_process_is_refused_before_one_is_started() {
    let mut project = Project::new();
    // Whatever is started as Python would fail: so nothing is.
    project.set("AXON_PYTHON", "/bin/false");
    let mut keyless = scripted_agent("keyless");
    keyless.model = Some("anthropic:claude".parse().unwrap());
    let mut misspelt = scripted_agent("misspelt");
    misspelt.model = Some("opnai:gpt-5".parse().unwrap());
    let mut rusty = scripted_agent("rusty");
    rusty.model = Some("test".parse().unwrap());
    let target = ToolTarget::Rust("block_card".parse().unwrap());
    rusty.tools.push(ToolSpec::new("block_card".parse().unwrap(), target));
    let mut many = scripted_agent("many");
    many.runner.replicas = 65.try_into().unwrap();
    let mut unruly = scripted_agent("unruly");
    unruly.supervision.backoff.max = std::time::Duration::ZERO;
    for (spec, kind, expected) in [
        (many, FailureKind::Config, "replicas"),
        (unruly, FailureKind::Config, "backoff.min"),
        (keyless, FailureKind::ModelAuth, "ANTHROPIC_API_KEY"),
        (misspelt, FailureKind::Config, "did you mean `openai`"),
        (rusty, FailureKind::Config, "block_card"),
    ] {
        let refused = project.runtime().agent(spec).start().await.unwrap_err();
        let StartError::Refused { failure, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn an_undeclared_tool_of_a_python_agent_is_never_repeated_after_a_crash() {
    let model = ScriptedModel::start(calling([("pay", json!({}))])).await;
    let project = Project::with_model(&model);
    let agent = r#"
import os, pathlib
from pydantic_ai import Agent

agent = Agent("openai-chat:scripted")

@agent.tool_plain
def pay() -> str:
    with open("paid", "a") as paid:
        paid.write("x")
    os.kill(os.getpid(), 9)
    return "never"
"#;
    project.write("shop.py", agent);
    let spec = AgentSpec::for_module("shop".parse().unwrap(), "shop:agent".parse().unwrap());
    let mut spec = spec;
    spec.model = Some("openai-chat:scripted".parse().unwrap());
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let run = runtime.named("shop").unwrap().run("pay").wait().await.unwrap();
    assert!(matches!(run.outcome, Outcome::Paused(_)), "{:?}", run.outcome);
    assert_eq!(std::fs::read_to_string(project.path().join("paid")).unwrap(), "x");
    runtime.shutdown().await;
}

/// Makes a virtual environment with the published example and nothing of Axon's.
fn published_environment(venv: &Path) {
    let lock = repository().join("tests/fixtures/published/requirements.lock");
    let run = |command: &mut Command| {
        let done = command.output().expect("python3 can be started");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{command:?}: {said}");
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(venv));
    run(Command::new(venv.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r"])
        .arg(lock));
}

/// Returns every file below `folder` with its time of change.
fn files(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let changed = entry.path().symlink_metadata().unwrap().modified().unwrap();
                found.insert(entry.path(), changed);
            }
        }
    }
    found
}

#[tokio::test]
async fn the_published_bank_support_example_runs_unmodified_in_its_own_environment() {
    let model = ScriptedModel::start(bank_support_script()).await;
    let mut project = Project::with_model(&model);
    project.set("AXON_PYTHON", "");
    let venv = project.path().join(".venv");
    published_environment(&venv);
    let before = files(&venv);
    let fixtures = repository().join("tests/fixtures/published/agents");
    let runtime = project.runtime().agents_dir(fixtures).start().await.unwrap();
    let bank = runtime.named("published").unwrap();
    let deps = json!({"customer_id": 123});
    let run = bank.run("What is my balance?").deps(&deps).wait().await.unwrap();
    let answer = output(&run.outcome);
    assert!(answer["support_advice"].as_str().unwrap().contains("123.45"), "{answer}");
    let asked = model.requests()[0].body.to_string();
    assert!(asked.contains("The customer's name is 'John'"), "{asked}");
    let run = bank.run("I just lost my card!").deps(&deps).wait().await.unwrap();
    assert_eq!(output(&run.outcome)["block_card"], json!(true));
    runtime.shutdown().await;
    assert!(files(&venv) == before, "the user's environment was changed");
}
