//! Runners that do not move any more: how that is seen, and how they are ended.

use std::time::Duration;

use axon_kernel::wire::{AttemptRequest, PermitRequest, RunnerEvent};
use axon_runner::frames::FrameError;
use axon_runner::{AttemptStream, By, LaunchPlan, Runner, StartingRunner, StreamError};
use axon_test::scripted_runner::{Death, Life, OnDump, OnTerm, RunnerScript, Step};
use serde_json::json;
use tempfile::TempDir;

use super::{DEADLINE, READY_WITHIN, SCRIPTED, plan, python_plan, request};

/// A module with tools that stand still, each in its own way.
const TOOLS: &str = r#"
import ctypes, re, time

async def blocks() -> str:
    """Blocks the event loop."""
    time.sleep(600)

async def holds_the_gil() -> str:
    """Never leaves C, and so never lets the interpreter go."""
    re.match(r"(a+)+$", "a" * 60 + "b")

async def sleeps_with_the_gil() -> str:
    """Sleeps in C without letting the interpreter go."""
    while True:
        ctypes.PyDLL(None).usleep(500_000)
"#;

/// A runner that a test may end, and the folder that it needs.
struct Launched {
    runner: Runner,
    _folder: TempDir,
}

async fn launch(plan: LaunchPlan, folder: TempDir) -> Launched {
    let starting = StartingRunner::launch(plan).await.expect("there is such a program");
    let runner = starting.ready(READY_WITHIN).await.expect("the runner becomes ready");
    Launched { runner, _folder: folder }
}

async fn scripted(script: impl Into<RunnerScript>, heartbeat: Duration) -> Launched {
    let folder = tempfile::tempdir().unwrap();
    let command = script.into().command(SCRIPTED, folder.path()).unwrap();
    let mut plan = plan(command, folder.path());
    plan.launch.limits.heartbeat_ms = u64::try_from(heartbeat.as_millis()).unwrap();
    launch(plan, folder).await
}

async fn python_runner(heartbeat: Duration) -> Launched {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stuck.py"), TOOLS).unwrap();
    let mut plan = python_plan(folder.path()).await;
    plan.launch.path = vec![folder.path().display().to_string()];
    let tool = |name| json!({"target": format!("stuck:{name}"), "role": "tool", "effect": "pure"});
    let tools = ["blocks", "holds_the_gil", "sleeps_with_the_gil"].map(tool);
    plan.launch.callables = serde_json::from_value(json!(tools)).unwrap();
    plan.launch.limits.heartbeat_ms = u64::try_from(heartbeat.as_millis()).unwrap();
    launch(plan, folder).await
}

/// A request whose model calls every tool of the spec, and so this one.
fn calls(tool: &str) -> AttemptRequest {
    let tools = [json!({"name": tool, "target": format!("python:stuck:{tool}")})];
    let request = json!({
        "run_id": "stuck", "attempt": 1, "prompt": "Go", "stream": false,
        "spec": {"model": "test", "tools": tools},
    });
    serde_json::from_str(&request.to_string()).unwrap()
}

impl Launched {
    async fn attempt(&self, request: &AttemptRequest) -> AttemptStream {
        self.runner.client().attempt(request, None).await.expect("the attempt is let in")
    }

    /// Follows an attempt to the start of its tool.
    async fn begun(&self, tool: &str) -> AttemptStream {
        let request = calls(tool);
        let mut stream = self.attempt(&request).await;
        while let Some((seq, event)) = stream.next().await.unwrap() {
            if matches!(event, RunnerEvent::Checkpoint(_)) {
                let permit = PermitRequest { attempt: request.attempt, seq };
                self.runner.client().permit(&request.run_id, permit).await.unwrap();
            }
            if matches!(event, RunnerEvent::ToolStarted(_)) {
                return stream;
            }
        }
        panic!("the tool never started")
    }

    /// Asks for stack dumps until one shows `function`.
    async fn dump_in(&self, function: &str) -> String {
        let line = format!(" in {function}\n");
        let shown = async {
            loop {
                let dump = self.runner.stack_dump().await;
                if dump.contains(&line) {
                    return dump;
                }
            }
        };
        tokio::time::timeout(DEADLINE, shown).await.expect("the function stands still")
    }
}

async fn is_silent(mut stream: AttemptStream, heartbeat: Duration) {
    let error = loop {
        let next = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
        match next {
            Ok(event) => assert!(event.is_some(), "the attempt ended"),
            Err(error) => break error,
        }
    };
    let StreamError::Frame(FrameError::Silent { after }) = error else { panic!("{error}") };
    assert_eq!(after, heartbeat);
}

#[tokio::test]
async fn runner_that_stopped_is_seen_after_one_heartbeat() {
    let heartbeat = Duration::from_millis(300);
    let launched = scripted([Step::text("Well"), Death::signal(19).into()], heartbeat).await;
    is_silent(launched.attempt(&request("r", "x")).await, heartbeat).await;
}

