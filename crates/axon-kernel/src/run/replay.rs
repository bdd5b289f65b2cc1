//! What the record of a run says, for whoever goes on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{IllegalEvent, RunStatus, Standing};
use crate::event::{
    Accepted, Checkpoint, Decided, Expiry, PauseReason, Paused, Recovered, Resolution, Resolved,
    Resumed, RunEvent, Sequenced, Steered, ToolCalled, ToolOutcome, ToolReturned,
};
use crate::failure::Failure;
use crate::ids::{Attempt, ToolCallId};
use crate::json::RawJson;
use crate::policy::{Chain, Decision, FallbackTo};
use crate::spec::{AgentName, Effect, Kind, ModelName, OnTimeout};
use crate::time::Timestamp;
use crate::wire::DeferredRequest;

/// Everything that a run has come to, read from its record.
///
/// Whoever goes on with a run gets the same prefix as whoever began it, byte for byte, and what is
/// recorded as done is not done again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What was taken on.
    pub accepted: Accepted,
    /// When.
    pub accepted_at: Timestamp,
    /// The agent that answers now: a fallback may have taken over.
    pub agent: AgentName,
    /// The model that a fallback has named.
    pub fallback_model: Option<ModelName>,
    /// Where the run stands.
    pub status: RunStatus,
    /// The number of the last recorded event.
    pub seq: u64,
    /// How many events are recorded.
    pub recorded: u64,
    /// The last attempt that is recorded.
    pub attempt: Attempt,
    /// When it has to have ended, unless it waits for a person.
    pub deadline: Timestamp,
    /// What the run waits for.
    pub pause: Option<Pause>,
    /// The checkpoints of the agent that answers now, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The results of calls since the last checkpoint.
    pub results: BTreeMap<ToolCallId, RawJson>,
    /// The digest of the definition that the run goes on with.
    pub definition: String,
    /// The failure that it was given up for; only its end is missing.
    pub given_up: Option<Failure>,
    /// Whether an attempt has begun since the run was last taken over, or got any further.
    pub attempted: bool,
    /// Calls with effect `once` since the last checkpoint of which nobody knows whether they took
    /// effect, and that nobody has decided about.
    pub doubts: BTreeSet<ToolCallId>,
    /// Whether a call with effect `once` has ended.
    pub committed: bool,
    /// The calls that the run has waited with since the last checkpoint.
    pub requests: Vec<DeferredRequest>,
    /// What was decided about calls that were waited for, since the last checkpoint.
    pub resolutions: BTreeMap<ToolCallId, Resolution>,
    /// The tools whose calls are approved without asking.
    pub standing: Standing,
    /// The calls since the last checkpoint, by their identity.
    pub calls: BTreeMap<ToolCallId, ToolCalled>,
    /// What was tried after failures.
    pub tried: Vec<(Attempt, Failure, Decision)>,
    /// When the next attempt is due, if one was put off.
    pub due: Option<Timestamp>,
    /// The messages that came while the run was under way and are in no checkpoint.
    pub untold: Vec<Steered>,
    /// Those that are in one.
    pub told: Vec<Steered>,
    /// How often the run was taken over since it last got any further.
    pub recoveries: u32,
    /// The hand-offs that were made, from whom to whom.
    pub handoffs: Vec<(AgentName, AgentName)>,
    /// Who goes on behind the next checkpoint, and the digest of that definition.
    pub next_agent: Option<(AgentName, String)>,
    /// The state that the run carries, as its tools have left it.
    pub state: Map<String, Value>,
    /// How often the run went on after a pause.
    pub resumptions: u32,
    /// Since when it has been under way: since its acceptance, or its last pause.
    pub since: Timestamp,
    /// The attempt that has begun and of whose end there is no record, and when it began.
    pub open_attempt: Option<(Attempt, Timestamp)>,
    /// When the last event was recorded.
    pub last_at: Timestamp,
}

