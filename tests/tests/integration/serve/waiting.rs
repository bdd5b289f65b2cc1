//! Runs that wait for a person, who decides over HTTP, and runs that are told more.

use axon_kernel::spec::{AgentSpec, Effect, WhenBusy};
use axon_test::scripted_runner::{Death, Life, RunnerScript, Step, When};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::service::{Service, Stream, id_of, names, ok, refused, sent};
use super::{talking, write_agent};
use crate::support::{Project, python_tool, until};

fn request(call: &str) -> Value {
    json!({
        "tool_call_id": call, "name": "pay", "args": { "amount": 5 }, "kind": "approval",
        "parameters": { "type": "object", "properties": { "amount": { "type": "integer" } } }
    })
}

fn paying(effect: Effect) -> impl FnOnce(&mut AgentSpec) {
    move |spec| spec.tools.push(python_tool("pay", "tools:pay", effect))
}

/// A service whose agent wants to pay, and then tells what was decided.
pub(super) async fn cashier() -> (Project, Service) {
    let project = Project::new();
    let life = Life::default()
        .on(When::resumed().and_decided("tool-approved"), [Step::complete("approved")])
        .on(When::resumed().and_decided("tool-denied"), [Step::complete("denied")])
        .always([Step::pause(json!([request("c1")]))]);
    write_agent(&project, "talker", RunnerScript::from(life), paying(Effect::Idempotent));
    let service = Service::start(&project, &[]).await;
    (project, service)
}

#[tokio::test]
async fn a_run_waits_for_a_decision_and_goes_on_with_it() {
    let (_project, service) = cashier().await;
    let waits = ok(service.ask("pay")).await;
    assert_eq!(waits["outcome"], "paused");
    let requests = &waits["pause"]["reason"]["approval"]["requests"];
    assert_eq!(requests[0]["tool_call_id"], "c1", "{waits}");
    let run = id_of(&waits);
    assert_eq!(waits["usage"], service.run(&run).await["answer"]["usage"]);
    assert!(waits["usage"].is_object(), "{waits}");
    let follower = Stream::open(service.get(&format!("/v1/runs/{run}/events"))).await;
    let approvals = format!("/v1/runs/{run}/approvals");
    let decide = |body: Value| service.post(&approvals, &body);
    let other = decide(json!({ "tool_call_id": "c2", "approve": true }));
    assert_eq!(refused(other).await, (422, "invalid_decision".to_owned()));
    let wrong = decide(json!({ "tool_call_id": "c1", "approve": true, "args": { "amount": "x" } }));
    assert_eq!(refused(wrong).await, (422, "invalid_arguments".to_owned()));
    let neither = decide(json!({ "tool_call_id": "c1" }));
    assert_eq!(refused(neither).await, (422, "invalid_request".to_owned()));
    let decision = ok(decide(json!({ "tool_call_id": "c1", "approve": true }))).await;
    assert_eq!(decision, json!({ "run_id": run, "undecided": [], "resumed": true }));
    let seen = follower.rest().await;
    assert!(names(&seen).contains(&"paused") && names(&seen).contains(&"resolved"));
    assert_eq!(names(&seen).last(), Some(&"completed"));
    assert_eq!(seen.last().unwrap().data["output"], "approved");
    let late = decide(json!({ "tool_call_id": "c1", "approve": false }));
    assert_eq!(refused(late).await, (409, "run_ended".to_owned()));
}

#[tokio::test]
async fn the_stream_of_whoever_asked_ends_where_the_run_waits() {
    let (_project, service) = cashier().await;
    let seen = Stream::open(service.ask("pay")).await.rest().await;
    assert_eq!(names(&seen).last(), Some(&"paused"));
    let run = id_of(&seen[0].data);
    let body = json!({ "tool_call_id": "c1", "approve": false, "message": "no" });
    ok(service.post(&format!("/v1/runs/{run}/approvals"), &body)).await;
    until("the run goes on", async || service.run(&run).await["answer"]["output"] == "denied")
        .await;
}

#[tokio::test]
async fn a_call_that_may_have_taken_effect_is_resolved() {
    let project = Project::new();
    let dies = [
        Step::checkpoint(
            axon_kernel::wire::Before::Tools,
            [json!({ "kind": "request", "parts": [] }), json!({ "kind": "response", "parts": [] })],
        ),
        Step::tool_started("c1", "pay", Effect::Once),
        Death::signal(9).into(),
    ];
    let life = Life::default().on(When::attempt(1), dies).always([Step::complete("settled")]);
    write_agent(&project, "talker", RunnerScript::from(life), paying(Effect::Once));
    let service = Service::start(&project, &[]).await;
    let waits = ok(service.ask("pay")).await;
    assert_eq!(waits["pause"]["reason"]["ambiguous"]["tool_call_id"], "c1", "{waits}");
    let run = id_of(&waits);
    let resolve = |body: Value| service.post(&format!("/v1/runs/{run}/resolve"), &body);
    let wrong = resolve(json!({ "tool_call_id": "c1", "verdict": "retry", "result": 1 }));
    assert_eq!(refused(wrong).await, (422, "invalid_request".to_owned()));
    let verdict = json!({ "tool_call_id": "c1", "verdict": "skip", "result": "paid" });
    assert_eq!(ok(resolve(verdict)).await["resumed"], true);
    until("the run goes on", async || service.run(&run).await["answer"]["output"] == "settled")
        .await;
}

#[tokio::test]
async fn a_prompt_with_a_key_goes_into_the_turn_under_way_once() {
    let project = Project::new();
    write_agent(&project, "talker", super::talker(), |spec| {
        spec.conversation.when_busy = WhenBusy::Steer;
    });
    let service = Service::start(&project, &[]).await;
    let ask = |prompt: &str| {
        let body = json!({ "prompt": prompt, "conversation_id": "c" });
        service.post("/v1/agents/talker/runs", &body)
    };
    let mut turn = Stream::open(ask("hang")).await;
    let run = id_of(&turn.until("text_delta").await[0].data);
    for _ in 0..2 {
        let more = ask("and more").header("Idempotency-Key", "k").header("Prefer", "respond-async");
        assert_eq!(id_of(&ok(more).await), run);
    }
    assert_eq!(sent(service.delete(&format!("/v1/runs/{run}"))).await.0, StatusCode::ACCEPTED);
    let told = turn.rest().await;
    assert_eq!(names(&told).iter().filter(|name| **name == "steered").count(), 1, "{told:?}");
    // Its turn is over, and the message is still on its record.
    let more = ask("and more").header("Idempotency-Key", "k");
    assert_eq!(id_of(&ok(more).await), run);
}

#[tokio::test]
async fn a_run_under_way_is_told_more_and_an_ended_one_is_not() {
    let (_project, service) = talking().await;
    let mut stream = Stream::open(service.ask("hang")).await;
    let run = id_of(&stream.until("text_delta").await[0].data);
    let tell = |content: Value| {
        service.post(&format!("/v1/runs/{run}/messages"), &json!({ "content": content }))
    };
    assert_eq!(refused(tell(json!(7))).await, (422, "invalid_request".to_owned()));
    assert_eq!(sent(tell(json!("and more"))).await.0, StatusCode::ACCEPTED);
    assert_eq!(stream.until("steered").await.last().unwrap().data["content"], "and more");
    assert_eq!(sent(service.delete(&format!("/v1/runs/{run}"))).await.0, StatusCode::ACCEPTED);
    assert_eq!(names(&stream.rest().await).last(), Some(&"cancelled"));
    assert_eq!(refused(tell(json!("too late"))).await, (409, "run_not_under_way".to_owned()));
}
