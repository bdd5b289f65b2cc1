//! Budgets that runs share, rate limits and admission: what the provider really gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::config::Config;
use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, Effect, FileText};
use axon_runtime::{AgentHandle, Budget, Outcome, Refusal, RunOutcome, Runtime};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::scene::{agent, pid, shows, tooled, up};
use crate::support::{Project, failure, kill_9, output};

const TOOLS: &str = r#"
import os, pathlib

def note() -> str:
    with open("noted", "a") as noted:
        noted.write("x")
    return "noted"

def dies_once() -> str:
    seen = pathlib.Path("died")
    if not seen.exists():
        seen.touch()
        os.kill(os.getpid(), 9)
    return note()
"#;

/// Calls `tool` until it has returned `steps` times, and then answers in text.
fn in_steps(tool: &'static str, steps: usize) -> Script {
    Script::function(move |body| {
        let messages = ChatRequest::new(body).messages();
        let returned = messages.iter().filter(|message| message["role"] == "tool").count();
        if returned < steps {
            Reply::tool_calls([(tool, serde_json::json!({}))])
        } else {
            Reply::text("done")
        }
    })
}

struct Scene {
    model: ScriptedModel,
    project: Project,
    runtime: Runtime,
}

impl Scene {
    async fn new(script: impl Into<Script>) -> Self {
        Self::with(script, "", |_| ()).await
    }

    async fn with(
        script: impl Into<Script>,
        settings: &str,
        change: impl FnOnce(&mut AgentSpec),
    ) -> Self {
        let model = ScriptedModel::start(script).await;
        let project = Project::with_model(&model);
        project.write("tools.py", TOOLS);
        let tools = [("tools:note", Effect::Once), ("tools:dies_once", Effect::Pure)];
        let mut spec = tooled("agent", tools);
        change(&mut spec);
        let file = FileText { path: "axon.toml", text: settings };
        let config = Config::from_toml(file, &|_| None).unwrap();
        let runtime = project.runtime().config(config).agent(spec).start().await.unwrap();
        Self { model, project, runtime }
    }

    fn agent(&self) -> AgentHandle {
        agent(&self.runtime, "agent")
    }

    /// Runs so many children side by side under one budget, and returns how many completed; the
    /// others have run into a limit.
    async fn children(&self, count: usize, budget: &Budget) -> usize {
        let agent = self.agent();
        let runs = (0..count).map(|_| agent.run("hello").budget(budget).wait());
        let ended = join_all(runs).await.into_iter().map(Result::unwrap);
        ended.filter(completed_or_limited).count()
    }

    fn asked(&self) -> usize {
        self.model.requests().len()
    }

    fn noted(&self) -> usize {
        let noted = std::fs::read_to_string(self.project.path().join("noted"));
        noted.unwrap_or_default().len()
    }
}

fn completed_or_limited(ended: &RunOutcome) -> bool {
    if let Outcome::Completed(_) = &ended.outcome {
        return true;
    }
    assert_eq!(failure(&ended.outcome).kind, FailureKind::UsageLimit, "{ended:?}");
    false
}

fn requests(count: u64) -> Allowance {
    Allowance { requests: Some(count), ..Allowance::default() }
}