/// The pause that a run is in.
#[derive(Clone, Debug, PartialEq)]
pub struct Pause {
    /// What it waits for.
    pub reason: PauseReason,
    /// Since when.
    pub since: Timestamp,
    /// Until when, and what happens then.
    pub expires: Option<Expiry>,
}

/// A record that is none of a run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It does not begin with what was taken on.
    #[error("the record of the run does not begin with its acceptance")]
    NoBeginning,
    /// Its events cannot have come in this order.
    #[error("event {seq} of the run cannot have come where it stands")]
    Illegal {
        /// The event's number.
        seq: u64,
        /// Why.
        #[source]
        illegal: IllegalEvent,
    },
}

impl Replay {
    /// Reads the record of a run.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] if it is none.
    pub fn read(records: &[Sequenced]) -> Result<Self, ReplayError> {
        let (first, rest) = records.split_first().ok_or(ReplayError::NoBeginning)?;
        let RunEvent::Accepted(accepted) = &first.event else {
            return Err(ReplayError::NoBeginning);
        };
        let mut replay = Self::new(accepted.clone(), first);
        for record in rest {
            replay.push(record)?;
        }
        Ok(replay)
    }

    /// Takes in one more record.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Illegal`] if it cannot come next.
    pub fn push(&mut self, record: &Sequenced) -> Result<(), ReplayError> {
        let next = self.status.next(&record.event);
        self.status = next.map_err(|illegal| ReplayError::Illegal { seq: record.seq, illegal })?;
        self.take(record);
        self.seq = record.seq;
        self.last_at = record.at;
        self.recorded += 1;
        self.attempt = self.attempt.max(record.attempt);
        Ok(())
    }

    fn new(accepted: Accepted, first: &Sequenced) -> Self {
        Self {
            agent: accepted.agent.clone(),
            fallback_model: None,
            status: RunStatus::Queued,
            seq: first.seq,
            recorded: 1,
            attempt: first.attempt,
            deadline: first.at.after(Duration::from_millis(accepted.terms.timeout_ms)),
            pause: None,
            checkpoints: Vec::new(),
            results: BTreeMap::new(),
            definition: accepted.terms.definition.clone(),
            given_up: None,
            attempted: false,
            doubts: BTreeSet::new(),
            committed: false,
            requests: Vec::new(),
            resolutions: BTreeMap::new(),
            standing: Standing::of(&accepted.terms),
            calls: BTreeMap::new(),
            tried: Vec::new(),
            due: None,
            untold: Vec::new(),
            told: Vec::new(),
            recoveries: 0,
            handoffs: Vec::new(),
            next_agent: None,
            state: accepted.terms.state.as_ref().and_then(|s| s.decode().ok()).unwrap_or_default(),
            resumptions: 0,
            since: first.at,
            open_attempt: None,
            last_at: first.at,
            accepted_at: first.at,
            accepted,
        }
    }

