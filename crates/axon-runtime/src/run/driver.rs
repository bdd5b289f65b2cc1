//! Drives one run through its attempts to exactly one end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axon_kernel::event::{
    Accepted, Cancelled, Completed, Envelope, Failed, PauseReason, Paused, Resolution, RunEvent,
    Sequenced, Started, ToolCalled, millis,
};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Attempt, Generation, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::policy::Chain;
use axon_kernel::run::{IllegalEvent, RunStatus, Standing};
use axon_kernel::spec::{AgentPath, Effect};
use axon_kernel::store::{Store, StoreError};
use axon_kernel::wire::{DeferredRequest, ToolRequested};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};

use super::approval::{Approvals, see_to_expiry};
use super::attempt::{AttemptEnd, AttemptError};
use super::calls::Calls;
use super::delegation::{Handed, envelope_of, path_of};
use super::doubt::process_gone;
use super::handle::{LiveRun, Steer, Stop};
use super::handoff::Handoffs;
use super::journal::{Journal, Turned, With};
use super::observed::Observed;
use super::spending::Spending;
use super::steering::Messages;
use super::suspicion::Suspicion;
use super::transcript::Transcript;
use super::{Refusal, Request};
use crate::agent::{Admission, AgentHandle, Lease, Slot};
use crate::carried::Carried;
use crate::clock::Clock;
use crate::conversations::{Place, Turn};
use crate::launch::Launcher;
use crate::log::RunLog;
use crate::meters::{AgentMeters, ToolCall};
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
    /// Calls with effect `once` since the last checkpoint that have no result: nobody knows
    /// whether they took effect.
    pub(super) doubts: BTreeSet<ToolCallId>,
    /// The calls since the last checkpoint.
    pub(super) calls: BTreeMap<ToolCallId, ToolCalled>,
    pub(super) slot: Option<Slot>,
    turn: Option<Turn>,
    pub(super) spending: Spending,
    pub(super) live: LiveRun,
    /// The calls that the run has waited with since the last checkpoint.
    pub(super) requests: Vec<DeferredRequest>,
    /// What was decided about calls that the run waited for, until a checkpoint has them.
    pub(super) resolutions: BTreeMap<ToolCallId, Resolution>,
    pub(super) approvals: Approvals,
    /// When the next attempt is due.
    pub(super) due: Option<Instant>,
    /// The calls that are made in this process.
    pub(super) calls_here: Calls,
    /// Calls that wait for room. Bounded by the tool calls of one model response.
    pub(super) waiting_calls: VecDeque<ToolRequested>,
    /// The state as the calls of the live attempt see it; what is on record has the live run.
    pub(super) state_here: Carried,
    /// The agents from the top-level run down to this one's.
    pub(super) path: AgentPath,
    /// What goes along with the message from run to run.
    pub(super) envelope: Envelope,
    /// The runs that this one has handed work to, by call.
    pub(super) delegated: BTreeMap<ToolCallId, Handed>,
    pub(super) handoffs: Handoffs,
    pub(super) journal: Journal,
    pub(super) clock: Arc<Clock>,
    /// Its spans.
    pub(super) observed: Observed,
    /// The end, if it is recorded and nobody has seen it yet.
    unseen: Option<Sequenced>,
    /// Why the run was given up, if another process did that and could not end it any more.
    pub(super) given_up: Option<Failure>,
    /// Who began the run.
    pub(super) origin: Origin,
    /// The agent that was asked, whoever has taken over since.
    pub(super) asked: Arc<AgentMeters>,
    /// The calls under way.
    pub(super) made: BTreeMap<ToolCallId, ToolCall>,
    _end: EndIfOpen,
    pub(super) accepted_at: Instant,
}

/// How long the last steps of a run that is left open may take to be recorded.
const LEAVING: Duration = Duration::from_secs(2);

/// Who began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This driver, or another one that left it in good order.
    Here,
    /// A process that has gone.
    Elsewhere,
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
struct EndIfOpen {
    log: Arc<RunLog>,
    store: Arc<dyn Store>,
}

impl Drop for EndIfOpen {
    fn drop(&mut self) {
        if self.log.is_settled() {
            return;
        }
        let reason = "the runtime has shut down".to_owned();
        let end = if std::thread::panicking() {
            failed(Failure::new(FailureKind::Internal, "the run's task panicked"), Vec::new())
        } else if self.store.is_durable() {
            RunEvent::Paused(Paused::until_decided(PauseReason::Interrupted { reason }))
        } else {
            RunEvent::Cancelled(Cancelled { reason })
        };
        self.log.push(end);
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
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(&self);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Failure::new(FailureKind::Internal, message)
    }
}

