//! The records of runs: what can be read and decided without any agent.

mod handed;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axon_kernel::event::{PauseReason, Paused, Resolution, Resolved, RunEvent, Sequenced};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{ConversationId, MessageId, RunId, ToolCallId};
use axon_kernel::run::{Replay, ReplayError, RunState, Standing};
use axon_kernel::store::{Append, RunQuery, RunSummary, Store, StoreError};
use axon_kernel::time::Timestamp;
use axon_kernel::wire::{ArgsError, DeferredKind, DeferredRequest};

use crate::clock;

pub(crate) use handed::{UNWANTED, handed_runs};
pub use waiting::WaitingRun;

/// How far the numbers of a process that takes a run over are above the last recorded one: what the
/// process before it had shown and not recorded had numbers, too.
pub(crate) const TAKEOVER: u64 = 1_000_000;

/// How many turns of a conversation are looked through for a message that one of them was told. Who
/// has to ask again does so soon.
const TURNS: usize = 8;

/// The runs that a store holds. Cheap to clone.
///
/// ```no_run
/// # async fn example(runtime: axon_runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// use axon_runtime::kernel::event::Resolution;
/// use axon_runtime::kernel::ids::RunId;
///
/// let run = RunId::new("0198…");
/// let records = runtime.records();
/// for call in records.replay(&run).await?.undecided() {
///     records.resolve(&run, &call, Resolution::approve(), "alice").await?;
/// }
/// let outcome = runtime.resume(run).start().await?.outcome().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RunRecords {
    store: Arc<dyn Store>,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is recorded of the run is no record of one.
    #[error("the record of run `{run}` cannot be read")]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: ReplayError,
    },
    /// The run does not wait with this call.
    #[error("run `{run}` does not wait for a decision about call `{call}`{}", waits(undecided))]
    NotAsked {
        /// The run.
        run: RunId,
        /// The call.
        call: ToolCallId,
        /// The calls that it does wait with.
        undecided: Vec<ToolCallId>,
    },
    /// Somebody decided about the call before.
    #[error("call `{call}` of run `{run}` is decided already: {decided}")]
    Decided {
        /// The run.
        run: RunId,
        /// The call.
        call: ToolCallId,
        /// What was decided: `approve`, `deny`, `answer`, `retry`, `skip` or `fail`.
        decided: &'static str,
    },
    /// The time to decide about the call is over.
    #[error(
        "nobody decided about call `{call}` of run `{run}` in time: its time was over at {}",
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at.0))
    )]
    Expired {
        /// The run.
        run: RunId,
        /// The call.
        call: ToolCallId,
        /// When it was over.
        at: Timestamp,
    },
    /// The call cannot be made with the arguments that were given in place of the model's.
    #[error("call `{call}` of `{tool}` cannot be made with these arguments")]
    InvalidArgs {
        /// The call.
        call: ToolCallId,
        /// The tool.
        tool: String,
        /// Why.
        #[source]
        source: ArgsError,
    },
    /// The call waits for a decision of another kind.
    #[error("call `{call}` waits for {waits_for}, and that cannot be met with `{given}`")]
    OtherKind {
        /// The call.
        call: ToolCallId,
        /// What it waits for.
        waits_for: &'static str,
        /// What was decided.
        given: &'static str,
    },
    /// The call is handed to a run that waits with several calls, and what was decided fits one.
    #[error(
        "run `{run}` waits with {} calls, and `{given}` fits one only: decide there about {}",
        calls.len(),
        listed(calls)
    )]
    Several {
        /// The run that the call is handed to.
        run: RunId,
        /// What that waits with.
        calls: Vec<ToolCallId>,
        /// What was decided.
        given: &'static str,
    },
    /// The run answers a call of another one, and that has ended.
    #[error("run `{run}` answers a call of run `{parent}`, which has ended: nobody waits for it")]
    Unwanted {
        /// The run.
        run: RunId,
        /// The run that asked for it.
        parent: RunId,
    },
}

