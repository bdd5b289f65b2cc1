//! Decisions about calls that another agent answers: they are about what the run of that agent waits
//! for, and go there.

use axon_kernel::event::Resolution;
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::run::Replay;

use super::{RecordError, RunRecords};

impl RunRecords {
    /// Records the decision where the work is, if `call` of `run` is handed to another agent, and
    /// returns what is to be recorded about the call itself: then that it goes on.
    ///
    /// The other run may wait with several calls: consent and refusal go to each of them, and what
    /// fits one only is refused.
    pub(super) async fn hand_down(
        &self,
        run: &RunId,
        call: &ToolCallId,
        resolution: Resolution,
        by: &str,
    ) -> Result<Resolution, RecordError> {
        let replay = self.replay(run).await?;
        let Some((other, theirs)) = self.handed(run, call, &replay).await? else {
            return Ok(resolution);
        };
        for theirs in theirs.undecided() {
            // They may be handed on, too.
            Box::pin(self.resolve(&other, &theirs, resolution.clone(), by)).await?;
        }
        Ok(Resolution::approve())
    }

    /// Returns the run that `call` is handed to, and all that it has come to.
    async fn handed(
        &self,
        run: &RunId,
        call: &ToolCallId,
        replay: &Replay,
    ) -> Result<Option<(RunId, Replay)>, RecordError> {
        let asked = replay.pause.iter().flat_map(|pause| pause.requests());
        let mut asked = asked.filter(|request| request.tool_call_id == *call);
        let Some(other) = asked.next().and_then(|request| request.handed_to()) else {
            return Ok(None);
        };
        let theirs = self.replay(&other).await?;
        // A tool can say what it likes of itself; only the other run knows whose call it answers.
        let parent = theirs.accepted.terms.parent.as_ref();
        let is_theirs =
            parent.is_some_and(|parent| parent.run_id == *run && parent.tool_call_id == *call);
        Ok(is_theirs.then_some((other, theirs)))
    }
}