impl Driver {
    pub(crate) fn new(
        agent: AgentHandle,
        request: Request,
        live: LiveRun,
        accepted_at: Instant,
    ) -> Self {
        let store = agent.services.store.clone();
        let journal = Journal::new(store.clone(), live.log.clone());
        let clock = Arc::new(Clock::until(accepted_at + request.timeout));
        let path = path_of(request.parent.as_ref(), agent.name());
        let envelope = envelope_of(&request, live.log.run_id());
        let calls_here = Calls::of(&agent.spec());
        let observed = Observed::new(&agent, &request, live.log.run_id());
        Self {
            observed,
            launcher: agent.agent.launcher(),
            asked: agent.agent.meters.clone(),
            made: BTreeMap::new(),
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
            doubts: BTreeSet::new(),
            calls: BTreeMap::new(),
            slot: None,
            turn: None,
            spending: Spending::default(),
            _end: EndIfOpen { log: live.log.clone(), store: store.clone() },
            live,
            accepted_at,
            requests: Vec::new(),
            resolutions: BTreeMap::new(),
            approvals: Approvals::default(),
            due: None,
            calls_here,
            waiting_calls: VecDeque::new(),
            state_here: Carried::default(),
            path,
            envelope,
            delegated: BTreeMap::new(),
            handoffs: Handoffs::default(),
            journal,
            clock,
            unseen: None,
            given_up: None,
            origin: Origin::Here,
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
        self.open_with(RunEvent::Accepted(accepted)).await
    }

    /// Records the event with which this process takes the run on. That there is no space for it is
    /// the caller's to know.
    pub(super) async fn open_with(&mut self, event: RunEvent) -> Result<(), Refusal> {
        let status = self.status.next(&event);
        if let RunEvent::Accepted(accepted) = &event {
            self.approvals.standing = Standing::of(&accepted.terms);
        }
        self.status =
            status.map_err(|illegal| Refusal::Invalid { problem: illegal.to_string() })?;
        let event = self.log().place(event);
        self.journal.push(event);
        self.journal.write(With::default(), None).await?;
        Ok(())
    }

    /// Drives the run to its end, its cancel or its deadline, whichever comes first.
    pub(crate) async fn drive(
        mut self,
        entrance: Entrance,
        mut stopped: watch::Receiver<Option<Stop>>,
    ) {
        let clock = self.clock.clone();
        let end = tokio::select! {
            end = self.work(entrance) => end.unwrap_or_else(|stuck| {
                failed(stuck.into_failure(), Vec::new())
            }),
            stop = stop_of(&mut stopped) => match stop {
                Stop::Cancelled(reason) => {
                    let reason = self.with_doubts(reason);
                    RunEvent::Cancelled(Cancelled { reason })
                }
                Stop::Interrupted(reason) => return self.leave_open(reason).await,
            },
            () = clock.over(DEADLINE_SLACK) => self.timed_out(),
        };
        self.steered = None;
        self.nothing_came_of_it();
        self.calls_are_lost();
        self.tell_end(&end);
        if let RunEvent::Cancelled(_) = &end {
            self.record_unseen(&end).await;
        }
        // Whatever ended it from outside has only stopped us from listening.
        self.hard_stop().await;
        self.slot = None;
        // What is recorded now is recorded whole, whoever cancels meanwhile.
        let paused = matches!(end, RunEvent::Paused(_));
        see_to_expiry(&self.agent.services, &self.live, &end);
        if !paused {
            // Before anybody sees the end: whoever does may end the process next.
            self.cancel_delegated().await;
        }
        if let RunEvent::Completed(completed) = end {
            self.complete(completed).await;
        } else {
            self.end(end).await;
        }
        self.turn = None;
        let stop = stopped.borrow().clone();
        if let (true, Some(Stop::Cancelled(reason))) = (paused, stop) {
            // It was called off while it paused.
            self.live.call_off(self.agent.services.clone(), reason);
        }
    }

    /// Ends what the run does here, and leaves it open in the store for another process.
    async fn leave_open(mut self, reason: String) {
        self.nothing_came_of_it();
        self.hard_stop().await;
        let run = self.log().run_id().clone();
        let written = tokio::time::timeout(LEAVING, self.journal.write(With::default(), None));
        if !matches!(written.await, Ok(Ok(()))) {
            tracing::warn!(%run, "a run was left without its last steps");
        }
        // Whoever opens the store next sees that this process has gone, also without being told.
        let store = self.store().clone();
        let released = tokio::spawn(async move { store.release(&run).await });
        let _in_time = tokio::time::timeout(LEAVING, released).await;
        let reason = PauseReason::Interrupted { reason };
        self.log().push(RunEvent::Paused(Paused::until_decided(reason)));
    }

    pub(super) fn deadline(&self) -> Instant {
        self.clock.deadline()
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    pub(super) fn age(&self) -> Duration {
        self.accepted_at.elapsed()
    }

    async fn work(&mut self, entrance: Entrance) -> Result<RunEvent, Stuck> {
        let Entrance { admission, turn, steered } = entrance;
        let queued = self.status == RunStatus::Queued;
        if let Some(end) = self.come_in(admission, turn).await {
            return Ok(end);
        }
        self.steered = Some(steered);
        if queued {
            let queued_ms = millis(self.accepted_at.elapsed());
            self.emit(RunEvent::Started(Started { queued_ms })).await?;
        }
        self.load_history().await?;
        if let Some(end) = self.go_on().await? {
            return Ok(end);
        }
        if let Some(flow) = self.launcher.spec.clone().flow.as_ref() {
            return self.flow_through(flow).await;
        }
        loop {
            self.attempt = self.attempt.next();
            self.log().belongs_to(self.attempt);
            self.shown = false;
            self.launcher = self.agent.agent.launcher();
            match self.make_attempt().await {
                Ok(AttemptEnd::Completed(completed)) => {
                    return Ok(RunEvent::Completed(*completed));
                }
                Ok(AttemptEnd::Asks(requests)) => {
                    if let Some(pause) = self.ask_about(requests).await? {
                        return Ok(pause);
                    }
                }
                Err(AttemptError::Stuck(stuck)) => return Err(stuck),
                Err(AttemptError::HandedOn) => {
                    if let Some(end) = self.go_on_as_next().await? {
                        return Ok(end);
                    }
                }
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

    /// Waits for the turn and the place, and returns the end of a run that gets none.
    async fn come_in(&mut self, admission: Admission, turn: Option<Place>) -> Option<RunEvent> {
        // A run whose turn comes after its deadline never executes, hence no slack here.
        let entered = tokio::time::timeout_at(self.deadline(), self.enter(admission, turn)).await;
        if self.status == RunStatus::Queued {
            self.asked.queued_for(self.accepted_at.elapsed());
        }
        match entered {
            Ok(Ok(())) => None,
            Ok(Err(stopped)) => Some(failed(stopped.into_failure(), Vec::new())),
            Err(_elapsed) => Some(self.timed_out()),
        }
    }

    /// Does what is due before the next attempt of a run that was taken over.
    async fn go_on(&mut self) -> Result<Option<RunEvent>, Stuck> {
        if let Some(end) = self.decided_end() {
            return Ok(Some(end));
        }
        if let Some(end) = self.settle_doubts(&process_gone()).await? {
            return Ok(Some(end));
        }
        self.retract().await?;
        if let Some(due) = self.due.take() {
            tokio::time::sleep_until(due).await;
        }
        Ok(None)
    }

    /// Waits for the turn in the conversation first, so that no place is held meanwhile.
    async fn enter(&mut self, admission: Admission, turn: Option<Place>) -> Result<(), Refusal> {
        let stopped = || Refusal::Stopped { agent: self.agent.name().clone() };
        if let Some(place) = turn {
            self.turn = Some(place.await.map_err(|_gone| stopped())?);
        }
        self.take_turn().await?;
        self.slot = Some(admission.slot().await.map_err(|_closed| stopped())?);
        if let Some(turn) = &self.turn {
            turn.is_of(self.live.clone());
        }
        Ok(())
    }

    /// Ends the run with its output, which joins the conversation in the same breath.
    async fn complete(&mut self, completed: Completed) {
        self.agent.agent.note_completed();
        let turn = self.request.conversation.clone().map(|conversation| {
            let (kept, new) = self.transcript.turn();
            Turned { conversation, held: self.transcript.held, kept, messages: new.to_vec() }
        });
        let conversation = turn.as_ref().map(|turn| turn.conversation.clone());
        let with = With { turn, ..With::default() };
        match (self.record(RunEvent::Completed(completed), with).await, conversation) {
            (Ok(()), _) => {}
            (Err(Stuck::Store(StoreError::Conflict { key, .. })), Some(conversation))
                if key == conversation.as_str() =>
            {
                // Turns are taken one at a time: so the conversation was changed from outside.
                let message = format!("another turn of conversation `{conversation}` ended first");
                let end = failed(Failure::new(FailureKind::Busy, message), Vec::new());
                self.tell_end(&end);
                self.end(end).await;
            }
            (Err(stuck), _) => self.end_unrecorded(stuck).await,
        }
    }

    fn timed_out(&mut self) -> RunEvent {
        let failure = self.in_doubt(self.too_late());
        let queued = matches!(self.status, RunStatus::New | RunStatus::Queued);
        let ended = Failed { failure, history: self.chain.sentences(), escalated: false };
        if queued { RunEvent::Rejected(ended) } else { RunEvent::Failed(ended) }
    }

    pub(super) fn too_late(&self) -> Failure {
        if self.request.timeout.is_zero() {
            let message = "its time was over before another process could go on with it";
            return Failure::new(FailureKind::RunTimeout, message);
        }
        let seconds = self.request.timeout.as_secs_f64();
        let why = self.awaits.map(|awaited| format!(": {awaited}")).unwrap_or_default();
        Failure::new(FailureKind::RunTimeout, format!("no answer within {seconds} s{why}"))
    }

    /// Records and shows what happened, if it can have happened.
    pub(super) async fn emit(&mut self, event: RunEvent) -> Result<(), Stuck> {
        self.record(event, With::default()).await
    }

    /// Records what happened, with what joins the conversation, and shows it. What nothing depends
    /// on yet is shown at once, and recorded later.
    pub(super) async fn record(&mut self, event: RunEvent, with: With) -> Result<(), Stuck> {
        let status = self.status.next(&event)?;
        if !event.is_recorded() {
            self.status = status;
            self.log().push(event);
            return Ok(());
        }
        // A run that kills its process has to be known by its attempts.
        let risky =
            self.origin == Origin::Elsewhere && matches!(event, RunEvent::AttemptStarted(_));
        let needed =
            risky || event.must_be_durable(self.effect_of(&event)) || !with.writes.is_empty();
        let durable = needed && !with.may_wait;
        let event = self.log().place(event);
        if durable {
            self.journal.push(event);
            self.journal.write(with, Some(&self.clock)).await?;
        } else {
            self.journal.show(event);
        }
        self.status = status;
        Ok(())
    }

    /// Records the end of a run that still has to be stopped, so that no crash meanwhile forgets it.
    async fn record_unseen(&mut self, end: &RunEvent) {
        if self.status.next(end).is_ok() {
            let event = self.log().place(end.clone());
            self.unseen = self.journal.record_unseen(event).await;
        }
    }

    fn effect_of(&self, event: &RunEvent) -> Option<Effect> {
        if let RunEvent::ToolCalled(called) = event {
            Some(called.effect)
        } else if let RunEvent::ToolReturned(returned) = event {
            self.status.awaited(&returned.tool_call_id)
        } else {
            None
        }
    }

    /// Writes the end. If even that cannot be recorded, the caller still gets it.
    async fn end(&mut self, event: RunEvent) {
        if let Some(unseen) = self.unseen.take() {
            return match self.journal.write(With::default(), Some(&self.clock)).await {
                Ok(()) => self.log().append(unseen),
                Err(error) => self.end_unrecorded(error.into()).await,
            };
        }
        if let Err(stuck) = self.emit(event).await {
            self.end_unrecorded(stuck).await;
        }
    }

    /// Ends the run for its caller only. On disk it is open still, and whoever opens the store next
    /// goes on with it.
    async fn end_unrecorded(&self, stuck: Stuck) {
        let failure = stuck.into_failure();
        let run = self.log().run_id();
        tracing::error!(%run, error = %failure, "a run could not be recorded, and stays open");
        if let Err(error) = self.store().release(run).await {
            tracing::warn!(%run, %error, "the run could not be given up");
        }
        if self.store().is_durable() {
            let reason = PauseReason::Interrupted { reason: failure.message };
            self.log().push(RunEvent::Paused(Paused::until_decided(reason)));
        } else {
            self.log().push(failed(failure, self.chain.sentences()));
        }
    }
}

pub(super) fn failed(failure: Failure, history: Vec<String>) -> RunEvent {
    RunEvent::Failed(Failed { failure, history, escalated: false })
}

async fn stop_of(stopped: &mut watch::Receiver<Option<Stop>>) -> Stop {
    let stop = stopped.wait_for(Option::is_some).await.ok().and_then(|stop| stop.clone());
    match stop {
        Some(stop) => stop,
        // Nobody can stop it any more.
        None => std::future::pending().await,
    }
}
