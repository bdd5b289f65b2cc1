//! Drives one run through its attempts to exactly one end.

use std::collections::BTreeMap;
use std::sync::Arc;

use axon_kernel::event::{
    Accepted, Cancelled, Completed, Failed, Paused, RunEvent, Started, millis,
};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Attempt, Generation, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::policy::Chain;
use axon_kernel::run::{IllegalEvent, RunStatus};
use axon_kernel::store::{Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};

use super::attempt::{AttemptEnd, AttemptError};
use super::handle::{LiveRun, Steer};
use super::spending::Spending;
use super::steering::Messages;
use super::suspicion::Suspicion;
use super::transcript::Transcript;
use super::{Refusal, Request};
use crate::agent::{Admission, AgentHandle, Lease, Slot};
use crate::conversations::{Place, Turn};
use crate::launch::Launcher;
use crate::log::RunLog;
use crate::services::Services;

/// How much longer than the runner we wait at the deadline: its own time-out knows what was used.
const DEADLINE_SLACK: Duration = Duration::from_millis(250);

/// One run, with everything that its attempts share.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) agent: AgentHandle,
    /// The definition that this attempt's runner was launched with; the agent's own before that.
    pub(super) launcher: Arc<Launcher>,
    pub(super) request: Request,
    pub(super) transcript: Transcript,
    /// Results of Python tools, by call, so that none runs twice.
    pub(super) results: BTreeMap<ToolCallId, RawJson>,
    pub(super) attempt: Attempt,
    /// What the run waits for that is not its model, for who wonders why it is late.
    pub(super) awaits: Option<&'static str>,
    /// The generation that there is evidence against.
    pub(super) sick: Option<Generation>,
    /// The runner that the live attempt is in.
    pub(super) lease: Option<Arc<Lease>>,
    /// What the live attempt has shown since its last checkpoint.
    pub(super) shown: bool,
    /// Whether a tool with effect `once` has returned: what it did must not be done again.
    pub(super) committed: bool,
    pub(super) status: RunStatus,
    pub(super) chain: Chain,
    pub(super) suspicion: Suspicion,
    pub(super) steered: Option<mpsc::Receiver<Steer>>,
    pub(super) messages: Messages,
    /// A call with effect `once` that ended without a result, since the last checkpoint.
    pub(super) doubtful: Option<ToolCallId>,
    pub(super) slot: Option<Slot>,
    turn: Option<Turn>,
    pub(super) spending: Spending,
    pub(super) live: LiveRun,
    _end: EndIfOpen,
    accepted_at: Instant,
    recorded: u64,
}