fn listed(calls: &[ToolCallId]) -> String {
    let calls: Vec<String> = calls.iter().map(|call| format!("`{call}`")).collect();
    calls.join(", ")
}

fn waits(undecided: &[ToolCallId]) -> String {
    match undecided {
        [] => ": it waits for none".to_owned(),
        calls => format!("; it waits with {}", listed(calls)),
    }
}

impl RecordError {
    /// Returns the code by which every door names this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Unreadable { .. } => "storage_damaged",
            Self::NotAsked { .. } | Self::OtherKind { .. } | Self::Several { .. } => {
                "invalid_decision"
            }
            Self::Unwanted { .. } => "run_ended",
            Self::InvalidArgs { .. } => "invalid_arguments",
            Self::Expired { .. } => "decision_too_late",
            Self::Decided { .. } => "already_decided",
        }
    }
}

/// A run that was claimed. Dropped, it is given up.
struct Claim {
    store: Arc<dyn Store>,
    run: Option<RunId>,
}

impl Claim {
    /// Claims a run; if nobody waits for that any more, it is given up at once.
    async fn of(store: Arc<dyn Store>, run: RunId) -> Result<Self, StoreError> {
        let owner = "a task that ended".to_owned();
        let lost = StoreError::Owned { run: run.clone(), owner };
        let claimed = tokio::spawn(async move {
            store.claim(&run).await?;
            Ok(Self { store, run: Some(run) })
        });
        claimed.await.unwrap_or(Err(lost))
    }

    async fn give_up(mut self) {
        if let Some(run) = self.run.take() {
            release(self.store.as_ref(), &run).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(run) = self.run.take() else { return };
        let store = self.store.clone();
        // Without an executor the process ends, and its runs are free.
        if let Ok(executor) = tokio::runtime::Handle::try_current() {
            executor.spawn(async move { release(store.as_ref(), &run).await });
        }
    }
}

async fn release(store: &dyn Store, run: &RunId) {
    if let Err(error) = store.release(run).await {
        tracing::warn!(%run, %error, "a run could not be given up");
    }
}

/// Whether a run is still this store's after an append: a pause or an end gives it up, and somebody
/// else may have it by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owned {
    Yes,
    No,
}

impl RunRecords {
    /// Reads and writes `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Returns the turn of a conversation, among its last ones, that was told `message` while it was
    /// under way, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot tell.
    pub async fn turn_told(
        &self,
        conversation: &ConversationId,
        message: &MessageId,
    ) -> Result<Option<RunId>, StoreError> {
        let conversation = Some(conversation.clone());
        let last = RunQuery { conversation, limit: TURNS, ..RunQuery::default() };
        for turn in self.store.runs(&last).await? {
            let events = self.store.records(&turn.run_id, 0).await?;
            let is_it = |event: &Sequenced| matches!(&event.event, RunEvent::Steered(told) if told.message_id == *message);
            if events.iter().any(is_it) {
                return Ok(Some(turn.run_id));
            }
        }
        Ok(None)
    }

    /// Returns what is known of `run` without reading its record.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], or what else the store says.
    pub async fn summary(&self, run: &RunId) -> Result<RunSummary, StoreError> {
        self.store.run(run).await
    }

    /// Returns the recorded events of `run` behind the event `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], or what else the store says.
    pub async fn events(&self, run: &RunId, after: u64) -> Result<Vec<Sequenced>, StoreError> {
        self.store.records(run, after).await
    }

    /// Returns everything that `run` has come to.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if there is no such run, or its record is none.
    pub async fn replay(&self, run: &RunId) -> Result<Replay, RecordError> {
        let records = self.store.records(run, 0).await?;
        Replay::read(&records)
            .map_err(|source| RecordError::Unreadable { run: run.clone(), source })
    }

