//! The flows of the repository's own agents: the front desk of a bank, and research. Real Python,
//! offline models, and runners that are killed at every moment.

use std::collections::BTreeMap;

use axon_kernel::event::{PauseReason, RunEvent, Sequenced};
use axon_kernel::ids::ToolCallId;
use axon_kernel::store::RunQuery;
use axon_kernel::wire::{DeferredKind, DeferredRequest};
use axon_runtime::{Outcome, RunHandle, RunUpdate, Runtime, load_agents};
use serde_json::{Value, json};

use tokio::io::{AsyncBufReadExt, BufReader};

use super::paths;
use crate::command_line::axon;
use crate::support::{Project, kill_9, output, repository};

const STOLEN: &str = "There is a payment in Lisbon that I did not make";
const EMPTIED: &str = "Somebody used my card and emptied my account, all my money is gone!";
const QUESTION: &str = "How does a Fresnel lens work and why were keepers replaced?";

async fn start(project: &mut Project) -> Runtime {
    project.set("AXON_DATA_DIR", &project.path().join("data").display().to_string());
    let agents = load_agents(&repository().join("agents"), &project.host()).unwrap();
    let builder = agents.into_iter().fold(project.runtime(), |builder, mut agent| {
        // They are killed more often than the world does it.
        if agent.spec.flow.is_none() {
            agent.spec.supervision.intensity.max_restarts = 1000;
        }
        builder.agent(agent)
    });
    builder.start().await.unwrap()
}

fn docs() -> Value {
    json!({ "docs": repository().join("agents/research/documents") })
}

async fn ask(runtime: &Runtime, name: &str, prompt: &str, deps: &Value) -> RunHandle {
    runtime.named(name).unwrap().run(prompt).deps(deps).start().await.unwrap()
}

/// Reads on to the end, or to a pause; `strike` is called with the number of each event.
async fn read_on(run: &mut RunHandle, mut strike: impl AsyncFnMut(usize)) -> Vec<RunEvent> {
    let mut seen = Vec::new();
    while let Some(update) = run.events().next().await {
        let RunUpdate::Event(event) = update else { continue };
        let event = event.event.clone();
        strike(seen.len()).await;
        seen.push(event);
    }
    seen
}

/// Goes on through whatever is asked, approving everything and answering `answer`.
async fn to_the_end(run: &mut RunHandle, answer: &str) -> (Outcome, Vec<RunEvent>) {
    struck_to_the_end(run, answer, async |_| {}).await
}

/// Does the same; `strike` is called with the number of each event.
async fn struck_to_the_end(
    run: &mut RunHandle,
    answer: &str,
    mut strike: impl AsyncFnMut(usize),
) -> (Outcome, Vec<RunEvent>) {
    let mut seen = Vec::new();
    loop {
        let before = seen.len();
        seen.extend(read_on(run, async |number| strike(before + number).await).await);
        let outcome = run.outcome().await.outcome;
        let Outcome::Paused(paused) = &outcome else { return (outcome, seen) };
        let PauseReason::Approval { requests } = &paused.reason else { return (outcome, seen) };
        for request in requests.decode::<Vec<DeferredRequest>>().unwrap() {
            let call: &ToolCallId = &request.tool_call_id;
            match request.asked().kind {
                DeferredKind::Approval => run.approve(call).await.unwrap(),
                DeferredKind::Question | DeferredKind::External => {
                    run.answer(call, answer).await.unwrap()
                }
            };
        }
    }
}

