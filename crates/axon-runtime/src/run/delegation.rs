//! Delegation: a tool call that another agent answers, in a run of its own.
//!
//! The run of the other agent has an identity that follows from the call, so whoever makes the call
//! again, after a crash or behind a pause, finds that run and joins it: it is never begun twice.

use std::sync::Arc;

use axon_kernel::event::{Delegated, Parent, PauseReason, Paused, RunEvent};
use axon_kernel::ids::{RunId, delegated_run};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentPath, Effect, MAX_DELEGATIONS};
use axon_kernel::store::StoreError;
use axon_kernel::wire::{ToolAnswer, ToolRequested};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptError;
use super::calls::{Begun, By, Ended};
use super::driver::Driver;
use super::{
    Given, Outcome, Prompt, Refusal, Resume, ResumeError, RunBuilder, RunHandle, RunOutcome,
};
use crate::agent::{AgentHandle, Lease};
use crate::budget::Budget;
use crate::log::RunUpdate;
use crate::records::RecordError;
use crate::services::Services;
use crate::tools::ToolError;

/// What a model says to another agent.
#[derive(Deserialize)]
struct Asked {
    prompt: Value,
    #[serde(default)]
    deps: Option<Value>,
}

/// A call that another agent is to answer.
struct Delegation {
    services: Arc<Services>,
    agent: AgentHandle,
    run: RunId,
    parent: Parent,
    prompt: Value,
    deps: Given,
    budget: Budget,
    deadline: Instant,
    stream: bool,
    told: mpsc::Sender<RunEvent>,
}

impl Driver {
    /// Hands a call to another agent.
    pub(super) async fn delegate(
        &mut self,
        agent: &AgentName,
        request: ToolRequested,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let call = request.tool_call_id.clone();
        let delegation = match self.delegation(agent, &request) {
            Ok(delegation) => delegation,
            Err(message) => {
                return self.answer(call, ToolAnswer::Failed { message }, lease).await;
            }
        };
        // Its run is begun once, whatever that does: so the call may be made again.
        self.intend(&request, Effect::Idempotent).await?;
        self.delegated.insert(call.clone(), delegation.run.clone());
        let begun = Begun {
            call,
            name: request.name,
            by: By::Agent,
            deadline: self.deadline(),
            cancelled: CancellationToken::new(),
        };
        self.calls_here.begin(begun, delegation.answer());
        Ok(())
    }

    /// Puts together what the other agent is asked, or says why it cannot be asked.
    fn delegation(&self, name: &AgentName, request: &ToolRequested) -> Result<Delegation, String> {
        let services = self.agent.services.clone();
        let agent = services.registry.find(name.as_str());
        let agent = agent.ok_or_else(|| format!("there is no agent `{name}` here"))?;
        if self.path.depth() > MAX_DELEGATIONS {
            return Err(format!(
                "`{}` is as deep as work is handed on: answer without agent `{name}`",
                self.path
            ));
        }
        let Asked { prompt, deps } = request.args.decode().map_err(|error| error.to_string())?;
        let deps = match deps {
            Some(deps) => Given::of_json(deps.into()),
            None => self.request.deps.clone(),
        };
        let run_id = self.log().run_id();
        Ok(Delegation {
            run: delegated_run(run_id, request.step, &request.tool_call_id),
            parent: Parent {
                run_id: run_id.clone(),
                tool_call_id: request.tool_call_id.clone(),
                path: self.path.down_to(name),
            },
            deps: fitting(&agent, deps),
            agent,
            prompt,
            budget: self.request.budget.clone(),
            deadline: self.deadline(),
            stream: self.request.stream,
            told: self.calls_here.told(),
            services,
        })
    }

    /// Cancels the runs that this one has handed work to: it has ended, and nobody waits for them.
    pub(super) async fn cancel_delegated(&mut self) {
        for (_, run) in std::mem::take(&mut self.delegated) {
            if let Some(live) = self.services().runs.find(&run).await {
                live.cancel.now("the run that asked for it has ended");
            }
        }
    }
}

/// Returns the deps that the other agent gets: none if it takes none.
fn fitting(agent: &AgentHandle, deps: Given) -> Given {
    if agent.spec().deps.schema.is_some() || agent.spec().runner.module.is_some() {
        deps
    } else {
        Given::default()
    }
}

impl Delegation {
    async fn answer(self) -> (Result<Value, Ended>, Option<RawJson>) {
        let ended = match self.join().await {
            Ok(ended) => ended,
            Err(end) => return (Err(end), None),
        };
        match ended.outcome {
            Outcome::Completed(completed) => {
                (completed.output.decode().map_err(|error| broken(&error)), Some(completed.usage))
            }
            Outcome::Failed(failed) | Outcome::Rejected(failed) => {
                (Err(self.failed(&failed.failure.to_string())), None)
            }
            Outcome::Cancelled(cancelled) => {
                (Err(self.failed(&format!("it was cancelled: {}", cancelled.reason))), None)
            }
            Outcome::Paused(paused) => (Err(self.waits(&paused)), None),
        }
    }

