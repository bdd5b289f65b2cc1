//! Delegation: a tool call that another agent answers, in a run of its own.
//!
//! The run of the other agent has an identity that follows from the call, so whoever makes the call
//! again, after a crash or behind a pause, finds that run and joins it: it is never begun twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use axon_kernel::event::{
    Continues, Delegated, Envelope, Parent, PauseReason, Paused, RunEvent, ToolCalled,
};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{RunId, ToolCallId, delegated_run};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentPath, Effect, MAX_DELEGATIONS, MAX_HOPS, ToolSpec};
use axon_kernel::store::StoreError;
use axon_kernel::trace::TraceContext;
use axon_kernel::wire::{ToolAnswer, ToolRequested};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptError;
use super::calls::{Begun, By, Ended};
use super::driver::Driver;
use super::observed::Host;
use super::spent::{Spent, spent};
use super::{
    Given, Outcome, Prompt, Refusal, Request, Resume, ResumeError, RunBuilder, RunHandle,
    RunOutcome,
};
use crate::agent::{AgentHandle, Lease};
use crate::budget::Budget;
use crate::log::RunUpdate;
use crate::records::{RecordError, RunRecords, UNWANTED};
use crate::services::Services;
use crate::tools::ToolError;

/// How soon it is looked again for a run that somebody else is about to go on with.
const AGAIN: Duration = Duration::from_millis(100);

/// What a model says to another agent.
#[derive(Deserialize)]
struct Asked {
    prompt: Value,
    #[serde(default)]
    deps: Option<Value>,
}

/// A run that has been handed work.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) run: RunId,
    /// Nobody wants its answer any more: it must not begin, and ends if it has.
    unwanted: CancellationToken,
}

/// What was said before that another agent is to know.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Nothing,
    Messages(Vec<RawJson>),
    /// What is kept in a conversation.
    Conversation(Continues),
}

/// What another agent is asked to do.
pub(super) struct Work {
    pub(super) agent: AgentHandle,
    /// The call that it answers.
    pub(super) call: ToolCallId,
    pub(super) step: u32,
    pub(super) prompt: Value,
    pub(super) deps: Given,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    pub(super) before: Before,
}

/// A call that another agent is to answer.
pub(super) struct Delegation {
    services: Arc<Services>,
    agent: AgentHandle,
    run: RunId,
    parent: Parent,
    prompt: Value,
    before: Before,
    deps: Given,
    /// The tools whose calls nobody is asked about.
    approve: BTreeSet<String>,
    budget: Budget,
    /// The state of the run that hands it on, which the other one begins with.
    state: Map<String, Value>,
    deadline: Instant,
    /// How long the other agent may take.
    timeout: Option<Duration>,
    stream: bool,
    /// The span that its run is a part of.
    traceparent: Option<TraceContext>,
    told: mpsc::Sender<Box<RunEvent>>,
    unwanted: CancellationToken,
    /// This attempt waits no longer; a later one may.
    left: CancellationToken,
}

impl Handed {
    /// Returns the run that answers the call, if that is handed to another agent.
    pub(super) fn by(run: &RunId, called: &ToolCalled) -> Self {
        delegated_run(run, called.step, &called.tool_call_id).into()
    }
}

impl From<RunId> for Handed {
    fn from(run: RunId) -> Self {
        Self { run, unwanted: CancellationToken::new() }
    }
}

impl Driver {
    /// Hands a call to another agent.
    pub(super) async fn delegate(
        &mut self,
        (tool, agent): (&ToolSpec, &AgentName),
        request: ToolRequested,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let call = request.tool_call_id.clone();
        self.observe_call(&request, Host::Agent);
        let delegation = match self.delegation((tool, agent), &request) {
            Ok(delegation) => delegation,
            Err(message) => {
                self.observed.tool_refused(&call);
                return self.answer(call, ToolAnswer::Failed { message }, lease).await;
            }
        };
        // Its run is begun once, whatever that does: so the call may be made again.
        self.intend(&request, Effect::Idempotent).await?;
        self.begin_delegated(request.name, delegation);
        Ok(())
    }

    /// Has another agent begin with what it was handed.
    pub(super) fn begin_delegated(&mut self, name: String, delegation: Delegation) {
        let (run, unwanted) = (delegation.run.clone(), delegation.unwanted.clone());
        let call = delegation.parent.tool_call_id.clone();
        self.delegated.insert(call.clone(), Handed { run, unwanted });
        let begun = Begun {
            call,
            name,
            by: By::Agent,
            deadline: self.deadline(),
            cancelled: delegation.left.clone(),
        };
        self.calls_here.begin(begun, delegation.answer());
    }

