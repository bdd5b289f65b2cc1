//! Agents that are added, stopped, drained, restarted and reloaded while the runtime lives: their
//! runs end once, and no process and no name is left behind.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::PolicyRule;
use axon_runtime::{AgentState, Outcome, Refusal, RunHandle, Runtime, StartError};
use axon_test::scripted_runner::{Life, RunnerScript, Step, When};
use axon_test::{Reply, ScriptedModel};
use serde_json::json;

use crate::scene::{Played, agent, pid, shows, status, up};
use crate::support::{Project, failure, is_alive, output, scripted_agent, until};

/// No test's deadline for a drain is longer.
const LONG: Duration = Duration::from_secs(30);

fn says(answer: &str) -> [Step; 1] {
    [Step::complete(answer)]
}

/// Takes a while for its answer, but for the prompt `quick`.
fn slow(answer: &str) -> Life {
    Life::default().on(When::prompt("quick"), says(answer)).always([
        Step::text("hm"),
        Step::SleepMs(700),
        Step::complete(answer),
    ])
}

/// Says a little, and answers in its second attempt only.
fn hanging_first() -> Life {
    let first = [Step::text("hm"), Step::Hang];
    Life::default().on(When::attempt(1), first).always(says("fine"))
}

async fn begun(runtime: &Runtime, name: &str) -> RunHandle {
    let mut run = agent(runtime, name).run("slow").start().await.unwrap();
    shows(&mut run, "text_delta").await;
    run
}

async fn gone(project: &Project, pid: u32) {
    assert!(!is_alive(pid), "its process is left");
    assert_eq!(project.sockets().len(), 0, "its folder is left");
}

