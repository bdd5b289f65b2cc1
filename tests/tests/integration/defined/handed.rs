//! What becomes of the run of another agent, with the run that has asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::event::{Cancelled, Resolution, RunEvent, Sequenced};
use axon_kernel::failure::FailureKind;
use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_kernel::run::RunState;
use axon_kernel::spec::{Effect, Limits, OnAmbiguous, OnTimeout, PolicyRule};
use axon_kernel::store::{Append, RunQuery};
use axon_runtime::{Agent, Outcome, RecordError, RunHandle, Runtime, Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use super::delegation::{Nothing, fraud, reply, script, start, usage};
use super::{Customer, MODEL, Scene};
use crate::support::{follow, kill_9, output, until};

/// A tool that asks for an approval, and how often it was made.
fn check() -> (Tool, Arc<AtomicU32>) {
    let made = Arc::new(AtomicU32::new(0));
    let counted = made.clone();
    let check = Tool::new("check", move |ctx: ToolContext<Customer>, _: Nothing| {
        let counted = counted.clone();
        async move {
            if !ctx.approved() {
                return Err(ToolError::NeedsApproval("it costs money".into()));
            }
            counted.fetch_add(1, Ordering::SeqCst);
            Ok("checked")
        }
    });
    (check.unwrap(), made)
}

/// Returns the run of the fraud desk.
async fn below(runtime: &Runtime) -> RunId {
    let newest = RunQuery { limit: 10, ..RunQuery::default() };
    let runs = runtime.store().runs(&newest).await.unwrap();
    runs.into_iter().find(|run| run.agent.as_str() == "fraud").unwrap().run_id
}

async fn state(runtime: &Runtime, run: &RunId) -> RunState {
    runtime.records().summary(run).await.unwrap().state
}

async fn waits(run: &RunHandle) {
    let outcome = run.outcome().await.outcome;
    assert!(matches!(outcome, Outcome::Paused(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_waiting_run_that_is_cancelled_takes_the_run_below_with_it() {
    let scene = Scene::new(script(Some("check"))).await;
    let (check, made) = check();
    let (runtime, run) = start(&scene, &fraud(Some(check))).await;
    waits(&run).await;
    let child = below(&runtime).await;
    let call = runtime.records().replay(&child).await.unwrap().undecided().remove(0);
    runtime.records().cancel(run.id(), "not needed").await.unwrap();
    assert_eq!(state(&runtime, &child).await, RunState::Cancelled);
    let refused = runtime.records().resolve(&child, &call, Resolution::approve(), "").await;
    assert_eq!(refused.unwrap_err().code(), "run_ended");
    assert_eq!(made.load(Ordering::SeqCst), 0);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_whose_caller_has_ended_takes_no_decision_and_ends_when_it_is_gone_on_with() {
    let scene = Scene::new(script(Some("check"))).await;
    let (check, made) = check();
    let (runtime, run) = start(&scene, &fraud(Some(check))).await;
    waits(&run).await;
    let child = below(&runtime).await;
    let call = runtime.records().replay(&child).await.unwrap().undecided().remove(0);
    // The caller ends as it does where its process dies before it could end the other run.
    let replay = runtime.records().replay(run.id()).await.unwrap();
    runtime.store().claim(run.id()).await.unwrap();
    let event = RunEvent::Cancelled(Cancelled { reason: "it is over".to_owned() });
    let (seq, attempt, at) = (replay.seq + 1, replay.attempt, replay.accepted_at);
    let events = [Sequenced { run_id: run.id().clone(), seq, attempt, at, event }];
    let expected = replay.recorded;
    let append = Append { run: run.id(), expected, events: &events, turn: None, writes: &[] };
    runtime.store().append(append).await.unwrap();
    let refused = runtime.records().resolve(&child, &call, Resolution::approve(), "").await;
    assert!(matches!(refused, Err(RecordError::Unwanted { .. })), "{refused:?}");
    let refused = runtime.resume(child.clone()).start().await.unwrap_err();
    assert_eq!(refused.code(), "run_ended");
    assert_eq!(state(&runtime, &child).await, RunState::Cancelled);
    assert_eq!(made.load(Ordering::SeqCst), 0);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_nobody_decided_about_in_time_takes_the_run_below_with_it() {
    for then in [OnTimeout::Deny, OnTimeout::Fail] {
        let scene = Scene::new(script(Some("check"))).await;
        let (check, made) = check();
        let support = expiring(then);
        let fraud = fraud(Some(check));
        let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
        let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
        let run = run.start().await.unwrap();
        waits(&run).await;
        let child = below(&runtime).await;
        until("the run below has ended", async || {
            state(&runtime, &child).await == RunState::Cancelled
        })
        .await;
        until("the run has ended", async || !state(&runtime, run.id()).await.is_open()).await;
        let ended = match then {
            OnTimeout::Deny => RunState::Completed,
            OnTimeout::Fail => RunState::Failed,
        };
        assert_eq!(state(&runtime, run.id()).await, ended);
        assert_eq!(made.load(Ordering::SeqCst), 0);
        runtime.shutdown().await;
    }
}

fn expiring(then: OnTimeout) -> Agent<Customer> {
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .instructions("You are support.")
        .delegate("fraud", "Asks the fraud desk.")
        .configure(|spec| {
            spec.approvals.timeout = Some(Duration::from_millis(1));
            spec.approvals.on_timeout = then;
        });
    support.build().unwrap()
}

#[tokio::test]
async fn a_decision_that_comes_too_late_for_the_caller_decides_nothing_below() {
    let scene = Scene::new(script(Some("check"))).await;
    let (support, fraud) = (expiring(OnTimeout::Deny), fraud(Some(check().0)));
    let builder = scene.runtime().recover(false).agent(&support).agent(&fraud);
    let runtime = scene.start(builder).await;
    let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    let run = run.start().await.unwrap();
    waits(&run).await;
    let replay = runtime.records().replay(run.id()).await.unwrap();
    let call = replay.undecided().remove(0);
    let records = runtime.records();
    until("its time is over", async || {
        replay.expires().unwrap().is_over(axon_kernel::time::Timestamp(now()))
    })
    .await;
    let refused = records.resolve(run.id(), &call, Resolution::approve(), "").await;
    assert!(matches!(refused, Err(RecordError::Expired { .. })), "{refused:?}");
    let child = below(&runtime).await;
    assert_eq!(records.replay(&child).await.unwrap().undecided().len(), 1);
    runtime.shutdown().await;
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis().try_into().unwrap()
}

#[tokio::test]
async fn what_fits_one_call_is_refused_for_several_and_plain_consent_goes_to_all() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        match (system.contains("fraud desk"), request.tool_return("fraud")) {
            (true, _) => match request.tool_return("check") {
                None => Reply::tool_calls([("check", json!({})), ("check", json!({}))]),
                Some(said) => Reply::text(said),
            },
            (false, None) => Reply::tool_calls([("fraud", json!({ "prompt": "Is it fraud?" }))]),
            (false, Some(said)) => Reply::text(format!("told: {said}")),
        }
    }))
    .await;
    let (check, made) = check();
    let (runtime, mut run) = start(&scene, &fraud(Some(check))).await;
    waits(&run).await;
    let records = runtime.records();
    let call = records.replay(run.id()).await.unwrap().undecided().remove(0);
    let edited = Resolution::Approve { args: Some(RawJson::parse("{}").unwrap()), always: false };
    let refused = records.resolve(run.id(), &call, edited, "").await.unwrap_err();
    assert!(refused.to_string().contains("waits with 2 calls"), "{refused}");
    let child = below(&runtime).await;
    assert_eq!(records.replay(&child).await.unwrap().undecided().len(), 2);
    assert_eq!(records.replay(run.id()).await.unwrap().undecided(), std::slice::from_ref(&call));
    assert!(run.resolve(&call, Resolution::approve()).await.unwrap().is_empty());
    assert_eq!(output(&run.outcome().await.outcome), json!("told: checked"));
    assert_eq!(made.load(Ordering::SeqCst), 2);
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_asked_for_again_is_paid_for_once() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        match (system.contains("fraud desk"), request.tool_return("fraud")) {
            (true, _) => Reply::text("no"),
            (false, None) => {
                let asked = json!({ "prompt": "Is it fraud?" });
                Reply::tool_calls([("fraud", asked), ("wait", json!({}))])
            }
            (false, Some(said)) => Reply::text(format!("told: {said}")),
        }
    }))
    .await;
    let (go, entered) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (goes, enters) = (go.clone(), entered.clone());
    let wait = Tool::new("wait", move |_: ToolContext, _: Nothing| {
        let (goes, enters) = (goes.clone(), enters.clone());
        async move {
            if enters.fetch_add(1, Ordering::SeqCst) == 0 {
                goes.notified().await;
            }
            Ok::<_, ToolError>("waited")
        }
    });
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .delegate("fraud", "Asks the fraud desk.")
        .tool(wait.unwrap().effect(Effect::Pure));
    let (support, fraud) = (support.build().unwrap(), fraud(None));
    let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
    let most = 1_000_000;
    let budget = runtime.budget(Allowance { total_tokens: Some(most), ..Allowance::default() });
    let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    let mut run = run.budget(&budget).start().await.unwrap();
    loop {
        // The answer is there, and no checkpoint has it.
        let shown = run.events().next().await.unwrap();
        if let axon_runtime::RunUpdate::Event(event) = shown
            && matches!(&event.event, RunEvent::ToolReturned(returned) if returned.name == "fraud")
        {
            break;
        }
    }
    kill_9(runtime.named("support").unwrap().status().await.unwrap().pid.unwrap());
    follow(&mut run).await;
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!("told: no"));
    assert_eq!(entered.load(Ordering::SeqCst), 2);
    let used = usage(&outcome);
    let used = used["input_tokens"].as_u64().unwrap() + used["output_tokens"].as_u64().unwrap();
    assert_eq!(budget.remaining().total_tokens, Some(most - used));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_below_that_goes_on_behind_a_pause_stays_within_its_callers_budget() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        match (system.contains("fraud desk"), request.tool_return("check")) {
            (false, _) => Reply::tool_calls([("fraud", json!({ "prompt": "Is it fraud?" }))]),
            (true, None) => Reply::tool_calls([("check", json!({}))]),
            (true, Some(_)) => Reply::tool_calls([("note", json!({}))]),
        }
    }))
    .await;
    let note = Tool::new("note", async |_: ToolContext, _: Nothing| Ok::<_, ToolError>("noted"));
    let fraud = Agent::<Customer>::builder("fraud")
        .model(MODEL)
        .instructions("You are the fraud desk.")
        .limits(Limits { requests: 10, ..Limits::default() })
        .tool(check().0)
        .tool(note.unwrap().effect(Effect::Pure));
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .limits(Limits { requests: 2, ..Limits::default() })
        .delegate("fraud", "Asks the fraud desk.");
    let (support, fraud) = (support.build().unwrap(), fraud.build().unwrap());
    let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
    let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    let mut run = run.start().await.unwrap();
    waits(&run).await;
    assert_eq!(scene.model.requests().len(), 2);
    let call = runtime.records().replay(run.id()).await.unwrap().undecided().remove(0);
    run.resolve(&call, Resolution::approve()).await.unwrap();
    let failure = run.outcome().await.completed().unwrap_err();
    assert_eq!(failure.kind, FailureKind::UsageLimit, "{failure:?}");
    // What a run has used before it paused is not taken out once more.
    assert_eq!(scene.model.requests().len(), 2 + 2);
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_a_run_below_has_used_that_failed_is_in_its_callers_usage() {
    let scene = Scene::new(script(Some("note"))).await;
    let note = Tool::new("note", async |_: ToolContext, _: Nothing| Ok::<_, ToolError>("noted"));
    let fraud = Agent::<Customer>::builder("fraud")
        .model(MODEL)
        .instructions("You are the fraud desk.")
        .limits(Limits { requests: 1, ..Limits::default() })
        .tool(note.unwrap().effect(Effect::Pure));
    let (runtime, run) = start(&scene, &fraud.build().unwrap()).await;
    let outcome = run.outcome().await.outcome;
    assert!(output(&outcome).to_string().contains("gave no answer"), "{outcome:?}");
    assert_eq!(usage(&outcome)["requests"], 3);
    runtime.shutdown().await;
}

