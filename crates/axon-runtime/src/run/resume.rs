//! Goes on with a run that another process, or an earlier moment of this one, has left open.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::event::{Recovered, Resolution, Resumed, RunEvent, millis};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::policy::Policy;
use axon_kernel::run::{Replay, RunStatus};
use axon_kernel::store::StoreError;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::delegation::Handed;
use super::driver::{Origin, failed};
use super::handoff::Handoffs;
use super::steering::Messages;
use super::transcript::Transcript;
use super::{Driver, Entrance, Given, LiveRun, Refusal, Request, RunHandle};
use crate::agent::{Admission, AgentHandle};
use crate::budget::Budget;
use crate::clock;
use crate::log::RunLog;
use crate::records::{RecordError, RunRecords, TAKEOVER};
use crate::services::Services;

/// A run that is about to go on.
#[derive(Debug)]
#[must_use = "a run goes on with `start`"]
pub struct Resume {
    services: Arc<Services>,
    run: RunId,
    allow_changed: bool,
    timeout: Option<Duration>,
    /// How often it may have been taken over without getting any further; a person may ask for more.
    recoveries: Option<u32>,
    /// What the run's tools get, given again because it holds secrets.
    deps: Option<Result<Given, String>>,
    /// What the run's usage is taken out of; the runtime's budget by default.
    budget: Option<Budget>,
}

/// Why a run does not go on. It stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The store refused: there is no such run, it has ended, or another process drives it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Somebody has to decide first.
    #[error("run `{run}` waits for a decision about {} of its calls", undecided.len())]
    Undecided {
        /// The run.
        run: RunId,
        /// The calls.
        undecided: Vec<ToolCallId>,
    },
    /// The agent was defined otherwise when the run was accepted.
    #[error("agent `{agent}` is defined otherwise than when run `{run}` was accepted")]
    Changed {
        /// The run.
        run: RunId,
        /// The agent.
        agent: String,
        /// The digest of its definition then.
        was: String,
        /// The digest now.
        is: String,
    },
    /// It was taken over too often without getting any further.
    #[error("run `{run}` was taken over {recoveries} times and got no further")]
    Quarantined {
        /// The run.
        run: RunId,
        /// How often.
        recoveries: u32,
    },
    /// Its deps hold secrets, which are not on record.
    #[error(
        "the deps of run `{run}` hold secrets, which are not on record: give them again \
         (`Resume::deps`)"
    )]
    Secrets {
        /// The run.
        run: RunId,
    },
    /// The agent cannot take it on.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for ResumeError {
    fn from(error: StoreError) -> Self {
        Self::Record(error.into())
    }
}

impl ResumeError {
    /// Returns the code by which every door names this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::Undecided { .. } => "run_undecided",
            Self::Changed { .. } => "definition_changed",
            Self::Quarantined { .. } => "run_quarantined",
            Self::Secrets { .. } => "secrets_needed",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

impl Resume {
    pub(crate) fn new(services: Arc<Services>, run: RunId) -> Self {
        Self {
            services,
            run,
            allow_changed: false,
            timeout: None,
            recoveries: None,
            deps: None,
            budget: None,
        }
    }

    /// Goes on although the agent is defined otherwise by now.
    pub fn allow_changed(mut self) -> Self {
        self.allow_changed = true;
        self
    }

    /// Gives the run this long from now on; by default as long as it was given at first.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Gives the deps again, of a run whose deps hold secrets: those are not on record.
    pub fn deps<T: Serialize + ?Sized>(mut self, deps: &T) -> Self {
        self.deps = Some(Given::of(deps).map_err(|error| error.to_string()));
        self
    }

    pub(super) fn with_deps(mut self, deps: Given) -> Self {
        self.deps = Some(Ok(deps));
        self
    }

    /// Takes what the run uses out of `budget`.
    pub(super) fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Lets the run keep its deadline, and leaves it alone if it was taken over `most` times
    /// without getting any further.
    pub(crate) fn by_itself(mut self, most: u32) -> Self {
        self.recoveries = Some(most);
        self
    }

