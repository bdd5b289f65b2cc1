//! The agent's actor. It never waits for a model or a process inside `handle`: its mailbox stays
//! free for status, drain and stop.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::spec::OnExhausted;
use futures_util::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shared::{Agent, Standing};
use super::status::{AgentState, AgentStatus};
use super::tenancy::{Death, Tenancy};
use super::trouble::{Trouble, Verdict, is_hopeless};
use crate::events::{Events, RuntimeEvent};
use crate::launch::{Launched, Launcher};

/// How long a runner may take to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How many tools may run on in a runner although nobody waits for them. It has 80 threads for
/// tools in all, and none left would look like tools that hang.
const MAX_LEFT_BEHIND: usize = 16;

/// What an agent is told.
#[derive(Debug)]
pub(crate) enum AgentMessage {
    /// An attempt wants a runner of a generation after this one.
    Lease { after: Option<Generation>, reply: Reply },
    /// A launch ended.
    Launched { generation: Generation, outcome: Box<Result<Launched, Failure>> },
    /// A runner ended.
    Exited { tenancy: Arc<Tenancy>, cause: String },
    /// The wait before a launch is over.
    LaunchNow { generation: Generation },
    /// Somebody wants a new runner, whatever the state.
    Restart,
    /// The definition has changed: runs under way finish where they are, new ones get a new runner.
    Reload(Arc<Launcher>),
    /// A runner is fit for nothing new: runs in it finish, new ones get another.
    Replace { tenancy: Arc<Tenancy>, reason: &'static str },
    /// No run is left in a runner that has been replaced.
    Vacated(Arc<Tenancy>),
    /// Let the runner go and stay without one until a restart.
    Rest(oneshot::Sender<()>),
    /// Somebody wants to know.
    Status(oneshot::Sender<AgentStatus>),
}

type Reply = oneshot::Sender<Result<Arc<Tenancy>, Failure>>;

/// Where the agent's runner is.
#[derive(Debug)]
enum Condition {
    Launching,
    Up(Arc<Tenancy>),
    Waiting {
        cause: Failure,
    },
    /// Parked, and trying whether a launch succeeds by now.
    Probing {
        cause: Failure,
    },
    Parked {
        cause: Failure,
        retry_at: Option<Instant>,
    },
    /// Drained: without a runner on purpose.
    Resting,
}

#[derive(Debug)]
pub(crate) struct State {
    agent: Arc<Agent>,
    events: Events,
    generation: Generation,
    condition: Condition,
    waiting: Vec<Reply>,
    /// The task of the launch that is under way; aborting it kills what it has started.
    launching: Option<JoinHandle<()>>,
    /// Runners that a reload has replaced and that runs are still in.
    retiring: Vec<Arc<Tenancy>>,
    trouble: Trouble,
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
            launching: None,
            retiring: Vec::new(),
            generation: agent.launcher().next_generation(),
            agent,
            events,
            condition: Condition::Resting,
            waiting: Vec::new(),
            trouble: Trouble::default(),
        };
        if open {
            state.condition = Condition::Launching;
            state.launch(&myself);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMessage::Lease { after, reply } => state.lease(after, reply),
            AgentMessage::Launched { generation, outcome } => {
                state.launched(generation, *outcome, &myself)?;
            }
            AgentMessage::Exited { tenancy, cause } => state.exited(&tenancy, cause, &myself)?,
            AgentMessage::LaunchNow { generation } => {
                if generation == state.generation {
                    state.launch_again(&myself);
                }
            }
            AgentMessage::Restart => state.restart(&myself),
            AgentMessage::Reload(launcher) => state.reload(launcher, &myself),
            AgentMessage::Replace { tenancy, reason } => state.replace(&tenancy, reason, &myself),
            AgentMessage::Vacated(tenancy) => {
                state.retiring.retain(|retiring| !Arc::ptr_eq(retiring, &tenancy));
                end(tenancy, "the agent was reloaded", STOP_GRACE);
            }
            AgentMessage::Rest(done) => state.rest(done),
            // Whoever asked may have gone: then nobody needs the answer.
            AgentMessage::Status(reply) => drop(reply.send(state.status())),
        }
        Ok(())
    }

    /// Ends the runner in good order. Whoever kills the actor instead, kills the runner.
    async fn post_stop(
        &self,
        _myself: ActorRef<AgentMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let before = std::mem::replace(&mut state.condition, Condition::Resting);
        state.let_go(before, "the agent was stopped").await;
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(launching) = &self.launching {
            launching.abort();
        }
    }
}

impl State {
    fn name(&self) -> &str {
        self.agent.name.as_str()
    }

