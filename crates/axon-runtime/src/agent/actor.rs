//! The agent's actor. It never waits for a model or a process inside `handle`: its mailbox stays
//! free for status, drain and stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use futures_util::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lending::Waiter;
use super::pulse;
use super::recycle::Recycling;
use super::reload::Reload;
use super::seat::{Condition, Launch, Seat};
use super::shared::{Agent, Standing};
use super::status::AgentStatus;
use super::tenancy::Tenancy;
use super::trouble::Trouble;
use crate::events::{Events, RecycleReason, RuntimeEvent};
use crate::launch::Launcher;

/// How long a runner may take to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What an agent is told.
#[derive(Debug)]
pub(crate) enum AgentMessage {
    /// An attempt wants a runner.
    Lease(Waiter),
    /// A runner that is reserved for a run has become empty, or is not there any more, or that run
    /// is not.
    Emptied { tenancy: Arc<Tenancy>, waiter: Waiter },
    /// The run that had a runner for itself has left.
    Returned(Arc<Tenancy>),
    /// A launch ended.
    Launched { generation: Generation, outcome: Box<Result<Tenancy, Failure>> },
    /// A runner ended.
    Exited { tenancy: Arc<Tenancy>, cause: String },
    /// The wait before a launch is over.
    LaunchNow { generation: Generation },
    /// It is time to see which runners are due to be replaced.
    Inspect,
    /// Somebody wants new runners, whatever the state.
    Restart,
    /// The definition is to change: runs under way finish where they are, new ones get new runners.
    Reload { launcher: Arc<Launcher>, done: oneshot::Sender<Result<(), Failure>> },
    /// A runner is fit for nothing new: runs in it finish, new ones get another.
    Replace { tenancy: Arc<Tenancy>, reason: &'static str },
    /// No run is left in a runner that has been replaced.
    Vacated(Arc<Tenancy>),
    /// Let the runners go and stay without any until a restart.
    Rest(oneshot::Sender<()>),
    /// Somebody wants to know.
    Status(oneshot::Sender<AgentStatus>),
}

/// Whether the agent has runners, or is to have them.
#[derive(Debug)]
pub(super) enum Mode {
    Serving,
    Parked {
        cause: Failure,
        retry_at: Option<Instant>,
        /// The launch after whose wait it is tried again.
        after: Generation,
    },
    /// Parked, and trying whether a launch succeeds by now.
    Probing {
        cause: Failure,
    },
    /// Drained: without runners on purpose.
    Resting,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(super) agent: Arc<Agent>,
    pub(super) events: Events,
    pub(super) myself: ActorRef<AgentMessage>,
    pub(super) mode: Mode,
    pub(super) seats: Vec<Seat>,
    /// The launch that was begun last.
    pub(super) latest: Generation,
    /// The seat whose turn it is among those with equally many runs.
    pub(super) next: usize,
    /// Bounded by the agent's `concurrency`: whoever waits here has a place among the runs under
    /// way, or asks a tool directly.
    pub(super) waiting: VecDeque<Waiter>,
    /// Runners that were replaced and that runs are still in.
    pub(super) retiring: Vec<Arc<Tenancy>>,
    pub(super) trouble: Trouble,
    pub(super) recycling: Recycling,
    pub(super) reload: Option<Reload>,
}

/// What an agent's actor starts with.
#[derive(Clone, Debug)]
pub(crate) struct AgentArguments {
    pub(crate) agent: Arc<Agent>,
    pub(crate) events: Events,
}

/// The agent's actor.
#[derive(Debug)]
pub(crate) struct AgentActor;

impl Actor for AgentActor {
    type Msg = AgentMessage;
    type State = State;
    type Arguments = AgentArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AgentMessage>,
        AgentArguments { agent, events }: AgentArguments,
    ) -> Result<State, ActorProcessingErr> {
        let open = agent.reopen();
        let mut state = State {
            agent,
            events,
            myself,
            mode: Mode::Resting,
            seats: Vec::new(),
            latest: Generation(0),
            next: 0,
            waiting: VecDeque::new(),
            retiring: Vec::new(),
            trouble: Trouble::default(),
            recycling: Recycling::default(),
            reload: None,
        };
        if open {
            state.launch_all();
        }
        state.show();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMessage::Lease(waiter) => state.lease(waiter),
            AgentMessage::Emptied { tenancy, waiter } => state.emptied(&tenancy, waiter),
            AgentMessage::Returned(tenancy) => state.returned(&tenancy),
            AgentMessage::Launched { generation, outcome } => {
                state.launched(generation, *outcome)?;
            }
            AgentMessage::Exited { tenancy, cause } => state.exited(&tenancy, cause)?,
            AgentMessage::LaunchNow { generation } => state.launch_again(generation),
            AgentMessage::Inspect => state.inspect(),
            AgentMessage::Restart => state.restart(),
            AgentMessage::Reload { launcher, done } => state.reload(launcher, done),
            AgentMessage::Replace { tenancy, reason } => state.replace(&tenancy, reason),
            AgentMessage::Vacated(tenancy) => {
                state.retiring.retain(|retiring| !Arc::ptr_eq(retiring, &tenancy));
                end(tenancy, "it was replaced");
            }
            AgentMessage::Rest(done) => state.rest(done),
            // Whoever asked may have gone: then nobody needs the answer.
            AgentMessage::Status(reply) => drop(reply.send(state.status())),
        }
        state.show();
        Ok(())
    }

    /// Ends the runners in good order. Whoever kills the actor instead, kills them.
    async fn post_stop(
        &self,
        _myself: ActorRef<AgentMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.let_go("the agent was stopped").await;
        state.agent.meters.shows("down", 0);
        Ok(())
    }
}