#[tokio::test]
async fn the_front_desk_hands_a_message_to_whoever_it_is_for() {
    let mut project = Project::new();
    let runtime = start(&mut project).await;
    let deps = json!({ "customer_id": 123 });

    let mut run = ask(&runtime, "front_desk", "What is my balance?", &deps).await;
    let (outcome, seen) = to_the_end(&mut run, "").await;
    assert!(output(&outcome)["support_advice"].as_str().unwrap().contains("123.45"));
    assert_eq!(paths(&seen), ["front_desk/triage", "front_desk/bank_support"]);

    // The card is blocked only with an approval, which the run at the top asks for.
    let mut run = ask(&runtime, "front_desk", STOLEN, &deps).await;
    let first = read_on(&mut run, async |_| {}).await;
    assert_eq!(paths(&first), ["front_desk/triage", "front_desk/fraud"]);
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it asks first") };
    let PauseReason::Approval { requests } = &paused.reason else { panic!("{paused:?}") };
    let requests: Vec<DeferredRequest> = requests.decode().unwrap();
    assert_eq!(requests[0].asked().name, "block_card");
    run.deny(&requests[0].tool_call_id, "not this one").await.unwrap();
    let (outcome, _) = to_the_end(&mut run, "").await;
    assert_eq!(output(&outcome)["block_card"], false);

    // Above a risk a person is asked, in words.
    let mut run = ask(&runtime, "front_desk", EMPTIED, &deps).await;
    let (outcome, _) = to_the_end(&mut run, "Tell them to call us at once.").await;
    let advice = output(&outcome);
    assert!(advice["support_advice"].as_str().unwrap().contains("call us at once"), "{advice}");
    assert_eq!((&advice["risk"], &advice["block_card"]), (&json!(10), &json!(true)));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_conversation_with_the_front_desk_is_one_whoever_answers() {
    let mut project = Project::new();
    let runtime = start(&mut project).await;
    let deps = json!({ "customer_id": 123 });
    let say = async |prompt: &str| {
        let desk = runtime.named("front_desk").unwrap();
        let run = desk.run(prompt).deps(&deps).conversation("c1").wait().await.unwrap();
        output(&run.outcome)["support_advice"].as_str().unwrap().to_owned()
    };
    say("What is my balance?").await;
    let recalled = say("What did I ask?").await;
    assert!(recalled.contains("before this you said: What is my balance?"), "{recalled}");
    // What was said is kept once, in the conversation.
    let query = RunQuery { limit: 100, ..RunQuery::default() };
    for run in runtime.store().runs(&query).await.unwrap() {
        let replay = runtime.records().replay(&run.run_id).await.unwrap();
        assert!(replay.accepted.terms.history.is_none(), "{replay:?}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn research_plans_searches_and_writes_a_report_that_cites_what_was_found() {
    let mut project = Project::new();
    let runtime = start(&mut project).await;
    let mut run = ask(&runtime, "research", QUESTION, &docs()).await;
    let (outcome, seen) = to_the_end(&mut run, "").await;
    let report = output(&outcome);
    assert_eq!(report["partial"], false, "{report}");
    let sources: Vec<&Value> =
        report["sources"].as_array().unwrap().iter().map(|source| &source["source"]).collect();
    for bullet in report["bullets"].as_array().unwrap() {
        for cited in bullet["sources"].as_array().unwrap() {
            assert!(sources.contains(&cited), "{report}");
        }
    }
    let mut agents = paths(&seen);
    agents.sort();
    agents.dedup();
    let all =
        ["research/research_planner", "research/research_searcher", "research/research_writer"];
    assert_eq!(agents, all);
    runtime.shutdown().await;
}

/// Checks that every run of the store has one end, and that no call was made again that had ended.
async fn nothing_was_done_twice(runtime: &Runtime) {
    let query = RunQuery { limit: 1000, ..RunQuery::default() };
    for run in runtime.store().runs(&query).await.unwrap() {
        let records = runtime.store().records(&run.run_id, 0).await.unwrap();
        let ends = records.iter().filter(|record| record.event.is_terminal()).count();
        assert_eq!(ends, 1, "{records:?}");
        ended_calls_stay_ended(&records);
    }
}

fn ended_calls_stay_ended(records: &[Sequenced]) {
    let mut ended: BTreeMap<&ToolCallId, &str> = BTreeMap::new();
    for record in records {
        if let RunEvent::ToolCalled(called) = &record.event {
            let before = ended.get(&called.tool_call_id);
            assert!(before.is_none(), "{} was called again: {records:?}", called.name);
        } else if let RunEvent::ToolReturned(returned) = &record.event
            && returned.outcome.was_made()
        {
            ended.insert(&returned.tool_call_id, &returned.name);
        }
    }
}

/// Has `name` answer once for each moment, with the runner of some agent killed at it.
async fn killed_at_each_moment(name: &str, prompt: &str, deps: &Value, agents: &[&str]) {
    let mut project = Project::new();
    let runtime = start(&mut project).await;
    let mut run = ask(&runtime, name, prompt, deps).await;
    let undisturbed = to_the_end(&mut run, "").await.1.len();
    // Deltas come in great number: some moments among them are as good as all.
    let moments = (0..undisturbed).step_by((undisturbed / 8).max(1));
    for (turn, moment) in moments.enumerate() {
        let victim = agents[turn % agents.len()];
        let mut run = ask(&runtime, name, prompt, deps).await;
        let others = runtime.clone();
        let mut struck = false;
        let strike = async |number| {
            if number >= moment && !struck {
                struck = true;
                let status = others.named(victim).unwrap().status().await.unwrap();
                if let Some(pid) = status.pid {
                    kill_9(pid);
                }
            }
        };
        let (outcome, _) = struck_to_the_end(&mut run, "", strike).await;
        assert!(matches!(outcome, Outcome::Completed(_)), "{victim} at {moment}: {outcome:?}");
    }
    nothing_was_done_twice(&runtime).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn research_completes_whichever_runner_is_killed_and_whenever() {
    let agents = ["research_planner", "research_searcher", "research_writer"];
    killed_at_each_moment("research", QUESTION, &docs(), &agents).await;
}

#[tokio::test]
async fn the_front_desk_completes_whichever_runner_is_killed_and_whenever() {
    let deps = json!({ "customer_id": 123 });
    let agents = ["triage", "bank_support"];
    killed_at_each_moment("front_desk", "What is my balance?", &deps, &agents).await;
}

#[tokio::test]
async fn the_fraud_desk_completes_whichever_runner_is_killed_and_whenever() {
    let deps = json!({ "customer_id": 123 });
    killed_at_each_moment("front_desk", STOLEN, &deps, &["fraud", "triage"]).await;
}

#[tokio::test]
async fn a_flow_whose_whole_process_is_killed_goes_on_and_repeats_nothing() {
    let project = Project::new();
    let folder = docs()["docs"].as_str().unwrap().to_owned();
    let dep = format!("docs={folder}");
    let mut asked = axon(&project, &["run", "research", QUESTION, "--dep", &dep]).spawn().unwrap();
    let mut lines = BufReader::new(asked.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("search.0") {
            break;
        }
    }
    asked.start_kill().unwrap();
    asked.wait().await.unwrap();
    let resumed = axon(&project, &["runs", "resume"]).output().await.unwrap();
    let talk = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{talk}");
    assert!(!talk.contains("asks research_planner"), "the plan was on record: {talk}");
    let report: Value = serde_json::from_slice(&resumed.stdout).unwrap();
    assert_eq!(report["partial"], false, "{report}");
}