    /// Puts together what the other agent is asked, or says why it cannot be asked.
    fn delegation(
        &self,
        (tool, name): (&ToolSpec, &AgentName),
        request: &ToolRequested,
    ) -> Result<Delegation, String> {
        let agent = self.other(name)?;
        let Asked { prompt, deps } = request.args.decode().map_err(|error| error.to_string())?;
        let deps = match deps.filter(|_| tool.takes_deps()) {
            Some(deps) => Given::of_json(deps.into()),
            None => fitting(&agent, self.request.deps.clone())?,
        };
        Ok(self.hand_to(Work {
            agent,
            call: request.tool_call_id.clone(),
            step: request.step,
            prompt,
            deps,
            timeout: tool.timeout.or(self.launcher.spec.tool_timeout),
            before: Before::Nothing,
        }))
    }

    /// Finds one that work may be handed to from here.
    pub(super) fn other(&self, name: &AgentName) -> Result<AgentHandle, String> {
        if self.path.depth() > MAX_DELEGATIONS || self.envelope.hops >= MAX_HOPS {
            return Err(format!(
                "`{}` is as deep as work is handed on: answer without agent `{name}`",
                self.path
            ));
        }
        let agent = self.agent.services.registry.find(name.as_str());
        agent.ok_or_else(|| format!("there is no agent `{name}` here"))
    }

    /// Hands work to another agent, within this run's own deadline and budget.
    pub(super) fn hand_to(&self, work: Work) -> Delegation {
        let Work { agent, call, step, prompt, deps, timeout, before } = work;
        let run_id = self.log().run_id();
        let unwanted = CancellationToken::new();
        let traceparent = self.observed.inside(&call);
        Delegation {
            traceparent,
            run: delegated_run(run_id, step, &call),
            parent: Parent {
                run_id: run_id.clone(),
                tool_call_id: call,
                path: self.path.down_to(agent.name()),
                envelope: self.envelope.further(),
            },
            services: self.agent.services.clone(),
            agent,
            prompt,
            before,
            deps,
            approve: self.request.approve.clone(),
            budget: self.request.budget.clone(),
            state: self.live.state.now(),
            deadline: self.deadline(),
            timeout,
            stream: self.request.stream,
            told: self.calls_here.told(),
            left: unwanted.child_token(),
            unwanted,
        }
    }

    /// Calls off work that nobody wants the answer of any more.
    pub(super) async fn call_off_delegated(&mut self, call: &ToolCallId) {
        self.calls_here.call_off(call);
        let Some(Handed { run, unwanted }) = self.delegated.remove(call) else { return };
        unwanted.cancel();
        self.services().cancel_unwanted(vec![run]).await;
    }

    /// Cancels the runs that this one has handed work to and that still have no answer: nobody waits
    /// for them.
    pub(super) async fn cancel_delegated(&mut self) {
        let mut runs = Vec::new();
        for Handed { run, unwanted } in std::mem::take(&mut self.delegated).into_values() {
            unwanted.cancel();
            runs.push(run);
        }
        self.services().cancel_unwanted(runs).await;
    }

    /// Notes whether a run below has made a call with effect `once`: an agent that takes over from
    /// here would begin with the prompt, and have it made again.
    pub(super) async fn note_effects_below(&mut self) {
        if self.committed || self.launcher.spec.fallback.agent.is_none() {
            return;
        }
        let records = RunRecords::new(self.store().clone());
        let mut made = records.has_effects_below(self.log().run_id()).await;
        // What was handed on since the last write is on no record of this run.
        for handed in self.delegated.values() {
            if matches!(made, Ok(false)) {
                made = records.has_effects(&handed.run).await;
            }
        }
        self.committed = made.unwrap_or_else(|error| {
            let run = self.log().run_id();
            tracing::warn!(%run, %error, "it cannot be read what was done below: it may be much");
            true
        });
    }
}

/// Returns the deps that the other agent gets where the model chooses none: the caller's, as far as
/// it takes any.
pub(super) fn fitting(agent: &AgentHandle, deps: Given) -> Result<Given, String> {
    let spec = agent.spec();
    let Some(schema) = &spec.deps.schema else {
        // What an agent that Python defines takes is known there.
        // So is what those take that a flow asks; what a flow itself says of that, all have to give.
        let passes_on = spec.runner.module.is_some() || spec.flow.is_some();
        return Ok(if passes_on { deps } else { Given::default() });
    };
    let value = deps.whole().map_or(Ok(Value::Null), RawJson::decode);
    let Err(violations) = schema.validate(&value.map_err(|error| error.to_string())?) else {
        return Ok(deps);
    };
    // The places only: what is there may be secret.
    let places: Vec<String> = violations
        .into_iter()
        .map(|violation| match violation.pointer.is_empty() {
            true => "(top level)".to_owned(),
            false => violation.pointer,
        })
        .collect();
    Err(format!(
        "agent `{}` takes other deps than this run has (see {}): give this run deps that fit, or \
         declare `deps` in the parameters of the tool, and the model gives them",
        spec.name,
        places.join(", ")
    ))
}

