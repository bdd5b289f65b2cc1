//! Runners that are replaced although they are well: because they are old, used up or too large, or
//! because their agent was reloaded. Nobody who asks the agent notices.

use std::collections::BTreeSet;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::{AgentSpec, ByteSize, Effect};
use axon_runtime::{AgentState, RecycleReason, RunHandle, Runtime, RuntimeEvent, StartError};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::{Life, RunnerScript, Start, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use futures_util::future::join_all;
use serde_json::json;

use crate::scene::{Played, Told, agent, pid, shows, status};
use crate::support::{Project, is_alive, output, python_tool, scripted_agent, until};

/// How many callers ask at the same time.
const CALLERS: usize = 16;

fn with_replicas(replicas: u32) -> impl FnOnce(&mut AgentSpec) {
    move |spec| spec.runner.replicas = replicas.try_into().unwrap()
}

/// Asks the agent from many sides, so often each, and returns the answers, all of them in order.
async fn under_load(runtime: &Runtime, each: usize) -> Vec<serde_json::Value> {
    let callers = (0..CALLERS).map(|_| async {
        let mut answers = Vec::new();
        for _ in 0..each {
            let ended = agent(runtime, "agent").run("hello").wait().await.unwrap();
            answers.push(output(&ended.outcome));
        }
        answers
    });
    join_all(callers).await.into_iter().flatten().collect()
}

fn recycled(told: &mut Told) -> Vec<RecycleReason> {
    let reason = |event: &RuntimeEvent| {
        if let RuntimeEvent::RunnerRecycled { reason, .. } = event { Some(*reason) } else { None }
    };
    told.all().iter().filter_map(reason).collect()
}

/// Returns what happened that a recycling is no reason for.
fn trouble(told: &mut Told) -> Vec<String> {
    let bad = |event: &&RuntimeEvent| {
        matches!(
            event,
            RuntimeEvent::RunnerEnded { counted: true, .. }
                | RuntimeEvent::Decided { .. }
                | RuntimeEvent::AgentParked { .. }
        )
    };
    told.all().iter().filter(bad).map(|event| format!("{event:?}")).collect()
}

fn quick() -> [Step; 2] {
    [Step::SleepMs(3), Step::complete("{{generation}}")]
}

#[tokio::test]
async fn runners_that_were_lent_often_enough_are_replaced_under_load_and_no_run_fails() {
    let project = Project::new();
    for replicas in [1, 2] {
        let played = Played::new(&project, "agent", quick())
            .with(|spec| spec.runner.recycle.requests = Some(50))
            .with(with_replicas(replicas));
        let runtime = project.runtime().agent(&played).start().await.unwrap();
        let mut told = Told::by(&runtime);
        let answers = under_load(&runtime, 25).await;
        assert_eq!(answers.len(), 25 * CALLERS);
        let reasons = recycled(&mut told);
        assert!(reasons.len() >= 2, "{reasons:?}");
        assert!(reasons.iter().all(|reason| *reason == RecycleReason::Requests));
        assert_eq!(trouble(&mut told), [""; 0]);
        let now = status(&runtime, "agent").await;
        assert_eq!((now.state, now.restarts_left), (AgentState::Up, 3));
        runtime.shutdown().await;
        assert_eq!(project.sockets().len(), 0);
    }
}

#[tokio::test]
async fn what_is_under_way_in_a_runner_that_is_replaced_finishes_there() {
    let project = Project::new();
    let life = Life::default()
        .on(
            When::prompt("slow"),
            [Step::text("hm"), Step::SleepMs(600), Step::complete("{{generation}}")],
        )
        .always([Step::complete("{{generation}}")]);
    let played =
        Played::new(&project, "agent", life).with(|spec| spec.runner.recycle.requests = Some(2));
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let before = pid(&runtime, "agent").await;
    let slow = begun(&runtime, "slow").await;
    let first = agent(&runtime, "agent").run("quick").wait().await.unwrap();
    assert_eq!(output(&first.outcome), json!("1"));
    until("its replacement is up", async || pid(&runtime, "agent").await != before).await;
    let next = agent(&runtime, "agent").run("quick").wait().await.unwrap();
    assert_eq!(output(&next.outcome), json!("2"));
    assert!(is_alive(before), "a run is in it");
    assert_eq!(output(&slow.outcome().await.outcome), json!("1"));
    until("the old runner is gone", async || !is_alive(before)).await;
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn old_runners_are_replaced_one_at_a_time() {
    let project = Project::new();
    let played = Played::new(&project, "agent", quick())
        .with(|spec| spec.runner.recycle.age = Some(Duration::from_secs(1)))
        .with(with_replicas(2));
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let mut told = Told::by(&runtime);
    until("both have been replaced", async || recycled(&mut told).len() >= 2).await;
    assert!(recycled(&mut told).iter().all(|reason| *reason == RecycleReason::Age));
    let mut surplus = 0_i32;
    for event in told.all() {
        let up = matches!(event, RuntimeEvent::RunnerUp { generation, .. } if generation.0 > 2);
        let gone = matches!(event, RuntimeEvent::RunnerRecycled { .. });
        surplus += i32::from(up) - i32::from(gone);
        assert!(surplus <= 1, "two were replaced at once");
    }
    assert_eq!(trouble(&mut told), [""; 0]);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_replacement_that_does_not_start_leaves_the_old_runner_serving_and_is_tried_again() {
    let project = Project::new();
    let broken = Life::starting(Start::Failed(Failure::new(FailureKind::Config, "broken by now")));
    let script = RunnerScript::from(quick()).generation(2, broken.clone()).generation(3, broken);
    let played =
        Played::new(&project, "agent", script).with(|spec| spec.runner.recycle.requests = Some(1));
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let ask = async || output(&agent(&runtime, "agent").run("hello").wait().await.unwrap().outcome);
    assert_eq!(ask().await, json!("1"));
    let mut answers = BTreeSet::new();
    until("the third replacement starts", async || {
        let answer = ask().await;
        answers.insert(answer.to_string());
        answer == json!("4")
    })
    .await;
    assert_eq!(answers, ["\"1\"", "\"4\""].map(str::to_owned).into());
    assert_eq!(trouble(&mut told), [""; 0]);
    assert_eq!(status(&runtime, "agent").await.restarts_left, 3);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

const LEAKY: &str = "
kept = []

def leak() -> int:
    kept.append(b'x' * 500_000)
    return len(kept)
";

#[tokio::test]
async fn a_runner_that_leaks_memory_is_replaced_under_load_and_no_run_fails() {
    let script = Script::function(|body| match ChatRequest::new(body).tool_return("leak") {
        None => Reply::tool_calls([("leak", json!({}))]),
        Some(_) => Reply::text("done"),
    });
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    project.write("leaky.py", LEAKY);
    let mut leaky = scripted_agent("agent");
    leaky.tools.push(python_tool("leak", "leaky:leak", Effect::Pure));
    let runtime = project.runtime().agent(leaky.clone()).start().await.unwrap();
    under_load(&runtime, 1).await;
    let before = status(&runtime, "agent").await.runners[0].resident_bytes.unwrap();
    leaky.runner.recycle.memory = Some(ByteSize::from_bytes(before + (20 << 20)));
    runtime.reload_agent(leaky).await.unwrap();
    let mut told = Told::by(&runtime);
    // Without a replacement it would hold half a gigabyte more in the end.
    let mut rounds = 0..16;
    while recycled(&mut told).is_empty() {
        assert!(rounds.next().is_some(), "it is not replaced");
        for answer in under_load(&runtime, 4).await {
            assert_eq!(answer, json!("done"));
        }
    }
    assert!(recycled(&mut told).iter().all(|reason| *reason == RecycleReason::Memory));
    assert_eq!(trouble(&mut told), [""; 0]);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

async fn begun(runtime: &Runtime, prompt: &str) -> RunHandle {
    let mut run = agent(runtime, "agent").run(prompt).start().await.unwrap();
    shows(&mut run, "text_delta").await;
    run
}

#[tokio::test]
async fn reloads_under_load_cost_no_run_and_whoever_asks_afterwards_gets_the_new_definition() {
    let project = Project::new();
    let version = |number: u32| {
        let steps = [Step::SleepMs(3), Step::complete(format!("version {number}"))];
        Played::new(&project, "agent", steps).with(with_replicas(2))
    };
    let runtime = project.runtime().agent(&version(0)).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let reloads = async {
        for number in 1..=4 {
            runtime.reload_agent(&version(number)).await.unwrap();
            let answer = agent(&runtime, "agent").run("hello").wait().await.unwrap();
            assert_eq!(output(&answer.outcome), json!(format!("version {number}")));
        }
    };
    let (answers, ()) = tokio::join!(under_load(&runtime, 60), reloads);
    assert_eq!(answers.len(), 60 * CALLERS);
    assert!(answers.iter().any(|answer| *answer == json!("version 4")));
    assert!(recycled(&mut told).iter().all(|reason| *reason == RecycleReason::Reload));
    assert!(recycled(&mut told).len() >= 4, "{:?}", recycled(&mut told));
    assert_eq!(trouble(&mut told), [""; 0]);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_reload_whose_runner_does_not_start_leaves_the_old_definition_serving() {
    let project = Project::new();
    let old = Played::new(&project, "agent", quick()).with(with_replicas(2));
    let runtime = project.runtime().agent(&old).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let refused = Failure::new(FailureKind::Config, "no such module");
    for start in [Start::Failed(refused), Start::WrongProtocol] {
        let broken = Played::new(&project, "agent", Life::starting(start))
            .with(|spec| spec.limits.queue = 0);
        let (reload, answers) =
            tokio::join!(runtime.reload_agent(&broken), under_load(&runtime, 10));
        let error = reload.unwrap_err();
        assert!(matches!(&error, StartError::Refused { .. }), "{error:?}");
        assert_eq!(answers.len(), 10 * CALLERS);
    }
    assert_ne!(agent(&runtime, "agent").spec().limits.queue, 0, "the old definition holds");
    let now = status(&runtime, "agent").await;
    assert_eq!((now.state, now.restarts_left), (AgentState::Up, 3));
    assert_eq!((recycled(&mut told), trouble(&mut told)), (Vec::new(), Vec::new()));
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_reload_changes_how_many_runners_there_are() {
    let project = Project::new();
    let sized = |replicas| Played::new(&project, "agent", quick()).with(with_replicas(replicas));
    let runtime = project.runtime().agent(&sized(1)).start().await.unwrap();
    for replicas in [3, 1, 2] {
        runtime.reload_agent(&sized(replicas)).await.unwrap();
        until("there are as many as wanted", async || {
            let runners = status(&runtime, "agent").await.runners;
            runners.len() == replicas as usize && runners.iter().all(|it| it.pid.is_some())
        })
        .await;
    }
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}
