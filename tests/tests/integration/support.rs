//! A project in a temporary folder, and the runtime over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::spec::{AgentSpec, Effect, PythonTarget, RunnerProgram, ToolSpec, ToolTarget};
use axon_runtime::{Host, Outcome, RunHandle, RunUpdate, Runtime, RuntimeBuilder};
use axon_test::ScriptedModel;
use axon_test::scripted_runner::RunnerScript;
use tempfile::TempDir;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package lies in the repository").to_owned()
}

/// A project folder that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Project {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl Project {
    /// Makes an empty project that sees what a test needs of the environment, and nothing else.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("axon-project-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let names = ["PATH", "HOME", "AXON_PYTHON", "AXON_CACHE_DIR", "XDG_CACHE_HOME"];
        let variables = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        let mut project = Self { folder, variables };
        // The sockets' folders then go with the project, and the test can see that none is left.
        let sockets = project.path().join("tmp");
        std::fs::create_dir(&sockets).expect("the project's folder is new");
        project.set("TMPDIR", &sockets.display().to_string());
        project
    }

    /// Makes a project whose agents ask `model`, played by a scripted server.
    pub(crate) fn with_model(model: &ScriptedModel) -> Self {
        let mut project = Self::new();
        project.set("OPENAI_BASE_URL", &model.base_url());
        project.set("OPENAI_API_KEY", "sk-scripted");
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Writes a file below the project's folder.
    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path().join(relative);
        let parent = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(parent).expect("folders can be made");
        std::fs::write(path, text).expect("files can be written");
    }

    pub(crate) fn host(&self) -> Host {
        Host::new(self.path().to_owned(), self.variables.clone())
    }

    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    pub(crate) fn runtime(&self) -> RuntimeBuilder {
        Runtime::builder().host(self.host()).allow_offline()
    }

    /// Returns the folders of sockets that are left.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("tmp")).expect("the folder is there");
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }
}

/// Says that a test is left out here, and why: else nobody would know.
#[expect(clippy::print_stderr, reason = "it is for whoever reads the test's output")]
pub(crate) fn left_out(why: &str) {
    eprintln!("left out: {why}");
}

/// Says that a test is left out for want of a program. CI lacks none: `.ci/run` sees to it.
pub(crate) fn lacks(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    left_out(why);
}

/// Finds a program on the PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Returns an agent that asks the scripted model and answers in text.
pub(crate) fn scripted_agent(name: &str) -> AgentSpec {
    let mut spec = AgentSpec::new(name.parse().expect("the test gives a name"));
    spec.model = Some("openai-chat:scripted".parse().expect("the model's name is right"));
    spec
}

/// Returns an agent whose runner plays `script`.
pub(crate) fn played_agent(
    project: &Project,
    name: &str,
    script: impl Into<RunnerScript>,
) -> AgentSpec {
    let mut spec = AgentSpec::new(name.parse().expect("the test gives a name"));
    let folder = tempfile::tempdir_in(project.path()).expect("the project's folder is there");
    let program = env!("CARGO_BIN_EXE_scripted-runner");
    let command = script.into().command(program, &folder.keep()).expect("a script can be written");
    spec.model = Some("test".parse().expect("the model's name is right"));
    spec.runner.program = RunnerProgram::Command(command);
    spec
}

/// Returns a tool that the Python function `target` is.
pub(crate) fn python_tool(name: &str, target: &str, effect: Effect) -> ToolSpec {
    let target: PythonTarget = target.parse().expect("the test gives a target");
    let name = name.parse().expect("the test gives a name");
    let mut tool = ToolSpec::new(name, ToolTarget::Python(target));
    tool.effect = effect;
    tool
}

/// Waits for the end of `run` and returns what it showed.
pub(crate) async fn follow(run: &mut RunHandle) -> Vec<RunEvent> {
    let mut seen = Vec::new();
    let all = async {
        while let Some(update) = run.events().next().await {
            if let RunUpdate::Event(event) = update {
                seen.push(event.event.clone());
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the run ends");
    seen
}

/// Returns the names of events, in order.
pub(crate) fn names(events: &[RunEvent]) -> Vec<&'static str> {
    events.iter().map(RunEvent::name).collect()
}

/// Returns the output of a run that completed, as a tree.
pub(crate) fn output(outcome: &Outcome) -> serde_json::Value {
    let Outcome::Completed(completed) = outcome else { panic!("not completed: {outcome:?}") };
    completed.output.decode().expect("the output is JSON")
}

/// Returns the failure of a run that failed or was rejected.
pub(crate) fn failure(outcome: &Outcome) -> &axon_kernel::failure::Failure {
    match outcome {
        Outcome::Failed(failed) | Outcome::Rejected(failed) => &failed.failure,
        Outcome::Completed(_) | Outcome::Cancelled(_) | Outcome::Paused(_) => {
            panic!("no failure: {outcome:?}")
        }
    }
}

/// Returns whether the process is there (a zombie is not).
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Kills one process at once, as an operator or the kernel would.
pub(crate) fn kill_9(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let held = tokio::time::timeout(PATIENCE, holds).await;
    assert!(held.is_ok(), "never happened: {what}");
}
