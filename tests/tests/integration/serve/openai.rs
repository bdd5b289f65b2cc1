//! OpenAI's own clients, and what they are told.

use std::path::Path;

use axon_kernel::spec::Effect;
use axon_test::scripted_model::{ChatRequest, bank_support_reply};
use axon_test::scripted_runner::{Death, Life, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use super::service::{Service, Stream, ok, sent};
use super::{talker, write_agent};
use crate::support::{PATIENCE, Project, lacks, program, python_tool, repository, until};

/// Asks with OpenAI's client in every way, and prints what it got as JSON.
const CLIENT: &str = r#"
import json, sys, openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="unused", max_retries=0)
bank = dict(model="bank_support", messages=[{"role": "user", "content": "What is my balance?"}])
deps = {"axon": {"deps": {"customer_id": 123}}}

said = client.chat.completions.create(**bank, metadata={"customer_id": "123"})
stream = list(client.chat.completions.create(
    **bank, extra_body=deps, stream=True, stream_options={"include_usage": True}))
choices = [chunk.choices[0] for chunk in stream if chunk.choices]

talk = dict(model="talker", messages=[
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "I am Ada."},
    {"role": "assistant", "content": "Hello Ada."},
    {"role": "user", "content": [{"type": "text", "text": "Who am I?"}]},
])
talked = client.chat.completions.create(**talk, temperature=0.5)
with client.chat.completions.stream(**talk) as events:
    for _ in events:
        pass
    pieces = events.get_final_completion()


def refused(**asked):
    try:
        client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], **asked)
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code]


print(json.dumps({
    "models": [model.id for model in client.models.list()],
    "model": client.models.retrieve("talker").id,
    "said": json.loads(said.choices[0].message.content),
    "finish": said.choices[0].finish_reason,
    "calls": said.choices[0].message.tool_calls,
    "usage": said.usage.model_dump(),
    "streamed": json.loads("".join(choice.delta.content or "" for choice in choices)),
    "streamed_calls": [choice.delta.tool_calls for choice in choices if choice.delta.tool_calls],
    "streamed_finish": choices[-1].finish_reason,
    "streamed_usage": stream[-1].usage.model_dump(),
    "talked": talked.choices[0].message.content,
    "pieces": pieces.choices[0].message.content,
    "unknown": refused(model="nobody"),
    "without_deps": refused(model="bank_support"),
    "tools": refused(model="talker", tools=[{"type": "function", "function": {"name": "f"}}]),
}))
"#;

/// Runs a client against a service with a structured agent and one that talks, and checks what it
/// prints.
async fn asked_by(client: impl AsyncFnOnce(&Project, &Service) -> Command) {
    let model = ScriptedModel::start(Script::function(|body| {
        let request = ChatRequest::new(body);
        if request.tool_parameters("customer_balance").is_some() {
            bank_support_reply(body)
        } else {
            Reply::text(format!("You asked: {}", request.user_prompt())).chunks(5)
        }
    }))
    .await;
    let mut project = Project::with_model(&model);
    project.set("AXON_MODEL", "openai-chat:scripted");
    let folder = repository().join("agents/bank_support");
    copy(&folder, &project.path().join("agents/bank_support"));
    project.write("agents/talker/agent.toml", "model = \"openai-chat:scripted\"\n");
    let service = Service::start(&project, &[]).await;
    let mut client = client(&project, &service).await;
    client.env_clear().kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, client.output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", service.said());
    check(&serde_json::from_slice(&output.stdout).unwrap());
    let last = model.requests().pop().unwrap().body.to_string();
    for said in ["Be kind.", "I am Ada.", "Hello Ada."] {
        assert!(last.contains(said), "{last}");
    }
    assert_eq!(service.stop().await, 0);
}

