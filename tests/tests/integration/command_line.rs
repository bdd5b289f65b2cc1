//! The `axon` command as a user types it.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use axon_test::{Reply, Script, ScriptedModel, bank_support_script};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{PATIENCE, Project, is_alive, kill_9, repository, until};

const BALANCE: &str = "What is my balance?";

pub(crate) fn axon(project: &Project, arguments: &[&str]) -> Command {
    in_project(project, Command::new(env!("CARGO_BIN_EXE_axon-under-test")), arguments)
}

/// Returns the command of a service that brings a Rust tool, `stamp`.
pub(crate) fn axon_with_tools(project: &Project, arguments: &[&str]) -> Command {
    in_project(project, Command::new(env!("CARGO_BIN_EXE_axon-with-tools")), arguments)
}

/// Returns the command where no file may grow: as with a disk that is full.
pub(crate) fn axon_without_space(project: &Project, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_axon-under-test"));
    in_project(project, command, arguments)
}

fn in_project(project: &Project, mut command: Command, arguments: &[&str]) -> Command {
    command
        .args(arguments)
        .current_dir(project.path())
        .env_clear()
        .envs(project.variables())
        .env("AXON_AGENTS", agents(project))
        // Agents of the repository are beside a store that all tests would share.
        .envs(own_store(project))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Returns the project's own agents where it has some, else the repository's.
fn agents(project: &Project) -> PathBuf {
    let own = project.path().join("agents");
    if own.is_dir() { own } else { repository().join("agents") }
}

/// Returns where the store is of a project that has no agents of its own.
fn own_store(project: &Project) -> Option<(&'static str, PathBuf)> {
    let has_own = project.path().join("agents").is_dir();
    (!has_own).then(|| ("AXON_STORE", project.path().join(".axon/axon.db")))
}

async fn ran(command: &mut Command) -> Output {
    let output = command.spawn().expect("axon can be started").wait_with_output();
    tokio::time::timeout(PATIENCE, output).await.expect("axon ends").expect("its output is read")
}

pub(crate) async fn run(project: &Project, arguments: &[&str]) -> (i32, String, String) {
    said(&mut axon(project, arguments)).await
}

/// Runs a command to its end, and returns its code, stdout and stderr.
pub(crate) async fn said(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = ran(command).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Returns the events of `--json`, and checks that exactly one of them ends the run.
fn events(stdout: &str) -> Vec<Value> {
    let events: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let terminal = ["completed", "failed", "cancelled", "rejected"];
    let ends = events.iter().filter(|event| terminal.contains(&event["event"].as_str().unwrap()));
    assert_eq!(ends.count(), 1, "{stdout}");
    events
}

/// Returns the children of a process, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_threads = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .collect::<String>();
    let mut found: Vec<u32> = (children.unwrap_or_default() + " " + &of_threads)
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    let theirs: Vec<u32> = found.iter().flat_map(|child| descendants(*child)).collect();
    found.extend(theirs);
    found
}

/// Starts a run whose model says a little and then nothing more, and waits until it does.
async fn hanging(project: &Project, model: &ScriptedModel) -> (Child, Vec<u32>) {
    let mut child = axon(project, &["run", "talker", "talk", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let talking = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("text_delta") {
                return;
            }
        }
        panic!("it never said anything");
    };
    tokio::time::timeout(PATIENCE, talking).await.unwrap();
    // The rest of what it writes is read, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let runners = descendants(child.id().unwrap());
    assert!(!runners.is_empty(), "no runner was started");
    assert_eq!(model.open_streams(), 1);
    (child, runners)
}

async fn talker(replies: impl Into<Script>) -> (Project, ScriptedModel) {
    let model = ScriptedModel::start(replies).await;
    let project = Project::with_model(&model);
    project.write("agents/talker/agent.toml", "model = \"openai-chat:scripted\"\n");
    (project, model)
}

fn half() -> Reply {
    Reply::text("one two three four").chunks(4).hang_after(2)
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("it still runs");
    rustix::process::kill_process(pid, signal).expect("it can be signalled");
}

#[tokio::test]
async fn the_bank_answers_at_the_command_line() {
    let project = Project::new();
    let (code, stdout, stderr) =
        run(&project, &["run", "bank_support", BALANCE, "--dep", "customer_id=123"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("123.45"), "{stdout}");
    let answer: Value = serde_json::from_str(&stdout).expect("the answer alone is on stdout");
    assert_eq!(answer["block_card"], json!(false));
    assert!(stderr.contains("customer_balance"), "the tool is shown: {stderr}");
    assert!(stderr.to_lowercase().contains("offline"), "the model is named: {stderr}");

    let deps = r#"{"customer_id": 123}"#;
    let lost = ["run", "bank_support", "I just lost my card!", "--deps", deps, "--json"];
    let (code, stdout, stderr) = run(&project, &lost).await;
    assert_eq!(code, 0, "{stderr}");
    let last = events(&stdout).pop().unwrap();
    assert_eq!(
        (&last["event"], &last["output"]["block_card"]),
        (&json!("completed"), &json!(true))
    );
    assert!(last["output"]["risk"].as_u64().unwrap() >= 7);
    assert_eq!(project.sockets(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_same_agent_asks_any_openai_compatible_server() {
    let model = ScriptedModel::start(bank_support_script()).await;
    let mut project = Project::with_model(&model);
    project.set("AXON_MODEL", "openai-chat:any");
    let (code, stdout, stderr) =
        run(&project, &["run", "bank_support", BALANCE, "--dep", "customer_id=123"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("123.45"), "{stdout}");
    assert!(!stderr.to_lowercase().contains("offline"), "{stderr}");
    assert_eq!(model.requests().len(), 2);
    let instructions = model.requests()[0].body.to_string();
    assert!(instructions.contains("John"), "{instructions}");
}

#[tokio::test]
async fn each_mistake_has_its_exit_code_and_says_what_to_do() {
    let project = Project::new();
    let deps = ["--dep", "customer_id=123"];
    for (code, arguments, expected) in [
        (2, vec!["run", "bank_suport", "hi"], "did you mean `bank_support`"),
        (2, vec!["run", "bank_support", "hi"], "customer_id"),
        (2, vec!["run", "bank_support", "hi", "--dep", "customer_id=x"], "customer_id"),
        (2, vec!["run", "bank_support", "hi", "--deps", "{"], "JSON"),
        (2, vec!["runn"], "run"),
        (
            3,
            [vec!["run", "bank_support", "hi", "--model", "opnai:x"], deps.to_vec()].concat(),
            "openai",
        ),
        (
            5,
            [vec!["run", "bank_support", "hi", "--model", "openai:gpt-5"], deps.to_vec()].concat(),
            "OPENAI_API_KEY",
        ),
        (3, vec!["run", "nowhere:agent", "hi"], "nowhere"),
        (1, vec!["run", "bank_support", "hi", "--dep", "customer_id=999"], "999"),
        (
            124,
            [vec!["run", "bank_support", BALANCE, "--timeout", "1ms"], deps.to_vec()].concat(),
            "run_timeout",
        ),
    ] {
        let (found, stdout, stderr) = run(&project, &arguments).await;
        assert_eq!(found, code, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn a_wrong_python_is_the_environments_fault() {
    let mut project = Project::new();
    project.set("AXON_PYTHON", "/nowhere/python");
    let deps = ["--dep", "customer_id=123", "--json"];
    let arguments = [vec!["run", "bank_support", "hi"], deps.to_vec()].concat();
    let (code, stdout, stderr) = run(&project, &arguments).await;
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("AXON_PYTHON") && stderr.contains("/nowhere/python"), "{stderr}");
    assert_eq!(events(&stdout).len(), 1);
    let (code, stdout, _) = run(&project, &["doctor", "--json"]).await;
    assert_eq!(code, 4);
    let checks: Value = serde_json::from_str(&stdout).unwrap();
    assert!(checks.as_array().unwrap().iter().any(|check| check["status"] == "fail"), "{checks}");
}

#[tokio::test]
async fn a_definition_with_an_unknown_key_is_refused_with_its_place() {
    let project = Project::new();
    project.write("agents/odd/agent.toml", "model = \"test\"\n\n[limits]\nconcurency = 3\n");
    for arguments in [vec!["validate"], vec!["run", "odd", "hi"]] {
        let (code, _, stderr) = run(&project, &arguments).await;
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains("agent.toml:4"), "{stderr}");
        assert!(stderr.contains("`concurrency`"), "{stderr}");
    }
}

#[tokio::test]
async fn a_prompt_comes_from_standard_input_and_a_large_one_is_refused() {
    let project = Project::new();
    for (prompt, code) in [(BALANCE.to_owned(), 0), ("x".repeat(2 << 20), 2)] {
        let arguments = ["run", "bank_support", "-", "--dep", "customer_id=123"];
        let mut child = axon(&project, &arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may refuse before it has read everything.
        let _refused = stdin.write_all(prompt.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[tokio::test]
async fn ctrl_c_in_mid_stream_ends_the_run_the_connection_and_every_process() {
    for (sent, code) in [(rustix::process::Signal::INT, 130), (rustix::process::Signal::TERM, 143)]
    {
        let (project, model) = talker(half()).await;
        let (mut child, runners) = hanging(&project, &model).await;
        signal(&child, sent);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(code));
        assert!(runners.iter().all(|pid| !is_alive(*pid)), "a runner is left");
        let closed = model.wait_until(|traffic| traffic.open_streams() == 0);
        tokio::time::timeout(PATIENCE, closed).await.unwrap();
        assert_eq!(project.sockets(), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn a_killed_axon_leaves_no_python_for_longer_than_a_second() {
    let (project, model) = talker(half()).await;
    let (child, runners) = hanging(&project, &model).await;
    kill_9(child.id().unwrap());
    let gone = async {
        while runners.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), gone).await.expect("the runners are gone");
}

#[tokio::test]
async fn a_killed_runner_does_not_lose_the_run() {
    let model = ScriptedModel::start([half(), Reply::text("all of it")]).await;
    let project = Project::with_model(&model);
    project.write("agents/talker/agent.toml", "model = \"openai-chat:scripted\"\n");
    let child = axon(&project, &["run", "talker", "talk"]).spawn().unwrap();
    let axon = child.id().unwrap();
    until("the answer begins", async || model.open_streams() == 1).await;
    kill_9(*descendants(axon).first().unwrap());
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "all of it");
    assert!(stderr.contains("retr"), "what happened is told: {stderr}");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_run_quietly() {
    let (project, model) = talker(half()).await;
    let mut child = axon(&project, &["run", "talker", "talk", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap();
    drop(lines);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(output.status.code(), Some(141), "{stderr}");
    assert_eq!(model.open_streams(), 0);
}

#[tokio::test]
async fn a_chat_remembers_what_was_said() {
    let (project, model) = talker([Reply::text("Hello Ada."), Reply::text("Ada.")]).await;
    let mut child = axon(&project, &["chat", "talker"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"I am Ada.\nWho am I?\n").await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let last = model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("I am Ada.") && last.contains("Hello Ada."), "{last}");
}

#[tokio::test]
async fn prints_and_log_records_of_python_become_axons_logs() {
    let model =
        ScriptedModel::start([Reply::tool_calls([("shout", json!({}))]), Reply::text("done")])
            .await;
    let project = Project::with_model(&model);
    let tool = "import logging\n\nprint('printed at import')\nlogging.getLogger('early').warning('early bird')\n\n\
                def shout() -> str:\n    print('loud print')\n    logging.getLogger('shelf').warning('loud %s', 'record')\n    return 'ok'\n";
    project.write("agents/loud/shelf.py", tool);
    project.write("agents/loud/__init__.py", "");
    let file = "model = \"openai-chat:scripted\"\n[[tools]]\nname = \"shout\"\n\
                python = \"loud.shelf:shout\"\neffect = \"pure\"\n";
    project.write("agents/loud/agent.toml", file);
    let (code, stdout, stderr) =
        run(&project, &["-v", "--log", "json", "run", "loud", "be loud"]).await;
    assert_eq!((code, stdout.trim()), (0, "done"), "{stderr}");
    let line = |text: &str| -> Value {
        let line = stderr.lines().find(|line| line.contains(text) && line.starts_with('{'));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{text} is missing in {stderr}")))
            .unwrap()
    };
    for text in ["printed at import", "early bird", "loud print", "loud record"] {
        assert_eq!(line(text)["agent"], json!("loud"), "{text}");
    }
    let record = line("loud record");
    assert_eq!((&record["level"], &record["logger"]), (&json!("WARN"), &json!("shelf")));
    assert!(record["run"].is_string(), "{record}");
}

#[tokio::test]
async fn an_agent_without_any_file_is_run_and_can_be_written_down() {
    let model = ScriptedModel::start(Reply::text("served")).await;
    let project = Project::with_model(&model);
    let module =
        "from pydantic_ai import Agent\n\nhelper = Agent('openai-chat:scripted', name='helper')\n";
    project.write("mine.py", module);
    std::fs::create_dir(project.path().join("agents")).unwrap();
    let (code, stdout, stderr) = run(&project, &["run", "mine:helper", "hello"]).await;
    assert_eq!((code, stdout.trim()), (0, "served"), "{stderr}");
    let (code, _, stderr) = run(&project, &["new", "helper", "--from", "mine:helper"]).await;
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = run(&project, &["run", "helper", "hello"]).await;
    assert_eq!((code, stdout.trim()), (0, "served"), "{stderr}");
    let (code, _, stderr) = run(&project, &["new", "helper"]).await;
    assert_eq!(code, 2, "an existing folder is kept: {stderr}");
}

#[tokio::test]
async fn a_new_agent_answers_at_once() {
    let project = Project::new();
    std::fs::create_dir(project.path().join("agents")).unwrap();
    let (code, _, stderr) = run(&project, &["new", "hello"]).await;
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = run(&project, &["run", "hello", "What day is it?"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!stdout.trim().is_empty());
}

#[tokio::test]
async fn the_smaller_verbs_answer() {
    let project = Project::new();
    let tool = ["tool", "call", "bank_support.tools:customer_balance", "{}"];
    let call = [tool.to_vec(), vec!["--dep", "customer_id=123"]].concat();
    for (arguments, expected) in [
        (vec!["agents"], "bank_support"),
        (vec!["agents", "show", "bank_support", "--toml"], "[[tools]]"),
        (vec!["validate"], "bank_support"),
        (vec!["schema", "agent"], "\"properties\""),
        (vec!["schema", "config"], "\"groups\""),
        (vec!["schema", "events"], "completed"),
        (vec!["env", "path"], "python"),
        (vec!["completions", "bash"], "axon"),
        (
            vec!["run", "bank_support", BALANCE, "--dep", "customer_id=123", "--show-prompt"],
            "support agent",
        ),
        (call, "$123.45"),
    ] {
        let (code, stdout, stderr) = run(&project, &arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        let said = stdout + &stderr;
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_dot_env_file_is_read_and_overrides_nothing() {
    let model = ScriptedModel::start(Reply::text("served")).await;
    let project = Project::new();
    let url = model.base_url();
    project.write(".env", &format!("OPENAI_BASE_URL={url}\nOPENAI_API_KEY=sk-from-file\n"));
    project.write("agents/talker/agent.toml", "model = \"openai-chat:scripted\"\n");
    let (code, stdout, stderr) = run(&project, &["run", "talker", "hello"]).await;
    assert_eq!((code, stdout.trim()), (0, "served"), "{stderr}");
    assert_eq!(model.requests()[0].header("authorization"), Some("Bearer sk-from-file"));
}

#[tokio::test]
async fn a_malformed_dot_env_is_refused_by_its_line_and_not_quoted() {
    let project = Project::new();
    project.write(".env", "A=1\nOPENAI_API_KEY=sk-supersecret another word\n");
    let (code, stdout, stderr) =
        run(&project, &["run", "bank_support", "hi", "--dep", "customer_id=123", "--json"]).await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("line 2"), "{stderr}");
    assert!(!(stdout + &stderr).contains("sk-supersecret"));
}

#[tokio::test]
async fn a_secret_that_python_prints_is_not_passed_on() {
    let model = ScriptedModel::start(Reply::text("done")).await;
    let project = Project::with_model(&model);
    let module = "import os, sys\nprint(os.environ['OPENAI_API_KEY'])\n\
                  print(os.environ['OPENAI_API_KEY'], file=sys.stderr)\n\ndef tool() -> str: return ''\n";
    project.write("agents/leaky/tools.py", module);
    project.write("agents/leaky/__init__.py", "");
    let file = "model = \"openai-chat:scripted\"\n[[tools]]\nname = \"tool\"\npython = \"leaky.tools:tool\"\n";
    project.write("agents/leaky/agent.toml", file);
    let (code, stdout, stderr) = run(&project, &["-vv", "run", "leaky", "hi"]).await;
    assert_eq!((code, stdout.trim()), (0, "done"), "{stderr}");
    assert!(stderr.contains("[redacted]"), "{stderr}");
    assert!(!stderr.contains("sk-scripted"), "{stderr}");
}

#[tokio::test]
async fn an_agent_that_hangs_while_it_starts_is_cut_off_with_the_cause() {
    let project = Project::new();
    project.write("stuck.py", "import time\ntime.sleep(1000)\nagent = None\n");
    project.write("agents/.keep", "");
    let began = tokio::time::Instant::now();
    let (code, _, stderr) = run(&project, &["run", "stuck:agent", "hi", "--timeout", "2s"]).await;
    assert_eq!(code, 124, "{stderr}");
    assert!(stderr.contains("waiting for the agent's runner"), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(project.sockets(), Vec::<PathBuf>::new());
}