    fn take(&mut self, record: &Sequenced) {
        use RunEvent as E;
        match &record.event {
            E::ToolCalled(called) => self.called(called),
            E::ToolReturned(returned) => self.returned(returned),
            E::Checkpoint(checkpoint) => self.checkpoint(checkpoint),
            E::AttemptFailed(failed) => {
                self.open_attempt = None;
                self.tried.push((record.attempt, failed.failure.clone(), Decision::Fail));
            }
            E::Decided(decided) => self.decided(decided, record.at),
            E::Paused(paused) => self.paused(paused, record.at),
            E::Resolved(resolved) => self.resolved(resolved),
            E::Resumed(Resumed { timeout_ms, definition }) => {
                self.resumptions = self.resumptions.saturating_add(1);
                self.since = record.at;
                self.pause = None;
                self.recoveries = 0;
                self.attempted = self.is_flow();
                self.given_up = None;
                self.due = None;
                self.deadline = record.at.after(Duration::from_millis(*timeout_ms));
                self.definition =
                    definition.clone().unwrap_or(std::mem::take(&mut self.definition));
            }
            E::Recovered(Recovered { recoveries, timeout_ms, definition }) => {
                self.recoveries = *recoveries;
                self.attempted = self.is_flow();
                self.definition =
                    definition.clone().unwrap_or(std::mem::take(&mut self.definition));
                if let Some(timeout_ms) = timeout_ms {
                    self.deadline = record.at.after(Duration::from_millis(*timeout_ms));
                }
            }
            // A flow has no runner that would begin an attempt: it is at work from here on.
            E::Started(_) => self.attempted = self.is_flow(),
            E::AttemptStarted(_) => {
                self.open_attempt = Some((record.attempt, record.at));
                self.due = None;
                self.given_up = None;
                self.attempted = true;
            }
            E::Steered(steered) => self.untold.push(steered.clone()),
            E::StateChanged(changed) => changed.patch.apply(&mut self.state),
            E::HandedOff(handed) => {
                self.handoffs.push((self.agent.clone(), handed.to.clone()));
                self.next_agent = Some((handed.to.clone(), handed.definition.clone()));
            }
            E::Accepted(_)
            | E::TextDelta(_)
            | E::ThinkingDelta(_)
            | E::PartialOutput(_)
            | E::Model(_)
            | E::Log(_)
            | E::ToolProgress(_)
            | E::Delegated(_)
            | E::Retracted(_)
            | E::Completed(_)
            | E::Failed(_)
            | E::Cancelled(_)
            | E::Rejected(_) => {}
        }
    }

    fn paused(&mut self, paused: &Paused, since: Timestamp) {
        let Paused { reason, expires } = paused;
        let pause = Pause { reason: reason.clone(), since, expires: *expires };
        for request in pause.requests() {
            if request.handed_to().is_some() {
                // The other run may wait again and again: each time it is decided anew.
                self.resolutions.remove(&request.tool_call_id);
            }
        }
        self.requests.extend(pause.requests());
        self.pause = Some(pause);
        self.open_attempt = None;
    }

    fn called(&mut self, called: &ToolCalled) {
        let call = &called.tool_call_id;
        if called.effect == Effect::Once {
            self.doubts.insert(call.clone());
        }
        self.calls.insert(call.clone(), called.clone());
    }

    /// Returns whether what answers has no runner, and goes on call by call.
    fn is_flow(&self) -> bool {
        self.accepted.terms.kind != Kind::Agent
    }

    fn returned(&mut self, returned: &ToolReturned) {
        if self.is_flow() {
            // It got further.
            self.recoveries = 0;
        }
        let call = &returned.tool_call_id;
        let once = self.calls.get(call).is_some_and(|called| called.effect == Effect::Once);
        self.committed |= once && returned.outcome.was_made();
        match returned.outcome {
            ToolOutcome::Ok => {
                self.doubts.remove(call);
                self.results.insert(call.clone(), returned.result.clone());
            }
            ToolOutcome::Deferred => {
                self.doubts.remove(call);
                self.results.remove(call);
            }
            // Without a result, no later attempt would know that the call was made.
            ToolOutcome::Retry | ToolOutcome::Failed => {}
        }
    }

    fn resolved(&mut self, resolved: &Resolved) {
        let call = &resolved.tool_call_id;
        self.doubts.remove(call);
        self.standing.learn(&self.requests, resolved);
        if let Resolution::Skip { result } = &resolved.resolution {
            self.results.insert(call.clone(), result.clone());
        } else if let Some(Resolution::Skip { .. }) = self.resolutions.get(call) {
            // It was decided otherwise before.
            self.results.remove(call);
        }
        let resolution = resolved.resolution.clone().after(self.resolutions.get(call));
        self.resolutions.insert(call.clone(), resolution);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let told = self.untold.extract_if(.., |m| checkpoint.delivered.contains(&m.message_id));
        self.told.extend(told);
        self.checkpoints.push(checkpoint.clone());
        self.step_over();
        if checkpoint.hands_on {
            self.open_attempt = None;
        }
        if checkpoint.hands_on
            && let Some((next, definition)) = self.next_agent.take()
        {
            self.agent = next;
            self.definition = definition;
            self.fallback_model = None;
            self.standing = Standing::beforehand(&self.accepted.terms.approve);
        }
        self.recoveries = 0;
        self.attempted = false;
    }

