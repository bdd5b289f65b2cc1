//! The runner protocol: the suite against both runners, and what a scripted runner can play.

use std::collections::BTreeMap;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Attempt, Generation, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentSpec, Effect, PythonTarget};
use axon_kernel::wire::{
    AttemptRequest, Before, Launch, PermitRequest, RunnerEvent, ToolAnswer, ToolCallRequest,
    ToolResultRequest,
};
use axon_runner::{
    AttemptStream, LaunchPlan, RequestError, Runner, StartError, StartingRunner, StreamError,
};
use axon_test::scripted_runner::{
    Answer, Death, Endpoint, Life, OnTerm, RunnerScript, Start, Step, ToolPlay, When, message,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-runner");
const READY_WITHIN: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(20);

/// A scripted runner, and the folder of its script.
struct Scripted {
    runner: Runner,
    _folder: TempDir,
}

async fn launch(script: impl Into<RunnerScript>) -> Scripted {
    launch_as(script, 1).await.expect("the script lets the runner become ready")
}

async fn launch_as(
    script: impl Into<RunnerScript>,
    generation: u32,
) -> Result<Scripted, StartError> {
    start(script.into(), generation, READY_WITHIN).await
}

async fn start(
    script: RunnerScript,
    generation: u32,
    within: Duration,
) -> Result<Scripted, StartError> {
    let folder = tempfile::tempdir().unwrap();
    let spec = AgentSpec::new(AgentName::try_from("scripted").unwrap());
    let mut launch = Launch::new(&spec, Generation(generation), "the-token".to_owned());
    launch.callables = serde_json::from_value(json!([
        {"target": "bank:balance", "role": "tool", "effect": "pure"},
        {"target": "bank:unplayed", "role": "tool", "effect": "pure"},
    ]))
    .unwrap();
    let plan = LaunchPlan {
        command: script.command(SCRIPTED, folder.path()).unwrap(),
        env: BTreeMap::new(),
        directory: folder.path().to_owned(),
        sockets: folder.path().to_owned(),
        launch,
    };
    let runner = StartingRunner::launch(plan)?.ready(within).await?;
    Ok(Scripted { runner, _folder: folder })
}

fn request(run: &str, prompt: &str) -> AttemptRequest {
    let request = json!({
        "run_id": run, "attempt": 1, "prompt": prompt, "stream": true,
        "spec": {"model": "openai:gpt-5"}, "timeout": 20,
    });
    serde_json::from_str(&request.to_string()).unwrap()
}

impl Scripted {
    async fn attempt(&self, request: &AttemptRequest) -> AttemptStream {
        self.runner.client().attempt(request).await.expect("the attempt is let in")
    }

    /// Follows one attempt to its end, giving every permit and the answer 7 to every call.
    async fn play(&self, request: &AttemptRequest) -> (Vec<RunnerEvent>, Option<StreamError>) {
        let mut stream = self.attempt(request).await;
        let mut events = Vec::new();
        loop {
            let next = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
            let (seq, event) = match next {
                Ok(Some(next)) => next,
                Ok(None) => return (events, None),
                Err(error) => return (events, Some(error)),
            };
            let permit = PermitRequest { attempt: request.attempt, seq };
            match &event {
                RunnerEvent::Checkpoint(checkpoint) if checkpoint.before != Before::End => {
                    self.runner.client().permit(&request.run_id, permit).await.unwrap();
                }
                RunnerEvent::ToolStarted(started) if started.permit => {
                    self.runner.client().permit(&request.run_id, permit).await.unwrap();
                }
                RunnerEvent::ToolRequest(call) => {
                    let answer = ToolResultRequest {
                        attempt: request.attempt,
                        tool_call_id: call.tool_call_id.clone(),
                        answer: ToolAnswer::Ok { content: json!(7) },
                    };
                    self.runner.client().tool_result(&request.run_id, &answer).await.unwrap();
                }
                _ => {}
            }
            events.push(event);
        }
    }

    async fn output(&self, request: &AttemptRequest) -> Value {
        let (events, error) = self.play(request).await;
        match events.last() {
            Some(RunnerEvent::Completed(completed)) => completed.output.decode().unwrap(),
            other => panic!("no output but {other:?} and {error:?}"),
        }
    }
}

fn texts(events: &[RunnerEvent]) -> Vec<String> {
    let text = |event: &RunnerEvent| match event {
        RunnerEvent::Model { data, .. } => {
            let data: Value = data.decode().ok()?;
            let text = data.pointer("/part/content").or(data.pointer("/delta/content_delta"))?;
            text.as_str().map(str::to_owned)
        }
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn concurrent_runs_get_answers_of_their_own() {
    let life = Life::default()
        .on(When::prompt("boom"), [Failure::new(FailureKind::ModelOverloaded, "busy").into()])
        .always([Step::text("You said "), Step::text("{{prompt}}"), Step::complete("{{prompt}}!")]);
    let scripted = launch(life).await;
    let plays = (0..50).map(|number| {
        let request = request(&format!("run-{number}"), &format!("prompt {number}"));
        let scripted = &scripted;
        async move { scripted.play(&request).await }
    });
    for (number, (events, _)) in futures_util::future::join_all(plays).await.iter().enumerate() {
        assert_eq!(texts(events), ["You said ".to_owned(), format!("prompt {number}")]);
    }
    let (events, _) = scripted.play(&request("run-boom", "boom")).await;
    assert!(matches!(events.last(), Some(RunnerEvent::Failed(failed)) if failed.error.message == "busy"));
}
