//! Hard deadlines with real Python: what does not stop when it is asked is stopped all the same,
//! and the others in its runner go on elsewhere.

use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::failure::FailureKind;
use axon_kernel::spec::Effect;
use axon_runtime::{Outcome, RunHandle, RunOutcome, Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scene::{Told, agent, conversation, pid, status, tooled, up};
use crate::support::{Project, failure, follow, is_alive, output, until};

const TOOLS: &str = r#"
import asyncio, ctypes, pathlib, time

begun = pathlib.Path("begun")

def blocks_a_thread() -> str:
    begun.touch()
    time.sleep(60)
    return "late"

async def blocks_the_loop() -> str:
    begun.touch()
    time.sleep(60)
    return "late"

def holds_the_lock() -> str:
    begun.touch()
    ctypes.PyDLL(None).sleep(60)
    return "late"

async def cooperates() -> str:
    begun.touch()
    await asyncio.sleep(60)
    return "late"

async def ignores_it() -> str:
    begun.touch()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def cleans_up() -> str:
    begun.touch()
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.3)
        pathlib.Path("cleaned").touch()
    return "late"

async def stalls_once() -> str:
    begun.touch()
    seen = pathlib.Path("stalled")
    if not seen.exists():
        seen.touch()
        time.sleep(60)
    return "went on"
"#;

const TOOL_NAMES: [&str; 7] = [
    "blocks_a_thread",
    "blocks_the_loop",
    "holds_the_lock",
    "cooperates",
    "ignores_it",
    "cleans_up",
    "stalls_once",
];

/// The deadline of the runs that are too late.
const DEADLINE: Duration = Duration::from_secs(2);

/// What a run that is asked to stop may take until it is stopped: its grace, and something for a
/// busy machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);

/// Calls the tool that the prompt names, and answers in text when it has returned. A bystander
/// gets no answer to its first request.
fn script() -> Script {
    let asked = std::sync::atomic::AtomicBool::new(false);
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let prompt = request.user_prompt();
        match prompt.strip_prefix("call ") {
            Some(tool) => match request.tool_return(tool) {
                Some(returned) => Reply::text(returned),
                None => Reply::tool_calls([(tool.to_owned(), json!({}))]),
            },
            None if prompt == "stay" && !asked.swap(true, std::sync::atomic::Ordering::Relaxed) => {
                Reply::hang()
            }
            None => Reply::text(format!("said {prompt}")),
        }
    })
}

struct Scene {
    model: ScriptedModel,
    runtime: Runtime,
    told: Told,
    project: Project,
}

impl Scene {
    async fn new(heartbeat: Duration) -> Self {
        let model = ScriptedModel::start(script()).await;
        let project = Project::with_model(&model);
        project.write("slow.py", TOOLS);
        let targets = TOOL_NAMES.map(|name| format!("slow:{name}"));
        let tools = targets.iter().map(|target| (target.as_str(), Effect::Pure));
        let mut spec = tooled("agent", tools);
        spec.runner.heartbeat = heartbeat;
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        let told = Told::by(&runtime);
        Self { model, runtime, told, project }
    }

    /// Begins a turn of the conversation, and waits until `tool` is in what it does there.
    async fn calling(&self, tool: &str, timeout: Duration) -> RunHandle {
        let begun = self.project.path().join("begun");
        // From the second time on.
        let _old = std::fs::remove_file(&begun);
        let run = agent(&self.runtime, "agent").run(format!("call {tool}"));
        let run = run.conversation(conversation("c")).timeout(timeout).start();
        let run = run.await.unwrap();
        until("the tool has begun", async || begun.exists()).await;
        run
    }

    async fn turn(&self, prompt: &str) -> Value {
        let run = agent(&self.runtime, "agent").run(prompt).conversation(conversation("c"));
        output(&run.wait().await.unwrap().outcome)
    }

