//! Owns one task per run, and sees to it that none ends without its terminal event.

use std::collections::HashMap;
use std::sync::Arc;

use axon_kernel::ids::RunId;
use axon_kernel::spec::AgentName;
use axon_kernel::store::{Append, Store};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::log::RunLog;
use crate::run::{Driver, Entrance, LiveRun, Stop};

/// Speaks to the actor that knows the runs under way. Cheap to clone. The runs themselves outlive
/// a restart of it: they enter themselves again. What ends them all does not depend on it.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    actor: Arc<watch::Sender<Option<ActorRef<RunsMessage>>>>,
    /// Why every run has to end, once that is so.
    ending: Arc<watch::Sender<Option<String>>>,
    under_way: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
pub(crate) enum RunsMessage {
    Enter(RunId, LiveRun),
    Ended(Arc<RunLog>),
    /// Cancel the runs of an agent.
    Cancel {
        agent: AgentName,
        reason: String,
    },
    Count(oneshot::Sender<usize>),
    Find(RunId, oneshot::Sender<Option<LiveRun>>),
}

impl Runs {
    pub(crate) fn new() -> Self {
        let (actor, ending) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { actor: Arc::new(actor), ending: Arc::new(ending), under_way: Arc::default() }
    }

    /// Starts the actor; runs that are under way enter themselves.
    pub(crate) async fn start(
        &self,
    ) -> Result<(ActorRef<RunsMessage>, JoinHandle<()>), ractor::SpawnErr> {
        let (actor, task) = Actor::spawn(None, RunsActor, ()).await?;
        self.actor.send_replace(Some(actor.clone()));
        Ok((actor, task))
    }

    /// Hands an accepted run over to a task of its own, and that to the actor.
    pub(crate) fn spawn(&self, driver: Driver, entrance: Entrance, live: LiveRun) {
        let log = driver.log().clone();
        let store = driver.store().clone();
        driver.measure();
        let span = driver.span();
        let mut task =
            tokio::spawn(driver.drive(entrance, live.cancel.subscribe()).instrument(span));
        let mut actors = self.actor.subscribe();
        let (mut ending, under_way) = (self.ending.subscribe(), self.under_way.clone());
        under_way.send_modify(|count| *count += 1);
        let run = log.run_id().clone();
        // At once, so that whoever was told of the run finds it.
        tell(&actors, || RunsMessage::Enter(run.clone(), live.clone()));
        tokio::spawn(async move {
            let ended = loop {
                tell(&actors, || RunsMessage::Enter(run.clone(), live.clone()));
                if let Some(reason) = &*ending.borrow_and_update() {
                    live.cancel.stop(match store.is_durable() {
                        true => Stop::Interrupted(reason.clone()),
                        false => Stop::Cancelled(reason.clone()),
                    });
                }
                tokio::select! {
                    ended = &mut task => break ended,
                    // The actor was started again and has to learn of this run.
                    changed = actors.changed() => if changed.is_err() { break (&mut task).await },
                    changed = ending.changed() => if changed.is_err() { break (&mut task).await },
                }
            };
            if ended.is_err() {
                record_end(store.as_ref(), &log).await;
            }
            tell(&actors, || RunsMessage::Ended(log));
            under_way.send_modify(|count| *count -= 1);
        });
    }

    #[cfg(test)]
    pub(crate) fn actor(&self) -> ActorRef<RunsMessage> {
        self.actor.borrow().clone().unwrap()
    }

    /// Cancels the runs of `agent`.
    pub(crate) fn cancel(&self, agent: &AgentName, reason: &str) {
        let (agent, reason) = (agent.clone(), reason.to_owned());
        tell(&self.actor.subscribe(), || RunsMessage::Cancel { agent, reason });
    }

    /// Returns the run, if it is under way.
    pub(crate) async fn find(&self, run: &RunId) -> Option<LiveRun> {
        let (reply, answer) = oneshot::channel();
        tell(&self.actor.subscribe(), || RunsMessage::Find(run.clone(), reply));
        answer.await.ok().flatten()
    }

    /// Returns how many runs are under way.
    pub(crate) async fn count(&self) -> usize {
        let (reply, answer) = oneshot::channel();
        tell(&self.actor.subscribe(), || RunsMessage::Count(reply));
        // Without an actor nobody counts; its restart takes a moment.
        answer.await.unwrap_or_default()
    }

    /// Stops every run, from now on new ones too; the future resolves when all have ended here. In
    /// a store that outlasts the process they stay open, else they are cancelled.
    pub(crate) fn shutdown(&self, reason: &str) -> impl Future<Output = ()> + Send + use<> {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(reason.to_owned());
            }
            first
        });
        let mut under_way = self.under_way.subscribe();
        async move {
            // Closed: nobody is left who could start a run.
            let _all_ended = under_way.wait_for(|count| *count == 0).await;
        }
    }
}

/// Tells the current actor. If there is none, the next one learns what it needs by itself.
fn tell(
    actors: &watch::Receiver<Option<ActorRef<RunsMessage>>>,
    message: impl FnOnce() -> RunsMessage,
) {
    if let Some(actor) = &*actors.borrow() {
        let _ended = actor.cast(message());
    }
}

#[derive(Debug)]
struct RunsActor;

impl Actor for RunsActor {
    type Msg = RunsMessage;
    type State = HashMap<RunId, LiveRun>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<RunsMessage>,
        (): (),
    ) -> Result<HashMap<RunId, LiveRun>, ActorProcessingErr> {
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        _myself: ActorRef<RunsMessage>,
        message: RunsMessage,
        known: &mut HashMap<RunId, LiveRun>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunsMessage::Enter(run, live) => drop(known.insert(run, live)),
            RunsMessage::Ended(log) => {
                // The run may be under way anew.
                let same = |live: &LiveRun| Arc::ptr_eq(&live.log, &log);
                if known.get(log.run_id()).is_some_and(same) {
                    known.remove(log.run_id());
                }
            }
            RunsMessage::Cancel { agent, reason } => {
                for live in known.values().filter(|live| live.is_of(&agent)) {
                    live.cancel.now(&reason);
                }
            }
            // Whoever asked may have gone.
            RunsMessage::Count(reply) => drop(reply.send(known.len())),
            RunsMessage::Find(run, reply) => drop(reply.send(known.get(&run).cloned())),
        }
        Ok(())
    }
}

/// Records the end of a run whose task died; for its followers the driver ended it as it went.
async fn record_end(store: &dyn Store, log: &RunLog) {
    let run = log.run_id();
    tracing::error!(%run, "the run's task died");
    let end = &log.settled().await;
    let recorded = async {
        let summary = store.run(run).await?;
        if !summary.state.is_open() {
            return Ok(());
        }
        let events = std::slice::from_ref(end.as_ref());
        let expected = summary.recorded;
        store.append(Append { run, expected, events, turn: None, writes: &[] }).await.map(drop)
    };
    if let Err(error) = recorded.await {
        tracing::error!(%run, %error, "the end was not recorded");
        let _gone_with_its_process = store.release(run).await;
    }
}