/// The fraud desk never answers; support answers what it is told of that.
fn silent() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        match (system.contains("fraud desk"), request.tool_return("fraud")) {
            (true, _) => Reply::hang(),
            (false, None) => Reply::tool_calls([("fraud", json!({ "prompt": "Is it fraud?" }))]),
            (false, Some(said)) => Reply::text(format!("told: {said}")),
        }
    })
}

#[tokio::test]
async fn a_run_below_whose_call_takes_too_long_ends() {
    for of_tool in [true, false] {
        let scene = Scene::new(silent()).await;
        let second = Some(Duration::from_secs(1));
        let support = Agent::<Customer>::builder("support")
            .model(MODEL)
            .delegate("fraud", "Asks the fraud desk.")
            .configure(|spec| match of_tool {
                true => spec.tools[0].timeout = second,
                false => spec.tool_timeout = second,
            });
        let (support, fraud) = (support.build().unwrap(), fraud(None));
        let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
        let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
        let run = run.start().await.unwrap();
        let outcome = run.outcome().await.outcome;
        assert!(output(&outcome).to_string().contains("it took too long"), "{outcome:?}");
        let child = below(&runtime).await;
        until("the run below has ended", async || {
            state(&runtime, &child).await == RunState::Cancelled
        })
        .await;
        scene.model.wait_until(|traffic| traffic.open_streams() == 0).await;
        runtime.shutdown().await;
    }
}

