//! Decisions, and what they have to do with calls that another agent answers: those are about what
//! the run of that agent waits for, and go there. What ends a run ends the runs below it, too.

use axon_kernel::event::{Cancelled, Resolution, Resolved, RunEvent, ToolCalled};
use axon_kernel::ids::{RunId, ToolCallId, delegated_run};
use axon_kernel::run::{Replay, RunStatus};
use axon_kernel::spec::Effect;
use axon_kernel::store::StoreError;

use crate::clock;

use super::{
    Claim, Owned, RecordError, RunRecords, also_decided, check_kind, check_undecided, interrupted,
    not_asked,
};

/// What somebody has decided.
struct Word {
    resolution: Resolution,
    by: String,
}

/// A run that is claimed, and what is to be recorded of it.
struct Place {
    claim: Claim,
    run: RunId,
    replay: Replay,
    events: Vec<RunEvent>,
}

/// Why a run is called off that another one has asked for.
pub(crate) const UNWANTED: &str = "the run that asked for it has ended, or goes on without it";

impl RunRecords {
    /// Records a decision about `call` of `run`, and where that is handed to another agent, about
    /// all that its run waits for. Every run is claimed, and all is checked, before anything is
    /// recorded: a decision that is refused leaves nothing decided.
    pub(super) async fn decide(
        &self,
        run: &RunId,
        call: &ToolCallId,
        (resolution, by): (Resolution, &str),
    ) -> Result<Vec<ToolCallId>, RecordError> {
        let word = Word { resolution, by: by.to_owned() };
        let mut places = Vec::new();
        let decided = match self.prepare(run, Some(call), &word, &mut places).await {
            Ok(()) => self.record_all(&mut places).await,
            Err(error) => Err(error),
        };
        for place in places {
            place.claim.give_up().await;
        }
        decided
    }

    /// Claims `run` and those below it that are meant, too. Without a `call` all are meant that the
    /// run waits with.
    async fn prepare(
        &self,
        run: &RunId,
        call: Option<&ToolCallId>,
        word: &Word,
        places: &mut Vec<Place>,
    ) -> Result<(), RecordError> {
        let claim = Claim::of(self.store.clone(), run.clone()).await?;
        let replay = match self.replay(run).await {
            Ok(replay) => replay,
            Err(error) => {
                claim.give_up().await;
                return Err(error);
            }
        };
        let (here, calls) = (places.len(), call.cloned());
        let calls = calls.map_or_else(|| replay.undecided(), |call| vec![call]);
        let place = Place { claim, run: run.clone(), replay: replay.clone(), events: Vec::new() };
        places.push(place);
        if here == 0
            && let Some(parent) = self.gone_parent(&replay).await?
        {
            return Err(RecordError::Unwanted { run: run.clone(), parent });
        }
        let given = word.resolution.label();
        if calls.len() > 1 && !fits_many(&word.resolution) {
            return Err(RecordError::Several { run: run.clone(), calls, given });
        }
        let mut events = Vec::new();
        for call in calls {
            if replay.pause.is_none() {
                check_open(run, &replay, &call)?;
                events.push(interrupted(call.clone()));
            }
            let resolved = self.down(run, (&replay, call), word, places).await?;
            let others = also_decided(&replay, &resolved);
            events.extend([resolved].into_iter().chain(others).map(RunEvent::Resolved));
        }
        places[here].events = events;
        Ok(())
    }

    /// Checks what is decided about one call, and prepares it in the run that the call is handed to.
    /// Returns what is recorded of the call itself: where it is handed on, that it goes on.
    async fn down(
        &self,
        run: &RunId,
        (replay, call): (&Replay, ToolCallId),
        word: &Word,
        places: &mut Vec<Place>,
    ) -> Result<Resolved, RecordError> {
        let (resolution, by) = (word.resolution.clone(), word.by.clone());
        let Some((other, theirs)) = self.handed(run, &call, replay).await? else {
            let resolved = Resolved { tool_call_id: call, resolution, by };
            check_kind(run, replay, &resolved)?;
            return Ok(resolved);
        };
        check_undecided(run, replay, &call)?;
        if theirs.pause.is_some() && !theirs.undecided().is_empty() {
            Box::pin(self.prepare(&other, None, word, places)).await?;
        } else if !matches!(resolution, Resolution::Approve { args: None, .. }) {
            // It was decided there, and this run can only go on.
            let decided = Resolution::approve().label();
            return Err(RecordError::Decided { run: run.clone(), call, decided });
        }
        // Here the call goes on, whatever was said about it: the other agent has the word.
        let by = match resolution.label() {
            "approve" => by,
            said => format!("{by} ({said}, handed on)").trim_start().to_owned(),
        };
        Ok(Resolved { tool_call_id: call, resolution: Resolution::approve(), by })
    }

