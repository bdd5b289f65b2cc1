//! Doors that are tried and do not open: every name that an agent did not register, every run that
//! is over. Each refusal is in the log, with its agent.

use std::process::Stdio;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{Effect, PythonTarget};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::command_line;
use crate::scene::{agent, tooled};
use crate::support::{PATIENCE, Project};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const TOOLS: &str = "
import os

def balance() -> str:
    return '$5'

def hidden() -> str:
    return 'secret'

def make_deps(value: object) -> object:
    return value

class Vault:
    @staticmethod
    def open() -> str:
        return 'open'
";

const BANK: &str = r#"
model = "test"
[deps]
factory = "bank.tools:make_deps"
[[tools]]
name = "balance"
python = "bank.tools:balance"
effect = "pure"
"#;

const OTHER: &str = r#"
model = "test"
[[tools]]
name = "ledger"
python = "other.tools:balance"
effect = "pure"
"#;

/// Names that are no tool of the agent, and how they are meant to get in. Those that are no name of
/// a Python object at all come first.
const MALFORMED: [&str; 5] =
    [".x:y", "..tools:balance", "bank.tools:Vault.open", "bank.tools", "a.b:c.d"];
const FOREIGN: [&str; 8] = [
    "os:system",
    "os.path:join",
    "builtins:__import__",
    "bank.tools:__import__",
    "bank.tools:hidden",
    "bank.tools:os",
    "bank.tools:make_deps",
    "other.tools:balance",
];

fn project() -> Project {
    let mut project = Project::new();
    project.set("BANK_TOKEN", TOKEN);
    for (name, file) in [("bank", BANK), ("other", OTHER)] {
        project.write(&format!("agents/{name}/agent.toml"), file);
        project.write(&format!("agents/{name}/__init__.py"), "");
        project.write(&format!("agents/{name}/tools.py"), TOOLS);
    }
    project
}

/// The runner of the bank, which whoever knows the token can ask anything.
struct Doors {
    runner: Child,
    address: String,
}

