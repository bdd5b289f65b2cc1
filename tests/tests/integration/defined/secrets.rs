//! Secrets in deps: tools get them, and nothing that is kept or shown has them.

use std::sync::Arc;

use axon_kernel::spec::Effect;
use axon_runtime::{Agent, ResumeError, RunUpdate, Secret, Tool, ToolContext, ToolError};
use axon_store::{OpenOptions, StoreUrl};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{MODEL, Scene};
use crate::said;
use crate::support::{PATIENCE, until};

/// What must be nowhere.
const CANARY: &str = "canary-9f3a77c1";

const TOOLS: &str = r#"
import logging, sys, threading
from pydantic_ai import RunContext

log = logging.getLogger("keys")

def use_key(ctx: RunContext[dict]) -> str:
    key = ctx.deps["key"]
    log.info("logged %s", key, extra={"header": {"auth": [key]}, key: 1})
    # A thread of one's own belongs to no run.
    apart = threading.Thread(target=lambda: log.info("logged apart %s", key))
    apart.start()
    apart.join()
    print("printed", key, flush=True)
    print("printed to stderr", key, file=sys.stderr, flush=True)
    return f"{len(key)} letters"

def leak(ctx: RunContext[dict]) -> str:
    raise RuntimeError("refused with " + ctx.deps["key"])
"#;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Keyed {
    customer: u32,
    key: Secret,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Nothing {}

fn keyed() -> Keyed {
    Keyed { customer: 7, key: CANARY.into() }
}

fn calls(tools: &'static [&'static str]) -> Script {
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let done = request.messages().iter().filter(|message| message["role"] == "tool").count();
        match tools.get(done) {
            Some(tool) => Reply::tool_calls([(*tool, json!({}))]),
            None => Reply::text("done"),
        }
    })
}

fn desk() -> Agent<Keyed> {
    let rust_key = Tool::new("rust_key", async |ctx: ToolContext<Keyed>, _: Nothing| {
        match ctx.deps().key.expose() == CANARY {
            true => Ok("the right key"),
            false => Err(ToolError::Broken("another key".into())),
        }
    });
    let desk = Agent::<Keyed>::builder("desk")
        .model(MODEL)
        .instructions("Customer {{ deps.customer }}, key {{ deps.key }}.")
        .tool(rust_key.unwrap().effect(Effect::Pure))
        .python_tool("use_key", "key_tools:use_key", Effect::Pure)
        .python_tool("leak", "key_tools:leak", Effect::Pure);
    desk.build().unwrap()
}

#[tokio::test]
async fn tools_of_both_languages_get_a_secret_and_log_store_events_and_prompts_never_do() {
    let (log, _kept) = said::here();
    let scene = Scene::new(calls(&["rust_key", "use_key", "leak"])).await;
    scene.project.write("key_tools.py", TOOLS);
    let url: StoreUrl = scene.project.path().join("runs.db").display().to_string().parse().unwrap();
    let store = axon_store::open(&url, OpenOptions::default()).await.unwrap();
    let desk = desk();
    let runtime = scene.start(scene.runtime().agent(&desk).store(store)).await;
    let mut run = runtime.agent(&desk).run("Go").deps(&keyed()).start().await.unwrap();
    let mut seen = String::new();
    while let Some(update) = tokio::time::timeout(PATIENCE, run.events().next()).await.unwrap() {
        if let RunUpdate::Event(event) = update {
            seen.push_str(&serde_json::to_string(event.as_ref()).unwrap());
        }
    }
    // The last tool breaks the run, with the key in its error.
    let failure = run.outcome().await.completed().unwrap_err();
    seen.push_str(&format!("{failure:?} {:?} {:?}", runtime, desk));
    assert!(seen.contains("logged ["), "{seen}");
    assert!(seen.contains("the right key") && seen.contains("15 letters"), "{seen}");
    assert!(failure.to_string().contains("[redacted]"), "{failure}");
    assert!(scene.sent().contains("Customer 7, key [secret]."));
    let lines = ["logged [", "logged apart [", "printed [", "printed to stderr ["];
    until("all is logged", async || lines.iter().all(|line| log.lines().concat().contains(line)))
        .await;
    runtime.shutdown().await;
    let files = std::fs::read_dir(scene.project.path()).unwrap();
    let kept: Vec<u8> =
        files.filter_map(|file| std::fs::read(file.unwrap().path()).ok()).flatten().collect();
    assert!(kept.windows(8).any(|window| window == b"[secret]"), "the store was not read");
    for (what, text) in [
        ("events", seen.as_bytes()),
        ("the log", log.lines().concat().as_bytes()),
        ("requests to the model", scene.sent().as_bytes()),
        ("the store", &kept),
    ] {
        let found = text.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "the secret is in {what}");
    }
}