#[test]
fn what_is_about_calls_in_doubt_is_refused_of_an_agent() {
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .delegate("fraud", "Asks the fraud desk.")
        .configure(|spec| spec.tools[0].on_ambiguous = OnAmbiguous::Skip);
    let refused = support.build().unwrap_err().to_string();
    assert!(refused.contains("says nothing of a tool that asks an agent"), "{refused}");
}

#[tokio::test]
async fn nobody_begins_anew_once_a_run_below_has_made_an_effect() {
    let scene = Scene::new(Script::function(move |body| {
        let request = ChatRequest::new(body);
        match request.tool_return("fraud") {
            Some(_) => Reply::status(503, json!({ "error": { "message": "away" } })),
            None => reply(Some("pay"), body),
        }
    }))
    .await;
    let pay = Tool::new("pay", async |_: ToolContext, _: Nothing| Ok::<_, ToolError>("paid"));
    let support = support_with(|spec| {
        spec.fallback.agent = Some("spare".parse().unwrap());
        let once = PolicyRule { retry: Some(0), ..PolicyRule::default() };
        spec.policy.insert(FailureKind::ModelUnavailable, once);
    });
    let fraud = fraud(Some(pay.unwrap().effect(Effect::Once)));
    let spare = Agent::<Customer>::builder("spare").model(MODEL).instructions("You are spare.");
    let spare = spare.build().unwrap();
    let builder = scene.runtime().agent(&support).agent(&fraud).agent(&spare);
    let runtime = scene.start(builder).await;
    let ask = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
    let failure = ask.await.unwrap_err().into_failure();
    assert_eq!(failure.kind, FailureKind::ModelUnavailable, "{failure:?}");
    assert!(!scene.sent().contains("You are spare."));
    runtime.shutdown().await;
}

