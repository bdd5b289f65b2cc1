//! The door to one agent.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Generation, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentSpec, PythonTarget};
use axon_kernel::wire::ToolCallRequest;
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::{Admission, AgentMessage, Lease};
use crate::agents::Current;
use crate::launch::Launcher;
use crate::run::{Prompt, Refusal, RunBuilder};
use crate::runs::Runs;

/// Speaks to one agent of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) actor: Current,
    pub(crate) settled: watch::Receiver<Option<Result<(), Failure>>>,
    pub(crate) runs: Runs,
}

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentStatus {
    /// Its name.
    pub name: AgentName,
    /// Where its runner is.
    #[serde(flatten)]
    pub state: AgentState,
    /// The generation of its runner.
    pub generation: Generation,
    /// The runner's process id.
    pub pid: Option<u32>,
    /// The model, as the runner resolved it.
    pub model: Option<String>,
    /// Whether that model only plays one.
    pub offline: bool,
    /// Runs under way.
    pub in_flight: u32,
    /// Runs that wait.
    pub queued: usize,
}

/// Where an agent's runner is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AgentState {
    /// Being launched.
    Starting,
    /// Taking runs.
    Up,
    /// Waiting to be launched again.
    Restarting {
        /// Why it ended.
        cause: String,
    },
    /// Not served until it is restarted, or its next try succeeds.
    Parked {
        /// Why.
        cause: String,
    },
}

impl AgentHandle {
    /// Returns the agent's name.
    #[must_use]
    pub fn name(&self) -> &AgentName {
        &self.spec().name
    }

    /// Returns the agent's definition.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.launcher.spec
    }

    /// Prepares a run with `prompt`.
    ///
    /// ```no_run
    /// # async fn example(bank: axon_runtime::AgentHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut run = bank.run("What is my balance?").start().await?;
    /// while let Some(update) = run.events().next().await {
    ///     println!("{update:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&self, prompt: impl Into<Prompt>) -> RunBuilder {
        RunBuilder::new(self.clone(), prompt.into())
    }

    /// Returns how the agent is.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the agent was stopped.
    pub async fn status(&self) -> Result<AgentStatus, Refusal> {
        self.ask(AgentMessage::Status).await
    }

    /// Replaces the agent's runner; runs under way go on with the new one.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the agent was stopped.
    pub fn restart(&self) -> Result<(), Refusal> {
        self.actor.borrow().cast(AgentMessage::Restart).map_err(|_gone| self.stopped())
    }

    /// Waits until the agent's runner is up, or could not be launched.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of the last launch.
    pub async fn ready(&self) -> Result<(), Failure> {
        let mut settled = self.settled.clone();
        let outcome = settled.wait_for(Option::is_some).await;
        let ended = || Failure::new(FailureKind::Config, "the agent was stopped");
        outcome.map_err(|_gone| ended())?.clone().unwrap_or_else(|| Err(ended()))
    }

    /// Calls one of the agent's Python tools directly, without a model.
    ///
    /// # Errors
    ///
    /// The tool's [`Failure`], or why the runner could not be asked.
    pub async fn call_tool(
        &self,
        target: &PythonTarget,
        args: RawJson,
        deps: Option<RawJson>,
    ) -> Result<RawJson, Failure> {
        let lease = self.lease_in_time().await?;
        let tool_call_id = Some(ToolCallId::new(uuid::Uuid::now_v7().to_string()));
        let request = ToolCallRequest { args, deps, tool_call_id };
        let answer = lease.client.call_tool(target, &request, self.spec().limits.timeout).await;
        answer.map(|answer| answer.result).map_err(axon_runner::RequestError::into_failure)
    }

    /// Returns the JSON Schemas that the agent's runner speaks by; for an agent defined in Python
    /// also the agent's own.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of the runner.
    pub async fn describe(&self) -> Result<RawJson, Failure> {
        let lease = self.lease_in_time().await?;
        lease.client.schema().await.map_err(axon_runner::RequestError::into_failure)
    }

    pub(crate) async fn admit(&self) -> Result<Admission, Refusal> {
        self.ask(AgentMessage::Admit).await?.map_err(|full| Refusal::Overloaded {
            agent: self.name().clone(),
            in_flight: full.in_flight,
            queued: full.queued,
            retry_after: Duration::from_secs(1),
        })
    }

    pub(crate) async fn lease(&self, after: Option<Generation>) -> Result<Lease, Failure> {
        let leased = self.ask(|reply| AgentMessage::Lease { after, reply }).await;
        leased.map_err(Refusal::into_failure)?
    }

    async fn lease_in_time(&self) -> Result<Lease, Failure> {
        let limit = self.spec().limits.timeout;
        tokio::time::timeout(limit, self.lease(None)).await.unwrap_or_else(|_elapsed| {
            let message = format!("no runner was up within {} s", limit.as_secs_f64());
            Err(Failure::new(FailureKind::RunTimeout, message))
        })
    }

    pub(crate) async fn stop(&self) {
        let _stopped_already = self.ask(AgentMessage::Stop).await;
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> AgentMessage,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.actor.borrow().cast(message(reply)).map_err(|_gone| self.stopped())?;
        answer.await.map_err(|_gone| self.stopped())
    }

    fn stopped(&self) -> Refusal {
        Refusal::Stopped { agent: self.name().clone() }
    }
}
