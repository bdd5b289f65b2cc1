//! Plays the steps of an attempt.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{FailedTool, Failure, FailureKind};
use axon_kernel::wire::{ToolAnswer, ToolFinished, ToolRequested, ToolStarted};
use serde_json::Value;

use super::attempt::LiveAttempt;
use super::fill::Known;
use super::stage::Stage;
use super::step::Step;

/// An attempt under way.
pub(super) struct Performance {
    pub(super) stage: Stage,
    pub(super) known: Known,
    pub(super) steps: Vec<Step>,
    /// The lower attempt of the same run: nothing starts before it has ended.
    pub(super) lower: Option<Arc<LiveAttempt>>,
}

impl Performance {
    /// Plays to the end of the steps, to a cancel, or to the attempt's timeout.
    pub(super) async fn perform(mut self, model: String) {
        self.stage.started(model).await;
        let attempt = self.stage.attempt().clone();
        let timeout = self.stage.request().timeout;
        tokio::select! {
            () = self.play() => {}
            () = attempt.cancelled() => self.stage.cancelled().await,
            seconds = expired(timeout, &attempt) => self.stage.time_out(seconds).await,
        }
    }

    async fn play(&mut self) {
        if let Some(lower) = self.lower.take() {
            lower.ended().await;
        }
        for step in std::mem::take(&mut self.steps) {
            let next = match self.known.fill(&step) {
                Ok(step) => self.take(step).await,
                Err(error) => {
                    let message = format!("the script has an impossible step: {error}");
                    self.stage.fail(Failure::new(FailureKind::Internal, message)).await;
                    ControlFlow::Break(())
                }
            };
            if next.is_break() {
                return;
            }
        }
        if !self.stage.attempt().is_over() {
            let message = "the script has no more steps";
            self.stage.fail(Failure::new(FailureKind::Internal, message)).await;
        }
    }

    async fn take(&mut self, step: Step) -> ControlFlow<()> {
        let stage = &mut self.stage;
        match step {
            Step::Text(text) => stage.text(text).await,
            Step::Partial(value) if stage.request().stream => {
                let partial = axon_kernel::wire::PartialOutput { value };
                stage.emit("partial_output", &partial).await;
            }
            Step::Partial(_) => {}
            Step::ToolStarted(started) => self.tool_started(started).await,
            Step::ToolFinished(finished) => self.tool_finished(finished).await,
            Step::Unfinished(step) => stage.leave(step),
            Step::ToolRequests(requests) => return self.tool_requests(requests).await,
            Step::Checkpoint(checkpoint) => stage.checkpoint(checkpoint).await,
            Step::Log(record) => {
                stage.emit("log", &record).await;
            }
            Step::Event(event) => {
                stage.emit(&event.kind, &event.data).await;
            }
            Step::Complete(end) => stage.complete(end.output, end.messages, end.usage).await,
            Step::Fail(error) => stage.fail(error).await,
            Step::Pause(requests) => stage.pause(requests).await,
            Step::Hang => std::future::pending().await,
            Step::Freeze => {
                stage.attempt().freeze();
                std::future::pending::<()>().await;
            }
            Step::SleepMs(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Die(death) => {
                stage.flush().await;
                death.die();
            }
            Step::Raw(text) => stage.write_raw(text.into_bytes()).await,
            Step::Garbage(bytes) => stage.write_raw(bytes).await,
            Step::EndStream => return ControlFlow::Break(()),
            Step::BreakStream => {
                stage.flush().await;
                stage.break_stream().await;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    async fn tool_started(&mut self, started: ToolStarted) {
        if self.stage.request().recorded.contains_key(&started.tool_call_id) {
            return;
        }
        let seq = self.stage.emit("tool_started", &started).await;
        if started.permit {
            self.stage.attempt().permitted(seq).await;
        }
    }

    async fn tool_finished(&mut self, mut finished: ToolFinished) {
        if let Some(result) = self.stage.request().recorded.get(&finished.tool_call_id) {
            finished.result = result.clone();
            finished.recorded = true;
        }
        let result = finished.result.decode().unwrap_or(Value::Null);
        self.known.results.insert(finished.tool_call_id.clone(), result);
        self.stage.emit("tool_finished", &finished).await;
    }

    async fn tool_requests(&mut self, requests: Vec<ToolRequested>) -> ControlFlow<()> {
        for request in &requests {
            self.stage.attempt().ask(request.tool_call_id.clone());
            self.stage.emit("tool_request", request).await;
        }
        for ToolRequested { tool_call_id, name, .. } in requests {
            let result = match self.stage.attempt().answered(&tool_call_id).await {
                ToolAnswer::Ok { content } => content,
                ToolAnswer::Retry { message } | ToolAnswer::Failed { message } => message.into(),
                ToolAnswer::NeedsApproval { metadata } | ToolAnswer::NeedsAnswer { metadata } => {
                    metadata
                }
                ToolAnswer::Error { message, kind, retryable } => {
                    let mut error = Failure::new(FailureKind::Tool, message);
                    error.class = kind;
                    error.retryable = retryable;
                    error.tool = Some(FailedTool { tool_call_id: Some(tool_call_id), name });
                    self.stage.fail(error).await;
                    return ControlFlow::Break(());
                }
            };
            self.known.results.insert(tool_call_id, result);
        }
        ControlFlow::Continue(())
    }
}

/// Waits for the attempt's timeout, and returns it.
async fn expired(timeout: Option<f64>, attempt: &LiveAttempt) -> f64 {
    let after = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let (Some(seconds), Some(after)) = (timeout, after) else {
        return std::future::pending().await;
    };
    tokio::time::sleep(after).await;
    attempt.endable().await;
    seconds
}