fn support_with(change: impl FnOnce(&mut axon_kernel::spec::AgentSpec)) -> Agent<Customer> {
    let support = Agent::<Customer>::builder("support")
        .model(MODEL)
        .instructions("You are support.")
        .delegate("fraud", "Asks the fraud desk.")
        .configure(change);
    support.build().unwrap()
}

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Named {
    name: String,
}

#[tokio::test]
async fn deps_that_do_not_fit_are_not_handed_on_and_the_model_gives_them_only_if_it_may() {
    for may in [false, true] {
        let scene = Scene::new(Script::function(move |body| {
            let request = ChatRequest::new(body);
            let system = body["messages"][0]["content"].as_str().unwrap_or_default();
            let asked = match may {
                true => json!({ "prompt": "Is it fraud?", "deps": { "name": "Ada" } }),
                false => json!({ "prompt": "Is it fraud?" }),
            };
            match (system.contains("fraud desk"), request.tool_return("fraud")) {
                (true, _) => Reply::text(system),
                (false, None) => Reply::tool_calls([("fraud", asked)]),
                (false, Some(said)) => Reply::text(format!("told: {said}")),
            }
        }))
        .await;
        let support = support_with(|spec| {
            let named = json!({
                "type": "object",
                "properties": { "prompt": { "type": "string" }, "deps": { "type": "object" } },
                "required": ["prompt", "deps"],
            });
            let schema = axon_kernel::schema::Schema::new(named).unwrap();
            spec.tools[0].parameters = may.then_some(schema);
        });
        let fraud = Agent::<Named>::builder("fraud")
            .model(MODEL)
            .instructions("You are the fraud desk of {{ deps.name }}.");
        let fraud = fraud.build().unwrap();
        let runtime = scene.start(scene.runtime().agent(&support).agent(&fraud)).await;
        let run = runtime.agent(&support).run("Someone used my card").deps(&Customer { id: 7 });
        let answer = run.await.unwrap().output;
        let told = match may {
            true => "told: You are the fraud desk of Ada.",
            false => "agent `fraud` takes other deps than this run has",
        };
        assert!(answer.contains(told), "{answer}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn arguments_that_another_agent_does_not_take_go_back_to_the_model() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        let tried = body["messages"].to_string().contains("Additional properties");
        match (system.contains("fraud desk"), request.tool_return("fraud"), tried) {
            (true, _, _) => Reply::text(system),
            (false, _, false) => {
                let asked = json!({ "prompt": "Is it fraud?", "deps": { "id": 9 } });
                Reply::tool_calls([("fraud", asked)])
            }
            (false, Some(said), true) if said.contains("fraud desk of") => Reply::text(said),
            (false, _, true) => Reply::tool_calls([("fraud", json!({ "prompt": "Is it?" }))]),
        }
    }))
    .await;
    let (runtime, run) = start(&scene, &fraud(None)).await;
    assert_eq!(output(&run.outcome().await.outcome), json!("You are the fraud desk of 7."));
    assert!(!scene.sent().contains("fraud desk of 9"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn agents_with_one_place_that_ask_each_other_do_not_wait_for_each_other() {
    let scene = Scene::new(Script::function(|body| {
        let request = ChatRequest::new(body);
        let asks = |other: &str| Reply::tool_calls([(other, json!({ "prompt": "deeper" }))]);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        let other = if system.contains("ping") { "pong" } else { "ping" };
        match request.tool_return(other) {
            None => asks(other),
            Some(said) => Reply::text(said),
        }
    }))
    .await;
    let one = || Limits { concurrency: 1.try_into().unwrap(), queue: 0, ..Limits::default() };
    let agent = |name: &str, other: &str| {
        let agent =
            Agent::<()>::builder(name).model(MODEL).instructions(format!("You are {name}."));
        agent.limits(one()).delegate(other, "Asks the other one.").build().unwrap()
    };
    let (ping, pong) = (agent("ping", "pong"), agent("pong", "ping"));
    let runtime = scene.start(scene.runtime().agent(&ping).agent(&pong)).await;
    let (a, b) = (runtime.agent(&ping).run("a"), runtime.agent(&pong).run("b"));
    let both = tokio::join!(a.into_future(), b.into_future());
    for answer in [both.0.unwrap(), both.1.unwrap()] {
        assert!(answer.output.contains("as deep as work is handed on"), "{}", answer.output);
    }
    runtime.shutdown().await;
}
