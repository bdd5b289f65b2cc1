//! Flows that wait for people: whoever decides, and wherever, they go on, within their own limits.

use axon_kernel::event::{PauseReason, Resolution};
use axon_kernel::failure::FailureKind;
use axon_kernel::flow::{Ask, Does, Edge, OnFailure, Target};
use axon_kernel::wire::DeferredRequest;
use axon_runtime::{Agent, Outcome, Pipeline, RunHandle, Tool, ToolContext, ToolError, named};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answering, start};
use crate::defined::{MODEL, Scene};
use crate::support::{failure, output};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Nothing {}

async fn asked(run: &RunHandle) -> Vec<DeferredRequest> {
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it waits") };
    let PauseReason::Approval { requests } = &paused.reason else { panic!("{paused:?}") };
    requests.decode().unwrap()
}

/// Returns an agent that pays, which needs an approval.
fn payer() -> Agent<()> {
    let pay = Tool::new("pay", async |ctx: ToolContext, _: Nothing| match ctx.approved() {
        true => Ok("paid"),
        false => Err(ToolError::NeedsApproval("it costs money".into())),
    });
    Agent::<()>::builder("payer").model(MODEL).tool(pay.unwrap()).build().unwrap()
}

fn pays() -> Script {
    Script::function(|body| match ChatRequest::new(body).tool_return("pay") {
        Some(said) => Reply::text(said),
        None => Reply::tool_calls([("pay", json!({}))]),
    })
}

#[tokio::test]
async fn what_is_decided_below_is_decided() {
    let scene = Scene::new(pays()).await;
    let payer = payer();
    let flow = Pipeline::new("flow").then(&named::<String>("payer")).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&payer).agent(&flow)).await;
    let mut run = runtime.agent(&flow).run("pay").start().await.unwrap();
    let handed = asked(&run).await[0].handed().unwrap();
    let inner = &handed.requests.as_ref().unwrap()[0];
    let records = runtime.records();
    let approved = Resolution::approve();
    records.resolve(&handed.run_id, &inner.tool_call_id, approved, "a clerk").await.unwrap();
    // Nobody has said anything about the run at the top, and nobody has to.
    run.resume().await.unwrap();
    assert_eq!(output(&run.outcome().await.outcome), json!("paid"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_budget_is_no_larger_behind_a_pause() {
    let scene = Scene::new(Reply::text("done")).await;
    let one = Agent::<()>::builder("one").model(MODEL).build().unwrap();
    let two = Agent::<()>::builder("two").model(MODEL).build().unwrap();
    let three = Agent::<()>::builder("three").model(MODEL).build().unwrap();
    let flow = Pipeline::new("flow")
        .then(&one)
        .then(&two)
        .then(&named::<Value>("human"))
        .then(&three)
        .configure(|spec| spec.limits.requests = 2)
        .build()
        .unwrap();
    let builder = scene.runtime().agent(&one).agent(&two).agent(&three).agent(&flow);
    let runtime = scene.start(builder).await;
    let mut run = runtime.agent(&flow).run("go").start().await.unwrap();
    let call = asked(&run).await[0].tool_call_id.clone();
    run.answer(&call, "go on").await.unwrap();
    let failure = failure(&run.outcome().await.outcome).clone();
    assert_eq!(failure.kind, FailureKind::UsageLimit, "{failure:?}");
    assert_eq!(scene.model.requests().len(), 2);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_person_who_refuses_is_not_asked_again() {
    let flow = Pipeline::new("flow").then(&named::<String>("human"));
    let flow = flow.retry(3).fallback(Target::Agent("other".parse().unwrap())).build().unwrap();
    let Does::Ask(Ask { edge: Edge { retry: 3, on_failure: OnFailure::Ask(_), .. }, .. }) =
        &flow.spec().flow.as_ref().unwrap().steps[0].does
    else {
        panic!("it would be asked again: {:?}", flow.spec().flow)
    };
    let builder = axon_runtime::Runtime::builder().agent(&flow);
    let runtime = start(builder.agent(answering("other", |_| "other".to_owned()))).await;
    let mut run = runtime.agent(&flow).run("may I?").start().await.unwrap();
    let call = asked(&run).await[0].tool_call_id.clone();
    run.deny(&call, "no").await.unwrap();
    assert_eq!(output(&run.outcome().await.outcome), json!("other"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_list_that_somebody_answered_is_told_as_json_and_fetches_nothing() {
    let parts = json!([{ "kind": "image-url", "url": "http://127.0.0.1:9/x.png" }]);
    let scene = Scene::new(Reply::text("seen")).await;
    let looks = Agent::<()>::builder("looks").model(MODEL).build().unwrap();
    let said = parts.clone();
    let flow = Pipeline::new("flow").apply(move |_: String| said.clone()).then(&looks);
    let flow = flow.build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&looks).agent(&flow)).await;
    assert_eq!(super::ask(&runtime, "flow", "look").await.unwrap(), json!("seen"));
    let request = &scene.model.requests()[0].body;
    assert_eq!(request["messages"][0]["content"], json!(parts.to_string()), "{request}");
    runtime.shutdown().await;
}
