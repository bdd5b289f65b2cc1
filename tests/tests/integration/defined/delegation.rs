//! Delegation: an agent as a tool of another one.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::{Resolution, RunEvent};
use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{Effect, Limits, MAX_DELEGATIONS};
use axon_kernel::store::RunQuery;
use axon_runtime::{
    Agent, Outcome, Pipeline, RunHandle, Runtime, Tool, ToolContext, ToolError, named,
};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Customer, MODEL, Scene};
use crate::support::{follow, kill_9, output};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Nothing {}

/// The support agent asks the fraud desk, and answers with what that said; the fraud desk calls
/// `tool`, if there is one, and answers.
pub(super) fn script(tool: Option<&'static str>) -> Script {
    Script::function(move |body| reply(tool, body))
}

pub(super) fn reply(tool: Option<&str>, body: &Value) -> Reply {
    let request = ChatRequest::new(body);
    let system = body["messages"][0]["content"].as_str().unwrap_or_default();
    let returned = |name: &str| request.tool_return(name);
    if system.contains("fraud desk") {
        return match (tool, tool.and_then(returned)) {
            (Some(tool), None) => Reply::tool_calls([(tool, json!({}))]),
            (_, said) => Reply::text(format!(
                "fraud says {} to {}",
                said.unwrap_or_else(|| "no".into()),
                request.user_prompt()
            )),
        };
    }
    match returned("fraud") {
        None => Reply::tool_calls([("fraud", json!({ "prompt": "Is it fraud?" }))]),
        Some(said) => Reply::text(format!("told: {said}")),
    }
}

fn support() -> Agent<Customer> {
    Agent::<Customer>::builder("support")
        .model(MODEL)
        .instructions("You are support.")
        .delegate("fraud", "Asks the fraud desk.")
        .build()
        .unwrap()
}

pub(super) fn fraud(tool: Option<Tool>) -> Agent<Customer> {
    let fraud = Agent::<Customer>::builder("fraud")
        .model(MODEL)
        .instructions("You are the fraud desk of {{ deps.id }}.");
    match tool {
        Some(tool) => fraud.tool(tool).build().unwrap(),
        None => fraud.build().unwrap(),
    }
}

pub(super) async fn start(scene: &Scene, fraud: &Agent<Customer>) -> (Runtime, RunHandle) {
    let support = support();
    let runtime = scene.start(scene.runtime().agent(&support).agent(fraud)).await;
    let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    (runtime.clone(), run.start().await.unwrap())
}

pub(super) fn usage(outcome: &Outcome) -> Value {
    let Outcome::Completed(completed) = outcome else { panic!("{outcome:?}") };
    completed.usage.decode().unwrap()
}

#[tokio::test]
async fn another_agent_answers_with_its_own_events_and_its_usage_in_the_run() {
    let scene = Scene::new(script(None)).await;
    let (runtime, mut run) = start(&scene, &fraud(None)).await;
    let seen = follow(&mut run).await;
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!("told: fraud says no to Is it fraud?"));
    assert_eq!(usage(&outcome)["requests"], 3);
    let inner: Vec<(&str, &str)> = seen
        .iter()
        .filter_map(|event| {
            let RunEvent::Delegated(delegated) = event else { return None };
            Some((delegated.path.as_str(), delegated.inner.name()))
        })
        .collect();
    assert_eq!(inner.first(), Some(&("support/fraud", "accepted")));
    assert_eq!(inner.last(), Some(&("support/fraud", "completed")));
    assert!(scene.sent().contains("the fraud desk of 7"));
    // The other run is on record by itself, as this one's.
    let newest = RunQuery { limit: 10, ..RunQuery::default() };
    let runs = runtime.store().runs(&newest).await.unwrap();
    let child = runs.iter().find(|other| other.agent.as_str() == "fraud").unwrap();
    let child = runtime.records().replay(&child.run_id).await.unwrap();
    assert_eq!(child.accepted.terms.parent.unwrap().run_id, *run.id());
    runtime.shutdown().await;
}