    fn launch(&mut self, myself: &ActorRef<AgentMessage>) {
        let (launcher, generation) = (self.agent.launcher(), self.generation);
        let myself = myself.clone();
        tracing::debug!(agent = self.name(), %generation, "launching the runner");
        let launching = tokio::spawn(async move {
            let outcome = Box::new(launcher.launch(generation).await);
            // If the agent has ended meanwhile, the runner in here ends with the message.
            let _ended = myself.cast(AgentMessage::Launched { generation, outcome });
        });
        if let Some(before) = self.launching.replace(launching) {
            before.abort();
        }
    }

    fn next_generation(&mut self, condition: Condition, myself: &ActorRef<AgentMessage>) {
        self.generation = self.agent.launcher().next_generation();
        self.condition = condition;
        self.launch(myself);
    }

    /// Launches after a wait; a parked agent stays parked until a launch has succeeded.
    fn launch_again(&mut self, myself: &ActorRef<AgentMessage>) {
        let condition = match &self.condition {
            Condition::Waiting { .. } => Condition::Launching,
            Condition::Parked { cause, .. } => Condition::Probing { cause: cause.clone() },
            Condition::Launching
            | Condition::Probing { .. }
            | Condition::Up(_)
            | Condition::Resting => return,
        };
        self.next_generation(condition, myself);
    }

    fn lease(&mut self, after: Option<Generation>, reply: Reply) {
        match &self.condition {
            Condition::Parked { cause, .. } | Condition::Probing { cause } => {
                drop(reply.send(Err(unavailable(self.name(), cause))));
            }
            Condition::Up(tenancy) if after.is_none_or(|after| after < self.generation) => {
                drop(reply.send(Ok(tenancy.clone())));
            }
            // The news of its end are on their way.
            Condition::Up(_) | Condition::Launching | Condition::Waiting { .. } => {
                self.waiting.push(reply);
            }
            Condition::Resting => {
                let drained = Failure::new(FailureKind::Cancelled, "the agent was drained");
                drop(reply.send(Err(drained)));
            }
        }
    }

    fn launched(
        &mut self,
        generation: Generation,
        outcome: Result<Launched, Failure>,
        myself: &ActorRef<AgentMessage>,
    ) -> Result<(), Failure> {
        if generation != self.generation {
            return Ok(());
        }
        match outcome {
            Ok(launched) => {
                let tenancy = Arc::new(Tenancy::new(generation, launched));
                let pid = tenancy.pid();
                tracing::info!(agent = self.name(), %generation, pid, model = tenancy.model, "runner is up");
                let agent = self.agent.name.clone();
                self.events.tell(RuntimeEvent::RunnerUp { agent, generation, pid });
                watch(&tenancy, myself.clone());
                let heartbeat = self.agent.launcher().spec.runner.heartbeat;
                tokio::spawn(pulse(Arc::downgrade(&tenancy), heartbeat, myself.clone()));
                self.condition = Condition::Up(tenancy);
                self.agent.settle(Ok(()));
                self.agent.reopen();
                for reply in std::mem::take(&mut self.waiting) {
                    self.lease(None, reply);
                }
                Ok(())
            }
            Err(cause) => {
                tracing::warn!(agent = self.name(), %generation, %cause, "the runner did not start");
                self.after_end(cause, Verdict::Counts, myself)
            }
        }
    }

    fn exited(
        &mut self,
        tenancy: &Arc<Tenancy>,
        cause: String,
        myself: &ActorRef<AgentMessage>,
    ) -> Result<(), Failure> {
        let current = matches!(&self.condition, Condition::Up(up) if Arc::ptr_eq(up, tenancy));
        if !current {
            // It was replaced before; whoever counts processes hears of it all the same.
            self.events.tell(RuntimeEvent::RunnerEnded {
                agent: self.agent.name.clone(),
                generation: tenancy.generation,
                kind: FailureKind::Cancelled,
                cause,
                counted: false,
            });
            return Ok(());
        }
        let death = tenancy.death();
        let verdict = self.trouble.judge(&death, self.agent.completed());
        let generation = tenancy.generation;
        tracing::warn!(agent = self.name(), %generation, cause, ?verdict, "the runner ended");
        let message = match death {
            Death::Ours(reason) => format!("the runner was replaced: {reason}"),
            Death::With(_) => format!("the runner ended: {cause}"),
        };
        self.after_end(Failure::new(FailureKind::RunnerDied, message), verdict, myself)
    }