    /// Waits until the agent has room, whatever the run did before.
    pub(crate) fn patiently(self) -> Self {
        self.by_itself(u32::MAX)
    }

    /// Goes on with the run in this process, and returns when that is recorded. Its handle begins
    /// with that event.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]; the run stays open, and nobody drives it.
    pub async fn start(self) -> Result<RunHandle, ResumeError> {
        let run = self.run.clone();
        // In a task of its own: a run that was claimed is driven or given up, whether or not its
        // caller waits.
        let begun = tokio::spawn(self.go_on()).await;
        begun.unwrap_or_else(|_panicked| Err(StoreError::NotFound(run).into()))
    }

    async fn go_on(self) -> Result<RunHandle, ResumeError> {
        let agent = self.open().await?;
        let (replay, agent) = match agent {
            Ok(opened) => opened,
            Err(error) => {
                let unwanted = matches!(&error, ResumeError::Record(RecordError::Unwanted { .. }));
                let error = self.give_up(error).await;
                if unwanted {
                    self.services.cancel_unwanted(vec![self.run.clone()]).await;
                }
                return Err(error);
            }
        };
        let parent = replay.accepted.terms.parent.as_ref();
        let admitted = match self.recoveries {
            Some(_) => agent.admit_patiently(parent).await,
            None => agent.admit_below(parent),
        };
        let admission = match admitted {
            Ok(admission) => admission,
            Err(refusal) => return Err(self.give_up(refusal.into()).await),
        };
        match self.drive(replay, agent, admission).await {
            Ok(handle) => Ok(handle),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Becomes the run's owner, and finds out whether it can go on. An error outside means that the
    /// run was not to be had.
    async fn open(&self) -> Result<Result<(Replay, AgentHandle), ResumeError>, ResumeError> {
        let records = RunRecords::new(self.services.store.clone());
        self.services.store.claim(&self.run).await?;
        let opened = match records.replay(&self.run).await {
            Ok(replay) => self.look_at(replay, &records).await,
            Err(error) => Err(error.into()),
        };
        Ok(opened)
    }

    async fn look_at(
        &self,
        replay: Replay,
        records: &RunRecords,
    ) -> Result<(Replay, AgentHandle), ResumeError> {
        if let Some(parent) = records.gone_parent(&replay).await? {
            return Err(RecordError::Unwanted { run: self.run.clone(), parent }.into());
        }
        let (replay, driven) = records.expire(&self.run, replay).await?;
        self.services.cancel_driven(driven).await;
        let replay = records.learn_from_below(&self.run, replay).await?;
        self.check(&replay).map(|agent| (replay, agent))
    }

    fn check(&self, replay: &Replay) -> Result<AgentHandle, ResumeError> {
        let run = self.run.clone();
        let undecided = replay.undecided();
        if replay.pause.is_some() && !undecided.is_empty() {
            return Err(ResumeError::Undecided { run, undecided });
        }
        let recoveries = replay.recoveries.saturating_add(u32::from(replay.attempted));
        if self.recoveries.is_some_and(|most| recoveries > most) {
            return Err(ResumeError::Quarantined { run, recoveries });
        }
        let registry = &self.services.registry;
        let name = replay.agent.as_str();
        let agent = registry.find(name).ok_or_else(|| Refusal::NotFound {
            name: name.to_owned(),
            nearest: registry.nearest(name),
        })?;
        let (was, is) = (replay.definition.clone(), agent.agent.launcher().definition.clone());
        // What a fallback has taken over began with this agent's definition; what was handed on goes
        // on in the middle.
        let own = replay.agent == replay.accepted.agent || !replay.handoffs.is_empty();
        if own && was != is && !self.allow_changed {
            let agent = name.to_owned();
            return Err(ResumeError::Changed { run, agent, was, is });
        }
        Ok(agent)
    }

    /// Leaves the run to others. What it waits for is recorded, if it was recovered by itself.
    async fn give_up(&self, error: ResumeError) -> ResumeError {
        if let Err(problem) = self.services.store.release(&self.run).await {
            tracing::warn!(run = %self.run, error = %problem, "a run could not be given up");
        }
        error
    }

    async fn drive(
        &self,
        replay: Replay,
        agent: AgentHandle,
        admission: Admission,
    ) -> Result<RunHandle, ResumeError> {
        // What had begun has the turn already, and those in line wait for it.
        let queued = replay.status == RunStatus::Queued;
        let conversation = replay.accepted.conversation_id.as_ref().filter(|_| queued);
        let turn = conversation.map(|id| agent.services.conversations.join(id));
        let paused = replay.pause.is_some();
        let seq = replay.seq + if paused { 0 } else { TAKEOVER };
        let log = Arc::new(RunLog::after(self.run.clone(), seq, replay.attempt));
        let (mut live, steered) = LiveRun::new(log, agent.name().clone());
        live.deps = self.deps_of(&replay)?;
        let opening = self.opening(&replay, &agent);
        let services = agent.services.clone();
        live.state.set(replay.state.clone());
        let mut driver = self.driver(replay, agent, live.clone()).await?;
        driver.open_with(opening).await?;
        let entrance = Entrance { admission, turn, steered };
        services.runs.spawn(driver, entrance, live.clone());
        Ok(RunHandle::new(live, services, false))
    }

    /// Returns the event with which the run goes on: recorded before anything else is tried.
    fn opening(&self, replay: &Replay, agent: &AgentHandle) -> RunEvent {
        let given = millis(self.given(replay));
        let is = agent.agent.launcher().definition.clone();
        let definition = (replay.definition != is && self.allow_changed).then_some(is);
        if replay.pause.is_some() {
            return RunEvent::Resumed(Resumed { timeout_ms: given, definition });
        }
        // One that only waited for its turn has done no harm.
        let recoveries = replay.recoveries.saturating_add(u32::from(replay.attempted));
        let timeout_ms = self.recoveries.is_none().then_some(given);
        RunEvent::Recovered(Recovered { recoveries, timeout_ms, definition })
    }

    /// Returns what the run's tools get.
    fn deps_of(&self, replay: &Replay) -> Result<Given, ResumeError> {
        let run = self.run.clone();
        match (&self.deps, replay.accepted.terms.secrets) {
            (Some(Ok(given)), true) => Ok(given.clone()),
            (Some(Err(problem)), true) => {
                Err(Refusal::Invalid { problem: format!("deps: {problem}") }.into())
            }
            (None, true) => Err(ResumeError::Secrets { run }),
            (_, false) => Ok(replay.accepted.deps.clone().map(Given::of_json).unwrap_or_default()),
        }
    }

    /// Returns how long the run may take from now on.
    fn given(&self, replay: &Replay) -> Duration {
        let at_first = Duration::from_millis(replay.accepted.terms.timeout_ms);
        match (self.timeout, &replay.pause, self.recoveries) {
            (Some(timeout), _, _) => timeout,
            // Its clock stood while it waited; whoever decided about it waits for it now.
            (None, Some(_), _) | (None, None, None) => at_first,
            (None, None, Some(_)) => replay.deadline.since(clock::now()),
        }
    }

    async fn driver(
        &self,
        replay: Replay,
        agent: AgentHandle,
        live: LiveRun,
    ) -> Result<Driver, ResumeError> {
        let deps = self.deps_of(&replay)?;
        let mut request =
            request_of(&self.run, (&replay, deps), &agent, self.budget.as_ref()).await?;
        request.timeout = self.given(&replay);
        let policy = Policy::of(&agent.spec());
        let asked = self.services.meters.known(&replay.accepted.agent);
        let mut driver = Driver::new(agent, request, live, Instant::now());
        driver.asked = asked.unwrap_or(driver.asked);
        driver.take_over(replay, &policy);
        Ok(driver)
    }
}

/// Asks again what the run was asked at first.
async fn request_of(
    run: &RunId,
    (replay, deps): (&Replay, Given),
    agent: &AgentHandle,
    budget: Option<&Budget>,
) -> Result<Request, Refusal> {
    let (accepted, terms) = (&replay.accepted, &replay.accepted.terms);
    let limits = terms.usage_limits.as_ref().and_then(|limits| limits.decode().ok());
    let usage_limits: Map<String, Value> = limits.unwrap_or_default();
    let own = Allowance::of_usage_limits(&usage_limits);
    let above = budget.unwrap_or(&agent.services.budget);
    let budget = above.child(Allowance { tool_calls: None, ..own });
    let asked = replay.fallback_model.as_ref().or(terms.model.as_ref());
    let request = Request {
        prompt: accepted.prompt.clone(),
        deps,
        conversation: accepted.conversation_id.clone(),
        history: terms.history.clone(),
        continues: terms.continues.clone(),
        model: asked.filter(|model| agent.spec().model.as_ref() != Some(*model)).cloned(),
        model_settings: terms.model_settings.clone(),
        usage_limits,
        timeout: Duration::from_millis(terms.timeout_ms),
        metadata: terms.metadata.clone(),
        stream: terms.stream,
        instructions: terms.instructions.clone(),
        approve: terms.approve.clone(),
        budget,
        parent: terms.parent.clone(),
        traceparent: terms.traceparent.as_deref().copied(),
    };
    if replay.agent == accepted.agent {
        return Ok(request);
    }
    let mut adopted = agent.adopt(run, &request).await?;
    if !replay.handoffs.is_empty() {
        // What was approved beforehand was so for whoever goes on, too.
        adopted.approve = request.approve;
    }
    Ok(adopted)
}

impl Driver {
    /// Puts the driver where the record says that the run is.
    fn take_over(&mut self, replay: Replay, policy: &Policy) {
        let run = self.log().run_id().clone();
        self.observed.goes_on((&self.agent, &self.request), &run, &replay);
        self.chain = replay.chain(|failure| policy.retries(failure.kind));
        self.status = replay.status;
        let paused = replay.pause.is_some();
        // An attempt of a process that has gone may have begun and not been recorded.
        self.attempt = if paused { replay.attempt } else { replay.attempt.next() };
        self.transcript = Transcript { recorded: replay.checkpoints, ..Transcript::default() };
        self.results = replay.results;
        self.doubts = replay.doubts;
        self.committed = replay.committed;
        self.resolutions = replay.resolutions;
        self.approvals.standing = replay.standing;
        let spec = self.agent.spec();
        for called in replay.calls.values().filter(|called| spec.asks_agent(&called.name)) {
            self.delegated.insert(called.tool_call_id.clone(), Handed::by(&run, called));
        }
        for asked in replay.requests.iter().filter(|asked| spec.asks_agent(&asked.name)) {
            let handed = asked.handed_to().map(|run| (asked.tool_call_id.clone(), run.into()));
            self.delegated.extend(handed);
        }
        self.calls = replay.calls;
        self.requests = replay.requests;
        self.messages = Messages::taken_over(replay.told, replay.untold);
        let next = replay.next_agent.map(|(agent, _definition)| agent);
        self.handoffs = Handoffs { made: replay.handoffs, next };
        if !self.handoffs.made.is_empty() {
            self.path = self.path.beside(self.agent.name());
        }
        let hops = u32::try_from(self.handoffs.made.len()).unwrap_or(u32::MAX);
        self.envelope.hops = self.envelope.hops.saturating_add(hops);
        self.journal.goes_on_behind(replay.recorded);
        self.shown = self.request.stream && !paused;
        self.given_up = replay.given_up;
        self.origin = if paused { Origin::Here } else { Origin::Elsewhere };
        self.due = replay.due.map(|due| Instant::now() + due.since(clock::now()));
    }

    /// Ends the run if somebody decided that it has to.
    pub(super) fn decided_end(&mut self) -> Option<RunEvent> {
        if let Some(failure) = self.given_up.take() {
            return Some(failed(failure, self.chain.sentences()));
        }
        let message = self.resolutions.values().find_map(|resolution| {
            if let Resolution::Fail { message } = resolution { Some(message.clone()) } else { None }
        })?;
        let message = message.unwrap_or_else(|| "somebody decided that the run fails".to_owned());
        Some(failed(Failure::new(FailureKind::Tool, message), self.chain.sentences()))
    }
}
