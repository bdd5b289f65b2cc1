//! One runner, and the runs that are in it: who was there when it died, and whose fault that was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axon_kernel::failure::FailureKind;
use axon_kernel::ids::{Generation, RunId, ToolCallId};
use axon_kernel::metric;
use axon_kernel::spec::AgentName;
use axon_kernel::wire::{LogRecord, Unfinished};
use axon_runner::logs::{Hiding, Speaker};
use axon_runner::{By, Exit, Runner, RunnerClient, Usage};
use futures_util::FutureExt;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use crate::launch::{Launched, Launcher};
use crate::meters;

/// How often a runner is asked whether a cancelled run has stopped.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long a runner that is about to be killed may take to say what its threads are doing.
const STACKS: Duration = Duration::from_millis(500);

/// How long a process may take to be gone after it was killed.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// By which part of its age a runner may be replaced earlier, so that replicas do not move in step.
const AGE_JITTER: f64 = 0.1;

/// One generation of an agent's runner.
#[derive(Debug)]
pub(crate) struct Tenancy {
    pub(crate) generation: Generation,
    pub(crate) model: String,
    pub(crate) offline: bool,
    /// The definition that it was launched with.
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) up_since: Instant,
    pub(crate) started_at: SystemTime,
    /// How long it lives at most, if its age is limited.
    lifetime: Option<Duration>,
    /// How often it was lent.
    served: AtomicU64,
    runner: Runner,
    aboard: watch::Sender<Aboard>,
    stacks: OnceCell<String>,
}

#[derive(Debug, Default)]
struct Aboard {
    runs: BTreeSet<RunId>,
    retired: bool,
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
    pub(crate) fn new(generation: Generation, launched: Launched, launcher: Arc<Launcher>) -> Self {
        let Launched { runner, model, offline } = launched;
        let age = launcher.spec.runner.recycle.age;
        let lifetime = age.map(|age| age.mul_f64(1.0 - crate::run::jitter() * AGE_JITTER));
        Self {
            generation,
            model,
            offline,
            launcher,
            up_since: Instant::now(),
            started_at: SystemTime::now(),
            lifetime,
            served: AtomicU64::new(0),
            runner,
            aboard: watch::Sender::default(),
            stacks: OnceCell::new(),
        }
    }

    /// Returns whether it may be lent: it is not known to be dead or about to end.
    pub(crate) fn is_fit(&self) -> bool {
        let well = {
            let aboard = self.aboard.borrow();
            aboard.killed.is_none() && aboard.death.is_none() && !aboard.retired
        };
        well && self.runner.exited().now_or_never().is_none()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.aboard.borrow().runs.len()
    }

    /// Returns how often it was lent.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Returns whether it has lived for as long as it may.
    pub(crate) fn is_aged(&self) -> bool {
        self.lifetime.is_some_and(|lifetime| self.up_since.elapsed() >= lifetime)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.runner.pid()
    }