    /// Launches again, at once or after a wait, or parks, or exits: at once where the definition is
    /// wrong, otherwise beyond the intensity.
    fn after_end(
        &mut self,
        cause: Failure,
        verdict: Verdict,
        myself: &ActorRef<AgentMessage>,
    ) -> Result<(), Failure> {
        let supervision = self.agent.launcher().spec.supervision;
        let was_parked = matches!(self.condition, Condition::Probing { .. });
        let hopeless = is_hopeless(&cause);
        let verdict = if hopeless { Verdict::CountsAgainstNobody } else { verdict };
        let wait = self.trouble.next_wait(verdict, &supervision, Instant::now());
        self.events.tell(RuntimeEvent::RunnerEnded {
            agent: self.agent.name.clone(),
            generation: self.generation,
            kind: cause.kind,
            cause: cause.message.clone(),
            counted: verdict == Verdict::Counts,
        });
        if hopeless {
            return self.give_up(cause, None, myself);
        }
        match wait {
            Some(wait) if !was_parked => {
                self.agent.settle(Err(cause.clone()));
                self.condition = Condition::Waiting { cause };
                self.launch_after(wait, myself);
                Ok(())
            }
            _ => self.give_up(cause, Some(supervision.backoff.max), myself),
        }
    }

    /// Parks, or exits and leaves the decision to the supervisor.
    fn give_up(
        &mut self,
        cause: Failure,
        retry_in: Option<Duration>,
        myself: &ActorRef<AgentMessage>,
    ) -> Result<(), Failure> {
        tracing::error!(agent = self.name(), %cause, ?retry_in, "the agent's runner is given up for now");
        let failure = unavailable(self.name(), &cause);
        for reply in std::mem::take(&mut self.waiting) {
            drop(reply.send(Err(failure.clone())));
        }
        if self.agent.launcher().spec.supervision.on_exhausted == OnExhausted::Escalate {
            self.agent.settle(Err(cause.clone()));
            return Err(cause);
        }
        let retry_at = retry_in.map(|wait| Instant::now() + wait);
        self.events.tell(RuntimeEvent::AgentParked {
            agent: self.agent.name.clone(),
            cause: cause.clone(),
            retry_in_ms: retry_in.map(axon_kernel::event::millis),
        });
        self.agent.park(cause.clone(), retry_at);
        self.agent.settle(Err(cause.clone()));
        self.condition = Condition::Parked { cause, retry_at };
        if let Some(wait) = retry_in {
            self.launch_after(wait, myself);
        }
        Ok(())
    }

    fn launch_after(&self, wait: Duration, myself: &ActorRef<AgentMessage>) {
        let generation = self.generation;
        myself.send_after(wait, move || AgentMessage::LaunchNow { generation });
    }

    fn restart(&mut self, myself: &ActorRef<AgentMessage>) {
        self.trouble = Trouble::default();
        if let Condition::Up(tenancy) = &self.condition {
            end(tenancy.clone(), "the agent was restarted", STOP_GRACE);
        }
        self.next_generation(Condition::Launching, myself);
    }

    fn reload(&mut self, launcher: Arc<Launcher>, myself: &ActorRef<AgentMessage>) {
        self.agent.redefine(launcher);
        self.trouble = Trouble::default();
        let before = std::mem::replace(&mut self.condition, Condition::Launching);
        if let Condition::Up(tenancy) = before {
            self.retire(tenancy, myself);
        }
        self.next_generation(Condition::Launching, myself);
    }

    fn replace(
        &mut self,
        tenancy: &Arc<Tenancy>,
        reason: &'static str,
        myself: &ActorRef<AgentMessage>,
    ) {
        if !matches!(&self.condition, Condition::Up(up) if Arc::ptr_eq(up, tenancy)) {
            return;
        }
        tracing::warn!(agent = self.name(), generation = %tenancy.generation, reason, "a runner is replaced");
        self.retire(tenancy.clone(), myself);
        self.next_generation(Condition::Launching, myself);
    }

    /// Ends a runner when the last run in it has ended: each does by its own deadline.
    fn retire(&mut self, tenancy: Arc<Tenancy>, myself: &ActorRef<AgentMessage>) {
        self.retiring.push(tenancy.clone());
        let myself = myself.clone();
        tokio::spawn(async move {
            tenancy.vacated().await;
            let _ended = myself.cast(AgentMessage::Vacated(tenancy));
        });
    }

    fn rest(&mut self, done: oneshot::Sender<()>) {
        self.agent.stand(Standing::Drained);
        let before = std::mem::replace(&mut self.condition, Condition::Resting);
        self.generation = self.agent.launcher().next_generation();
        let gone = self.let_go(before, "the agent was drained");
        tokio::spawn(async move {
            gone.await;
            // Whoever waited may have given up.
            let _gone = done.send(());
        });
    }

