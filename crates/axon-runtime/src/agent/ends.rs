//! What an agent does when a runner ends, or does not come up.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::spec::OnExhausted;
use tokio::time::Instant;
use tracing::field::display;

use super::AgentMessage;
use super::actor::{Mode, State, unavailable};
use super::seat::{Condition, Seat};
use super::tenancy::{Death, Tenancy};
use super::trouble::{Verdict, is_hopeless};
use crate::events::RuntimeEvent;

/// The reason of an end that nobody has to look at.
pub(crate) const REPLACED: &str = "replaced";

impl State {
    /// Takes note of the end of a runner. One that had been replaced leaves nothing to do.
    pub(super) fn exited(&mut self, tenancy: &Arc<Tenancy>, cause: String) -> Result<(), Failure> {
        let Some(index) = self.seats.iter().position(|seat| seat.holds(tenancy)) else {
            // Whoever counts processes hears of it all the same.
            self.events.tell(RuntimeEvent::RunnerEnded {
                agent: self.agent.name.clone(),
                generation: tenancy.generation,
                kind: FailureKind::Cancelled,
                reason: REPLACED,
                cause,
                counted: false,
            });
            return Ok(());
        };
        let death = tenancy.death();
        let verdict = self.trouble.judge(&death, self.agent.completed());
        let generation = tenancy.generation;
        tracing::warn!(agent = self.name(), %generation, cause, ?verdict, "a runner ended");
        let message = match death {
            Death::Ours(reason) => format!("the runner was replaced: {reason}"),
            Death::With(_) => format!("the runner ended: {cause}"),
        };
        self.seats[index].condition = Condition::Vacant;
        let cause = Failure::new(FailureKind::RunnerDied, message);
        self.after_end(index, (cause, tenancy.ended_by()), verdict)
    }

    /// Takes note of a launch that failed. Where it was to replace a runner, that one serves on.
    pub(super) fn not_launched(
        &mut self,
        index: usize,
        generation: Generation,
        cause: Failure,
    ) -> Result<(), Failure> {
        if !self.is_known(&cause) {
            tracing::warn!(agent = self.name(), %generation, %cause, "a runner did not start");
        }
        if self.seats[index].tenancy().is_some() {
            self.tell_not_started(generation, &cause);
            self.recycling.failed(&self.agent.launcher().spec.supervision.backoff);
            return Ok(());
        }
        let reason = cause.kind.label();
        self.after_end(index, (cause, reason), Verdict::Counts)
    }

    /// Tells of a launch that failed, and that leaves the runners as they are.
    pub(super) fn tell_not_started(&self, generation: Generation, cause: &Failure) {
        self.events.tell(RuntimeEvent::RunnerEnded {
            agent: self.agent.name.clone(),
            generation,
            kind: cause.kind,
            reason: cause.kind.label(),
            cause: cause.message.clone(),
            counted: false,
        });
    }

    /// Returns whether the agent is parked for this cause already: then it was told.
    fn is_known(&self, cause: &Failure) -> bool {
        matches!(&self.mode, Mode::Probing { cause: known } if known.message == cause.message)
    }

    /// Launches again, at once or after a wait. Without any runner the agent parks, or exits: at
    /// once where the definition is wrong, otherwise beyond the intensity.
    fn after_end(
        &mut self,
        index: usize,
        (cause, reason): (Failure, &'static str),
        verdict: Verdict,
    ) -> Result<(), Failure> {
        let supervision = self.agent.launcher().spec.supervision;
        let hopeless = is_hopeless(&cause);
        let verdict = if hopeless { Verdict::CountsAgainstNobody } else { verdict };
        let wait = self.trouble.next_wait(verdict, &supervision, Instant::now());
        self.events.tell(RuntimeEvent::RunnerEnded {
            agent: self.agent.name.clone(),
            generation: self.seats[index].generation,
            kind: cause.kind,
            reason,
            cause: cause.message.clone(),
            counted: verdict == Verdict::Counts,
        });
        if let Some(launch) = &self.seats[index].launch {
            // What was to replace it is on its way.
            self.seats[index].generation = launch.generation;
            return Ok(());
        }
        let probing = matches!(self.mode, Mode::Probing { .. });
        let under_way = self.seats.iter().any(Seat::is_launching);
        // What the definition does wrong, it does to every launch.
        let others = self.is_up() || under_way && !hopeless;
        let wait = match wait {
            Some(wait) if !hopeless && !probing => wait,
            _ if others => supervision.backoff.max,
            _ => return self.give_up(index, cause, (!hopeless).then_some(supervision.backoff.max)),
        };
        if !others {
            self.agent.settle(Err(cause.clone()));
        }
        let (cause, until) = (cause.to_string(), Instant::now() + wait);
        self.seats[index].condition = Condition::Waiting { cause, until };
        self.launch_after(index, wait);
        // A run that waited for this seat may have to take another.
        self.serve();
        Ok(())
    }

    /// Parks, or exits and leaves the decision to the supervisor.
    fn give_up(
        &mut self,
        index: usize,
        cause: Failure,
        retry_in: Option<Duration>,
    ) -> Result<(), Failure> {
        if !self.is_known(&cause) {
            let retry_in = retry_in.map(|wait| display(humantime::format_duration(wait)));
            tracing::error!(agent = self.name(), %cause, retry_in, "the agent is given up for now");
        }
        self.refuse_all(&unavailable(self.name(), &cause));
        for seat in &mut self.seats {
            seat.launch = None;
            seat.condition = Condition::Vacant;
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
        self.agent.launcher().close_sockets();
        self.agent.park(cause.clone(), retry_at);
        self.agent.settle(Err(cause.clone()));
        self.mode = Mode::Parked { cause, retry_at, after: self.seats[index].generation };
        if let Some(wait) = retry_in {
            self.launch_after(index, wait);
        }
        Ok(())
    }

    fn launch_after(&self, index: usize, wait: Duration) {
        let generation = self.seats[index].generation;
        self.myself.send_after(wait, move || AgentMessage::LaunchNow { generation });
    }
}