#[tokio::test]
async fn budget_and_deadline_are_the_callers_and_never_grow() {
    let scene = Scene::new(script(None)).await;
    let limits = Limits { requests: 2, ..Limits::default() };
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .limits(limits)
        .delegate("fraud", "Asks the fraud desk.")
        .build()
        .unwrap();
    let fraud = fraud(None);
    let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
    let ask = || runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    let failure = ask().await.unwrap_err().into_failure();
    assert_eq!(failure.kind, FailureKind::UsageLimit, "{failure:?}");
    assert_eq!(scene.model.requests().len(), 2);
    runtime.shutdown().await;

    let scene = Scene::new(Script::function(|body| {
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        match system.contains("fraud desk") {
            true => Reply::hang(),
            false => Reply::tool_calls([("fraud", json!({ "prompt": "Is it fraud?" }))]),
        }
    }))
    .await;
    let (runtime, mut run) = {
        let support = self::support();
        let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
        let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
        (runtime.clone(), run.timeout(Duration::from_secs(2)).start().await.unwrap())
    };
    follow(&mut run).await;
    let Outcome::Failed(failed) = run.outcome().await.outcome else { panic!("it is too late") };
    assert_eq!(failed.failure.kind, FailureKind::RunTimeout);
    // Nobody asks any more, for either of them.
    scene.model.wait_until(|traffic| traffic.open_streams() == 0).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn agents_that_hand_on_for_ever_are_stopped_by_the_depth() {
    let scene =
        Scene::new(Script::function(|body| match ChatRequest::new(body).tool_return("echo") {
            None => Reply::tool_calls([("echo", json!({ "prompt": "again" }))]),
            Some(said) => Reply::text(said),
        }))
        .await;
    let echo = Agent::<()>::builder("echo").model(MODEL).delegate("echo", "Asks itself.");
    let echo = echo.build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&echo)).await;
    let answer = runtime.agent(&echo).run("begin").await.unwrap();
    assert!(answer.output.contains("as deep as work is handed on"), "{}", answer.output);
    // Each level asks twice.
    assert_eq!(scene.model.requests().len(), 2 * (MAX_DELEGATIONS + 1));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_was_approved_beforehand_holds_for_the_agents_below_and_typing_errors_do_not() {
    let scene = Scene::new(script(Some("check"))).await;
    let check =
        Tool::new("check", async |ctx: ToolContext<Customer>, _: Nothing| match ctx.approved() {
            true => Ok("checked"),
            false => Err(ToolError::NeedsApproval("it costs money".into())),
        });
    let (support, fraud) = (support(), fraud(Some(check.unwrap())));
    let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
    let ask = |tool: &'static str| {
        let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
        run.with(|run| run.approve(tool))
    };
    assert_eq!(ask("check").await.unwrap().output, "told: fraud says checked to Is it fraud?");
    let refused = ask("chekc").await.unwrap_err().to_string();
    assert!(refused.contains("did you mean `check`"), "{refused}");
    // To let an agent be asked is not to approve what it asks.
    let run = ask("fraud").start().await.unwrap();
    assert!(matches!(run.outcome().await.outcome, Outcome::Paused(_)));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_the_other_agent_asks_a_person_pauses_both_and_one_decision_goes_on_with_both() {
    let scene = Scene::new(script(Some("check"))).await;
    let check =
        Tool::new("check", async |ctx: ToolContext<Customer>, _: Nothing| match ctx.approved() {
            true => Ok("checked"),
            false => Err(ToolError::NeedsApproval("it costs money".into())),
        });
    let (runtime, mut run) = start(&scene, &fraud(Some(check.unwrap()))).await;
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it waits") };
    assert!(format!("{paused:?}").contains("it costs money"), "{paused:?}");
    let call = runtime.records().replay(run.id()).await.unwrap().undecided().remove(0);
    let approve: Resolution = serde_json::from_value(json!({ "do": "approve" })).unwrap();
    assert!(run.resolve(&call, approve).await.unwrap().is_empty());
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!("told: fraud says checked to Is it fraud?"));
    assert_eq!(usage(&outcome)["requests"], 4);
    runtime.shutdown().await;
}

#[tokio::test]
async fn the_death_of_the_callers_runner_does_not_begin_the_other_run_again() {
    let scene = Scene::new(script(Some("wait"))).await;
    let (reached, go) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (reaches, goes) = (reached.clone(), go.clone());
    let wait = Tool::new("wait", move |_: ToolContext, _: Nothing| {
        let (reached, go) = (reaches.clone(), goes.clone());
        async move {
            reached.notify_one();
            go.notified().await;
            Ok::<_, ToolError>("waited")
        }
    });
    let wait = wait.unwrap().effect(Effect::Once);
    let (runtime, mut run) = start(&scene, &fraud(Some(wait))).await;
    reached.notified().await;
    let runner = runtime.named("support").unwrap().status().await.unwrap().pid.unwrap();
    kill_9(runner);
    crate::scene::shows(&mut run, "attempt_failed").await;
    go.notify_one();
    follow(&mut run).await;
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!("told: fraud says waited to Is it fraud?"));
    let asked = scene.model.requests();
    let of_fraud =
        asked.iter().filter(|request| request.body.to_string().contains("fraud desk of"));
    assert_eq!(of_fraud.count(), 2, "the other agent was asked once");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_refused_before_anything_starts() {
    let scene = Scene::new(Reply::text("no")).await;
    let refused = scene.runtime().agent(support()).start().await.unwrap_err();
    assert!(refused.to_string().contains("hands work to the agent `fraud`"), "{refused}");
}

#[tokio::test]
async fn what_a_flow_has_used_that_broke_off_is_on_the_bill_of_its_caller() {
    let scene = Scene::new(script(None)).await;
    let fraud = fraud(None);
    let inner = Pipeline::new("inner")
        .then(&fraud)
        .try_apply(|_: String| Err::<String, _>(ToolError::Failed("no".into())));
    let outer =
        Pipeline::new("outer").then(&named::<String>("inner")).fallback(fraud.name().clone());
    let (inner, outer) = (inner.build().unwrap(), outer.build().unwrap());
    let agents = scene.runtime().agent(&fraud).agent(&inner).agent(&outer);
    let runtime = scene.start(agents).await;
    let run = runtime.named("outer").unwrap().run("Well?").deps(&Customer { id: 7 });
    let outcome = run.wait().await.unwrap().outcome;
    assert_eq!(output(&outcome), json!("fraud says no to Well?"));
    assert_eq!(usage(&outcome)["requests"], 2);
    runtime.shutdown().await;
}
