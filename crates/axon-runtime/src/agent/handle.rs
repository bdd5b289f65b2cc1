//! The door to one agent.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axon_kernel::event::Parent;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Generation, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentSpec, PythonTarget};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lending::Waiter;
use super::shared::{Agent, Gone, Standing};
use super::tenancy::{Lease, Tenancy};
use super::{Admission, AgentMessage, AgentState, AgentStatus, DirectCall};
use crate::launch::Launcher;
use crate::run::{Prompt, Refusal, RunBuilder};
use crate::services::Services;

/// How long an actor may take to say how it is; it never waits for anything itself.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);

/// How long a run that is recovered waits at most before it asks a full agent again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent may take to let its runner go.
const REST_DEADLINE: Duration = Duration::from_secs(6);

/// Speaks to one agent of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    pub(crate) agent: Arc<Agent>,
    pub(crate) services: Arc<Services>,
}

impl AgentHandle {
    /// Returns the agent's name.
    #[must_use]
    pub fn name(&self) -> &AgentName {
        &self.agent.name
    }

    /// Returns the agent's definition as it is now; a reload replaces it.
    #[must_use]
    pub fn spec(&self) -> Arc<AgentSpec> {
        self.agent.launcher().spec.clone()
    }

    /// Prepares a run with `prompt`.
    ///
    /// ```no_run
    /// # async fn example(bank: axon_runtime::AgentHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut run = bank.run("What is my balance?").start().await?;
    /// while let Some(update) = run.events().next().await {
    ///     println!("{update:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&self, prompt: impl Into<Prompt>) -> RunBuilder {
        RunBuilder::new(self.clone(), prompt.into())
    }

    /// Returns how the agent is.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the agent was stopped.
    pub async fn status(&self) -> Result<AgentStatus, Refusal> {
        if self.agent.is_stopped() { Err(self.stopped()) } else { Ok(self.status_now().await) }
    }

    pub(crate) async fn status_now(&self) -> AgentStatus {
        let answer = tokio::time::timeout(STATUS_DEADLINE, self.ask(AgentMessage::Status)).await;
        match answer {
            Ok(Ok(status)) => status,
            Ok(Err(Gone::Stopped)) => self.down("it was stopped".to_owned()),
            Ok(Err(Gone::Down(cause))) => self.down(cause.to_string()),
            Err(_elapsed) => self.down("its actor is being started again".to_owned()),
        }
    }

    fn down(&self, cause: String) -> AgentStatus {
        AgentStatus {
            name: self.agent.name.clone(),
            kind: self.spec().kind(),
            state: AgentState::Down { cause },
            generation: Generation(0),
            pid: None,
            model: None,
            offline: false,
            in_flight: self.agent.gate.in_flight(),
            queued: self.agent.gate.queued(),
            restarts_left: 0,
            runners: Vec::new(),
        }
    }

    /// Replaces the agent's runners, whatever state the agent is in; runs under way go on with the
    /// new ones. What counted against the agent is forgotten.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the agent was stopped, or cannot be started at all.
    pub async fn restart(&self) -> Result<(), Refusal> {
        // Whoever asks from now on waits for the new runner.
        self.agent.unsettle();
        self.agent.stand(Standing::Open);
        let before = self.agent.actor().borrow().clone();
        if before.is_some_and(|actor| actor.cast(AgentMessage::Restart).is_ok()) {
            return Ok(());
        }
        let agents = self.services.agents.get().and_then(Weak::upgrade);
        let agents = agents.ok_or_else(|| self.stopped())?;
        agents.restart(&self.agent).await.map_err(|_gone| self.stopped())
    }

    /// Gives the agent another definition, and returns when a runner is up with it. An agent without
    /// any runner takes it at once.
    pub(crate) async fn reload(&self, launcher: Arc<Launcher>) -> Result<(), Failure> {
        let (done, outcome) = oneshot::channel();
        let actor = self.agent.actor().borrow().clone();
        let reload = AgentMessage::Reload { launcher: launcher.clone(), done };
        if actor.is_some_and(|actor| actor.cast(reload).is_ok())
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        self.agent.redefine(launcher);
        // An agent that was stopped meanwhile needs no runner.
        let _stopped = self.restart().await;
        Ok(())
    }

    /// Has a runner replaced that takes nothing new.
    pub(crate) fn replace(&self, tenancy: Arc<Tenancy>, reason: &'static str) {
        if let Some(actor) = self.agent.actor().borrow().as_ref() {
            // Without its actor the agent gets new runners anyway.
            let _ended = actor.cast(AgentMessage::Replace { tenancy, reason });
        }
    }

    /// Lets the runs under way and those that wait finish, at most until `deadline` has passed, and
    /// then ends the runners. The agent stays registered and refuses runs until it is restarted.
    /// Returns how many runs had to be cancelled.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the agent was stopped.
    pub async fn drain(&self, deadline: Duration) -> Result<usize, Refusal> {
        self.agent.stand(Standing::Draining);
        let in_time = tokio::time::timeout(deadline, self.agent.gate.vacated()).await;
        let left = if in_time.is_ok() { 0 } else { self.agent.gate.inside() };
        if left > 0 {
            self.services.runs.cancel(self.name(), "the agent was drained");
            // Each of them ends within its grace, or its runner does.
            let grace = self.spec().runner.cancel_grace.saturating_mul(2) + STATUS_DEADLINE;
            let _ended = tokio::time::timeout(grace, self.agent.gate.vacated()).await;
        }
        // Without an actor there is no runner either.
        let _rested = tokio::time::timeout(REST_DEADLINE, self.ask(AgentMessage::Rest)).await;
        self.agent.stand(Standing::Drained);
        if self.agent.is_stopped() { Err(self.stopped()) } else { Ok(left) }
    }

    /// Waits until a runner of the agent is up, or none could be launched.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of the last launch.
    pub async fn ready(&self) -> Result<(), Failure> {
        let mut settled = self.agent.settled();
        let ended = || Failure::new(FailureKind::Cancelled, "the agent was stopped");
        tokio::select! {
            outcome = settled.wait_for(Option::is_some) => {
                outcome.map_err(|_gone| ended())?.clone().unwrap_or_else(|| Err(ended()))
            }
            () = self.agent.stopped() => Err(ended()),
        }
    }

    /// Prepares a direct call of one of the agent's Python tools, without a model.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(bank: axon_runtime::AgentHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let target = "bank_support.tools:customer_balance".parse()?;
    /// let call = bank.direct_call(&target, serde_json::json!({}).into());
    /// let balance = call.timeout(Duration::from_secs(2)).make().await?;
    /// println!("{balance}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn direct_call(&self, target: &PythonTarget, args: RawJson) -> DirectCall {
        DirectCall::new(self.clone(), target.clone(), args)
    }

    /// Calls one of the agent's Python tools directly, without a model, in the time that
    /// [`DirectCall`] gives it.
    ///
    /// # Errors
    ///
    /// As [`DirectCall::make`].
    pub async fn call_tool(
        &self,
        target: &PythonTarget,
        args: RawJson,
        deps: Option<RawJson>,
    ) -> Result<RawJson, Failure> {
        self.direct_call(target, args).deps(deps).make().await
    }

    /// Returns the JSON Schemas that the agent's runner speaks by; for an agent defined in Python
    /// also the agent's own.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of the runner.
    pub async fn describe(&self) -> Result<RawJson, Failure> {
        let lease = self.lease_within(self.spec().limits.timeout).await?;
        lease.client().schema().await.map_err(axon_runner::RequestError::into_failure)
    }

    /// Lets a run in that is under way already, unless the agent is full or takes none.
    pub(crate) fn admit(&self) -> Result<Admission, Refusal> {
        self.check_open()?;
        self.agent.gate.admit().map_err(|full| Refusal::Overloaded {
            agent: self.name().clone(),
            in_flight: full.in_flight,
            queued: full.queued,
            retry_after: full.retry_after,
        })
    }

    /// Lets a run in that is begun now. Another one may have asked for it: that one keeps its place
    /// while it waits, so where work may come back to an agent above, nobody below waits for a place:
    /// whoever waits for one then waits for runs that wait for none of its own kind.
    pub(crate) fn admit_below(&self, parent: Option<&Parent>) -> Result<Admission, Refusal> {
        let Some(parent) = parent else {
            self.check_new()?;
            return self.admit();
        };
        if !self.services.registry.comes_back(self, &parent.path) {
            return self.admit();
        }
        self.check_open()?;
        Ok(self.agent.gate.beside())
    }

    /// Checks that something new may begin.
    fn check_new(&self) -> Result<(), Refusal> {
        match self.services.drains.load(Ordering::Relaxed) {
            true => Err(Refusal::Ending),
            false => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), Refusal> {
        match self.agent.standing() {
            Standing::Open => Ok(()),
            // Another agent takes over, which the run decides and tells.
            Standing::Parked { .. } if self.spec().fallback.agent.is_some() => Ok(()),
            Standing::Parked { cause, retry_at } => {
                let agent = self.name().clone();
                let retry_after = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
                Err(Refusal::Unavailable { agent, cause, retry_after })
            }
            Standing::Draining | Standing::Drained => {
                Err(Refusal::Draining { agent: self.name().clone() })
            }
            Standing::Stopped => Err(self.stopped()),
        }
    }

    /// Lets a run in that was accepted long ago: half of the places at most go to such runs, and
    /// where the agent is full of new ones, it waits without being sent away.
    pub(crate) async fn admit_patiently(
        &self,
        parent: Option<&Parent>,
    ) -> Result<Admission, Refusal> {
        if parent.is_some_and(|parent| self.services.registry.comes_back(self, &parent.path)) {
            return self.admit_below(parent);
        }
        if parent.is_none() {
            self.check_new()?;
        }
        let room = self.agent.gate.room_for_recovered().await;
        loop {
            match self.admit() {
                Err(Refusal::Overloaded { retry_after, .. }) => {
                    tokio::time::sleep(retry_after.min(PATIENCE)).await;
                }
                admitted => return admitted.map(|admission| admission.in_room(room)),
            }
        }
    }

    /// Lends a runner to an attempt of `run`: any but one of generation `but`, and with nobody else
    /// in it if `alone`.
    pub(crate) async fn lease(
        &self,
        run: &RunId,
        but: Option<Generation>,
        alone: bool,
    ) -> Result<Lease, Failure> {
        let waiter = |reply| Waiter { run: run.clone(), but, alone, reply };
        match self.ask(|reply| AgentMessage::Lease(waiter(reply))).await {
            Ok(leased) => leased,
            Err(Gone::Stopped) => Err(self.stopped().into_failure()),
            Err(Gone::Down(cause)) => Err(*cause),
        }
    }

    pub(super) async fn lease_within(&self, limit: Duration) -> Result<Lease, Failure> {
        let run = RunId::new(uuid::Uuid::now_v7().to_string());
        let lease = self.lease(&run, None, false);
        tokio::time::timeout(limit, lease).await.unwrap_or_else(|_elapsed| {
            let message = format!("no runner was up within {} s", limit.as_secs_f64());
            Err(Failure::new(FailureKind::RunTimeout, message))
        })
    }

    /// Asks the actor. If that ends meanwhile, the next one is asked.
    async fn ask<T>(
        &self,
        message: impl Fn(oneshot::Sender<T>) -> AgentMessage,
    ) -> Result<T, Gone> {
        let mut actors = self.agent.actor();
        loop {
            actors.mark_unchanged();
            let actor = actors.borrow().clone();
            let (reply, answer) = oneshot::channel();
            if actor.is_some_and(|actor| actor.cast(message(reply)).is_ok())
                && let Ok(answer) = answer.await
            {
                return Ok(answer);
            }
            tokio::select! {
                // The sender lives in the agent, so the channel cannot close.
                _changed = actors.changed() => {}
                gone = self.agent.down() => return Err(gone),
            }
        }
    }

    fn stopped(&self) -> Refusal {
        Refusal::Stopped { agent: self.name().clone() }
    }
}