    /// Records what is prepared, the lowest run first, and returns what the uppermost waits with
    /// then.
    async fn record_all(&self, places: &mut [Place]) -> Result<Vec<ToolCallId>, RecordError> {
        let mut undecided = Vec::new();
        for place in places.iter_mut().rev() {
            let events = std::mem::take(&mut place.events);
            let (after, owned) = self.append(&place.run, place.replay.clone(), events).await?;
            if owned == Owned::No {
                place.claim.run = None;
            }
            undecided = after.undecided();
        }
        Ok(undecided)
    }

    /// Records that calls go on that are handed to other agents and that nobody has decided about
    /// here, where it is decided there, or the time to decide was over: this run waits for nothing then.
    pub(crate) async fn learn_from_below(
        &self,
        run: &RunId,
        replay: Replay,
    ) -> Result<Replay, RecordError> {
        let calls = self.decided_below(run, &replay).await?;
        if calls.is_empty() {
            return Ok(replay);
        }
        let (resolution, by) = (Resolution::approve(), "it was decided below".to_owned());
        let resolved = |tool_call_id| {
            let (resolution, by) = (resolution.clone(), by.clone());
            RunEvent::Resolved(Resolved { tool_call_id, resolution, by })
        };
        let events = calls.into_iter().map(resolved).collect();
        Ok(self.append(run, replay, events).await?.0)
    }

    /// Returns the calls of a run that somebody has to decide about before it can go on: not those
    /// that are handed to another agent, whose run waits for nobody any more.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the runs below cannot be read.
    pub async fn undecided(
        &self,
        run: &RunId,
        replay: &Replay,
    ) -> Result<Vec<ToolCallId>, RecordError> {
        let below = self.decided_below(run, replay).await?;
        let mut undecided = replay.undecided();
        undecided.retain(|call| !below.contains(call));
        Ok(undecided)
    }

    /// Returns the calls that are open here only, because what they are handed to waits no more.
    pub(crate) async fn decided_below(
        &self,
        run: &RunId,
        replay: &Replay,
    ) -> Result<Vec<ToolCallId>, RecordError> {
        let mut decided = Vec::new();
        for request in replay.open_requests() {
            let call = request.tool_call_id;
            let Some((other, theirs)) = self.handed(run, &call, replay).await? else { continue };
            let over = theirs.pause.is_none() || !theirs.expired(clock::now()).is_empty();
            if over || Box::pin(self.undecided(&other, &theirs)).await?.is_empty() {
                decided.push(call);
            }
        }
        Ok(decided)
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
        let theirs = match self.replay(&other).await {
            Err(RecordError::Store(StoreError::NotFound(_))) => return Ok(None),
            theirs => theirs?,
        };
        // A tool can say what it likes of itself; only the other run knows whose call it answers.
        let parent = theirs.accepted.terms.parent.as_ref();
        let is_theirs =
            parent.is_some_and(|parent| parent.run_id == *run && parent.tool_call_id == *call);
        Ok(is_theirs.then_some((other, theirs)))
    }

    /// Returns the runs that `calls` of `run` are handed to, which waits with them.
    pub(super) async fn handed_of(
        &self,
        run: &RunId,
        replay: &Replay,
        calls: &[ToolCallId],
    ) -> Result<Vec<RunId>, RecordError> {
        let mut found = Vec::new();
        for call in calls {
            found.extend(self.handed(run, call, replay).await?.map(|(other, _)| other));
        }
        Ok(found)
    }

