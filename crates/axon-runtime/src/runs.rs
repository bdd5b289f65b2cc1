//! Owns one task per run, and sees to it that none ends without its terminal event.

use std::collections::HashMap;
use std::sync::Arc;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::RunId;
use axon_kernel::spec::AgentName;
use axon_kernel::store::Store;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::log::RunLog;
use crate::run::{Cancel, Driver, Entrance};

/// Speaks to the actor that knows the runs under way. Cheap to clone. The runs themselves outlive
/// a restart of it: they enter themselves again.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    actor: Arc<watch::Sender<Option<ActorRef<RunsMessage>>>>,
}

#[derive(Debug)]
pub(crate) enum RunsMessage {
    Enter(RunId, Live),
    Ended(RunId),
    /// Cancel the runs of an agent.
    Cancel {
        agent: AgentName,
        reason: String,
    },
    /// Cancel what is under way, and answer when the last run has ended.
    Shutdown {
        reason: String,
        done: oneshot::Sender<()>,
    },
    Count(oneshot::Sender<usize>),
}

/// A run under way, as the actor knows it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    agent: AgentName,
    cancel: Cancel,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self { actor: Arc::new(watch::Sender::new(None)) }
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
    pub(crate) fn spawn(&self, driver: Driver, entrance: Entrance, cancel: Cancel) {
        let log = driver.log().clone();
        let store = driver.store().clone();
        let live = Live { agent: driver.agent_name().clone(), cancel: cancel.clone() };
        let mut task = tokio::spawn(driver.drive(entrance, cancel.subscribe()));
        let mut actors = self.actor.subscribe();
        tokio::spawn(async move {
            let run = log.run_id().clone();
            let ended = loop {
                tell(&actors, || RunsMessage::Enter(run.clone(), live.clone()));
                tokio::select! {
                    ended = &mut task => break ended,
                    // The actor was started again and has to learn of this run.
                    changed = actors.changed() => if changed.is_err() { break (&mut task).await },
                }
            };
            if ended.is_err() {
                record_end(store.as_ref(), &log).await;
            }
            tell(&actors, || RunsMessage::Ended(run));
        });
    }

    /// Cancels the runs of `agent`.
    pub(crate) fn cancel(&self, agent: &AgentName, reason: &str) {
        let (agent, reason) = (agent.clone(), reason.to_owned());
        tell(&self.actor.subscribe(), || RunsMessage::Cancel { agent, reason });
    }

    /// Returns how many runs are under way.
    pub(crate) async fn count(&self) -> usize {
        let (reply, answer) = oneshot::channel();
        tell(&self.actor.subscribe(), || RunsMessage::Count(reply));
        // Without an actor nobody counts; its restart takes a moment.
        answer.await.unwrap_or_default()
    }

    /// Cancels every run, from now on new ones too; the answer comes when all have ended.
    pub(crate) fn shutdown(&self, reason: &str) -> oneshot::Receiver<()> {
        let (done, all_ended) = oneshot::channel();
        let reason = reason.to_owned();
        tell(&self.actor.subscribe(), || RunsMessage::Shutdown { reason, done });
        all_ended
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

#[derive(Debug, Default)]
struct Known {
    runs: HashMap<RunId, Live>,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    reason: String,
    done: Vec<oneshot::Sender<()>>,
}

impl Actor for RunsActor {
    type Msg = RunsMessage;
    type State = Known;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<RunsMessage>,
        (): (),
    ) -> Result<Known, ActorProcessingErr> {
        Ok(Known::default())
    }

    async fn handle(
        &self,
        _myself: ActorRef<RunsMessage>,
        message: RunsMessage,
        known: &mut Known,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunsMessage::Enter(run, live) => known.enter(run, live),
            RunsMessage::Ended(run) => drop(known.runs.remove(&run)),
            RunsMessage::Cancel { agent, reason } => {
                for live in known.runs.values().filter(|live| live.agent == agent) {
                    live.cancel.now(&reason);
                }
            }
            RunsMessage::Shutdown { reason, done } => known.end(reason, done),
            // Whoever asked may have gone.
            RunsMessage::Count(reply) => drop(reply.send(known.runs.len())),
        }
        if known.runs.is_empty()
            && let Some(ending) = &mut known.ending
        {
            for done in ending.done.drain(..) {
                // Whoever waited may have given up.
                let _gone = done.send(());
            }
        }
        Ok(())
    }
}

impl Known {
    fn enter(&mut self, run: RunId, live: Live) {
        if let Some(ending) = &self.ending {
            live.cancel.now(&ending.reason);
        }
        self.runs.insert(run, live);
    }

    fn end(&mut self, reason: String, done: oneshot::Sender<()>) {
        for live in self.runs.values() {
            live.cancel.now(&reason);
        }
        let ending = self.ending.get_or_insert_with(|| Ending { reason, done: Vec::new() });
        ending.done.push(done);
    }
}

/// Records the end of a run whose task died; for its followers the driver ended it as it went.
async fn record_end(store: &dyn Store, log: &RunLog) {
    let run = log.run_id();
    tracing::error!(%run, "the run's task died");
    let end = &log.settled().await.event;
    let recorded = async {
        let events = store.events(run).await?;
        if events.iter().any(RunEvent::is_terminal) {
            return Ok(());
        }
        let expected = events.len() as u64;
        store.append(run, expected, std::slice::from_ref(end)).await.map(drop)
    };
    if let Err(error) = recorded.await {
        tracing::error!(%run, %error, "the end was not recorded");
    }
}