    /// Records a decision about a call that `run` waits with, and returns the calls that still want
    /// one. Once there is none, [`Runtime::resume`](crate::Runtime::resume) goes on with the run.
    /// The first decision about a call stands. An approval for the whole run is one of the other
    /// calls of the same tool, too, that the run waits with.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the run has ended, another process drives it, it waits for nothing of the
    /// kind or not any more, or the tool cannot take these arguments. Nothing was recorded then.
    pub async fn resolve(
        &self,
        run: &RunId,
        call: &ToolCallId,
        resolution: Resolution,
        by: &str,
    ) -> Result<Vec<ToolCallId>, RecordError> {
        self.decide(run, call, (resolution, by)).await
    }

    /// Records what becomes of the calls of a run that this process has claimed, if their time is
    /// over and nobody has decided about them. Runs that they are handed to end then; those of them
    /// that somebody drives are returned, and have to be told.
    pub(crate) async fn expire(
        &self,
        run: &RunId,
        replay: Replay,
    ) -> Result<(Replay, Vec<RunId>), RecordError> {
        let expired = replay.expired(clock::now());
        if expired.is_empty() {
            return Ok((replay, Vec::new()));
        }
        tracing::warn!(%run, calls = expired.len(), "nobody decided in time");
        let calls: Vec<ToolCallId> = expired.iter().map(|over| over.tool_call_id.clone()).collect();
        let handed = self.handed_of(run, &replay, &calls).await?;
        let events = expired.into_iter().map(RunEvent::Resolved).collect();
        let (replay, _) = self.append(run, replay, events).await?;
        Ok((replay, self.cancel_all(handed).await))
    }

    /// Ends a run that nobody drives: one that waits for a person, or whose process has gone. The
    /// runs that it has handed work to end, too, as far as nobody drives them.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the run has ended, or another process drives it.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<(), RecordError> {
        let driven = self.cancel_tree(run, reason).await?;
        for below in driven {
            tracing::warn!(%run, %below, "a run that nobody wants is driven elsewhere");
        }
        Ok(())
    }

    /// Records why a run that nobody drives waits for a person.
    pub(crate) async fn pause(&self, run: &RunId, paused: RunEvent) -> Result<(), RecordError> {
        self.claimed(run, async |replay| {
            let (_, owned) = self.append(run, replay, vec![paused]).await?;
            Ok(((), owned))
        })
        .await
    }

    /// Does something to the record of a run that nobody else may drive meanwhile.
    async fn claimed<T>(
        &self,
        run: &RunId,
        act: impl AsyncFnOnce(Replay) -> Result<(T, Owned), RecordError>,
    ) -> Result<T, RecordError> {
        let mut claim = Claim::of(self.store.clone(), run.clone()).await?;
        let done = match self.replay(run).await {
            Ok(replay) => act(replay).await,
            Err(error) => Err(error),
        };
        if matches!(done, Ok((_, Owned::No))) {
            claim.run = None;
        }
        claim.give_up().await;
        done.map(|(done, _)| done)
    }

    async fn append(
        &self,
        run: &RunId,
        mut replay: Replay,
        events: Vec<RunEvent>,
    ) -> Result<(Replay, Owned), RecordError> {
        let paused = replay.status.state() == Some(RunState::Paused);
        let first = replay.seq + if paused { 1 } else { TAKEOVER };
        let expected = replay.recorded;
        let placed: Vec<Sequenced> = (first..)
            .zip(events)
            .map(|(seq, event)| {
                let (run_id, attempt, at) = (run.clone(), replay.attempt, clock::now());
                Sequenced { run_id, seq, attempt, at, event }
            })
            .collect();
        for event in &placed {
            let taken = replay.push(event);
            taken.map_err(|source| RecordError::Unreadable { run: run.clone(), source })?;
        }
        let append = Append { run, expected, events: &placed, turn: None, writes: &[] };
        self.store.append(append).await?;
        for ended in placed.iter().filter(|event| event.event.is_terminal()) {
            crate::meters::run_ended_at_rest(&replay.accepted.agent, &ended.event);
        }
        let gives_up = |event: &Sequenced| {
            event.event.is_terminal() || matches!(event.event, RunEvent::Paused(_))
        };
        let owned = if placed.iter().any(gives_up) { Owned::No } else { Owned::Yes };
        Ok((replay, owned))
    }
}

