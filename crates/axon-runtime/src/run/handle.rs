//! What a caller holds of a run under way.

use std::sync::Arc;

use axon_kernel::event::{Cancelled, Resolution, RunEvent};
use axon_kernel::ids::{MessageId, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentName;
use axon_kernel::store::StoreError;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Given, Prompt, Resume, ResumeError, RunOutcome};
use crate::carried::Carried;
use crate::log::{RunEvents, RunLog};
use crate::records::RunRecords;
use crate::services::Services;

/// How many messages may be on their way into a run. The run takes them one by one between its
/// events; whoever sends more waits.
const STEERING: usize = 8;

/// Why a run has to stop from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is called off, for this reason.
    Cancelled(String),
    /// Its process ends; the run stays open, and another process may go on with it.
    Interrupted(String),
}

/// Stops a run; whoever comes first gives the reason.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(Arc<watch::Sender<Option<Stop>>>);

impl Cancel {
    pub(crate) fn now(&self, reason: &str) {
        self.stop(Stop::Cancelled(reason.to_owned()));
    }

    pub(crate) fn stop(&self, stop: Stop) {
        self.0.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(stop);
            }
            first
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Stop>> {
        self.0.subscribe()
    }
}

/// A message for a run under way.
#[derive(Debug)]
pub(crate) struct Steer {
    /// Its identity: a message that the run has taken already is not taken again.
    pub(crate) message_id: MessageId,
    pub(crate) content: RawJson,
    /// Tells whether the run took it.
    pub(crate) taken: oneshot::Sender<bool>,
}

/// A run under way, for everybody who may reach it.
#[derive(Clone, Debug)]
pub(crate) struct LiveRun {
    pub(crate) log: Arc<RunLog>,
    pub(crate) cancel: Cancel,
    /// The state that the run carries, as it is on record.
    pub(crate) state: Carried,
    /// What the run's tools get, so that it can go on here with secrets that are on no record.
    pub(crate) deps: Given,
    agent: Arc<watch::Sender<AgentName>>,
    steer: mpsc::Sender<Steer>,
}

/// Why a message did not reach a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// It has given its answer, or has ended otherwise.
    #[error("the run is over, or about to end")]
    Over,
}

impl LiveRun {
    pub(crate) fn new(log: Arc<RunLog>, agent: AgentName) -> (Self, mpsc::Receiver<Steer>) {
        let (steer, steered) = mpsc::channel(STEERING);
        let cancel = Cancel(Arc::new(watch::Sender::new(None)));
        let (state, agent) = (Carried::default(), Arc::new(watch::Sender::new(agent)));
        (Self { log, cancel, state, deps: Given::default(), agent, steer }, steered)
    }

    /// Says which agent answers now: a fallback may have taken over.
    pub(crate) fn belongs_to(&self, agent: &AgentName) {
        self.agent.send_replace(agent.clone());
    }

    pub(crate) fn is_of(&self, agent: &AgentName) -> bool {
        *self.agent.borrow() == *agent
    }

    /// Ends a run that is at rest, where nobody listens: its record ends.
    pub(crate) fn call_off(&self, services: Arc<Services>, reason: String) {
        let (records, log) = (RunRecords::new(services.store.clone()), self.log.clone());
        tokio::spawn(async move {
            let run = log.run_id();
            let error = match records.cancel_tree(run, &reason).await {
                Ok(driven) => {
                    log.measured_elsewhere();
                    log.push(RunEvent::Cancelled(Cancelled { reason }));
                    return services.cancel_driven(driven).await;
                }
                Err(error) => error,
            };
            match services.runs.find(run).await {
                // Somebody went on with it here.
                Some(live) => live.cancel.now(&reason),
                None => tracing::warn!(%run, %error, "it was not cancelled"),
            }
        });
    }

    /// Hands `content` to the run, which tells its model with the next request.
    pub(crate) async fn steer(
        &self,
        message_id: MessageId,
        content: RawJson,
    ) -> Result<(), SteerError> {
        let (taken, answer) = oneshot::channel();
        let sent = self.steer.send(Steer { message_id, content, taken }).await;
        sent.map_err(|_over| SteerError::Over)?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(SteerError::Over),
        }
    }
}

/// Follows one accepted run. Dropping it lets the run go on.
#[derive(Debug)]
pub struct RunHandle {
    live: LiveRun,
    events: RunEvents,
    services: Arc<Services>,
    steered: bool,
}

impl RunHandle {
    pub(crate) fn new(live: LiveRun, services: Arc<Services>, steered: bool) -> Self {
        Self { events: live.log.read(), live, services, steered }
    }

    /// Returns the run's identity.
    #[must_use]
    pub fn id(&self) -> &RunId {
        self.live.log.run_id()
    }