#[tokio::test]
async fn eight_children_under_one_budget_of_five_requests_spend_five() {
    let scene = Scene::new(Reply::text("done").delay(Duration::from_millis(20))).await;
    let budget = scene.runtime.budget(requests(5));
    assert_eq!(scene.children(8, &budget).await, 5);
    assert_eq!(scene.asked(), 5);
    assert_eq!(budget.remaining().requests, Some(0));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn requests_in_the_middle_of_runs_are_counted_as_exactly() {
    let scene = Scene::new(in_steps("note", 2)).await;
    let budget = scene.runtime.budget(requests(13));
    let completed = scene.children(8, &budget).await;
    assert_eq!(scene.asked(), 13);
    assert!(completed <= 4, "three requests each: {completed}");
    assert_eq!(budget.remaining().requests, Some(0));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn tool_calls_of_children_are_counted_exactly() {
    let scene = Scene::new(in_steps("note", 1)).await;
    let allowance = Allowance { tool_calls: Some(5), ..Allowance::default() };
    let budget = scene.runtime.budget(allowance);
    assert_eq!(scene.children(8, &budget).await, 5);
    assert_eq!((scene.noted(), budget.remaining().tool_calls), (5, Some(0)));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn tokens_overshoot_by_one_response_of_each_child_at_most() {
    // Each response costs 120 tokens.
    let allowance = Allowance { total_tokens: Some(250), ..Allowance::default() };
    let scene = Scene::new(in_steps("note", 10)).await;
    let alone = scene.runtime.budget(allowance);
    assert_eq!(scene.children(1, &alone).await, 0);
    assert_eq!(scene.asked(), 3);
    assert_eq!(alone.remaining().total_tokens, Some(0));
    let together = scene.runtime.budget(allowance);
    assert_eq!(scene.children(4, &together).await, 0);
    let asked = scene.asked() - 3;
    assert!((3..=2 + 4).contains(&asked), "{asked}");
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_budget_of_time_ends_its_runs_and_lets_no_other_begin() {
    let scene = Scene::new(Reply::hang()).await;
    let wall = Some(Duration::from_millis(600));
    let budget = scene.runtime.budget(Allowance { wall, ..Allowance::default() });
    let agent = scene.agent();
    let began = Instant::now();
    let late = agent.run("hello").budget(&budget).wait().await.unwrap();
    assert_eq!(failure(&late.outcome).kind, FailureKind::RunTimeout, "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let longer =
        budget.child(Allowance { wall: Some(Duration::from_secs(60)), ..Allowance::default() });
    assert_eq!(longer.remaining().wall, Some(Duration::ZERO), "a child's time is its parent's");
    let none = agent.run("hello").budget(&longer).wait().await.unwrap();
    assert_eq!(failure(&none.outcome).kind, FailureKind::RunTimeout, "{none:?}");
    assert_eq!(scene.asked(), 1);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_child_never_has_more_than_its_parent_and_all_of_them_no_more_than_the_process() {
    let settings = "[budget]\nrequests = 6";
    let scene = Scene::with(Reply::text("done"), settings, |_| ()).await;
    let parent = scene.runtime.budget(requests(4));
    let child = parent.child(requests(50));
    assert_eq!(child.remaining().requests, Some(4));
    assert_eq!(scene.children(2, &parent).await, 2);
    assert_eq!(child.remaining().requests, Some(2));
    assert_eq!(scene.children(4, &child).await, 2);
    assert_eq!((parent.remaining().requests, scene.asked()), (Some(0), 4));
    // Two are left to whoever has no budget of its own.
    let other = scene.runtime.budget(requests(50));
    assert_eq!(other.remaining().requests, Some(2));
    assert_eq!(scene.children(4, &other).await, 2);
    let refused = scene.agent().run("hello").wait().await.unwrap();
    assert_eq!(failure(&refused.outcome).kind, FailureKind::UsageLimit);
    assert!(failure(&refused.outcome).message.contains("all runs together"), "{refused:?}");
    assert_eq!(scene.asked(), 6);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_crash_pays_the_request_in_flight_twice_and_nothing_else() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let script = Script::function(move |body| {
        let returned = ChatRequest::new(body).tool_return("note").is_some();
        match returned {
            false => Reply::tool_calls([("note", serde_json::json!({}))]),
            true if first.swap(false, std::sync::atomic::Ordering::Relaxed) => {
                Reply::text("never").hang_after(1)
            }
            true => Reply::text("done"),
        }
    });
    let scene = Scene::new(script).await;
    let allowance = Allowance { tool_calls: Some(10), ..requests(10) };
    let budget = scene.runtime.budget(allowance);
    let mut run = scene.agent().run("hello").budget(&budget).start().await.unwrap();
    shows(&mut run, "text_delta").await;
    kill_9(pid(&scene.runtime, "agent").await);
    assert_eq!(output(&run.outcome().await.outcome), serde_json::json!("done"));
    assert_eq!((scene.asked(), scene.noted()), (3, 1));
    let left = budget.remaining();
    assert_eq!((left.requests, left.tool_calls), (Some(7), Some(9)));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_crash_within_a_tool_pays_neither_the_call_nor_its_request_again() {
    let scene = Scene::new(in_steps("dies_once", 1)).await;
    let allowance = Allowance { tool_calls: Some(10), ..requests(10) };
    let budget = scene.runtime.budget(allowance);
    let ended = scene.agent().run("hello").budget(&budget).wait().await.unwrap();
    let Outcome::Completed(completed) = ended.outcome else { panic!("{ended:?}") };
    assert_eq!((completed.attempts, scene.asked(), scene.noted()), (2, 2, 1));
    let left = budget.remaining();
    assert_eq!((left.requests, left.tool_calls), (Some(8), Some(9)));
    scene.runtime.shutdown().await;
}

/// Notes when each request arrives.
fn timed(
    script: impl Fn(&serde_json::Value) -> Reply + Send + Sync + 'static,
) -> (Script, Arc<Mutex<Vec<Instant>>>) {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let arrivals = arrived.clone();
    let script = Script::function(move |body| {
        arrivals.lock().unwrap().push(Instant::now());
        script(body)
    });
    (script, arrived)
}

#[tokio::test]
async fn requests_are_spaced_as_the_rate_limit_says() {
    let (script, arrived) = timed(|_| Reply::text("done"));
    let settings = "[rate_limits.\"openai:scripted\"]\nrequests = 2\nwithin = '1s'";
    let scene = Scene::with(script, settings, |_| ()).await;
    let agent = scene.agent();
    let ended = join_all((0..6).map(|_| agent.run("hello").wait())).await;
    assert!(ended.iter().all(|run| matches!(run.as_ref().unwrap().outcome, Outcome::Completed(_))));
    let arrived = arrived.lock().unwrap().clone();
    assert_eq!(arrived.len(), 6);
    let (burst, period) = (2, Duration::from_millis(500));
    // A request takes its time from us to the model; the first one may take a little longer.
    let slack = Duration::from_millis(250);
    for (index, at) in arrived.iter().enumerate().skip(burst) {
        let after = at.duration_since(arrived[0]);
        let due = period * u32::try_from(index + 1 - burst).unwrap();
        assert!(after + slack >= due, "request {index} came after {after:?}, not {due:?}");
    }
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn waiting_for_a_rate_limit_is_not_stuck() {
    let settings = "[rate_limits.openai]\nrequests = 1\nwithin = '1s'";
    let scene = Scene::with(in_steps("note", 2), settings, |spec| {
        spec.runner.heartbeat = Duration::from_millis(300);
    });
    let scene = scene.await;
    let began = Instant::now();
    let ended = scene.agent().run("hello").wait().await.unwrap();
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!((completed.attempts, scene.asked()), (1, 3));
    assert_eq!(up(&scene.runtime, "agent", 1).await.generation.0, 1);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_a_rate_limit_held_back_beyond_its_deadline_says_so_and_asks_nothing() {
    let settings = "[rate_limits.openai]\nrequests = 1\nwithin = '10m'";
    let scene = Scene::with(Reply::text("done"), settings, |_| ()).await;
    let agent = scene.agent();
    assert!(matches!(agent.run("hello").wait().await.unwrap().outcome, Outcome::Completed(_)));
    let held = agent.run("hello").timeout(Duration::from_millis(300)).wait().await.unwrap();
    let failure = failure(&held.outcome);
    assert_eq!(failure.kind, FailureKind::RunTimeout);
    assert!(failure.message.contains("rate limit"), "{failure}");
    assert_eq!(scene.asked(), 1);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back_and_a_run_that_waited_too_long_never_executes() {
    let scene = Scene::with(Reply::hang(), "", |spec| {
        spec.limits.concurrency = 1.try_into().unwrap();
        spec.limits.queue = 1;
    });
    let scene = scene.await;
    let agent = scene.agent();
    let first = agent.run("one").start().await.unwrap();
    scene.model.wait_until(|traffic| traffic.requests().len() == 1).await;
    let second = agent.run("two").timeout(Duration::from_millis(200)).start().await.unwrap();
    let refused = agent.run("three").start().await.unwrap_err();
    assert_eq!(refused.code(), "overloaded");
    assert!(matches!(&refused, Refusal::Overloaded { retry_after, .. } if !retry_after.is_zero()));
    let told = refused.into_failure();
    assert!(told.kind == FailureKind::Busy && told.retry_after.is_some(), "{told:?}");
    assert!(matches!(second.outcome().await.outcome, Outcome::Rejected(_)));
    first.cancel("enough");
    assert!(matches!(first.outcome().await.outcome, Outcome::Cancelled(_)));
    let third = agent.run("three").start().await.unwrap();
    scene.model.wait_until(|traffic| traffic.requests().len() == 2).await;
    let prompts = scene.model.requests();
    let prompts = prompts.iter().map(|request| ChatRequest::new(&request.body).user_prompt());
    assert_eq!(prompts.collect::<Vec<_>>(), ["one", "three"]);
    third.cancel("enough");
    scene.runtime.shutdown().await;
}
