//! The agent's actor. It never waits for a model or a process inside `handle`: its mailbox stays
//! free for cancels, status and stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind, Row};
use axon_kernel::ids::Generation;
use axon_runner::{Exit, Runner, RunnerClient};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::admission::{Full, Gate};
use super::{Admission, AgentState, AgentStatus};
use crate::agents::Settled;
use crate::launch::{Launched, Launcher};

/// How long a runner may take to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What an agent is told.
#[derive(Debug)]
pub(crate) enum AgentMessage {
    /// A run wants in.
    Admit(oneshot::Sender<Result<Admission, Full>>),
    /// A run gave its place back.
    Released,
    /// An attempt wants a runner of a generation after this one.
    Lease { after: Option<Generation>, reply: oneshot::Sender<Result<Lease, Failure>> },
    /// A launch ended.
    Launched { generation: Generation, outcome: Box<Result<Launched, Failure>> },
    /// A runner ended.
    Exited { generation: Generation, exit: Exit },
    /// The wait before a launch is over.
    LaunchNow { generation: Generation },
    /// Somebody wants a new runner, whatever the state.
    Restart,
    /// Somebody wants to know.
    Status(oneshot::Sender<AgentStatus>),
    /// End, runner first.
    Stop(oneshot::Sender<()>),
}

/// A runner lent to one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) client: RunnerClient,
    pub(crate) generation: Generation,
    runner: Arc<Runner>,
}

impl Lease {
    /// Returns a future that resolves when the runner has ended.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.runner.exited()
    }
}

/// Where the agent's runner is.
#[derive(Debug)]
enum Condition {
    Launching,
    Up {
        runner: Arc<Runner>,
        model: String,
        offline: bool,
    },
    Waiting {
        cause: Failure,
    },
    /// Parked, and trying whether a launch succeeds by now.
    Probing {
        cause: Failure,
    },
    Parked {
        cause: Failure,
    },
}

#[derive(Debug)]
pub(crate) struct State {
    launcher: Arc<Launcher>,
    generation: Generation,
    condition: Condition,
    gate: Gate,
    waiting: Vec<oneshot::Sender<Result<Lease, Failure>>>,
    /// The task of the launch that is under way; aborting it kills what it has started.
    launching: Option<JoinHandle<()>>,
    restarts: VecDeque<Instant>,
    settled: Settled,
}

