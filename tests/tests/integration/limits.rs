//! What the kernel lets a runner's process have, and what becomes of one that wants more.

use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, ByteSize, Effect, LauncherMode};
use axon_runtime::{AgentHandle, AgentState, RuntimeEvent};
use axon_test::ScriptedModel;
use serde_json::{Value, json};

use crate::scene::{Told, status, up};
use crate::support::{Project, python_tool, scripted_agent};

const GREEDY: &str = "
import os, resource, time

def memory(mib: int) -> int:
    return len(bytearray(mib << 20))

def processor() -> None:
    while True:
        sum(range(1_000_000))

def files(count: int) -> int:
    kept = []
    try:
        for _ in range(count):
            kept.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for fd in kept:
            os.close(fd)
    return len(kept)

def variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS')}
";

fn greedy(mode: LauncherMode) -> AgentSpec {
    let mut spec = scripted_agent("agent");
    for name in ["memory", "processor", "files", "variables"] {
        spec.tools.push(python_tool(name, &format!("greedy:{name}"), Effect::Pure));
    }
    spec.runner.launcher = mode;
    spec.runner.limits.memory = Some(ByteSize::from_bytes(1 << 30));
    spec.runner.limits.open_files = Some(256);
    spec.runner.limits.cpu_time = Some(Duration::from_secs(20));
    spec
}

async fn call(agent: &AgentHandle, tool: &str, args: Value) -> Result<Value, String> {
    let target = format!("greedy:{tool}").parse().unwrap();
    let answer = agent.call_tool(&target, args.into(), None).await;
    answer
        .map(|value| value.decode().unwrap())
        .map_err(|failure| format!("{}: {}", failure.class, failure.message))
}

#[tokio::test]
async fn memory_and_files_beyond_the_limit_are_refused_and_the_runner_lives() {
    let model = ScriptedModel::start(axon_test::Reply::text("fine")).await;
    let project = Project::with_model(&model);
    project.write("greedy.py", GREEDY);
    for mode in [LauncherMode::Warm, LauncherMode::Cold] {
        let runtime = project.runtime().agent(greedy(mode)).start().await.unwrap();
        let agent = runtime.named("agent").unwrap();
        assert_eq!(call(&agent, "memory", json!({"mib": 200})).await, Ok(json!(200 << 20)));
        let refused = call(&agent, "memory", json!({"mib": 2000})).await.unwrap_err();
        assert!(refused.starts_with("MemoryError"), "{refused}");
        assert_eq!(call(&agent, "files", json!({"count": 100})).await, Ok(json!(100)));
        let refused = call(&agent, "files", json!({"count": 400})).await.unwrap_err();
        assert!(refused.contains("Too many open files"), "{refused}");
        let single = json!({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"});
        assert_eq!(call(&agent, "variables", json!({})).await, Ok(single));
        let now = status(&runtime, "agent").await;
        assert_eq!((now.state, now.generation.0), (AgentState::Up, 1), "{mode:?}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_runner_that_has_used_up_its_processor_time_ends_and_the_failure_says_so() {
    let model = ScriptedModel::start(axon_test::Reply::text("fine")).await;
    let project = Project::with_model(&model);
    project.write("greedy.py", GREEDY);
    let mut spec = greedy(LauncherMode::Cold);
    // Cold: what the launcher has used for its imports does not count for a runner, either way.
    spec.runner.limits.cpu_time = Some(Duration::from_secs(5));
    spec.limits.timeout = Duration::from_secs(60);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let mut told = Told::by(&runtime);
    let target = "greedy:processor".parse().unwrap();
    let failure = agent.call_tool(&target, json!({}).into(), None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RunnerDied);
    let ended =
        told.until(|event| matches!(event, RuntimeEvent::RunnerEnded { counted: true, .. })).await;
    assert!(format!("{ended:?}").contains("SIGXCPU"), "{ended:?}");
    up(&runtime, "agent", 2).await;
    assert_eq!(call(&agent, "files", json!({"count": 1})).await, Ok(json!(1)));
    runtime.shutdown().await;
}
