//! Calls of which nobody knows whether they took effect: a hook, a rule or a person decides.

use axon_kernel::event::{PauseReason, Paused, Resolution, Resolved, RunEvent, ToolCalled};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{ToolCallId, idempotency_key};
use axon_kernel::policy::Policy;
use axon_kernel::spec::PythonTarget;
use axon_kernel::wire::{ReconcileAnswer, ReconcileRequest};
use tokio::time::Duration;

use super::driver::{Driver, Stuck, failed};

/// How long a hook may take where its tool has no time of its own.
const RECONCILE: Duration = Duration::from_secs(30);

impl Driver {
    /// Settles what can be settled without a person. Returns the run's end, or its pause, or none
    /// if it can go on.
    pub(super) async fn settle_doubts(
        &mut self,
        failure: &Failure,
    ) -> Result<Option<RunEvent>, Stuck> {
        while let Some(call) = self.doubts.first().cloned() {
            let Some((resolution, by)) = self.verdict(&call, failure).await else {
                let failure = Box::new(failure.clone());
                let reason = PauseReason::Ambiguous { tool_call_id: call, failure };
                return Ok(Some(RunEvent::Paused(Paused::until_decided(reason))));
            };
            tracing::warn!(
                run = %self.log().run_id(), %call, resolution = resolution.label(), by,
                "it was settled whether a call took effect"
            );
            let resolved =
                Resolved { tool_call_id: call.clone(), resolution: resolution.clone(), by };
            self.emit(RunEvent::Resolved(resolved)).await?;
            self.doubts.remove(&call);
            if let Resolution::Skip { result } = &resolution {
                self.results.insert(call.clone(), result.clone());
            } else if let Resolution::Fail { .. } = &resolution {
                return Ok(Some(failed(failure.clone(), self.chain.sentences())));
            }
            let resolution = resolution.after(self.resolutions.get(&call));
            self.resolutions.insert(call, resolution);
        }
        Ok(None)
    }

    /// Adds to the reason of a run that is called off which calls may have taken effect.
    pub(super) fn with_doubts(&self, reason: String) -> String {
        let run = self.log().run_id();
        let doubts = self.doubts.iter().filter_map(|call| self.calls.get(call));
        doubts.fold(reason, |reason, called| {
            let ToolCalled { tool_call_id: call, name, step, .. } = called;
            let key = idempotency_key(run, *step, call);
            format!("{reason}; call `{call}` of `{name}` may have taken effect (key {key})")
        })
    }

    /// Adds to a failure that ends the run which calls may have taken effect.
    pub(super) fn in_doubt(&self, failure: Failure) -> Failure {
        let message = self.with_doubts(failure.message);
        Failure { message, ..failure }
    }

    /// Asks the tool's hook, then its rule.
    async fn verdict(
        &mut self,
        call: &ToolCallId,
        failure: &Failure,
    ) -> Option<(Resolution, String)> {
        let called = self.calls.get(call)?.clone();
        let spec = self.launcher.spec.clone();
        let tool = spec.tools.iter().find(|tool| tool.name.as_str() == called.name)?;
        if let Some(hook) = &tool.reconcile {
            let limit = tool.timeout.unwrap_or(RECONCILE).min(self.remaining());
            let answer = self.reconcile(hook, called, limit).await;
            let by = format!("reconcile {hook}");
            match answer {
                Ok(ReconcileAnswer::Done { result }) => {
                    return Some((Resolution::Skip { result }, by));
                }
                Ok(ReconcileAnswer::NotDone) => return Some((Resolution::Retry, by)),
                Ok(ReconcileAnswer::Unknown) => {}
                Err(error) => {
                    let run = self.log().run_id();
                    tracing::error!(%run, %call, %hook, %error, "a reconcile function failed");
                }
            }
        }
        let tried = self.chain.tried(failure.kind);
        let resolution = Policy::of(&spec).settle(tool.on_ambiguous, failure, &tried)?;
        Some((resolution, format!("on_ambiguous = {}", tool.on_ambiguous.label())))
    }

    async fn reconcile(
        &mut self,
        hook: &PythonTarget,
        called: ToolCalled,
        limit: Duration,
    ) -> Result<ReconcileAnswer, Failure> {
        let run = self.log().run_id().clone();
        let lease = tokio::time::timeout(limit, self.agent.lease(&run, self.sick, false)).await;
        let late = |_elapsed| Failure::new(FailureKind::RunTimeout, "no runner was up in time");
        let lease = lease.map_err(late)??;
        let call = (run, called.step, called.tool_call_id);
        let mut request = ReconcileRequest::new(call, called.name, called.args);
        request.deps = self.request.whole_deps().cloned();
        let answer = lease.client().reconcile(hook, &request, limit).await;
        answer.map_err(axon_runner::RequestError::into_failure)
    }
}

/// Returns the failure of a run whose process has gone.
pub(super) fn process_gone() -> Failure {
    Failure::new(FailureKind::RunnerDied, "the process that ran it has gone")
}