impl State {
    pub(super) fn name(&self) -> &str {
        self.agent.name.as_str()
    }

    pub(super) fn is_up(&self) -> bool {
        self.seats.iter().any(|seat| seat.tenancy().is_some())
    }

    /// Begins anew, with as many vacant seats as the definition wants, and launches for each.
    pub(super) fn launch_all(&mut self) {
        let seats = self.agent.launcher().seats();
        self.mode = Mode::Serving;
        self.recycling = Recycling::default();
        self.seats = (0..seats).map(|_| Seat::vacant()).collect();
        if seats == 0 {
            self.agent.settle(Ok(()));
            self.agent.reopen();
        }
        self.launch_vacant();
    }

    /// Launches for every seat that nobody is in and nothing is under way for.
    pub(super) fn launch_vacant(&mut self) {
        for index in 0..self.seats.len() {
            let Seat { condition, launch, .. } = &self.seats[index];
            if matches!(condition, Condition::Vacant) && launch.is_none() {
                self.launch(index, None);
            }
        }
    }

    /// Launches a runner for a seat, in place of the one in it if there is a reason.
    pub(super) fn launch(&mut self, index: usize, replaces: Option<RecycleReason>) {
        let launch = self.begin_launch(self.agent.launcher(), replaces);
        let seat = &mut self.seats[index];
        if seat.tenancy().is_none() {
            seat.generation = launch.generation;
            seat.condition = Condition::Vacant;
        }
        seat.launch = Some(launch);
    }

    pub(super) fn begin_launch(
        &mut self,
        launcher: Arc<Launcher>,
        replaces: Option<RecycleReason>,
    ) -> Launch {
        let generation = launcher.next_generation();
        self.latest = generation;
        let (myself, meters) = (self.myself.clone(), self.agent.meters.clone());
        tracing::debug!(agent = self.name(), %generation, "launching a runner");
        let task = tokio::spawn(async move {
            let outcome = match launcher.launch(generation, &meters).await {
                Ok(launched) => Ok(Tenancy::new(generation, launched, launcher)),
                Err(cause) => Err(cause),
            };
            // If the agent has ended meanwhile, the runner in here ends with the message.
            let _ended =
                myself.cast(AgentMessage::Launched { generation, outcome: Box::new(outcome) });
        });
        Launch { generation, replaces, task }
    }

    /// Launches after a wait; a parked agent stays parked until a launch has succeeded.
    fn launch_again(&mut self, after: Generation) {
        let waited = |seat: &Seat| {
            seat.generation == after && seat.tenancy().is_none() && seat.launch.is_none()
        };
        let Some(index) = self.seats.iter().position(waited) else { return };
        match &self.mode {
            Mode::Serving => {}
            Mode::Parked { cause, after: probe, .. } if *probe == after => {
                self.mode = Mode::Probing { cause: cause.clone() };
            }
            Mode::Parked { .. } | Mode::Probing { .. } | Mode::Resting => return,
        }
        self.launch(index, None);
    }

    fn launched(
        &mut self,
        generation: Generation,
        outcome: Result<Tenancy, Failure>,
    ) -> Result<(), Failure> {
        let outcome = outcome.map(Arc::new);
        if self.reload.as_ref().is_some_and(|reload| reload.is_launch(generation)) {
            self.reloaded(outcome);
            return Ok(());
        }
        let of_it = |seat: &Seat| seat.launch.as_ref().is_some_and(|l| l.generation == generation);
        let Some(index) = self.seats.iter().position(of_it) else { return Ok(()) };
        let replaces = self.seats[index].launch.take().and_then(|launch| launch.replaces);
        match outcome {
            Ok(tenancy) => {
                self.seat(index, tenancy, replaces);
                Ok(())
            }
            Err(cause) => self.not_launched(index, generation, cause),
        }
    }

