//! The runs that wait for a person: what a service shows to whoever decides.

use axon_kernel::event::{Expiry, PauseReason, ToolCalled};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::{Pause, Replay, RunState};
use axon_kernel::spec::AgentName;
use axon_kernel::store::{RunQuery, StoreError};
use axon_kernel::time::Timestamp;
use axon_kernel::wire::DeferredRequest;
use serde::Serialize;

use super::{RecordError, RunRecords};

/// How many runs are read in one go.
const PAGE: usize = 256;

/// A run that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingRun {
    /// The run.
    pub run_id: RunId,
    /// The agent that answers it.
    pub agent: AgentName,
    /// The conversation that it is a turn of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// What it waits for.
    pub reason: PauseReason,
    /// Since when.
    pub since: Timestamp,
    /// Until when, and what happens then, if somebody still has to decide about its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
    /// The calls that want an approval or an answer and that nobody has decided about.
    pub requests: Vec<DeferredRequest>,
    /// The calls of which somebody has to say whether they took effect.
    pub doubts: Vec<ToolCalled>,
}

impl WaitingRun {
    /// Reads what a run waits for from its record; nothing if it does not wait.
    #[must_use]
    pub fn of(run_id: RunId, replay: Replay) -> Option<Self> {
        let (requests, expires) = (replay.open_requests(), replay.expires());
        let doubted = |call: &&ToolCalled| replay.doubts.contains(&call.tool_call_id);
        let doubts = replay.calls.values().filter(doubted).cloned().collect();
        let Pause { reason, since, .. } = replay.pause?;
        Some(Self {
            run_id,
            agent: replay.agent,
            conversation_id: replay.accepted.conversation_id,
            reason,
            since,
            expires,
            requests,
            doubts,
        })
    }
}

impl RunRecords {
    /// Returns every run that waits for a person, the newest first. One about which everything is
    /// decided, and that nobody has gone on with yet, has no requests and no doubts.
    ///
    /// ```no_run
    /// # async fn example(runtime: axon_runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
    /// for run in runtime.records().waiting().await? {
    ///     for request in &run.requests {
    ///         println!("{} wants to call {} with {}", run.agent, request.name, request.args);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the runs cannot be read. A record that is none is left out.
    pub async fn waiting(&self) -> Result<Vec<WaitingRun>, StoreError> {
        let states = vec![RunState::Paused];
        let mut query = RunQuery { states, limit: PAGE, ..RunQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = self.store.runs(&query).await?;
            let Some(last) = page.last() else { return Ok(found) };
            query.after = Some(last.run_id.clone());
            for run in page {
                match self.replay(&run.run_id).await {
                    Ok(replay) => found.extend(WaitingRun::of(run.run_id, replay)),
                    // It was forgotten meanwhile.
                    Err(RecordError::Store(StoreError::NotFound(_))) => {}
                    Err(RecordError::Store(error)) => return Err(error),
                    Err(error) => {
                        tracing::error!(run = %run.run_id, %error, "a run that waits is left out");
                    }
                }
            }
        }
    }
}
