//! Conversations: one turn at a time, in order, and only what succeeded is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{Effect, WhenBusy};
use axon_runtime::{AgentHandle, Outcome, Refusal, RunHandle, Runtime, SteerError};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::Step;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

use crate::scene::{Played, agent, conversation, pid, shows, tooled, up};
use crate::support::{Project, failure, follow, kill_9, names, output, until};

const TOOLS: &str = r#"
import asyncio, pathlib

async def waits() -> str:
    pathlib.Path("waiting").touch()
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return "went"
"#;

/// Answers each prompt with itself. To `fail` it says nothing good, to `hang` nothing at all, and
/// to `wait` it calls a tool first.
fn echo() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let prompt = request.user_prompt();
        let waited = || body.to_string().contains("went");
        match prompt.as_str() {
            "fail" => Reply::error(400, "invalid_request"),
            "hang" => Reply::text("never to be heard").hang_after(2),
            "wait" if !waited() => Reply::tool_calls([("waits", json!({}))]),
            other => Reply::text(format!("echo {other}")).delay(Duration::from_millis(5)),
        }
    })
}

struct Scene {
    model: ScriptedModel,
    project: Project,
    runtime: Runtime,
}

impl Scene {
    async fn new() -> Self {
        Self::playing(echo()).await
    }

    async fn playing(script: Script) -> Self {
        let model = ScriptedModel::start(script).await;
        let project = Project::with_model(&model);
        project.write("tools.py", TOOLS);
        let spec = tooled("agent", [("tools:waits", Effect::Pure)]);
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        Self { model, project, runtime }
    }

    fn agent(&self) -> AgentHandle {
        agent(&self.runtime, "agent")
    }

    async fn turn(&self, prompt: &str) -> RunHandle {
        self.agent().run(prompt).conversation(conversation("c")).start().await.unwrap()
    }

    /// Begins a turn, and waits until it is within its tool.
    async fn waiting(&self) -> RunHandle {
        let mut run = self.turn("wait").await;
        shows(&mut run, "tool_called").await;
        let waiting = self.project.path().join("waiting");
        until("the tool waits", async || waiting.exists()).await;
        std::fs::remove_file(waiting).unwrap();
        run
    }

    fn go(&self) {
        self.project.write("go", "");
    }

    /// Returns the texts of the last request, whoever said them.
    fn told(&self) -> Vec<String> {
        texts(&self.model.requests().pop().unwrap().body)
    }
}