/// Checks what a client got.
fn check(got: &Value) {
    assert_eq!(got["models"], json!(["bank_support", "talker"]));
    assert_eq!(got["model"], "talker");
    for answer in [&got["said"], &got["streamed"]] {
        assert!(answer["support_advice"].as_str().unwrap().contains("123.45"), "{got}");
    }
    assert_eq!((&got["finish"], &got["streamed_finish"]), (&json!("stop"), &json!("stop")));
    assert_eq!((&got["calls"], &got["streamed_calls"]), (&Value::Null, &json!([])));
    for usage in [&got["usage"], &got["streamed_usage"]] {
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(200), &json!(40))
        );
        assert_eq!(usage["total_tokens"], 240);
    }
    assert_eq!(got["talked"], "You asked: Who am I?");
    assert_eq!(got["pieces"], "You asked: Who am I?");
    assert_eq!(got["unknown"], json!(["NotFoundError", 404, "unknown_agent"]));
    let invalid = json!(["UnprocessableEntityError", 422, "invalid_request"]);
    assert_eq!((&got["without_deps"], &got["tools"]), (&invalid, &invalid));
}

#[tokio::test]
async fn openais_own_python_client_asks_agents_as_its_models() {
    asked_by(async |project, service| {
        project.write("client.py", CLIENT);
        let python = project.variables().get("AXON_PYTHON").map_or("python3", String::as_str);
        let mut client = Command::new(python);
        client.arg(project.path().join("client.py")).arg(service.url(""));
        client
    })
    .await;
}

