//! The OpenAPI document, taken at its word: schemathesis makes requests of it, good ones and bad
//! ones, and holds the answers against it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axon_kernel::spec::Effect;
use axon_test::scripted_runner::{Life, Step, When};
use axon_tests::venv::venv;
use serde_json::json;
use tokio::process::Command;

use super::service::{Service, id_of, ok};
use super::{talker, write_agent};
use crate::support::{Project, python_tool, repository};

/// How long it may take: it makes many hundred requests.
const LIMIT: Duration = Duration::from_secs(200);

/// What answers are held against. That every request that fits the schemas is taken is not asked:
/// a schema cannot say that a decision is one thing, or that a prompt is not empty.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,missing_required_header,unsupported_method,\
                      allow_header_conformance";

const PROGRAM: &str = "from schemathesis.cli import schemathesis; schemathesis()";

/// Most requests are about what is there. The agent that is drained or stopped is not the one that is asked.
fn settings(runs: &[String]) -> String {
    format!(
        r#"
[dictionaries]
runs = {{ values = {runs:?} }}
agents = {{ values = ["talker"] }}
conversations = {{ values = ["c1"] }}

[parameters]
"path.id" = {{ dictionary = "runs", probability = 0.7 }}
"path.name" = {{ dictionary = "agents", probability = 0.7 }}

[[operations]]
include-operation-id = "show_conversation"
parameters = {{ "path.id" = {{ dictionary = "conversations", probability = 0.7 }} }}

[[operations]]
include-operation-id = "follow_run"
max-stream-events = 1
request-timeout = 2

# It tells of nothing as long as nothing happens.
[[operations]]
include-operation-id = "follow_tree"
request-timeout = 2
generation = {{ max-examples = 3 }}
phases = {{ coverage = {{ enabled = false }} }}

[[operations]]
include-operation-id-regex = "^(drain|restart|stop)_agent$"
parameters = {{ "path.name" = "spare" }}
"#
    )
}

async fn schemathesis(project: &Project) -> PathBuf {
    let named = project.variables().get("AXON_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| crate::support::program("python3").expect("a Python"));
    let lock = repository().join("tests/openapi/requirements.lock");
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    tokio::task::spawn_blocking(move || venv(&python, &lock, &room).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_service_answers_as_its_document_says_whatever_it_is_asked() {
    let project = Project::new();
    let request = json!([{ "tool_call_id": "c1", "name": "pay", "args": {}, "kind": "approval",
                           "parameters": { "type": "object" } }]);
    let life = Life::default().on(When::prompt("pay"), [Step::pause(request)]);
    let life = life.always([Step::text("{{prompt}}"), Step::complete("{{prompt}}")]);
    write_agent(&project, "talker", life, |spec| {
        spec.tools.push(python_tool("pay", "tools:pay", Effect::Idempotent));
    });
    write_agent(&project, "spare", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    let mut runs = Vec::new();
    for prompt in ["hello", "pay", "pay"] {
        runs.push(id_of(&ok(service.ask(prompt)).await));
    }
    let said = json!({ "prompt": "hello", "conversation_id": "c1" });
    ok(service.post("/v1/agents/talker/runs", &said)).await;
    project.write("schemathesis.toml", &settings(&runs));
    let mut command = Command::new(schemathesis(&project).await);
    command.args(["-c", PROGRAM, "run", &service.url("/openapi.json")]);
    command.args(["--seed", "1", "--max-examples", "20", "--phases", "examples,coverage,fuzzing"]);
    // One worker: with more of them, Python 3.11's own parser breaks.
    command.args(["--workers", "1", "--request-timeout", "30", "--checks", CHECKS]);
    command.args(["--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"]);
    command.current_dir(project.path()).env("NO_COLOR", "1").kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}\n{}", service.said());
    let generated = said.lines().find_map(|line| line.trim().split_once(" generated"));
    let cases = generated.and_then(|(cases, _)| cases.parse().ok()).unwrap_or(0);
    assert!(cases > 700, "{said}");
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
    assert_eq!(service.stop().await, 0);
}
