//! One runner, and the runs that are in it: who was there when it died, and whose fault that was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::ids::{Generation, RunId};
use axon_kernel::wire::Unfinished;
use axon_runner::{Exit, Runner, RunnerClient};
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, watch};
use tokio::time::Instant;

use crate::launch::Launched;

/// How often a runner is asked whether a cancelled run has stopped.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long a process may take to be gone after it was killed.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// One generation of an agent's runner.
#[derive(Debug)]
pub(crate) struct Tenancy {
    pub(crate) generation: Generation,
    pub(crate) model: String,
    pub(crate) offline: bool,
    runner: Runner,
    aboard: watch::Sender<Aboard>,
    stacks: OnceCell<String>,
}

#[derive(Debug, Default)]
struct Aboard {
    runs: BTreeSet<RunId>,
    killed: Option<String>,
    death: Option<Death>,
}

/// How a runner came to its end, as far as that is anybody's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// We ended it ourselves, for this reason: it counts against nobody.
    Ours(String),
    /// It died with these runs in it.
    With(BTreeSet<RunId>),
}

impl Death {
    /// Returns the run that was alone in the runner.
    pub(crate) fn lone(&self) -> Option<&RunId> {
        match self {
            Self::With(runs) if runs.len() == 1 => runs.first(),
            Self::With(_) | Self::Ours(_) => None,
        }
    }
}

impl Tenancy {
    pub(crate) fn new(generation: Generation, launched: Launched) -> Self {
        let Launched { runner, model, offline } = launched;
        let (aboard, stacks) = (watch::Sender::default(), OnceCell::new());
        Self { generation, model, offline, runner, aboard, stacks }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.runner.pid()
    }

    pub(crate) fn client(&self) -> &RunnerClient {
        self.runner.client()
    }

    /// Returns a future that resolves when the runner has ended.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.runner.exited()
    }

    /// Ends the runner on purpose. What is under way in it resumes elsewhere.
    pub(crate) async fn stop(&self, reason: &str, grace: Duration) {
        self.aboard.send_modify(|Aboard { killed, death, .. }| {
            if death.is_none() {
                killed.get_or_insert_with(|| reason.to_owned());
            }
        });
        self.end(grace).await;
    }

    /// Kills the runner on evidence against it: that is a death like any other.
    pub(crate) async fn condemn(&self) {
        self.death();
        self.end(Duration::ZERO).await;
    }

    /// Ends the process. One that the kernel cannot end either is left to it, and counted.
    async fn end(&self, grace: Duration) {
        if tokio::time::timeout(grace + KILL_WAIT, self.runner.stop(grace)).await.is_err() {
            let (generation, pid) = (self.generation, self.pid());
            tracing::error!(%generation, pid, "a runner survived its kill");
            metrics::counter!("axon_runner_leaks_total").increment(1);
        }
    }

    /// Says whose fault the end of the runner is. The first who asks decides it: whoever was in it
    /// then and had not got away counts as having been there.
    pub(crate) fn death(&self) -> Death {
        let mut decided = Death::With(BTreeSet::new());
        self.aboard.send_modify(|Aboard { runs, killed, death }| {
            let death = death.get_or_insert_with(|| match killed {
                Some(reason) => Death::Ours(reason.clone()),
                None => Death::With(runs.clone()),
            });
            decided = death.clone();
        });
        decided
    }

    /// Returns whether somebody has ended the runner on purpose.
    pub(crate) fn is_ending(&self) -> bool {
        self.aboard.borrow().killed.is_some()
    }

    /// Waits until no run is in the runner.
    pub(crate) async fn vacated(&self) {
        let mut aboard = self.aboard.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _empty = aboard.wait_for(|aboard| aboard.runs.is_empty()).await;
    }

    /// Returns what each thread of the runner is doing; it is asked once.
    pub(crate) async fn stacks(&self) -> &str {
        self.stacks.get_or_init(|| self.runner.stack_dump()).await
    }
}

/// Whether a run shares its runner.
#[derive(Debug)]
pub(crate) enum Room {
    /// With others.
    Shared { _guard: OwnedRwLockReadGuard<()> },
    /// With nobody: it was there when runners died, and is under suspicion.
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

/// A runner lent to one attempt of one run. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) tenancy: Arc<Tenancy>,
    run: RunId,
    _room: Room,
}

impl Lease {
    pub(crate) fn new(tenancy: Arc<Tenancy>, run: RunId, room: Room) -> Self {
        tenancy.aboard.send_if_modified(|aboard| aboard.runs.insert(run.clone()));
        Self { tenancy, run, _room: room }
    }

    pub(crate) fn client(&self) -> &RunnerClient {
        self.tenancy.client()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.tenancy.generation
    }

    /// Sees to it that the run has really stopped in its runner: asks, waits until `deadline`, and
    /// then kills the runner. Says whether it had to.
    pub(crate) async fn end(&self, deadline: Instant) -> bool {
        let exited = self.tenancy.exited();
        let stopped = async {
            tokio::select! {
                stopped = self.stopped() => stopped,
                // It died by itself: that stops everything, and is not our doing.
                _exit = exited => true,
            }
        };
        if tokio::time::timeout_at(deadline, stopped).await == Ok(true) {
            return false;
        }
        let reason = format!("run {} did not stop when it had to", self.run);
        self.tenancy.stop(&reason, Duration::ZERO).await;
        true
    }

    /// Cancels the run and waits until nothing of it is left; says whether the runner told so.
    async fn stopped(&self) -> bool {
        // That the attempt is over already is the answer we want.
        let _over = self.client().cancel(&self.run).await;
        loop {
            let Ok(health) = self.client().health().await else { return false };
            let left = |unfinished: &Unfinished| unfinished.run_id.as_ref() == Some(&self.run);
            if !health.unfinished.iter().any(left) {
                return true;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.tenancy.aboard.send_if_modified(|aboard| aboard.runs.remove(&self.run));
    }
}
