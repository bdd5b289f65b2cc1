//! What a run does after a failed attempt: the policy decides, this carries it out.

use axon_kernel::event::{AttemptFailure, Decided, Failed, Retracted, RunEvent};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::policy::{self, Budget, Decision, FallbackTo, Policy, Seen};
use axon_kernel::spec::AgentName;
use tokio::time::Duration;

use super::driver::{Driver, Stuck, failed};
use super::suspicion::Suspicion;
use crate::agent::{Admission, AgentHandle, Death};
use crate::events::RuntimeEvent;

/// How soon it is looked again for room in an agent that is to go on with a run.
const ROOM: Duration = Duration::from_millis(250);

impl Driver {
    /// Carries out what the policy decides about a failed attempt: the run's end, or none and
    /// another attempt is due.
    pub(super) async fn after(
        &mut self,
        failure: Failure,
        death: Option<Death>,
    ) -> Result<Option<RunEvent>, Stuck> {
        let attempt = self.attempt;
        self.note_effects_below().await;
        let seen = self.seen();
        self.emit(RunEvent::AttemptFailed(AttemptFailure { failure: failure.clone() })).await?;
        if let Some(death) = &death {
            let run = self.log().run_id().clone();
            self.suspicion.note(&run, death, &failure.message);
            if let Some(evidence) = self.suspicion.proof().map(<[String]>::to_vec) {
                return Ok(Some(self.quarantine(failure, evidence)));
            }
        }
        if self.was_held_up(&failure) {
            if let Some(end) = self.settle_doubts(&failure).await? {
                return Ok(Some(end));
            }
            return self.decided(Decision::Retry { after_ms: 0 }, failure).await;
        }
        let ours = matches!(death, Some(Death::Ours(_)));
        let decision = self.decide(&failure, &seen, ours);
        if !ours {
            let allowed = Policy::of(&self.launcher.spec).retries(failure.kind);
            self.chain.push(attempt, &failure, &decision, allowed);
        }
        self.decided(decision, failure).await
    }

    /// Records a decision, tells it once with its reason, and carries it out.
    async fn decided(
        &mut self,
        decision: Decision,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        let reason = policy::reason(&failure, self.attempt, &decision);
        if !matches!(decision, Decision::Fail | Decision::Escalate) {
            // Else the run has failed, and its end is told.
            tracing::warn!(
                run = %self.log().run_id(), agent = %self.agent.name(), kind = %failure.kind,
                error = %self.told(&failure), decision = decision.label(), "an attempt failed"
            );
        }
        self.services().events.tell(RuntimeEvent::Decided {
            run_id: self.log().run_id().clone(),
            agent: self.agent.name().clone(),
            failure: failure.clone(),
            decision: decision.clone(),
            reason: reason.clone(),
        });
        self.emit(RunEvent::Decided(Decided { decision: decision.clone(), reason })).await?;
        self.carry_out(decision, failure).await
    }

    /// Returns whether the runner's time was over only because the store had no space, for which the
    /// run's own clock stood.
    fn was_held_up(&self, failure: &Failure) -> bool {
        failure.kind == FailureKind::RunTimeout
            && self.clock.has_stood()
            && !self.remaining().is_zero()
    }

    fn seen(&self) -> Seen {
        match self.doubts.first() {
            Some(call) => Seen::Effect(call.clone()),
            None if self.committed => Seen::Recorded,
            None if self.shown => Seen::Text,
            None => Seen::Nothing,
        }
    }

    /// A runner that we ended ourselves costs the run no try and no wait.
    fn decide(&self, failure: &Failure, seen: &Seen, ours: bool) -> Decision {
        let policy = Policy::of(&self.launcher.spec);
        let mut tried = self.chain.tried(failure.kind);
        if ours {
            tried.failed_before = 0;
        }
        let budget = Budget { remaining: self.remaining(), jitter: jitter() };
        let decision = policy.decide(failure, &tried, seen, &budget);
        if ours && matches!(decision, Decision::Retry { .. }) {
            return Decision::Retry { after_ms: 0 };
        }
        decision
    }

    async fn carry_out(
        &mut self,
        decision: Decision,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        match decision {
            Decision::Retry { after_ms } => {
                self.retract().await?;
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                Ok(None)
            }
            Decision::Fallback { to } => {
                self.retract().await?;
                self.fall_back(to, failure).await
            }
            Decision::Escalate => Ok(Some(self.escalate(failure))),
            Decision::Fail => Ok(Some(failed(self.in_doubt(failure), self.chain.sentences()))),
            Decision::Ask { .. } => match self.settle_doubts(&failure).await? {
                Some(end) => Ok(Some(end)),
                None => self.retract().await.map(|()| None),
            },
        }
    }

