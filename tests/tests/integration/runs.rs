//! Runs through the Rust API: answers, concurrency, history, limits, stopping.

use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::failure::FailureKind;
use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_runtime::{AgentState, Outcome, Refusal, StartError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, Project, failure, follow, is_alive, names, output, repository, scripted_agent, until,
};

fn echo() -> Script {
    Script::function(|body| Reply::text(format!("echo {}", ChatRequest::new(body).user_prompt())))
}

#[tokio::test]
async fn the_bank_answers_with_its_tool_and_says_that_its_model_is_offline() {
    let project = Project::new();
    let runtime = project.runtime().agents_dir(repository().join("agents")).start().await.unwrap();
    let bank = runtime.named("bank_support").unwrap();
    let deps = json!({"customer_id": 123});

    let mut run = bank.run("What is my balance?").deps(&deps).start().await.unwrap();
    let seen = names(&follow(&mut run).await);
    for expected in ["accepted", "attempt_started", "tool_called", "tool_returned", "completed"] {
        assert!(seen.contains(&expected), "{expected} is missing in {seen:?}");
    }
    let outcome = run.outcome().await.outcome;
    let answer = output(&outcome);
    assert!(answer["support_advice"].as_str().unwrap().contains("123.45"), "{answer}");
    let Outcome::Completed(completed) = outcome else { unreachable!() };
    assert!(completed.offline && completed.model.contains("offline"));
    let usage: Value = completed.usage.decode().unwrap();
    assert_eq!((usage["requests"].as_u64(), usage["tool_calls"].as_u64()), (Some(2), Some(1)));

    let lost = bank.run("I just lost my card!").deps(&deps).wait().await.unwrap();
    let answer = output(&lost.outcome);
    assert_eq!(answer["block_card"], json!(true));
    assert!(answer["risk"].as_u64().unwrap() >= 7);

    let unknown = bank.run("Balance?").deps(&json!({"customer_id": 999})).wait().await.unwrap();
    assert!(failure(&unknown.outcome).message.contains("999"), "{unknown:?}");
    runtime.shutdown().await;
    assert_eq!(project.sockets(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn structured_output_streams_as_growing_partial_objects() {
    let project = Project::new();
    let runtime = project.runtime().agents_dir(repository().join("agents")).start().await.unwrap();
    let run = runtime.named("bank_support").unwrap().run("What is my balance?");
    let mut run = run.deps(&json!({"customer_id": 123})).start().await.unwrap();
    let seen = follow(&mut run).await;
    let lengths: Vec<usize> = seen
        .iter()
        .filter_map(|event| {
            if let RunEvent::PartialOutput(partial) = event {
                Some(partial.value.get().len())
            } else {
                None
            }
        })
        .collect();
    assert!(lengths.len() >= 2, "{lengths:?}");
    assert!(lengths.is_sorted(), "{lengths:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn two_hundred_concurrent_runs_each_get_their_own_answer() {
    let model = ScriptedModel::start(echo()).await;
    let mut spec = scripted_agent("echo");
    spec.limits.concurrency = 200.try_into().unwrap();
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("echo").unwrap();
    let runs = (0..200).map(|n| {
        let agent = agent.clone();
        async move { (n, agent.run(format!("number {n}")).wait().await.unwrap()) }
    });
    let answers = futures_util::future::join_all(runs);
    tokio::pin!(answers);
    // The actor answers meanwhile.
    let status = tokio::select! {
        _ = &mut answers => panic!("the runs ended before the status came"),
        status = agent.status() => status.unwrap(),
    };
    assert_eq!(status.state, AgentState::Up);
    for (n, run) in answers.await {
        assert_eq!(output(&run.outcome), json!(format!("echo number {n}")));
    }
    assert_eq!(model.requests().len(), 200);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_full_agent_refuses_at_once_and_serves_on() {
    let model = ScriptedModel::start(Reply::hang()).await;
    let mut spec = scripted_agent("busy");
    spec.limits.concurrency = 1.try_into().unwrap();
    spec.limits.queue = 1;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("busy").unwrap();
    let first = agent.run("one").start().await.unwrap();
    model.wait_until(|traffic| traffic.requests().len() == 1).await;
    let second = agent.run("two").start().await.unwrap();
    let refused = agent.run("three").start().await.unwrap_err();
    let Refusal::Overloaded { in_flight: 1, queued: 1, .. } = refused else {
        panic!("{refused:?}");
    };
    // A place in the queue is free again when the one who waits there leaves.
    second.cancel("changed my mind");
    assert!(matches!(second.outcome().await.outcome, Outcome::Cancelled(_)));
    let third = agent.run("three").start().await.unwrap();
    first.cancel("enough");
    model.wait_until(|traffic| traffic.requests().len() == 2).await;
    third.cancel("enough");
    assert!(matches!(third.outcome().await.outcome, Outcome::Cancelled(_)));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_deadline_is_kept_and_closes_the_providers_connection() {
    let model = ScriptedModel::start(Reply::hang()).await;
    let mut spec = scripted_agent("slow");
    spec.limits.concurrency = 1.try_into().unwrap();
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("slow").unwrap();
    let soon = Duration::from_millis(400);
    let running = agent.run("hello").timeout(soon).start().await.unwrap();
    let queued = agent.run("hello").timeout(soon / 2).start().await.unwrap();
    let rejected = queued.outcome().await.outcome;
    assert!(matches!(&rejected, Outcome::Rejected(_)), "{rejected:?}");
    assert_eq!(failure(&rejected).kind, FailureKind::RunTimeout);
    assert_eq!(failure(&running.outcome().await.outcome).kind, FailureKind::RunTimeout);
    let closed = model.wait_until(|traffic| traffic.open_streams() == 0);
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(model.requests().len(), 1, "the queued run never asked the model");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_run_ends_once_and_closes_the_providers_connection() {
    let model = ScriptedModel::start(Reply::text("one two three").chunks(3).hang_after(1)).await;
    let spec = scripted_agent("slow");
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let mut run = runtime.named("slow").unwrap().run("hello").start().await.unwrap();
    while let Some(axon_runtime::RunUpdate::Event(event)) = run.events().next().await {
        if event.event.name() == "text_delta" {
            run.cancel("the caller left");
            run.cancel("again");
        }
        assert!(!matches!(event.event, RunEvent::Failed(_)), "{event:?}");
    }
    let Outcome::Cancelled(cancelled) = run.outcome().await.outcome else {
        panic!("not cancelled")
    };
    assert_eq!(cancelled.reason, "the caller left");
    let closed = model.wait_until(|traffic| traffic.disconnects() == 1);
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_conversation_goes_on_and_a_failed_turn_does_not_enter_it() {
    let script: Script = [
        Reply::text("Hello Ada."),
        Reply::error(400, "invalid_request"),
        Reply::text("You are Ada."),
    ]
    .into();
    let model = ScriptedModel::start(script).await;
    let spec = scripted_agent("memory");
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("memory").unwrap();
    let turn = |prompt: &str| agent.run(prompt).conversation(ConversationId::new("c1")).wait();
    turn("I am Ada.").await.unwrap().completed().unwrap();
    let failed = turn("Lost turn.").await.unwrap();
    assert_eq!(failure(&failed.outcome).kind, FailureKind::ModelRejected, "{failed:?}");
    turn("Who am I?").await.unwrap().completed().unwrap();
    let last = model.requests().pop().unwrap();
    let said: Vec<&str> = ChatRequest::new(&last.body)
        .messages()
        .iter()
        .filter_map(|message| message["content"].as_str())
        .collect();
    assert_eq!(said, ["I am Ada.", "Hello Ada.", "Who am I?"]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn settings_limits_and_history_of_the_call_reach_the_model() {
    let script = Script::function(|_| Reply::tool_calls([("nothing", json!({}))]));
    let model = ScriptedModel::start(script).await;
    let spec = scripted_agent("limited");
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("limited").unwrap();
    let history = r#"{"kind":"request","parts":[{"part_kind":"user-prompt","content":"before"}]}"#;
    let limits = json!({"request_limit": 1}).as_object().unwrap().clone();
    let run = agent
        .run("now")
        .history(vec![RawJson::parse(history).unwrap()])
        .model_settings(&json!({"temperature": 0.25}))
        .usage_limits(limits)
        .wait()
        .await
        .unwrap();
    assert_eq!(failure(&run.outcome).kind, FailureKind::UsageLimit);
    let requests = model.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["temperature"], json!(0.25));
    assert_eq!(requests[0].body["messages"][0]["content"], json!("before"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_stopped_agent_leaves_no_process_and_its_name_is_free() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(scripted_agent("one")).start().await.unwrap();
    let first = runtime.named("one").unwrap();
    let pid = first.status().await.unwrap().pid.unwrap();
    let taken = runtime.start_agent(scripted_agent("one")).await.unwrap_err();
    assert!(matches!(taken, StartError::Duplicate(_)), "{taken:?}");

    runtime.stop_agent("one").await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(project.sockets().len(), 0);
    let gone = runtime.named("one").unwrap_err();
    assert!(matches!(gone, Refusal::NotFound { .. }), "{gone:?}");
    let refused = first.run("hello").start().await.unwrap_err();
    assert!(matches!(refused, Refusal::Stopped { .. }), "{refused:?}");

    let again = runtime.start_agent(scripted_agent("one")).await.unwrap();
    let answer = again.run("hi").wait().await.unwrap();
    assert_eq!(output(&answer.outcome), json!("echo hi"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_dropped_runtime_takes_its_runners_along() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(scripted_agent("one")).start().await.unwrap();
    let pid = runtime.named("one").unwrap().status().await.unwrap().pid.unwrap();
    drop(runtime);
    until("the runner ends", async || !is_alive(pid)).await;
}

#[tokio::test]
async fn unknown_names_and_wrong_input_are_refused_before_anything_runs() {
    let project = Project::new();
    let runtime = project.runtime().agents_dir(repository().join("agents")).start().await.unwrap();
    let unknown = runtime.named("bank_suport").unwrap_err();
    assert!(unknown.to_string().contains("did you mean `bank_support`?"), "{unknown}");
    let bank = runtime.named("bank_support").unwrap();
    for (deps, expected) in [
        (None, "needs deps"),
        (Some(json!({"customer_id": "abc"})), "customer_id"),
        (Some(json!({"customer_id": 1, "bogus": 2})), "bogus"),
    ] {
        let run = bank.run("What is my balance?");
        let run = match &deps {
            None => run,
            Some(deps) => run.deps(deps),
        };
        let refused = run.start().await.unwrap_err();
        assert!(matches!(refused, Refusal::Invalid { .. }), "{refused:?}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    let large = bank.run("x".repeat(2 << 20)).deps(&json!({"customer_id": 123})).start().await;
    let refused = large.unwrap_err().to_string();
    assert!(refused.contains("1048576"), "{refused}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_registered_python_tool_can_be_called_directly_and_no_other() {
    let project = Project::new();
    let runtime = project.runtime().agents_dir(repository().join("agents")).start().await.unwrap();
    let bank = runtime.named("bank_support").unwrap();
    let call = |target: &str, args: Value| {
        let (bank, target) = (bank.clone(), target.parse().unwrap());
        async move {
            let deps = Some(json!({"customer_id": 123}).into());
            bank.call_tool(&target, args.into(), deps).await
        }
    };
    let balance = call("bank_support.tools:customer_balance", json!({})).await.unwrap();
    assert_eq!(balance.get(), "\"$123.45\"");
    let wrong = call("bank_support.tools:customer_balance", json!({"include_pending": []})).await;
    assert_eq!(wrong.unwrap_err().kind, FailureKind::Tool);
    for hostile in ["os:system", "bank_support.database:connect", "subprocess:run"] {
        let refused = call(hostile, json!({})).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Config, "{refused:?}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn offline_models_are_refused_unless_allowed() {
    let project = Project::new();
    let builder = axon_runtime::Runtime::builder().host(project.host());
    let refused = builder.agents_dir(repository().join("agents")).start().await.unwrap_err();
    let StartError::Refused { failure, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(failure.message.contains("offline"), "{failure}");
    assert_eq!(project.sockets().len(), 0);
}
