//! The log of a service: one stream of lines for Rust and Python, whatever they say.

use std::time::{Duration, SystemTime};

use axon_test::ScriptedModel;
use axon_test::scripted_model::{ChatRequest, Reply, Script};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::serve::service::{Service, ok};
use crate::support::{PATIENCE, Project, until};

const TOOLS: &str = r#"
import logging, os, sys, threading

def note(what: str) -> str:
    extra = {"shelf": 3, "tags": ["a"], "level": "CRITICAL", "run": "forged"}
    logging.getLogger("bank.shelf").warning("noted", extra=extra)
    return "ok"

def whispers(what: str) -> str:
    logging.getLogger("whispers").debug("whispered")
    logging.getLogger("whispers").info("spoken")
    return "ok"

def claims(what: str) -> str:
    logging.getLogger("claims").warning("paid run=forged\nlevel=ERROR")
    return "ok"

HOSTILE = "a\nb\r\x1b[2J\x1b]0;t\x07\x9b1m\u202ec\u2028\u200b{\"level\":\"ERROR\"}"

def shout(what: str) -> str:
    logging.getLogger("evil" + HOSTILE).error("said " + HOSTILE, extra={"f" + HOSTILE: HOSTILE})
    logging.getLogger("n" * 10_000).warning("x" * 1_000_000, extra={"big": "y" * 200_000})
    sys.stdout.write("printed " + HOSTILE + "\n")
    sys.stdout.flush()
    os.write(1, b"\xff\xfe bytes\n")
    os.write(1, b"z" * 3_000_000)
    os.write(1, b"\nlast words\n")
    return "ok"

def log_lines():
    for n in range(20_000):
        logging.getLogger("burst").info("line %d", n)

async def burst_in_loop(what: str) -> str:
    log_lines()
    return "ok"

def burst_in_thread(what: str) -> str:
    log_lines()
    return "ok"

def escapes(what: str) -> str:
    for _ in range(100):
        logging.getLogger("escapes").info("\x1b" * 16_000)
    return "ok"

def burst_apart(what: str) -> str:
    apart = threading.Thread(target=log_lines)
    apart.start()
    apart.join()
    return "ok"

def fall(what: str) -> str:
    raise ValueError("the shelf fell")
"#;

/// Has the model call the tool that the prompt names, once, and then say so.
fn by_prompt() -> Script {
    Script::function(|body: &Value| {
        let chat = ChatRequest::new(body);
        let tool = chat.user_prompt();
        if tool == "nothing" {
            return Reply::error(401, "invalid_api_key");
        }
        match chat.tool_return(&tool) {
            None => Reply::tool_calls([(tool, json!({ "what": "ARGUMENT" }))]),
            Some(_) => Reply::text("done"),
        }
    })
}

async fn project() -> (ScriptedModel, Project) {
    let model = ScriptedModel::start(by_prompt()).await;
    let project = Project::with_model(&model);
    let mut file = "model = 'openai-chat:scripted'\n".to_owned();
    let tools = ["note", "shout", "fall", "burst_in_loop", "burst_in_thread", "burst_apart"];
    for tool in tools.into_iter().chain(["escapes", "claims", "whispers"]) {
        file +=
            &format!("[[tools]]\nname = '{tool}'\npython = 'bank.tools:{tool}'\neffect = 'pure'\n");
    }
    for tool in ["stamp", "smash"] {
        file += &format!("[[tools]]\nname = '{tool}'\nrust = '{tool}'\n");
    }
    project.write("agents/bank/agent.toml", &file);
    project.write("agents/bank/__init__.py", "");
    project.write("agents/bank/tools.py", TOOLS);
    project.write("agents/desk/router.toml", "balance = 'round_robin'\nto = ['bank']\n");
    (model, project)
}

async fn ask(service: &Service, agent: &str, prompt: &str) -> Value {
    let path = format!("/v1/agents/{agent}/runs");
    ok(service.post(&path, &json!({ "prompt": prompt }))).await
}

/// Returns every line as JSON.
fn records(said: &str) -> Vec<Value> {
    let read =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    said.lines().map(read).collect()
}

fn one(records: &[Value], what: impl Fn(&Value) -> bool) -> &Value {
    let found: Vec<&Value> = records.iter().filter(|record| what(record)).collect();
    assert_eq!(found.len(), 1, "{found:?} of {records:?}");
    found[0]
}

