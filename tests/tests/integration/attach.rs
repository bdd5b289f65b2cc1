//! Agents whose runner somebody else has started, with `axon runner`, and only they may end.

use std::process::Stdio;
use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, Effect, RunnerProgram};
use axon_runtime::{AgentState, Outcome, Runtime};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::command_line;
use crate::scene::{agent, shows, status, tooled, up};
use crate::support::{PATIENCE, Project, failure, follow, is_alive, kill_9, names, output, until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const TOOLS: &str = r#"
import pathlib, time

def double(number: int) -> int:
    return 2 * number

def blocks_a_thread() -> str:
    pathlib.Path("begun").touch()
    time.sleep(60)
    return "late"
"#;

const FILE: &str = r#"
model = "openai-chat:scripted"
[[tools]]
name = "double"
python = "talker.tools:double"
effect = "pure"
[[tools]]
name = "blocks_a_thread"
python = "talker.tools:blocks_a_thread"
effect = "pure"
"#;

/// Calls the tool that the prompt names; the first request of a prompt that says so is not answered.
fn script() -> Script {
    let asked = std::sync::atomic::AtomicBool::new(false);
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let prompt = request.user_prompt();
        if prompt == "stay" && !asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Reply::text("one two three four").chunks(4).hang_after(2);
        }
        let Some(tool) = prompt.strip_prefix("call ") else {
            return Reply::text(format!("said {prompt}"));
        };
        match request.tool_return(tool) {
            Some(returned) => Reply::text(returned),
            None if tool == "double" => {
                Reply::tool_calls([(tool.to_owned(), json!({"number": 21}))])
            }
            None => Reply::tool_calls([(tool.to_owned(), json!({}))]),
        }
    })
}

/// A runner that this process has not started.
struct Elsewhere {
    command: Child,
    port: u16,
    pid: u32,
}

impl Elsewhere {
    async fn start(project: &Project, port: u16) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let mut command = command_line::axon(
            project,
            &["runner", "talker", "--listen", &listen, "--token-env", "TALKER_TOKEN"],
        );
        let mut command = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("it says where it is");
        let number = |before: &str, after: char| {
            let rest = line.split_once(before).expect(&line).1;
            rest.split(after).next().unwrap().parse::<u32>().expect(&line)
        };
        let (port, pid) = (number("http://127.0.0.1:", ' '), number("(pid ", ')'));
        Self { command, port: u16::try_from(port).unwrap(), pid }
    }

    async fn ended(mut self) -> i32 {
        let status = tokio::time::timeout(PATIENCE, self.command.wait()).await.unwrap().unwrap();
        status.code().unwrap_or(-1)
    }
}

struct Scene {
    model: ScriptedModel,
    project: Project,
}

impl Scene {
    async fn new() -> Self {
        let model = ScriptedModel::start(script()).await;
        let mut project = Project::with_model(&model);
        project.set("TALKER_TOKEN", TOKEN);
        project.write("agents/talker/agent.toml", FILE);
        project.write("agents/talker/__init__.py", "");
        project.write("agents/talker/tools.py", TOOLS);
        Self { model, project }
    }

    /// Returns the agent as the service defines that attaches.
    fn spec(port: u16) -> AgentSpec {
        let targets = ["talker.tools:double", "talker.tools:blocks_a_thread"];
        let mut spec = tooled("talker", targets.map(|target| (target, Effect::Pure)));
        spec.runner.program = RunnerProgram::Url(format!("http://127.0.0.1:{port}"));
        spec.runner.token_env = Some("TALKER_TOKEN".parse().unwrap());
        spec.supervision.backoff.min = Duration::from_millis(10);
        spec.supervision.backoff.max = Duration::from_millis(100);
        spec
    }

    async fn runtime(&self, spec: AgentSpec) -> Runtime {
        self.project.runtime().agent(spec).start().await.unwrap()
    }
}