fn texts(body: &Value) -> Vec<String> {
    let said = ChatRequest::new(body).messages().iter();
    said.filter_map(|message| message["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn parallel_turns_come_in_order_and_each_sees_those_before_it() {
    let scene = Scene::new().await;
    let mut runs = Vec::new();
    for prompt in ["a", "b", "c", "d"] {
        runs.push(scene.turn(prompt).await);
    }
    for (run, prompt) in runs.iter().zip(["a", "b", "c", "d"]) {
        assert_eq!(output(&run.outcome().await.outcome), json!(format!("echo {prompt}")));
    }
    let requests = scene.model.requests();
    let seen: Vec<Vec<String>> = requests.iter().map(|request| texts(&request.body)).collect();
    let all = ["a", "echo a", "b", "echo b", "c", "echo c", "d"];
    assert_eq!(seen, [&all[..1], &all[..3], &all[..5], &all[..]]);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn conversations_do_not_wait_for_each_other() {
    let scene = Scene::new().await;
    let hanging = scene.turn("hang").await;
    let other = scene.agent().run("a").conversation(conversation("other"));
    assert_eq!(output(&other.wait().await.unwrap().outcome), json!("echo a"));
    hanging.cancel("enough");
    assert!(matches!(hanging.outcome().await.outcome, Outcome::Cancelled(_)));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn failed_cancelled_and_late_turns_leave_no_trace_and_the_line_moves_on() {
    let scene = Scene::new().await;
    let first = scene.turn("a").await;
    let failing = scene.turn("fail").await;
    let mut hanging = scene.turn("hang").await;
    let given_up = scene.turn("b").await;
    let late = scene.agent().run("c").conversation(conversation("c"));
    let late = late.timeout(Duration::from_millis(100)).start().await.unwrap();
    let last = scene.turn("d").await;
    given_up.cancel("changed my mind");
    assert!(matches!(given_up.outcome().await.outcome, Outcome::Cancelled(_)));
    let rejected = late.outcome().await.outcome;
    assert!(matches!(&rejected, Outcome::Rejected(_)), "{rejected:?}");
    shows(&mut hanging, "text_delta").await;
    hanging.cancel("enough");
    assert!(matches!(hanging.outcome().await.outcome, Outcome::Cancelled(_)));
    assert_eq!(output(&first.outcome().await.outcome), json!("echo a"));
    assert_eq!(failure(&failing.outcome().await.outcome).kind, FailureKind::ModelRejected);
    assert_eq!(output(&last.outcome().await.outcome), json!("echo d"));
    assert_eq!(scene.told(), ["a", "echo a", "d"]);
    assert_eq!(scene.model.requests().len(), 4, "who gave up or came late asked nothing");
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn the_turn_after_one_that_was_cancelled_within_its_tool_is_valid_for_the_provider() {
    let scene = Scene::new().await;
    let run = scene.waiting().await;
    run.cancel("enough");
    assert!(matches!(run.outcome().await.outcome, Outcome::Cancelled(_)));
    let next = scene.turn("a").await;
    assert_eq!(output(&next.outcome().await.outcome), json!("echo a"));
    assert_eq!(scene.told(), ["a"]);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_turn_that_does_not_want_to_wait_is_refused() {
    let scene = Scene::new().await;
    let run = scene.waiting().await;
    let rejecting = || {
        let next = scene.agent().run("b").conversation(conversation("c"));
        next.when_busy(WhenBusy::Reject)
    };
    let refused = rejecting().start().await.unwrap_err();
    assert!(
        matches!(&refused, Refusal::ConversationBusy { conversation, by: None } if conversation.as_str() == "c")
    );
    assert_eq!(refused.code(), "conversation_busy");
    scene.go();
    assert_eq!(output(&run.outcome().await.outcome), json!("echo wait"));
    until("the conversation is free", async || rejecting().start().await.is_ok()).await;
    scene.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_turns_that_do_not_want_to_wait_and_come_at_once_one_is_taken() {
    let project = Project::new();
    let played = Played::new(&project, "played", [Step::Hang]).with(|spec| {
        spec.limits.concurrency = 10_000.try_into().unwrap();
        spec.conversation.when_busy = WhenBusy::Reject;
    });
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let start = Arc::new(tokio::sync::Barrier::new(4));
    for round in 0..200 {
        let racing = (0..4).map(|_| {
            let (agent, start) = (agent(&runtime, "played"), start.clone());
            let turn = agent.run("hello").conversation(conversation(&format!("c{round}")));
            tokio::spawn(async move {
                start.wait().await;
                turn.start().await
            })
        });
        let raced = futures_util::future::join_all(racing).await;
        let taken = raced.into_iter().filter_map(|turn| turn.unwrap().ok()).collect::<Vec<_>>();
        assert_eq!(taken.len(), 1, "round {round}");
        taken[0].cancel("enough");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_message_goes_into_the_live_run_and_its_model_sees_it_with_the_next_request() {
    let scene = Scene::new().await;
    let mut run = scene.waiting().await;
    let steering = scene.agent().run("and this").conversation(conversation("c"));
    let steered = steering.when_busy(WhenBusy::Steer).start().await.unwrap();
    assert!(steered.is_steered() && !run.is_steered());
    assert_eq!(steered.id(), run.id());
    run.steer("and that").await.unwrap();
    scene.go();
    let seen = names(&follow(&mut run).await);
    assert_eq!(seen.iter().filter(|name| **name == "steered").count(), 2, "{seen:?}");
    assert!(matches!(steered.outcome().await.outcome, Outcome::Completed(_)));
    let told = scene.told();
    assert_eq!(told, ["wait", "went", "and this", "and that"]);
    assert_eq!(scene.model.requests().len(), 2);

    let over = run.steer("too late").await.unwrap_err();
    assert_eq!(over, SteerError::Over);
    let next = scene.agent().run("b").conversation(conversation("c"));
    let next = next.when_busy(WhenBusy::Steer).start().await.unwrap();
    assert!(!next.is_steered(), "nothing is under way: it is a turn of its own");
    assert!(matches!(next.outcome().await.outcome, Outcome::Completed(_)));
    let told = scene.told();
    assert_eq!((told.len(), told.last().unwrap().as_str()), (6, "b"), "{told:?}");
    assert_eq!(told[..4], ["wait", "went", "and this", "and that"]);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_message_outlives_a_runner_that_dies_before_its_model_saw_it() {
    let scene = Scene::new().await;
    let run = scene.waiting().await;
    run.steer("and this").await.unwrap();
    kill_9(pid(&scene.runtime, "agent").await);
    up(&scene.runtime, "agent", 2).await;
    scene.go();
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
    assert_eq!(completed.attempts, 2);
    assert_eq!(scene.told(), ["wait", "went", "and this"]);
    assert_eq!(scene.model.requests().len(), 2);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_message_that_is_recorded_is_not_told_again_by_the_next_attempt() {
    let requests = AtomicUsize::new(0);
    let script = Script::function(move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Reply::tool_calls([("waits", json!({}))]),
        2 => Reply::error(503, "unavailable"),
        _ => Reply::text("done"),
    });
    let scene = Scene::playing(script).await;
    let run = scene.waiting().await;
    run.steer("and this").await.unwrap();
    scene.go();
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
    assert_eq!(completed.attempts, 2);
    let told = scene.told();
    assert_eq!(told.iter().filter(|text| *text == "and this").count(), 1, "{told:?}");
    scene.runtime.shutdown().await;
}
