//! Giving an agent another definition: one runner has to come up with it first, while the old ones
//! serve on; then all others are replaced at once.

use std::sync::Arc;

use axon_kernel::failure::Failure;
use axon_kernel::ids::Generation;
use tokio::sync::oneshot;

use super::actor::{Mode, State, cancelled};
use super::seat::{Condition, Launch, Seat};
use super::shared::Standing;
use super::tenancy::Tenancy;
use super::trouble::Trouble;
use crate::events::RecycleReason;
use crate::launch::Launcher;

/// A reload whose first runner is being launched.
#[derive(Debug)]
pub(super) struct Reload {
    launcher: Arc<Launcher>,
    launch: Launch,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Reload {
    pub(super) fn is_launch(&self, generation: Generation) -> bool {
        self.launch.generation == generation
    }

    /// Tells whoever waits that nothing comes of it, and returns the launch that is to be ended.
    pub(super) fn cancelled(self, reason: &str) -> Launch {
        // Whoever asked may have gone.
        let _gone = self.done.send(Err(cancelled(reason)));
        self.launch
    }
}

impl State {
    /// Begins a reload. An agent without any runner takes the definition at once, and is forgiven.
    pub(super) fn reload(
        &mut self,
        launcher: Arc<Launcher>,
        done: oneshot::Sender<Result<(), Failure>>,
    ) {
        if let Some(before) = self.reload.take() {
            drop(before.cancelled("the agent was reloaded once more"));
        }
        if self.is_up() {
            let launch = self.begin_launch(launcher.clone(), None);
            self.reload = Some(Reload { launcher, launch, done });
            return;
        }
        self.trouble = Trouble::default();
        self.agent.redefine(launcher);
        self.agent.unsettle();
        self.agent.stand(Standing::Open);
        self.launch_all();
        // Whoever asked may have gone.
        let _gone = done.send(Ok(()));
    }

    /// Ends a reload: with its first runner the definition holds, and nobody gets an old runner any
    /// more; without it everything stays as it is.
    pub(super) fn reloaded(&mut self, outcome: Result<Arc<Tenancy>, Failure>) {
        let Some(Reload { launcher, launch, done }) = self.reload.take() else { return };
        let outcome = outcome.map(|tenancy| self.redefine(launcher, tenancy));
        if let Err(cause) = &outcome {
            tracing::warn!(agent = self.name(), %cause, "the new definition does not start: the old one serves on");
            self.tell_not_started(launch.generation, cause);
        }
        // Whoever asked may have gone.
        let _gone = done.send(outcome);
    }

    fn redefine(&mut self, launcher: Arc<Launcher>, first: Arc<Tenancy>) {
        let seats = launcher.seats();
        self.agent.redefine(launcher);
        self.agent.stand(Standing::Open);
        self.trouble = Trouble::default();
        let before = std::mem::take(&mut self.seats);
        self.mode = Mode::Serving;
        self.seats = (0..seats).map(|_| Seat::vacant()).collect();
        let generation = first.generation;
        let condition = Condition::Up { tenancy: first.clone(), reserved: false };
        self.seats[0] = Seat { generation, condition, launch: None };
        self.announce(&first);
        for tenancy in before.iter().filter_map(Seat::tenancy) {
            self.recycled(tenancy.clone(), Some(RecycleReason::Reload));
        }
        self.agent.settle(Ok(()));
        self.launch_vacant();
        self.inspect_later();
        self.serve();
    }
}
