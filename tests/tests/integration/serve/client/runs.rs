//! `axon run`, `chat`, `runs` and `agents` of a service: as they are in one's own process.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::super::link::Link;
use super::super::service::Service;
use super::super::{talker, talking, write_agent};
use super::{answer, asked, lines, shape, text, without_times};
use crate::command_line::{axon, run, said};
use crate::store_command::records::import;
use crate::support::{Project, python_tool};
use axon_kernel::spec::Effect;
use axon_test::scripted_runner::{Life, Step};

#[tokio::test]
async fn a_run_there_is_told_like_one_here() {
    let project = Project::new();
    let life = Life::default().always([
        Step::text("Well, "),
        Step::tool_started("c1", "look", Effect::Pure),
        Step::tool_finished("c1", "look", "seen"),
        Step::complete(json!({ "answer": "{{prompt}}", "n": 1 })),
    ]);
    write_agent(&project, "talker", life, |spec| {
        spec.tools.push(python_tool("look", "tools:look", Effect::Pure));
    });
    let service = Service::start(&project, &[]).await;
    let words = ["run", "talker", "What is it?"];
    let (here, there) = (run(&project, &words).await, asked(&project, &service, &words).await);
    assert_eq!((here.0, there.0), (0, 0), "{}{}", here.2, there.2);
    assert_eq!(here.1, there.1);
    assert_eq!(without_times(&here.2), without_times(&there.2));
    let words = ["run", "talker", "What is it?", "--json"];
    let (here, there) = (run(&project, &words).await, asked(&project, &service, &words).await);
    assert_eq!((here.0, there.0, there.2.as_str()), (0, 0, ""));
    let (here, there) = (lines(&here.1), lines(&there.1));
    assert_eq!(shape(&here), shape(&there));
    assert_eq!(text(&here), text(&there));
    assert_eq!(here.last().unwrap()["output"], there.last().unwrap()["output"]);
}

#[tokio::test]
async fn what_fails_there_fails_as_it_does_here() {
    let (project, service) = talking().await;
    for words in [
        &["run", "talker", "fail"] as &[&str],
        &["run", "talkr", "hi"],
        &["run", "talker", "hang", "--timeout", "300ms"],
        &["run", "talker", "hi", "--json", "--dep", "x"],
        &["runs", "show", "abcdef"],
        &["runs", "show", "x"],
        &["runs", "cancel", "abcdef"],
        &["approve", "abcdef"],
    ] {
        let (here, there) = (run(&project, words).await, asked(&project, &service, words).await);
        assert_eq!(here.0, there.0, "{words:?}: {}{}", here.2, there.2);
        let code = |stderr: &str| {
            stderr.lines().next().unwrap_or_default().split(':').next().map(str::to_owned)
        };
        assert_eq!(code(&here.2), code(&there.2), "{words:?}");
    }
    let words = ["run", "talker", "fail", "--json"];
    let (here, there) = (run(&project, &words).await, asked(&project, &service, &words).await);
    assert_eq!(shape(&lines(&here.1)), shape(&lines(&there.1)));
    let last = |stdout: &str| lines(stdout).pop().unwrap()["failure"].clone();
    assert_eq!(last(&here.1), last(&there.1));
    let words = ["run", "talkr", "hi", "--json"];
    let (here, there) = (run(&project, &words).await, asked(&project, &service, &words).await);
    assert_eq!(shape(&lines(&here.1)), shape(&lines(&there.1)));
    assert_eq!(last(&here.1)["class"], last(&there.1)["class"]);
}

#[tokio::test]
async fn runs_there_are_listed_and_shown_like_those_here() {
    let (project, service) = talking().await;
    for prompt in ["one", "two", "fail"] {
        asked(&project, &service, &["run", "talker", prompt, "--conversation", "c1"]).await;
    }
    for words in
        [&["runs"] as &[&str], &["runs", "--state", "failed"], &["runs", "--conversation", "c1"]]
    {
        let here = run(&project, words).await;
        assert_eq!(here.1, answer(&project, &service, words).await + "\n", "{words:?}");
    }
    let listed = lines(&answer(&project, &service, &["runs", "--json"]).await);
    assert_eq!(listed.len(), 3);
    let id = listed[0]["run_id"].as_str().unwrap();
    for words in [["runs", "show", id], ["runs", "events", id], ["runs", "export", id]] {
        let here = run(&project, &words).await;
        assert_eq!(here.1, answer(&project, &service, &words).await + "\n", "{words:?}");
    }
    let mut chat = axon(&project, &["--url", &service.url(""), "chat", "talker", "--continue"]);
    chat.stdin(std::fs::File::open(typed(&project, "tell more\n/quit\n")).unwrap());
    let (code, stdout, stderr) = said(&mut chat).await;
    assert_eq!((code, stdout.as_str()), (0, "tell more\n"), "{stderr}");
    assert!(stderr.contains("conversation c1 goes on"), "{stderr}");
    let turns = answer(&project, &service, &["runs", "--conversation", "c1", "--json"]).await;
    assert_eq!(turns.lines().count(), 4);
}

/// Writes what is typed to a command, and returns its file.
fn typed(project: &Project, text: &str) -> std::path::PathBuf {
    project.write("typed", text);
    project.path().join("typed")
}

