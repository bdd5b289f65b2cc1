//! A group: agents that only make sense together, under a supervisor of their own.

use axon_kernel::config::{self, GroupStrategy};
use axon_kernel::spec::GroupName;
use tokio::sync::{Notify, watch};

use crate::supervisor::{Supervisor, SupervisorHandle};

/// A group of a runtime.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: GroupName,
    pub(crate) spec: config::Group,
    supervisor: watch::Sender<Option<SupervisorHandle>>,
    parked: watch::Sender<bool>,
    now: Notify,
}

impl Group {
    pub(crate) fn new(name: GroupName, spec: config::Group) -> Self {
        let (supervisor, parked) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { name, spec, supervisor, parked, now: Notify::new() }
    }

    pub(crate) fn supervisor_of_members(&self) -> Supervisor {
        let config::Group { strategy, intensity, backoff, .. } = &self.spec;
        let supervisor = match strategy {
            GroupStrategy::OneForOne => Supervisor::one_for_one(),
            GroupStrategy::OneForAll => Supervisor::one_for_all(),
            GroupStrategy::RestForOne => Supervisor::rest_for_one(),
        };
        supervisor
            .named(self.name.as_str())
            .intensity(intensity.max_restarts, intensity.within)
            .backoff(*backoff)
    }

    pub(crate) fn supervisor(&self) -> Option<SupervisorHandle> {
        self.supervisor.borrow().clone()
    }

    pub(crate) fn has_supervisor(&self, supervisor: SupervisorHandle) {
        self.supervisor.send_replace(Some(supervisor));
        self.parked.send_replace(false);
    }

    pub(crate) fn park(&self) {
        self.parked.send_replace(true);
    }

    pub(crate) fn is_parked(&self) -> bool {
        *self.parked.borrow()
    }

    /// Ends the wait of a parked group.
    pub(crate) fn try_now(&self) {
        self.now.notify_one();
    }

    /// Waits until a parked group is to be tried again.
    pub(crate) async fn next_try(&self) {
        // Either way it is time.
        let _asked = tokio::time::timeout(self.spec.backoff.max, self.now.notified()).await;
    }
}
