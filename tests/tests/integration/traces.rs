//! Traces: one tree over routers, agents, attempts, models and tools, sent to a collector.

mod collector;
mod told;

use axon_kernel::spec::AgentSpec;
use axon_test::ScriptedModel;
use axon_test::scripted_model::{ChatRequest, Reply, Script};
use axon_test::scripted_runner::{Life, Step};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::collector::{Collector, Manner, Span, drawn};
use crate::scene::Played;
use crate::serve::service::{Service, ok};
use crate::support::{Project, kill_9, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

const TOOLS: &str = "\
from axon_runner import call_rust

async def look() -> str:
    return await call_rust('stamp', {'what': 'ARGUMENT'})
";

/// Messages of a kind that only users know.
const BREAKS_WRITING: &str = "
from pydantic_ai.models.instrumented import InstrumentationSettings

def messages_to_otel_messages(settings, messages, **_):
    raise LookupError('no such part')

InstrumentationSettings.messages_to_otel_messages = messages_to_otel_messages
";

const BANK: &str = "\
model = 'openai-chat:scripted'
instructions = 'INSTRUCTIONS'
[[tools]]
name = 'look'
python = 'bank.tools:look'
effect = 'pure'
[[tools]]
name = 'stamp'
rust = 'stamp'
[[tools]]
name = 'ask_fraud'
agent = 'fraud'
description = 'Asks the fraud desk.'
";

/// A model that has the bank look, stamp and ask the fraud desk, and then answers.
fn bank_model() -> Script {
    Script::function(|body: &Value| {
        let chat = ChatRequest::new(body);
        if chat.user_prompt() == "FRAUD" {
            return Reply::text("ANSWER");
        }
        match chat.tool_return("look") {
            None => Reply::tool_calls([
                ("look", json!({})),
                ("stamp", json!({ "what": "ARGUMENT" })),
                ("ask_fraud", json!({ "prompt": "FRAUD" })),
            ]),
            Some(_) => Reply::text("ANSWER"),
        }
    })
}

/// A router over a bank whose tools are Python, Rust and another agent.
fn bank(model: &ScriptedModel, collector: &Collector) -> Project {
    let mut project = traced(Project::with_model(model), collector);
    project.set("OTEL_SERVICE_NAME", "bank");
    project.write("agents/desk/router.toml", "balance = 'round_robin'\nto = ['bank']\n");
    project.write("agents/bank/agent.toml", BANK);
    project.write("agents/bank/__init__.py", "");
    project.write("agents/bank/tools.py", TOOLS);
    project.write("agents/fraud/agent.toml", "model = 'openai-chat:scripted'\n");
    project
}

fn traced(mut project: Project, collector: &Collector) -> Project {
    project.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    project.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    project.set("OTEL_BSP_SCHEDULE_DELAY", "50");
    project
}

async fn ask(service: &Service, name: &str, flags: &str) -> Value {
    let path = format!("/v1/agents/{name}/runs");
    let post = service.post(&path, &json!({ "prompt": "PROMPT" }));
    ok(post.header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"))).await
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in\n{}", drawn(spans)));
    assert!(found.next().is_none(), "more than one {name} in\n{}", drawn(spans));
    first
}

#[tokio::test]
async fn one_tree_reaches_from_the_request_to_models_and_tools_of_both_sides() {
    let (model, collector) =
        (ScriptedModel::start(bank_model()).await, Collector::start(Manner::Well).await);
    let project = bank(&model, &collector);
    let service = Service::start_with_tools(&project, &[]).await;
    let answer = ask(&service, "desk", "01").await;
    assert_eq!(answer["output"], "ANSWER", "{answer}");
    assert_eq!(service.stop().await, 0);
    let spans = collector.spans();
    assert_eq!(
        drawn(&spans),
        "\
POST /v1/agents/{name}/runs
  invoke_workflow desk
    invoke_agent bank
      attempt bank
        chat scripted
        chat scripted
        execute_tool ask_fraud
          invoke_agent fraud
            attempt fraud
              chat scripted
        execute_tool look
          execute_tool stamp
        execute_tool stamp
"
    );
    assert!(spans.iter().all(|span| span.trace == TRACE && !span.fails));
    let request = one(&spans, "POST /v1/agents/{name}/runs");
    assert_eq!(request.parent, CALLER);
    assert_eq!(request.says("http.route"), "/v1/agents/{name}/runs");
    for span in &spans {
        if let Some(parent) = spans.iter().find(|parent| parent.id == span.parent) {
            assert!(parent.start <= span.start && span.end <= parent.end, "{span:?} {parent:?}");
        }
        assert!(span.start <= span.end);
    }
    says_what_the_conventions_want(&spans, &answer);
    // The provider was asked in the name of the chat spans.
    let chats: Vec<String> =
        spans.iter().filter(|s| s.name == "chat scripted").map(|s| s.id.clone()).collect();
    for asked in model.requests() {
        let header = asked.header("traceparent").expect("the provider is told").to_owned();
        assert!(chats.iter().any(|id| header == format!("00-{TRACE}-{id}-01")), "{header}");
    }
    let told = format!("{spans:?}");
    for content in ["PROMPT", "INSTRUCTIONS", "ARGUMENT", "FRAUD", "ANSWER"] {
        assert!(!told.contains(content), "{content} is in {told}");
    }
    let (headers, body) = &collector.requests()[0];
    assert_eq!(headers["content-type"], "application/json");
    let body: Value = serde_json::from_slice(body).unwrap();
    let sends = body["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    let service = json!({ "key": "service.name", "value": { "stringValue": "bank" } });
    assert!(sends.contains(&service), "{sends:?}");
}

fn says_what_the_conventions_want(spans: &[Span], answer: &Value) {
    let run = one(spans, "invoke_agent bank");
    assert_eq!(run.says("gen_ai.operation.name"), "invoke_agent");
    assert_eq!(run.says("gen_ai.agent.name"), "bank");
    let flow = one(spans, "invoke_workflow desk");
    assert_eq!(flow.says("gen_ai.operation.name"), "invoke_workflow");
    assert_eq!(flow.says("axon.run.id"), answer["run_id"]);
    let attempt = one(spans, "attempt bank");
    assert_eq!((attempt.says("axon.attempt"), attempt.says("axon.generation")), ("1", "1"));
    for chat in spans.iter().filter(|span| span.name.starts_with("chat")) {
        assert_eq!(chat.says("gen_ai.operation.name"), "chat");
        assert_eq!(chat.says("gen_ai.provider.name"), "openai");
        assert_eq!(chat.says("gen_ai.request.model"), "scripted");
        assert_eq!(chat.says("gen_ai.response.model"), "scripted");
        assert!(chat.says("gen_ai.usage.input_tokens").parse::<u64>().unwrap() > 0);
        assert!(chat.says("gen_ai.usage.output_tokens").parse::<u64>().unwrap() > 0);
    }
    let look = one(spans, "execute_tool look");
    assert_eq!(look.says("gen_ai.tool.name"), "look");
    assert!(!look.says("gen_ai.tool.call.id").is_empty());
    for (tool, host) in [("look", "python"), ("ask_fraud", "agent")] {
        assert_eq!(one(spans, &format!("execute_tool {tool}")).says("axon.tool.host"), host);
    }
    let stamps = spans.iter().filter(|span| span.name == "execute_tool stamp");
    assert!(stamps.clone().all(|span| span.says("axon.tool.host") == "rust"));
    assert_eq!(stamps.count(), 2);
}

#[tokio::test]
async fn what_was_asked_and_answered_is_told_where_it_is_wanted() {
    let (model, collector) =
        (ScriptedModel::start(bank_model()).await, Collector::start(Manner::Well).await);
    let mut project = bank(&model, &collector);
    project.set("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let service = Service::start_with_tools(&project, &[]).await;
    ask(&service, "bank", "01").await;
    assert_eq!(service.stop().await, 0);
    let spans = collector.spans();
    let chats: Vec<&Span> = spans.iter().filter(|span| span.name == "chat scripted").collect();
    let read = |chat: &Span, key: &str| serde_json::from_str::<Value>(chat.says(key)).unwrap();
    let asked: Vec<Value> = chats.iter().map(|chat| read(chat, "gen_ai.input.messages")).collect();
    let roles: Vec<&Value> = asked
        .iter()
        .filter_map(|messages| messages.as_array()?.last())
        .map(|m| &m["role"])
        .collect();
    assert!(roles.contains(&&json!("user")), "{asked:?}");
    assert!(json!(asked).to_string().contains("PROMPT"));
    let answers: Vec<Value> =
        chats.iter().map(|chat| read(chat, "gen_ai.output.messages")).collect();
    assert!(json!(answers).to_string().contains("ANSWER"), "{answers:?}");
    let stamps = spans.iter().filter(|span| span.name == "execute_tool stamp");
    for stamp in stamps {
        assert_eq!(stamp.says("gen_ai.tool.call.arguments"), r#"{"what":"ARGUMENT"}"#);
        assert_eq!(stamp.says("gen_ai.tool.call.result"), r#""stamped ARGUMENT""#);
    }
}

#[tokio::test]
async fn of_what_is_too_long_for_a_span_the_newest_is_told_in_json_and_how_much_is_not() {
    let stamps =
        Script::function(|body: &Value| match ChatRequest::new(body).tool_return("stamp") {
            None => Reply::tool_calls([("stamp", json!({ "what": "x".repeat(100_000) }))]),
            Some(_) => Reply::text("ANSWER"),
        });
    let (model, collector) =
        (ScriptedModel::start(stamps).await, Collector::start(Manner::Well).await);
    let mut project = bank(&model, &collector);
    project.set("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let service = Service::start_with_tools(&project, &[]).await;
    let said = |role: &str, text: String| json!({ "role": role, "content": text });
    let mut messages: Vec<Value> = (0..20)
        .flat_map(|n| [said("user", format!("{n} ").repeat(4_000)), said("assistant", "ok".into())])
        .collect();
    messages.push(said("user", "NEWEST ".repeat(10_000)));
    let chat = json!({ "model": "bank", "messages": messages });
    ok(service.post("/v1/chat/completions", &chat)).await;
    assert_eq!(service.stop().await, 0);
    let spans = collector.spans();
    let chats: Vec<&Span> = spans.iter().filter(|span| span.name == "chat scripted").collect();
    assert_eq!(chats.len(), 2);
    for chat in chats {
        let told: Vec<Value> = serde_json::from_str(chat.says("gen_ai.input.messages")).unwrap();
        let omitted: usize = chat.says("axon.input.messages.omitted").parse().unwrap();
        assert!(omitted > 10 && told.len() > 2, "{omitted} and {}", told.len());
        let told = json!(told).to_string();
        assert!(told.contains("NEWEST") && !told.contains("0 0 0"), "{told}");
    }
    let stamp = one(&spans, "execute_tool stamp").says("gen_ai.tool.call.arguments");
    let stamp: Value = serde_json::from_str(stamp).unwrap();
    assert!(stamp["begins"].as_str().unwrap().starts_with(r#"{"what":"xxx"#), "{stamp}");
    assert_eq!(stamp["bytes"], 100_011);
}

#[tokio::test]
async fn messages_that_cannot_be_written_for_the_trace_break_no_run() {
    let (model, collector) =
        (ScriptedModel::start(bank_model()).await, Collector::start(Manner::Well).await);
    let mut project = bank(&model, &collector);
    project.set("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    project.write("agents/bank/tools.py", &format!("{TOOLS}{BREAKS_WRITING}"));
    let service = Service::start_with_tools(&project, &[]).await;
    assert_eq!(ask(&service, "bank", "01").await["output"], "ANSWER");
    let told = "messages cannot be written for the trace";
    until("that is logged", async || service.said().contains(told)).await;
    assert_eq!(service.said().matches(told).count(), 1, "{}", service.said());
    assert_eq!(service.stop().await, 0);
    let spans = collector.spans();
    let bank = one(&spans, "attempt bank");
    let chats = spans.iter().filter(|span| span.parent == bank.id && span.name == "chat scripted");
    assert!(chats.clone().all(|chat| !chat.attributes.contains_key("gen_ai.input.messages")));
    assert_eq!(chats.count(), 2);
}

#[tokio::test]
async fn what_the_caller_does_not_have_told_is_not_told_and_chats_of_openai_are() {
    let (model, collector) =
        (ScriptedModel::start(bank_model()).await, Collector::start(Manner::Well).await);
    let project = bank(&model, &collector);
    let service = Service::start_with_tools(&project, &[]).await;
    assert_eq!(ask(&service, "desk", "00").await["output"], "ANSWER");
    let header = model.requests()[0].header("traceparent").unwrap().to_owned();
    assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
    let messages = json!([{ "role": "user", "content": "FRAUD" }]);
    let chat = json!({ "model": "fraud", "messages": messages, "stream": true });
    let streamed = service.post("/v1/chat/completions", &chat).header("traceparent", "garbage");
    assert!(streamed.send().await.unwrap().text().await.unwrap().contains("[DONE]"));
    assert_eq!(service.stop().await, 0);
    let spans = collector.spans();
    let expected =
        "POST /v1/chat/completions\n  invoke_agent fraud\n    attempt fraud\n      chat scripted\n";
    assert_eq!(drawn(&spans), expected);
    assert!(spans.iter().all(|span| span.trace == spans[0].trace && span.trace != TRACE));
}

/// An agent that answers at once, and one that never does.
fn talkers(project: &Project) {
    let lives = [
        ("talker", Life::default().always([Step::text("Well."), Step::complete("said")])),
        ("silent", Life::default().always([Step::text("Hm."), Step::Hang])),
    ];
    for (name, life) in lives {
        let played = Played::new(project, name, life).with(|_: &mut AgentSpec| ());
        project.write(&format!("agents/{name}/agent.toml"), &played.spec.to_toml().unwrap());
    }
}

#[tokio::test]
async fn a_collector_that_is_down_slow_or_hostile_hurts_nobody() {
    for manner in [Some(Manner::Busy), Some(Manner::Never), None] {
        let collector = Collector::start(manner.unwrap_or(Manner::Well)).await;
        let mut project = traced(Project::new(), &collector);
        project.set("OTEL_BSP_MAX_QUEUE_SIZE", "8");
        project.set("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4");
        talkers(&project);
        if manner.is_none() {
            drop(collector);
        }
        let service = Service::start(&project, &[]).await;
        for _ in 0..40 {
            assert_eq!(ask(&service, "talker", "01").await["outcome"], "completed", "{manner:?}");
        }
        let dropped = async || {
            let page = service.get("/metrics").send().await.unwrap().text().await.unwrap();
            page.lines().any(|line| line.starts_with("axon_spans_dropped_total{"))
        };
        until("drops are counted", dropped).await;
        assert_eq!(service.stop().await, 0, "{manner:?}");
    }
}

#[tokio::test]
async fn a_variable_that_changes_nothing_is_told_once() {
    let collector = Collector::start(Manner::Well).await;
    let mut project = traced(Project::new(), &collector);
    talkers(&project);
    project.set("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    project.set("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "ca.pem");
    project.set("OTEL_BSP_EXPORT_TIMEOUT", "1000");
    let service = Service::start(&project, &[]).await;
    ask(&service, "talker", "01").await;
    let said = service.said();
    assert_eq!(said.matches("is not heeded").count(), 3, "{said}");
    for variable in ["_COMPRESSION", "_CERTIFICATE", "OTEL_BSP_EXPORT_TIMEOUT"] {
        assert_eq!(said.matches(variable).count(), 1, "{variable}: {said}");
    }
    assert_eq!(service.stop().await, 0);
    collector.until_told("invoke_agent talker").await;
}

#[tokio::test]
async fn a_run_that_outlives_its_process_stays_in_its_trace() {
    let collector = Collector::start(Manner::Well).await;
    let project = traced(Project::new(), &collector);
    talkers(&project);
    let service = Service::start(&project, &[]).await;
    let path = "/v1/agents/silent/runs";
    let post = service.post(path, &json!({ "prompt": "PROMPT" })).header("Prefer", "respond-async");
    let post = post.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let run = ok(post).await["run_id"].as_str().unwrap().to_owned();
    collector.until_told("POST /v1/agents/{name}/runs").await;
    // Its acceptance, its start, and that of its attempt.
    let recorded = async |service: &Service, count| {
        let begun = async || service.run(&run).await["recorded"].as_u64() >= Some(count);
        until("it is under way", begun).await;
    };
    recorded(&service, 3).await;
    kill_9(service.pid());
    let _killed = service.ended().await;
    let service = Service::start(&project, &[]).await;
    // What becomes of the first attempt, and the start of another one: else nobody would drive it.
    recorded(&service, 5).await;
    let cancelled = async || {
        service.delete(&format!("/v1/runs/{run}")).send().await.is_ok()
            && service.run(&run).await["state"] == "cancelled"
    };
    until("it is ended by the next process", cancelled).await;
    service.signal(Signal::TERM);
    assert_eq!(service.ended().await, 0);
    let spans: Vec<Span> = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
    let expected = "\
POST /v1/agents/{name}/runs
  invoke_agent silent
    attempt silent
    attempt silent
";
    assert_eq!(drawn(&spans), expected);
    let lost =
        spans.iter().find(|span| span.attributes.get("error.type") == Some(&json!("process_gone")));
    assert_eq!(lost.expect("the first attempt is told of").says("axon.attempt"), "1");
    assert_eq!(one(&spans, "invoke_agent silent").says("axon.outcome"), "cancelled");
}