#[tokio::test]
async fn records_of_python_and_rust_keep_level_logger_and_fields_and_say_whose_they_are() {
    let (_model, project) = project().await;
    let service = Service::start_with_tools(&project, &["--log", "json"]).await;
    let noted = ask(&service, "bank", "note").await["run_id"].clone();
    let stamped = ask(&service, "bank", "stamp").await["run_id"].clone();
    let stamp = async || service.said().contains("\"stamped\"");
    until("both are logged", stamp).await;
    let records = records(&service.said());
    let record = one(&records, |record| record["message"] == "noted");
    assert_eq!((&record["level"], &record["logger"]), (&json!("WARN"), &json!("bank.shelf")));
    let fields = json!({ "shelf": 3, "tags": ["a"], "level": "CRITICAL", "run": "forged" });
    assert_eq!(record["fields"], fields);
    assert_eq!(record["target"], "axon::python");
    let whose = |record: &Value| {
        (record["run"].clone(), record["agent"].clone(), record["generation"].clone())
    };
    assert_eq!(whose(record), (noted, json!("bank"), json!(1)));
    let record = one(&records, |record| record["message"] == "stamped");
    assert_eq!(whose(record), (stamped, json!("bank"), json!(1)));
    assert_eq!((&record["target"], &record["what_bytes"]), (&json!("stamps"), &json!(8)));
    assert!(records.iter().all(|record| record["timestamp"].is_string()), "{records:?}");
    assert!(!service.said().contains("ARGUMENT"));
    service.stop().await;
}

#[tokio::test]
async fn more_is_logged_to_who_asks_for_it_also_of_python() {
    let (_model, mut project) = project().await;
    for (before, filter, said, unsaid) in [
        (&[] as &[&str], None, "spoken", ["whispered", "launching a runner"]),
        (&["-v"], None, "launching a runner", ["whispered", "TRACE"]),
        (&[], Some("warn,axon::python=debug"), "whispered", ["launching a runner", "INFO  axon"]),
    ] {
        if let Some(filter) = filter {
            project.set("AXON_LOG", filter);
        }
        let service = Service::start_with_tools(&project, before).await;
        ask(&service, "bank", "whispers").await;
        until("it is logged", async || service.said().contains("spoken")).await;
        let log = service.said();
        service.stop().await;
        assert!(log.contains(said), "{before:?} {filter:?}: {log}");
        assert!(unsaid.iter().all(|text| !log.contains(text)), "{before:?} {filter:?}: {log}");
    }
}

#[tokio::test]
async fn people_see_when_each_record_was_and_what_in_it_is_message_and_what_is_a_field() {
    let (_model, project) = project().await;
    let service = Service::start_with_tools(&project, &[]).await;
    let before = SystemTime::now() - Duration::from_millis(1);
    let run = ask(&service, "bank", "claims").await["run_id"].clone();
    until("it is logged", async || service.said().contains("paid")).await;
    let said = service.said();
    service.stop().await;
    let line = said.lines().find(|line| line.contains("paid")).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    let time = humantime::parse_rfc3339(time).unwrap();
    assert!(before < time && time < SystemTime::now(), "{line}");
    let expected = r#" WARN "paid run=forged\nlevel=ERROR" agent=bank generation=1 run="#;
    assert!(rest.starts_with(&format!("{expected}{} ", run.as_str().unwrap())), "{line}");
}

#[tokio::test]
async fn a_run_that_fails_is_one_error_in_the_log_however_deep_it_failed() {
    let (_model, project) = project().await;
    for prompt in ["fall", "nothing", "smash"] {
        let service = Service::start_with_tools(&project, &["-vv", "--log", "json"]).await;
        let answer = ask(&service, "desk", prompt).await;
        assert_eq!(answer["outcome"], "failed", "{answer}");
        let told = async || service.said().contains("a run failed");
        until("the failure is logged", told).await;
        let said = service.said();
        service.stop().await;
        let records = records(&said);
        let record = one(&records, |record| record["level"] == "ERROR");
        assert_eq!(record["run"], answer["run_id"], "{record}");
        assert_eq!(record["kind"], answer["error"]["kind"], "{record}");
        // The arguments of tools, and keys, are nobody's business.
        assert!(!said.contains("ARGUMENT") && !said.contains("sk-scripted"), "{said}");
    }
}