/// What an agent's actor starts with.
#[derive(Clone, Debug)]
pub(crate) struct AgentArguments {
    pub(crate) launcher: Arc<Launcher>,
    /// Tells how the last launch ended.
    pub(crate) settled: Settled,
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
        arguments: AgentArguments,
    ) -> Result<State, ActorProcessingErr> {
        let limits = &arguments.launcher.spec.limits;
        let mut state = State {
            launching: None,
            gate: Gate::new(limits.concurrency.get(), limits.queue as usize),
            generation: arguments.launcher.next_generation(),
            launcher: arguments.launcher,
            condition: Condition::Launching,
            waiting: Vec::new(),
            restarts: VecDeque::new(),
            settled: arguments.settled,
        };
        state.launch(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Whoever asked may have gone: then nobody needs the answer.
            AgentMessage::Admit(reply) => drop(reply.send(state.gate.admit(&myself))),
            AgentMessage::Released => state.gate.release(&myself),
            AgentMessage::Lease { after, reply } => state.lease(after, reply),
            AgentMessage::Launched { generation, outcome } => {
                state.launched(generation, *outcome, &myself);
            }
            AgentMessage::Exited { generation, exit } => state.exited(generation, &exit, &myself),
            AgentMessage::LaunchNow { generation } => {
                if generation == state.generation {
                    state.launch_again(&myself);
                }
            }
            AgentMessage::Restart => state.restart(&myself),
            AgentMessage::Status(reply) => drop(reply.send(state.status())),
            AgentMessage::Stop(done) => state.stop(done, myself),
        }
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
        self.launcher.spec.name.as_str()
    }

    fn launch(&mut self, myself: &ActorRef<AgentMessage>) {
        let (launcher, generation) = (self.launcher.clone(), self.generation);
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
        self.generation = self.launcher.next_generation();
        self.condition = condition;
        self.launch(myself);
    }

    /// Launches after a wait; a parked agent stays parked until a launch has succeeded.
    fn launch_again(&mut self, myself: &ActorRef<AgentMessage>) {
        let condition = match &self.condition {
            Condition::Waiting { .. } => Condition::Launching,
            Condition::Parked { cause } => Condition::Probing { cause: cause.clone() },
            Condition::Launching | Condition::Probing { .. } | Condition::Up { .. } => return,
        };
        self.next_generation(condition, myself);
    }

    fn lease(&mut self, after: Option<Generation>, reply: oneshot::Sender<Result<Lease, Failure>>) {
        match &self.condition {
            Condition::Parked { cause } | Condition::Probing { cause } => {
                drop(reply.send(Err(unavailable(self.name(), cause))));
            }
            Condition::Up { runner, .. } if after.is_none_or(|after| after < self.generation) => {
                let lease = Lease {
                    client: runner.client().clone(),
                    generation: self.generation,
                    runner: runner.clone(),
                };
                drop(reply.send(Ok(lease)));
            }
            Condition::Up { runner, .. } => {
                // An attempt has evidence against this process. However many say so, it is
                // replaced once: its exit starts the next generation.
                let runner = runner.clone();
                tokio::spawn(async move { runner.stop(Duration::ZERO).await });
                self.waiting.push(reply);
            }
            Condition::Launching | Condition::Waiting { .. } => self.waiting.push(reply),
        }
    }

    fn launched(
        &mut self,
        generation: Generation,
        outcome: Result<Launched, Failure>,
        myself: &ActorRef<AgentMessage>,
    ) {
        if generation != self.generation {
            return;
        }
        match outcome {
            Ok(Launched { runner, model, offline }) => {
                tracing::info!(agent = self.name(), %generation, pid = runner.pid(), model, "runner is up");
                self.watch(&runner, myself);
                self.condition = Condition::Up { runner: Arc::new(runner), model, offline };
                self.settled.send_replace(Some(Ok(())));
                for reply in std::mem::take(&mut self.waiting) {
                    self.lease(None, reply);
                }
            }
            Err(cause) => {
                tracing::warn!(agent = self.name(), %generation, %cause, "the runner did not start");
                self.settled.send_replace(Some(Err(cause.clone())));
                self.after_failure(cause, myself);
            }
        }
    }

    fn watch(&self, runner: &Runner, myself: &ActorRef<AgentMessage>) {
        let (exited, generation, myself) = (runner.exited(), self.generation, myself.clone());
        tokio::spawn(async move {
            let exit = exited.await;
            let _ended = myself.cast(AgentMessage::Exited { generation, exit });
        });
    }

    fn exited(&mut self, generation: Generation, exit: &Exit, myself: &ActorRef<AgentMessage>) {
        if generation != self.generation || !matches!(self.condition, Condition::Up { .. }) {
            return;
        }
        tracing::warn!(agent = self.name(), %generation, %exit, "the runner ended");
        let cause = Failure::new(FailureKind::RunnerDied, format!("the runner ended: {exit}"));
        self.after_failure(cause, myself);
    }

    /// Waits and launches again, or parks: at once where the definition is wrong, otherwise
    /// beyond the intensity.
    fn after_failure(&mut self, cause: Failure, myself: &ActorRef<AgentMessage>) {
        let supervision = self.launcher.spec.supervision;
        let now = Instant::now();
        self.restarts.retain(|at| now.duration_since(*at) < supervision.intensity.within);
        self.restarts.push_back(now);
        let count = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        let hopeless =
            cause.kind.row().row == Row::Configuration || cause.kind.row().row == Row::Credentials;
        let was_parked = matches!(self.condition, Condition::Probing { .. });
        if hopeless || was_parked || count > supervision.intensity.max_restarts {
            for reply in std::mem::take(&mut self.waiting) {
                drop(reply.send(Err(unavailable(self.name(), &cause))));
            }
            tracing::error!(agent = self.name(), %cause, "parked");
            self.condition = Condition::Parked { cause };
            if !hopeless {
                self.launch_after(supervision.backoff.max, myself);
            }
            return;
        }
        let wait = supervision.backoff.min.saturating_mul(1 << (count - 1).min(16));
        self.condition = Condition::Waiting { cause };
        self.launch_after(wait.min(supervision.backoff.max), myself);
    }

    fn launch_after(&self, wait: Duration, myself: &ActorRef<AgentMessage>) {
        let generation = self.generation;
        myself.send_after(wait, move || AgentMessage::LaunchNow { generation });
    }

    fn restart(&mut self, myself: &ActorRef<AgentMessage>) {
        self.restarts.clear();
        self.settled.send_replace(None);
        if let Condition::Up { runner, .. } = &self.condition {
            let runner = runner.clone();
            tokio::spawn(async move { runner.stop(STOP_GRACE).await });
        }
        self.next_generation(Condition::Launching, myself);
    }

    fn status(&self) -> AgentStatus {
        let (state, pid, model) = match &self.condition {
            Condition::Launching => (AgentState::Starting, None, None),
            Condition::Up { runner, model, offline } => {
                (AgentState::Up, Some(runner.pid()), Some((model.clone(), *offline)))
            }
            Condition::Waiting { cause } => {
                (AgentState::Restarting { cause: cause.to_string() }, None, None)
            }
            Condition::Parked { cause } | Condition::Probing { cause } => {
                (AgentState::Parked { cause: cause.to_string() }, None, None)
            }
        };
        AgentStatus {
            name: self.launcher.spec.name.clone(),
            state,
            generation: self.generation,
            pid,
            offline: model.as_ref().is_some_and(|(_, offline)| *offline),
            model: model.map(|(model, _)| model),
            in_flight: self.gate.in_flight(),
            queued: self.gate.queued(),
        }
    }

    fn stop(&mut self, done: oneshot::Sender<()>, myself: ActorRef<AgentMessage>) {
        let ended =
            Failure::new(FailureKind::Config, format!("agent `{}` was stopped", self.name()));
        let before = std::mem::replace(&mut self.condition, Condition::Parked { cause: ended });
        let (launching, launcher) = (self.launching.take(), self.launcher.clone());
        tokio::spawn(async move {
            if let Some(launching) = launching {
                launching.abort();
                let _aborted = launching.await;
            }
            if let Condition::Up { runner, .. } = before {
                runner.stop(STOP_GRACE).await;
            }
            // Killed ones, too: an aborted launch, and what was replaced a moment ago.
            let _in_time = tokio::time::timeout(STOP_GRACE, launcher.living.none()).await;
            myself.stop(None);
            // Whoever waited may have given up.
            let _gone = done.send(());
        });
    }
}

fn unavailable(agent: &str, cause: &Failure) -> Failure {
    let mut failure = cause.clone();
    failure.retryable = false;
    failure.message = format!("agent `{agent}` is unavailable: {}", cause.message);
    failure
}