impl Delegation {
    async fn answer(self) -> (Result<Value, Ended>, Option<Spent>) {
        let too_long = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let (end, is_over) = tokio::select! {
            biased;
            () = self.left.cancelled() => {
                let off = Failure::new(FailureKind::Cancelled, "the call was called off");
                (Err(self.failed(off)), false)
            }
            joined = self.join() => match joined {
                Ok(ended) => self.take(ended.outcome).await,
                Err(end) => (Err(end), false),
            },
            () = too_long => {
                self.unwanted.cancel();
                self.services.cancel_unwanted(vec![self.run.clone()]).await;
                let late = Failure::new(FailureKind::RunTimeout, "it took too long, and was cancelled");
                (Err(self.failed(late)), true)
            }
        };
        if !is_over {
            return (end, None);
        }
        let end = match end {
            Err(end) => Err(self.with_effects(end).await),
            done => done,
        };
        (end, spent(&self.services, &self.run).await)
    }

    /// Says of a failure whether a tool that acts once may have acted before it.
    async fn with_effects(&self, end: Ended) -> Ended {
        let Ended::Other { agent, mut failure } = end else { return end };
        let records = RunRecords::new(self.services.store.clone());
        let acted = records.has_effects(&self.run).await.unwrap_or_else(|error| {
            tracing::warn!(run = %self.run, %error, "it cannot be read what was done: it may be much");
            true
        });
        if acted && !failure.acted {
            failure.acted = true;
            failure.message += &format!(
                " (a tool that acts once may have acted in run {}: it is not asked again by itself)",
                self.run
            );
        }
        Ended::Other { agent, failure }
    }

    /// Returns what the end of the run means for the call, and whether it is one.
    async fn take(&self, outcome: Outcome) -> (Result<Value, Ended>, bool) {
        match outcome {
            Outcome::Completed(completed) => {
                (completed.output.decode().map_err(|error| broken(&error)), true)
            }
            Outcome::Failed(failed) | Outcome::Rejected(failed) => {
                (Err(self.failed(failed.failure)), true)
            }
            Outcome::Cancelled(cancelled) => {
                let why = format!("it was cancelled: {}", cancelled.reason);
                (Err(self.failed(Failure::new(FailureKind::Cancelled, why))), true)
            }
            Outcome::Paused(paused) => (Err(self.waits(&paused)), false),
        }
    }

    /// Joins the run that answers the call: as it ended, under way, or begun now.
    async fn join(&self) -> Result<RunOutcome, Ended> {
        loop {
            let (wait, failure) = match self.services.store.run(&self.run).await {
                Ok(known) if !known.state.is_open() => return self.recorded().await,
                Ok(_) => {
                    if let Some(live) = self.services.runs.find(&self.run).await {
                        return self
                            .follow(RunHandle::new(live, self.services.clone(), false))
                            .await;
                    }
                    match self.resume().await {
                        Ok(handle) => return self.follow(handle).await,
                        // It still waits for a person, or has ended meanwhile.
                        Err(
                            ResumeError::Undecided { .. }
                            | ResumeError::Record(RecordError::Store(StoreError::Ended { .. })),
                        ) => return self.recorded().await,
                        Err(error) => (again(&error), of_resume(error)),
                    }
                }
                Err(StoreError::NotFound(_)) => match self.begin().await {
                    Ok(handle) => return self.follow(handle).await,
                    Err(refusal) => (full(&refusal), refusal.into_failure()),
                },
                Err(error) => return Err(broken(&error)),
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(self.failed(failure)),
            }
        }
    }

    /// Begins the run. In a task of its own: whoever begins one sees to it that somebody wants it.
    async fn begin(&self) -> Result<RunHandle, Refusal> {
        let asked = (self.parent.clone(), Prompt::from(self.prompt.clone()));
        let (agent, run) = (self.agent.clone(), self.run.clone());
        let run = RunBuilder::delegated(agent, run, asked, self.deps.clone());
        let run = run.told_before(self.before.clone()).carrying(self.state.clone());
        let run = run.budget(&self.budget).approved(&self.approve);
        let run = run.watched(self.stream, self.deadline).traced(self.traceparent);
        let unwanted = self.unwanted.clone();
        let begun = tokio::spawn(async move { wanted(run.start().await?, &unwanted) });
        let stopped = || Refusal::Stopped { agent: self.agent.name().clone() };
        begun.await.unwrap_or_else(|_panicked| Err(stopped()))
    }