    /// Lets a runner take a seat; the one that had it retires.
    fn seat(&mut self, index: usize, tenancy: Arc<Tenancy>, replaces: Option<RecycleReason>) {
        self.announce(&tenancy);
        let seat = &mut self.seats[index];
        seat.generation = tenancy.generation;
        let up = Condition::Up { tenancy, reserved: false };
        if let Condition::Up { tenancy: before, .. } = std::mem::replace(&mut seat.condition, up) {
            self.recycled(before, replaces);
        }
        self.mode = Mode::Serving;
        self.agent.settle(Ok(()));
        self.agent.reopen();
        self.launch_vacant();
        self.inspect_later();
        self.serve();
    }

    /// Tells of a runner that is up, and looks after it from now on.
    pub(super) fn announce(&self, tenancy: &Arc<Tenancy>) {
        let (generation, pid) = (tenancy.generation, tenancy.pid());
        tracing::info!(agent = self.name(), %generation, pid, model = tenancy.model, "runner is up");
        let own = tenancy.launcher.spec.model.as_ref().map(ToString::to_string);
        self.agent.meters.asks(own.as_deref().unwrap_or(&tenancy.model));
        let agent = self.agent.name.clone();
        self.events.tell(RuntimeEvent::RunnerUp { agent, generation, pid });
        pulse::watch(tenancy, self.myself.clone());
    }

    fn restart(&mut self) {
        self.trouble = Trouble::default();
        for seat in std::mem::take(&mut self.seats) {
            if let Some(tenancy) = seat.tenancy() {
                end(tenancy.clone(), "the agent was restarted");
            }
        }
        self.launch_all();
    }

    fn replace(&mut self, tenancy: &Arc<Tenancy>, reason: &'static str) {
        let Some(index) = self.seats.iter().position(|seat| seat.holds(tenancy)) else { return };
        tracing::warn!(agent = self.name(), generation = %tenancy.generation, reason, "a runner is replaced");
        self.retire(tenancy.clone());
        let seat = &mut self.seats[index];
        seat.condition = Condition::Vacant;
        match &seat.launch {
            Some(launch) => seat.generation = launch.generation,
            None => self.launch(index, None),
        }
    }

    /// Ends a runner when the last run in it has ended: each does by its own deadline.
    pub(super) fn retire(&mut self, tenancy: Arc<Tenancy>) {
        tenancy.retire();
        self.retiring.push(tenancy.clone());
        let myself = self.myself.clone();
        tokio::spawn(async move {
            tenancy.vacated().await;
            let _ended = myself.cast(AgentMessage::Vacated(tenancy));
        });
    }

    fn rest(&mut self, done: oneshot::Sender<()>) {
        self.agent.stand(Standing::Drained);
        let gone = self.let_go("the agent was drained");
        tokio::spawn(async move {
            gone.await;
            // Whoever waited may have given up.
            let _gone = done.send(());
        });
    }

    /// Returns what ends whatever runs, and is over when that has really ended.
    fn let_go(&mut self, reason: &'static str) -> impl Future<Output = ()> + Send + use<> {
        self.mode = Mode::Resting;
        self.waiting.clear();
        let mut ending = std::mem::take(&mut self.retiring);
        let mut launches = Vec::new();
        for mut seat in std::mem::take(&mut self.seats) {
            ending.extend(seat.tenancy().cloned());
            launches.extend(seat.launch.take());
        }
        launches.extend(self.reload.take().map(|reload| reload.cancelled(reason)));
        let launcher = self.agent.launcher();
        async move {
            for mut launch in launches {
                launch.task.abort();
                let _aborted = (&mut launch.task).await;
            }
            join_all(ending.iter().map(|tenancy| tenancy.stop(reason, STOP_GRACE))).await;
            // Killed ones, too: an aborted launch, and what was replaced a moment ago.
            let _in_time = tokio::time::timeout(STOP_GRACE, launcher.living.none()).await;
            launcher.close_sockets();
        }
    }
}

/// Ends a runner in good order; nobody gets it any more.
fn end(tenancy: Arc<Tenancy>, reason: &'static str) {
    tenancy.doom(reason);
    tokio::spawn(async move { tenancy.stop(reason, STOP_GRACE).await });
}

pub(super) fn unavailable(agent: &str, cause: &Failure) -> Failure {
    let mut failure = cause.clone();
    failure.retryable = false;
    failure.message = format!("agent `{agent}` is unavailable: {}", cause.message);
    failure
}

/// Returns why what was waited for did not come about.
pub(super) fn cancelled(reason: &str) -> Failure {
    Failure::new(FailureKind::Cancelled, reason)
}