#[tokio::test]
async fn a_run_with_secrets_goes_on_elsewhere_only_when_it_is_given_them_again() {
    let scene = Scene::new(calls(&["ask", "rust_key"])).await;
    scene.project.write("key_tools.py", TOOLS);
    let ask = Tool::new("ask", async |ctx: ToolContext<Keyed>, _: Nothing| {
        if ctx.approved() { Ok(1) } else { Err(ToolError::NeedsApproval("may I?".into())) }
    });
    let rust_key = Tool::new("rust_key", async |ctx: ToolContext<Keyed>, _: Nothing| {
        Ok::<_, ToolError>(ctx.deps().key.expose() == CANARY)
    });
    let desk = Agent::<Keyed>::builder("desk").model(MODEL).tool(ask.unwrap());
    let desk = desk.tool(rust_key.unwrap().effect(Effect::Pure)).build().unwrap();
    let store = Arc::new(axon_runtime::MemoryStore::default());
    let first = scene.start(scene.runtime().agent(&desk).store(store.clone())).await;
    let run = first.agent(&desk).run("Go").deps(&keyed()).start().await.unwrap();
    run.outcome().await;
    let id = run.id().clone();
    let call = first.records().replay(&id).await.unwrap().undecided().remove(0);
    let approve = serde_json::from_value(json!({ "do": "approve" })).unwrap();
    first.records().resolve(&id, &call, approve, "me").await.unwrap();
    let refused = first.resume(id.clone()).start().await.unwrap_err();
    assert!(matches!(refused, ResumeError::Secrets { .. }), "{refused}");
    let goes_on = first.resume(id).deps(&keyed()).start().await.unwrap();
    let completed = goes_on.outcome().await.completed().unwrap();
    assert_eq!(completed.output.get(), "\"done\"");
    assert!(scene.sent().contains("true"), "{}", scene.sent());
    first.shutdown().await;
}

#[tokio::test]
async fn errors_and_contexts_show_no_secret() {
    let scene = Scene::new(calls(&["shows"])).await;
    let shows = Tool::new("shows", async |ctx: ToolContext<Keyed>, _: Nothing| {
        let shown = format!("{ctx:?}");
        assert!(!shown.contains(CANARY), "{shown}");
        Err::<(), _>(ToolError::Failed(format!("refused with {}", ctx.deps().key.expose())))
    });
    let any = Tool::new("any", async |ctx: ToolContext, _: Nothing| {
        Ok::<_, ToolError>(format!("{:?}", ctx.deps()))
    });
    let desk = Agent::<Keyed>::builder("desk")
        .model(MODEL)
        .tool(shows.unwrap().effect(Effect::Pure))
        .tool(any.unwrap().effect(Effect::Pure))
        .instructions_fn("shown", async |ctx: axon_runtime::PromptContext<Keyed>| {
            format!("{ctx:?}")
        })
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    assert_eq!(runtime.agent(&desk).run("Go").deps(&keyed()).await.unwrap().output, "done");
    assert!(scene.sent().contains("refused with [secret]"), "{}", scene.sent());
    assert!(!scene.sent().contains(CANARY), "{}", scene.sent());
    let wrong = json!({ "customer": "x", "key": CANARY });
    let refused = runtime.named("desk").unwrap().run("Go").deps(&wrong).wait().await.unwrap_err();
    assert!(refused.to_string().contains("/customer"), "{refused}");
    runtime.shutdown().await;
}