    fn step_over(&mut self) {
        self.results.clear();
        self.calls.clear();
        self.requests.clear();
        self.resolutions.clear();
        self.doubts.clear();
    }

    fn decided(&mut self, decided: &Decided, at: Timestamp) {
        if let Some(last) = self.tried.last_mut() {
            last.2 = decided.decision.clone();
        }
        match &decided.decision {
            Decision::Retry { after_ms } => {
                self.due = Some(at.after(Duration::from_millis(*after_ms)));
            }
            Decision::Fallback { to: FallbackTo::Model(model) } => {
                self.fallback_model = Some(model.clone());
            }
            Decision::Fallback { to: FallbackTo::Agent(agent) } => {
                self.agent = agent.clone();
                self.next_agent = None;
                self.fallback_model = None;
                self.checkpoints.clear();
                self.standing.clear();
                self.step_over();
                self.told.append(&mut self.untold);
                std::mem::swap(&mut self.told, &mut self.untold);
            }
            Decision::Escalate | Decision::Fail => {
                self.given_up = self.tried.last().map(|(_, failure, _)| failure.clone());
            }
            Decision::Ask { .. } => {}
        }
    }

    /// Returns what was tried, for the policy; `allowed` says how many retries a failure has.
    #[must_use]
    pub fn chain(&self, allowed: impl Fn(&Failure) -> u32) -> Chain {
        let mut chain = Chain::default();
        for (attempt, failure, decision) in &self.tried {
            chain.push(*attempt, failure, decision, allowed(failure));
        }
        chain
    }

    /// Returns the requests of the pause that nobody has decided about.
    #[must_use]
    pub fn open_requests(&self) -> Vec<DeferredRequest> {
        let asked = self.pause.as_ref().map(Pause::requests).unwrap_or_default();
        let open =
            |request: &DeferredRequest| !self.resolutions.contains_key(&request.tool_call_id);
        asked.into_iter().filter(open).collect()
    }

    /// Returns when the pause is over, if somebody still has to decide about it.
    #[must_use]
    pub fn expires(&self) -> Option<Expiry> {
        let expires = self.pause.as_ref()?.expires?;
        (!self.open_requests().is_empty()).then_some(expires)
    }

    /// Returns what becomes of the calls that nobody has decided about, if their time is over by
    /// `now`.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<Resolved> {
        let Some(expiry) = self.expires().filter(|expiry| expiry.is_over(now)) else {
            return Vec::new();
        };
        let waited = humantime::format_duration(Duration::from_millis(expiry.timeout_ms));
        let message = format!("Nobody decided about this call within {waited}.");
        let resolution = match expiry.then {
            OnTimeout::Deny => Resolution::Deny { message: Some(message) },
            OnTimeout::Fail => Resolution::Fail { message: Some(message) },
        };
        let open = self.open_requests().into_iter();
        open.map(|request| Resolved {
            tool_call_id: request.tool_call_id,
            resolution: resolution.clone(),
            by: "approvals.timeout".to_owned(),
        })
        .collect()
    }

    /// Returns the calls that somebody has to decide about before the run can go on.
    #[must_use]
    pub fn undecided(&self) -> Vec<ToolCallId> {
        let open = self.open_requests().into_iter().map(|request| request.tool_call_id);
        self.doubts.iter().cloned().chain(open).collect()
    }
}

impl Pause {
    /// Returns the calls that wait for an approval or an answer.
    #[must_use]
    pub fn requests(&self) -> Vec<DeferredRequest> {
        match &self.reason {
            PauseReason::Approval { requests } => requests.decode().unwrap_or_default(),
            PauseReason::Ambiguous { .. }
            | PauseReason::Changed { .. }
            | PauseReason::Quarantined { .. }
            | PauseReason::Interrupted { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
