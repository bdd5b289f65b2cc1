//! Calls of tools that run in this process: recorded before they are answered.

use std::sync::{Arc, Mutex};

use axon_kernel::event::{
    RunEvent, StateChanged, StatePatch, ToolCalled, ToolOutcome, ToolReturned,
};
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::{Effect, ToolSpec, ToolTarget};
use axon_kernel::store::{StoreError, Write};
use axon_kernel::wire::{ToolAnswer, ToolRequested, ToolResultRequest};
use axon_runner::RequestError;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptError;
use super::calls::{Begun, By, Called, Ended, News};
use super::driver::{Driver, Stuck};
use super::journal::With;
use super::observed::Host;
use crate::agent::Lease;
use crate::tools::{Call, Left, Tool, ToolError};

impl Driver {
    /// Begins a call that the runner asks for. One that has a result is not made again.
    pub(super) async fn tool_requested(
        &mut self,
        request: ToolRequested,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let call = request.tool_call_id.clone();
        let spec = self.launcher.spec.clone();
        let Some(tool) = spec.tools.iter().find(|tool| tool.name.as_str() == request.name) else {
            return self.refuse(request, lease).await;
        };
        if !self.calls_here.has_room() {
            // It is not made yet, so nothing about it is recorded.
            self.waiting_calls.push_back(request);
            return Ok(());
        }
        if let ToolTarget::Handoff(targets) = &tool.target {
            return self.hand_off((tool, targets), request, lease).await;
        }
        if let ToolTarget::Agent(agent) = &tool.target {
            return match problem(tool, &request.args) {
                Some(message) => self.answer(call, ToolAnswer::Retry { message }, lease).await,
                None => self.delegate((tool, agent), request, lease).await,
            };
        }
        if let Some(content) = self.results.get(&call) {
            // A Python tool that asks numbers its calls: in another order they are other calls.
            let recorded = self.calls.get(&call).filter(|called| called.name != request.name);
            let answer = match recorded {
                Some(recorded) => mistaken(recorded, &request.name),
                None => ToolAnswer::Ok { content: content.decode().unwrap_or_default() },
            };
            return self.answer(call, answer, lease).await;
        }
        let function = self.launcher.code.tool(tool, &self.services().code).cloned();
        let Some(function) = function else { return self.refuse(request, lease).await };
        if let Some(message) = problem(tool, &request.args) {
            return self.answer(call, ToolAnswer::Retry { message }, lease).await;
        }
        self.observe_call(&request, Host::Rust);
        self.intend(&request, tool.effect).await?;
        self.make(tool, function, request);
        Ok(())
    }

    /// Begins the span of a call.
    pub(super) fn observe_call(&mut self, request: &ToolRequested, host: Host) {
        let what = (&request.tool_call_id, &*request.name);
        self.observed.tool_called(what, host, (None, request.traceparent.as_deref()));
        self.observed.tool_given(&request.tool_call_id, &request.args, &self.request.deps);
    }

    /// Refuses a call of what is no Rust tool of this agent.
    async fn refuse(&self, request: ToolRequested, lease: &Lease) -> Result<(), AttemptError> {
        let (run, agent) = (self.log().run_id(), self.agent.name());
        tracing::warn!(
            %run, %agent, tool = request.name,
            "a runner asked for what is no Rust tool of its agent, and was refused"
        );
        let refused = ToolAnswer::Error {
            message: format!("no Rust tool is registered as `{}`", request.name),
            kind: "unknown_tool".to_owned(),
            retryable: false,
        };
        self.answer(request.tool_call_id, refused, lease).await
    }

    fn make(&mut self, tool: &ToolSpec, function: Tool, request: ToolRequested) {
        let deadline = match tool.timeout.or(self.launcher.spec.tool_timeout) {
            Some(timeout) => self.deadline().min(Instant::now() + timeout),
            None => self.deadline(),
        };
        let cancelled = CancellationToken::new();
        let call = Arc::new(Call {
            run_id: self.log().run_id().clone(),
            agent: self.agent.name().clone(),
            tool: request.name.clone(),
            attempt: self.attempt,
            tool_call_id: request.tool_call_id.clone(),
            step: request.step,
            args: request.args,
            deps: self.request.deps.clone(),
            retry: request.retry,
            max_retries: request.max_retries,
            approved: request.approved,
            deadline,
            conversation: self.request.conversation.clone(),
            traceparent: self.observed.inside(&request.tool_call_id),
            budget: self.request.budget.clone(),
            cancelled: cancelled.clone(),
            told: Some(self.calls_here.told()),
            state: self.state_here.clone(),
            provided: self.launcher.code.provided.clone(),
            left: Mutex::new(Left::default()),
        });
        let by = By::Tool { call: call.clone(), effect: tool.effect };
        let (id, name) = (request.tool_call_id, request.name);
        let begun = Begun { call: id, name, by, deadline, cancelled };
        self.calls_here
            .begin(begun, async move { (function.call(call).await.map_err(Ended::Tool), None) });
    }