impl Doors {
    async fn open(project: &Project) -> Self {
        let arguments = ["-v", "--log", "json", "runner", "bank", "--listen", "127.0.0.1:0"];
        let arguments = [&arguments[..], &["--token-env", "BANK_TOKEN"]].concat();
        let mut command = command_line::axon(project, &arguments);
        let mut runner = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(runner.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("it says where it is");
        let rest = line.split_once("http://").expect(&line).1;
        let address = rest.split(' ').next().unwrap().to_owned();
        Self { runner, address }
    }

    /// Sends a request, and returns the status of its answer and what it says.
    async fn ask(&self, token: &str, request: (&str, &str), body: &Value) -> (u16, String) {
        let (method, path) = request;
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: runner\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("it answers").unwrap();
        let status = answer.split(' ').nth(1).expect(&answer).parse().unwrap();
        (status, answer)
    }

    /// Ends the runner, and returns its log records.
    async fn log(mut self) -> Vec<Value> {
        command_line::signal(&self.runner, rustix::process::Signal::TERM);
        let mut log = String::new();
        let mut stderr = self.runner.stderr.take().unwrap();
        let read = stderr.read_to_string(&mut log);
        tokio::time::timeout(PATIENCE, read).await.expect("it ends").unwrap();
        let _status = self.runner.wait().await.unwrap();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// One door: what is asked, and how that is refused.
struct Door {
    token: &'static str,
    request: (&'static str, String),
    body: Value,
    status: u16,
    says: &'static str,
}

fn door(request: (&'static str, &str), body: Value, refused: (u16, &'static str)) -> Door {
    let (method, path) = request;
    let (status, says) = refused;
    Door { token: TOKEN, request: (method, path.to_owned()), body, status, says }
}

fn run_with(tool: &str) -> Value {
    let tools = json!([{"name": "t", "target": format!("python:{tool}")}]);
    json!({"run_id": "hostile", "attempt": 1, "prompt": "x", "spec": {"model": "test", "tools": tools}})
}

fn answer(attempt: u32) -> Value {
    json!({"attempt": attempt, "tool_call_id": "c1", "status": "ok", "content": 1})
}

fn doors() -> Vec<Door> {
    let mut doors = Vec::new();
    for target in MALFORMED {
        let call = format!("/v1/tools/{target}/call");
        doors.push(door(("POST", &call), json!({}), (404, "there is no POST /v1/tools/")));
        doors.push(door(("POST", "/v1/runs"), run_with(target), (400, "invalid spec")));
    }
    for target in FOREIGN {
        let says = "is not registered as a tool of this runner";
        let call = format!("/v1/tools/{target}/call");
        doors.push(door(("POST", &call), json!({}), (404, says)));
        doors.push(door(("POST", "/v1/runs"), run_with(target), (400, says)));
        let factory = json!({"run_id": "hostile", "attempt": 1, "prompt": "x",
            "spec": {"model": "test", "deps_factory": target}});
        if target != "bank.tools:make_deps" {
            let says = "is not registered as a deps_factory of this runner";
            doors.push(door(("POST", "/v1/runs"), factory, (400, says)));
        }
        let asked = json!({"key": "k", "run_id": "r", "step": 0, "tool_call_id": "c", "name": "t"});
        let reconcile = format!("/v1/tools/{target}/reconcile");
        let says = "is not registered as a reconcile of this runner";
        doors.push(door(("POST", &reconcile), asked, (404, says)));
    }
    let tool_as_model = json!({"run_id": "hostile", "attempt": 1, "prompt": "x",
        "spec": {"model": "python:bank.tools:balance"}});
    let says = "is not registered as a model of this runner";
    doors.push(door(("POST", "/v1/runs"), tool_as_model, (400, says)));
    for (run, status, says) in
        [("over", 410, "attempt 1 of run over is over"), ("never", 404, "run never is not known")]
    {
        let (results, permit) =
            (format!("/v1/runs/{run}/tool_results"), format!("/v1/runs/{run}/permit"));
        doors.push(door(("POST", &results), answer(1), (status, says)));
        doors.push(door(("POST", &permit), json!({"attempt": 1, "seq": 1}), (status, says)));
    }
    let stale = (409, "attempt 0 is stale");
    doors.push(door(("POST", "/v1/runs/over/tool_results"), answer(0), stale));
    let foreign = door(("GET", "/v1/schema"), json!({}), (401, "the bearer token is missing"));
    doors.push(Door { token: "of-another-generation", ..foreign });
    doors
}

#[tokio::test]
async fn no_name_and_no_run_gets_past_a_runner_and_each_attempt_is_in_the_log() {
    let project = project();
    let runner = Doors::open(&project).await;
    let run = json!({"run_id": "over", "attempt": 1, "prompt": "x", "spec": {"model": "test"}});
    let (status, told) = runner.ask(TOKEN, ("POST", "/v1/runs"), &run).await;
    assert!(status == 200 && told.contains("attempt_completed"), "{told}");
    let tried = doors();
    for Door { token, request: (method, path), body, status, says } in &tried {
        let (got, told) = runner.ask(token, (method, path), body).await;
        assert_eq!(got, *status, "{method} {path} {body}: {told}");
        assert!(told.contains(says), "{method} {path} {body}: {told}");
    }
    let log = runner.log().await;
    let mut refusals = log.iter().filter(|record| record["logger"] == "axon_runner.refusals");
    for Door { request: (method, path), status, says, .. } in &tried {
        let record = refusals.next().unwrap_or_else(|| panic!("{path} is not in the log"));
        assert_eq!(record["agent"], "bank", "{record}");
        assert_eq!(
            record["fields"],
            json!({"status": status, "request": format!("{method} {path}")})
        );
        assert!(record["message"].as_str().unwrap().contains(says), "{record}");
    }
    assert!(refusals.next().is_none());
}

#[tokio::test]
async fn no_name_gets_past_the_command_line() {
    let project = project();
    for target in MALFORMED.into_iter().chain(FOREIGN) {
        let arguments = ["tool", "call", target, "--agent", "bank"];
        let (code, stdout, stderr) = command_line::run(&project, &arguments).await;
        assert_eq!((code, &*stdout), (2, ""), "{target}: {stderr}");
        let says = ["is not a Python object", "agent `bank` has no tool"];
        assert!(says.iter().any(|says| stderr.contains(says)), "{target}: {stderr}");
    }
}

#[tokio::test]
async fn no_name_gets_past_the_handle_of_an_agent_and_each_is_in_the_log() {
    let project = project();
    let (log, _guard) = crate::said::here();
    let mut spec = tooled("bank", [("bank.tools:balance", Effect::Pure)]);
    spec.model = Some("test".parse().unwrap());
    let path = project.path().join("agents");
    let definition = axon_runtime::AgentDefinition { path: vec![path], ..spec.into() };
    let runtime = project.runtime().agent(definition).start().await.unwrap();
    let bank = agent(&runtime, "bank");
    for target in MALFORMED {
        assert!(target.parse::<PythonTarget>().is_err(), "{target}");
    }
    for target in FOREIGN {
        let name = target.parse().unwrap();
        let refused = bank.call_tool(&name, json!({}).into(), None).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Config, "{target}: {refused:?}");
        assert!(
            log.lines().iter().any(|line| line.contains("refused")
                && line.contains(target)
                && line.contains("agent=bank")),
            "{target} is not in the log"
        );
    }
    let balance = "bank.tools:balance".parse().unwrap();
    let known = bank.call_tool(&balance, json!({}).into(), None).await.unwrap();
    assert_eq!(known.get(), "\"$5\"");
    runtime.shutdown().await;
}