#[tokio::test]
async fn a_drained_agent_finishes_what_it_has_and_takes_nothing_new() {
    let project = Project::new();
    let played = Played::new(&project, "played", slow("done"))
        .with(|spec| spec.limits.concurrency = 1.try_into().unwrap());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let before = pid(&runtime, "played").await;
    let running = begun(&runtime, "played").await;
    let queued = agent(&runtime, "played").run("quick").start().await.unwrap();
    let draining = tokio::spawn(async move {
        agent(&runtime, "played").drain(LONG).await.map(|left| (left, runtime))
    });
    let ended = (running.outcome().await.outcome, queued.outcome().await.outcome);
    assert_eq!((output(&ended.0), output(&ended.1)), (json!("done"), json!("done")));
    let (left, runtime) = draining.await.unwrap().unwrap();
    assert_eq!(left, 0);
    gone(&project, before).await;
    assert_eq!(status(&runtime, "played").await.state, AgentState::Drained);
    let refused = agent(&runtime, "played").run("quick").start().await.unwrap_err();
    assert!(matches!(refused, Refusal::Draining { .. }), "{refused:?}");
    agent(&runtime, "played").restart().await.unwrap();
    let answer = agent(&runtime, "played").run("quick").wait().await.unwrap();
    assert_eq!(output(&answer.outcome), json!("done"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_is_left_when_a_drains_deadline_has_passed_is_cancelled_and_counted() {
    let project = Project::new();
    let played = Played::new(&project, "played", hanging_first())
        .with(|spec| spec.limits.concurrency = 1.try_into().unwrap());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let before = pid(&runtime, "played").await;
    let running = begun(&runtime, "played").await;
    let queued = agent(&runtime, "played").run("slow").start().await.unwrap();
    let left = agent(&runtime, "played").drain(Duration::from_millis(100)).await.unwrap();
    assert_eq!(left, 2);
    for run in [running, queued] {
        let Outcome::Cancelled(cancelled) = run.outcome().await.outcome else { panic!() };
        assert_eq!(cancelled.reason, "the agent was drained");
    }
    gone(&project, before).await;
    let after = status(&runtime, "played").await;
    assert_eq!((after.in_flight, after.queued, after.restarts_left), (0, 0, 3));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_fell_back_to_another_agent_is_drained_with_that_one() {
    let project = Project::new();
    let away = Failure::new(FailureKind::ModelUnavailable, "away");
    let first = Life::default().on(When::prompt("stay"), [Step::text("hm"), Step::Hang]);
    let first = Played::new(&project, "first", first.always([Step::Fail(away)])).with(|spec| {
        spec.fallback.agent = Some("second".parse().unwrap());
        spec.policy.insert(
            FailureKind::ModelUnavailable,
            PolicyRule { retry: Some(0), ..PolicyRule::default() },
        );
    });
    let second = Played::new(&project, "second", [Step::text("hm"), Step::Hang]);
    let runtime = project.runtime().agent(&first).agent(&second).start().await.unwrap();
    let fell_back = begun(&runtime, "first").await;
    let mut stays = agent(&runtime, "first").run("stay").start().await.unwrap();
    shows(&mut stays, "text_delta").await;
    let soon = Duration::from_millis(50);
    assert_eq!(agent(&runtime, "first").drain(soon).await.unwrap(), 1);
    assert!(matches!(stays.outcome().await.outcome, Outcome::Cancelled(_)));
    assert_eq!(status(&runtime, "second").await.in_flight, 1, "it is not the first one's any more");
    assert_eq!(agent(&runtime, "second").drain(soon).await.unwrap(), 1);
    let ended = fell_back.outcome().await.outcome;
    assert!(
        matches!(&ended, Outcome::Cancelled(end) if end.reason.contains("drained")),
        "{ended:?}"
    );
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_restart_by_hand_resumes_what_is_under_way_and_counts_against_nobody() {
    let project = Project::new();
    let played = Played::new(&project, "played", hanging_first());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let before = pid(&runtime, "played").await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(begun(&runtime, "played").await);
    }
    agent(&runtime, "played").restart().await.unwrap();
    for run in runs {
        let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
        assert_eq!((completed.output.get(), completed.attempts), ("\"fine\"", 2));
    }
    let after = up(&runtime, "played", 2).await;
    assert_eq!((after.generation.0, after.restarts_left), (2, 3));
    until("the old runner is gone", async || !is_alive(before)).await;
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_reload_lets_attempts_finish_in_the_old_runner_and_begins_new_ones_in_the_new() {
    let project = Project::new();
    let old = Played::new(&project, "played", slow("old"));
    let runtime = project.runtime().agent(&old).start().await.unwrap();
    let before = pid(&runtime, "played").await;
    let running = begun(&runtime, "played").await;
    let new = Played::new(&project, "played", says("new")).with(|spec| {
        spec.limits.concurrency = 1.try_into().unwrap();
        spec.limits.queue = 0;
    });
    let reloaded = runtime.reload_agent(&new).await.unwrap();
    assert_eq!(reloaded.spec().limits.queue, 0);
    let full = reloaded.run("quick").start().await.unwrap_err();
    assert!(matches!(full, Refusal::Overloaded { .. }), "the new limits count: {full:?}");
    let after = up(&runtime, "played", 2).await;
    assert!(is_alive(before) && after.pid != Some(before));
    let Outcome::Completed(completed) = running.outcome().await.outcome else { panic!() };
    assert_eq!((completed.output.get(), completed.attempts), ("\"old\"", 1));
    let answer = reloaded.run("quick").wait().await.unwrap();
    assert_eq!(output(&answer.outcome), json!("new"));
    until("the old runner is gone", async || !is_alive(before)).await;
    assert_eq!(status(&runtime, "played").await.generation.0, 2);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_reload_that_is_refused_leaves_the_agent_as_it_was() {
    let project = Project::new();
    let played = Played::new(&project, "played", says("old"));
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let before = pid(&runtime, "played").await;
    let wrong = played.clone().with(|spec| spec.model = Some("opnai:gpt-5".parse().unwrap()));
    let refused = runtime.reload_agent(&wrong).await.unwrap_err();
    assert!(matches!(refused, StartError::Refused { .. }), "{refused:?}");
    let answer = agent(&runtime, "played").run("quick").wait().await.unwrap();
    assert_eq!(output(&answer.outcome), json!("old"));
    assert_eq!(pid(&runtime, "played").await, before);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_stopped_agent_takes_its_runs_and_every_runner_along() {
    let project = Project::new();
    let hanging = || RunnerScript::from([Step::text("hm"), Step::Hang]);
    let runtime = project.runtime().agent(&Played::new(&project, "played", hanging()));
    let runtime = runtime.start().await.unwrap();
    let (first, in_old) = (pid(&runtime, "played").await, begun(&runtime, "played").await);
    runtime.reload_agent(&Played::new(&project, "played", hanging())).await.unwrap();
    let (second, in_new) = (pid(&runtime, "played").await, begun(&runtime, "played").await);
    let began = tokio::time::Instant::now();
    runtime.stop_agent("played").await.unwrap();
    assert!(!is_alive(first) && !is_alive(second), "a process is left");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for run in [in_old, in_new] {
        let ended = tokio::time::timeout(LONG, run.outcome()).await.unwrap();
        let cancelled = matches!(ended.outcome, Outcome::Cancelled(_));
        let kind = if cancelled { FailureKind::Cancelled } else { failure(&ended.outcome).kind };
        assert_eq!(kind, FailureKind::Cancelled);
    }
    assert!(runtime.tree().await.agent("played").is_none());
    let again = runtime.start_agent(&Played::new(&project, "played", says("new"))).await.unwrap();
    assert_eq!(output(&again.run("quick").wait().await.unwrap().outcome), json!("new"));
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn agents_come_and_go_without_a_trace() {
    let project = Project::new();
    let runtime = project.runtime().start().await.unwrap();
    for round in 0..5 {
        let names: Vec<String> = (0..4).map(|n| format!("agent_{n}")).collect();
        let starting = names.iter().map(|name| {
            let played = Played::new(&project, name, says("fine"));
            let runtime = runtime.clone();
            async move { runtime.start_agent(&played).await.unwrap() }
        });
        let handles = futures_util::future::join_all(starting).await;
        assert_eq!(runtime.agents().len(), 4, "round {round}");
        for handle in &handles {
            assert_eq!(output(&handle.run("quick").wait().await.unwrap().outcome), json!("fine"));
        }
        let stopping = names.iter().map(|name| runtime.stop_agent(name));
        for stopped in futures_util::future::join_all(stopping).await {
            stopped.unwrap();
        }
        assert_eq!((runtime.agents().len(), project.sockets().len()), (0, 0), "round {round}");
        assert!(runtime.tree().await.agent("agent_0").is_none());
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn names_that_are_taken_or_unknown_are_told_as_such() {
    let model = ScriptedModel::start(Reply::text("fine")).await;
    let project = Project::with_model(&model);
    let played = Played::new(&project, "played", says("fine"));
    let twice = project.runtime().agent(&played).agent(&played).start().await.unwrap_err();
    assert!(matches!(twice, StartError::Duplicate(name) if name.as_str() == "played"));
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let duplicate = runtime.start_agent(&played).await.unwrap_err();
    assert!(matches!(duplicate, StartError::Duplicate(name) if name.as_str() == "played"));
    let stranger = Played::new(&project, "stranger", says("fine"));
    let unknown = runtime.reload_agent(&stranger).await.unwrap_err();
    assert!(matches!(unknown, StartError::Unknown(name) if name.as_str() == "stranger"));
    let unknown = runtime.stop_agent("playd").await.unwrap_err();
    assert!(matches!(&unknown, Refusal::NotFound { nearest: Some(near), .. } if near == "played"));
    // Of those that come at once, while Python is looked for, one has the name.
    let racing = (0..4).map(|_| runtime.start_agent(scripted_agent("racer")));
    let raced = futures_util::future::join_all(racing).await;
    assert_eq!(raced.iter().filter(|started| started.is_ok()).count(), 1, "{raced:?}");
    for refused in raced.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, StartError::Duplicate(_)), "{refused:?}");
    }
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_drained_runtime_finishes_its_runs_and_cancels_those_that_take_too_long() {
    let project = Project::new();
    let slow = Played::new(&project, "slow", slow("done"));
    let runtime = project.runtime().agent(&slow).start().await.unwrap();
    let before = pid(&runtime, "slow").await;
    let running = begun(&runtime, "slow").await;
    assert_eq!(runtime.drain(LONG).await, 0);
    assert_eq!(output(&running.outcome().await.outcome), json!("done"));
    gone(&project, before).await;
    assert!(runtime.named("slow").is_err());

    let stuck = Played::new(&project, "stuck", [Step::text("hm"), Step::Hang]);
    let runtime = project.runtime().agent(&stuck).agent(&slow).start().await.unwrap();
    let before = pid(&runtime, "stuck").await;
    let (stuck, slow) = (begun(&runtime, "stuck").await, begun(&runtime, "slow").await);
    assert_eq!(runtime.drain(Duration::from_millis(1500)).await, 1);
    assert!(matches!(stuck.outcome().await.outcome, Outcome::Cancelled(_)));
    assert_eq!(output(&slow.outcome().await.outcome), json!("done"));
    gone(&project, before).await;
}