#[tokio::test]
async fn nothing_that_python_says_forges_a_line_or_reaches_the_terminal() {
    for form in ["json", "human"] {
        let (_model, project) = project().await;
        let service = Service::start_with_tools(&project, &["-v", "--log", form]).await;
        assert_eq!(ask(&service, "bank", "shout").await["outcome"], "completed");
        until("all is logged", async || service.said().contains("last words")).await;
        let said = service.said();
        service.stop().await;
        let active =
            |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2028}\u{200b}".contains(c));
        assert!(!said.contains(active), "{form}");
        // What came with a line break is one line all the same.
        for text in ["said a", "printed a", "bytes", "[cut: the line has "] {
            let lines = said.lines().filter(|line| line.contains(text)).count();
            assert!(lines >= 1, "{text} is not in {form}");
        }
        assert!(said.lines().all(|line| !line.starts_with("b")), "{form}");
        assert!(said.lines().all(|line| line.len() < 300 * 1024), "{form}");
        if form == "json" {
            let records = records(&said);
            let record = one(&records, |record| record["level"] == "ERROR");
            assert!(record["message"].as_str().unwrap().starts_with("said a\nb\r\u{1b}[2J"));
            assert!(record["logger"].as_str().unwrap().starts_with("evila\nb"));
            let big = one(&records, |record| record["fields"]["omitted_bytes"].is_u64());
            assert!(big["message"].as_str().unwrap().len() < 20_000);
            assert!(big["logger"].as_str().unwrap().len() < 300);
        }
    }
}

/// Returns how many lines the service tells that it dropped.
async fn dropped(service: &Service) -> u64 {
    let metrics = service.get("/metrics").send().await.unwrap().text().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with("axon_dropped_log_lines_total{"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn each_record_of_a_burst_is_logged_or_told_and_counted_as_dropped_although_nothing_follows()
{
    let (_model, project) = project().await;
    for burst in ["burst_in_loop", "burst_in_thread", "burst_apart"] {
        let service = Service::start_with_tools(&project, &[]).await;
        assert_eq!(ask(&service, "bank", burst).await["outcome"], "completed");
        let told = async || {
            let said = service.said();
            let logged = said.lines().filter(|line| line.contains(" line ")).count();
            let dropped = dropped(&service).await;
            // The record that tells what a run's stream had no room for may be dropped, too.
            let all = (20_000..=20_001).contains(&(dropped + u64::try_from(logged).unwrap()));
            all && dropped > 0 && said.contains("were dropped")
        };
        until(burst, told).await;
        service.stop().await;
    }
}

#[tokio::test]
async fn a_service_whose_log_nobody_reads_goes_on_and_tells_what_it_dropped_once_somebody_does() {
    let (_model, project) = project().await;
    let (service, mut stderr) = Service::start_unheard(&project, &[]).await;
    // Ten megabytes, as lines of the log.
    for prompt in ["escapes", "note"] {
        assert_eq!(ask(&service, "bank", prompt).await["outcome"], "completed");
    }
    let mut read = async |what: &str| loop {
        match tokio::time::timeout(PATIENCE, stderr.next_line()).await.unwrap().unwrap() {
            Some(line) if line.contains(what) => return,
            Some(_) => {}
            None => panic!("`{what}` was not written"),
        }
    };
    read("lines of the log were dropped: nobody read them").await;
    ask(&service, "bank", "note").await;
    read("noted").await;
    service.signal(Signal::TERM);
    read("letting runs finish").await;
    assert_eq!(service.ended().await, 0);

    let (service, _unread) = Service::start_unheard(&project, &[]).await;
    ask(&service, "bank", "escapes").await;
    assert_eq!(service.stop().await, 0, "its end waits for no reader");
}

#[tokio::test]
async fn what_ends_a_service_at_its_start_is_a_record_too() {
    let project = Project::new();
    let arguments = ["--log", "json", "serve", "--listen", "0.0.0.0:0"];
    let (code, _, stderr) = crate::command_line::run(&project, &arguments).await;
    assert_eq!(code, 3, "{stderr}");
    let records = records(&stderr);
    let record = one(&records, |record| record["level"] == "ERROR");
    assert_eq!(record["code"], "config");
    assert!(record["do"].as_array().is_some_and(|todo| !todo.is_empty()), "{record}");
}
