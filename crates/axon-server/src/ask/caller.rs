//! The caller of a run: as long as they are there the run goes on, and perhaps no longer.

use std::sync::Arc;

use axon_kernel::event::{PauseReason, Paused};
use axon_kernel::ids::RunId;
use axon_runtime::{Outcome, RunHandle, RunOutcome};
use serde_json::Map;

use super::{AtDisconnect, Begun};
use crate::answer::{Answer, OutcomeName};
use crate::follow::{AtPause, Following};
use crate::problem::Problem;
use crate::shared::{Phase, Shared};

/// Why a run is cancelled whose caller has gone.
const LEFT: &str = "its caller went away";

/// The caller of a run. Dropped before the answer was given, it cancels the run, if that is how it
/// was asked for.
#[derive(Debug)]
pub(crate) struct Caller {
    shared: Arc<Shared>,
    run: RunId,
    handle: Option<Arc<RunHandle>>,
    cancels: bool,
}

impl Caller {
    pub(super) fn of(shared: &Arc<Shared>, begun: Begun, at_disconnect: AtDisconnect) -> Self {
        let shared = shared.clone();
        match begun {
            Begun::Now(handle) => {
                // A prompt that went into a run of somebody else's does not end that.
                let cancels = at_disconnect == AtDisconnect::Cancel && !handle.is_steered();
                Self { shared, run: handle.id().clone(), handle: Some(handle), cancels }
            }
            Begun::Before(run) => Self { shared, run, handle: None, cancels: false },
        }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Says that the caller has what they came for.
    pub(crate) fn was_answered(&mut self) {
        self.cancels = false;
    }

    /// Waits until the run has ended, or waits for a person.
    pub(crate) async fn wait(mut self) -> Result<Answer, Problem> {
        let handle = match &self.handle {
            Some(handle) => Some(handle),
            None => {
                self.handle = self.shared.runtime.under_way(&self.run).await.map(Arc::new);
                self.handle.as_ref()
            }
        };
        let answer = match handle {
            Some(handle) => Ok(whole(&self.shared, handle.outcome().await).await),
            None => settled(&self.shared, &self.run).await,
        };
        self.was_answered();
        answer
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // At the end of the service it is not the caller that goes.
        let stays = !self.cancels || self.shared.phase() == Phase::Closing;
        if let (false, Some(handle)) = (stays, &self.handle) {
            handle.cancel(LEFT);
        }
    }
}

/// Adds to an outcome without an output what the run used, which only its record tells.
async fn whole(shared: &Shared, outcome: RunOutcome) -> Answer {
    let run = outcome.run_id.clone();
    let answer = Answer::from(outcome);
    if answer.outcome == OutcomeName::Completed {
        return answer;
    }
    match shared.runtime.records().events(&run, 0).await {
        Ok(events) => answer.with_usage_of(&events),
        Err(error) => {
            tracing::debug!(%run, %error, "what a run used cannot be told");
            answer
        }
    }
}

/// Waits for the end or the pause of a run that is not under way here.
async fn settled(shared: &Arc<Shared>, run: &RunId) -> Result<Answer, Problem> {
    let mut following = Following::new(shared.clone(), run.clone(), 0, AtPause::Stop);
    loop {
        let update = tokio::select! {
            update = following.next() => update.transpose()?,
            () = shared.closing() => return Ok(interrupted(run.clone())),
        };
        if update.is_none() {
            break;
        }
    }
    let events = shared.runtime.records().events(run, 0).await?;
    Ok(Answer::of_record(run, &events).unwrap_or_else(|| interrupted(run.clone())))
}

/// The answer of a run that another process goes on with.
fn interrupted(run_id: RunId) -> Answer {
    let reason = PauseReason::Interrupted { reason: "the service ends".to_owned() };
    let outcome = Outcome::Paused(Paused::until_decided(reason));
    RunOutcome { run_id, outcome, state: Map::new() }.into()
}