    /// Joins the run that answers the call: as it ended, under way, or begun now.
    async fn join(&self) -> Result<RunOutcome, Ended> {
        match self.services.store.run(&self.run).await {
            Ok(known) if !known.state.is_open() => self.recorded().await,
            Ok(_) => match self.services.runs.find(&self.run).await {
                Some(live) => self.follow(RunHandle::new(live, self.services.clone(), false)).await,
                None => self.resume().await,
            },
            Err(StoreError::NotFound(_)) => self.begin().await,
            Err(error) => Err(broken(&error)),
        }
    }

    async fn begin(&self) -> Result<RunOutcome, Ended> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let asked = (self.parent.clone(), Prompt::from(self.prompt.clone()));
            let (agent, run) = (self.agent.clone(), self.run.clone());
            let run = RunBuilder::delegated(agent, run, asked, self.deps.clone());
            match run.budget(&self.budget).watched(self.stream, left).start().await {
                Ok(handle) => return self.follow(handle).await,
                Err(Refusal::Overloaded { retry_after, .. }) => {
                    tokio::time::sleep(retry_after).await;
                }
                Err(refusal) => return Err(self.failed(&refusal.to_string())),
            }
        }
    }

    /// Goes on with the run: its process has gone, or somebody has decided what it waited for.
    async fn resume(&self) -> Result<RunOutcome, Ended> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let resume = Resume::new(self.services.clone(), self.run.clone()).timeout(left);
        match resume.with_deps(self.deps.clone()).start().await {
            Ok(handle) => self.follow(handle).await,
            // It still waits for a person.
            Err(ResumeError::Undecided { .. }) => self.recorded().await,
            Err(ResumeError::Record(RecordError::Store(StoreError::Ended { .. }))) => {
                self.recorded().await
            }
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// Reads how the run ended, or what it waits for.
    async fn recorded(&self) -> Result<RunOutcome, Ended> {
        let records = self.services.store.records(&self.run, 0).await;
        let records = records.map_err(|error| broken(&error))?;
        let rest = records.iter().rev();
        let mut settled = rest.filter(|record| {
            record.event.is_terminal() || matches!(record.event, RunEvent::Paused(_))
        });
        match settled.next() {
            Some(record) => Ok(RunOutcome::new(self.run.clone(), &record.event)),
            None => Err(self.failed("its record has no end")),
        }
    }

    /// Shows what the run does, and waits for its end. One whose process ends is waited for in vain:
    /// so does this run's.
    async fn follow(&self, mut handle: RunHandle) -> Result<RunOutcome, Ended> {
        while let Some(update) = handle.events().next().await {
            if let RunUpdate::Event(event) = update
                && self.stream
            {
                self.tell(event.event.clone()).await;
            }
        }
        let ended = handle.outcome().await;
        if let Outcome::Paused(Paused { reason: PauseReason::Interrupted { .. }, .. }) =
            &ended.outcome
        {
            return std::future::pending().await;
        }
        Ok(ended)
    }

    async fn tell(&self, event: RunEvent) {
        let tool_call_id = self.parent.tool_call_id.clone();
        let delegated = if let RunEvent::Delegated(mut deeper) = event {
            // The path says it already.
            deeper.tool_call_id = tool_call_id;
            deeper
        } else {
            let (path, of_run) = (self.parent.path.clone(), self.run.clone());
            Delegated { tool_call_id, path, of_run, inner: Box::new(event) }
        };
        // The run that shows it may have gone.
        let _gone = self.told.send(RunEvent::Delegated(delegated)).await;
    }

    fn failed(&self, why: &str) -> Ended {
        let agent = self.agent.name();
        Ended::Tool(ToolError::Failed(format!("agent `{agent}` gave no answer: {why}")))
    }

    /// Returns what the person has to know who is asked on the run's behalf.
    fn waits(&self, paused: &Paused) -> Ended {
        let requests = match &paused.reason {
            PauseReason::Approval { requests } => requests.decode().unwrap_or_default(),
            PauseReason::Ambiguous { .. }
            | PauseReason::Changed { .. }
            | PauseReason::Quarantined { .. }
            | PauseReason::Interrupted { .. } => Value::Null,
        };
        Ended::Waits(json!({
            "agent": self.parent.path,
            "run_id": self.run,
            "waits_for": paused.reason.label(),
            "requests": requests,
        }))
    }
}

fn broken(error: &dyn std::error::Error) -> Ended {
    Ended::Tool(ToolError::Broken(error.to_string().into()))
}

/// Returns the agents from the top-level run down to the one that `parent` says, or to `agent`.
pub(super) fn path_of(parent: Option<&Parent>, agent: &AgentName) -> AgentPath {
    parent.map_or_else(|| AgentPath::of(agent), |parent| parent.path.clone())
}