#[tokio::test]
async fn runner_that_is_only_slow_is_not_silent() {
    let slow = [Step::SleepMs(900), Step::complete("at last")];
    let launched = scripted(slow, Duration::from_millis(300)).await;
    let mut stream = launched.attempt(&request("r", "x")).await;
    while let Some((_, event)) = stream.next().await.unwrap() {
        assert!(!matches!(event, RunnerEvent::Failed(_)), "{event:?}");
    }
}

#[tokio::test]
async fn python_runner_whose_event_loop_is_blocked_is_seen_after_one_heartbeat() {
    let heartbeat = Duration::from_secs(1);
    let launched = python_runner(heartbeat).await;
    let stream = launched.begun("blocks").await;
    is_silent(stream, heartbeat).await;
}

#[tokio::test]
async fn python_runner_that_stands_still_writes_its_stacks_and_can_be_killed() {
    for tool in ["blocks", "holds_the_gil", "sleeps_with_the_gil"] {
        let launched = python_runner(DEADLINE).await;
        let _stream = launched.begun(tool).await;
        let dump = launched.dump_in(tool).await;
        assert!(dump.contains("stuck.py\", line"), "{tool}: {dump}");
        assert!(dump.contains(" in main\n"), "the whole stack of {tool}: {dump}");
        launched.runner.kill();
        let exit = launched.runner.exited().await;
        assert_eq!((exit.signal, exit.by), (Some(9), By::Us));
        let words = exit.last_words.join("\n");
        assert!(!words.contains("most recent call first"), "{words}");
    }
}

#[tokio::test]
async fn python_runner_that_holds_its_interpreter_is_killed_after_the_grace() {
    let launched = python_runner(DEADLINE).await;
    let _stream = launched.begun("holds_the_gil").await;
    let exit = launched.runner.stop(Duration::from_millis(200)).await;
    assert_eq!((exit.signal, exit.by), (Some(9), By::Us));
}

#[tokio::test]
async fn stack_dumps_come_one_after_the_other_and_harm_nothing() {
    let life = Life { on_term: OnTerm::Ignore, ..Life::from([Step::complete("fine")]) };
    let launched = scripted(life, DEADLINE).await;
    let runner = &launched.runner;
    let dumps = futures_util::future::join(runner.stack_dump(), runner.stack_dump()).await;
    assert!(dumps.0.contains("in scripted"), "{}", dumps.0);
    assert_eq!(dumps.0, dumps.1);
    assert!(runner.client().health().await.unwrap().ok);
    let exit = runner.stop(Duration::from_millis(50)).await;
    assert_eq!((exit.signal, exit.by, exit.last_words), (Some(9), By::Us, Vec::new()));
    assert_eq!(runner.stack_dump().await, "", "it is gone, and nobody is signalled");
}

#[tokio::test]
async fn program_without_a_stack_dump_gives_none() {
    let ignores = Life { on_dump: OnDump::Ignore, ..Life::default() };
    let launched = scripted(ignores, DEADLINE).await;
    assert_eq!(launched.runner.stack_dump().await, "");
    assert!(launched.runner.client().health().await.unwrap().ok);
    let dies = scripted(Life { on_dump: OnDump::Die, ..Life::default() }, DEADLINE).await;
    assert_eq!(dies.runner.stack_dump().await, "");
    let exit = dies.runner.exited().await;
    assert_eq!((exit.signal, exit.by), (Some(10), By::Us));
}

#[tokio::test]
async fn stopped_runner_gives_no_stacks_and_ends_all_the_same() {
    let launched = scripted([Step::text("Well"), Death::signal(19).into()], DEADLINE).await;
    let mut stream = launched.attempt(&request("r", "x")).await;
    stream.next().await.unwrap();
    stream.next().await.unwrap();
    assert_eq!(launched.runner.stack_dump().await, "");
    let exit = launched.runner.stop(Duration::from_millis(50)).await;
    assert_eq!((exit.signal, exit.by), (Some(9), By::Us));
}

#[tokio::test]
async fn end_that_nobody_asked_for_is_told_from_one_that_was() {
    for death in [Death::signal(9), Death::signal(15), Death::code(3)] {
        let launched = scripted([death.clone().into()], DEADLINE).await;
        let _stream = launched.attempt(&request("r", "x")).await;
        assert_eq!(launched.runner.exited().await.by, By::Itself, "{death:?}");
        let exit = launched.runner.stop(DEADLINE).await;
        assert_eq!(exit.by, By::Itself, "it had ended already: {death:?}");
    }
    let launched = scripted(Life::default(), DEADLINE).await;
    let exit = launched.runner.stop(DEADLINE).await;
    assert_eq!((exit.code, exit.by), (Some(0), By::Us));
}