/// Returns the pause of a run whose process went between a call and its result.
pub(crate) fn interrupted(call: ToolCallId) -> RunEvent {
    let message = "the process that ran it has gone";
    let failure = Box::new(Failure::new(FailureKind::RunnerDied, message));
    RunEvent::Paused(Paused::until_decided(PauseReason::Ambiguous { tool_call_id: call, failure }))
}

/// Returns the decisions that an approval for the whole run is about other calls that wait.
fn also_decided(replay: &Replay, resolved: &Resolved) -> Vec<Resolved> {
    let mut standing = Standing::default();
    standing.learn(&replay.requests, resolved);
    let mut others = standing.decide(&replay.open_requests());
    others.retain(|other| other.tool_call_id != resolved.tool_call_id);
    others
}

fn not_asked(run: &RunId, replay: &Replay, call: &ToolCallId) -> RecordError {
    RecordError::NotAsked { run: run.clone(), call: call.clone(), undecided: replay.undecided() }
}

/// Checks that a call still waits to be decided about, and returns what was asked about it.
fn check_undecided(
    run: &RunId,
    replay: &Replay,
    call: &ToolCallId,
) -> Result<Option<DeferredRequest>, RecordError> {
    let requests = replay.pause.as_ref().map(axon_kernel::run::Pause::requests).unwrap_or_default();
    let request = requests.into_iter().find(|request| request.tool_call_id == *call);
    let doubted = replay.doubts.contains(call);
    if let (false, Some(before)) = (doubted, replay.resolutions.get(call)) {
        let (run, call) = (run.clone(), call.clone());
        return Err(RecordError::Decided { run, call, decided: before.label() });
    }
    if let (Some(request), Some(expiry)) = (&request, replay.expires())
        && expiry.is_over(clock::now())
    {
        let (run, call) = (run.clone(), request.tool_call_id.clone());
        return Err(RecordError::Expired { run, call, at: expiry.at });
    }
    Ok(request)
}

/// Checks that a call waits for a decision of this kind.
fn check_kind(run: &RunId, replay: &Replay, resolved: &Resolved) -> Result<(), RecordError> {
    let call = &resolved.tool_call_id;
    let request = check_undecided(run, replay, call)?;
    let doubted = replay.doubts.contains(call);
    if let (Some(request), Resolution::Approve { args: Some(args), .. }) =
        (&request, &resolved.resolution)
        && request.kind == DeferredKind::Approval
    {
        let (call, tool) = (request.tool_call_id.clone(), request.name.clone());
        let invalid = |source| RecordError::InvalidArgs { call, tool, source };
        request.check_args(args).map_err(invalid)?;
    }
    let (waits_for, fits) = match request {
        Some(request) => (named(request.kind), request.kind.takes(&resolved.resolution)),
        None if doubted => {
            let about_effect = matches!(
                resolved.resolution,
                Resolution::Retry | Resolution::Skip { .. } | Resolution::Fail { .. }
            );
            ("word whether it took effect", about_effect)
        }
        None => return Err(not_asked(run, replay, call)),
    };
    let given = resolved.resolution.label();
    match fits {
        true => Ok(()),
        false => Err(RecordError::OtherKind { call: call.clone(), waits_for, given }),
    }
}

fn named(kind: DeferredKind) -> &'static str {
    match kind {
        DeferredKind::Approval => "an approval",
        DeferredKind::Question => "an answer",
        DeferredKind::External => "the result of a call that is made elsewhere",
    }
}
