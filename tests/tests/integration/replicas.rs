//! Agents with several runners: who gets which, and what the death of one means to the others.

use std::collections::BTreeSet;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_runtime::{
    AgentState, Outcome, RunHandle, RunnerState, RunnerStatus, Runtime, RuntimeEvent,
};
use axon_test::scripted_runner::{Answer, Death, Endpoint, Life, RunnerScript, Start, Step, When};
use futures_util::future::join_all;
use serde_json::json;

use crate::scene::{Played, Told, agent, shows, status};
use crate::support::{Project, is_alive, kill_9, output, until};

fn with_replicas(played: Played, replicas: u32) -> Played {
    played.with(|spec| spec.runner.replicas = replicas.try_into().unwrap())
}

fn fine() -> [Step; 1] {
    [Step::complete("{{generation}}")]
}

/// Returns the runners that are up, when all seats have one.
async fn all_up(runtime: &Runtime, name: &str, count: usize) -> Vec<RunnerStatus> {
    let mut up = Vec::new();
    until("every seat has its runner", async || {
        up = status(runtime, name).await.runners;
        up.retain(|runner| runner.state == RunnerState::Up);
        up.len() == count
    })
    .await;
    up
}

async fn begun(runtime: &Runtime, prompt: &str) -> RunHandle {
    let mut run = agent(runtime, "played").run(prompt).start().await.unwrap();
    shows(&mut run, "text_delta").await;
    run
}

fn in_flight(runners: &[RunnerStatus]) -> Vec<usize> {
    runners.iter().map(|runner| runner.in_flight).collect()
}

