//! Goes on with the runs that nobody drives any more: at the start, and whenever another process
//! that shares the store has gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use axon_kernel::event::{PauseReason, Paused, RunEvent};
use axon_kernel::ids::RunId;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::spec::AgentName;
use axon_kernel::store::{RunQuery, RunSummary, StoreError};
use futures_util::{TryStreamExt, stream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Duration;

use crate::clock;
use crate::records::{RecordError, RunRecords};
use crate::run::{Refusal, Resume, ResumeError};
use crate::services::Services;

/// How often it is looked for runs whose process has gone meanwhile.
const AGAIN: Duration = Duration::from_secs(10);

/// How soon it is looked again for the next turns of conversations.
const SOON: Duration = Duration::from_secs(1);

/// How many runs are read in one go.
const PAGE: usize = 256;

/// How many runs of an agent may be on their way back at the same time. They share what waits for
/// the disk; then they wait for room in their agent.
const AT_ONCE: usize = 64;

/// Goes on with open runs for as long as the runtime lives. Each agent has a lane of its own, so
/// that one that has no room holds nobody else up.
pub(crate) async fn recover(services: Weak<Services>, most: u32) {
    // They end with this: nobody goes on with runs of a runtime that has gone.
    let mut lanes: JoinSet<()> = JoinSet::new();
    let mut busy: HashMap<AgentName, AbortHandle> = HashMap::new();
    loop {
        let Some(services) = services.upgrade() else { return };
        while lanes.try_join_next().is_some() {}
        busy.retain(|_, lane| !lane.is_finished());
        let Open { runs, left_out } = Open::read(&services).await;
        for (agent, runs) in runs {
            busy.entry(agent).or_insert_with(|| {
                let lane = Lane { services: services.clone(), most };
                lanes.spawn(async move { lane.go_on_with(runs).await })
            });
        }
        drop(services);
        tokio::time::sleep(if left_out { SOON } else { AGAIN }).await;
    }
}

/// A run that may go on.
#[derive(Debug)]
struct Found {
    run: RunId,
    /// Whether it waits for a person, and has to be asked whether that one has decided.
    paused: bool,
}

/// What nobody drives, by agent, the oldest first.
#[derive(Debug, Default)]
struct Open {
    runs: HashMap<AgentName, Vec<Found>>,
    /// Whether turns were left out, because another one of their conversation comes first.
    left_out: bool,
}

impl Open {
    async fn read(services: &Services) -> Self {
        let mut open = Self::default();
        let mut turns = HashSet::new();
        for summary in Self::summaries(services).await.into_iter().rev() {
            let paused = summary.state == RunState::Paused;
            let turn = summary.conversation_id.filter(|_| !paused);
            if turn.is_some_and(|conversation| !turns.insert(conversation)) {
                open.left_out = true;
                continue;
            }
            let found = Found { run: summary.run_id, paused };
            open.runs.entry(summary.agent).or_default().push(found);
        }
        open
    }

    /// Returns what can go on here, the newest first.
    async fn summaries(services: &Services) -> Vec<RunSummary> {
        let mut query = RunQuery {
            states: vec![RunState::Queued, RunState::Running, RunState::Paused],
            unowned: true,
            limit: PAGE,
            ..RunQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let page = match services.store.runs(&query).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "it cannot be read which runs are open");
                    return found;
                }
            };
            let Some(last) = page.last() else { return found };
            query.after = Some(last.run_id.clone());
            found.extend(page.into_iter().filter(|run| may_go_on(services, run)));
        }
    }
}

fn may_go_on(services: &Services, run: &RunSummary) -> bool {
    if run.state == RunState::Paused
        && !matches!(run.waits_for.as_deref(), Some("approval" | "ambiguous"))
    {
        return false;
    }
    let is_here = services.registry.find(run.agent.as_str()).is_some();
    if !is_here {
        tracing::debug!(run = %run.run_id, agent = %run.agent, "an open run has no agent here");
    }
    is_here
}

/// The agent takes no runs any more.
#[derive(Debug)]
struct Closed;

/// The open runs of one agent, on their way back.
struct Lane {
    services: Arc<Services>,
    most: u32,
}