    /// Returns what ends whatever runs, and is over when that has really ended.
    fn let_go(
        &mut self,
        before: Condition,
        reason: &'static str,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (launching, launcher) = (self.launching.take(), self.agent.launcher());
        let mut ending = std::mem::take(&mut self.retiring);
        if let Condition::Up(tenancy) = before {
            ending.push(tenancy);
        }
        self.waiting.clear();
        async move {
            if let Some(launching) = launching {
                launching.abort();
                let _aborted = launching.await;
            }
            join_all(ending.iter().map(|tenancy| tenancy.stop(reason, STOP_GRACE))).await;
            // Killed ones, too: an aborted launch, and what was replaced a moment ago.
            let _in_time = tokio::time::timeout(STOP_GRACE, launcher.living.none()).await;
        }
    }

    fn status(&self) -> AgentStatus {
        let supervision = self.agent.launcher().spec.supervision;
        let now = Instant::now();
        let (state, tenancy) = match &self.condition {
            Condition::Launching => (AgentState::Starting, None),
            Condition::Up(tenancy) => (AgentState::Up, Some(tenancy)),
            Condition::Waiting { cause } => {
                (AgentState::Restarting { cause: cause.to_string() }, None)
            }
            Condition::Probing { cause } => {
                (AgentState::Parked { cause: cause.to_string(), retry_in_ms: Some(0) }, None)
            }
            Condition::Parked { cause, retry_at } => {
                let wait = retry_at.map(|at| at.saturating_duration_since(now));
                let retry_in_ms = wait.map(axon_kernel::event::millis);
                (AgentState::Parked { cause: cause.to_string(), retry_in_ms }, None)
            }
            Condition::Resting => (AgentState::Drained, None),
        };
        AgentStatus {
            name: self.agent.name.clone(),
            state,
            generation: self.generation,
            pid: tenancy.map(|tenancy| tenancy.pid()),
            model: tenancy.map(|tenancy| tenancy.model.clone()),
            offline: tenancy.is_some_and(|tenancy| tenancy.offline),
            in_flight: self.agent.gate.in_flight(),
            queued: self.agent.gate.queued(),
            restarts_left: self.trouble.left(&supervision, now),
        }
    }
}

/// Watches a runner without holding it: one that nobody has any more is killed.
fn watch(tenancy: &Arc<Tenancy>, myself: ActorRef<AgentMessage>) {
    let (exited, tenancy) = (tenancy.exited(), Arc::downgrade(tenancy));
    tokio::spawn(async move {
        let cause = exited.await.to_string();
        if let Some(tenancy) = tenancy.upgrade() {
            let _ended = myself.cast(AgentMessage::Exited { tenancy, cause });
        }
    });
}

/// Looks after a runner as long as somebody has it: one that does not answer within a heartbeat is
/// killed, and one that too many abandoned threads clog is replaced.
async fn pulse(tenancy: Weak<Tenancy>, heartbeat: Duration, myself: ActorRef<AgentMessage>) {
    loop {
        tokio::time::sleep(heartbeat).await;
        // Not held while it is asked: one that nobody has any more is killed at once.
        let Some((client, exited)) =
            tenancy.upgrade().map(|tenancy| (tenancy.client().clone(), tenancy.exited()))
        else {
            return;
        };
        let health = tokio::select! {
            health = tokio::time::timeout(heartbeat, client.health()) => health,
            _exit = exited => return,
        };
        let Some(tenancy) = tenancy.upgrade() else { return };
        match health {
            Ok(Ok(health)) if health.unfinished.len() >= MAX_LEFT_BEHIND => {
                let reason = "too many tools run on in it although nobody waits for them";
                let _ended = myself.cast(AgentMessage::Replace { tenancy, reason });
                return;
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) if tenancy.is_ending() => return,
            Ok(Err(_)) | Err(_) => {
                let stacks = tenancy.stacks().await;
                tracing::error!(
                    pid = tenancy.pid(),
                    stacks,
                    "a runner gives no sign of life: killed"
                );
                tenancy.condemn().await;
                return;
            }
        }
    }
}

fn end(tenancy: Arc<Tenancy>, reason: &'static str, grace: Duration) {
    tokio::spawn(async move { tenancy.stop(reason, grace).await });
}

fn unavailable(agent: &str, cause: &Failure) -> Failure {
    let mut failure = cause.clone();
    failure.retryable = false;
    failure.message = format!("agent `{agent}` is unavailable: {}", cause.message);
    failure
}