    /// Returns what the runner uses of this machine.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.runner.usage()
    }

    pub(crate) fn client(&self) -> &RunnerClient {
        self.runner.client()
    }

    /// Logs what a run in the runner has said, unless that is too much.
    pub(crate) fn log(&self, agent: &AgentName, run: &RunId, record: &LogRecord) {
        let (generation, run) = (Some(self.generation), Some(run.as_str()));
        self.runner.log(Speaker { agent: agent.as_str(), generation, run }, record);
    }

    /// Keeps the secrets of a run out of what the runner prints.
    pub(crate) fn hide(&self, secrets: &[String]) -> Hiding {
        self.runner.hide(secrets)
    }

    /// Returns a future that resolves when the runner has ended.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.runner.exited()
    }

    /// Ends the runner on purpose. What is under way in it resumes elsewhere.
    pub(crate) async fn stop(&self, reason: &str, grace: Duration) {
        self.doom(reason);
        self.end(grace).await;
    }

    /// Notes that it is about to be ended on purpose: nobody gets it any more.
    pub(crate) fn doom(&self, reason: &str) {
        self.aboard.send_modify(|Aboard { killed, death, .. }| {
            if death.is_none() {
                killed.get_or_insert_with(|| reason.to_owned());
            }
        });
    }

    /// Notes that nobody gets it any more, and that what is under way in it finishes.
    pub(crate) fn retire(&self) {
        self.aboard.send_modify(|aboard| aboard.retired = true);
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
            meters::count(&metric::RUNNER_LEAKS, 1);
        }
    }

    /// Says whose fault the end of the runner is. The first who asks decides it: whoever was in it
    /// then and had not got away counts as having been there.
    pub(crate) fn death(&self) -> Death {
        let blameless = self.runner.ended().and_then(|exit| match exit.by {
            By::Launcher => Some("its launcher ended"),
            By::Elsewhere => Some("it could not be reached any more"),
            By::Itself | By::Us | By::Memory => None,
        });
        let mut decided = Death::With(BTreeSet::new());
        self.aboard.send_modify(|Aboard { runs, killed, death, .. }| {
            let death = death.get_or_insert_with(|| match killed {
                Some(reason) => Death::Ours(reason.clone()),
                None => blameless
                    .map_or_else(|| Death::With(runs.clone()), |why| Death::Ours(why.to_owned())),
            });
            decided = death.clone();
        });
        decided
    }

    /// Returns in a word how it came to its end, as metrics label it.
    pub(crate) fn ended_by(&self) -> &'static str {
        match self.runner.ended().map(|exit| exit.by) {
            Some(By::Memory) => "out_of_memory",
            Some(By::Launcher) => "launcher_died",
            Some(By::Elsewhere) => "unreachable",
            Some(By::Us) if self.is_ending() => "hard_stopped",
            Some(By::Us) => "unhealthy",
            Some(By::Itself) | None => FailureKind::RunnerDied.label(),
        }
    }

    /// Returns whether somebody has ended the runner on purpose.
    pub(crate) fn is_ending(&self) -> bool {
        self.aboard.borrow().killed.is_some()
    }

    /// Waits until no run is in the runner, or it is gone.
    pub(crate) fn vacated(&self) -> impl Future<Output = ()> + Send + use<> {
        self.comes_to(|aboard| aboard.runs.is_empty())
    }

    /// Waits until nobody gets the runner any more.
    pub(crate) fn retired(&self) -> impl Future<Output = ()> + Send + use<> {
        self.comes_to(|aboard| aboard.retired || aboard.killed.is_some())
    }

    fn comes_to(&self, state: fn(&Aboard) -> bool) -> impl Future<Output = ()> + Send + use<> {
        let mut aboard = self.aboard.subscribe();
        async move {
            let _gone = aboard.wait_for(state).await;
        }
    }

    /// Returns what each thread of the runner is doing; it is asked once.
    pub(crate) async fn stacks(&self) -> &str {
        self.stacks.get_or_init(|| self.runner.stack_dump()).await
    }
}

/// A runner lent to one attempt of one run. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) tenancy: Arc<Tenancy>,
    run: RunId,
}

impl Lease {
    pub(crate) fn new(tenancy: Arc<Tenancy>, run: RunId) -> Self {
        tenancy.aboard.send_if_modified(|aboard| aboard.runs.insert(run.clone()));
        tenancy.served.fetch_add(1, Ordering::Relaxed);
        Self { tenancy, run }
    }

    pub(crate) fn client(&self) -> &RunnerClient {
        self.tenancy.client()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.tenancy.generation
    }

    /// Returns the run that it was lent to; a direct call of a tool makes one up.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Sees to it that the run has really stopped in its runner: asks, waits until `deadline`, and
    /// then kills the runner. If it had to, returns what the runner's threads were doing.
    pub(crate) async fn end(&self, deadline: Instant) -> Option<String> {
        let what = format!("run {}", self.run);
        self.ended(&what, deadline, self.stopped()).await
    }

    /// Does the same for a tool that was called directly.
    pub(crate) async fn end_call(&self, call: &ToolCallId, deadline: Instant) -> Option<String> {
        let what = format!("call {call} of a tool");
        let stopped = async {
            // That it is over already is the answer we want.
            let _over = self.client().cancel_call(call).await;
            self.nothing_is_left(|left| left.tool_call_id.as_ref() == Some(call)).await
        };
        self.ended(&what, deadline, stopped).await
    }

    async fn ended(
        &self,
        what: &str,
        deadline: Instant,
        stopped: impl Future<Output = bool>,
    ) -> Option<String> {
        let exited = self.tenancy.exited();
        let stopped = async {
            tokio::select! {
                stopped = stopped => stopped,
                // It died by itself: that stops everything, and is not our doing.
                _exit = exited => true,
            }
        };
        if tokio::time::timeout_at(deadline, stopped).await == Ok(true) {
            return None;
        }
        // What it was doing instead; the end may be late by this.
        let stacks = tokio::time::timeout(STACKS, self.tenancy.stacks()).await.unwrap_or_default();
        let reason = format!("{what} did not stop when it had to");
        self.tenancy.stop(&reason, Duration::ZERO).await;
        Some(stacks.to_owned())
    }

    /// Cancels the run and waits until nothing of it is left; says whether the runner told so.
    async fn stopped(&self) -> bool {
        // That the attempt is over already is the answer we want.
        let _over = self.client().cancel(&self.run).await;
        self.nothing_is_left(|left| left.run_id.as_ref() == Some(&self.run)).await
    }

    /// Waits until the runner tells that nothing runs on of which this is true.
    async fn nothing_is_left(&self, left: impl Fn(&Unfinished) -> bool) -> bool {
        loop {
            let Ok(health) = self.client().health().await else { return false };
            if !health.unfinished.iter().any(&left) {
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
