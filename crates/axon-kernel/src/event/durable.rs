//! Which events of a run have to be on disk before anything else happens.

use super::RunEvent;
use crate::policy::Decision;
use crate::spec::Effect;

impl RunEvent {
    /// Returns whether what comes after this event depends on it, so that it is recorded first;
    /// `effect` is that of the tool, if it is about a call. Everything else is recorded with the
    /// next event of that kind.
    ///
    /// ```
    /// # use axon_kernel::event::{RunEvent, Started, ToolCalled};
    /// # use axon_kernel::json::RawJson;
    /// # use axon_kernel::spec::Effect;
    /// let called = RunEvent::ToolCalled(ToolCalled {
    ///     tool_call_id: "c1".into(),
    ///     name: "pay".into(),
    ///     args: RawJson::null(),
    ///     effect: Effect::Once,
    ///     step: 1,
    /// });
    /// assert!(called.must_be_durable(Some(Effect::Once)));
    /// assert!(!called.must_be_durable(Some(Effect::Idempotent)));
    /// assert!(!RunEvent::Started(Started { queued_ms: 1 }).must_be_durable(None));
    /// ```
    #[must_use]
    pub fn must_be_durable(&self, effect: Option<Effect>) -> bool {
        match self {
            Self::ToolCalled(_) | Self::ToolReturned(_) => effect == Some(Effect::Once),
            Self::Started(_)
            | Self::AttemptStarted(_)
            | Self::AttemptFailed(_)
            | Self::Retracted(_)
            | Self::TextDelta(_)
            | Self::ThinkingDelta(_)
            | Self::PartialOutput(_)
            | Self::Model(_)
            | Self::Log(_)
            | Self::ToolProgress(_)
            | Self::StateChanged(_)
            | Self::HandedOff(_)
            | Self::Delegated(_) => false,
            // The end follows.
            Self::Decided(decided) => {
                !matches!(decided.decision, Decision::Fail | Decision::Escalate)
            }
            Self::Accepted(_)
            | Self::Steered(_)
            | Self::Checkpoint(_)
            | Self::Paused(_)
            | Self::Resolved(_)
            | Self::Resumed(_)
            | Self::Recovered(_)
            | Self::Completed(_)
            | Self::Failed(_)
            | Self::Cancelled(_)
            | Self::Rejected(_) => true,
        }
    }
}
