//! Calls of Rust tools whose runner dies, or whose time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::spec::Effect;
use axon_runtime::{Agent, Runtime, Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use super::{MODEL, Scene};
use crate::scene::shows;
use crate::support::{PATIENCE, kill_9, output};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Nothing {}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counted {
    #[serde(default)]
    count: u32,
}

/// Calls `pay` once, and says what it returned.
fn pays() -> Script {
    Script::function(|body| match ChatRequest::new(body).tool_return("pay") {
        None => Reply::tool_calls([("pay", json!({}))]),
        Some(said) => Reply::text(said),
    })
}

/// A tool that tells when it was reached, and goes on when it may.
#[derive(Clone, Default)]
struct Held {
    reached: Arc<Notify>,
    go: Arc<Notify>,
    calls: Arc<AtomicU32>,
}

impl Held {
    fn tool(&self, effect: Effect) -> Tool {
        let held = self.clone();
        let pay = Tool::new("pay", move |ctx: ToolContext, _: Nothing| {
            let held = held.clone();
            async move {
                ctx.update_state(|state: &mut Counted| state.count += 1)?;
                let first = held.calls.fetch_add(1, Ordering::SeqCst) == 0;
                held.reached.notify_one();
                if first {
                    held.go.notified().await;
                }
                Ok::<_, ToolError>("paid")
            }
        });
        pay.unwrap().effect(effect)
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn kill_runner(runtime: &Runtime, agent: &str) {
    kill_9(runtime.named(agent).unwrap().status().await.unwrap().pid.unwrap());
}

#[tokio::test]
async fn a_call_that_must_not_be_made_again_is_seen_out_when_its_runner_dies() {
    let scene = Scene::new(pays()).await;
    let held = Held::default();
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(held.tool(Effect::Once));
    let desk = desk.build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let run = runtime.agent(&desk).run("Pay").state(&Counted::default()).start();
    let mut run = run.await.unwrap();
    held.reached.notified().await;
    kill_runner(&runtime, "desk").await;
    // The tool ends when its runner is long gone.
    shows(&mut run, "tool_called").await;
    held.go.notify_one();
    let outcome = run.outcome().await;
    assert_eq!(output(&outcome.outcome), json!("paid"));
    assert_eq!((held.calls(), &outcome.state["count"]), (1, &json!(1)));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_a_lost_call_changed_did_not_happen_when_it_is_made_again() {
    let scene = Scene::new(pays()).await;
    let held = Held::default();
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(held.tool(Effect::Pure));
    let desk = desk.build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let run = runtime.agent(&desk).run("Pay").state(&Counted::default()).start();
    let run = run.await.unwrap();
    held.reached.notified().await;
    kill_runner(&runtime, "desk").await;
    let outcome = run.outcome().await;
    assert_eq!(output(&outcome.outcome), json!("paid"));
    assert_eq!((held.calls(), &outcome.state["count"]), (2, &json!(1)));
    let replay = runtime.records().replay(run.id()).await.unwrap();
    assert_eq!(replay.state["count"], json!(1));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_call_that_is_too_late_is_told_and_what_it_changed_stands() {
    let scene = Scene::new(pays()).await;
    let (told, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (tells, ended) = (told.clone(), ends.clone());
    let pay = Tool::new("pay", move |ctx: ToolContext, _: Nothing| {
        let (told, ended) = (tells.clone(), ended.clone());
        async move {
            ctx.update_state(|state: &mut Counted| state.count += 1)?;
            ctx.cancelled().await;
            told.store(true, Ordering::SeqCst);
            ended.notify_one();
            std::future::pending::<Result<(), ToolError>>().await
        }
    });
    let pay = pay.unwrap().effect(Effect::Pure).timeout(Duration::from_millis(20));
    let desk = Agent::<()>::builder("desk")
        .model(MODEL)
        .tool(pay)
        .configure(|spec| spec.runner.cancel_grace = Duration::from_millis(50))
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let answer = runtime.agent(&desk).run("Pay").state(&Counted::default()).await.unwrap();
    assert!(answer.output.contains("in time"), "{}", answer.output);
    tokio::time::timeout(PATIENCE, ends.notified()).await.unwrap();
    assert!(told.load(Ordering::SeqCst));
    assert_eq!(answer.state["count"], json!(1));
    runtime.shutdown().await;
}
