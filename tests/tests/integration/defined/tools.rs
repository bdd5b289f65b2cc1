//! Rust tools in a run: what a call knows, how it ends, and how many are made at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::event::{PauseReason, Resolution, RunEvent};
use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{Effect, Limits};
use axon_runtime::{Agent, Outcome, Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

use super::{Customer, MODEL, Scene};
use crate::support::{PATIENCE, follow, names, output};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Block {
    card: u32,
}

/// Makes these calls, and then says what they returned.
fn calls(calls: &'static [(&'static str, u32)]) -> Script {
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let returned: Vec<&Value> =
            request.messages().iter().filter(|message| message["role"] == "tool").collect();
        if returned.is_empty() {
            let each = |(tool, card): &(&'static str, u32)| (*tool, json!({ "card": card }));
            return Reply::tool_calls(calls.iter().map(each));
        }
        let said: Vec<&str> = returned.iter().filter_map(|m| m["content"].as_str()).collect();
        Reply::text(said.join("|"))
    })
}

#[tokio::test]
async fn a_call_knows_its_deps_its_run_and_its_time_and_tells_how_far_it_is() {
    let scene = Scene::new(calls(&[("block", 4)])).await;
    let block = Tool::new("block", async |ctx: ToolContext<Customer>, Block { card }| {
        ctx.emit(&json!({ "step": "asked" }))?;
        assert!(ctx.remaining() <= Duration::from_secs(5) && !ctx.is_cancelled());
        assert_eq!((ctx.retry(), ctx.approved(), ctx.agent().as_str()), (0, false, "desk"));
        assert_eq!(ctx.conversation().unwrap().as_str(), "c1");
        let key = ctx.idempotency_key();
        assert!(
            key.starts_with(ctx.run_id().as_str()) && key.ends_with(ctx.tool_call_id().as_str())
        );
        assert_eq!(ctx.budget().remaining().requests, Some(9));
        Ok::<_, ToolError>(format!("card {card} of {}", ctx.deps().id))
    });
    let block = block.unwrap().timeout(Duration::from_secs(5)).effect(Effect::Idempotent);
    let limits = Limits { requests: 10, ..Limits::default() };
    let desk = Agent::<Customer>::builder("desk").model(MODEL).limits(limits).tool(block);
    let desk = desk.build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let run = runtime.agent(&desk).run("Block it").deps(&Customer { id: 7 }).conversation("c1");
    let mut run = run.start().await.unwrap();
    let seen = follow(&mut run).await;
    let shown: Vec<&str> =
        names(&seen).into_iter().filter(|name| name.starts_with("tool_")).collect();
    assert_eq!(shown, ["tool_called", "tool_progress", "tool_returned"]);
    assert_eq!(output(&run.outcome().await.outcome), json!("card 4 of 7"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn many_calls_of_one_response_are_made_at_once_up_to_the_limit() {
    let scene = Scene::new(calls(&[("block", 1), ("block", 2), ("block", 3), ("block", 4)])).await;
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    // Two meet here, or nobody gets on.
    let pair = Arc::new(Barrier::new(2));
    let (counted, highest) = (now.clone(), most.clone());
    let block = Tool::new("block", move |_: ToolContext, Block { card }| {
        let (now, most, pair) = (counted.clone(), highest.clone(), pair.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            pair.wait().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ToolError>(card)
        }
    });
    let desk = Agent::<()>::builder("desk")
        .model(MODEL)
        .tool(block.unwrap().effect(Effect::Pure))
        .configure(|spec| spec.limits.parallel_tools = 2.try_into().unwrap())
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let answer =
        tokio::time::timeout(PATIENCE, runtime.agent(&desk).run("Block them").into_future());
    assert_eq!(answer.await.unwrap().unwrap().output, "1|2|3|4");
    assert_eq!(most.load(Ordering::SeqCst), 2);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_sequential_call_is_alone() {
    let scene = Scene::new(calls(&[("block", 1), ("sole", 2), ("block", 3)])).await;
    let under_way = Arc::new(AtomicU32::new(0));
    let tool = |name: &str| {
        let under_way = under_way.clone();
        let alone = name == "sole";
        let tool = Tool::new(name, move |_: ToolContext, Block { card }| {
            let under_way = under_way.clone();
            async move {
                let others = under_way.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                let were_others = others > 0 || under_way.load(Ordering::SeqCst) > 1;
                under_way.fetch_sub(1, Ordering::SeqCst);
                match alone && were_others {
                    true => Err(ToolError::Broken("it was not alone".into())),
                    false => Ok(card),
                }
            }
        });
        tool.unwrap().effect(Effect::Pure)
    };
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(tool("block"));
    let desk = desk.tool(tool("sole").sequential()).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    assert_eq!(runtime.agent(&desk).run("Block them").await.unwrap().output, "1|2|3");
    runtime.shutdown().await;
}

#[tokio::test]
async fn each_error_of_a_tool_goes_where_it_belongs() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        match request.tool_return("block") {
            None => Reply::tool_calls([("block", json!({ "card": request.user_prompt().len() }))]),
            Some(text) => Reply::text(text),
        }
    }))
    .await;
    let block = Tool::new("block", async |_: ToolContext, Block { card }| match card {
        1 => Err(ToolError::Failed("the desk is closed".into())),
        2 => Err("x".parse::<u32>().unwrap_err().into()),
        3 => {
            std::future::pending::<()>().await;
            Ok(0)
        }
        other => Err(ToolError::Retry(format!("there is no card {other}"))),
    });
    let block = block.unwrap().timeout(Duration::from_millis(50)).effect(Effect::Pure);
    let desk =
        Agent::<()>::builder("desk").model(MODEL).tool(block.max_retries(0)).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let ask = async |prompt: &str| runtime.agent(&desk).run(prompt).await;
    assert!(ask("a").await.unwrap().output.contains("the desk is closed"));
    let broken = ask("ab").await.unwrap_err().into_failure();
    assert_eq!(broken.kind, FailureKind::Tool);
    assert!(broken.message.contains("invalid digit"), "{broken:?}");
    assert!(ask("abc").await.unwrap().output.contains("in time"));
    let asked_again = ask("abcd").await.unwrap_err().into_failure();
    let cause = asked_again.cause.unwrap();
    assert!(cause.message.contains("no card 4"), "{cause:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_tool_asks_a_person_above_a_risk_and_is_called_again_when_approved() {
    let scene = Scene::new(calls(&[("block", 9)])).await;
    let made = Arc::new(AtomicU32::new(0));
    let counted = made.clone();
    let block = Tool::new("block", move |ctx: ToolContext, Block { card }| {
        let made = counted.clone();
        async move {
            if card > 5 && !ctx.approved() {
                return Err(ToolError::NeedsApproval(format!("card {card} is a gold card")));
            }
            made.fetch_add(1, Ordering::Relaxed);
            Ok(format!("blocked {card}"))
        }
    });
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(block.unwrap()).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let mut run = runtime.agent(&desk).run("Block it").start().await.unwrap();
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it waits") };
    let PauseReason::Approval { requests } = paused.reason else { panic!("{paused:?}") };
    assert!(requests.get().contains("card 9 is a gold card"), "{requests}");
    let replay = runtime.records().replay(run.id()).await.unwrap();
    // It has done nothing, so nobody has to settle what it did.
    assert!(replay.doubts.is_empty());
    let call = replay.undecided().remove(0);
    let approve = serde_json::from_value(json!({ "do": "approve" })).unwrap();
    assert!(run.resolve(&call, approve).await.unwrap().is_empty());
    assert_eq!(output(&run.outcome().await.outcome), json!("blocked 9"));
    assert_eq!(made.load(Ordering::Relaxed), 1);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_denied_call_is_not_made_and_the_model_is_told() {
    let scene = Scene::new(calls(&[("block", 9)])).await;
    let block = Tool::new("block", async |_: ToolContext, _: Block| {
        Err::<u8, _>(ToolError::NeedsApproval("always".into()))
    });
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(block.unwrap()).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let mut run = runtime.agent(&desk).run("Block it").start().await.unwrap();
    assert!(matches!(run.outcome().await.outcome, Outcome::Paused(_)));
    let call = runtime.records().replay(run.id()).await.unwrap().undecided().remove(0);
    run.resolve(&call, Resolution::Deny { message: Some("not today".into()) }).await.unwrap();
    assert!(output(&run.outcome().await.outcome).to_string().contains("not today"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_call_is_told_and_may_clean_up() {
    let scene = Scene::new(calls(&[("block", 1)])).await;
    let (begun, cleaned) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (begins, cleans) = (begun.clone(), cleaned.clone());
    let ended = Arc::new(Notify::new());
    let ends = ended.clone();
    let block = Tool::new("block", move |ctx: ToolContext, _: Block| {
        let (begun, cleaned, ended) = (begins.clone(), cleans.clone(), ends.clone());
        async move {
            begun.notify_one();
            ctx.cancelled().await;
            // Cleaning up takes a moment.
            tokio::task::yield_now().await;
            cleaned.store(true, Ordering::SeqCst);
            ended.notify_one();
            Ok::<_, ToolError>(0)
        }
    });
    let block = block.unwrap().effect(Effect::Pure);
    let desk = Agent::<()>::builder("desk").model(MODEL).tool(block).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let run = runtime.agent(&desk).run("Block it").start().await.unwrap();
    begun.notified().await;
    run.cancel("enough");
    assert!(matches!(run.outcome().await.outcome, Outcome::Cancelled(_)));
    tokio::time::timeout(PATIENCE, ended.notified()).await.unwrap();
    assert!(cleaned.load(Ordering::SeqCst));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_file_names_a_tool_of_the_service_which_says_the_rest_itself() {
    let scene = Scene::new(calls(&[("block", 3)])).await;
    scene.project.write(
        "agents/desk/agent.toml",
        "model = 'openai-chat:scripted'\n[[tools]]\nname = 'block'\nrust = 'block_card'\n",
    );
    let block = Tool::new("block_card", async |ctx: ToolContext, Block { card }| {
        Ok::<_, ToolError>(format!("{card} for {}", ctx.deps().value()["id"]))
    });
    let block = block.unwrap().described("Blocks a card.").effect(Effect::Idempotent);
    let runtime = scene.start(scene.runtime().agents_dir("agents").tool(block)).await;
    let desk = runtime.named("desk").unwrap();
    let mut run = desk.run("Block it").deps(&json!({ "id": 7 })).start().await.unwrap();
    let seen = follow(&mut run).await;
    let called = seen.iter().find_map(|event| {
        if let RunEvent::ToolCalled(called) = event { Some(called.effect) } else { None }
    });
    assert_eq!(called, Some(Effect::Idempotent));
    assert_eq!(output(&run.outcome().await.outcome), json!("3 for 7"));
    assert!(scene.sent().contains("Blocks a card."));
    runtime.shutdown().await;
}
