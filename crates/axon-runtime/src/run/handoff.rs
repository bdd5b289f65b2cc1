//! Hand-offs: the model of a run names who goes on with it. That agent has the same history, deps,
//! deadline and budget, and the same callers; a person answers, and the agent itself goes on.

use axon_kernel::event::{HandedOff, RunEvent, ToolOutcome, ToolReturned};
use axon_kernel::failure::Failure;
use axon_kernel::flow::Target;
use axon_kernel::json::RawJson;
use axon_kernel::policy::Chain;
use axon_kernel::run::Standing;
use axon_kernel::spec::{AgentName, Effect, MAX_HOPS, ToolSpec};
use axon_kernel::wire::{ToolAnswer, ToolRequested};
use serde::Deserialize;
use serde_json::json;

use super::attempt::AttemptError;
use super::driver::{Driver, Stuck, failed};
use super::observed::Host;
use super::rust_tools::{problem, returned};
use crate::agent::Lease;

/// What a model says when it hands its run on.
#[derive(Deserialize)]
struct Choice {
    to: String,
    reason: String,
}

/// The hand-offs of a run.
#[derive(Debug, Default)]
pub(super) struct Handoffs {
    /// Those that were made, from whom to whom.
    pub(super) made: Vec<(AgentName, AgentName)>,
    /// Who goes on behind the next checkpoint.
    pub(super) next: Option<AgentName>,
}

impl Driver {
    /// Takes in that the model hands its run on.
    pub(super) async fn hand_off(
        &mut self,
        (tool, targets): (&ToolSpec, &[Target]),
        request: ToolRequested,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let call = request.tool_call_id.clone();
        if let Some(content) = self.results.get(&call) {
            let content = content.decode().unwrap_or_default();
            return self.answer(call, ToolAnswer::Ok { content }, lease).await;
        }
        if let Some(message) = problem(tool, &request.args) {
            return self.answer(call, ToolAnswer::Retry { message }, lease).await;
        }
        let choice: Choice = match request.args.decode() {
            Ok(choice) => choice,
            Err(error) => {
                let message = error.to_string();
                return self.answer(call, ToolAnswer::Retry { message }, lease).await;
            }
        };
        let target = targets.iter().find(|target| target.name() == choice.to);
        let Some(Target::Agent(name)) = target else {
            return self.ask_somebody(request, &choice.reason, lease).await;
        };
        let name = name.clone();
        self.observe_call(&request, Host::Agent);
        self.intend(&request, Effect::Idempotent).await?;
        let answer = match self.may_go_on(&name).await {
            Ok(definition) => {
                let (to, reason) = (name.clone(), choice.reason);
                let tool_call_id = call.clone();
                self.handed_off(HandedOff { tool_call_id, to, definition, reason }).await?;
                ToolAnswer::Ok { content: format!("`{name}` goes on from here.").into() }
            }
            Err(message) => ToolAnswer::Failed { message },
        };
        let returned = returned(&call, request.name, &answer);
        self.has_returned(returned, (Vec::new(), Vec::new())).await?;
        self.answer(call, answer, lease).await
    }

    async fn handed_off(&mut self, handed: HandedOff) -> Result<(), Stuck> {
        let from = self.agent.name().clone();
        tracing::info!(run = %self.log().run_id(), %from, to = %handed.to, "a run is handed on");
        self.handoffs.made.push((from, handed.to.clone()));
        self.handoffs.next = Some(handed.to.clone());
        self.emit(RunEvent::HandedOff(handed)).await
    }

    /// Asks a person; what that one answers is the result of the call.
    async fn ask_somebody(
        &mut self,
        request: ToolRequested,
        question: &str,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let metadata = json!({ "question": question });
        self.intend(&request, Effect::Idempotent).await?;
        let (tool_call_id, name) = (request.tool_call_id.clone(), request.name);
        let (outcome, result) = (ToolOutcome::Deferred, RawJson::from(&metadata));
        let returned = ToolReturned { tool_call_id, name, outcome, result };
        self.has_returned(returned, (Vec::new(), Vec::new())).await?;
        self.answer(request.tool_call_id, ToolAnswer::NeedsAnswer { metadata }, lease).await
    }

    /// Says whether `name` can go on with the run, and returns the digest of its definition; the model
    /// is told why not.
    async fn may_go_on(&self, name: &AgentName) -> Result<String, String> {
        let from = self.agent.name();
        if let Some(next) = &self.handoffs.next {
            return Err(format!("the run is handed to `{next}` already"));
        }
        if self.handoffs.made.contains(&(from.clone(), name.clone())) {
            return Err(format!(
                "`{name}` had the run from you before, and it came back: answer it yourself"
            ));
        }
        if self.envelope.hops >= MAX_HOPS {
            return Err(format!("the message was handed on {MAX_HOPS} times: answer it yourself"));
        }
        let other = self.other(name)?;
        if other.spec().flow.is_some() {
            return Err(format!("`{name}` is a {}, and goes on with no run", other.spec().kind()));
        }
        if !other.agent.takes_runs() {
            return Err(format!("`{name}` takes no runs now: answer without it"));
        }
        let adopted = other.adopt(self.log().run_id(), &self.request).await;
        adopted.map_err(|refusal| format!("`{name}` cannot go on: {refusal}"))?;
        Ok(other.agent.launcher().definition.clone())
    }

    /// Goes on with the run as the agent that it was handed to. Returns the run's end, if that one
    /// cannot be had after all.
    pub(super) async fn go_on_as_next(&mut self) -> Result<Option<RunEvent>, Stuck> {
        let Some(name) = self.handoffs.next.take() else { return Ok(None) };
        let (from, approve) = (self.agent.name().clone(), self.request.approve.clone());
        if let Err(problem) = self.enter_other(&name).await {
            let message =
                format!("`{name}`, to which `{from}` handed the run, cannot go on: {problem}");
            let failure = Failure { message, ..problem };
            return Ok(Some(failed(failure, self.chain.sentences())));
        }
        self.path = self.path.beside(&name);
        self.envelope = self.envelope.further();
        // What was tried for the one before counts for that one.
        self.chain = Chain::default();
        self.request.approve = approve;
        self.approvals.standing = Standing::beforehand(&self.request.approve);
        Ok(None)
    }
}
