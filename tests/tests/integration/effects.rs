//! What has taken effect, or may have, is never done again by itself, whoever could go on.

use std::time::Duration;

use axon_kernel::event::PauseReason;
use axon_kernel::failure::FailureKind;
use axon_kernel::spec::Effect;
use axon_kernel::wire::Before;
use axon_runtime::{AgentState, Outcome, SteerError};
use axon_test::scripted_runner::{Death, Life, RunnerScript, Start, Step};
use serde_json::{Value, json};

use crate::scene::{Played, agent, shows, status};
use crate::support::{PATIENCE, Project, output, until};

fn message() -> Value {
    json!({"kind": "request", "parts": []})
}

/// An agent whose runner dies once after these steps and cannot be started again, and one that
/// would take over.
fn dying(project: &Project, steps: Vec<Step>) -> (Played, Played) {
    let dead = Life::starting(Start::DieBeforeReady(Death::code(3)));
    let script = RunnerScript::from(dead).generation(1, Life::default().always(steps));
    let first = Played::new(project, "first", script).with(|spec| {
        spec.fallback.agent = Some("second".parse().unwrap());
        spec.supervision.intensity.max_restarts = 0;
    });
    (first, Played::new(project, "second", [Step::complete("from the second")]))
}

async fn ended(first: &Played, second: &Played, project: &Project) -> Outcome {
    let runtime = project.runtime().agent(first).agent(second).start().await.unwrap();
    let ended = agent(&runtime, "first").run("pay").wait().await.unwrap();
    runtime.shutdown().await;
    ended.outcome
}

#[tokio::test]
async fn when_no_runner_can_be_had_another_agent_takes_over_and_the_end_tells_so() {
    let project = Project::new();
    let (first, second) = dying(&project, vec![Step::Die(Death::signal(9))]);
    let outcome = ended(&first, &second, &project).await;
    assert_eq!(output(&outcome), json!("from the second"));
}

#[tokio::test]
async fn nobody_takes_over_what_has_taken_effect_once_when_no_runner_can_be_had() {
    let project = Project::new();
    let steps = vec![
        Step::tool_started("c1", "pay", Effect::Once),
        Step::tool_finished("c1", "pay", "paid"),
        Step::checkpoint(Before::Model, [message()]),
        Step::Die(Death::signal(9)),
    ];
    let (first, second) = dying(&project, steps);
    let outcome = ended(&first, &second, &project).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.failure.kind, FailureKind::RunnerDied);
    assert!(failed.failure.message.contains("unavailable"), "{failed:?}");
}

#[tokio::test]
async fn a_call_that_asked_to_be_made_again_is_in_doubt_until_it_is_recorded() {
    let told = json!({
        "tool_call_id": "c1", "step": 0, "name": "pay", "outcome": "retry", "recorded": false,
        "result": "try again"
    });
    let asked_again =
        [Step::tool_started("c1", "pay", Effect::Once), Step::event("tool_finished", told)];
    let dies = || Step::Die(Death::signal(9));
    let recorded = Step::checkpoint(Before::Model, [message()]);
    for (steps, in_doubt) in [
        ([asked_again.to_vec(), vec![dies()]].concat(), true),
        ([asked_again.to_vec(), vec![recorded, dies()]].concat(), false),
    ] {
        let project = Project::new();
        let script = RunnerScript::from([Step::complete("fine")])
            .generation(1, Life::default().always(steps));
        let played = Played::new(&project, "agent", script);
        let runtime = project.runtime().agent(&played).start().await.unwrap();
        let run = agent(&runtime, "agent").run("pay").wait().await.unwrap();
        if in_doubt {
            let Outcome::Paused(paused) = run.outcome else { panic!("{run:?}") };
            let PauseReason::Ambiguous { tool_call_id, .. } = paused.reason else { panic!() };
            assert_eq!(tool_call_id.as_str(), "c1");
        } else {
            assert_eq!(output(&run.outcome), json!("fine"));
        }
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_call_that_only_asked_is_not_in_doubt_when_its_runner_dies() {
    let asked = json!({
        "tool_call_id": "c1", "step": 0, "name": "pay", "outcome": "deferred", "recorded": false,
        "result": {"why": "money"}
    });
    let steps = vec![
        Step::tool_started("c1", "pay", Effect::Once),
        Step::event("tool_finished", asked),
        Step::Die(Death::signal(9)),
    ];
    let project = Project::new();
    let (first, second) = dying(&project, steps);
    let outcome = ended(&first, &second, &project).await;
    assert_eq!(output(&outcome), json!("from the second"), "it has not taken effect either");
}

#[tokio::test]
async fn a_paused_run_takes_no_message_and_can_be_called_off() {
    let project = Project::new();
    let played = Played::new(&project, "agent", [Step::pause(json!([]))]);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let mut run = agent(&runtime, "agent").run("pay").start().await.unwrap();
    shows(&mut run, "paused").await;
    let steered = tokio::time::timeout(PATIENCE, run.steer("go on")).await;
    assert_eq!(steered, Ok(Err(SteerError::Over)));
    run.cancel("nobody wants it any more");
    until("it has ended", async || matches!(run.outcome().await.outcome, Outcome::Cancelled(_)))
        .await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_is_parked_can_be_drained_and_comes_back_by_hand() {
    let project = Project::new();
    let dead = Life::starting(Start::DieBeforeReady(Death::code(3)));
    for escalates in [false, true] {
        let played = Played::new(&project, "agent", dead.clone()).with(|spec| {
            spec.supervision.intensity.max_restarts = 0;
            if escalates {
                spec.supervision.on_exhausted = axon_kernel::spec::OnExhausted::Escalate;
            }
        });
        let runtime = project.runtime().agent(&played).start().await.unwrap();
        let parked = agent(&runtime, "agent");
        let drained = parked.drain(Duration::from_millis(100));
        assert_eq!(tokio::time::timeout(PATIENCE, drained).await.unwrap().unwrap(), 0);
        let refused = agent(&runtime, "agent").run("hello").start().await.unwrap_err();
        assert_eq!(refused.code(), "agent_draining");
        played.repair([Step::complete("fine")]);
        agent(&runtime, "agent").restart().await.unwrap();
        let answer = agent(&runtime, "agent").run("hello").wait().await.unwrap();
        assert_eq!(output(&answer.outcome), json!("fine"));
        assert_eq!(status(&runtime, "agent").await.state, AgentState::Up);
        runtime.shutdown().await;
    }
}
