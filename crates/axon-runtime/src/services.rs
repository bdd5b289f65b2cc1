//! What all agents and runs of a runtime share.

use std::sync::{Arc, OnceLock, Weak};

use axon_kernel::store::Store;

use crate::agents::Agents;
use crate::budget::Budget;
use crate::conversations::Conversations;
use crate::define::AgentCode;
use crate::events::Events;
use crate::launchers::Launchers;
use crate::models::Models;
use crate::registry::Registry;
use crate::runs::Runs;

/// What all agents and runs of a runtime share.
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Registry,
    pub(crate) runs: Runs,
    /// The functions that the service has for all agents.
    pub(crate) code: AgentCode,
    pub(crate) launchers: Launchers,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) events: Events,
    pub(crate) models: Models,
    /// What all runs together may use.
    pub(crate) budget: Budget,
    /// Whether runs go on by themselves whose process has gone, or whose pause is over.
    pub(crate) recovers: bool,
    /// The supervisors, which hold these services: hence weak.
    pub(crate) agents: OnceLock<Weak<Agents>>,
}

/// Shows nothing of it: its registry holds handles that hold it.
impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