#[tokio::test]
async fn runs_go_to_the_runner_with_the_least_runs_in_it() {
    let project = Project::new();
    let life =
        Life::default().on(When::contains("stay"), [Step::text("hm"), Step::Hang]).always(fine());
    let played = with_replicas(Played::new(&project, "played", life), 3);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    all_up(&runtime, "played", 3).await;
    let mut staying = Vec::new();
    for _ in 0..7 {
        staying.push(begun(&runtime, "stay").await);
    }
    let runners = status(&runtime, "played").await.runners;
    let mut counts = in_flight(&runners);
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    // The busiest gets none of the next ones until the others have as many.
    let busiest = runners.iter().max_by_key(|runner| runner.in_flight).unwrap().generation;
    for _ in 0..4 {
        let answer = agent(&runtime, "played").run("quick").wait().await.unwrap();
        assert_ne!(output(&answer.outcome), json!(busiest.to_string()));
    }
    let served: u64 = status(&runtime, "played").await.runners.iter().map(|it| it.served).sum();
    assert_eq!(served, 11);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn every_runner_is_shown_with_what_it_uses() {
    let project = Project::new();
    let played = with_replicas(Played::new(&project, "played", fine()), 2);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let runners = all_up(&runtime, "played", 2).await;
    let pids: BTreeSet<u32> = runners.iter().filter_map(|runner| runner.pid).collect();
    assert_eq!(pids.len(), 2);
    for runner in &runners {
        assert!(runner.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{runner:?}");
        assert!(runner.threads.is_some_and(|threads| threads > 0), "{runner:?}");
        assert!(runner.cpu_ms.is_some() && runner.started_at_ms.is_some(), "{runner:?}");
    }
    let tree = serde_json::to_value(runtime.tree().await).unwrap();
    let shown = tree["root"]["children"].as_array().unwrap().iter();
    let mut agents =
        shown.filter_map(|child| child["supervisor"]["children"][0]["agent"].as_object());
    let agent = agents.next_back().unwrap();
    assert_eq!(agent["runners"][0]["state"], json!("up"));
    assert_eq!(agent["runners"].as_array().unwrap().len(), 2);
    assert_eq!(agent["pid"], agent["runners"][0]["pid"]);
    runtime.shutdown().await;
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test]
async fn one_of_two_runners_is_killed_again_and_again_and_every_run_completes() {
    let project = Project::new();
    let life = Life::default().always([Step::SleepMs(15), Step::complete("{{prompt}}")]);
    let played = with_replicas(Played::new(&project, "played", life), 2)
        .with(|spec| spec.supervision.intensity.max_restarts = 100);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let callers = (0..8).map(|caller| {
        let handle = agent(&runtime, "played");
        async move {
            for number in 0..40 {
                let prompt = format!("{caller} {number}");
                let ended = handle.run(prompt.as_str()).wait().await.unwrap();
                assert_eq!(output(&ended.outcome), json!(prompt), "{ended:?}");
            }
        }
    });
    let kills = async {
        for round in 0..5 {
            let runners = all_up(&runtime, "played", 2).await;
            let killed = runners[round % 2].pid;
            kill_9(killed.unwrap());
            until("its end is known", async || {
                status(&runtime, "played").await.runners.iter().all(|runner| runner.pid != killed)
            })
            .await;
        }
    };
    tokio::join!(join_all(callers), kills);
    assert_eq!(status(&runtime, "played").await.state, AgentState::Up);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn while_one_seat_waits_for_its_runner_the_other_serves_and_the_agent_is_not_parked() {
    let project = Project::new();
    let doomed = Life::starting(Start::DieBeforeReady(Death::code(3)));
    let script = RunnerScript::from(doomed).generation(1, fine());
    let played = with_replicas(Played::new(&project, "played", script), 2).with(|spec| {
        spec.supervision.intensity.max_restarts = 2;
        spec.supervision.backoff.max = Duration::from_secs(600);
    });
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let waits = |runner: &RunnerStatus| matches!(runner.state, RunnerState::Waiting { retry_in_ms, .. } if retry_in_ms > 60_000);
    until("the second seat has used up the intensity", async || {
        status(&runtime, "played").await.runners.iter().any(waits)
    })
    .await;
    let now = status(&runtime, "played").await;
    assert_eq!((now.state, now.restarts_left, now.generation.0), (AgentState::Up, 0, 1));
    let answer = agent(&runtime, "played").run("hello").wait().await.unwrap();
    assert_eq!(output(&answer.outcome), json!("1"));
    // Without any runner the intensity counts as ever.
    kill_9(now.pid.unwrap());
    until("it is parked", async || {
        matches!(status(&runtime, "played").await.state, AgentState::Parked { .. })
    })
    .await;
    played.repair(fine());
    agent(&runtime, "played").restart().await.unwrap();
    assert_eq!(all_up(&runtime, "played", 2).await.len(), 2);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_definition_that_no_runner_can_start_with_is_tried_once_and_not_once_for_each_seat() {
    let project = Project::new();
    let refused = Failure::new(FailureKind::Config, "no such module");
    let life = Life::starting(Start::Failed(refused));
    let broken = with_replicas(Played::new(&project, "played", life), 4);
    let runtime = project.runtime().start().await.unwrap();
    let mut told = Told::by(&runtime);
    let handle = runtime.start_agent(&broken).await.unwrap();
    assert_eq!(handle.ready().await.unwrap_err().kind, FailureKind::Config);
    let now = status(&runtime, "played").await;
    assert!(matches!(now.state, AgentState::Parked { retry_in_ms: None, .. }), "{now:?}");
    assert_eq!(now.runners, []);
    let parked = |event: &&RuntimeEvent| matches!(event, RuntimeEvent::AgentParked { .. });
    let ended = |event: &&RuntimeEvent| matches!(event, RuntimeEvent::RunnerEnded { .. });
    let all = told.all();
    assert_eq!((all.iter().filter(parked).count(), all.iter().filter(ended).count()), (1, 1));
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

/// The first two runners die with whoever asks for it, together with their company.
fn deadly_at_first() -> RunnerScript {
    let deadly = Life::default()
        .on(When::prompt("killer"), [Step::text("hm"), Step::SleepMs(100), Death::signal(9).into()])
        .on(When::prompt("company"), [Step::text("hm"), Step::Hang])
        .always(fine());
    let later = Life::default()
        .on(When::prompt("killer"), [Step::text("alone"), Step::SleepMs(400), Step::complete("ok")])
        .on(When::prompt("stay"), [Step::text("hm"), Step::SleepMs(150), Step::complete("ok")])
        .on(When::prompt("company"), [Step::complete("ok")])
        .always([Step::complete("{{generation}}")]);
    RunnerScript::from(later).generation(1, deadly.clone()).generation(2, deadly)
}

#[tokio::test]
async fn a_run_under_suspicion_has_one_runner_for_itself_and_the_other_serves_on() {
    let project = Project::new();
    let played = with_replicas(Played::new(&project, "played", deadly_at_first()), 2)
        .with(|spec| spec.supervision.intensity.max_restarts = 10);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    all_up(&runtime, "played", 2).await;
    // One for each runner, and the killer comes to both of them one after the other.
    let company = [begun(&runtime, "company").await, begun(&runtime, "company").await];
    let mut killer = agent(&runtime, "played").run("killer").start().await.unwrap();
    for _ in 0..3 {
        shows(&mut killer, "text_delta").await;
    }
    let alone = status(&runtime, "played").await;
    let busy: Vec<_> = alone.runners.iter().filter(|runner| runner.in_flight > 0).collect();
    assert_eq!(busy.len(), 1, "{alone:?}");
    let reserved = busy[0].generation;
    let answers = (0..6).map(|_| async {
        let answer = agent(&runtime, "played").run("quick").wait().await.unwrap();
        output(&answer.outcome)
    });
    for answer in join_all(answers).await {
        assert_ne!(answer, json!(reserved.to_string()));
    }
    let ended = killer.outcome().await.outcome;
    assert_eq!(output(&ended), json!("ok"), "{ended:?}");
    for run in company {
        assert_eq!(output(&run.outcome().await.outcome), json!("ok"));
    }
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn an_attempt_that_another_generation_refuses_is_sent_again_and_counts_for_nothing() {
    let project = Project::new();
    let stale = Failure::new(FailureKind::Config, "the token is not of this generation");
    let life = Life::from(fine()).answering(Endpoint::Start, Answer::refuse(401, stale.clone()), 3);
    let played = Played::new(&project, "played", life);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let ended = agent(&runtime, "played").run("hello").wait().await.unwrap();
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!((completed.output.get(), completed.attempts), ("\"1\"", 1));
    assert_eq!(told.all().len(), 0, "nothing was decided: {:?}", told.all());

    // A runner that takes nothing at all is at fault.
    let never = RunnerScript::from(fine()).generation(
        2,
        Life::from(fine()).answering(Endpoint::Start, Answer::refuse(401, stale), None),
    );
    played.repair(never);
    agent(&runtime, "played").restart().await.unwrap();
    let ended = agent(&runtime, "played").run("hello").wait().await.unwrap();
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!((completed.output.get(), completed.attempts), ("\"3\"", 2));
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_attempt_that_a_draining_runner_refuses_goes_to_the_next_runner() {
    let project = Project::new();
    let draining = Failure::new(FailureKind::Busy, "the runner is draining");
    let first = Life::from(fine()).answering(Endpoint::Start, Answer::refuse(503, draining), None);
    let script = RunnerScript::from(fine()).generation(1, first);
    let runtime = project.runtime().agent(&Played::new(&project, "played", script));
    let runtime = runtime.start().await.unwrap();
    let ended = agent(&runtime, "played").run("hello").wait().await.unwrap();
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!((completed.output.get(), completed.attempts), ("\"2\"", 1));
    assert_eq!(status(&runtime, "played").await.restarts_left, 3);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn too_many_deaths_of_all_runners_together_park_the_agent() {
    let project = Project::new();
    let life = Life::starting(Start::ReadyThenDie { after_ms: 1, death: Death::code(3) });
    let played = with_replicas(Played::new(&project, "played", life), 2).with(|spec| {
        spec.supervision.intensity.max_restarts = 4;
        spec.supervision.backoff.max = Duration::from_secs(600);
    });
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    until("it is parked", async || {
        matches!(status(&runtime, "played").await.state, AgentState::Parked { .. })
    })
    .await;
    let refused = agent(&runtime, "played").run("hello").wait().await.unwrap_err();
    assert_eq!(refused.code(), "agent_unavailable");
    assert_eq!(status(&runtime, "played").await.runners, []);
    assert_eq!(refused.into_failure().kind, FailureKind::RunnerDied);
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_drained_and_a_stopped_agent_leave_no_runner_of_any_seat() {
    let project = Project::new();
    let played = with_replicas(Played::new(&project, "played", fine()), 3);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let drained = all_up(&runtime, "played", 3).await;
    agent(&runtime, "played").drain(Duration::from_secs(5)).await.unwrap();
    assert!(drained.iter().all(|runner| !is_alive(runner.pid.unwrap())));
    assert_eq!(project.sockets().len(), 0);
    agent(&runtime, "played").restart().await.unwrap();
    let stopped = all_up(&runtime, "played", 3).await;
    runtime.stop_agent("played").await.unwrap();
    assert!(stopped.iter().all(|runner| !is_alive(runner.pid.unwrap())));
    runtime.shutdown().await;
}
