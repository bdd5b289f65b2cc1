//! Runs and conversations that outlast the process that began them, at the command line.

mod approvals;
mod conversations;
mod decisions;
mod faults;
mod interrupted;
pub(crate) mod records;
mod store;
pub(crate) mod terminal;

use std::process::Stdio;

use axon_test::{Script, ScriptedModel};
use serde_json::Value;
use tokio::process::Child;

use crate::command_line::{axon, run};
use crate::support::{Project, kill_9};

/// Tools whose effects can be counted afterwards: each call writes a line.
const TOOLS: &str = r#"
import time
from pathlib import Path

from pydantic_ai import CallDeferred


def refund(amount: int) -> str:
    """Pays money back."""
    return _done("refunds", amount)


def pay(amount: int) -> str:
    """Pays, and never returns until somebody says so."""
    paid = _done("payments", amount)
    while not Path("go").exists():
        time.sleep(0.01)
    return paid


def balance() -> str:
    """Looks the balance up."""
    return _done("lookups", 1)


def ask(question: str) -> str:
    """Asks a person."""
    raise CallDeferred


def _done(kind: str, amount: int) -> str:
    with Path(kind).open("a") as file:
        file.write(f"{amount}\n")
    return f"{kind}: {amount}"
"#;

const AGENT: &str = r#"
model = "openai-chat:scripted"
instructions = "You work at the desk."

[[tools]]
name = "refund"
python = "desk.tools:refund"
requires_approval = true

[[tools]]
name = "pay"
python = "desk.tools:pay"

[[tools]]
name = "balance"
python = "desk.tools:balance"
effect = "pure"

[[tools]]
name = "ask"
python = "desk.tools:ask"
effect = "pure"
"#;

/// A project with one agent, `desk`, whose model says what the test tells it.
pub(crate) struct Desk {
    pub(crate) project: Project,
    model: ScriptedModel,
}

impl Desk {
    pub(crate) async fn new(replies: impl Into<Script>) -> Self {
        let model = ScriptedModel::start(replies).await;
        let project = Project::with_model(&model);
        project.write("agents/desk/agent.toml", AGENT);
        project.write("agents/desk/__init__.py", "");
        project.write("agents/desk/tools.py", TOOLS);
        Self { project, model }
    }

    /// Runs the command, and expects this exit code. Returns stdout and stderr.
    async fn axon(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let (found, stdout, stderr) = run(&self.project, arguments).await;
        assert_eq!(found, code, "{arguments:?}: {stdout}{stderr}");
        (stdout, stderr)
    }

    /// Returns the answer of a command that succeeds.
    async fn answer(&self, arguments: &[&str]) -> String {
        self.axon(0, arguments).await.0.trim().to_owned()
    }

    /// Returns the runs on record, newest first.
    async fn runs(&self) -> Vec<Value> {
        let (stdout, _) = self.axon(0, &["runs", "--json"]).await;
        stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Returns the id of the newest run.
    async fn newest(&self) -> String {
        self.runs().await[0]["run_id"].as_str().unwrap().to_owned()
    }

    /// Returns how often a tool took effect.
    fn effects(&self, kind: &str) -> usize {
        let text = std::fs::read_to_string(self.project.path().join(kind));
        text.map_or(0, |text| text.lines().count())
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = axon(&self.project, arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("axon can be started")
    }

    /// Kills the process with everything that it cannot clean up any more.
    async fn kill(&self, mut child: Child) {
        kill_9(child.id().unwrap());
        child.wait().await.unwrap();
    }
}
