//! Calls of tools that the service itself brings: recorded before they are answered.

use axon_kernel::event::{RunEvent, ToolCalled, ToolOutcome, ToolReturned};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{ToolCallId, idempotency_key};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{Effect, ToolSpec, ToolTarget};
use axon_kernel::store::StoreError;
use axon_kernel::wire::{ToolAnswer, ToolRequested, ToolResultRequest};
use axon_runner::RequestError;
use serde_json::Value;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Duration;

use super::attempt::AttemptError;
use super::driver::{Driver, Stuck};
use super::journal::With;
use crate::agent::Lease;
use crate::tools::{ToolCall, ToolError, ToolReply};

/// How long a tool may take that has no time of its own, besides the run's.
const TOOL_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) call: ToolCallId,
    name: String,
    end: Result<ToolReply, ToolError>,
}

/// The calls under way, each in a task of its own, which no panic of it leaves.
#[derive(Debug, Default)]
pub(super) struct RustCalls {
    tasks: JoinSet<Called>,
    /// Which task makes which call. Bounded by the tool calls of one model response.
    under_way: Vec<(AbortHandle, ToolCallId, String)>,
}

impl RustCalls {
    /// Waits until a call has ended; for ever if there is none.
    pub(super) async fn next(&mut self) -> Called {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        match ended {
            Ok((id, called)) => {
                self.under_way.retain(|(task, ..)| task.id() != id);
                called
            }
            Err(error) => self.broken(&error),
        }
    }

    fn broken(&mut self, error: &JoinError) -> Called {
        let at = self.under_way.iter().position(|(task, ..)| task.id() == error.id());
        let (call, name) = at.map_or_else(
            || (ToolCallId::new(""), String::new()),
            |at| {
                let (_, call, name) = self.under_way.swap_remove(at);
                (call, name)
            },
        );
        let what = if error.is_panic() { "panicked" } else { "was called off" };
        Called { call, end: Err(ToolError::Broken(format!("the tool {what}"))), name }
    }

    fn call_off(&self, call: &ToolCallId) {
        for (task, ..) in self.under_way.iter().filter(|(_, under_way, _)| under_way == call) {
            task.abort();
        }
    }
}

