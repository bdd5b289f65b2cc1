//! Drives one run through its attempts to exactly one end.

use std::collections::BTreeMap;
use std::sync::Arc;

use axon_kernel::event::{
    Accepted, AttemptFailure, Cancelled, Checkpoint, Completed, Decided, Failed, PauseReason,
    Paused, Retracted, RunEvent, Started, millis,
};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Attempt, Generation, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::policy::{self, Budget, Decision, Policy, Seen, Tried};
use axon_kernel::run::{IllegalEvent, RunStatus};
use axon_kernel::spec::AgentName;
use axon_kernel::store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::attempt::{AttemptEnd, AttemptError};
use super::{Refusal, Request};
use crate::agent::{Admission, AgentHandle};
use crate::log::RunLog;

/// How much longer than the runner we wait at the deadline: its own time-out knows what was used.
const DEADLINE_SLACK: Duration = Duration::from_millis(250);

/// One run, with everything that its attempts share.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) agent: AgentHandle,
    pub(super) request: Request,
    pub(super) transcript: Transcript,
    /// Results of Python tools, by call, so that none runs twice.
    pub(super) results: BTreeMap<ToolCallId, RawJson>,
    pub(super) attempt: Attempt,
    /// Whether the run waits for a runner.
    pub(super) leasing: bool,
    /// The generation that there is evidence against.
    pub(super) sick: Option<Generation>,
    /// What the live attempt has shown since its last checkpoint.
    pub(super) shown: bool,
    pub(super) status: RunStatus,
    log: Arc<RunLog>,
    _end: EndIfOpen,
    store: Arc<dyn Store>,
    accepted_at: Instant,
    recorded: u64,
    failures: BTreeMap<FailureKind, u32>,
    decisions: Vec<String>,
}

/// Ends a run for whoever follows it, if its driver goes without having done so.
#[derive(Debug)]
struct EndIfOpen(Arc<RunLog>);

impl Drop for EndIfOpen {
    fn drop(&mut self) {
        if self.0.is_settled() {
            return;
        }
        let end = if std::thread::panicking() {
            failed(Failure::new(FailureKind::Internal, "the run's task panicked"), Vec::new())
        } else {
            RunEvent::Cancelled(Cancelled { reason: "the runtime has shut down".to_owned() })
        };
        self.0.push(end);
    }
}

/// The recorded messages of a run, the history before it included.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(super) messages: Vec<RawJson>,
    pub(super) usage: Option<RawJson>,
    /// How many messages the conversation holds already.
    held: usize,
    /// How many of those still stand: an agent's history processor may rewrite the rest.
    kept: usize,
    /// Whether an attempt can resume from here.
    pub(super) resumable: bool,
}

impl Transcript {
    pub(super) fn apply(&mut self, checkpoint: &Checkpoint) {
        self.kept = self.kept.min(checkpoint.base);
        self.messages.truncate(checkpoint.base);
        self.messages.extend_from_slice(&checkpoint.messages);
        self.usage = Some(checkpoint.usage.clone());
        self.resumable = true;
    }
}

/// Why a run cannot go on at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    #[error("the run could not be recorded")]
    Store(#[from] StoreError),
}

impl Stuck {
    fn into_failure(self) -> Failure {
        let cause = std::error::Error::source(&self).map(ToString::to_string).unwrap_or_default();
        Failure::new(FailureKind::Internal, format!("{self}: {cause}"))
    }
}

impl Driver {
    pub(crate) fn new(
        agent: AgentHandle,
        request: Request,
        log: Arc<RunLog>,
        accepted_at: Instant,
    ) -> Self {
        let store = agent.runs.store().clone();
        Self {
            agent,
            request,
            transcript: Transcript::default(),
            results: BTreeMap::new(),
            attempt: Attempt(0),
            leasing: false,
            sick: None,
            shown: false,
            status: RunStatus::New,
            _end: EndIfOpen(log.clone()),
            log,
            store,
            accepted_at,
            recorded: 0,
            failures: BTreeMap::new(),
            decisions: Vec::new(),
        }
    }

