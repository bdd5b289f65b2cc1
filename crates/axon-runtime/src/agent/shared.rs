//! What an agent is beyond its actor: it outlives each restart of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axon_kernel::failure::Failure;
use axon_kernel::spec::AgentName;
use ractor::ActorRef;
use tokio::sync::watch;
use tokio::time::Instant;

use super::AgentMessage;
use super::gate::{Gate, Gauges};
use crate::launch::Launcher;
use crate::meters::AgentMeters;

/// One agent of a runtime: its door, which stays where it is while actors and runners come and go.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: AgentName,
    pub(crate) gate: Gate,
    pub(crate) meters: Arc<AgentMeters>,
    launcher: watch::Sender<Arc<Launcher>>,
    actor: watch::Sender<Option<ActorRef<AgentMessage>>>,
    standing: watch::Sender<Standing>,
    settled: watch::Sender<Option<Result<(), Failure>>>,
    completed: AtomicU64,
}

/// Whether an agent takes runs.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It does.
    Open,
    /// Not now: its runner cannot be had.
    Parked {
        cause: Box<Failure>,
        /// When it is tried again; only by hand if never.
        retry_at: Option<Instant>,
    },
    /// Not any more, until it is restarted; what was let in goes on.
    Draining,
    /// Not any more, until it is restarted, and it has no runner.
    Drained,
    /// Never again.
    Stopped,
}

/// Why an agent's actor cannot be asked.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The agent was stopped.
    Stopped,
    /// Its supervisor does not start it again by itself.
    Down(Box<Failure>),
}

impl Agent {
    pub(crate) fn new(launcher: Arc<Launcher>, meters: Arc<AgentMeters>) -> Self {
        meters.defined(&launcher.spec);
        let (in_flight, queued) = (meters.in_flight.clone(), meters.queued.clone());
        Self {
            name: launcher.spec.name.clone(),
            gate: Gate::new(&launcher.spec.limits, Gauges { in_flight, queued }),
            meters,
            launcher: watch::Sender::new(launcher),
            actor: watch::Sender::new(None),
            standing: watch::Sender::new(Standing::Open),
            settled: watch::Sender::new(None),
            completed: AtomicU64::new(0),
        }
    }

    pub(crate) fn launcher(&self) -> Arc<Launcher> {
        self.launcher.borrow().clone()
    }

    /// Takes another definition from now on.
    pub(crate) fn redefine(&self, launcher: Arc<Launcher>) {
        self.gate.change(&launcher.spec.limits);
        self.meters.defined(&launcher.spec);
        self.launcher.send_replace(launcher);
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Tells when the standing changes.
    pub(crate) fn standings(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Changes the standing; one that was stopped stays so.
    pub(crate) fn stand(&self, standing: Standing) {
        self.change(standing, |now| !matches!(now, Standing::Stopped));
    }

    /// Takes no runs for now. An agent that takes none for good, or until it is restarted, has
    /// somebody's word for it already.
    pub(crate) fn park(&self, cause: Failure, retry_at: Option<Instant>) {
        let parked = Standing::Parked { cause: Box::new(cause), retry_at };
        self.change(parked, |now| matches!(now, Standing::Open | Standing::Parked { .. }));
    }

    fn change(&self, standing: Standing, may: impl FnOnce(&Standing) -> bool) {
        self.standing.send_if_modified(|now| {
            let may = may(now);
            if may {
                *now = standing;
            }
            may
        });
    }

    /// Takes runs again, if it was parked; an agent that drains, or was drained or stopped, stays
    /// so. Says whether it needs a runner.
    pub(crate) fn reopen(&self) -> bool {
        let mut open = true;
        self.standing.send_if_modified(|now| {
            open = !matches!(now, Standing::Drained | Standing::Stopped);
            let parked = matches!(now, Standing::Parked { .. });
            if parked {
                *now = Standing::Open;
            }
            parked
        });
        open
    }

    /// Takes no run any more, for good, and sends away who waits.
    pub(crate) fn close(&self) {
        self.stand(Standing::Stopped);
        self.gate.close();
    }

    /// Returns whether it takes runs now.
    pub(crate) fn takes_runs(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Open)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Stopped)
    }

    /// Waits until the agent is parked or stopped, which its actor is not there to tell of.
    pub(crate) async fn down(&self) -> Gone {
        let mut standing = self.standing.subscribe();
        let down = |now: &Standing| !matches!(now, Standing::Open | Standing::Draining);
        // The sender lives in `self`, so the channel cannot close.
        match standing.wait_for(down).await.as_deref() {
            Ok(Standing::Parked { cause, .. }) => Gone::Down(cause.clone()),
            _ => Gone::Stopped,
        }
    }

    /// Waits until the agent takes no run any more, for good.
    pub(crate) async fn stopped(&self) {
        let mut standing = self.standing.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _stopped = standing.wait_for(|now| matches!(now, Standing::Stopped)).await;
    }

    pub(crate) fn settle(&self, outcome: Result<(), Failure>) {
        self.settled.send_replace(Some(outcome));
    }

    /// Returns why the last launch failed.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        self.settled.borrow().as_ref()?.as_ref().err().cloned()
    }

    pub(crate) fn unsettle(&self) {
        self.settled.send_replace(None);
    }

    pub(crate) fn settled(&self) -> watch::Receiver<Option<Result<(), Failure>>> {
        self.settled.subscribe()
    }

    /// Follows the actor over its restarts.
    pub(crate) fn actor(&self) -> watch::Receiver<Option<ActorRef<AgentMessage>>> {
        self.actor.subscribe()
    }

    pub(crate) fn has_actor(&self, actor: ActorRef<AgentMessage>) {
        self.actor.send_replace(Some(actor));
    }

    /// Notes that a run has completed: whatever was wrong, the agent works.
    pub(crate) fn note_completed(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }
}