impl Driver {
    /// Begins a call that the runner asks for. One that has a result is not made again.
    pub(super) async fn tool_requested(
        &mut self,
        request: ToolRequested,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let call = request.tool_call_id.clone();
        if let Some(content) = self.results.get(&call) {
            // A Python tool that asks numbers its calls: in another order they are other calls.
            let recorded = self.calls.get(&call).filter(|called| called.name != request.name);
            let answer = match recorded {
                Some(recorded) => mistaken(recorded, &request.name),
                None => ToolAnswer::Ok { content: content.decode().unwrap_or_default() },
            };
            return self.answer(call, answer, lease).await;
        }
        let spec = self.launcher.spec.clone();
        let tool = spec.tools.iter().find(|tool| tool.name.as_str() == request.name);
        let (Some(tool), None) = (tool, tool.and_then(|tool| problem(tool, &request.args))) else {
            let refused = match tool.and_then(|tool| problem(tool, &request.args)) {
                Some(problem) => ToolAnswer::Retry { message: problem },
                None => unknown(&request.name),
            };
            return self.answer(call, refused, lease).await;
        };
        let ToolTarget::Rust(function) = &tool.target else {
            return self.answer(call, unknown(&request.name), lease).await;
        };
        let run_id = self.log().run_id().clone();
        let under_way = ToolCall {
            idempotency_key: idempotency_key(&run_id, request.step, &call),
            run_id,
            attempt: self.attempt,
            tool_call_id: call.clone(),
            args: request.args.clone(),
            deps: self.request.deps.clone(),
        };
        let Some(future) = self.services().tools.call(function, under_way) else {
            return self.answer(call, unknown(&request.name), lease).await;
        };
        self.intend(&request, tool.effect).await?;
        let limit = tool.timeout.unwrap_or(TOOL_TIME);
        let (name, ended) = (request.name.clone(), call.clone());
        let task = self.rust_calls.tasks.spawn(async move {
            let late = || ToolError::Failed(format!("no result within {limit:?}"));
            let end = tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(late()));
            Called { call: ended, name, end }
        });
        self.rust_calls.under_way.push((task, call, request.name));
        Ok(())
    }

    pub(super) fn tool_request_cancelled(&self, call: &ToolCallId) {
        self.rust_calls.call_off(call);
    }

    /// Records that a call is about to be made.
    pub(super) async fn intend(
        &mut self,
        request: &ToolRequested,
        effect: Effect,
    ) -> Result<(), Stuck> {
        let called = ToolCalled {
            tool_call_id: request.tool_call_id.clone(),
            name: request.name.clone(),
            args: request.args.clone(),
            effect,
            step: request.step,
        };
        self.called(called).await
    }

    /// Records how a call ended, with what it writes, and only then tells the runner.
    pub(super) async fn rust_call_ended(
        &mut self,
        called: Called,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let Called { call, name, end } = called;
        let (answer, writes) = match end {
            Ok(ToolReply { result, writes }) => (ToolAnswer::Ok { content: result }, writes),
            Err(ToolError::Retry(message)) => (ToolAnswer::Retry { message }, Vec::new()),
            Err(ToolError::Failed(message)) => (ToolAnswer::Failed { message }, Vec::new()),
            Err(ToolError::Broken(message)) => (broken(message), Vec::new()),
        };
        let recorded = self.returned(&call, &name, &answer, writes).await;
        let answer = match recorded {
            Err(Stuck::Store(
                error @ (StoreError::Changes { .. }
                | StoreError::Write { .. }
                | StoreError::ReadOnly { .. }),
            )) => {
                let refused = broken(error.to_string());
                self.returned(&call, &name, &refused, Vec::new()).await?;
                refused
            }
            Err(stuck) => return Err(stuck.into()),
            Ok(()) => answer,
        };
        self.answer(call, answer, lease).await
    }

    async fn returned(
        &mut self,
        call: &ToolCallId,
        name: &str,
        answer: &ToolAnswer,
        writes: Vec<axon_kernel::store::Write>,
    ) -> Result<(), Stuck> {
        let (outcome, result) = match answer {
            ToolAnswer::Ok { content } => (ToolOutcome::Ok, content.clone()),
            ToolAnswer::Retry { message } => (ToolOutcome::Retry, message.clone().into()),
            ToolAnswer::Failed { message } | ToolAnswer::Error { message, .. } => {
                (ToolOutcome::Failed, message.clone().into())
            }
        };
        let (tool_call_id, name, result) = (call.clone(), name.to_owned(), RawJson::from(&result));
        let returned = ToolReturned { tool_call_id, name, outcome, result };
        self.has_returned(returned, With { writes, ..With::default() }).await
    }

    async fn answer(
        &self,
        tool_call_id: ToolCallId,
        answer: ToolAnswer,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let result = ToolResultRequest { attempt: self.attempt, tool_call_id, answer };
        match lease.client().tool_result(self.log().run_id(), &result).await {
            Ok(()) => Ok(()),
            Err(error @ RequestError::Refused { .. }) => {
                let agent = self.agent.name();
                tracing::info!(run = %self.log().run_id(), %agent, %error, "a tool answer was refused");
                Ok(())
            }
            Err(error) => Err(error.into_failure().into()),
        }
    }

    /// Records that a call is about to be made, whoever makes it.
    pub(super) async fn called(&mut self, called: ToolCalled) -> Result<(), Stuck> {
        self.calls.insert(called.tool_call_id.clone(), called.clone());
        if called.effect == Effect::Once {
            self.doubts.insert(called.tool_call_id.clone());
        }
        self.emit(RunEvent::ToolCalled(called)).await
    }

    /// Records how a call ended, whoever made it.
    pub(super) async fn has_returned(
        &mut self,
        returned: ToolReturned,
        with: With,
    ) -> Result<(), Stuck> {
        let call = returned.tool_call_id.clone();
        let Some(effect) = self.status.awaited(&call) else { return Ok(()) };
        let result = (returned.outcome == ToolOutcome::Ok).then(|| returned.result.clone());
        if !with.writes.is_empty() {
            // What came before must not share the fate of these writes.
            self.journal.write(With::default(), Some(&self.clock)).await?;
        }
        self.record(RunEvent::ToolReturned(returned), with).await?;
        self.committed |= effect == Effect::Once;
        if let Some(result) = result {
            // Without a result, no later attempt would know that the call was made: until the
            // messages tell.
            self.results.insert(call.clone(), result);
            self.doubts.remove(&call);
        }
        Ok(())
    }
}

/// Returns what is wrong with the arguments of a call.
fn problem(tool: &ToolSpec, args: &RawJson) -> Option<String> {
    let schema = tool.parameters.as_ref()?;
    let value: Value = match args.decode() {
        Ok(value) => value,
        Err(error) => return Some(error.to_string()),
    };
    let violations = schema.validate(&value).err()?;
    let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Some(format!("the arguments break the tool's schema: {}", found.join("; ")))
}

fn unknown(name: &str) -> ToolAnswer {
    ToolAnswer::Error {
        message: format!("no Rust tool is registered as `{name}`"),
        kind: "unknown_tool".to_owned(),
        retryable: false,
    }
}

fn mistaken(recorded: &ToolCalled, asked: &str) -> ToolAnswer {
    let ToolCalled { tool_call_id: call, name, .. } = recorded;
    broken(format!(
        "call `{call}` asks for `{asked}`, and was `{name}` in an earlier attempt: a tool that asks \
         others must ask in the same order whenever it is called"
    ))
}

fn broken(message: String) -> ToolAnswer {
    ToolAnswer::Error { message, kind: "broken".to_owned(), retryable: false }
}

/// Returns why an agent cannot have a tool of the service's, if that is so.
pub(crate) fn check(tool: &ToolSpec, tools: &crate::tools::Tools) -> Result<(), Failure> {
    let ToolTarget::Rust(name) = &tool.target else { return Ok(()) };
    let config = |message: String| Failure::new(FailureKind::Config, message);
    let what = format!("tool `{}` is the Rust function `{name}`", tool.name);
    if !tools.has(name) {
        let help = "run the agent in the service that registers it, or name a Python one";
        return Err(config(format!("{what}, which is not registered here")).with_help(help));
    }
    if tool.parameters.is_none() {
        let help = "give `parameters`, the JSON Schema of its arguments";
        return Err(config(format!("{what}, and has no `parameters`")).with_help(help));
    }
    Ok(())
}