    /// Goes on with the run: its process has gone, or somebody has decided what it waited for.
    async fn resume(&self) -> Result<RunHandle, ResumeError> {
        let resume = Resume::new(self.services.clone(), self.run.clone());
        let resume = resume.timeout(self.time_left());
        let resume = resume.with_deps(self.deps.clone()).within(self.budget.clone());
        let unwanted = self.unwanted.clone();
        let resumed = tokio::spawn(async move { wanted(resume.start().await?, &unwanted) });
        let lost = || StoreError::NotFound(self.run.clone()).into();
        resumed.await.unwrap_or_else(|_panicked| Err(lost()))
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
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
            None => Err(self.failed(Failure::new(FailureKind::Internal, "its record has no end"))),
        }
    }

    /// Shows what the run does, and waits for its end. One whose process ends is waited for in vain:
    /// so does this run's.
    async fn follow(&self, mut handle: RunHandle) -> Result<RunOutcome, Ended> {
        let mut path = self.parent.path.clone();
        while let Some(update) = handle.events().next().await {
            if let RunUpdate::Event(event) = update
                && self.stream
            {
                self.tell(&path, event.event.clone()).await;
                if let RunEvent::HandedOff(handed) = &event.event {
                    path = path.beside(&handed.to);
                }
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

    async fn tell(&self, path: &AgentPath, event: RunEvent) {
        let tool_call_id = self.parent.tool_call_id.clone();
        let delegated = if let RunEvent::Delegated(mut deeper) = event {
            // The path says it already.
            deeper.tool_call_id = tool_call_id;
            deeper
        } else {
            let (path, of_run) = (path.clone(), self.run.clone());
            Delegated { tool_call_id, path, of_run, inner: Box::new(event) }
        };
        // The run that shows it may have gone.
        let _gone = self.told.send(Box::new(RunEvent::Delegated(delegated))).await;
    }

    fn failed(&self, failure: Failure) -> Ended {
        Ended::Other { agent: self.agent.name().clone(), failure: Box::new(failure) }
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

/// Cancels a run that nobody has wanted since before it was under way.
fn wanted<E>(handle: RunHandle, unwanted: &CancellationToken) -> Result<RunHandle, E> {
    if unwanted.is_cancelled() {
        handle.cancel(UNWANTED);
    }
    Ok(handle)
}

fn of_resume(error: ResumeError) -> Failure {
    match error {
        ResumeError::Refused(refusal) => refusal.into_failure(),
        other @ (ResumeError::Record(_)
        | ResumeError::Undecided { .. }
        | ResumeError::Changed { .. }
        | ResumeError::Quarantined { .. }
        | ResumeError::Secrets { .. }) => Failure::new(FailureKind::Internal, other.to_string()),
    }
}

/// Returns when the run may be gone on with, if only others are in the way.
fn again(error: &ResumeError) -> Option<Duration> {
    match error {
        ResumeError::Refused(refusal) => full(refusal),
        ResumeError::Record(RecordError::Store(StoreError::Owned { .. })) => Some(AGAIN),
        ResumeError::Record(_)
        | ResumeError::Undecided { .. }
        | ResumeError::Changed { .. }
        | ResumeError::Quarantined { .. }
        | ResumeError::Secrets { .. } => None,
    }
}

/// Returns when there may be room, if there is none now.
fn full(refusal: &Refusal) -> Option<Duration> {
    if let Refusal::Overloaded { retry_after, .. } = refusal { Some(*retry_after) } else { None }
}

fn broken(error: &dyn std::error::Error) -> Ended {
    Ended::Tool(ToolError::Broken(error.to_string().into()))
}

/// Returns the agents from the top-level run down to the one that `parent` says, or to `agent`.
pub(super) fn path_of(parent: Option<&Parent>, agent: &AgentName) -> AgentPath {
    parent.map_or_else(|| AgentPath::of(agent), |parent| parent.path.clone())
}

/// Returns what goes along with the message of a run: as it came, or as it begins here.
pub(super) fn envelope_of(request: &Request, run: &RunId) -> Envelope {
    let parent = request.parent.as_ref().map(|parent| parent.envelope.clone());
    let mut envelope = parent.unwrap_or_else(|| Envelope::of(run));
    envelope.conversation_id = request.conversation.clone().or(envelope.conversation_id);
    envelope
}
