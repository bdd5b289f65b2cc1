//! Histories that a new prompt follows: what pydantic-ai refuses, and what it takes once repaired.

use axon_kernel::failure::FailureKind;
use axon_kernel::json::RawJson;
use axon_kernel::transcript::repair;
use axon_kernel::wire::{AttemptRequest, RunnerEvent};
use axon_runner::{Runner, StartingRunner};
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::message;
use axon_test::{Reply, ScriptedModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{READY_WITHIN, python_plan};

/// A real runner with the real OpenAI client, and a model that refuses unanswered calls.
struct Scene {
    model: ScriptedModel,
    runner: Runner,
    runs: u32,
    _folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let model = ScriptedModel::start(Reply::text("fine")).await;
        let folder = tempfile::tempdir().unwrap();
        let mut plan = python_plan(folder.path()).await;
        plan.launch.env.insert("SCRIPTED_KEY".to_owned(), "sk-scripted".to_owned());
        let starting = StartingRunner::launch(plan).await.expect("there is such a program");
        let runner = starting.ready(READY_WITHIN).await.expect("the runner becomes ready");
        Self { model, runner, runs: 0, _folder: folder }
    }

    /// Makes an attempt with a new prompt after `history`, and returns its last event.
    async fn prompt(&mut self, history: &[RawJson]) -> RunnerEvent {
        self.runs += 1;
        let provider = json!({"base_url": self.model.base_url(), "api_key_env": "SCRIPTED_KEY"});
        let request = json!({
            "run_id": format!("run-{}", self.runs), "attempt": 1, "prompt": "And now?",
            "stream": true, "message_history": history, "timeout": 20,
            "spec": {"model": "openai-chat:scripted", "provider": provider},
        });
        let request: AttemptRequest = serde_json::from_str(&request.to_string()).unwrap();
        let mut stream = self.runner.client().attempt(&request, None).await.unwrap();
        let mut last = None;
        while let Some((_, event)) = stream.next().await.unwrap() {
            last = Some(event);
        }
        last.expect("an attempt has events")
    }
}

fn calls(state: &str) -> Value {
    let call = |id: &str| {
        json!({"part_kind": "tool-call", "tool_name": "transfer",
                                 "args": {"amount": 7}, "tool_call_id": id})
    };
    json!({"kind": "response", "parts": [call("a"), call("b")], "state": state,
           "timestamp": "2026-01-02T03:04:05Z", "model_name": "scripted"})
}

fn text(state: &str) -> Value {
    json!({"kind": "response", "state": state,
           "parts": [{"part_kind": "text", "content": "I was about to"}]})
}

fn history(messages: &[Value]) -> Vec<RawJson> {
    messages.iter().map(RawJson::from).collect()
}

fn repaired(mut messages: Vec<RawJson>) -> Vec<RawJson> {
    if let Some(repair) = repair(&messages) {
        repair.apply(&mut messages);
    }
    messages
}

#[tokio::test]
async fn repaired_history_is_taken_by_pydantic_ai_and_the_provider() {
    let mut scene = Scene::new().await;
    let user = || message::user("Transfer 7");
    let answered = || message::tool_return("a", "transfer", json!("done"));
    for (messages, refused) in [
        (vec![user(), calls("complete")], true),
        (vec![user(), calls("incomplete")], true),
        (vec![user(), text("suspended")], true),
        (vec![user(), calls("complete"), text("suspended")], true),
        (vec![user(), calls("complete"), text("interrupted")], false),
        (vec![user(), calls("interrupted")], false),
        (vec![user(), text("interrupted")], false),
        (vec![user(), calls("complete"), answered()], false),
        (vec![user(), calls("complete"), user()], false),
        (vec![user(), text("complete")], false),
        (vec![user()], false),
        (vec![], false),
    ] {
        let before = history(&messages);
        let end = scene.prompt(&before).await;
        if refused {
            let RunnerEvent::Failed(failed) = end else { panic!("{messages:?}: {end:?}") };
            assert_eq!(failed.error.kind, FailureKind::Config, "{messages:?}: {failed:?}");
            assert!(repair(&before).is_some(), "{messages:?}");
        } else {
            assert!(matches!(end, RunnerEvent::Completed(_)), "{messages:?}: {end:?}");
        }
        let end = scene.prompt(&repaired(before)).await;
        assert!(matches!(end, RunnerEvent::Completed(_)), "{messages:?}: {end:?}");
    }
    scene.runner.stop(READY_WITHIN).await;
}

#[tokio::test]
async fn model_is_told_that_its_calls_were_interrupted() {
    let mut scene = Scene::new().await;
    let messages = history(&[message::user("Transfer 7"), calls("complete")]);
    scene.prompt(&repaired(messages)).await;
    let request = &scene.model.requests()[0];
    let told = ChatRequest::new(&request.body).messages();
    let roles: Vec<&str> = told.iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    let interrupted = "The tool call was interrupted before a result was produced.";
    assert_eq!((&told[2]["tool_call_id"], &told[2]["content"]), (&json!("a"), &json!(interrupted)));
    assert_eq!(told[4]["content"], "And now?");
    scene.runner.stop(READY_WITHIN).await;
}