#[tokio::test]
async fn openais_own_javascript_client_asks_agents_as_its_models() {
    let (Some(node), Some(npm)) = (program("node"), program("npm")) else {
        return lacks("there is no node with npm (Debian: nodejs, npm)");
    };
    asked_by(async |project, service| {
        let room = project.path().join("javascript");
        copy(&repository().join("tests/javascript"), &room);
        let mut install = Command::new(npm);
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&room);
        let output = tokio::time::timeout(PATIENCE, install.kill_on_drop(true).output());
        let output = output.await.expect("npm ends in time").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut client = Command::new(node);
        client.arg(room.join("client.js")).arg(service.url(""));
        client
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn chat(prompt: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": prompt }]);
    json!({ "model": "talker", "messages": messages, "stream": stream })
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn text_comes_in_pieces_that_are_the_answer() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    let told = Stream::open(service.post(CHAT, &chat("slow", true))).await.rest().await;
    let text: String = told
        .iter()
        .filter_map(|told| told.data["choices"][0]["delta"]["content"].as_str())
        .collect();
    // What was said beside the answer stands in front of it.
    assert!(text.starts_with("0 1 2 ") && text.ends_with("slow"), "{text}");
    assert_eq!(told.last().unwrap().data, "[DONE]");
    let last = &told[told.len() - 2].data;
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    let run = service.run(last["axon"]["run_id"].as_str().unwrap()).await;
    assert_eq!((&run["state"], &last["axon"]["offline"]), (&json!("completed"), &json!(false)));
    assert_eq!(last["axon"]["model"], run["answer"]["model"]);
}

#[tokio::test]
async fn an_answer_that_begins_anew_and_otherwise_is_an_error_and_its_run_is_called_off() {
    let project = Project::new();
    let life = Life::default()
        .on(When::attempt(1), [Step::text("Yes, "), Step::SleepMs(50), Death::signal(9).into()])
        .always([Step::text("No, "), Step::Hang]);
    write_agent(&project, "talker", life, |_| ());
    let service = Service::start(&project, &[]).await;
    let told = Stream::open(service.post(CHAT, &chat("hi", true))).await.rest().await;
    let error = &told.last().unwrap().data["error"];
    assert_eq!(error["code"], "runner_died", "{told:?}");
    let run = error["run_id"].as_str().unwrap();
    until("nobody hears the run", async || service.run(run).await["state"] == "cancelled").await;
}

#[tokio::test]
async fn a_client_that_comes_again_after_the_decision_gets_the_answer() {
    let (_project, service) = super::waiting::cashier().await;
    let ask = || service.post(CHAT, &chat("pay", true)).header("Idempotency-Key", "k-1");
    let waits = Stream::open(ask()).await.rest().await;
    let error = waits.last().unwrap().data["error"].clone();
    assert_eq!(error["code"], "approval_needed", "{waits:?}");
    let run = error["run_id"].as_str().unwrap();
    let again = Stream::open(ask()).await.rest().await;
    assert_eq!(again.last().unwrap().data["error"], error);
    let decision = json!({ "tool_call_id": "c1", "approve": true });
    ok(service.post(&format!("/v1/runs/{run}/approvals"), &decision)).await;
    let told = Stream::open(ask()).await.rest().await;
    let pieces =
        told.iter().filter_map(|told| told.data["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), "approved", "{told:?}");
    assert_eq!(told.last().unwrap().data, "[DONE]");
}

#[tokio::test]
async fn a_run_without_an_answer_is_an_error_that_is_not_asked_again() {
    let project = Project::new();
    let request = json!([{
        "tool_call_id": "c1", "name": "pay", "args": {}, "kind": "approval",
        "parameters": { "type": "object" }
    }]);
    let life = Life::default()
        .on(When::prompt("pay"), [Step::pause(request)])
        .always([Step::text("I "), Step::Fail(super::broken())]);
    write_agent(&project, "talker", life, |spec| {
        spec.tools.push(python_tool("pay", "tools:pay", Effect::Idempotent));
    });
    let service = Service::start(&project, &[]).await;
    let (status, headers, body) = sent(service.post(CHAT, &chat("pay", false))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["error"]["code"], "approval_needed");
    assert_eq!(headers["x-should-retry"], "false");
    let run = body["error"]["run_id"].as_str().unwrap();
    assert_eq!(service.run(run).await["state"], "paused");
    let (status, _, body) = sent(service.post(CHAT, &chat("hi", false))).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (422, &json!("content_filter")));
    let told = Stream::open(service.post(CHAT, &chat("hi", true))).await.rest().await;
    assert_eq!(told.last().unwrap().data["error"]["code"], "content_filter");
    let (status, _, body) = sent(service.post(CHAT, &json!({ "model": "talker" }))).await;
    assert_eq!((status.as_u16(), &body["error"]["type"]), (422, &json!("invalid_request_error")));
    let foreign = service.post(CHAT, &chat("hi", false)).header("Host", "evil.example");
    assert_eq!(sent(foreign).await.2["error"]["code"], "host_not_allowed");
}

#[tokio::test]
async fn what_would_be_left_out_of_an_answer_is_refused_and_what_changes_nothing_is_taken() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    let with = |field: &str, value: Value| {
        let mut body = chat("hello", false);
        body[field] = value;
        service.post(CHAT, &body)
    };
    for (field, value) in [
        ("functions", json!([{ "name": "pay" }])),
        ("logprobs", json!(true)),
        ("tool_choice", json!("required")),
    ] {
        let (status, _, body) = sent(with(field, value)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["error"]["message"].as_str().unwrap().contains(field), "{body}");
    }
    let (status, _, body) = sent(service.get("/v1/models/a%00b")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["error"]["code"], "invalid_request", "{body}");
    for (field, value) in [
        ("functions", json!([])),
        ("logprobs", json!(false)),
        ("tool_choice", json!("none")),
        ("tool_choice", Value::Null),
    ] {
        ok(with(field, value)).await;
    }
}

#[tokio::test]
async fn a_turn_of_a_conversation_on_record_continues_it() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    let mut body = chat("tell one", false);
    body["axon"] = json!({ "conversation_id": "c1" });
    ok(service.post(CHAT, &body)).await;
    let mut body = chat("tell two", false);
    body["axon"] = json!({ "conversation_id": "c1" });
    ok(service.post(CHAT, &body)).await;
    let told = ok(service.get("/v1/conversations/c1")).await;
    assert_eq!(told["messages"].as_array().unwrap().len(), 4, "{told}");
}
