//! What happens in the tree, as it happens: for people, consoles and pagers.

use std::sync::Arc;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Generation, RunId};
use axon_kernel::metric;
use axon_kernel::policy::Decision;
use axon_kernel::spec::AgentName;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::meters::{self, Meters};
use crate::supervisor::{Happening, SupervisionEvent};

/// How many events are kept for observers. One that falls behind further loses the oldest ones
/// with their count, and nobody waits for it. Restarts are rare: this is minutes of trouble.
const KEPT: usize = 1024;

/// What happened in the tree of a runtime.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RuntimeEvent {
    /// A supervisor did something.
    Supervision(SupervisionEvent),
    /// A runner takes runs.
    RunnerUp {
        /// The agent.
        agent: AgentName,
        /// The runner's generation.
        generation: Generation,
        /// Its process id.
        pid: u32,
    },
    /// A runner ended, or could not be started.
    RunnerEnded {
        /// The agent.
        agent: AgentName,
        /// The runner's generation.
        generation: Generation,
        /// Which kind of failure it is.
        kind: FailureKind,
        /// Why, in a word, as metrics label it: `out_of_memory`, `hard_stopped`, the kind, …
        reason: &'static str,
        /// Why.
        cause: String,
        /// Whether it counts against the agent's intensity.
        counted: bool,
    },
    /// A runner that was well was replaced; what is under way in it finishes there.
    RunnerRecycled {
        /// The agent.
        agent: AgentName,
        /// The generation of the runner that was replaced.
        generation: Generation,
        /// Why.
        reason: RecycleReason,
    },
    /// An agent refuses runs until it is tried again, reloaded or restarted.
    AgentParked {
        /// The agent.
        agent: AgentName,
        /// Why.
        cause: Failure,
        /// When it is tried again, in milliseconds from now; never by itself if this is missing.
        retry_in_ms: Option<u64>,
    },
    /// A decision about a failed attempt of a run.
    Decided {
        /// The run.
        run_id: RunId,
        /// The agent.
        agent: AgentName,
        /// What it was about.
        failure: Failure,
        /// What was decided.
        decision: Decision,
        /// Why.
        reason: String,
    },
    /// A failure that a run hands to whoever asked for it.
    Escalated {
        /// The run.
        run_id: RunId,
        /// The agent.
        agent: AgentName,
        /// The failure.
        failure: Failure,
    },
    /// A run that kills its runners is not tried again.
    Quarantined {
        /// The run.
        run_id: RunId,
        /// The agent.
        agent: AgentName,
        /// How the runners ended that it was alone in.
        evidence: Vec<String>,
    },
    /// A run, or a tool that was called directly, did not stop when it had to, and its runner was
    /// killed.
    HardStopped {
        /// The run; one that nobody knows if a tool was called directly.
        run_id: RunId,
        /// The agent.
        agent: AgentName,
        /// The generation of the runner that was killed.
        generation: Generation,
    },
    /// The breaker of a model opened or closed.
    Breaker {
        /// The model.
        model: String,
        /// `open`, `half_open` or `closed`.
        state: &'static str,
    },
}

/// Why a runner was replaced that was well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleReason {
    /// It was old.
    Age,
    /// It was lent as often as it may be.
    Requests,
    /// It held too much memory.
    Memory,
    /// The agent's definition has changed.
    Reload,
}

impl RecycleReason {
    /// Returns the reason as metrics label it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Requests => "requests",
            Self::Memory => "memory",
            Self::Reload => "reload",
        }
    }
}

/// Counts what a pager is interested in; without a recorder this costs nothing.
fn count(meters: &Meters, event: &RuntimeEvent) {
    let one = |agent: &AgentName, metric, label, value| {
        if let Some(agent) = meters.known(agent) {
            agent.count(metric, &[(label, value)], 1);
        }
    };
    match event {
        RuntimeEvent::Decided { agent, failure, decision, .. } => {
            if let Decision::Retry { .. } = decision {
                one(agent, &metric::RUN_RETRIES, "kind", failure.kind.label());
            }
            one(agent, &metric::RUN_DECISIONS, "decision", decision.label());
        }
        RuntimeEvent::RunnerEnded { agent, reason, .. } => {
            one(agent, &metric::AGENT_RESTARTS, "reason", reason);
        }
        RuntimeEvent::RunnerRecycled { agent, reason, .. } => {
            one(agent, &metric::RUNNER_RECYCLED, "reason", reason.label());
        }
        RuntimeEvent::Escalated { agent, failure, .. } => {
            one(agent, &metric::RUN_ESCALATIONS, "reason", failure.kind.label());
        }
        RuntimeEvent::Quarantined { agent, .. } => {
            if let Some(agent) = meters.known(agent) {
                agent.count(&metric::RUN_QUARANTINES, &[], 1);
            }
        }
        RuntimeEvent::Supervision(SupervisionEvent { supervisor, happening, .. }) => {
            match happening {
                Happening::Exhausted { .. } => meters.escalated(supervisor, meters::INTENSITY),
                Happening::GivenUp { .. } => meters.escalated(supervisor, meters::GIVEN_UP),
                Happening::Leaked => meters.count(&metric::RUNNER_LEAKS, 1),
                Happening::Started
                | Happening::Exited { .. }
                | Happening::RestartScheduled { .. }
                | Happening::StartFailed { .. }
                | Happening::Stopped => {}
            }
        }
        RuntimeEvent::RunnerUp { .. }
        | RuntimeEvent::AgentParked { .. }
        | RuntimeEvent::HardStopped { .. }
        | RuntimeEvent::Breaker { .. } => {}
    }
}

/// Tells everybody who listens.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<RuntimeEvent>,
    meters: Arc<Meters>,
}

impl Events {
    pub(crate) fn new(meters: Arc<Meters>) -> Self {
        Self { sender: broadcast::Sender::new(KEPT), meters }
    }

    /// Counts the event and shows it to whoever listens.
    pub(crate) fn tell(&self, event: RuntimeEvent) {
        count(&self.meters, &event);
        // Nobody may be listening.
        let _heard = self.sender.send(event);
    }

    pub(crate) fn listen(&self) -> RuntimeEvents {
        RuntimeEvents { receiver: self.sender.subscribe() }
    }
}

/// What an observer of a runtime gets.
#[derive(Clone, Debug)]
pub enum Observed {
    /// An event.
    Event(Box<RuntimeEvent>),
    /// The observer was too slow for so many events; they are gone.
    Missed(u64),
}

/// The events of a runtime from the moment they were asked for. Whoever does not read loses the
/// oldest ones, with their count; nothing ever waits for a reader.
#[derive(Debug)]
pub struct RuntimeEvents {
    receiver: broadcast::Receiver<RuntimeEvent>,
}

/// Whoever leaves without having read everything has lost it.
impl Drop for RuntimeEvents {
    fn drop(&mut self) {
        let lost = self.receiver.len().saturating_sub(KEPT);
        if lost > 0 {
            meters::count(&metric::DROPPED_EVENTS, lost as u64);
        }
    }
}

impl RuntimeEvents {
    /// Returns the next event, or `None` when the runtime is gone.
    pub async fn next(&mut self) -> Option<Observed> {
        match self.receiver.recv().await {
            Ok(event) => Some(Observed::Event(Box::new(event))),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                meters::count(&metric::DROPPED_EVENTS, missed);
                Some(Observed::Missed(missed))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
