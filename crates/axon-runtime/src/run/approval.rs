//! Approvals that nobody is asked for any more, and pauses that are over without a decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use axon_kernel::event::{PauseReason, Paused, Resolved, RunEvent};
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::run::Standing;
use axon_kernel::time::Timestamp;
use axon_kernel::wire::DeferredRequest;
use tokio::time::Duration;

use super::driver::{Driver, Stuck};
use super::{LiveRun, Resume};
use crate::clock;
use crate::records::RunRecords;
use crate::services::Services;

/// How often the wall clock is read: it may be set, and it goes on while the machine sleeps.
const LOOK: Duration = Duration::from_secs(60);

/// What a run knows of approvals, beside what was decided about single calls.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    /// The tools whose calls nobody is asked about.
    pub(super) standing: Standing,
    /// The calls that were approved so since the model was last asked.
    granted: BTreeSet<ToolCallId>,
}

impl Approvals {
    /// Notes that the run got further: the calls so far have been made.
    pub(super) fn got_further(&mut self) {
        self.granted.clear();
    }

    /// Returns what stands decided about `asked`. A call that asks again although it was approved
    /// would do so for ever, and is left to a person.
    fn decide(&mut self, asked: &[DeferredRequest]) -> Vec<Resolved> {
        let mut decided = self.standing.decide(asked);
        // What the other agent asks is decided there.
        let handed = |call: &ToolCallId| {
            asked.iter().any(|one| one.tool_call_id == *call && one.handed_to().is_some())
        };
        decided.retain(|resolved| !handed(&resolved.tool_call_id));
        decided.retain(|resolved| self.granted.insert(resolved.tool_call_id.clone()));
        decided
    }
}

impl Driver {
    /// Decides what stands decided about the calls that an attempt waits with. Returns the pause,
    /// or none if that is all of them and another attempt is due.
    pub(super) async fn ask_about(&mut self, requests: RawJson) -> Result<Option<RunEvent>, Stuck> {
        let asked: Vec<DeferredRequest> = requests.decode().unwrap_or_default();
        let decided = self.approvals.decide(&asked);
        for resolved in &decided {
            tracing::info!(
                run = %self.log().run_id(), call = %resolved.tool_call_id, by = resolved.by,
                "a call is approved without asking"
            );
            self.emit(RunEvent::Resolved(resolved.clone())).await?;
        }
        if asked.is_empty() || decided.len() < asked.len() {
            let expires = self.launcher.spec.approvals.expiry(clock::now());
            let reason = PauseReason::Approval { requests };
            return Ok(Some(RunEvent::Paused(Paused { reason, expires })));
        }
        self.requests = asked;
        let decided = decided.into_iter().map(|at| (at.tool_call_id, at.resolution));
        self.resolutions.extend(decided);
        Ok(None)
    }
}

/// Goes on with a run that has paused here as soon as its pause is over, if nobody has decided.
pub(super) fn see_to_expiry(services: &Arc<Services>, live: &LiveRun, end: &RunEvent) {
    let RunEvent::Paused(Paused { expires: Some(expiry), .. }) = end else { return };
    if !services.recovers {
        return;
    }
    let (run, at, deps) = (live.log.run_id().clone(), expiry.at, live.deps.clone());
    let services = Arc::downgrade(services);
    tokio::spawn(async move {
        until(at).await;
        let Some(services) = services.upgrade() else { return };
        let replay = RunRecords::new(services.store.clone()).replay(&run).await;
        if !replay.is_ok_and(|replay| !replay.expired(clock::now()).is_empty()) {
            return;
        }
        let resume = Resume::new(services, run.clone()).with_deps(deps).patiently();
        if let Err(error) = resume.start().await {
            tracing::warn!(%run, %error, "a run whose pause is over does not go on yet");
        }
    });
}

async fn until(at: Timestamp) {
    loop {
        let left = at.since(clock::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
