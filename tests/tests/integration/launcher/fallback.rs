//! What is started otherwise than by a fork: because it must be, or because it was asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

use axon_kernel::spec::{LauncherMode, RunnerProgram};
use axon_runner::environment;
use axon_runtime::Runtime;
use axon_test::ScriptedModel;
use axon_test::scripted_runner::{Life, Step};
use serde_json::json;

use super::{echo, launcher, patient, process};
use crate::command_line::run;
use crate::scene::{Played, agent, pid, up};
use crate::support::{Project, kill_9, output};

async fn name_of(pid: u32) -> String {
    process(pid).stat().unwrap().comm
}

async fn says_hello(runtime: &Runtime) {
    let said = agent(runtime, "agent").run("hello").wait().await.unwrap();
    assert_eq!(output(&said.outcome), json!("said hello"));
}

/// Checks that the launcher has executed the runner, which serves.
async fn is_executed(runtime: &Runtime) {
    let parent = launcher(runtime, "agent").await;
    assert_eq!(name_of(parent).await, "axon-launcher");
    let name = name_of(pid(runtime, "agent").await).await;
    assert!(!name.starts_with("axon"), "it was forked: {name}");
    says_hello(runtime).await;
}

#[tokio::test]
async fn an_agent_may_ask_for_a_cold_start() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let mut spec = patient("agent");
    spec.runner.launcher = LauncherMode::Cold;
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    is_executed(&runtime).await;
    runtime.shutdown().await;
}

/// Makes an environment with the packages of `python`, and a package that starts a thread as soon
/// as an interpreter starts.
fn with_a_thread(python: &Path, folder: &Path) -> PathBuf {
    let said = |command: &mut Command| {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    said(Command::new(python).args(["-m", "venv", "--without-pip"]).arg(folder));
    let own = folder.join("bin").join("python");
    let where_to = ["-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    let packages = said(Command::new(python).args(where_to));
    let here = said(Command::new(&own).args(where_to));
    let thread =
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()";
    std::fs::write(Path::new(&here).join("tracing.pth"), format!("{packages}\n{thread}\n"))
        .unwrap();
    own
}

#[tokio::test]
async fn an_environment_that_starts_threads_of_its_own_is_not_forked() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let host = project.host();
    let found = move || environment::sync(&host.search(None), &|_| {}).unwrap().choice.python;
    let python = tokio::task::spawn_blocking(found).await.unwrap();
    let threaded = with_a_thread(&python, &project.path().join("threaded"));
    let mut spec = patient("agent");
    let python = threaded.display().to_string();
    let file = format!("model = \"test\"\n[runner]\npython = \"{python}\"\n");
    project.write("agents/alone/agent.toml", &file);
    let (code, _, log) = run(&project, &["run", "alone", "hello", "-v"]).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("cannot be forked") && log.contains("threads"), "{log}");
    spec.runner.program = RunnerProgram::Python { python: Some(python) };
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let threads = process(launcher(&runtime, "agent").await).stat().unwrap().num_threads;
    assert!(threads > 1, "the launcher has the thread, too");
    is_executed(&runtime).await;
    runtime.shutdown().await;
}

fn echoes() -> Life {
    Life::default().always([Step::complete("said {{prompt}}")])
}

#[tokio::test]
async fn a_runner_of_another_kind_is_started_by_a_launcher_too() {
    let project = Project::new();
    let played = Played::new(&project, "agent", echoes());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    is_executed(&runtime).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn where_there_is_no_python_a_runner_is_started_directly() {
    let mut project = Project::new();
    project.set("PATH", &project.path().join("tmp").display().to_string());
    project.set("AXON_PYTHON", "");
    let played = Played::new(&project, "agent", echoes());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    assert_eq!(launcher(&runtime, "agent").await, std::process::id());
    says_hello(&runtime).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn launchers_that_die_again_and_again_are_done_without() {
    let project = Project::new();
    let played = Played::new(&project, "agent", echoes());
    let played = played.with(|spec| spec.supervision.intensity.max_restarts = 100);
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    for deaths in 1.. {
        up(&runtime, "agent", deaths).await;
        let parent = launcher(&runtime, "agent").await;
        if parent == std::process::id() {
            break;
        }
        assert!(deaths < 10, "launchers are still asked for");
        kill_9(parent);
    }
    says_hello(&runtime).await;
    runtime.shutdown().await;
}
