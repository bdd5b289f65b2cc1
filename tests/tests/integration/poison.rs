//! Runs that kill their runners: they are found, they end alone, and nobody else pays for them.

use std::collections::BTreeMap;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, Effect};
use axon_runtime::{
    AgentHandle, AgentState, Observed, Outcome, RunUpdate, Runtime, RuntimeEvent, RuntimeEvents,
};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::{Death, Life, RunnerScript, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

use crate::support::{
    Project, failure, is_alive, output, played_agent, python_tool, scripted_agent,
};

/// What poison says before it takes effect.
const LAST_WORDS: &str = "poisoned";

/// Returns everything that has happened so far.
fn happened(events: &mut RuntimeEvents) -> Vec<RuntimeEvent> {
    let mut seen = Vec::new();
    while let Some(Some(observed)) = events.next().now_or_never() {
        let Observed::Event(event) = observed else { panic!("too many events: {observed:?}") };
        seen.push(*event);
    }
    seen
}

fn evidence_against(seen: &[RuntimeEvent]) -> Vec<&[String]> {
    let mut against = Vec::new();
    for event in seen {
        if let RuntimeEvent::Quarantined { evidence, .. } = event {
            against.push(evidence.as_slice());
        }
    }
    against
}

fn was_parked(seen: &[RuntimeEvent]) -> bool {
    seen.iter().any(|event| matches!(event, RuntimeEvent::AgentParked { .. }))
}

/// Asks everything at once, and returns how it ended, by prompt.
async fn ask_all(agent: &AgentHandle, prompts: &[String]) -> BTreeMap<String, Outcome> {
    let runs = prompts.iter().map(|prompt| async {
        let ended = agent.run(prompt.as_str()).start().await.unwrap().outcome().await;
        (prompt.clone(), ended.outcome)
    });
    join_all(runs).await.into_iter().collect()
}

/// Eight good runs and the poisonous one.
fn nine_prompts() -> Vec<String> {
    let good = (1..=8).map(|number| format!("good {number}"));
    good.chain(["poison".to_owned()]).collect()
}

/// Checks that the poisonous run alone has failed, on evidence, and that its agent serves.
async fn assert_only_the_poison_fails(runtime: &Runtime, words: &str) {
    let agent = runtime.named("agent").unwrap();
    let mut events = runtime.events();
    let mut ended = ask_all(&agent, &nine_prompts()).await;
    let poisoned = ended.remove("poison").unwrap();
    for (prompt, outcome) in &ended {
        assert_eq!(output(outcome), json!(prompt), "{outcome:?}");
    }
    let Outcome::Failed(failed) = &poisoned else { panic!("{poisoned:?}") };
    assert_eq!(failed.failure.kind, FailureKind::RunnerDied);
    assert!(failed.failure.message.contains(words), "{}", failed.failure);
    assert!(failed.history.last().unwrap().contains("quarantined"), "{:?}", failed.history);
    assert!(failed.failure.help.is_some());
    let seen = happened(&mut events);
    let evidence = evidence_against(&seen);
    assert_eq!(evidence.len(), 1, "{seen:?}");
    assert_eq!(evidence[0].len(), 2, "{evidence:?}");
    assert!(evidence[0].iter().all(|death| death.contains(words)), "{evidence:?}");
    assert!(!was_parked(&seen), "{seen:?}");
    let next = agent.run("next").wait().await.unwrap();
    assert_eq!(output(&next.outcome), json!("next"));
    assert_eq!(agent.status().await.unwrap().state, AgentState::Up);
}

/// Whoever asks for poison dies, with all who are there then.
fn poisonous() -> Life {
    Life::default()
        .on(
            When::contains("poison"),
            [Step::SleepMs(60), Death::signal(9).saying(LAST_WORDS).into()],
        )
        .always([Step::SleepMs(120), Step::complete("{{prompt}}")])
}

#[tokio::test]
async fn two_poisonous_runs_at_once_do_not_park_their_agent() {
    let project = Project::new();
    let spec = played_agent(&project, "agent", poisonous());
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let mut events = runtime.events();
    let prompts = ["poison", "more poison", "good"].map(str::to_owned);
    let ended = ask_all(&agent, &prompts).await;
    assert_eq!(output(&ended["good"]), json!("good"));
    let seen = happened(&mut events);
    assert_eq!(evidence_against(&seen).len(), 2, "{seen:?}");
    assert!(!was_parked(&seen), "{seen:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_kills_every_runner_is_quarantined_and_its_company_completes() {
    let life = Life::default()
        .on(When::prompt("poison"), [Step::SleepMs(60), Death::signal(9).saying(LAST_WORDS).into()])
        .always([Step::SleepMs(120), Step::complete("{{prompt}}")]);
    let project = Project::new();
    let spec = played_agent(&project, "agent", life);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    assert_only_the_poison_fails(&runtime, LAST_WORDS).await;
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn poison_that_is_asked_for_again_and_again_does_not_park_the_agent() {
    let project = Project::new();
    let spec = played_agent(&project, "agent", poisonous());
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    for _ in 0..3 {
        assert_only_the_poison_fails(&runtime, LAST_WORDS).await;
    }
    runtime.shutdown().await;
}

const DEADLY: &str = r#"
import os

def leave() -> str:
    print("poisoned", flush=True)
    os._exit(9)

def kill() -> str:
    print("poisoned", flush=True)
    os.kill(os.getpid(), 9)
    return "never"
"#;

/// An agent with a tool that ends its process.
fn deadly_agent(tool: &'static str) -> (AgentSpec, Script) {
    let mut spec = scripted_agent("agent");
    spec.tools.push(python_tool(tool, &format!("deadly:{tool}"), Effect::Pure));
    let script = Script::function(move |body| match ChatRequest::new(body).user_prompt() {
        prompt if prompt == "poison" => Reply::tool_calls([(tool, json!({}))]),
        prompt => Reply::text(prompt).chunks(6).delay(Duration::from_millis(25)),
    });
    (spec, script)
}

async fn assert_the_tool_costs_one_run(tool: &'static str, how: &str) {
    let (spec, script) = deadly_agent(tool);
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    project.write("deadly.py", DEADLY);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    assert_only_the_poison_fails(&runtime, how).await;
    let pid = runtime.named("agent").unwrap().status().await.unwrap().pid.unwrap();
    runtime.shutdown().await;
    assert!(!is_alive(pid));
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_tool_that_leaves_its_process_costs_one_run_and_not_its_agent() {
    assert_the_tool_costs_one_run("leave", "code 9").await;
}

#[tokio::test]
async fn a_tool_that_kills_its_process_costs_one_run_and_not_its_agent() {
    assert_the_tool_costs_one_run("kill", "ended by SIGKILL").await;
}

/// The first two runners die with the killer and whoever is in them. Then a late run dies once,
/// at its first attempt, with whoever shares its runner.
fn twice_in_bad_company() -> RunnerScript {
    let deadly = Life::default()
        .on(When::prompt("killer"), [Step::SleepMs(60), Death::signal(9).into()])
        .always([Step::Hang]);
    let later = Life::default()
        .on(When::prompt("late").and_attempt(1), [Death::signal(9).into()])
        .always([Step::SleepMs(250), Step::complete("{{prompt}}")]);
    RunnerScript::from(later).generation(1, deadly.clone()).generation(2, deadly)
}

#[tokio::test]
async fn a_run_that_was_twice_in_company_of_a_death_completes_alone() {
    let project = Project::new();
    let spec = played_agent(&project, "agent", twice_in_bad_company());
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let killer = agent.run("killer").start().await.unwrap();
    let mut innocent = agent.run("innocent").start().await.unwrap();
    let mut begun = 0;
    while begun < 3 {
        let Some(RunUpdate::Event(event)) = innocent.events().next().await else { panic!() };
        begun += usize::from(event.event.name() == "attempt_started");
    }
    let late = agent.run("late").wait().await.unwrap();
    for (ended, prompt, attempts) in [
        (innocent.outcome().await, "innocent", 3),
        (killer.outcome().await, "killer", 3),
        (late, "late", 2),
    ] {
        let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
        assert_eq!(output(&ended.outcome), json!(prompt));
        assert_eq!(completed.attempts, attempts, "{prompt}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn when_one_run_after_another_kills_its_runner_the_agent_is_at_fault_and_parked() {
    let project = Project::new();
    let mut spec = played_agent(&project, "agent", [Death::code(3).saying(LAST_WORDS).into()]);
    spec.supervision.backoff.min = Duration::from_millis(1);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let mut events = runtime.events();
    let mut ended = 0;
    let refused = loop {
        match agent.run("hello").wait().await {
            Ok(run) => assert_eq!(failure(&run.outcome).kind, FailureKind::RunnerDied),
            Err(refused) => break refused,
        }
        ended += 1;
        assert!(ended < 10, "the agent goes on although every run kills its runner");
    };
    assert!(ended > 1, "one run alone does not park its agent");
    assert_eq!(refused.code(), "agent_unavailable");
    assert!(refused.into_failure().message.contains("code 3"));
    let seen = happened(&mut events);
    assert!(was_parked(&seen) && !evidence_against(&seen).is_empty(), "{seen:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn runs_that_all_kill_their_shared_runner_all_end_when_their_agent_is_parked() {
    let project = Project::new();
    let mut spec = played_agent(&project, "agent", [Step::SleepMs(20), Death::signal(9).into()]);
    spec.supervision.backoff.min = Duration::from_millis(1);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    for (prompt, outcome) in ask_all(&agent, &nine_prompts()).await {
        assert_eq!(failure(&outcome).kind, FailureKind::RunnerDied, "{prompt}: {outcome:?}");
    }
    let status = agent.status().await.unwrap();
    assert!(matches!(status.state, AgentState::Parked { .. }), "{status:?}");
    assert_eq!((status.in_flight, status.queued), (0, 0));
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}