#[tokio::test]
async fn agents_there_are_listed_started_restarted_drained_and_stopped() {
    let (project, service) = talking().await;
    let listed = answer(&project, &service, &["agents"]).await;
    assert!(listed.starts_with("talker  up  "), "{listed}");
    let shown = answer(&project, &service, &["agents", "show", "talker"]).await;
    assert!(shown.contains("state        up") && shown.contains("generation 1, pid"), "{shown}");
    answer(&project, &service, &["agents", "drain", "talker"]).await;
    let (code, _, stderr) = asked(&project, &service, &["run", "talker", "hi"]).await;
    assert!(code == 1 && stderr.contains("error[agent_draining]"), "{code}: {stderr}");
    answer(&project, &service, &["agents", "restart", "talker"]).await;
    assert_eq!(answer(&project, &service, &["run", "talker", "hi"]).await, "hi");
    answer(&project, &service, &["agents", "stop", "talker"]).await;
    assert_eq!(answer(&project, &service, &["agents"]).await, "");
    answer(&project, &service, &["agents", "start", "talker"]).await;
    project.write("new.toml", "model = \"test\"\ndescription = \"A new one\"\n");
    answer(&project, &service, &["agents", "start", "newcomer", "--file", "new.toml"]).await;
    let listed = answer(&project, &service, &["agents", "list"]).await;
    assert!(listed.starts_with("newcomer  up  test:test (offline)  A new one\ntalker"), "{listed}");
    // Definitions stay here: the folder knows nothing of the newcomer.
    assert_eq!(run(&project, &["agents", "show", "newcomer"]).await.0, 2);
}

#[tokio::test]
async fn the_address_comes_from_the_environment_too_and_a_typed_store_wins_over_that() {
    let mut project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    answer(&project, &service, &["run", "talker", "hi"]).await;
    project.set("AXON_URL", &service.url("/"));
    let (code, stdout, stderr) = run(&project, &["agents"]).await;
    assert!(code == 0 && stdout.starts_with("talker  up"), "{stdout}{stderr}");
    let (code, stdout, stderr) = run(&project, &["--store", "other.db", "runs"]).await;
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("nothing has been recorded in SQLite other.db"), "{stderr}");
    assert_eq!(run(&project, &["validate"]).await.0, 0);
}

/// Agents of which only their Python says what they take and give.
const SPIES: &str = r#"
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.test import TestModel


@dataclass
class Deps:
    code: str


class Found(BaseModel):
    number: int


coder = Agent(TestModel(), deps_type=Deps)
finder = Agent(TestModel(), output_type=Found)


@coder.tool
def code(ctx: RunContext[Deps]) -> str:
    return ctx.deps.code
"#;

#[tokio::test]
async fn what_an_agent_of_a_module_takes_and_gives_is_known_there_as_here() {
    let project = Project::new();
    project.write("spies.py", SPIES);
    for name in ["coder", "finder"] {
        let file = format!("[runner]\nmodule = \"spies:{name}\"\n");
        project.write(&format!("agents/{name}/agent.toml"), &file);
    }
    let service = Service::start(&project, &[]).await;
    let words = ["run", "coder", "hi", "--dep", "code=123"];
    let here = run(&project, &words).await;
    assert!(here.0 == 0 && here.1.contains("123"), "{here:?}");
    let there = asked(&project, &service, &words).await;
    assert_eq!((there.0, &there.1), (0, &here.1), "{}", there.2);
    let coder = answer(&project, &service, &["agents", "show", "coder"]).await;
    assert!(coder.contains("deps         code (string)"), "{coder}");
    assert!(coder.contains("output       text"), "{coder}");
    let finder = answer(&project, &service, &["agents", "show", "finder"]).await;
    assert!(finder.contains("output       number (integer)"), "{finder}");
    // One that is not up says nothing, and nobody says it in its place.
    answer(&project, &service, &["agents", "drain", "finder"]).await;
    let finder = answer(&project, &service, &["agents", "show", "finder"]).await;
    assert!(finder.contains("output       as the module says"), "{finder}");
    assert_eq!(service.stop().await, 0);
}

/// The record of a run that has ended just now: old ones a service forgets. It answers a call of
/// `parent`, if it is below one.
fn ended(id: &str, parent: Option<&str>) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1000;
    let parent = parent.map(|run| json!({ "run_id": run, "tool_call_id": "c1", "path": "talker" }));
    let accepted = json!({
        "run_id": id, "seq": 1, "attempt": 0, "at": at, "event": "accepted", "agent": "talker",
        "prompt": "hi", "terms": { "parent": parent },
    });
    let cancelled = json!({
        "run_id": id, "seq": 2, "attempt": 1, "at": at, "event": "cancelled", "reason": "enough",
    });
    format!("{accepted}\n{cancelled}\n")
}

#[tokio::test]
async fn runs_below_another_one_are_passed_over_without_being_read() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let above = ended("above", None);
    let below = (0..12).map(|n| ended(&format!("below-{n}"), Some("above")));
    for record in std::iter::once(above).chain(below) {
        import(&project, &[], &record, 0).await;
    }
    let here = run(&project, &["runs", "--limit", "1"]).await;
    assert!(here.1.contains("above") && !here.1.contains("below"), "{here:?}");
    let service = Service::start(&project, &[]).await;
    let link = Link::to(&service.address).await;
    let there = run(&project, &["--url", &link.url(""), "runs", "--limit", "1"]).await;
    let row = |shown: &str| shown.lines().nth(1).map(|row| row[..26].to_owned());
    assert_eq!(row(&there.1), row(&here.1), "{there:?}");
    let heads = link.heads();
    assert!(!heads.is_empty() && heads.len() < 5, "{heads:?}");
    assert!(heads.iter().all(|head| !head.contains("/events")), "{heads:?}");
    drop(link);
    assert_eq!(service.stop().await, 0);
}
