//! Hand-offs: one agent goes on where another one was.

use axon_kernel::event::{PauseReason, RunEvent};
use axon_kernel::ids::ToolCallId;
use axon_runtime::{Agent, Outcome, Pipeline, named};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paths;
use crate::defined::{MODEL, Scene};
use crate::support::{follow, output};

/// What the bank's agents are given.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Customer {
    id: u32,
}

fn desk(name: &str, to: &[&str]) -> Agent<Customer> {
    let desk = Agent::<Customer>::builder(name).model(MODEL);
    let desk = desk.instructions(format!("You are {name} for {{{{ deps.id }}}}."));
    let desk = if to.is_empty() { desk } else { desk.hand_off_to(to.iter().copied()) };
    desk.build().unwrap()
}

fn hand_off(to: &str) -> Reply {
    Reply::tool_calls([("hand_off", json!({ "to": to, "reason": "it is theirs" }))])
}

/// Returns who is asked.
fn asked(body: &Value) -> String {
    let system = body["messages"][0]["content"].as_str().unwrap_or_default();
    system.split(' ').nth(2).unwrap_or_default().to_owned()
}

/// Fraud hands everything to support, which answers.
fn to_support(body: &Value) -> Reply {
    match asked(body).as_str() {
        "fraud" => hand_off("support"),
        _ => Reply::text(format!("support: {}", ChatRequest::new(body).user_prompt())),
    }
}

fn names(seen: &[RunEvent]) -> Vec<&str> {
    seen.iter().map(RunEvent::name).filter(|name| *name != "model").collect()
}

#[tokio::test]
async fn the_other_agent_goes_on_with_history_and_deps_in_the_same_run() {
    let scene = Scene::new(Script::function(to_support)).await;
    let (fraud, support) = (desk("fraud", &["support"]), desk("support", &[]));
    let runtime = scene.start(scene.runtime().agent(&fraud).agent(&support)).await;
    let run = runtime.agent(&fraud).run("What is my balance?").deps(&Customer { id: 7 });
    let mut run = run.conversation("c1").start().await.unwrap();
    let seen = follow(&mut run).await;
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!("support: What is my balance?"));
    let Outcome::Completed(completed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(completed.usage.decode::<Value>().unwrap()["requests"], 2);
    assert!(names(&seen).contains(&"handed_off"), "{:?}", names(&seen));
    let requests = scene.model.requests();
    let last = &requests.last().unwrap().body;
    // It sees what was said, the hand-off too, and has instructions of its own and no such tool.
    assert!(last["messages"][0]["content"].as_str().unwrap().contains("support for 7"));
    assert!(last["messages"].to_string().contains("it is theirs"), "{last}");
    assert!(last.get("tools").is_none(), "{last}");
    assert_eq!(requests.len(), 2);
    // The whole of it is one turn of the conversation.
    let history = runtime.store().history(&"c1".into()).await.unwrap();
    assert_eq!(history.len(), 4, "{history:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_comes_back_is_not_handed_on_again() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let refused = request.tool_return("hand_off").unwrap_or_default();
        match (asked(body).as_str(), refused.contains("had the run from you before")) {
            (_, true) => Reply::text("enough"),
            ("fraud", false) => hand_off("support"),
            (_, false) => hand_off("fraud"),
        }
    }))
    .await;
    let (fraud, support) = (desk("fraud", &["support"]), desk("support", &["fraud"]));
    let runtime = scene.start(scene.runtime().agent(&fraud).agent(&support)).await;
    let mut run = runtime.agent(&fraud).run("hi").deps(&Customer { id: 7 }).start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(output(&run.outcome().await.outcome), json!("enough"));
    let to = |event: &RunEvent| {
        let RunEvent::HandedOff(handed) = event else { return None };
        Some(handed.to.to_string())
    };
    let handed: Vec<String> = seen.iter().filter_map(to).collect();
    assert_eq!(handed, ["support", "fraud"]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_person_answers_and_the_agent_itself_goes_on() {
    let scene =
        Scene::new(Script::function(|body| match ChatRequest::new(body).tool_return("hand_off") {
            Some(said) => Reply::text(format!("a person says {said}")),
            None => hand_off("human"),
        }))
        .await;
    let fraud = desk("fraud", &["human"]);
    let runtime = scene.start(scene.runtime().agent(&fraud)).await;
    let mut run = runtime.agent(&fraud).run("hi").deps(&Customer { id: 7 }).start().await.unwrap();
    follow(&mut run).await;
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it asks") };
    let PauseReason::Approval { requests } = &paused.reason else { panic!("{paused:?}") };
    let requests: Vec<Value> = requests.decode().unwrap();
    assert_eq!(requests[0]["metadata"]["question"], "it is theirs", "{requests:?}");
    let call = ToolCallId::new(requests[0]["tool_call_id"].as_str().unwrap());
    run.answer(&call, "block it").await.unwrap();
    follow(&mut run).await;
    assert_eq!(output(&run.outcome().await.outcome), json!("a person says block it"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_flow_shows_whom_a_run_below_it_was_handed_to() {
    let scene = Scene::new(Script::function(to_support)).await;
    let (fraud, support) = (desk("fraud", &["support"]), desk("support", &[]));
    let flow = Pipeline::new("flow").then(&named::<String>("fraud")).build().unwrap();
    let builder = scene.runtime().agent(&fraud).agent(&support).agent(&flow);
    let runtime = scene.start(builder).await;
    let run = runtime.named("flow").unwrap().run("hi").deps(&json!({ "id": 7 }));
    let mut run = run.start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(paths(&seen), ["flow/fraud", "flow/support"]);
    assert_eq!(output(&run.outcome().await.outcome), json!("support: hi"));
    runtime.shutdown().await;
}
