//! Approvals in one run and over processes: what stands, what expires, what is waited for.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::{PauseReason, Paused, Resolution, RunEvent};
use axon_kernel::failure::FailureKind;
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::run::RunState;
use axon_kernel::spec::{AgentSpec, Effect, OnTimeout};
use axon_kernel::store::Store;
use axon_runtime::{Outcome, RecordError, ResumeError, RunHandle, Runtime};
use axon_store::{OpenOptions, StoreUrl};
use axon_test::scripted_runner::{Life, RunnerScript, Step, When};
use serde_json::{Value, json};

use crate::scene::{Played, agent, shows};
use crate::support::{Project, failure, follow, names, output, python_tool, until};

async fn store(project: &Project) -> Arc<dyn Store> {
    let path = project.path().join(".axon/axon.db");
    let url: StoreUrl = path.to_str().unwrap().parse().unwrap();
    axon_store::open(&url, OpenOptions::default()).await.unwrap()
}

async fn runtime(project: &Project, played: &Played, recovers: bool) -> Runtime {
    let builder = project.runtime().agent(played).store(store(project).await).recover(recovers);
    builder.start().await.unwrap()
}

fn request(call: &str, tool: &str) -> Value {
    json!({
        "tool_call_id": call, "name": tool, "args": {"amount": 5}, "kind": "approval",
        "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}}
    })
}

/// An agent that wants to pay, and then once more, and then tells what was decided last.
fn paying(project: &Project) -> Played {
    let checkpoint = || {
        Step::checkpoint(
            axon_kernel::wire::Before::Model,
            [json!({"kind": "request", "parts": []})],
        )
    };
    let life = Life::default()
        .on(When::attempt(1), [Step::pause(json!([request("c1", "pay")]))])
        .on(
            When::attempt(2).and_decided("tool-approved"),
            [checkpoint(), Step::pause(json!([request("c2", "pay")]))],
        )
        .on(When::resumed().and_decided("tool-approved"), [Step::complete("approved")])
        .on(When::resumed().and_decided("tool-denied"), [Step::complete("denied")])
        .always([Step::pause(json!([request("c1", "pay")]))]);
    Played::new(project, "agent", RunnerScript::from(life)).with(with_tool)
}

fn with_tool(spec: &mut AgentSpec) {
    spec.tools.push(python_tool("pay", "tools:pay", Effect::Idempotent));
}

fn expiring(timeout: Duration, then: OnTimeout) -> impl FnOnce(&mut AgentSpec) {
    move |spec| {
        spec.approvals.timeout = Some(timeout);
        spec.approvals.on_timeout = then;
    }
}

fn call(id: &str) -> ToolCallId {
    ToolCallId::new(id)
}

async fn paused(run: &RunHandle) -> Paused {
    let outcome = run.outcome().await.outcome;
    let Outcome::Paused(paused) = outcome else { panic!("{outcome:?}") };
    paused
}

async fn recorded(runtime: &Runtime, run: &RunId) -> Vec<RunEvent> {
    let events = runtime.records().events(run, 0).await.unwrap();
    events.into_iter().map(|event| event.event).collect()
}

fn decided_by(events: &[RunEvent]) -> Vec<&str> {
    let mut found = Vec::new();
    for event in events {
        if let RunEvent::Resolved(resolved) = event {
            found.push(resolved.by.as_str());
        }
    }
    found
}