    /// Returns whether the prompt went into a run that was under way already, as
    /// [`WhenBusy::Steer`](axon_kernel::spec::WhenBusy::Steer) says: this is that run then.
    #[must_use]
    pub fn is_steered(&self) -> bool {
        self.steered
    }

    /// Returns the run's events, from the first one on.
    pub fn events(&mut self) -> &mut RunEvents {
        &mut self.events
    }

    /// Returns the run's events behind the event `after`, of which 0 is none: from the store what is
    /// no longer kept here, then what is, then what comes. What is kept stays as long as the handle.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if the store is asked and cannot tell.
    pub async fn follow(&self, after: u64) -> Result<RunEvents, StoreError> {
        let log = &self.live.log;
        let earlier = match after < log.begins_after() {
            true => self.services.store.records(self.id(), after).await?,
            false => Vec::new(),
        };
        let begun = log.begins_after();
        let earlier = earlier.into_iter().filter(|event| event.seq <= begun).collect();
        Ok(log.read_after(after).with_earlier(earlier))
    }

    /// Tells the run something more while it is under way: its model sees it with its next request.
    /// Dropped before the run has taken it, it is withdrawn.
    ///
    /// # Errors
    ///
    /// [`SteerError::Over`] if the run takes no message any more. Nothing was told then.
    pub async fn steer(&self, message: impl Into<Prompt>) -> Result<(), SteerError> {
        let message_id = MessageId::new(uuid::Uuid::now_v7().to_string());
        self.live.steer(message_id, message.into().0).await
    }

    /// Cancels the run; it still ends with its one terminal event.
    pub fn cancel(&self, reason: impl AsRef<str>) {
        let reason = reason.as_ref().to_owned();
        self.live.cancel.now(&reason);
        if !self.live.log.is_paused() {
            return;
        }
        self.live.call_off(self.services.clone(), reason);
    }

    /// Decides about a call that the paused run waits with, and returns the calls that still want a
    /// decision. Once there is none, the run goes on, and this handle follows it: its events come
    /// from there on, and [`RunHandle::outcome`] is the next one.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the run waits for nothing of the kind, or cannot go on.
    pub async fn resolve(
        &mut self,
        call: &ToolCallId,
        resolution: Resolution,
    ) -> Result<Vec<ToolCallId>, ResumeError> {
        self.resolve_as(call, resolution, "").await
    }

    /// Lets a call be made that the paused run waits with, as [`RunHandle::resolve`] does.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the run waits for no approval of it, or cannot go on.
    pub async fn approve(&mut self, call: &ToolCallId) -> Result<Vec<ToolCallId>, ResumeError> {
        self.resolve(call, Resolution::approve()).await
    }

    /// Refuses a call that the paused run waits with, and tells its model `why`.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the run does not wait with it, or cannot go on.
    pub async fn deny(
        &mut self,
        call: &ToolCallId,
        why: impl Into<String>,
    ) -> Result<Vec<ToolCallId>, ResumeError> {
        self.resolve(call, Resolution::Deny { message: Some(why.into()) }).await
    }

    /// Answers a question that the paused run waits with.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the run waits for no such answer, or cannot go on.
    pub async fn answer(
        &mut self,
        call: &ToolCallId,
        answer: impl Into<Value>,
    ) -> Result<Vec<ToolCallId>, ResumeError> {
        let result = answer.into().into();
        self.resolve(call, Resolution::Answer { result }).await
    }

    /// Does what [`RunHandle::resolve`] does, and records that `by` decided.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the run waits for nothing of the kind, or cannot go on.
    pub async fn resolve_as(
        &mut self,
        call: &ToolCallId,
        resolution: Resolution,
        by: &str,
    ) -> Result<Vec<ToolCallId>, ResumeError> {
        let records = RunRecords::new(self.services.store.clone());
        let undecided = records.resolve(self.id(), call, resolution, by).await?;
        if undecided.is_empty() {
            self.resume().await?;
        }
        Ok(undecided)
    }

    /// Goes on with the paused run, about which everything is decided or whose pause is over, and
    /// follows it from there on.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if it cannot go on, or another process has gone on with it.
    pub async fn resume(&mut self) -> Result<(), ResumeError> {
        let resume = Resume::new(self.services.clone(), self.id().clone());
        *self = resume.with_deps(self.live.deps.clone()).start().await?;
        Ok(())
    }

    /// Waits for the run's end: its outcome, or the pause that it waits in.
    pub async fn outcome(&self) -> RunOutcome {
        let settled = self.live.log.settled().await;
        let outcome = RunOutcome::new(self.id().clone(), &settled.event);
        RunOutcome { state: self.live.state.now(), ..outcome }
    }
}
