//! The tree while agents are broken: they park with their cause, and everything else serves on.

use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::policy::Decision;
use axon_kernel::spec::AgentSpec;
use axon_runtime::{AgentState, Outcome, Refusal, Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::{Death, Life, Start, Step};
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::json;

use crate::scene::{Played, Told, agent, pid, status, up};
use crate::support::{Project, failure, is_alive, kill_9, output, scripted_agent, until};

fn fine() -> [Step; 1] {
    [Step::complete("fine")]
}

fn dead() -> Life {
    Life::starting(Start::DieBeforeReady(Death::code(3).saying("no luck today")))
}

async fn answers(runtime: &Runtime, name: &str) {
    let ended = agent(runtime, name).run("hello").wait().await.unwrap();
    assert_eq!(output(&ended.outcome), json!("fine"), "{name}");
}

async fn parked(runtime: &Runtime, name: &str) -> (String, Option<u64>) {
    until("it is parked", async || {
        matches!(status(runtime, name).await.state, AgentState::Parked { .. })
    })
    .await;
    let AgentState::Parked { cause, retry_in_ms } = status(runtime, name).await.state else {
        panic!("{name} is not parked any more")
    };
    (cause, retry_in_ms)
}

#[tokio::test]
async fn a_bad_key_escalates_at_once_and_restarts_nothing() {
    let script = Script::function(|body| match ChatRequest::new(body).model() {
        "bad" => Reply::error(401, "invalid_api_key"),
        _ => Reply::text("fine"),
    });
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    let mut keyless = scripted_agent("keyless");
    keyless.model = Some("openai-chat:bad".parse().unwrap());
    let sibling = scripted_agent("sibling");
    let runtime = project.runtime().agent(keyless).agent(sibling).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let before = (pid(&runtime, "keyless").await, pid(&runtime, "sibling").await);
    for _ in 0..3 {
        let ended = agent(&runtime, "keyless").run("hello").wait().await.unwrap();
        let Outcome::Failed(failed) = &ended.outcome else { panic!("{ended:?}") };
        assert_eq!(failed.failure.kind, FailureKind::ModelAuth);
        assert!(failed.escalated && failed.history.len() == 1, "{failed:?}");
        assert!(failed.history[0].contains("escalated"), "{:?}", failed.history);
        answers(&runtime, "sibling").await;
    }
    assert_eq!(model.requests().len(), 6, "nothing is asked twice");
    assert_eq!(before, (pid(&runtime, "keyless").await, pid(&runtime, "sibling").await));
    for name in ["keyless", "sibling"] {
        let status = status(&runtime, name).await;
        assert_eq!((status.generation.0, status.restarts_left), (1, 3), "{name}");
    }
    let all = told.all();
    let escalated = |event: &&RuntimeEvent| matches!(event, RuntimeEvent::Escalated { agent, .. } if agent.as_str() == "keyless");
    assert_eq!(all.iter().filter(escalated).count(), 3);
    let decided = |event: &&RuntimeEvent| matches!(event, RuntimeEvent::Decided { decision: Decision::Escalate, reason, .. } if reason.contains("model_auth"));
    assert_eq!(all.iter().filter(decided).count(), 3);
    assert_eq!(all.len(), 6, "and nothing else happened: {all:#?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn agents_that_cannot_start_are_parked_and_everything_else_serves_on() {
    let model = ScriptedModel::start(Reply::text("fine")).await;
    let project = Project::with_model(&model);
    project.write("broken.py", "import nowhere_to_be_found\n");
    let module = "broken:agent".parse().unwrap();
    let mut broken = AgentSpec::for_module("broken".parse().unwrap(), module);
    broken.model = Some("openai-chat:scripted".parse().unwrap());
    let dying = Played::new(&project, "dying", dead()).with(|spec| {
        spec.supervision.intensity.max_restarts = 1;
        spec.supervision.backoff.max = Duration::from_secs(600);
    });
    let sound = Played::new(&project, "sound", fine());
    let builder = project.runtime().agent(broken).agent(&dying).agent(&sound);
    let runtime = builder.start().await.unwrap();

    let (cause, retry) = parked(&runtime, "broken").await;
    assert!(cause.contains("nowhere_to_be_found") && retry.is_none(), "{cause} {retry:?}");
    let (cause, retry) = parked(&runtime, "dying").await;
    assert!(cause.contains("no luck today"), "{cause}");
    assert!(retry.is_some_and(|wait| (1..=600_000).contains(&wait)), "{retry:?}");
    for (name, kind, retried) in
        [("broken", FailureKind::Config, false), ("dying", FailureKind::RunnerDied, true)]
    {
        let refused = agent(&runtime, name).run("hello").start().await.unwrap_err();
        let Refusal::Unavailable { agent, cause, retry_after } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((agent.as_str(), cause.kind, retry_after.is_some()), (name, kind, retried));
    }
    for _ in 0..50 {
        answers(&runtime, "sound").await;
    }
    let tree = runtime.tree().await;
    for name in ["broken", "dying"] {
        let status = tree.agent(name).unwrap();
        assert!(matches!(status.state, AgentState::Parked { .. }), "{status:?}");
    }
    assert_eq!(tree.agent("sound").unwrap().generation.0, 1);
    assert!(tree.root.children.iter().all(|child| child.restarts == 0), "{tree:?}");

    let repaired = "from pydantic_ai import Agent\nagent = Agent()\n";
    project.write("broken.py", repaired);
    dying.repair(fine());
    for name in ["broken", "dying"] {
        agent(&runtime, name).restart().await.unwrap();
        answers(&runtime, name).await;
    }
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_parked_agent_serves_once_its_definition_is_reloaded() {
    let project = Project::new();
    let refused = axon_kernel::failure::Failure::new(FailureKind::Config, "no such module");
    let broken = Played::new(&project, "broken", Life::starting(Start::Failed(refused)));
    let dying = Played::new(&project, "dying", dead())
        .with(|spec| spec.supervision.intensity.max_restarts = 0);
    let runtime = project.runtime().agent(&broken).agent(&dying).start().await.unwrap();
    for name in ["broken", "dying"] {
        parked(&runtime, name).await;
        let repaired = Played::new(&project, name, fine());
        runtime.reload_agent(&repaired).await.unwrap();
        answers(&runtime, name).await;
        assert_eq!(status(&runtime, name).await.restarts_left, 3, "it is forgiven");
    }
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_parked_agent_is_probed_and_comes_back_by_itself() {
    let project = Project::new();
    let dying = Played::new(&project, "dying", dead()).with(|spec| {
        spec.supervision.intensity.max_restarts = 0;
        spec.supervision.backoff.max = Duration::from_millis(50);
    });
    let runtime = project.runtime().agent(&dying).start().await.unwrap();
    parked(&runtime, "dying").await;
    let mut told = Told::by(&runtime);
    for _ in 0..3 {
        let before = told.all().len();
        until("it is probed again", async || told.all().len() >= before + 2).await;
    }
    dying.repair(fine());
    until("it is up", async || status(&runtime, "dying").await.state == AgentState::Up).await;
    answers(&runtime, "dying").await;
    let restarted = |line: &String| line.contains("exited") || line.contains("restarts");
    assert!(!told.supervision().iter().any(restarted), "parking is not its supervisor's affair");
    runtime.shutdown().await;
}

#[tokio::test]
async fn starts_exits_and_decisions_are_told_with_their_cause() {
    let project = Project::new();
    let played = Played::new(&project, "played", fine());
    let runtime = project.runtime().start().await.unwrap();
    let mut told = Told::by(&runtime);
    runtime.start_agent(&played).await.unwrap();
    told.supervised("agents/played started").await;
    let first = pid(&runtime, "played").await;
    told.until(|event| matches!(event, RuntimeEvent::RunnerUp { pid, generation, .. } if (*pid, generation.0) == (first, 1)))
        .await;
    kill_9(first);
    told.until(|event| matches!(event, RuntimeEvent::RunnerEnded { agent, cause, counted: true, generation, .. } if agent.as_str() == "played" && cause.contains("SIGKILL") && generation.0 == 1))
        .await;
    let after = up(&runtime, "played", 2).await;
    assert_eq!(after.restarts_left, 2);
    runtime.stop_agent("played").await.unwrap();
    told.supervised("agents/played stopped").await;
    assert!(!is_alive(after.pid.unwrap()));

    let poor = Played::new(
        &project,
        "poor",
        [Step::Fail(axon_kernel::failure::Failure::new(FailureKind::ModelQuota, "no credit"))],
    );
    runtime.start_agent(&poor).await.unwrap();
    let run = agent(&runtime, "poor").run("hello").wait().await.unwrap();
    assert_eq!(failure(&run.outcome).kind, FailureKind::ModelQuota);
    told.until(|event| matches!(event, RuntimeEvent::Escalated { run_id, failure, .. } if *run_id == run.run_id && failure.message == "no credit"))
        .await;
    runtime.shutdown().await;
}