    /// Ends a run that can have no runner, unless another agent may answer.
    pub(super) async fn without_runner(
        &mut self,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        let fallback = self.launcher.spec.fallback.agent.clone();
        let used = self.chain.tried(failure.kind).fallback_agent;
        self.note_effects_below().await;
        // Whoever takes over begins with the prompt, and would make the same effect again.
        let clean = matches!(self.seen(), Seen::Nothing | Seen::Text);
        if let (Some(agent), false, true) = (fallback, used, clean) {
            let decision = Decision::Fallback { to: FallbackTo::Agent(agent) };
            self.chain.push(self.attempt, &failure, &decision, 0);
            return self.decided(decision, failure).await;
        }
        match failure.kind.row().row.heals() {
            true => Ok(Some(failed(failure, self.chain.sentences()))),
            false => Ok(Some(self.escalate(failure))),
        }
    }

    pub(super) async fn retract(&mut self) -> Result<(), Stuck> {
        if self.shown {
            self.emit(RunEvent::Retracted(Retracted {})).await?;
        }
        Ok(())
    }

    /// Hands the failure up: whoever asked for the run gets it, with everything that was tried.
    fn escalate(&mut self, failure: Failure) -> RunEvent {
        self.services().events.tell(RuntimeEvent::Escalated {
            run_id: self.log().run_id().clone(),
            agent: self.agent.name().clone(),
            failure: failure.clone(),
        });
        let failure = self.in_doubt(failure);
        RunEvent::Failed(Failed { failure, history: self.chain.sentences(), escalated: true })
    }

    /// Ends a run that has killed its runners alone, with how those ended.
    fn quarantine(&mut self, failure: Failure, evidence: Vec<String>) -> RunEvent {
        let (run_id, agent) = (self.log().run_id().clone(), self.agent.name().clone());
        tracing::warn!(run = %run_id, %agent, ?evidence, "a run that kills its runners is quarantined");
        let mut history = self.chain.sentences();
        history.push(format!(
            "quarantined: {} runners died with nothing in them but this run",
            evidence.len()
        ));
        self.services().events.tell(RuntimeEvent::Quarantined { run_id, agent, evidence });
        let failure = failure.with_help(
            "this run kills its runner's process: look at the tools it calls with these arguments \
             and at the runner's last words above",
        );
        failed(failure, history)
    }

    async fn fall_back(
        &mut self,
        to: FallbackTo,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        match to {
            FallbackTo::Model(model) => {
                self.request.model = Some(model);
                Ok(None)
            }
            FallbackTo::Agent(agent) => self.hand_over(&agent, failure).await,
        }
    }

    /// Has another agent answer. It begins with the prompt: the messages so far speak of tools that
    /// it may not have.
    async fn hand_over(
        &mut self,
        name: &AgentName,
        failure: Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        match self.enter_other(name).await {
            Ok(()) => {
                self.cancel_delegated().await;
                self.handoffs.next = None;
                self.results.clear();
                self.doubts.clear();
                self.calls.clear();
                self.requests.clear();
                self.resolutions.clear();
                self.approvals.standing.clear();
                self.load_history().await?;
                Ok(None)
            }
            Err(problem) => {
                let mut history = self.chain.sentences();
                history.push(format!("the fallback agent `{name}` could not be asked: {problem}"));
                Ok(Some(failed(failure, history)))
            }
        }
    }

    pub(super) async fn enter_other(&mut self, name: &AgentName) -> Result<(), Failure> {
        let found = self.services().registry.find(name.as_str());
        let unknown = || Failure::new(FailureKind::Config, "there is no such agent");
        let other = found.ok_or_else(unknown)?;
        let request = other.adopt(self.log().run_id(), &self.request).await;
        let request = request.map_err(super::Refusal::into_failure)?;
        let admission = admitted(&other).await.map_err(super::Refusal::into_failure)?;
        // The old place is free while this one is waited for: two agents that fall back to each
        // other must not wait for each other.
        self.slot = None;
        let stopped = || Failure::new(FailureKind::Cancelled, "it was stopped");
        self.slot = Some(admission.slot().await.map_err(|_closed| stopped())?);
        self.live.belongs_to(other.name());
        self.agent = other;
        tracing::Span::current().record("agent", tracing::field::display(self.agent.name()));
        self.request = request;
        self.sick = None;
        self.suspicion = Suspicion::default();
        Ok(())
    }
}

/// Lets a run in that is on its way already: where there is no room, it waits, within its own time.
async fn admitted(agent: &AgentHandle) -> Result<Admission, super::Refusal> {
    loop {
        match agent.admit() {
            Err(super::Refusal::Overloaded { retry_after, .. }) => {
                tokio::time::sleep(retry_after.min(ROOM)).await;
            }
            admitted => return admitted,
        }
    }
}

/// Returns a number in `0.0..1.0`. Random ids are random enough to spread retries.
pub(crate) fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
