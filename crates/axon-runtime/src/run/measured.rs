//! What is measured of a run while it is driven: its calls of tools and its requests to models.

use axon_kernel::event::ToolOutcome;
use axon_kernel::failure::Failure;
use axon_kernel::ids::ToolCallId;
use tokio::time::Instant;

use super::driver::Driver;
use crate::meters::ToolCall;

impl Driver {
    /// Has the end of the run counted for the agent that was asked.
    pub(crate) fn measure(&self) {
        self.log().measured_by(self.asked.clone(), self.accepted_at);
    }

    /// Notes that a call begins. Those of a flow are runs of others, which are counted there.
    pub(super) fn call_begins(&mut self, call: &ToolCallId, name: &str) {
        if self.launcher.spec.flow.is_none() {
            self.made.insert(call.clone(), ToolCall::begins(&self.launcher.spec, name));
        }
    }

    /// Counts a call that has ended.
    pub(super) fn call_counts(&mut self, call: &ToolCallId, outcome: ToolOutcome) {
        if let Some(made) = self.made.remove(call) {
            self.agent.agent.meters.tool_called(&made, Some(outcome));
        }
    }

    /// Counts the calls of which nobody will hear any more.
    pub(super) fn calls_are_lost(&mut self) {
        for made in std::mem::take(&mut self.made).into_values() {
            self.agent.agent.meters.tool_called(&made, None);
        }
    }

    /// Counts how the request to the model went that is under way, if one is.
    pub(super) fn request_ended(
        &self,
        (model, since): (&str, Option<Instant>),
        failure: Option<&Failure>,
    ) {
        if let Some(since) = since {
            self.agent.agent.meters.model_asked(model, since.elapsed(), failure);
        }
    }
}