    /// Returns what the conversation's user said, as the model was told last.
    fn prompts(&self) -> Vec<String> {
        let last = self.model.requests().pop().unwrap();
        let messages = ChatRequest::new(&last.body).messages();
        let users = messages.iter().filter(|message| message["role"] == "user");
        users.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks that the runner with `pid` was killed for the run, against nobody.
    async fn killed(&mut self, pid: u32, ended: &RunOutcome) {
        assert!(!is_alive(pid), "its process is there when the run has ended");
        let run = ended.run_id.clone();
        self.told
            .until(
                |event| matches!(event, RuntimeEvent::HardStopped { run_id, .. } if *run_id == run),
            )
            .await;
        let after = up(&self.runtime, "agent", 2).await;
        assert_eq!(after.restarts_left, 3, "it counts against nobody");
    }

    async fn end(self) {
        self.runtime.shutdown().await;
        assert_eq!(self.project.sockets().len(), 0);
    }
}

/// Runs into the deadline with `tool`, and then calls it off, each beside an innocent run.
async fn is_stopped_hard(tool: &str) {
    let mut scene = Scene::new(Duration::from_secs(60)).await;
    assert_eq!(scene.turn("first").await, json!("said first"));

    let before = pid(&scene.runtime, "agent").await;
    let bystander = agent(&scene.runtime, "agent").run("stay").start().await.unwrap();
    scene.model.wait_until(|traffic| traffic.open_streams() == 1).await;
    let began = Instant::now();
    let late = scene.calling(tool, DEADLINE).await.outcome().await;
    let took = began.elapsed();
    assert_eq!(failure(&late.outcome).kind, FailureKind::RunTimeout, "{late:?}");
    assert!(took >= DEADLINE && took < DEADLINE + STOPPED_WITHIN, "{took:?}");
    scene.killed(before, &late).await;
    let Outcome::Completed(completed) = bystander.outcome().await.outcome else { panic!() };
    assert_eq!((completed.output.get(), completed.attempts), ("\"said stay\"", 2));
    assert_eq!(scene.turn("second").await, json!("said second"));
    assert_eq!(scene.prompts(), ["first", "second"]);

    let before = pid(&scene.runtime, "agent").await;
    let run = scene.calling(tool, Duration::from_secs(50)).await;
    let began = Instant::now();
    run.cancel("enough");
    let cancelled = run.outcome().await;
    let took = began.elapsed();
    assert!(matches!(&cancelled.outcome, Outcome::Cancelled(end) if end.reason == "enough"));
    assert!(took < STOPPED_WITHIN, "{took:?}");
    scene.killed(before, &cancelled).await;
    assert_eq!(scene.turn("third").await, json!("said third"));
    assert_eq!(scene.prompts(), ["first", "second", "third"]);
    scene.end().await;
}

#[tokio::test]
async fn a_tool_that_blocks_its_thread_is_stopped_with_its_runner() {
    is_stopped_hard("blocks_a_thread").await;
}

#[tokio::test]
async fn a_tool_that_blocks_the_event_loop_is_stopped_with_its_runner() {
    is_stopped_hard("blocks_the_loop").await;
}

#[tokio::test]
async fn a_tool_that_sleeps_in_c_and_holds_the_interpreters_lock_is_stopped_with_its_runner() {
    is_stopped_hard("holds_the_lock").await;
}

#[tokio::test]
async fn a_tool_that_ignores_its_cancel_is_stopped_with_its_runner() {
    is_stopped_hard("ignores_it").await;
}

/// Calls a tool without a model, beside an innocent run.
async fn direct_call_is_stopped_hard(tool: &str) {
    let mut scene = Scene::new(Duration::from_secs(60)).await;
    let before = pid(&scene.runtime, "agent").await;
    let bystander = agent(&scene.runtime, "agent").run("stay").start().await.unwrap();
    scene.model.wait_until(|traffic| traffic.open_streams() == 1).await;
    let target = format!("slow:{tool}").parse().unwrap();
    let began = Instant::now();
    let call = agent(&scene.runtime, "agent").direct_call(&target, json!({}).into());
    let late = call.timeout(DEADLINE).make().await.unwrap_err();
    let took = began.elapsed();
    assert_eq!(late.kind, FailureKind::RunTimeout, "{late:?}");
    assert!(took >= DEADLINE && took < DEADLINE + STOPPED_WITHIN, "{took:?}");
    assert!(!is_alive(before), "its process is there when the call has ended");
    scene.told.until(|event| matches!(event, RuntimeEvent::HardStopped { .. })).await;
    let after = up(&scene.runtime, "agent", 2).await;
    assert_eq!(after.restarts_left, 3, "it counts against nobody");
    let Outcome::Completed(completed) = bystander.outcome().await.outcome else { panic!() };
    assert_eq!((completed.output.get(), completed.attempts), ("\"said stay\"", 2));
    scene.end().await;
}

#[tokio::test]
async fn a_directly_called_tool_in_a_thread_is_stopped_with_its_runner() {
    direct_call_is_stopped_hard("blocks_a_thread").await;
}

#[tokio::test]
async fn a_directly_called_tool_that_blocks_the_loop_is_stopped_with_its_runner() {
    direct_call_is_stopped_hard("blocks_the_loop").await;
}

#[tokio::test]
async fn a_directly_called_tool_that_ignores_its_cancel_is_stopped_with_its_runner() {
    direct_call_is_stopped_hard("ignores_it").await;
}

#[tokio::test]
async fn a_directly_called_tool_that_cooperates_costs_the_runner_nothing() {
    let scene = Scene::new(Duration::from_secs(60)).await;
    let before = pid(&scene.runtime, "agent").await;
    for tool in ["cooperates", "cleans_up"] {
        let target = format!("slow:{tool}").parse().unwrap();
        let call = agent(&scene.runtime, "agent").direct_call(&target, json!({}).into());
        let late = call.timeout(DEADLINE).make().await.unwrap_err();
        assert_eq!(late.kind, FailureKind::RunTimeout, "{late:?}");
    }
    assert!(scene.project.path().join("cleaned").exists());
    assert_eq!(pid(&scene.runtime, "agent").await, before);
    scene.end().await;
}

#[tokio::test]
async fn a_direct_call_that_nobody_waits_for_any_more_is_stopped_too() {
    let mut scene = Scene::new(Duration::from_secs(60)).await;
    let before = pid(&scene.runtime, "agent").await;
    let begun = scene.project.path().join("begun");
    let target = "slow:blocks_a_thread".parse().unwrap();
    let agent = agent(&scene.runtime, "agent");
    let call = agent.direct_call(&target, json!({}).into()).make();
    tokio::select! {
        early = call => panic!("{early:?}"),
        () = until("the tool has begun", async || begun.exists()) => {}
    }
    scene.told.until(|event| matches!(event, RuntimeEvent::HardStopped { .. })).await;
    up(&scene.runtime, "agent", 2).await;
    assert!(!is_alive(before));
    scene.end().await;
}

#[tokio::test]
async fn a_directly_called_tool_has_its_own_time_unless_the_call_says_another() {
    let model = ScriptedModel::start(script()).await;
    let project = Project::with_model(&model);
    project.write("slow.py", TOOLS);
    let mut spec = tooled("agent", [("slow:cooperates", Effect::Pure)]);
    spec.tools[0].timeout = Some(Duration::from_millis(300));
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = agent(&runtime, "agent");
    let target = "slow:cooperates".parse().unwrap();
    let late = agent.call_tool(&target, json!({}).into(), None).await.unwrap_err();
    assert!(late.message.contains("within 0.3 s"), "{late:?}");
    let call = agent.direct_call(&target, json!({}).into()).timeout(Duration::from_millis(400));
    let late = call.make().await.unwrap_err();
    assert!(late.message.contains("within 0.4 s"), "{late:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_tool_that_is_stuck_at_the_command_line_ends_in_its_time() {
    let project = Project::new();
    let file = "model = \"test\"\n[[tools]]\nname = \"blocks\"\n\
                python = \"stuck.tools:blocks_a_thread\"\n";
    for (name, text) in [("agent.toml", file), ("__init__.py", ""), ("tools.py", TOOLS)] {
        project.write(&format!("agents/stuck/{name}"), text);
    }
    let began = Instant::now();
    let arguments = ["tool", "call", "stuck.tools:blocks_a_thread", "--timeout", "2s"];
    let (code, stdout, stderr) = crate::command_line::run(&project, &arguments).await;
    assert_eq!((code, &*stdout), (124, ""), "{stderr}");
    assert!(stderr.contains("gave no result within 2 s"), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_tool_may_clean_up_within_the_grace() {
    let scene = Scene::new(Duration::from_secs(60)).await;
    let before = pid(&scene.runtime, "agent").await;
    let run = scene.calling("cleans_up", Duration::from_secs(50)).await;
    run.cancel("enough");
    assert!(matches!(run.outcome().await.outcome, Outcome::Cancelled(_)));
    assert!(scene.project.path().join("cleaned").exists());
    assert_eq!(pid(&scene.runtime, "agent").await, before);
    scene.end().await;
}

#[tokio::test]
async fn a_tool_that_cooperates_costs_the_runner_nothing() {
    let mut scene = Scene::new(Duration::from_secs(60)).await;
    assert_eq!(scene.turn("first").await, json!("said first"));
    let before = pid(&scene.runtime, "agent").await;
    let late = scene.calling("cooperates", DEADLINE).await.outcome().await;
    assert_eq!(failure(&late.outcome).kind, FailureKind::RunTimeout, "{late:?}");
    let run = scene.calling("cooperates", Duration::from_secs(50)).await;
    run.cancel("enough");
    assert!(matches!(run.outcome().await.outcome, Outcome::Cancelled(_)));
    assert_eq!(scene.turn("second").await, json!("said second"));
    assert_eq!(scene.prompts(), ["first", "second"]);
    let after = status(&scene.runtime, "agent").await;
    assert_eq!((after.pid, after.generation.0), (Some(before), 1));
    let killed = |event: &RuntimeEvent| matches!(event, RuntimeEvent::HardStopped { .. });
    assert!(!scene.told.all().iter().any(killed));
    scene.end().await;
}

#[tokio::test]
async fn a_stuck_runner_is_noticed_by_its_heartbeat_and_its_stacks_are_told() {
    let heartbeat = Duration::from_secs(1);
    let scene = Scene::new(heartbeat).await;
    let before = pid(&scene.runtime, "agent").await;
    let began = Instant::now();
    let mut run = scene.calling("stalls_once", Duration::from_secs(50)).await;
    let seen = follow(&mut run).await;
    let found = seen.iter().find_map(|event| {
        if let RunEvent::AttemptFailed(failed) = event { Some(&failed.failure) } else { None }
    });
    let stuck = found.expect("the first attempt fails");
    assert_eq!(stuck.kind, FailureKind::RunnerDied);
    let stacks = stuck.traceback.as_deref().unwrap_or_default();
    assert!(stacks.contains("stalls_once") && stacks.contains("slow.py"), "{stuck:?}");
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
    assert_eq!((completed.output.get(), completed.attempts), ("\"went on\"", 2));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(scene.model.requests().len(), 2, "it resumed where it was");
    assert!(!is_alive(before));
    let after = up(&scene.runtime, "agent", 2).await;
    assert_eq!(after.generation.0, 2);
    scene.end().await;
}

#[tokio::test]
async fn a_tool_that_is_slow_but_lets_the_loop_run_is_not_stuck() {
    let scene = Scene::new(Duration::from_millis(500)).await;
    let before = pid(&scene.runtime, "agent").await;
    let run = scene.calling("cooperates", DEADLINE).await.outcome().await;
    assert_eq!(failure(&run.outcome).kind, FailureKind::RunTimeout, "{run:?}");
    let run = scene.calling("blocks_a_thread", DEADLINE).await.outcome().await;
    assert_eq!(failure(&run.outcome).kind, FailureKind::RunTimeout, "{run:?}");
    assert!(!is_alive(before), "the thread that blocks is gone");
    assert_eq!(status(&scene.runtime, "agent").await.restarts_left, 3);
    scene.end().await;
}
