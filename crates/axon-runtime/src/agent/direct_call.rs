//! A Python tool that is called without a model: in its time, or its runner ends with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentSpec, PythonTarget, Role, ToolTarget};
use axon_kernel::wire::ToolCallRequest;
use axon_runner::RequestError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::AgentHandle;
use super::tenancy::Lease;
use crate::events::RuntimeEvent;

/// A direct call of one of an agent's Python tools, about to be made.
///
/// It has the time that it is given, else its tool's own, else that of the agent's runs. What does
/// not stop then, or when nobody waits for it any more, is killed with its runner, and another one
/// takes that one's place: what else was under way there goes on in it.
#[derive(Debug)]
#[must_use = "nothing is called before it is made"]
pub struct DirectCall {
    agent: AgentHandle,
    target: PythonTarget,
    args: RawJson,
    deps: Option<RawJson>,
    timeout: Option<Duration>,
}

impl DirectCall {
    pub(super) fn new(agent: AgentHandle, target: PythonTarget, args: RawJson) -> Self {
        Self { agent, target, args, deps: None, timeout: None }
    }

    /// Gives the tool its deps.
    pub fn deps(mut self, deps: Option<RawJson>) -> Self {
        self.deps = deps;
        self
    }

    /// Says how long it may take, the wait for a runner included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the call, and returns what the tool returned.
    ///
    /// # Errors
    ///
    /// The tool's [`Failure`]; of kind `config` if the agent does not register the tool, and of
    /// kind `run_timeout` if there was no result in time. Others say why the runner could not be
    /// asked.
    pub async fn make(self) -> Result<RawJson, Failure> {
        let spec = self.agent.spec();
        self.admit(&spec)?;
        let limit = self.timeout.or_else(|| own_time(&spec, &self.target));
        let limit = limit.unwrap_or(spec.limits.timeout);
        let deadline = Instant::now() + limit;
        let lease = self.agent.lease_within(limit).await?;
        let call = ToolCallId::new(uuid::Uuid::now_v7().to_string());
        // Dropped with this future, which tells that nobody waits any more.
        let (_waits, gone) = oneshot::channel::<Infallible>();
        let under_way = UnderWay { call, lease, asked: self, spec, limit };
        let made = tokio::spawn(under_way.finish(deadline, gone)).await;
        made.unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, error.to_string())))
    }

    /// Refuses what the agent does not register; its runner would refuse it too.
    fn admit(&self, spec: &AgentSpec) -> Result<(), Failure> {
        let target = &self.target;
        let mut tools = spec.callables().into_iter().filter(|entry| entry.role == Role::Tool);
        if tools.any(|entry| entry.target == *target) {
            return Ok(());
        }
        let agent = &spec.name;
        tracing::warn!(%agent, %target, "a direct call of what is no tool of the agent was refused");
        let message = format!("agent `{agent}` registers no tool {target}");
        Err(Failure::new(FailureKind::Config, message))
    }
}

fn own_time(spec: &AgentSpec, target: &PythonTarget) -> Option<Duration> {
    let is_it = |tool: &ToolTarget| matches!(tool, ToolTarget::Python(python) if python == target);
    let tool = spec.tools.iter().find(|tool| is_it(&tool.target))?;
    tool.timeout.or(spec.tool_timeout)
}

/// A call that was sent.
struct UnderWay {
    call: ToolCallId,
    lease: Lease,
    asked: DirectCall,
    spec: Arc<AgentSpec>,
    limit: Duration,
}

impl UnderWay {
    /// Waits for the result, until `deadline` or until nobody waits any more.
    async fn finish(
        self,
        deadline: Instant,
        gone: oneshot::Receiver<Infallible>,
    ) -> Result<RawJson, Failure> {
        let DirectCall { target, args, deps, .. } = &self.asked;
        let tool_call_id = Some(self.call.clone());
        let request = ToolCallRequest { args: args.clone(), deps: deps.clone(), tool_call_id };
        let answer = tokio::select! {
            answer = self.lease.client().call_tool(target, &request, self.limit) => Some(answer),
            () = tokio::time::sleep_until(deadline) => None,
            _nobody = gone => None,
        };
        match answer {
            Some(Ok(answer)) => return Ok(answer.result),
            Some(Err(RequestError::Silent { .. })) | None => {}
            Some(Err(error)) => return Err(error.into_failure()),
        }
        self.hard_stop().await;
        let message = format!("{target} gave no result within {} s", self.limit.as_secs_f64());
        Err(Failure::new(FailureKind::RunTimeout, message))
    }

    async fn hard_stop(&self) {
        let deadline = Instant::now() + self.spec.runner.cancel_grace;
        let Some(stacks) = self.lease.end_call(&self.call, deadline).await else { return };
        let (agent, target) = (self.spec.name.clone(), &self.asked.target);
        let generation = self.lease.generation();
        tracing::warn!(
            %agent, %target, %generation, stacks,
            "a direct call did not stop when it had to: its runner was killed"
        );
        let run_id = self.lease.run().clone();
        let told = RuntimeEvent::HardStopped { run_id, agent, generation };
        self.asked.agent.services.events.tell(told);
    }
}