async fn ask(runtime: &Runtime, prompt: &str) -> serde_json::Value {
    output(&agent(runtime, "talker").run(prompt).wait().await.unwrap().outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_uses_a_runner_that_somebody_else_has_started_and_leaves_it_running() {
    let scene = Scene::new().await;
    let elsewhere = Elsewhere::start(&scene.project, 0).await;
    let runtime = scene.runtime(Scene::spec(elsewhere.port)).await;
    assert_eq!(ask(&runtime, "hello").await, json!("said hello"));
    assert_eq!(ask(&runtime, "call double").await, json!("42"));
    assert_eq!(status(&runtime, "talker").await.pid, Some(elsewhere.pid));
    runtime.shutdown().await;
    assert!(is_alive(elsewhere.pid));
    let again = scene.runtime(Scene::spec(elsewhere.port)).await;
    assert_eq!(ask(&again, "hello again").await, json!("said hello again"));
    again.shutdown().await;
    command_line::signal(&elsewhere.command, rustix::process::Signal::TERM);
    let pid = elsewhere.pid;
    assert_eq!(elsewhere.ended().await, 143);
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_a_runner_elsewhere_died_and_is_there_again() {
    let scene = Scene::new().await;
    let elsewhere = Elsewhere::start(&scene.project, 0).await;
    let mut spec = Scene::spec(elsewhere.port);
    spec.supervision.intensity.max_restarts = 1_000;
    let runtime = scene.runtime(spec).await;
    let mut run = agent(&runtime, "talker").run("stay").start().await.unwrap();
    shows(&mut run, "text_delta").await;
    let (port, pid) = (elsewhere.port, elsewhere.pid);
    kill_9(pid);
    assert_eq!(elsewhere.ended().await, 1, "whoever started it hears of its end");
    until("its end is known", async || {
        matches!(status(&runtime, "talker").await.state, AgentState::Restarting { .. })
    })
    .await;
    let elsewhere = Elsewhere::start(&scene.project, port).await;
    let seen = follow(&mut run).await;
    assert_eq!(output(&run.outcome().await.outcome), json!("said stay"), "{:?}", names(&seen));
    assert_eq!(scene.model.requests().len(), 2);
    assert_eq!(status(&runtime, "talker").await.pid, Some(elsewhere.pid));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_parks_without_its_runner_and_comes_back_with_it() {
    let scene = Scene::new().await;
    let elsewhere = Elsewhere::start(&scene.project, 0).await;
    let runtime = scene.runtime(Scene::spec(elsewhere.port)).await;
    up(&runtime, "talker", 1).await;
    let port = elsewhere.port;
    command_line::signal(&elsewhere.command, rustix::process::Signal::TERM);
    elsewhere.ended().await;
    until("it is parked", async || {
        let AgentState::Parked { cause, .. } = status(&runtime, "talker").await.state else {
            return false;
        };
        cause.contains("cannot be reached")
    })
    .await;
    let elsewhere = Elsewhere::start(&scene.project, port).await;
    up(&runtime, "talker", 2).await;
    assert_eq!(ask(&runtime, "hello").await, json!("said hello"));
    runtime.shutdown().await;
    assert!(is_alive(elsewhere.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_stop_lets_go_of_a_runner_elsewhere_and_does_not_end_it() {
    let scene = Scene::new().await;
    let elsewhere = Elsewhere::start(&scene.project, 0).await;
    let runtime = scene.runtime(Scene::spec(elsewhere.port)).await;
    let late = agent(&runtime, "talker").run("call blocks_a_thread");
    let late = late.timeout(Duration::from_secs(2)).wait().await.unwrap();
    assert!(scene.project.path().join("begun").exists());
    assert_eq!(failure(&late.outcome).kind, FailureKind::RunTimeout);
    assert!(is_alive(elsewhere.pid));
    assert_eq!(ask(&runtime, "hello").await, json!("said hello"));
    let after = status(&runtime, "talker").await;
    assert_eq!((after.pid, after.restarts_left), (Some(elsewhere.pid), 3));
    runtime.shutdown().await;
    assert!(is_alive(elsewhere.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_as_a_wrong_configuration() {
    let mut scene = Scene::new().await;
    let elsewhere = Elsewhere::start(&scene.project, 0).await;
    scene.project.set("TALKER_TOKEN", "another-token-than-that-one");
    let runtime = scene.runtime(Scene::spec(elsewhere.port)).await;
    let refused = agent(&runtime, "talker").ready().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Config);
    assert!(refused.message.contains("refuses the token"), "{refused}");
    assert!(refused.help.unwrap().contains("token_env"));
    assert!(!refused.message.contains("another-token"));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_needs_tls_is_refused_with_a_way_out() {
    let scene = Scene::new().await;
    let mut spec = Scene::spec(1);
    spec.runner.program = RunnerProgram::Url("https://127.0.0.1:1".to_owned());
    let runtime = scene.runtime(spec).await;
    let refused = agent(&runtime, "talker").ready().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Config);
    assert!(refused.help.unwrap().contains("tunnel"));
    let outcome = agent(&runtime, "talker").run("hello").wait().await;
    assert!(!matches!(outcome.map(|run| run.outcome), Ok(Outcome::Completed(_))));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_runner_for_others_always_has_a_token() {
    let scene = Scene::new().await;
    for (arguments, said) in [
        (vec!["runner", "talker"], "needs a token"),
        (vec!["runner", "talker", "--listen", "0.0.0.0:0"], "other machines"),
        (vec!["runner", "talker", "--token-env", "OPENAI_API_KEY"], "16 characters"),
        (vec!["runner", "talker", "--token-file", "nowhere"], "cannot read the token"),
    ] {
        let (code, stdout, stderr) = command_line::run(&scene.project, &arguments).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}