/// How a run comes to its turn.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) admission: Admission,
    /// The place in the line of its conversation.
    pub(crate) turn: Option<Place>,
    pub(crate) steered: mpsc::Receiver<Steer>,
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
        live: LiveRun,
        accepted_at: Instant,
    ) -> Self {
        Self {
            launcher: agent.agent.launcher(),
            agent,
            request,
            transcript: Transcript::default(),
            results: BTreeMap::new(),
            attempt: Attempt(0),
            awaits: None,
            sick: None,
            lease: None,
            shown: false,
            committed: false,
            status: RunStatus::New,
            chain: Chain::default(),
            suspicion: Suspicion::default(),
            steered: None,
            messages: Messages::default(),
            doubtful: None,
            slot: None,
            turn: None,
            spending: Spending::default(),
            _end: EndIfOpen(live.log.clone()),
            live,
            accepted_at,
            recorded: 0,
        }
    }

    pub(crate) fn log(&self) -> &Arc<RunLog> {
        &self.live.log
    }

    pub(super) fn services(&self) -> &Services {
        &self.agent.services
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.agent.services.store
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
        entrance: Entrance,
        mut cancelled: watch::Receiver<Option<String>>,
    ) {
        let deadline = self.deadline() + DEADLINE_SLACK;
        let end = tokio::select! {
            end = self.work(entrance) => end.unwrap_or_else(|stuck| {
                failed(stuck.into_failure(), Vec::new())
            }),
            reason = reason_of(&mut cancelled) => RunEvent::Cancelled(Cancelled { reason }),
            () = tokio::time::sleep_until(deadline) => self.timed_out(),
        };
        let end = if let RunEvent::Completed(completed) = end {
            // What is recorded now is recorded whole, whoever cancels meanwhile.
            self.complete(completed).await
        } else {
            end
        };
        self.steered = None;
        self.nothing_came_of_it();
        // Whatever ended it from outside has only stopped us from listening.
        self.hard_stop().await;
        self.slot = None;
        let paused = matches!(end, RunEvent::Paused(_));
        self.end(end).await;
        self.turn = None;
        if paused {
            // Until somebody can decide, it can be called off.
            let reason = reason_of(&mut cancelled).await;
            self.end(RunEvent::Cancelled(Cancelled { reason })).await;
        }
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

    async fn work(&mut self, entrance: Entrance) -> Result<RunEvent, Stuck> {
        let Entrance { admission, turn, steered } = entrance;
        // A run whose turn comes after its deadline never executes, hence no slack here.
        let entered = tokio::time::timeout_at(self.deadline(), self.enter(admission, turn)).await;
        match entered {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => return Ok(failed(stopped.into_failure(), Vec::new())),
            Err(_elapsed) => return Ok(self.timed_out()),
        };
        self.steered = Some(steered);
        let queued_ms = millis(self.accepted_at.elapsed());
        self.emit(RunEvent::Started(Started { queued_ms })).await?;
        self.load_history().await?;
        loop {
            self.attempt = self.attempt.next();
            self.shown = false;
            self.launcher = self.agent.agent.launcher();
            match self.make_attempt().await {
                Ok(AttemptEnd::Completed(completed)) => {
                    return Ok(RunEvent::Completed(*completed));
                }
                Ok(AttemptEnd::Paused(reason)) => return Ok(RunEvent::Paused(Paused { reason })),
                Err(AttemptError::Stuck(stuck)) => return Err(stuck),
                Err(AttemptError::Unavailable(failure)) => {
                    if let Some(end) = self.without_runner(*failure).await? {
                        return Ok(end);
                    }
                }
                Err(AttemptError::Told(failure)) => {
                    if let Some(end) = self.after(*failure, None).await? {
                        return Ok(end);
                    }
                }
                Err(AttemptError::Failed(failure, death)) => {
                    if let Some(end) = self.after(*failure, death).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Waits for the turn in the conversation first, so that no place is held meanwhile.
    async fn enter(&mut self, admission: Admission, turn: Option<Place>) -> Result<(), Refusal> {
        let stopped = || Refusal::Stopped { agent: self.agent.name().clone() };
        if let Some(place) = turn {
            self.turn = Some(place.await.map_err(|_gone| stopped())?);
        }
        self.slot = Some(admission.slot().await.map_err(|_closed| stopped())?);
        if let Some(turn) = &self.turn {
            turn.is_of(self.live.clone());
        }
        Ok(())
    }

    pub(super) async fn load_history(&mut self) -> Result<(), Stuck> {
        let (history, held) = match (&self.request.history, &self.request.conversation) {
            (Some(history), _) => (history.clone(), 0),
            (None, Some(conversation)) => {
                let history = self.store().history(conversation).await?;
                let held = history.len();
                (history, held)
            }
            (None, None) => (Vec::new(), 0),
        };
        self.transcript = Transcript::after(history, held);
        self.spending.begin();
        self.messages.begin();
        Ok(())
    }

    /// Lets the turn join its conversation, and only then the run complete.
    async fn complete(&mut self, completed: Completed) -> RunEvent {
        self.agent.agent.note_completed();
        let Some(conversation) = &self.request.conversation else {
            return RunEvent::Completed(completed);
        };
        let held = self.transcript.held;
        let (kept, new) = self.transcript.turn();
        match self.store().extend_history(conversation, held, kept, new).await {
            Ok(()) => RunEvent::Completed(completed),
            Err(StoreError::Conflict { .. }) => {
                // One turn at a time within a runtime: so another process shares the store.
                let message = format!("another turn of conversation `{conversation}` ended first");
                failed(Failure::new(FailureKind::Busy, message), Vec::new())
            }
            Err(error) => failed(Stuck::from(error).into_failure(), Vec::new()),
        }
    }

    fn timed_out(&mut self) -> RunEvent {
        let failure = self.too_late();
        let queued = matches!(self.status, RunStatus::New | RunStatus::Queued);
        let ended = Failed { failure, history: self.chain.sentences(), escalated: false };
        if queued { RunEvent::Rejected(ended) } else { RunEvent::Failed(ended) }
    }

    pub(super) fn too_late(&self) -> Failure {
        let seconds = self.request.timeout.as_secs_f64();
        let why = self.awaits.map(|awaited| format!(": {awaited}")).unwrap_or_default();
        Failure::new(FailureKind::RunTimeout, format!("no answer within {seconds} s{why}"))
    }

    /// Records and shows what happened, if it can have happened.
    pub(super) async fn emit(&mut self, event: RunEvent) -> Result<(), Stuck> {
        self.status = self.status.next(&event)?;
        if event.is_recorded() {
            let run = self.log().run_id();
            let events = std::slice::from_ref(&event);
            self.recorded = self.store().append(run, self.recorded, events).await?.recorded;
        }
        self.log().push(event);
        Ok(())
    }

    /// Writes the end. If even that cannot be recorded, the caller still gets it.
    async fn end(&mut self, event: RunEvent) {
        if let Err(stuck) = self.emit(event).await {
            let failure = stuck.into_failure();
            let run = self.log().run_id();
            tracing::error!(%run, error = %failure, "the end was not recorded");
            let end = failed(failure, self.chain.sentences());
            self.log().push(end);
        }
    }
}

pub(super) fn failed(failure: Failure, history: Vec<String>) -> RunEvent {
    RunEvent::Failed(Failed { failure, history, escalated: false })
}

async fn reason_of(cancelled: &mut watch::Receiver<Option<String>>) -> String {
    let reason = cancelled.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        // Nobody can cancel any more.
        None => std::future::pending().await,
    }
}
