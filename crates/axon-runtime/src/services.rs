//! What all agents and runs of a runtime share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};

use axon_kernel::ids::RunId;
use axon_kernel::store::Store;

use crate::agents::Agents;
use crate::budget::Budget;
use crate::conversations::Conversations;
use crate::define::AgentCode;
use crate::edges::Edges;
use crate::events::Events;
use crate::launchers::Launchers;
use crate::meters::Meters;
use crate::models::Models;
use crate::records::{RunRecords, UNWANTED};
use crate::registry::Registry;
use crate::runs::Runs;
use crate::trace::Tracer;

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
    pub(crate) meters: Arc<Meters>,
    pub(crate) models: Models,
    /// The ways that messages of routers and pipelines go.
    pub(crate) edges: Edges,
    /// What all runs together may use.
    pub(crate) budget: Budget,
    /// What begins spans.
    pub(crate) tracer: Tracer,
    /// Whether runs go on by themselves whose process has gone, or whose pause is over.
    pub(crate) recovers: bool,
    /// Whether nothing new is begun: only what is under way goes on, with all that it asks of others.
    pub(crate) drains: AtomicBool,
    /// The supervisors, which hold these services: hence weak.
    pub(crate) agents: OnceLock<Weak<Agents>>,
}

impl Services {
    /// Ends runs that nobody waits for any more, and those below them.
    pub(crate) async fn cancel_unwanted(&self, runs: Vec<RunId>) {
        let mut at_rest = Vec::new();
        for run in runs {
            match self.runs.find(&run).await {
                Some(live) => live.cancel.now(UNWANTED),
                None => at_rest.push(run),
            }
        }
        let driven = RunRecords::new(self.store.clone()).cancel_all(at_rest).await;
        self.cancel_driven(driven).await;
    }

    /// Ends runs that somebody drives.
    pub(crate) async fn cancel_driven(&self, runs: Vec<RunId>) {
        for run in runs {
            match self.runs.find(&run).await {
                Some(live) => live.cancel.now(UNWANTED),
                None => tracing::warn!(%run, "a run that nobody wants is driven elsewhere"),
            }
        }
    }
}

/// Shows nothing of it: its registry holds handles that hold it.
impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