    pub(crate) fn agent_name(&self) -> &AgentName {
        self.agent.name()
    }

    pub(crate) fn log(&self) -> &Arc<RunLog> {
        &self.log
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Records that the run was taken on.
    pub(crate) async fn accept(&mut self, accepted: Accepted) -> Result<(), Refusal> {
        self.emit(RunEvent::Accepted(accepted)).await.map_err(|stuck| match stuck {
            Stuck::Store(error) => Refusal::Store(error),
            Stuck::Illegal(illegal) => Refusal::Invalid { problem: illegal.to_string() },
        })
    }

    /// Drives the run to its end, its cancel or its deadline, whichever comes first.
    pub(crate) async fn drive(
        mut self,
        admission: Admission,
        mut cancelled: watch::Receiver<Option<String>>,
    ) {
        let deadline = self.deadline() + DEADLINE_SLACK;
        let end = tokio::select! {
            end = self.work(admission) => end.unwrap_or_else(|stuck| {
                failed(stuck.into_failure(), Vec::new())
            }),
            reason = reason_of(&mut cancelled) => RunEvent::Cancelled(Cancelled { reason }),
            () = tokio::time::sleep_until(deadline) => self.timed_out(),
        };
        self.end(end).await;
    }

    pub(super) fn deadline(&self) -> Instant {
        self.accepted_at + self.request.timeout
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    pub(super) fn age(&self) -> Duration {
        self.accepted_at.elapsed()
    }

    async fn work(&mut self, admission: Admission) -> Result<RunEvent, Stuck> {
        // A run whose turn comes after its deadline never executes, hence no slack here.
        let _slot = match tokio::time::timeout_at(self.deadline(), admission).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_stopped)) => {
                let stopped = Refusal::Stopped { agent: self.agent.name().clone() };
                return Ok(failed(stopped.into_failure(), Vec::new()));
            }
            Err(_elapsed) => return Ok(self.timed_out()),
        };
        let queued_ms = millis(self.accepted_at.elapsed());
        self.emit(RunEvent::Started(Started { queued_ms })).await?;
        self.load_history().await?;
        loop {
            self.attempt = self.attempt.next();
            self.shown = false;
            match self.make_attempt().await {
                Ok(AttemptEnd::Completed(completed)) => {
                    return self.complete(*completed).await;
                }
                Ok(AttemptEnd::Paused(reason)) => return Ok(RunEvent::Paused(Paused { reason })),
                Err(AttemptError::Stuck(stuck)) => return Err(stuck),
                Err(AttemptError::Unavailable(failure)) => {
                    return Ok(failed(*failure, std::mem::take(&mut self.decisions)));
                }
                Err(AttemptError::Failed(failure) | AttemptError::Told(failure)) => {
                    if let Some(end) = self.after(*failure).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    async fn load_history(&mut self) -> Result<(), Stuck> {
        let history = match (&self.request.history, &self.request.conversation) {
            (Some(history), _) => history.clone(),
            (None, Some(conversation)) => self.store.history(conversation).await?,
            (None, None) => Vec::new(),
        };
        self.transcript.held = history.len();
        self.transcript.kept = history.len();
        self.transcript.messages = history;
        Ok(())
    }

    /// Lets the turn join its conversation, and only then the run complete.
    async fn complete(&mut self, completed: Completed) -> Result<RunEvent, Stuck> {
        if let Some(conversation) = &self.request.conversation {
            let Transcript { messages, held, kept, .. } = &self.transcript;
            let new = messages.get(*kept..).unwrap_or_default();
            let joined = self.store.extend_history(conversation, *held, *kept, new).await;
            if let Err(StoreError::Conflict { .. }) = joined {
                let message = format!("another turn of conversation `{conversation}` ended first");
                return Ok(failed(Failure::new(FailureKind::Busy, message), Vec::new()));
            }
            joined?;
        }
        Ok(RunEvent::Completed(completed))
    }

    /// Carries out what the policy decides about a failed attempt: the run's end, or none and
    /// another attempt is due.
    async fn after(&mut self, failure: Failure) -> Result<Option<RunEvent>, Stuck> {
        let attempt = self.attempt;
        let pending = self.status.unrepeatable().cloned();
        self.emit(RunEvent::AttemptFailed(AttemptFailure { attempt, failure: failure.clone() }))
            .await?;
        let seen = match pending {
            Some(call) => Seen::Effect(call),
            None if self.shown => Seen::Text,
            None => Seen::Nothing,
        };
        let budget = Budget { remaining: self.remaining(), jitter: jitter() };
        let before = self.failures.entry(failure.kind).or_default();
        let tried = Tried { failed_before: *before, ..Tried::default() };
        let decision = Policy::of(self.agent.spec()).decide(&failure, &tried, &seen, &budget);
        *before += 1;
        let reason = policy::reason(&failure, attempt, &decision);
        tracing::warn!(
            run = %self.log.run_id(), agent = %self.agent.name(), kind = %failure.kind,
            error = failure.message, reason, "an attempt failed"
        );
        self.decisions.push(reason.clone());
        self.emit(RunEvent::Decided(Decided { decision: decision.clone(), reason })).await?;
        self.carry_out(decision, failure).await
    }

    async fn carry_out(
        &mut self,
        decision: Decision,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        match decision {
            Decision::Retry { after_ms } => {
                if self.shown {
                    self.emit(RunEvent::Retracted(Retracted { attempt: self.attempt })).await?;
                }
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                Ok(None)
            }
            Decision::Fallback { .. } | Decision::Escalate | Decision::Fail => {
                Ok(Some(failed(failure, std::mem::take(&mut self.decisions))))
            }
            Decision::Ask { tool_call_id } => {
                let reason = PauseReason::Ambiguous { tool_call_id, failure: Box::new(failure) };
                Ok(Some(RunEvent::Paused(Paused { reason })))
            }
        }
    }

    fn timed_out(&mut self) -> RunEvent {
        let failure = self.too_late();
        let queued = matches!(self.status, RunStatus::New | RunStatus::Queued);
        let ended = Failed { failure, history: std::mem::take(&mut self.decisions) };
        if queued { RunEvent::Rejected(ended) } else { RunEvent::Failed(ended) }
    }

    pub(super) fn too_late(&self) -> Failure {
        let seconds = self.request.timeout.as_secs_f64();
        let why = if self.leasing { ": the agent's runner was not up yet" } else { "" };
        Failure::new(FailureKind::RunTimeout, format!("no answer within {seconds} s{why}"))
    }

    /// Records and shows what happened, if it can have happened.
    pub(super) async fn emit(&mut self, event: RunEvent) -> Result<(), Stuck> {
        self.status = self.status.next(&event)?;
        if event.is_recorded() {
            let run = self.log.run_id();
            let events = std::slice::from_ref(&event);
            self.recorded = self.store.append(run, self.recorded, events).await?.recorded;
        }
        self.log.push(event);
        Ok(())
    }

    /// Writes the end. If even that cannot be recorded, the caller still gets it.
    async fn end(&mut self, event: RunEvent) {
        if let Err(stuck) = self.emit(event).await {
            let failure = stuck.into_failure();
            tracing::error!(run = %self.log.run_id(), error = %failure, "the end was not recorded");
            self.log.push(failed(failure, std::mem::take(&mut self.decisions)));
        }
    }
}

fn failed(failure: Failure, history: Vec<String>) -> RunEvent {
    RunEvent::Failed(Failed { failure, history })
}

async fn reason_of(cancelled: &mut watch::Receiver<Option<String>>) -> String {
    let reason = cancelled.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        // Nobody can cancel any more.
        None => std::future::pending().await,
    }
}

/// Returns a number in `0.0..1.0`. Random ids are random enough to spread retries.
fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