impl Lane {
    async fn go_on_with(&self, runs: Vec<Found>) {
        let runs = stream::iter(runs.into_iter().map(Ok));
        // Whoever opens the store next goes on with the others.
        let _closed = runs.try_for_each_concurrent(AT_ONCE, |found| self.consider(found)).await;
    }

    async fn consider(&self, found: Found) -> Result<(), Closed> {
        let records = RunRecords::new(self.services.store.clone());
        let replay = records.replay(&found.run).await;
        if found.paused && replay.is_err() {
            return Ok(());
        }
        // What else cannot be read is told when it is gone on with.
        if let Ok(replay) = replay {
            if matches!(records.gone_parent(&replay).await, Ok(Some(_))) {
                self.services.cancel_unwanted(vec![found.run]).await;
                return Ok(());
            }
            if found.paused && !self.is_decided(&found.run, &replay).await {
                return Ok(());
            }
            if !found.paused && self.is_awaited(&replay).await {
                return Ok(());
            }
        }
        self.go_on(found.run).await
    }

    /// Returns whether a paused run only waits for somebody to go on with it: everything is decided,
    /// here or below, or its time is over.
    async fn is_decided(&self, run: &RunId, replay: &Replay) -> bool {
        if !replay.expired(clock::now()).is_empty() {
            return true;
        }
        let records = RunRecords::new(self.services.store.clone());
        records.undecided(run, replay).await.is_ok_and(|undecided| undecided.is_empty())
    }

    /// Returns whether another run has asked for this one and is under way, or will be: that one goes
    /// on with this one, within its own time and budget.
    async fn is_awaited(&self, replay: &Replay) -> bool {
        let Some(parent) = &replay.accepted.terms.parent else { return false };
        let asked = self.services.store.run(&parent.run_id).await;
        asked.is_ok_and(|asked| matches!(asked.state, RunState::Queued | RunState::Running))
    }

    /// Ends a run that nobody can go on with who has not its secrets, once its time is over.
    async fn end_if_over(&self, run: &RunId) {
        let records = RunRecords::new(self.services.store.clone());
        let Ok(replay) = records.replay(run).await else { return };
        let is_over = replay.deadline.since(clock::now()).is_zero();
        // What may have taken effect is for a person to settle, however late it is.
        if replay.pause.is_some() || !replay.doubts.is_empty() || !is_over {
            tracing::debug!(%run, "an open run waits for whoever has the secrets in its deps");
            return;
        }
        let reason = "its time was over, and its deps hold secrets that are on no record";
        if let Err(error) = records.cancel(run, reason).await {
            tracing::warn!(%run, %error, "a run whose time is over was not ended");
        }
    }

    /// Goes on with one run, or records why it waits for a person.
    async fn go_on(&self, run: RunId) -> Result<(), Closed> {
        let resume = Resume::new(self.services.clone(), run.clone()).by_itself(self.most);
        let reason = match resume.start().await {
            Ok(_goes_on) => {
                tracing::info!(%run, "a run goes on whose process had gone");
                return Ok(());
            }
            Err(ResumeError::Changed { was, is, .. }) => PauseReason::Changed { was, is },
            Err(ResumeError::Quarantined { recoveries, .. }) => {
                PauseReason::Quarantined { recoveries }
            }
            Err(ResumeError::Refused(
                Refusal::Stopped { .. } | Refusal::Draining { .. } | Refusal::Ending,
            )) => {
                return Err(Closed);
            }
            Err(ResumeError::Secrets { .. }) => {
                self.end_if_over(&run).await;
                return Ok(());
            }
            Err(ResumeError::Record(RecordError::Store(
                error @ (StoreError::Owned { .. } | StoreError::Ended { .. }),
            ))) => {
                tracing::debug!(%run, %error, "somebody else has gone on with a run");
                return Ok(());
            }
            Err(error) => {
                tracing::error!(%run, %error, "an open run does not go on");
                return Ok(());
            }
        };
        tracing::warn!(%run, ?reason, "an open run waits for a person");
        let records = RunRecords::new(self.services.store.clone());
        if let Err(error) =
            records.pause(&run, RunEvent::Paused(Paused::until_decided(reason))).await
        {
            tracing::error!(%run, %error, "why a run waits was not recorded");
        }
        Ok(())
    }
}