    /// Takes in what has come of the calls.
    pub(super) async fn news(&mut self, news: News, lease: &Lease) -> Result<(), AttemptError> {
        match news {
            News::Told(event) => Ok(self.emit(*event).await?),
            News::Ended(called) if matches!(called.by, By::Validators) => {
                self.output_checked(*called, lease).await
            }
            News::Ended(called) => {
                self.call_ended(*called, lease).await?;
                // There is room for one that waits.
                match self.waiting_calls.pop_front() {
                    Some(request) => self.tool_requested(request, lease).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Calls off what the runner does not want any more.
    pub(super) fn call_off(&mut self, call: &ToolCallId) {
        self.waiting_calls.retain(|request| request.tool_call_id != *call);
        self.calls_here.call_off(call);
    }

    /// Sees out what the attempt has left under way. What must not be made again is waited for, and
    /// recorded: the next attempt is answered with it.
    pub(super) async fn see_out(&mut self) -> Result<(), Stuck> {
        self.waiting_calls.clear();
        for called in self.calls_here.see_out().await {
            self.record_end(called).await?;
        }
        Ok(())
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

    /// Records how a call ended, with what it leaves, and only then tells the runner.
    async fn call_ended(&mut self, called: Called, lease: &Lease) -> Result<(), AttemptError> {
        let tool_call_id = called.call.clone();
        let usage = called.spent.as_ref().map(|spent| spent.usage.clone());
        let (answer, patches) = self.record_end(called).await?;
        if let Some(usage) = &usage {
            // The other run has ended.
            self.delegated.remove(&tool_call_id);
            self.spending.spent_elsewhere(usage);
        }
        let result =
            ToolResultRequest { attempt: self.attempt, tool_call_id, answer, patches, usage };
        self.send(result, lease).await
    }

    /// Records how a call ended, with what it leaves, and returns what the runner is to be told.
    async fn record_end(&mut self, called: Called) -> Result<(ToolAnswer, Vec<StatePatch>), Stuck> {
        let Called { call, name, end, by, spent } = called;
        let answer = self.answer_of(end, &by);
        let Left { mut writes, mut patches } = match by {
            By::Tool { call, .. } => call.take(),
            By::Agent | By::Validators => Left::default(),
        };
        if let Some(changed) = spent.and_then(|spent| spent.changed) {
            self.state_here.apply(&changed);
            patches.push(changed);
        }
        if !matches!(answer, ToolAnswer::Ok { .. }) {
            writes.clear();
        }
        let returned = returned(&call, name, &answer);
        let name = returned.name.clone();
        match self.has_returned(returned, (patches.clone(), writes)).await {
            Err(Stuck::Store(
                error @ (StoreError::Changes { .. }
                | StoreError::Write { .. }
                | StoreError::ReadOnly { .. }),
            )) => {
                let answer = broken(error.to_string());
                let refused = self::returned(&call, name, &answer);
                self.has_returned(refused, (Vec::new(), Vec::new())).await?;
                Ok((answer, patches))
            }
            Err(stuck) => Err(stuck),
            Ok(()) => Ok((answer, patches)),
        }
    }

    /// Returns what the runner is told of a call that ended. No error shows a secret of the deps.
    fn answer_of(&self, end: Result<Value, Ended>, by: &By) -> ToolAnswer {
        let told = |message: &str| self.request.deps.redact(message);
        match end {
            Ok(content) => ToolAnswer::Ok { content },
            Err(Ended::Waits(metadata)) => ToolAnswer::NeedsApproval { metadata },
            Err(Ended::Other { agent, failure }) => {
                let why = format!("agent `{agent}` gave no answer: {failure}");
                ToolAnswer::Failed { message: told(&why) }
            }
            Err(Ended::Tool(ToolError::Retry(why))) => ToolAnswer::Retry { message: told(&why) },
            Err(Ended::Tool(ToolError::Failed(why))) => ToolAnswer::Failed { message: told(&why) },
            Err(Ended::Tool(ToolError::NeedsApproval(why))) => match by {
                By::Tool { call, .. } if call.approved => {
                    broken(format!("it asks for an approval that it has: {}", told(&why)))
                }
                By::Tool { .. } | By::Agent | By::Validators => {
                    ToolAnswer::NeedsApproval { metadata: json!({ "reason": told(&why) }) }
                }
            },
            Err(Ended::Tool(error @ ToolError::Broken(_))) => broken(told(&error.chain())),
        }
    }

    pub(super) async fn answer(
        &self,
        tool_call_id: ToolCallId,
        answer: ToolAnswer,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let (patches, usage) = (Vec::new(), None);
        let result =
            ToolResultRequest { attempt: self.attempt, tool_call_id, answer, patches, usage };
        self.send(result, lease).await
    }

    async fn send(&self, result: ToolResultRequest, lease: &Lease) -> Result<(), AttemptError> {
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
        self.call_begins(&called.tool_call_id, &called.name);
        self.emit(RunEvent::ToolCalled(called)).await
    }

    /// Records how a call ended, whoever made it, with what it changed in the run's state and what it
    /// writes in the store.
    pub(super) async fn has_returned(
        &mut self,
        returned: ToolReturned,
        (patches, writes): (Vec<StatePatch>, Vec<Write>),
    ) -> Result<(), Stuck> {
        self.observed.tool_returned(&returned, &self.request.deps);
        let call = returned.tool_call_id.clone();
        let Some(effect) = self.status.awaited(&call) else { return Ok(()) };
        let outcome = returned.outcome;
        let result = (outcome == ToolOutcome::Ok).then(|| returned.result.clone());
        if !writes.is_empty() {
            // What came before must not share the fate of these writes.
            self.journal.write(With::default(), Some(&self.clock)).await?;
        }
        for patch in patches {
            self.live.state.apply(&patch);
            let tool_call_id = call.clone();
            self.emit(RunEvent::StateChanged(StateChanged { tool_call_id, patch })).await?;
        }
        self.record(RunEvent::ToolReturned(returned), With { writes, ..With::default() }).await?;
        self.call_counts(&call, outcome);
        self.committed |= effect == Effect::Once && outcome.was_made();
        if outcome == ToolOutcome::Deferred {
            self.results.remove(&call);
            self.doubts.remove(&call);
        }
        if let Some(result) = result {
            // Without a result, no later attempt would know that the call was made: until the
            // messages tell.
            self.results.insert(call.clone(), result);
            self.doubts.remove(&call);
        }
        Ok(())
    }
}

/// Returns the event of a call that ended with `answer`.
pub(super) fn returned(call: &ToolCallId, name: String, answer: &ToolAnswer) -> ToolReturned {
    let (outcome, result) = match answer {
        ToolAnswer::Ok { content } => (ToolOutcome::Ok, content.clone()),
        ToolAnswer::Retry { message } => (ToolOutcome::Retry, message.clone().into()),
        ToolAnswer::NeedsApproval { metadata } | ToolAnswer::NeedsAnswer { metadata } => {
            (ToolOutcome::Deferred, metadata.clone())
        }
        ToolAnswer::Failed { message } | ToolAnswer::Error { message, .. } => {
            (ToolOutcome::Failed, message.clone().into())
        }
    };
    ToolReturned { tool_call_id: call.clone(), name, outcome, result: RawJson::from(&result) }
}

/// Returns what is wrong with the arguments of a call.
pub(super) fn problem(tool: &ToolSpec, args: &RawJson) -> Option<String> {
    let schema = tool.arguments()?;
    let value: Value = match args.decode() {
        Ok(value) => value,
        Err(error) => return Some(error.to_string()),
    };
    let violations = schema.validate(&value).err()?;
    let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Some(format!("the arguments break the tool's schema: {}", found.join("; ")))
}

fn mistaken(recorded: &ToolCalled, asked: &str) -> ToolAnswer {
    let ToolCalled { tool_call_id: call, name, .. } = recorded;
    broken(format!(
        "call `{call}` asks for `{asked}`, and was `{name}` in an earlier attempt: a tool that asks \
         others must ask in the same order whenever it is called"
    ))
}

pub(super) fn broken(message: String) -> ToolAnswer {
    ToolAnswer::Error { message, kind: "broken".to_owned(), retryable: false }
}
