//! A model that fails at random in every way: each run ends once, as its class says.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::config::Config;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, Backoff, OutputSpec, PolicyRule};
use axon_kernel::store::Store;
use axon_runtime::{AgentHandle, MemoryStore, Observed, Outcome, Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::{Life, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use futures_util::future::join_all;
use serde_json::json;

use super::stage::{AGENTS, Random};
use crate::support::{
    PATIENCE, Project, failure, follow, output, played_agent, scripted_agent, until,
};

/// How often each class is met.
const EACH: usize = 3;

/// One class of what a provider does.
struct Class {
    name: &'static str,
    reply: fn() -> Reply,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// It happens once, and then the answer comes: the run completes.
    Once,
    /// It goes on: the run fails, as this, and escalates if so.
    Fails(FailureKind, Escalates),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escalates {
    Yes,
    No,
}

fn good() -> Reply {
    Reply::final_result(json!({"risk": 1}))
}

fn cut() -> Reply {
    Reply::text("never mind this").chunks(4)
}

const fn once(name: &'static str, reply: fn() -> Reply) -> Class {
    Class { name, reply, way: Way::Once }
}

const fn fails(name: &'static str, reply: fn() -> Reply, kind: FailureKind) -> Class {
    Class { name, reply, way: Way::Fails(kind, Escalates::No) }
}

const fn escalates(name: &'static str, reply: fn() -> Reply, kind: FailureKind) -> Class {
    Class { name, reply, way: Way::Fails(kind, Escalates::Yes) }
}

/// Every class of the ladder that a provider can cause.
const CLASSES: &[Class] = &[
    once("nothing", good),
    once("limited", Reply::rate_limited),
    once("limited with a wait", || Reply::rate_limited().retry_after(Duration::from_millis(80))),
    once("unavailable", || Reply::error(503, "down")),
    once("overloaded", || Reply::error(529, "overloaded_error")),
    once("server", || Reply::error(500, "oops")),
    once("not answering", Reply::hang),
    once("disconnecting", Reply::disconnect),
    once("cut", || cut().cut_after(2)),
    once("reset", || cut().reset_after(2)),
    once("silent in the middle", || cut().hang_after(2)),
    once("error in the middle", || cut().error_after(2)),
    once("garbage", Reply::garbage),
    once("breaking the schema", || Reply::final_result(json!({"risk": "high"}))),
    fails("always server", || Reply::error(500, "oops"), FailureKind::ModelServer),
    fails("always disconnecting", Reply::disconnect, FailureKind::ModelConnection),
    fails("always breaking the schema", broken, FailureKind::OutputInvalid),
    fails("too long", Reply::context_length_exceeded, FailureKind::ContextWindow),
    fails("filtered", || Reply::content_filter(""), FailureKind::ContentFilter),
    fails("truncated", || Reply::length(""), FailureKind::OutputTokenLimit),
    escalates("no quota", Reply::quota_exceeded, FailureKind::ModelQuota),
    escalates("unpaid", || Reply::error(402, "billing"), FailureKind::ModelQuota),
    escalates("no key", || Reply::error(401, "invalid_api_key"), FailureKind::ModelAuth),
    escalates("no model", || Reply::error(404, "model_not_found"), FailureKind::ModelNotFound),
];

fn broken() -> Reply {
    Reply::final_result(json!({"risk": "high"}))
}

/// Replies as the class says that the prompt begins with.
fn script() -> Script {
    let asked: Mutex<BTreeMap<String, usize>> = Mutex::default();
    Script::function(move |body| {
        let messages = ChatRequest::new(body).messages();
        let first = messages.iter().find(|message| message["role"] == "user").unwrap();
        let prompt = first["content"].as_str().unwrap().to_owned();
        let class = CLASSES.iter().find(|class| prompt.starts_with(&format!("{}:", class.name)));
        let class = class.unwrap();
        let mut asked = asked.lock().unwrap();
        let before = asked.entry(prompt).or_default();
        *before += 1;
        match class.way {
            Way::Once if *before > 1 => good(),
            Way::Once | Way::Fails(..) => (class.reply)(),
        }
    })
}

fn agent(name: &str) -> AgentSpec {
    let mut spec = scripted_agent(name);
    let schema = json!({"type": "object", "properties": {"risk": {"type": "integer"}},
        "required": ["risk"]});
    spec.output = Some(OutputSpec::new(Schema::new(schema).unwrap()));
    spec.model_settings.insert("timeout".to_owned(), json!(1.0));
    let quick = Backoff { min: Duration::from_millis(5), max: Duration::from_millis(20) };
    for kind in [
        FailureKind::ModelRateLimited,
        FailureKind::ModelOverloaded,
        FailureKind::ModelServer,
        FailureKind::ModelConnection,
        FailureKind::ModelTimeout,
    ] {
        spec.policy.insert(kind, PolicyRule { backoff: Some(quick), ..PolicyRule::default() });
    }
    // All agents ask the same model: its breaker holds every run back when some fail for good.
    let patient = PolicyRule { retry: Some(100), ..PolicyRule::default() };
    spec.policy.insert(FailureKind::ModelUnavailable, patient);
    spec
}

fn breaker(failures: u32, open: u64) -> Config {
    let mut config = Config::default();
    config.breaker.failures = NonZeroU32::new(failures).unwrap();
    config.breaker.open = Duration::from_millis(open);
    config.breaker.max_open = Duration::from_millis(open * 4);
    config
}

async fn meet(agent: &AgentHandle, class: &Class, number: usize, store: &MemoryStore) {
    let prompt = format!("{}: {number}", class.name);
    let mut run = agent.run(prompt.as_str()).start().await.unwrap();
    let shown = follow(&mut run).await;
    let stored = store.records(run.id(), 0).await.unwrap();
    let stored: Vec<_> = stored.into_iter().map(|record| record.event).collect();
    for events in [&shown, &stored] {
        assert_eq!(events.iter().filter(|event| event.is_terminal()).count(), 1, "{prompt}");
        assert!(events.last().unwrap().is_terminal(), "{prompt}");
    }
    let ended = run.outcome().await.outcome;
    match (class.way, &ended) {
        (Way::Once, ended) => assert_eq!(output(ended), json!({"risk": 1}), "{prompt}"),
        (Way::Fails(kind, escalates), Outcome::Failed(failed)) => {
            assert_eq!(failed.failure.kind, kind, "{prompt}: {failed:?}");
            assert_eq!(failed.escalated, escalates == Escalates::Yes, "{prompt}: {failed:?}");
        }
        (Way::Fails(..), ended) => panic!("{prompt}: {ended:?}"),
    }
}

#[tokio::test]
async fn whatever_its_model_does_each_run_ends_once_and_as_its_class_says() {
    let model = ScriptedModel::start(script()).await;
    let project = Project::with_model(&model);
    let store = Arc::new(MemoryStore::default());
    let mut builder = project.runtime().store(store.clone()).config(breaker(4, 20));
    for name in AGENTS {
        builder = builder.agent(agent(name));
    }
    let runtime = builder.start().await.unwrap();
    let mut random = Random(5);
    let mut left: Vec<(usize, &Class)> =
        (0..EACH).flat_map(|number| CLASSES.iter().map(move |class| (number, class))).collect();
    let mut meetings = Vec::new();
    while !left.is_empty() {
        let (number, class) = left.swap_remove(random.below(left.len() as u64) as usize);
        let agent = runtime.named(AGENTS[random.below(4) as usize]).unwrap();
        let store = store.clone();
        meetings.push(async move { meet(&agent, class, number, &store).await });
    }
    let met = tokio::time::timeout(PATIENCE, join_all(meetings)).await;
    met.expect("nobody is starved");
    for agent in runtime.agents() {
        let status = agent.status().await.unwrap();
        assert_eq!(status.generation.0, 1, "no model's failure restarts a runner: {status:?}");
        assert_eq!((status.in_flight, status.queued), (0, 0), "{status:?}");
    }
    runtime.shutdown().await;
}

/// An agent whose model is down until it is probed, and then says nothing.
async fn with_an_open_breaker(project: &Project) -> Runtime {
    let down = Failure::new(FailureKind::ModelServer, "it is down");
    let life = Life::default()
        .on(When::prompt("down"), [down.into()])
        .on(When::prompt("probe"), [Step::text("Hm."), Step::Hang])
        .on(When::prompt("stuck probe"), [Step::Freeze])
        .always([Step::complete("fine")]);
    let mut spec = played_agent(project, "agent", life);
    let impatient = PolicyRule { retry: Some(0), ..PolicyRule::default() };
    spec.policy.insert(FailureKind::ModelServer, impatient);
    let runtime = project.runtime().agent(spec).config(breaker(2, 50)).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let mut events = runtime.events();
    for _ in 0..2 {
        let ended = agent.run("down").wait().await.unwrap();
        assert_eq!(failure(&ended.outcome).kind, FailureKind::ModelServer);
    }
    until("the breaker is open", async || {
        let Some(Observed::Event(event)) = events.next().await else { panic!("too many events") };
        matches!(*event, RuntimeEvent::Breaker { state: "open", .. })
    })
    .await;
    runtime
}

async fn assert_serves(agent: &AgentHandle) {
    let ended = agent.run("hello").wait().await.unwrap();
    assert_eq!(output(&ended.outcome), json!("fine"), "{ended:?}");
}

#[tokio::test]
async fn a_probe_that_is_cancelled_holds_nobody_back() {
    let project = Project::new();
    let runtime = with_an_open_breaker(&project).await;
    let agent = runtime.named("agent").unwrap();
    let mut probe = agent.run("probe").start().await.unwrap();
    until("the probe is under way", async || {
        let update = probe.events().next().await;
        matches!(update, Some(axon_runtime::RunUpdate::Event(event)) if event.event.name() == "text_delta")
    })
    .await;
    probe.cancel("no longer wanted");
    assert!(matches!(probe.outcome().await.outcome, Outcome::Cancelled(_)));
    assert_serves(&agent).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_probe_that_its_deadline_ends_holds_nobody_back() {
    let project = Project::new();
    let runtime = with_an_open_breaker(&project).await;
    let agent = runtime.named("agent").unwrap();
    let probe = agent.run("stuck probe").timeout(Duration::from_millis(400)).wait().await.unwrap();
    assert_eq!(failure(&probe.outcome).kind, FailureKind::RunTimeout);
    assert_serves(&agent).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_probe_that_its_budget_refuses_holds_nobody_back() {
    let project = Project::new();
    let runtime = with_an_open_breaker(&project).await;
    let agent = runtime.named("agent").unwrap();
    let nothing = Allowance { requests: Some(0), ..Allowance::default() };
    let probe = agent.run("probe").budget(&runtime.budget(nothing)).wait().await.unwrap();
    assert_eq!(failure(&probe.outcome).kind, FailureKind::UsageLimit);
    assert_serves(&agent).await;
    runtime.shutdown().await;
}
