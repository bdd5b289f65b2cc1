//! Python tools that ask a Rust tool of the same run, with real Python: Rust owns what is written,
//! and a call that a Python tool makes is recorded like one that the model makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::event::{RunEvent, ToolCalled};
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, Effect, ToolSpec, ToolTarget};
use axon_runtime::{Outcome, RunHandle, Runtime, Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::scene::{agent, pid, shows, tooled};
use crate::support::{Project, follow, kill_9, output};

const TOOLS: &str = r#"
import asyncio, pathlib
from axon_runner import call_rust, call_rust_and_wait

async def order(amount: int) -> str:
    again = pathlib.Path("ordered").exists()
    pathlib.Path("ordered").touch()
    paid = await call_rust("pay", {"amount": amount})
    # The first time, somebody kills the process meanwhile.
    await asyncio.sleep(0 if again else 60)
    return f"ordered, {paid}"

def waits(amount: int) -> str:
    return f"waited, {call_rust_and_wait('pay', {'amount': amount})}"

async def turns_round() -> str:
    again = pathlib.Path("turned").exists()
    pathlib.Path("turned").touch()
    first = await call_rust("refund" if again else "pay", {"amount": 1})
    await asyncio.sleep(0 if again else 60)
    return str(first)
"#;

fn pays(name: &str) -> ToolSpec {
    let target = ToolTarget::Rust(name.parse().unwrap());
    let mut tool = ToolSpec::new(name.parse().unwrap(), target);
    tool.effect = Effect::Once;
    let amount = json!({
        "type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]
    });
    tool.parameters = Some(Schema::new(amount).unwrap());
    tool
}

fn spec() -> AgentSpec {
    let targets = ["buying:order", "buying:waits", "buying:turns_round"];
    let mut spec = tooled("agent", targets.map(|target| (target, Effect::Idempotent)));
    spec.tools.extend([pays("pay"), pays("refund")]);
    spec.supervision.backoff.min = Duration::from_millis(1);
    spec
}

/// Calls the tool that the prompt names, and says what it returned.
fn script() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let tool = request.user_prompt();
        match request.tool_return(&tool) {
            Some(returned) => Reply::text(returned),
            None if tool == "turns_round" => Reply::tool_calls([(tool, json!({}))]),
            None => Reply::tool_calls([(tool, json!({"amount": 3}))]),
        }
    })
}

/// A runtime whose Rust tool counts its calls and tells its key; the first one waits for `open`.
struct Scene {
    runtime: Runtime,
    _model: ScriptedModel,
    _project: Project,
    paid: Arc<AtomicU32>,
}

impl Scene {
    async fn new(open: Option<Arc<Notify>>) -> Self {
        let model = ScriptedModel::start(script()).await;
        let project = Project::with_model(&model);
        project.write("buying.py", TOOLS);
        let paid = Arc::new(AtomicU32::new(0));
        let counted = paid.clone();
        let tool = move |ctx: ToolContext, args: Value| {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            let open = open.clone().filter(|_| first);
            async move {
                if let Some(open) = open {
                    open.notified().await;
                }
                if args["amount"] == 0 {
                    return Err(ToolError::Failed("nothing to pay".to_owned()));
                }
                Ok(ctx.idempotency_key())
            }
        };
        let builder = project.runtime().agent(spec());
        let builder = builder.tool(Tool::new("refund", tool.clone()).unwrap());
        let builder = builder.tool(Tool::new("pay", tool).unwrap());
        let runtime = builder.start().await.unwrap();
        Self { runtime, _model: model, _project: project, paid }
    }

    async fn run(&self, tool: &str) -> RunHandle {
        agent(&self.runtime, "agent").run(tool).start().await.unwrap()
    }

    /// Kills the runner once the run has shown `event` as often as this.
    async fn kill_after(&self, run: &mut RunHandle, event: &str, times: u32) {
        for _ in 0..times {
            shows(run, event).await;
        }
        kill_9(pid(&self.runtime, "agent").await);
    }
}

/// Returns the calls that events tell of, as they were made.
fn calls(events: &[RunEvent]) -> Vec<&ToolCalled> {
    fn call(event: &RunEvent) -> Option<&ToolCalled> {
        if let RunEvent::ToolCalled(call) = event { Some(call) } else { None }
    }
    events.iter().filter_map(call).collect()
}

#[tokio::test]
async fn what_a_tool_asks_of_rust_is_recorded_as_a_call_within_its_own() {
    let scene = Scene::new(None).await;
    let mut run = scene.run("waits").await;
    let seen = follow(&mut run).await;
    let [outer, inner] = calls(&seen)[..] else { panic!("{seen:?}") };
    assert_eq!((outer.name.as_str(), inner.name.as_str()), ("waits", "pay"));
    assert_eq!(inner.tool_call_id.as_str(), format!("{}/1", outer.tool_call_id));
    assert_eq!((inner.step, inner.effect), (outer.step, Effect::Once));
    let key = format!("{}:{}:{}", run.id(), inner.step, inner.tool_call_id);
    assert_eq!(output(&run.outcome().await.outcome), json!(format!("waited, {key}")));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn what_rust_did_for_a_tool_is_answered_from_the_record_after_a_kill() {
    let scene = Scene::new(None).await;
    let mut run = scene.run("order").await;
    scene.kill_after(&mut run, "tool_returned", 1).await;
    let ended = run.outcome().await;
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(completed.attempts, 2);
    assert!(completed.output.get().starts_with("\"ordered, "), "{completed:?}");
    assert_eq!(scene.paid.load(Ordering::Relaxed), 1, "it was paid once");
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn what_rust_does_for_a_tool_when_it_is_killed_is_seen_out_and_not_done_again() {
    let open = Arc::new(Notify::new());
    let scene = Scene::new(Some(open.clone())).await;
    let mut run = scene.run("order").await;
    scene.kill_after(&mut run, "tool_called", 2).await;
    open.notify_one();
    follow(&mut run).await;
    let ended = run.outcome().await;
    assert!(output(&ended.outcome).to_string().contains("ordered"), "{ended:?}");
    assert_eq!(scene.paid.load(Ordering::Relaxed), 1);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_tool_that_asks_for_something_else_the_second_time_gets_no_foreign_answer() {
    let scene = Scene::new(None).await;
    let mut run = scene.run("turns_round").await;
    scene.kill_after(&mut run, "tool_returned", 1).await;
    let ended = run.outcome().await;
    let Outcome::Failed(failed) = ended.outcome else { panic!("{ended:?}") };
    assert!(failed.failure.message.contains("`refund`, and was `pay`"), "{failed:?}");
    assert_eq!(scene.paid.load(Ordering::Relaxed), 1);
    scene.runtime.shutdown().await;
}
