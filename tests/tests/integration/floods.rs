//! Runners that write more than anybody reads, and what they leave behind that holds their pipes.

use std::time::Duration;

use axon_kernel::ids::Generation;
use axon_kernel::spec::Effect;
use axon_runtime::{Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::json;
use tokio::time::Instant;

use crate::scene::{Told, agent, pid, tooled, up};
use crate::support::{Project, is_alive, kill_9, output};

const TOOLS: &str = r#"
import os, subprocess, threading

MB = 100

def floods() -> str:
    def write(fd):
        block = b"x" * (1 << 20)
        for _ in range(MB):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(fd, rest):]
    writers = [threading.Thread(target=write, args=(fd,)) for fd in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return "flooded"

def chatters() -> str:
    block = b"word\n" * 200_000
    for fd in (1, 2):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(fd, rest):]
    return "chattered"

def leaves_a_child() -> str:
    return str(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)
"#;

const TOOL_NAMES: [&str; 3] = ["floods", "chatters", "leaves_a_child"];

/// How much larger our process may become while its runners write 100 times as much.
const MEMORY: u64 = 64 << 20;

/// The news of a runner's end, which nothing may delay.
const NEWS: Duration = Duration::from_secs(1);

/// Calls the tool that the prompt names, and says what it gave.
fn script() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let prompt = request.user_prompt();
        match prompt.strip_prefix("call ") {
            Some(tool) => match request.tool_return(tool) {
                Some(returned) => Reply::text(returned),
                None => Reply::tool_calls([(tool.to_owned(), json!({}))]),
            },
            None => Reply::text(format!("said {prompt}")),
        }
    })
}

struct Scene {
    _model: ScriptedModel,
    runtime: Runtime,
    told: Told,
    _project: Project,
}

impl Scene {
    async fn new() -> Self {
        let model = ScriptedModel::start(script()).await;
        let project = Project::with_model(&model);
        project.write("loud.py", TOOLS);
        let targets = TOOL_NAMES.map(|name| format!("loud:{name}"));
        let tools = targets.iter().map(|target| (target.as_str(), Effect::Pure));
        let runtime = project.runtime().agent(tooled("loud", tools)).start().await.unwrap();
        let told = Told::by(&runtime);
        Self { _model: model, runtime, told, _project: project }
    }

    async fn ask(&self, prompt: &str) -> String {
        let run = agent(&self.runtime, "loud").run(prompt).wait().await.unwrap();
        output(&run.outcome).as_str().unwrap().to_owned()
    }

    /// Waits for the end of the current runner and returns what is said of it.
    async fn end_of(&mut self, ended: Generation) -> String {
        let is_end = |event: &RuntimeEvent| matches!(event, RuntimeEvent::RunnerEnded { generation, .. } if *generation == ended);
        let RuntimeEvent::RunnerEnded { cause, .. } = self.told.until(is_end).await else {
            unreachable!("only such an event is waited for")
        };
        cause
    }
}

/// Returns the most memory that this process ever had in RAM, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_writes_100_mb_without_a_newline_harms_nothing() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.ask("first").await, "said first");
    let before = (peak(), up(&scene.runtime, "loud", 1).await);
    let others = async {
        for n in 0..20 {
            assert_eq!(scene.ask(&format!("{n}")).await, format!("said {n}"));
        }
    };
    let (flooded, ()) = tokio::join!(scene.ask("call floods"), others);
    assert_eq!(flooded, "flooded");
    let grown = peak() - before.0;
    assert!(grown < MEMORY, "{grown} bytes");
    assert_eq!(pid(&scene.runtime, "loud").await, before.1.pid.unwrap());
    kill_9(before.1.pid.unwrap());
    let cause = scene.end_of(before.1.generation).await;
    assert!(cause.contains("xxx [cut: the line has 104857600 bytes]"), "{cause}");
    assert!(cause.len() < 32 * 1024, "{} bytes", cause.len());
    scene.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_writes_many_lines_harms_nothing() {
    let scene = Scene::new().await;
    let before = pid(&scene.runtime, "loud").await;
    let (chattered, said) = tokio::join!(scene.ask("call chatters"), scene.ask("hello"));
    assert_eq!((chattered.as_str(), said.as_str()), ("chattered", "said hello"));
    assert_eq!(pid(&scene.runtime, "loud").await, before);
    scene.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grandchild_that_holds_the_pipes_delays_nothing() {
    let mut scene = Scene::new().await;
    let child = scene.ask("call leaves_a_child").await.parse().unwrap();
    let before = up(&scene.runtime, "loud", 1).await;
    assert!(is_alive(child));
    let killed = Instant::now();
    kill_9(before.pid.unwrap());
    scene.end_of(before.generation).await;
    assert!(killed.elapsed() < NEWS, "{:?}", killed.elapsed());
    assert_eq!(scene.ask("again").await, "said again");
    let stopped = Instant::now();
    scene.runtime.shutdown().await;
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    if is_alive(child) {
        kill_9(child);
    }
}
