//! Runners killed at random moments under load: no run is lost, and each ends exactly once.

mod ladder;
mod observers;
mod stage;

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::PolicyRule;
use axon_runtime::{Outcome, RunHandle, RunUpdate};
use axon_test::scripted_runner::{Death, Life, Step, When};
use serde_json::json;

use crate::support::{PATIENCE, Project, output, played_agent};
use stage::{Answers, CALLERS, Pace, Stage};

/// How long the runtime may take to answer everybody when it goes.
const LAST_ANSWERS: Duration = Duration::from_secs(15);

#[tokio::test]
async fn runners_that_are_killed_within_the_default_limits_lose_no_run() {
    let stage = Stage::new(|_| ()).await;
    let callers = stage.callers(Answers::All);
    stage.kill(Pace { kills: 3, events: 300, time: Duration::from_secs(6), seed: 1 }).await;
    let ended = stage.stop(callers).await;
    assert!(ended.iter().any(|run| run.attempts() > 1), "no kill has hit a run");
    stage.assert_each_completed_once(&ended).await;
    stage.assert_whole_again().await;
    stage.end().await;
}

#[tokio::test]
async fn runners_that_are_killed_again_and_again_lose_no_run() {
    let stage = Stage::new(|spec| {
        spec.supervision.intensity.max_restarts = 1000;
        spec.supervision.backoff.min = Duration::from_millis(1);
        for kind in [FailureKind::RunnerDied, FailureKind::Decode] {
            let patient = PolicyRule { retry: Some(100), ..PolicyRule::default() };
            spec.policy.insert(kind, patient);
        }
    });
    let stage = stage.await;
    let callers = stage.callers(Answers::All);
    stage.kill(Pace { kills: 100, events: 50, time: Duration::from_secs(8), seed: 2 }).await;
    let ended = stage.stop(callers).await;
    stage.assert_each_completed_once(&ended).await;
    stage.assert_whole_again().await;
    stage.end().await;
}

#[tokio::test]
async fn a_shutdown_in_the_middle_of_it_all_answers_every_caller() {
    let stage = Stage::new(|_| ()).await;
    let callers = stage.callers(Answers::UntilRefused);
    let shutdown = async {
        stage.completed(1).await;
        stage.progress(100).await;
        let shutdown = stage.runtime().shutdown();
        tokio::time::timeout(LAST_ANSWERS, shutdown).await.expect("it ends in time");
    };
    let kills = stage.kill(Pace { kills: 1, events: 300, time: LAST_ANSWERS, seed: 3 });
    tokio::select! {
        () = shutdown => {}
        () = async { kills.await; pending().await } => {}
    }
    let ended = tokio::time::timeout(LAST_ANSWERS, stage.joined(callers)).await;
    let ended = ended.expect("every caller is answered");
    assert_they_completed_or_were_cancelled(&ended, "shuts down");
    stage.assert_one_end_each(&ended).await;
    stage.assert_nothing_lives().await;
}

#[tokio::test]
async fn a_runtime_that_is_dropped_in_the_middle_of_it_all_answers_every_caller() {
    let mut stage = Stage::new(|_| ()).await;
    let callers = stage.callers(Answers::UntilRefused);
    stage.kill(Pace { kills: 1, events: 100, time: Duration::from_secs(3), seed: 4 }).await;
    stage.completed(1).await;
    stage.progress(100).await;
    stage.drop_runtime();
    let ended = tokio::time::timeout(LAST_ANSWERS, stage.joined(callers)).await;
    let ended = ended.expect("every caller is answered");
    assert_they_completed_or_were_cancelled(&ended, "was dropped");
    stage.assert_one_end_each(&ended).await;
    stage.assert_nothing_lives().await;
}

#[tokio::test]
async fn an_agent_that_drains_takes_no_runs_although_its_runner_comes_back() {
    let life = Life::default()
        .on(When::attempt(1), [Step::SleepMs(100), Death::signal(9).into()])
        .always([Step::SleepMs(300), Step::complete("at last")]);
    let project = Project::new();
    let spec = played_agent(&project, "agent", life);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let mut run = agent.run("hello").start().await.unwrap();
    let drained = async { runtime.drain(PATIENCE).await };
    let refused = async {
        until_attempt(&mut run, 2).await;
        agent.run("too late").start().await
    };
    let (left, refused) = tokio::join!(drained, refused);
    assert_eq!(refused.unwrap_err().code(), "draining");
    assert_eq!(left, 0, "what was under way has finished");
    assert_eq!(output(&run.outcome().await.outcome), json!("at last"));
}

async fn until_attempt(run: &mut RunHandle, number: usize) {
    let mut begun = 0;
    while begun < number {
        let Some(RunUpdate::Event(event)) = run.events().next().await else { panic!("it ended") };
        begun += usize::from(event.event.name() == "attempt_started");
    }
}

fn assert_they_completed_or_were_cancelled(ended: &[stage::Ended], why: &str) {
    let mut ways = BTreeSet::new();
    for run in ended {
        match &run.outcome {
            Outcome::Completed(_) => ways.insert("completed"),
            Outcome::Cancelled(cancelled) if cancelled.reason.contains(why) => {
                ways.insert("cancelled")
            }
            Outcome::Cancelled(_)
            | Outcome::Failed(_)
            | Outcome::Rejected(_)
            | Outcome::Paused(_) => panic!("{} ended as {:?}", run.id, run.outcome),
        };
    }
    assert_eq!(ways.len(), 2, "{ways:?}");
    assert!(ended.len() >= CALLERS);
}