    /// Returns the run that has asked for this one, if it has ended: nobody waits for this one then.
    pub(crate) async fn gone_parent(&self, replay: &Replay) -> Result<Option<RunId>, StoreError> {
        let Some(parent) = &replay.accepted.terms.parent else { return Ok(None) };
        match self.store.run(&parent.run_id).await {
            Ok(summary) if summary.state.is_open() => Ok(None),
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(Some(parent.run_id.clone())),
            Err(error) => Err(error),
        }
    }

    /// Ends a run that nobody drives, and those that it has handed work to. Returns the runs below
    /// it that somebody drives: those have to be told.
    pub(crate) async fn cancel_tree(
        &self,
        run: &RunId,
        reason: &str,
    ) -> Result<Vec<RunId>, RecordError> {
        let cancelled = RunEvent::Cancelled(Cancelled { reason: reason.to_owned() });
        let handed = self
            .claimed(run, async |replay| {
                let mut handed = handed_runs(run, replay.calls.values());
                let asked = replay.pause.iter().flat_map(|pause| pause.requests());
                let asked: Vec<ToolCallId> = asked.map(|request| request.tool_call_id).collect();
                handed.extend(self.handed_of(run, &replay, &asked).await?);
                let (_, owned) = self.append(run, replay, vec![cancelled]).await?;
                Ok((handed, owned))
            })
            .await?;
        Ok(self.cancel_all(handed).await)
    }

    /// Ends those of `runs` that are open and that nobody drives. Returns the others.
    pub(crate) async fn cancel_all(&self, runs: Vec<RunId>) -> Vec<RunId> {
        let mut driven = Vec::new();
        for run in runs {
            match Box::pin(self.cancel_tree(&run, UNWANTED)).await {
                Ok(below) => driven.extend(below),
                Err(RecordError::Store(StoreError::Owned { .. })) => driven.push(run),
                // What is no call of another agent has no run.
                Err(RecordError::Store(StoreError::NotFound(_) | StoreError::Ended { .. })) => {}
                Err(error) => tracing::warn!(%run, %error, "a run that nobody wants stays open"),
            }
        }
        driven
    }

    /// Returns whether a run that `run` has handed work to, or one below, has made a call with effect
    /// `once`.
    pub(crate) async fn has_effects_below(&self, run: &RunId) -> Result<bool, RecordError> {
        let records = self.store.records(run, 0).await?;
        let calls = records.iter().filter_map(|record| {
            if let RunEvent::ToolCalled(called) = &record.event { Some(called) } else { None }
        });
        for other in handed_runs(run, calls) {
            if self.has_effects(&other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether `run`, or one below it, has made a call with effect `once`.
    pub(crate) async fn has_effects(&self, run: &RunId) -> Result<bool, RecordError> {
        match self.replay(run).await {
            Ok(replay) if replay.committed || !replay.doubts.is_empty() => Ok(true),
            Ok(_) => Box::pin(self.has_effects_below(run)).await,
            Err(RecordError::Store(StoreError::NotFound(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Returns the runs that answer `calls` of `run`, as far as those are handed to another agent.
pub(crate) fn handed_runs<'a>(
    run: &RunId,
    calls: impl Iterator<Item = &'a ToolCalled>,
) -> Vec<RunId> {
    // Calls of agents may be made again, and are recorded as such.
    let may_be = calls.filter(|called| called.effect == Effect::Idempotent);
    may_be.map(|called| delegated_run(run, called.step, &called.tool_call_id)).collect()
}

/// Returns whether a decision makes sense about several calls at once.
fn fits_many(resolution: &Resolution) -> bool {
    match resolution {
        Resolution::Approve { args, .. } => args.is_none(),
        Resolution::Deny { .. } | Resolution::Fail { .. } => true,
        Resolution::Answer { .. } | Resolution::Retry | Resolution::Skip { .. } => false,
    }
}

fn check_open(run: &RunId, replay: &Replay, call: &ToolCallId) -> Result<(), RecordError> {
    let running = matches!(replay.status, RunStatus::Running { .. });
    match running && replay.doubts.contains(call) {
        true => Ok(()),
        false => Err(not_asked(run, replay, call)),
    }
}