#[tokio::test]
async fn a_tool_that_was_approved_beforehand_is_never_asked_about() {
    let project = Project::new();
    let runtime = runtime(&project, &paying(&project), false).await;
    let mut run = agent(&runtime, "agent").run("pay").approve("pay").start().await.unwrap();
    let seen = follow(&mut run).await;
    assert!(!names(&seen).contains(&"paused"), "{seen:?}");
    assert_eq!(output(&run.outcome().await.outcome), json!("approved"));
    let events = recorded(&runtime, run.id()).await;
    let by = "whoever asked for the run, for every call of `pay` in this run";
    assert_eq!(decided_by(&events), [by, by]);
    let refused = agent(&runtime, "agent").run("pay").approve("pya").start().await.unwrap_err();
    assert!(refused.to_string().contains("has no tool `pya` to approve"), "{refused}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_approval_for_the_whole_run_stands_in_the_next_process() {
    let project = Project::new();
    let played = paying(&project);
    let first = runtime(&project, &played, false).await;
    let run = agent(&first, "agent").run("pay").start().await.unwrap();
    paused(&run).await;
    first.shutdown().await;
    let second = runtime(&project, &played, false).await;
    let always = Resolution::Approve { args: None, always: true };
    let left = second.records().resolve(run.id(), &call("c1"), always, "ada").await.unwrap();
    assert_eq!(left, []);
    let mut going_on = second.resume(run.id().clone()).start().await.unwrap();
    let seen = follow(&mut going_on).await;
    assert!(!names(&seen).contains(&"paused"), "{seen:?}");
    assert_eq!(output(&going_on.outcome().await.outcome), json!("approved"));
    let events = recorded(&second, run.id()).await;
    assert_eq!(decided_by(&events), ["ada", "ada, for every call of `pay` in this run"]);
    second.shutdown().await;
}

#[tokio::test]
async fn an_approval_for_the_whole_run_is_one_of_what_waits_beside_it() {
    let project = Project::new();
    let both = json!([request("c1", "pay"), request("c2", "pay"), request("c3", "other")]);
    let played = Played::new(&project, "agent", [Step::pause(both)]);
    let runtime = runtime(&project, &played, false).await;
    let run = agent(&runtime, "agent").run("pay").start().await.unwrap();
    paused(&run).await;
    let always = Resolution::Approve { args: None, always: true };
    let left = runtime.records().resolve(run.id(), &call("c1"), always, "").await.unwrap();
    assert_eq!(left, [call("c3")]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_call_that_asks_again_although_it_was_approved_is_left_to_a_person() {
    let project = Project::new();
    let stubborn = [Step::pause(json!([request("c1", "pay")]))];
    let played = Played::new(&project, "agent", stubborn).with(with_tool);
    let runtime = runtime(&project, &played, false).await;
    let run = agent(&runtime, "agent").run("pay").approve("pay").start().await.unwrap();
    paused(&run).await;
    let events = recorded(&runtime, run.id()).await;
    let begun = events.iter().filter(|event| event.name() == "attempt_started").count();
    assert_eq!((begun, decided_by(&events).len()), (2, 1));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_crash_behind_a_standing_approval_costs_nothing() {
    let project = Project::new();
    let life = Life::default()
        .on(When::attempt(2), [Step::Hang])
        .on(When::attempt(3), [Step::pause(json!([request("c1", "pay")]))])
        .on(When::default().and_decided("tool-approved"), [Step::complete("approved")])
        .always([Step::pause(json!([request("c1", "pay")]))]);
    let played = Played::new(&project, "agent", RunnerScript::from(life)).with(with_tool);
    let first = runtime(&project, &played, false).await;
    let mut run = agent(&first, "agent").run("pay").approve("pay").start().await.unwrap();
    shows(&mut run, "resolved").await;
    first.shutdown().await;
    let second = runtime(&project, &played, true).await;
    let state = async || second.records().summary(run.id()).await.unwrap().state;
    until("the run has ended", async || !state().await.is_open()).await;
    assert_eq!(state().await, RunState::Completed);
    let events = recorded(&second, run.id()).await;
    assert!(!names(&events).contains(&"paused"), "{events:?}");
    second.shutdown().await;
}

#[tokio::test]
async fn of_two_who_decide_at_once_one_is_told_that_it_is_decided() {
    let project = Project::new();
    let runtime = runtime(&project, &paying(&project), false).await;
    let run = agent(&runtime, "agent").run("pay").start().await.unwrap();
    paused(&run).await;
    let (records, c1) = (runtime.records(), call("c1"));
    let approve = records.resolve(run.id(), &c1, Resolution::approve(), "ada");
    let deny = records.resolve(run.id(), &c1, Resolution::Deny { message: None }, "bob");
    let (approved, denied) = tokio::join!(approve, deny);
    assert_ne!(approved.is_ok(), denied.is_ok(), "{approved:?} {denied:?}");
    let refused = approved.err().or(denied.err()).unwrap();
    // The other one either holds the run just then, or has decided.
    let told = matches!(refused, RecordError::Decided { .. } | RecordError::Store(_));
    assert!(told, "{refused:?}");
    assert_eq!(decided_by(&recorded(&runtime, run.id()).await).len(), 1);
    runtime.shutdown().await;
}

#[tokio::test]
async fn arguments_that_break_the_schema_are_refused_and_nothing_is_lost() {
    let project = Project::new();
    let runtime = runtime(&project, &paying(&project), false).await;
    let mut run = agent(&runtime, "agent").run("pay").start().await.unwrap();
    paused(&run).await;
    for (args, problem) in [("[5]", "JSON object"), (r#"{"amount":"five"}"#, "/amount")] {
        let args = Some(axon_kernel::json::RawJson::parse(args).unwrap());
        let resolution = Resolution::Approve { args, always: false };
        let refused = run.resolve(&call("c1"), resolution).await.unwrap_err();
        let ResumeError::Record(RecordError::InvalidArgs { tool, source, .. }) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!((tool.as_str(), refused.code()), ("pay", "invalid_arguments"));
        assert!(source.to_string().contains(problem), "{source}");
    }
    assert_eq!(decided_by(&recorded(&runtime, run.id()).await).len(), 0);
    run.resolve(&call("c1"), Resolution::Deny { message: None }).await.unwrap();
    assert_eq!(output(&run.outcome().await.outcome), json!("denied"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_pause_that_nobody_ends_is_over_in_time_and_the_runtime_goes_on_by_itself() {
    for then in [OnTimeout::Deny, OnTimeout::Fail] {
        let project = Project::new();
        let played = paying(&project).with(expiring(Duration::from_millis(50), then));
        let runtime = runtime(&project, &played, true).await;
        let run = agent(&runtime, "agent").run("pay").start().await.unwrap();
        assert_eq!(paused(&run).await.expires.unwrap().then, then);
        let state = async || runtime.records().summary(run.id()).await.unwrap().state;
        until("the run has ended", async || !state().await.is_open()).await;
        let events = recorded(&runtime, run.id()).await;
        assert_eq!(decided_by(&events), ["approvals.timeout"]);
        match (then, events.last().unwrap()) {
            (OnTimeout::Deny, RunEvent::Completed(done)) => {
                assert_eq!(done.output.get(), r#""denied""#);
            }
            (OnTimeout::Fail, RunEvent::Failed(failed)) => {
                assert_eq!(failed.failure.kind, FailureKind::Tool);
                assert!(failed.failure.message.contains("within 50ms"), "{failed:?}");
            }
            (_, last) => panic!("{then:?}: {last:?}"),
        }
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_pause_that_ended_while_no_process_lived_is_over_for_the_next_one() {
    let project = Project::new();
    let played = paying(&project).with(expiring(Duration::from_millis(1), OnTimeout::Deny));
    let first = runtime(&project, &played, false).await;
    let mut run = agent(&first, "agent").run("pay").start().await.unwrap();
    let at = paused(&run).await.expires.unwrap().at;
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    until("its time is over", async || now() > u128::from(at.0)).await;
    let late = run.resolve(&call("c1"), Resolution::approve()).await.unwrap_err();
    assert!(matches!(late, ResumeError::Record(RecordError::Expired { .. })), "{late:?}");
    assert_eq!(late.code(), "decision_too_late");
    let still = first.records().summary(run.id()).await.unwrap().state;
    assert_eq!(still, RunState::Paused, "this one goes on with nothing by itself");
    first.shutdown().await;
    let second = runtime(&project, &played, true).await;
    let state = async || second.records().summary(run.id()).await.unwrap().state;
    until("the run has ended", async || !state().await.is_open()).await;
    assert_eq!(state().await, RunState::Completed);
    second.shutdown().await;
}

#[tokio::test]
async fn every_run_that_waits_is_listed_with_what_it_waits_for() {
    let project = Project::new();
    let day = Duration::from_secs(24 * 60 * 60);
    let played = paying(&project).with(expiring(day, OnTimeout::Fail));
    let runtime = runtime(&project, &played, true).await;
    assert_eq!(runtime.records().waiting().await.unwrap(), []);
    let agent = agent(&runtime, "agent");
    let mut run = agent.run("pay").conversation("k").start().await.unwrap();
    let expires = paused(&run).await.expires;
    let [waiting] = runtime.records().waiting().await.unwrap().try_into().unwrap();
    assert_eq!((&waiting.run_id, waiting.agent.as_str()), (run.id(), "agent"));
    assert_eq!(waiting.conversation_id.unwrap().as_str(), "k");
    assert!(matches!(waiting.reason, PauseReason::Approval { .. }));
    assert!(expires.is_some() && waiting.expires == expires);
    let asked = &waiting.requests[0];
    assert_eq!((asked.name.as_str(), asked.args.get()), ("pay", r#"{"amount":5}"#));
    run.resolve(&call("c1"), Resolution::Deny { message: None }).await.unwrap();
    output(&run.outcome().await.outcome);
    assert_eq!(runtime.records().waiting().await.unwrap(), []);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_person_may_end_the_run_in_place_of_a_decision() {
    let project = Project::new();
    let runtime = runtime(&project, &paying(&project), false).await;
    let mut run = agent(&runtime, "agent").run("pay").start().await.unwrap();
    paused(&run).await;
    let fail = Resolution::Fail { message: Some("We are closed.".to_owned()) };
    run.resolve_as(&call("c1"), fail, "ada").await.unwrap();
    assert_eq!(failure(&run.outcome().await.outcome).message, "We are closed.");
    assert_eq!(decided_by(&recorded(&runtime, run.id()).await), ["ada"]);
    runtime.shutdown().await;
}
